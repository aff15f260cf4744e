// The table of the instruction set named LMO_ISA and its operations, except those that isa_parts.h
// names; included once per instruction set.
#pragma once

#include "convolution_impl.h"
#include "delta_impl.h"
#include "elementwise_impl.h"
#include "isa_parts.h"
#include "linear_impl.h"
#include "memory_impl.h"
#include "quantize_impl.h"
#include "scan_impl.h"

namespace lmo {
namespace LMO_ISA {

constexpr Operations operations(const char* name) {
    return {name,        linear,             packed_linear, rms_norm,      layer_norm,
            rotary,      store_kv,           attention,     silu_mul,      gelu_tanh_mul,
            sigmoid_mul, relu,               multiply,      add,           scale,
            bare_norm,   causal_convolution, plain_convolution, gated_delta, selective_scan,
            quantize,    read,               linear_scratch_bytes};
}

}  // namespace LMO_ISA
}  // namespace lmo
