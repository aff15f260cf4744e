// Activations as packed weights meet them: whole ones, as numbers of 16 bits, or of 8 where that is
// asked for, with a scale for every 64 columns; floats, as they are or rounded to bf16.
#pragma once

#include <cstdint>

#include "types.h"

namespace lmo {

constexpr int64_t kBlockColumns = 64;
constexpr int64_t kHalfColumns = 32;  // the smallest group of weights
constexpr int64_t kBlockRows = 64;    // quantized at a time; more would not be reused any better

// 64 columns of one row, of which a weight group covers all or a half: x is scale * values. Bytes
// lie in the order of the codes that they are multiplied with.
template <class Value>
struct InputBlock {
    float scale;       // NaN where a column is not finite
    float sum[2];      // of x over the columns of a group, which its minimum is multiplied by
    int32_t start[2];  // what a sum of codes * values starts from: minus zero * sum of values
    Value values[kBlockColumns];
};

using PairInputs = InputBlock<int16_t>;
using ByteInputs = InputBlock<int8_t>;

// The same columns where the codes of weights are floats.
template <class Value>
struct PlainInputs {
    Value values[kBlockColumns];
};

using FloatInputs = PlainInputs<float>;
using HalfInputs = PlainInputs<Bf16>;

// Rows of inputs that are held at a time.
template <class Inputs>
constexpr int64_t kRowsHeld = kBlockRows;
template <>
constexpr int64_t kRowsHeld<FloatInputs> = kBlockRows / 2;  // as many bytes
static_assert(sizeof(FloatInputs) <= 2 * sizeof(PairInputs));
static_assert(sizeof(HalfInputs) <= sizeof(PairInputs));

constexpr int64_t input_blocks(int64_t columns) {
    return (columns + kBlockColumns - 1) / kBlockColumns;
}

// Most working memory of a product with packed weights, whatever its number of rows.
constexpr int64_t packed_scratch_bytes(int64_t columns) {
    return kBlockRows * input_blocks(columns) * static_cast<int64_t>(sizeof(PairInputs));
}

}  // namespace lmo
