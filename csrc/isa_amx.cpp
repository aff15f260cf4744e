// The operations for x86 with AMX (TILE, INT8) beside AVX-512: packed products of many rows are its
// own, all else is that of AVX-512 VNNI.
#include "amx_access.h"

#if defined(LMO_AMX)
#include "target_amx.h"

#include "packed_amx.h"
#include "target_end.h"

namespace lmo {

static void vector_linear(const PackedRun& products) {
    avx512_vnni_operations().packed_linear(products);
}

const Operations& amx_operations() {
    static const Operations table = [] {
        Operations operations = avx512_vnni_operations();
        operations.name = "amx";
        operations.packed_linear = amx::matrix_linear<vector_linear>;
        return operations;
    }();
    return table;
}

}  // namespace lmo
#endif
