// Reading memory and nothing else, to see how fast it can be read.
#pragma once

#include "operations.h"
#include "thread_pool.h"

namespace lmo {
namespace LMO_ISA {

constexpr int64_t kStreams = 4;              // read side by side, as products read weights
constexpr int64_t kStreamFloats = 32 << 10;  // of one chunk
constexpr int64_t kAheadFloats = 1 << 10;    // asked for before they are read, of each stream
constexpr int64_t kLineFloats = 16;          // of a cache line
constexpr int64_t kChunkFloats = kStreams * kStreamFloats;

// Adds up one chunk, and asks for what comes next meanwhile.
inline float read_chunk(const float* data) {
    Vec sums[kStreams] = {zero(), zero(), zero(), zero()};
    for (int64_t i = 0; i < kStreamFloats; i += 2 * kLanes) {
        for (int64_t s = 0; s < kStreams; ++s) {
            const float* line = data + s * kStreamFloats + i;
            for (int64_t ahead = 0; ahead < 2 * kLanes; ahead += kLineFloats) {
                prefetch(line + kAheadFloats + ahead);
            }
            sums[s] = sums[s] + load(line) + load(line + kLanes);
        }
    }
    return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// Reads whole chunks; what is left behind the last one is too little to matter.
inline void read(const float* data, int64_t count, int threads) {
    parallel_for(count / kChunkFloats, threads, [&](int64_t chunk) {
        volatile float sink = read_chunk(data + chunk * kChunkFloats);
        (void)sink;
    });
}

}  // namespace LMO_ISA
}  // namespace lmo
