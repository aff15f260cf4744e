// Products with packed weights for x86 with AVX2, FMA and F16C.
#if defined(__x86_64__)
#include "target_avx2.h"

#include "packed_impl.h"
#include "target_end.h"
#endif
