// The chunks of one run, dealt out to threads. Each takes its own ones in ascending order: what a
// chunk asks for behind its end is then in the cache of the thread that takes the next one. Who has
// none left takes the last ones of others.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>

namespace lmo {

// Chunks [first, end), both in one number: they change together. Fewer than 2^32.
class alignas(64) ChunkShare {
public:
    void deal(int64_t first, int64_t end) {
        range_.store(static_cast<uint64_t>(first) << kEndBits | static_cast<uint64_t>(end),
                     std::memory_order_relaxed);
    }

    // Removes a chunk from the front, or from the back; -1 where none is left.
    int64_t take_first() { return take(uint64_t{1} << kEndBits, kEndBits, 0); }
    int64_t take_last() { return take(~uint64_t{0}, 0, -1); }

private:
    int64_t take(uint64_t change, int shift, int64_t offset) {
        uint64_t range = range_.load(std::memory_order_relaxed);
        while (range >> kEndBits < (range & kEndMask)) {
            if (range_.compare_exchange_weak(range, range + change, std::memory_order_relaxed)) {
                return static_cast<int64_t>(range >> shift & kEndMask) + offset;
            }
        }
        return -1;
    }

    static constexpr int kEndBits = 32;
    static constexpr uint64_t kEndMask = 0xFFFFFFFF;

    std::atomic<uint64_t> range_{0};
};

class ChunkShares {
public:
    // Equal shares of [0, chunks), while no thread takes any.
    void deal(int64_t chunks, int threads) {
        threads_ = threads;
        while (static_cast<int>(shares_.size()) < threads) shares_.emplace_back();
        for (int64_t i = 0; i < threads; ++i) {
            shares_[i].deal(chunks * i / threads, chunks * (i + 1) / threads);
        }
    }

    // The next chunk for a thread; -1 where all are taken.
    int64_t take(int thread) {
        int64_t chunk = shares_[thread].take_first();
        for (int i = 1; chunk < 0 && i < threads_; ++i) {
            chunk = shares_[(thread + i) % threads_].take_last();
        }
        return chunk;
    }

private:
    std::deque<ChunkShare> shares_;  // of at least `threads_`; they never move
    int threads_ = 0;
};

}  // namespace lmo
