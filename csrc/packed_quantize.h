// Rows of activations into blocks of inputs; included per instruction set.
#pragma once

#include "elementwise_impl.h"
#include "lane_kinds.h"
#include "packed_inputs.h"

namespace lmo {
namespace LMO_ISA {

// The scale of `columns` columns for values up to `most`, or NaN where one is not finite.
inline float input_scale(const float* x, int64_t columns, float most) {
    Vec peak = zero(), poison = zero();
    for (int64_t i = 0; i < columns; i += kLanes) {
        const Vec v = load(x + i);
        peak = max(max(v, zero() - v), peak);
        poison = poison + v * zero();
    }
    return largest(peak) / most + sum(poison);
}

// Columns [begin, end) of a block, which share a weight group; sums of whole numbers are exact.
template <class Codes>
void quantize_group(const float* x, int64_t begin, int64_t end, typename Codes::Inputs& block) {
    const Vec factor = splat(1.0f / block.scale);
    Vec sums = zero();
    for (int64_t i = begin; i < end; i += kLanes) {
        const Vec value = round(load(x + i) * factor);
        Codes::put(block.values + i, value);
        sums = sums + value;
    }
    const float total = sum(sums);
    block.sum[begin / kHalfColumns] = total * block.scale;
    block.start[begin / kHalfColumns] = -Codes::kZero * static_cast<int32_t>(total);
}

// A block of at most 64 columns; too small to have a scale, they count as zero.
template <class Codes, class Value>
void quantize_block(const PackedArgs& a, const float* x, int64_t columns,
                    InputBlock<Value>& block) {
    const auto most = static_cast<float>((1 << (a.input_bits - 1)) - 1);
    const int64_t step = std::min(a.group, kBlockColumns);
    block = {};
    block.scale = input_scale(x, columns, most);
    if (!(block.scale >= FLT_MIN)) return;
    for (int64_t begin = 0; begin < columns; begin += step) {
        quantize_group<Codes>(x, begin, std::min(columns, begin + step), block);
    }
}

template <class Codes>
void quantize_block(const PackedArgs&, const float* x, int64_t columns, FloatInputs& block) {
    std::copy_n(x, columns, block.values);  // nothing reads the rest
}

#if defined(LMO_BF16)
template <class Codes>
void quantize_block(const PackedArgs&, const float* x, int64_t columns, HalfInputs& block) {
    each_step<Pairs::kColumns>(columns, [&](int64_t column, auto span) {
        store(reinterpret_cast<float*>(block.values + column), Pairs::input(x + column, span));
    });
}
#endif

// Rows [first, first + rows) of x[m, k] into blocks [k / 64, rows], then finish(block) on each.
template <class Codes, class Finish>
void quantize_rows(const PackedArgs& a, int64_t first, int64_t rows,
                   typename Codes::Inputs* blocks, const Finish& finish) {
    each_row(rows, a.k, a.threads, [&](int64_t row) {
        const float* x = a.x + (first + row) * a.x_stride;
        for (int64_t b = 0; b < input_blocks(a.k); ++b) {
            const int64_t begin = b * kBlockColumns;
            auto& block = blocks[b * rows + row];
            const int64_t columns = std::min(kBlockColumns, a.k - begin);
            quantize_block<Codes>(a, x + begin, columns, block);
            finish(block);
        }
    });
}

}  // namespace LMO_ISA
}  // namespace lmo
