// The operations for any CPU.
#include "standard.h"

#define LMO_ISA generic
#include "simd_generic.h"
#include "simd_common.h"
#include "transpose_generic.h"
#include "attention_impl.h"
#include "isa_table.h"
#include "packed_impl.h"

namespace lmo {

const Operations& generic_operations() {
    static constexpr Operations table = generic::operations("generic");
    return table;
}

}  // namespace lmo
