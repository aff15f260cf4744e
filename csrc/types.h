// Element types of tensors that Python hands over as addresses.
#pragma once

#include <cstdint>

namespace lmo {

// The codes that native_kernels.py passes.
enum class Dtype : int { f32 = 0, bf16 = 1, f16 = 2 };

struct Bf16 {
    uint16_t bits;
};

struct F16 {
    uint16_t bits;
};

// 2^(exponent - 127): the scales of MXFP4 (e8m0).
struct Power {
    uint8_t exponent;
};

// Twice the floats of four bits (e2m1), plus 12, by their bits.
constexpr uint8_t kFloat4Bytes[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

// Calls `body` with a null pointer of the element type that `dtype` names.
template <class Body>
inline void with_type(Dtype dtype, Body body) {
    switch (dtype) {
        case Dtype::f32: return body(static_cast<const float*>(nullptr));
        case Dtype::bf16: return body(static_cast<const Bf16*>(nullptr));
        case Dtype::f16: return body(static_cast<const F16*>(nullptr));
    }
}

}  // namespace lmo
