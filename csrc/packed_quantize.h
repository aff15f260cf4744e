// Rows of activations into InputBlocks; included per instruction set.
#pragma once

#include "elementwise_impl.h"
#include "packed_inputs.h"

namespace lmo {
namespace LMO_ISA {

constexpr float kLargestValue = 32767.0f;

// The scale of `columns` columns, or NaN where one is not finite.
inline float input_scale(const float* x, int64_t columns) {
    Vec peak = zero(), poison = zero();
    for (int64_t i = 0; i < columns; i += kLanes) {
        const Vec v = load(x + i);
        peak = max(max(v, zero() - v), peak);
        poison = poison + v * zero();
    }
    return largest(peak) / kLargestValue + sum(poison);
}

// Columns [begin, end) of a block, which share a weight group; sums of whole numbers are exact.
inline void quantize_group(const float* x, int64_t begin, int64_t end, int code_of_zero,
                           InputBlock& block) {
    const Vec factor = splat(1.0f / block.scale);
    Vec sums = zero();
    for (int64_t i = begin; i < end; i += kLanes) {
        const Vec value = round(load(x + i) * factor);
        store(block.values + i, value);
        sums = sums + value;
    }
    const float total = sum(sums);
    block.sum[begin / kHalfColumns] = total * block.scale;
    block.start[begin / kHalfColumns] = -code_of_zero * static_cast<int32_t>(total);
}

// A block of at most 64 columns; too small to have a scale, they count as zero.
inline void quantize_block(const float* x, int64_t columns, int64_t step, int code_of_zero,
                           InputBlock& block) {
    block = {};
    block.scale = input_scale(x, columns);
    if (!(block.scale >= FLT_MIN)) return;
    for (int64_t begin = 0; begin < columns; begin += step) {
        quantize_group(x, begin, std::min(columns, begin + step), code_of_zero, block);
    }
}

// Rows [first, first + rows) of x[m, k] into blocks [k / 64, rows], then finish(block) on each.
template <class Finish>
void quantize_rows(const PackedArgs& a, int64_t first, int64_t rows, InputBlock* blocks,
                   const Finish& finish) {
    const int64_t step = std::min(a.group, kBlockColumns);
    const int code_of_zero = a.bits == 4 && a.symmetric ? 8 : 0;
    each_row(rows, a.k, a.threads, [&](int64_t row) {
        const float* x = a.x + (first + row) * a.x_stride;
        for (int64_t b = 0; b < input_blocks(a.k); ++b) {
            const int64_t begin = b * kBlockColumns;
            InputBlock& block = blocks[b * rows + row];
            quantize_block(x + begin, std::min(kBlockColumns, a.k - begin), step, code_of_zero,
                           block);
            finish(block);
        }
    });
}

}  // namespace LMO_ISA
}  // namespace lmo
