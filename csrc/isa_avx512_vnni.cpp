// The operations for x86 with AVX-512 (F, BW, VL, DQ, VNNI).
#if defined(__x86_64__)
#include "target_avx512_vnni.h"

#include "isa_table.h"
#include "target_end.h"

namespace lmo {

const Operations& avx512_vnni_operations() {
    static constexpr Operations table = avx512_vnni::operations("avx512-vnni");
    return table;
}

}  // namespace lmo
#endif
