#include "cpu_features.h"

namespace lmo {

const Operations& best_operations() {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("f16c")) {
        return avx2_operations();
    }
#endif
    return generic_operations();
}

}  // namespace lmo
