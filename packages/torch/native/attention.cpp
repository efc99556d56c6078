// anchor::attention: softmax attention in blocks that stay in the cache, forward and backward, for a libtorch that has no fused
// one on the CPU (before 2.0). Neither direction holds a score matrix: the backward pass computes each block of it again
// (FlashAttention, arXiv:2205.14135). Reached through the dispatcher like any other operator; the arithmetic is libtorch's.
#include "addon.h"

#include <torch/version.h>

#if TORCH_VERSION_MAJOR < 2 || defined(ANCHOR_ATTENTION)
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <limits>

namespace anchor {
namespace {

using at::Tensor;

// Rows and columns of a block of scores: with both factors it fits a core's second-level cache (256 kB in float32).
constexpr int64_t kRows = 256;
constexpr int64_t kColumns = 256;
constexpr double kNever = -std::numeric_limits<double>::infinity();

// One head of one sample; every tensor is a view.
struct Heads {
  int64_t batch, n, m, heads, depth;
  bool causal;
  double scale;
  Tensor q, k, v;  // [B, N, h, d], [B, M, h, d]
  Tensor keys;     // [B, h, d, M], times the scale

  Heads(const Tensor& q_, const Tensor& k_, const Tensor& v_, int64_t heads_, bool causal_) : heads(heads_), causal(causal_) {
    TORCH_CHECK(q_.dim() == 3 && k_.dim() == 3 && v_.sizes() == k_.sizes() && q_.size(0) == k_.size(0) && q_.size(2) == k_.size(2),
                "attention: expected q [B, N, C] and k, v [B, M, C]");
    TORCH_CHECK(heads > 0 && q_.size(2) % heads == 0, "attention: ", q_.size(2), " channels cannot be shared by ", heads, " heads");
    batch = q_.size(0), n = q_.size(1), m = k_.size(1), depth = q_.size(2) / heads;
    scale = 1 / std::sqrt(static_cast<double>(depth));
    q = split(q_), k = split(k_), v = split(v_);
    keys = k.permute({0, 2, 3, 1}).contiguous().mul_(scale);
  }
  Tensor split(const Tensor& t) const { return t.contiguous().view({batch, t.size(1), heads, depth}); }
  Tensor head(const Tensor& t, int64_t i) const { return t.select(0, i / heads).select(1, i % heads); }  // [L, d]
  Tensor keysOf(int64_t i) const { return keys.select(0, i / heads).select(0, i % heads); }              // [d, M]

