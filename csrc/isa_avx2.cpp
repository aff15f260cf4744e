// The operations for x86 with AVX2, FMA and F16C.
#if defined(__x86_64__)
#include "target_avx2.h"

#include "isa_table.h"
#include "target_end.h"

namespace lmo {

const Operations& avx2_operations() {
    static constexpr Operations table = avx2::operations("avx2");
    return table;
}

}  // namespace lmo
#endif
