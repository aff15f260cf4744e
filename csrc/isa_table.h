// Every operation compiled for the instruction set named LMO_ISA; included once by each isa_*.cpp.
#pragma once

#include "attention_impl.h"
#include "elementwise_impl.h"
#include "linear_impl.h"
#include "memory_impl.h"
#include "packed_impl.h"

namespace lmo {
namespace LMO_ISA {

constexpr Operations operations(const char* name) {
    return {name,      linear,   packed_linear, rms_norm, layer_norm, rotary,
            store_kv,  attention, silu_mul,     gelu_tanh_mul, relu,  read,
            linear_scratch_bytes};
}

}  // namespace LMO_ISA
}  // namespace lmo
