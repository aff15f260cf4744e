// The operations for x86 with AVX-512 whose dot products of bf16 are fast: products with weights in
// bf16 and fp8 are its own, all else is that of AVX-512 VNNI.
#if defined(__x86_64__)
#include "target_avx512_bf16.h"

#include "linear_impl.h"
#include "packed_impl.h"
#include "target_end.h"

namespace lmo {

static void whole_codes_linear(const PackedRun& products) {
    avx512_vnni_operations().packed_linear(products);
}

const Operations& avx512_bf16_operations() {
    static const Operations table = [] {
        Operations operations = avx512_vnni_operations();
        operations.name = "avx512-bf16";
        operations.linear = avx512_bf16::linear;
        operations.packed_linear = avx512_bf16::float8_linear<whole_codes_linear>;
        operations.rounds_inputs = true;
        operations.linear_scratch_bytes = avx512_bf16::linear_scratch_bytes;
        return operations;
    }();
    return table;
}

}  // namespace lmo
#endif
