// anchor::attention: softmax attention on the CPU in float32 whose scores stay in the cache, forward and backward. Neither direction holds a
// score matrix: the backward pass computes each block of it again (FlashAttention, arXiv:2205.14135). Reached through the dispatcher like
// any other operator; flash.h has the arithmetic.
#include "addon.h"
#include "flash.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <cmath>

namespace anchor {
namespace {

using at::Tensor;

struct Heads {
  int64_t batch, n, m, heads, depth, width;
  bool causal;
  float scale;
  Tensor q, k, v;  // [B, N, C], [B, M, C]

  Heads(const Tensor& q_, const Tensor& k_, const Tensor& v_, int64_t heads_, bool causal_) : heads(heads_), causal(causal_) {
    TORCH_CHECK(q_.dim() == 3 && k_.dim() == 3 && v_.sizes() == k_.sizes() && q_.size(0) == k_.size(0) && q_.size(2) == k_.size(2),
                "attention: expected q [B, N, C] and k, v [B, M, C]");
    TORCH_CHECK(heads > 0 && q_.size(2) % heads == 0, "attention: ", q_.size(2), " channels cannot be shared by ", heads, " heads");
    for (const Tensor* t : {&q_, &k_, &v_}) TORCH_CHECK(t->scalar_type() == at::kFloat && t->device().is_cpu(), "attention: expected float32 on the CPU");
    batch = q_.size(0), n = q_.size(1), m = k_.size(1), depth = q_.size(2) / heads, width = roundUp(depth, kWidth);
    scale = static_cast<float>(1 / std::sqrt(static_cast<double>(depth)));
    q = q_.contiguous(), k = k_.contiguous(), v = v_.contiguous();
  }
  int64_t count() const { return batch * heads; }
  int64_t stride() const { return heads * depth; }
  // The first number of a head in a tensor [B, length, C].
  float* head(const Tensor& t, int64_t i) const { return t.data_ptr<float>() + i / heads * t.size(1) * stride() + i % heads * depth; }
  // Room for every head's packed columns or rows of `length`.
  Tensor columnsOf(int64_t length) const { return at::empty({count(), roundUp(length, kTile) * depth}, q.options()); }
  Tensor rowsOf(int64_t length) const { return at::empty({count(), length, width}, q.options()); }
  static float* of(const Tensor& t, int64_t i) { return t.data_ptr<float>() + i * t.stride(0); }
  // [B·h, length, width] to [B, length, C].
  Tensor unpacked(const Tensor& t) const {
    return t.view({batch, heads, t.size(1), width}).narrow(3, 0, depth).transpose(1, 2).reshape({batch, t.size(1), heads * depth});
  }
};

// Out [B, N, C] and the logarithm of each row's sum of exponentials [B·h, N].
std::tuple<Tensor, Tensor> forward(const Heads& a) {
  const Tensor out = at::empty_like(a.q), logSums = at::empty({a.count(), a.n}, a.q.options());
  const Tensor keys = a.columnsOf(a.m), values = a.rowsOf(a.m);
  at::parallel_for(0, a.count(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      packColumns(a.head(a.k, i), a.stride(), a.m, a.depth, a.scale, a.of(keys, i));
      packRows(a.head(a.v, i), a.stride(), a.m, a.depth, a.of(values, i));
    }
  });
  const int64_t blocks = (a.n + kFlashRows - 1) / kFlashRows;
  at::parallel_for(0, a.count() * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t i = task / blocks, from = task % blocks * kFlashRows, at = from * a.stride();
      FlashForward f{.rows = std::min(kFlashRows, a.n - from), .columns = a.m, .depth = a.depth};
      f.queries = a.head(a.q, i) + at, f.keys = a.of(keys, i), f.values = a.of(values, i);
      f.out = a.head(out, i) + at, f.logSums = a.of(logSums, i) + from;
      f.stride = a.stride(), f.causalFrom = a.causal ? from : -1;
      f.run();
    }
  });
  return {out, logSums};
}

std::tuple<Tensor, Tensor, Tensor> backward(const Heads& a, const Tensor& out, const Tensor& logSums, const Tensor& gradient) {
  const Tensor g = gradient.contiguous();
  const Tensor dq = a.rowsOf(a.n).zero_(), dk = a.rowsOf(a.m).zero_(), dv = a.rowsOf(a.m).zero_();
  const Tensor means = g.mul(out).view({a.batch, a.n, a.heads, a.depth}).sum(3).transpose(1, 2).contiguous();  // [B, h, N]
  at::parallel_for(0, a.count(), 1, [&](int64_t begin, int64_t end) {
    const Tensor one = at::empty({2 * roundUp(a.m, kTile) * a.depth + (a.m + 2 * a.n) * a.width}, a.q.options());
    float* keys = one.data_ptr<float>();
    float *values = keys + roundUp(a.m, kTile) * a.depth, *keyRows = values + roundUp(a.m, kTile) * a.depth;
    float *queryRows = keyRows + a.m * a.width, *gradientRows = queryRows + a.n * a.width;
    for (int64_t i = begin; i < end; ++i) {
      packColumns(a.head(a.k, i), a.stride(), a.m, a.depth, a.scale, keys);
      packColumns(a.head(a.v, i), a.stride(), a.m, a.depth, 1, values);
      packRows(a.head(a.k, i), a.stride(), a.m, a.depth, keyRows);
      packRows(a.head(a.q, i), a.stride(), a.n, a.depth, queryRows);
      packRows(a.head(g, i), a.stride(), a.n, a.depth, gradientRows);
      FlashBackward f{.rows = a.n, .columns = a.m, .depth = a.depth};
      f.queries = a.head(a.q, i), f.gradients = a.head(g, i), f.queryRows = queryRows, f.gradientRows = gradientRows;
      f.keys = keys, f.values = values, f.keyRows = keyRows;
      f.logSums = a.of(logSums, i), f.means = means.data_ptr<float>() + i * a.n;
      f.dQueries = a.of(dq, i), f.dKeys = a.of(dk, i), f.dValues = a.of(dv, i);
      f.stride = a.stride(), f.causal = a.causal;
      f.run();
    }
  });
  return {a.unpacked(dq).mul_(a.scale), a.unpacked(dk).mul_(a.scale), a.unpacked(dv)};
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
