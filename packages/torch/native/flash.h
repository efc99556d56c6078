// The arithmetic of attention.cpp, one head at a time, in plain C++: libtorch's operators take four passes over a block of scores where one
// will do, and a product of 256 rows of 8 numbers is nothing that a library of matrix products is made for.
#pragma once

#include <cstdint>

namespace anchor {

// Columns of a packed tile, and what the width of packed rows is a multiple of.
constexpr int64_t kTile = 32;
constexpr int64_t kWidth = 16;
constexpr int64_t roundUp(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Rows of `depth` numbers, `stride` apart, as the kernels want them. What is added to round up is zero.
// To columns: [ceil(length / kTile), depth, kTile], times `scale`; to rows: [length, roundUp(depth, kWidth)].
void packColumns(const float* from, int64_t stride, int64_t length, int64_t depth, float scale, float* to);
void packRows(const float* from, int64_t stride, int64_t length, int64_t depth, float* to);

// Rows that see a block of keys before the next one comes: the most that FlashForward takes.
constexpr int64_t kFlashRows = 128;

// Some queries of one head against all keys, which were scaled as they were packed.
struct FlashForward {
  int64_t rows, columns, depth;
  const float *queries, *keys, *values;  // rows `stride` apart; columns packed; rows packed
  float *out, *logSums;                  // rows `stride` apart; [rows] of the logarithms of sums of exponentials
  int64_t stride;
  int64_t causalFrom;                    // row r sees columns 0 … causalFrom + r; -1: all
  void run() const;
};

struct FlashBackward {
  int64_t rows, columns, depth;
  const float *queries, *gradients, *queryRows, *gradientRows;  // as they are, `stride` apart, and rows packed
  const float *keys, *values, *keyRows;                         // columns packed (keys scaled), columns packed, rows packed
  const float *logSums, *means;                                 // [rows]; means: gradient · out
  float *dQueries, *dKeys, *dValues;                            // rows packed, added to; the first two want the scale still
  int64_t stride;
  bool causal;
  void run() const;
};

}  // namespace anchor
