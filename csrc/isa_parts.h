// Operations that take the compiler longest: each has a translation unit of its own per instruction
// set, so that several can be compiled at a time.
#pragma once

#include "operations.h"

namespace lmo {
namespace LMO_ISA {

void packed_linear(const PackedRun& products);
void attention(const AttentionArgs& a);

}  // namespace LMO_ISA
}  // namespace lmo
