// What one lane of a product's operands holds: a column as a float or, where one instruction
// multiplies and adds up two bf16 numbers, two neighbouring columns. Inputs are rounded to bf16 then.
#pragma once

#include <algorithm>
#include <cstring>

#include "types.h"

namespace lmo {
namespace LMO_ISA {

struct Singles {
    using Input = float;  // of few rows
    static constexpr int kTogether = 1;  // columns in a lane
    static constexpr int64_t kColumns = kLanes;  // of a vector
    static constexpr int64_t kFewRows = kRegisters == 32 ? 31 : 47;  // that take weights as they lie
    static constexpr int kStreamedRows = 0;  // of them, those that take a row of weights at a time

    static Vec add(Vec weight, Vec x, Vec sum) { return fma(weight, x, sum); }

    template <class Span>
    static Vec input(const float* x, Span span) {
        return load(x, span);
    }
    // The columns of one lane in all of them.
    static Vec everywhere(const float* x) { return splat(*x); }
    template <class W, class Span>
    static Vec weight(const W* w, Span span) {
        return load(w, span);
    }
};

#if defined(LMO_BF16)
struct Pairs {
    using Input = Bf16;
    static constexpr int kTogether = 2;
    static constexpr int64_t kColumns = 2 * kLanes;
    static constexpr int64_t kFewRows = 9;  // a tile of ten rows hides what it asks for
    static constexpr int kStreamedRows = 2;  // a core of a Zen 5 reads one stream fastest

    static Vec add(Vec weight, Vec x, Vec sum) { return add_pairs(weight, x, sum); }

    static Vec input(const float* x, Whole) { return to_pairs(load(x), load(x + kLanes)); }
    static Vec input(const float* x, Part part) {
        float columns[kColumns] = {};
        std::memcpy(columns, x, static_cast<size_t>(part.count) * sizeof(float));
        return input(columns, Whole{});
    }

    template <class Span>
    static Vec input(const Bf16* x, Span span) {
        return weight(x, span);
    }
    static Vec everywhere(const Bf16* x) {
        float pair;
        std::memcpy(&pair, x, sizeof pair);
        return splat(pair);
    }

    static Vec weight(const Bf16* w, Whole) { return load(reinterpret_cast<const float*>(w)); }
    static Vec weight(const Bf16* w, Part part) {
        Bf16 columns[kColumns] = {};
        std::memcpy(columns, w, static_cast<size_t>(part.count) * sizeof(Bf16));
        return weight(columns, Whole{});
    }
};
#endif

// How weights of 8-bit floats are multiplied.
#if defined(LMO_BF16)
using Float8Kind = Pairs;
#else
using Float8Kind = Singles;
#endif

// How weights of a type are multiplied.
template <class W>
struct KindOf {
    using type = Singles;
};

#if defined(LMO_BF16)
template <>
struct KindOf<Bf16> {
    using type = Pairs;
};
#endif

template <class W>
using Kind = typename KindOf<W>::type;

}  // namespace LMO_ISA
}  // namespace lmo
