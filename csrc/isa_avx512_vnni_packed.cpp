// Products with packed weights for x86 with AVX-512 (F, BW, VL, DQ, VNNI).
#if defined(__x86_64__)
#include "target_avx512_vnni.h"

#include "packed_impl.h"
#include "target_end.h"
#endif