  // Scores of rows `from…` against columns `at…`, into `buffer`.
  Tensor scores(const Tensor& rows, const Tensor& keys, const Tensor& buffer, int64_t from, int64_t at, int64_t columns) const {
    Tensor s = block(buffer, rows.size(0), columns);
    at::mm_out(s, rows, keys.narrow(1, at, columns));
    if (causal && at + columns - 1 > from) s.masked_fill_(at::ones_like(s, at::kBool).triu_(from - at + 1), kNever);
    return s;
  }
  int64_t lastColumn(int64_t from, int64_t rows) const { return causal ? std::min(m, from + rows) : m; }
  static Tensor block(const Tensor& buffer, int64_t rows, int64_t columns) { return buffer.narrow(0, 0, rows * columns).view({rows, columns}); }
  Tensor buffer() const { return at::empty({std::min(kRows, n) * std::min(kColumns, m)}, q.options()); }
};

// Out [B, N, C] and the logarithm of each row's sum of exponentials [B·h, N].
std::tuple<Tensor, Tensor> forward(const Heads& a) {
  Tensor out = at::empty({a.batch, a.n, a.heads, a.depth}, a.q.options());
  Tensor logSums = at::empty({a.batch * a.heads, a.n}, a.q.options());
  const int64_t blocks = (a.n + kRows - 1) / kRows;
  at::parallel_for(0, a.batch * a.heads * blocks, 1, [&](int64_t begin, int64_t end) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const Tensor buffer = a.buffer();
    for (int64_t task = begin; task < end; ++task) {
      const int64_t i = task / blocks, from = task % blocks * kRows, rows = std::min(kRows, a.n - from);
      const Tensor q = a.head(a.q, i).narrow(0, from, rows), v = a.head(a.v, i), keys = a.keysOf(i);
      const int64_t columns = a.lastColumn(from, rows);
      Tensor top, sum, y;
      for (int64_t at = 0; at < columns; at += kColumns) {
        const int64_t count = std::min(kColumns, columns - at);
        Tensor s = a.scores(q, keys, buffer, from, at, count);
        Tensor highest = s.amax({1}, true);
        if (at > 0) highest = at::maximum(highest, top);
        s.sub_(highest).exp_();
        const Tensor part = s.sum({1}, true), values = v.narrow(0, at, count);
        if (at == 0) {
          sum = part;
          y = s.mm(values);
        } else {
          const Tensor fade = top.sub_(highest).exp_();
          sum.mul_(fade).add_(part);
          y.mul_(fade).addmm_(s, values);
        }
        top = highest;
      }
      a.head(out, i).narrow(0, from, rows).copy_(y.div_(sum));
      logSums.select(0, i).narrow(0, from, rows).copy_(top.add_(sum.log_()).squeeze(1));
    }
  });
  return {out.view({a.batch, a.n, a.heads * a.depth}), logSums};
}

std::tuple<Tensor, Tensor, Tensor> backward(const Heads& a, const Tensor& out, const Tensor& logSums, const Tensor& gradient) {
  const Tensor o = a.split(out), g = a.split(gradient);
  Tensor dq = at::zeros(a.q.sizes(), a.q.options()), dk = at::zeros(a.k.sizes(), a.q.options()), dv = at::zeros(a.k.sizes(), a.q.options());
  at::parallel_for(0, a.batch * a.heads, 1, [&](int64_t begin, int64_t end) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const Tensor first = a.buffer(), second = a.buffer();
    for (int64_t i = begin; i < end; ++i) {
      const Tensor q = a.head(a.q, i), k = a.head(a.k, i), v = a.head(a.v, i), keys = a.keysOf(i);
      const Tensor values = v.t().contiguous(), rowGradients = a.head(g, i);
      const Tensor meanGradients = rowGradients.mul(a.head(o, i)).sum({1}, true);
      for (int64_t from = 0; from < a.n; from += kRows) {
        const int64_t rows = std::min(kRows, a.n - from), columns = a.lastColumn(from, rows);
        const Tensor qRows = q.narrow(0, from, rows), gRows = rowGradients.narrow(0, from, rows);
        const Tensor logs = logSums.select(0, i).narrow(0, from, rows).unsqueeze(1), mean = meanGradients.narrow(0, from, rows);
        Tensor dqRows = at::zeros({rows, a.depth}, a.q.options());
        for (int64_t at = 0; at < columns; at += kColumns) {
          const int64_t count = std::min(kColumns, columns - at);
          const Tensor p = a.scores(qRows, keys, first, from, at, count).sub_(logs).exp_();
          a.head(dv, i).narrow(0, at, count).addmm_(p.t(), gRows);
          Tensor ds = Heads::block(second, rows, count);
          at::mm_out(ds, gRows, values.narrow(1, at, count));
          ds.sub_(mean).mul_(p);
          dqRows.addmm_(ds, k.narrow(0, at, count));
          a.head(dk, i).narrow(0, at, count).addmm_(ds.t(), qRows, 1, a.scale);
        }
        a.head(dq, i).narrow(0, from, rows).copy_(dqRows.mul_(a.scale));
      }
    }
  });
  const auto flat = [&](const Tensor& t) { return t.view({a.batch, t.size(1), a.heads * a.depth}); };
  return {flat(dq), flat(dk), flat(dv)};
}

struct Attention : torch::autograd::Function<Attention> {
  static Tensor forward(torch::autograd::AutogradContext* ctx, const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads, bool causal) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [out, logSums] = anchor::forward(Heads(q, k, v, heads, causal));
    ctx->save_for_backward({q, k, v, out, logSums});
    ctx->saved_data["heads"] = heads;
    ctx->saved_data["causal"] = causal;
    return out;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx, torch::autograd::variable_list gradients) {
    const auto s = ctx->get_saved_variables();
    at::AutoDispatchBelowADInplaceOrView guard;
    const Heads a(s[0], s[1], s[2], ctx->saved_data["heads"].toInt(), ctx->saved_data["causal"].toBool());
    auto [dq, dk, dv] = anchor::backward(a, s[3], s[4], gradients[0]);
    return {dq, dk, dv, Tensor(), Tensor()};
  }
};

Tensor recorded(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads, bool causal) { return Attention::apply(q, k, v, heads, causal); }
Tensor plain(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads, bool causal) {
  return std::get<0>(forward(Heads(q, k, v, heads, causal)));
}

}  // namespace
}  // namespace anchor

TORCH_LIBRARY(anchor, m) { m.def("attention(Tensor q, Tensor k, Tensor v, int heads, bool causal=False) -> Tensor"); }
TORCH_LIBRARY_IMPL(anchor, CPU, m) { m.impl("attention", anchor::plain); }
TORCH_LIBRARY_IMPL(anchor, AutogradCPU, m) { m.impl("attention", anchor::recorded); }
#endif
