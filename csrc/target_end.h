// Ends what a target_*.h has begun.
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
