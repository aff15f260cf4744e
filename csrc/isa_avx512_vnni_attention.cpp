// Attention for x86 with AVX-512 (F, BW, VL, DQ, VNNI).
#if defined(__x86_64__)
#include "target_avx512_vnni.h"

#include "attention_impl.h"
#include "target_end.h"
#endif
