// A pool of threads that work through numbered chunks together with the caller.
#pragma once

#include <cstdint>
#include <vector>

namespace lmo {

using ChunkBody = void (*)(void* context, int64_t chunk);

// Runs body(context, i) for every i in [0, chunks) on at most `threads` threads, the caller
// among them, and returns when all are done. Chunks are handed out as threads come for them,
// since cores may be busy with other work. Safe to call from several threads: runs queue up.
void run_chunks(int64_t chunks, int threads, ChunkBody body, void* context);

// Gives each worker, there or to come, one of `groups` of cores to run on, and the caller of a run
// the one that it is found on. A hint, without which all else is the same.
void spread_workers(const std::vector<std::vector<int>>& groups);

// The same for a callable taking the chunk's number.
template <class Body>
void parallel_for(int64_t chunks, int threads, const Body& body) {
    run_chunks(
        chunks, threads,
        [](void* context, int64_t chunk) { (*static_cast<const Body*>(context))(chunk); },
        const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace lmo
