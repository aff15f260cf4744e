// Work on rows that is the same on every processor.
#pragma once

#include <algorithm>
#include <cstdint>

#include "thread_pool.h"

namespace lmo {

constexpr int64_t kRowsOfChunk = 8;  // fewer are not worth another thread

// Calls body(i) for some rows, many of them on several threads.
template <class Body>
void each_of(int64_t rows, int threads, const Body& body) {
    parallel_for((rows + kRowsOfChunk - 1) / kRowsOfChunk, threads, [&](int64_t chunk) {
        const int64_t end = std::min(rows, (chunk + 1) * kRowsOfChunk);
        for (int64_t i = chunk * kRowsOfChunk; i < end; ++i) body(i);
    });
}

}  // namespace lmo
