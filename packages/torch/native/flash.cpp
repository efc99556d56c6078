#include "flash.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#define INLINE inline __attribute__((always_inline))

namespace anchor {
namespace {

// Keys that are dealt with before the next ones: with their values they stay in the second-level cache for all rows.
constexpr int64_t kColumns = 256;
// Rows whose scores are alive at once, in the first-level cache.
constexpr int64_t kRows = 16;
constexpr float kNever = -std::numeric_limits<float>::infinity();

// Vectors of L floats; the compiler makes the processor's of them.
template <int L>
struct Simd {
  typedef float Floats __attribute__((vector_size(4 * L)));
  typedef int32_t Ints __attribute__((vector_size(4 * L)));
  // Rows of a tile of products: what fits the registers beside its factors, with three vectors a row.
  static constexpr int kTall = L == 16 ? 8 : 4;
};
template <int L>
using Floats = typename Simd<L>::Floats;

template <int L>
INLINE Floats<L> all(float x) {
  return x - Floats<L>{};
}
template <int L>
INLINE Floats<L> load(const float* from) {
  Floats<L> x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
template <int L>
INLINE void store(float* to, Floats<L> x) {
  std::memcpy(to, &x, sizeof x);
}

// e^x for x of 0 and less, to about 1e-7 of itself; 0 from -88 down, where numbers are no longer normal; NaN of NaN. x = n ln 2 + r, and
// e^r by its Taylor series, |r| at most ln 2 / 2.
template <int L>
INLINE Floats<L> exponential(Floats<L> x) {
  x = x < -88.f ? all<L>(-88.f) : x;
  const float round = 12582912.f;  // 1.5 * 2^23: what is added to it loses its fraction
  const Floats<L> shifted = x * 1.44269504f + round;
  const Floats<L> n = shifted - round;
  const Floats<L> r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts, the first of few digits
  Floats<L> y = all<L>(1.f / 5040);
  y = y * r + 1.f / 720;
  y = y * r + 1.f / 120;
  y = y * r + 1.f / 24;
  y = y * r + 1.f / 6;
  y = y * r + 0.5f;
  y = y * r + 1.f;
  y = y * r + 1.f;
  // The low bits of `shifted` are n. 2^n is n + 127 where a float keeps its exponent, and zero at -127.
  typename Simd<L>::Ints bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits - (0x4B400000 - 127)) << 23;
  Floats<L> power;
  std::memcpy(&power, &bits, sizeof power);
  return y * power;
}

// A row of scores, in place, to exp(score - minus); returns their sum, one share a lane. `columns` is a multiple of L.
template <int L>
INLINE Floats<L> exponentiate(float* row, int64_t columns, float minus) {
  Floats<L> lanes{};
  for (int64_t c = 0; c < columns; c += L) {
    const Floats<L> y = exponential<L>(load<L>(row + c) - minus);
    store<L>(row + c, y);
    lanes += y;
  }
  return lanes;
}
template <int L>
INLINE float highest(const float* row, int64_t columns, float top) {
  Floats<L> lanes = all<L>(top);
  for (int64_t c = 0; c < columns; c += L) {
    const Floats<L> x = load<L>(row + c);
    lanes = x > lanes ? x : lanes;
  }
  // By halves: one after the other would take as long as the row.
  alignas(64) float of[L];
  store<L>(of, lanes);
  for (int half = L / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) of[i] = of[i] > of[i + half] ? of[i] : of[i + half];
  return of[0];
}

// R rows [R, depth] times one packed tile [depth, kTile] → [R, kTile], rows of it kColumns apart.
template <int L, int R>
INLINE void productTile(const float* rows, int64_t stride, const float* tile, int64_t depth, float* to) {
  for (int64_t at = 0; at < kTile; at += 2 * L) {
    Floats<L> a[R]{}, b[R]{};
    for (int64_t k = 0; k < depth; ++k) {
      const Floats<L> x = load<L>(tile + k * kTile + at), y = load<L>(tile + k * kTile + at + L);
      for (int r = 0; r < R; ++r) {
        const float q = rows[r * stride + k];
        a[r] += q * x;
        b[r] += q * y;
      }
    }
    for (int r = 0; r < R; ++r) {
      store<L>(to + r * kColumns + at, a[r]);
      store<L>(to + r * kColumns + at + L, b[r]);
    }
  }
}
// Rows against columns from…from + columns of a packed matrix, `from` a multiple of kTile; up to kTile more are written.
template <int L>
INLINE void products(const float* rows, int64_t stride, int64_t count, const float* packed, int64_t depth, int64_t from, int64_t columns, float* to) {
  constexpr int R = Simd<L>::kTall;
  for (int64_t c = 0; c < columns; c += kTile) {
    const float* tile = packed + (from + c) * depth;
    int64_t r = 0;
    for (; r + R <= count; r += R) productTile<L, R>(rows + r * stride, stride, tile, depth, to + r * kColumns + c);
    for (; r < count; ++r) productTile<L, 1>(rows + r * stride, stride, tile, depth, to + r * kColumns + c);
  }
}

// to [R, N vectors of a row `width` wide], times `fade` [R] if there is one, plus the sum over c of weight(r, c) * x[c].
template <int L, int R, int N>
INLINE void mixTile(const float* weights, int64_t down, int64_t across, int64_t columns, const float* x, int64_t width, const float* fade, float* to) {
  Floats<L> sums[R][N]{};
  for (int64_t c = 0; c < columns; ++c) {
    Floats<L> v[N];
    for (int i = 0; i < N; ++i) v[i] = load<L>(x + c * width + i * L);
    for (int r = 0; r < R; ++r) {
      const float w = weights[r * down + c * across];
      for (int i = 0; i < N; ++i) sums[r][i] += w * v[i];
    }
  }
  for (int r = 0; r < R; ++r)
    for (int i = 0; i < N; ++i) {
      float* at = to + r * width + i * L;
      store<L>(at, load<L>(at) * (fade ? fade[r] : 1.f) + sums[r][i]);
    }
}
// to [rows, width] = to * fade + weights [rows, columns] · x [columns, width]; weights `down` from row to row, `across` from column to column.
template <int L>
INLINE void mix(const float* weights, int64_t down, int64_t across, int64_t rows, int64_t columns, const float* x, int64_t width, const float* fade, float* to) {
  constexpr int R = Simd<L>::kTall;
  const auto wide = [&]<int N>(int64_t at) __attribute__((always_inline)) {
    int64_t r = 0;
    for (; r + R <= rows; r += R)
      mixTile<L, R, N>(weights + r * down, down, across, columns, x + at, width, fade ? fade + r : nullptr, to + r * width + at);
    for (; r < rows; ++r) mixTile<L, 1, N>(weights + r * down, down, across, columns, x + at, width, fade ? fade + r : nullptr, to + r * width + at);
  };
  for (int64_t at = 0; at < width;) {
    const int64_t left = (width - at) / L;
    if (left >= 3 && left != 4) wide.template operator()<3>(at), at += 3 * L;
    else if (left >= 2) wide.template operator()<2>(at), at += 2 * L;
    else wide.template operator()<1>(at), at += L;
  }
}

// The scores behind the last column are those of padding: never seen. With `causal`, nor are those behind each row's last.
INLINE void hide(float* scores, int64_t rows, int64_t columns, int64_t padded, bool causal, int64_t lastOfFirst) {
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t seen = causal ? std::clamp<int64_t>(lastOfFirst + r + 1, 0, columns) : columns;
    std::fill(scores + r * kColumns + seen, scores + r * kColumns + padded, kNever);
  }
}

template <int L>
INLINE void forward(const FlashForward& f) {
  const int64_t width = roundUp(f.depth, kWidth);
  alignas(64) float scores[kRows * kColumns], sums[kFlashRows * L]{}, top[kFlashRows], fade[kFlashRows];
  std::vector<float> mixed(f.rows * width);
  float* y = mixed.data();
  std::fill(top, top + f.rows, kNever);
  const bool causal = f.causalFrom >= 0;
  const int64_t end = causal ? std::min(f.columns, f.causalFrom + f.rows) : f.columns;
  for (int64_t at = 0; at < end; at += kColumns) {
    const int64_t columns = std::min(kColumns, end - at), padded = roundUp(columns, kTile);
    for (int64_t r = 0; r < f.rows; r += kRows) {
      const int64_t count = std::min(kRows, f.rows - r);
      products<L>(f.queries + r * f.stride, f.stride, count, f.keys, f.depth, at, columns, scores);
      hide(scores, count, columns, padded, causal, f.causalFrom + r - at);
      for (int64_t i = 0; i < count; ++i) {
        float *row = scores + i * kColumns, *sum = sums + (r + i) * L;
        const float before = top[r + i];
        top[r + i] = highest<L>(row, padded, before);
        fade[r + i] = std::exp(before - top[r + i]);
        store<L>(sum, load<L>(sum) * fade[r + i] + exponentiate<L>(row, padded, top[r + i]));
      }
      mix<L>(scores, kColumns, 1, count, columns, f.values + at * width, width, fade + r, y + r * width);
    }
  }
  for (int64_t r = 0; r < f.rows; ++r) {
    float *to = f.out + r * f.stride, sum = 0;
    for (int i = 0; i < L; ++i) sum += sums[r * L + i];
    for (int64_t k = 0; k < f.depth; ++k) to[k] = y[r * width + k] / sum;
    f.logSums[r] = top[r] + std::log(sum);
  }
}

template <int L>
INLINE void backward(const FlashBackward& f) {
  const int64_t width = roundUp(f.depth, kWidth);
  alignas(64) float weights[kRows * kColumns], changes[kRows * kColumns];
  for (int64_t at = 0; at < f.columns; at += kColumns) {
    const int64_t columns = std::min(kColumns, f.columns - at), padded = roundUp(columns, kTile);
    for (int64_t r = f.causal ? at / kRows * kRows : 0; r < f.rows; r += kRows) {
      const int64_t count = std::min(kRows, f.rows - r);
      products<L>(f.queries + r * f.stride, f.stride, count, f.keys, f.depth, at, columns, weights);
      hide(weights, count, columns, padded, f.causal, r - at);
      products<L>(f.gradients + r * f.stride, f.stride, count, f.values, f.depth, at, columns, changes);
      for (int64_t i = 0; i < count; ++i) {
        float *w = weights + i * kColumns, *c = changes + i * kColumns;
        exponentiate<L>(w, padded, f.logSums[r + i]);
        for (int64_t k = 0; k < padded; k += L) store<L>(c + k, (load<L>(c + k) - f.means[r + i]) * load<L>(w + k));
      }
      mix<L>(changes, kColumns, 1, count, columns, f.keyRows + at * width, width, nullptr, f.dQueries + r * width);
      mix<L>(weights, 1, kColumns, columns, count, f.gradientRows + r * width, width, nullptr, f.dValues + at * width);
      mix<L>(changes, 1, kColumns, columns, count, f.queryRows + r * width, width, nullptr, f.dKeys + at * width);
    }
  }
}

// Each is compiled for several kinds of processor; which one this is shows when it runs. ATEN_CPU_CAPABILITY (avx2, default) asks for a
// lesser one, as of libtorch itself.
#if defined(__x86_64__) && defined(__GNUC__)
template <class F>
__attribute__((target("avx512f,fma"))) void with512(const F& f) {
  if constexpr (std::is_same_v<F, FlashForward>) forward<16>(f);
  else backward<16>(f);
}
template <class F>
__attribute__((target("avx2,fma"))) void with256(const F& f) {
  if constexpr (std::is_same_v<F, FlashForward>) forward<8>(f);
  else backward<8>(f);
}
#endif
template <class F>
void with128(const F& f) {
  if constexpr (std::is_same_v<F, FlashForward>) forward<4>(f);
  else backward<4>(f);
}
template <class F>
void widest(const F& f) {
#if defined(__x86_64__) && defined(__GNUC__)
  static const int bits = [] {
    const char* asked = std::getenv("ATEN_CPU_CAPABILITY");
    const bool plain = asked && std::strcmp(asked, "default") == 0, avx2 = asked && std::strcmp(asked, "avx2") == 0;
    if (!plain && !avx2 && __builtin_cpu_supports("avx512f")) return 512;
    return !plain && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 256 : 128;
  }();
  if (bits == 512) return with512(f);
  if (bits == 256) return with256(f);
#endif
  with128(f);
}

}  // namespace

void FlashForward::run() const { widest(*this); }
void FlashBackward::run() const { widest(*this); }

void packColumns(const float* from, int64_t stride, int64_t length, int64_t depth, float scale, float* to) {
  for (int64_t at = 0; at < length; at += kTile, to += depth * kTile) {
    const int64_t count = std::min(kTile, length - at);
    for (int64_t k = 0; k < depth; ++k) {
      for (int64_t c = 0; c < count; ++c) to[k * kTile + c] = from[(at + c) * stride + k] * scale;
      std::fill(to + k * kTile + count, to + (k + 1) * kTile, 0.f);
    }
  }
}
void packRows(const float* from, int64_t stride, int64_t length, int64_t depth, float* to) {
  const int64_t width = roundUp(depth, kWidth);
  for (int64_t i = 0; i < length; ++i) {
    std::copy_n(from + i * stride, depth, to + i * width);
    std::fill(to + i * width + depth, to + (i + 1) * width, 0.f);
  }
}

}  // namespace anchor
