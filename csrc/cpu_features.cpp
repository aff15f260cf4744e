#include "cpu_features.h"

#include "amx_access.h"
#include "self_check.h"

namespace lmo {

#if defined(LMO_EMULATED)
const Operations& emulated_avx512_operations();  // tests/native
const Operations& emulated_avx512_vnni_operations();
const Operations& emulated_avx512_bf16_operations();
const Operations& emulated_amx_operations();
#endif

namespace {

struct Choice {
    const Operations* best = nullptr;
    std::vector<std::string> rejected;
};

Choice choose() {
    Choice choice;
    for (const Operations* operations : all_operations()) {
        choice.best = operations;
        if (agrees(*operations, generic_operations())) break;
        choice.rejected.push_back(operations->name);
    }
    return choice;
}

const Choice& choice() {
    static const Choice made = choose();
    return made;
}

#if defined(__x86_64__)
// __builtin_cpu_supports asks the operating system too (XGETBV): registers that it does not save
// count as missing.
bool has_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c");
}

bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

bool has_vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }

// AMD's dot products of bf16 make twice the multiply-adds of float32, Intel's half of them.
bool has_fast_bf16() {
    return has_vnni() && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_is("amd");
}
#endif

}  // namespace

#if defined(__x86_64__)
const bool kReadsFewStreams = has_fast_bf16();  // seen on a Zen 5, and not on a Xeon
#else
const bool kReadsFewStreams = false;
#endif

std::vector<const Operations*> all_operations() {
    std::vector<const Operations*> tables;
#if defined(__x86_64__)
#if defined(LMO_AMX)
    if (has_vnni() && may_use_amx()) tables.push_back(&amx_operations());
#endif
    if (has_fast_bf16()) tables.push_back(&avx512_bf16_operations());
    if (has_vnni()) tables.push_back(&avx512_vnni_operations());
    if (has_avx512()) tables.push_back(&avx512_operations());
    if (has_avx2()) tables.push_back(&avx2_operations());
#endif
    tables.push_back(&generic_operations());
#if defined(LMO_EMULATED)
    tables.push_back(&emulated_avx512_operations());
    tables.push_back(&emulated_avx512_vnni_operations());
    tables.push_back(&emulated_avx512_bf16_operations());
    tables.push_back(&emulated_amx_operations());
#endif
    return tables;
}

const Operations& best_operations() { return *choice().best; }

const std::vector<std::string>& rejected_operations() { return choice().rejected; }

}  // namespace lmo
