#include "thread_pool.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "chunk_shares.h"
#include "spin.h"
#include "worker_seats.h"

namespace lmo {
namespace {

// How long an idle worker watches for the next run before it sleeps: longer than the gap between
// two sweeps of a small model in memory, shorter than what another process would miss.
constexpr auto kSpin = std::chrono::microseconds(200);

class Pool {
public:
    void run(int64_t chunks, int threads, ChunkBody body, void* context) {
        std::lock_guard<std::mutex> one_run(run_mutex_);
        start_workers(threads - 1);
        seats_.make_way();
        body_ = body;
        context_ = context;
        shares_.deal(chunks, threads);
        open(threads - 1);
        take_chunks(0);
        close();
    }

    void spread(const std::vector<std::vector<int>>& groups) {
        std::lock_guard<std::mutex> one_run(run_mutex_);
        seats_.arrange(groups);
    }

private:
    void start_workers(int wanted) {
        for (; workers_ < wanted; ++workers_) {
            std::thread worker(&Pool::work, this, workers_);
            seats_.join(worker.native_handle());  // valid for good: workers never end
            worker.detach();
        }
    }

    void take_chunks(int thread) {
        for (int64_t i; (i = shares_.take(thread)) >= 0;) body_(context_, i);
    }

    // Lets workers in, of which the first `helpers` take part; those asleep are woken.
    void open(int helpers) {
        helpers_.store(helpers, std::memory_order_relaxed);
        inside_.store(0, std::memory_order_release);
        epoch_.fetch_add(1, std::memory_order_seq_cst);
        if (sleepers_.load(std::memory_order_seq_cst) > 0) {
            std::lock_guard<std::mutex> hold(sleep_mutex_);
            wake_.notify_all();
        }
    }

    // Waits for workers that still compute, then keeps late ones out.
    void close() {
        Backoff backoff;
        for (int none = 0; !inside_.compare_exchange_weak(none, kClosed, std::memory_order_acquire);
             none = 0) {
            backoff.pause();
        }
    }

    bool enter() {
        int count = inside_.load(std::memory_order_relaxed);
        while (count != kClosed) {
            if (inside_.compare_exchange_weak(count, count + 1, std::memory_order_acquire)) {
                return true;
            }
        }
        return false;
    }

    void work(int index) {
        for (uint64_t seen = 0;;) {
            seen = wait_for_run(seen);
            if (!enter()) continue;
            if (index < helpers_.load(std::memory_order_relaxed)) take_chunks(index + 1);
            inside_.fetch_sub(1, std::memory_order_release);
        }
    }

    uint64_t wait_for_run(uint64_t seen) {
        const auto until = std::chrono::steady_clock::now() + kSpin;
        do {
            for (int i = 0; i < 64; ++i) {
                const uint64_t now = epoch_.load(std::memory_order_acquire);
                if (now != seen) return now;
                cpu_pause();
            }
        } while (std::chrono::steady_clock::now() < until);
        return sleep_until_run(seen);
    }

    uint64_t sleep_until_run(uint64_t seen) {
        std::unique_lock<std::mutex> hold(sleep_mutex_);
        sleepers_.fetch_add(1, std::memory_order_seq_cst);
        wake_.wait(hold, [&] { return epoch_.load(std::memory_order_seq_cst) != seen; });
        sleepers_.fetch_sub(1, std::memory_order_relaxed);
        return epoch_.load(std::memory_order_acquire);
    }

    static constexpr int kClosed = -1;

    std::mutex run_mutex_;
    std::mutex sleep_mutex_;
    std::condition_variable wake_;
    WorkerSeats seats_;
    int workers_ = 0;
    ChunkBody body_ = nullptr;
    void* context_ = nullptr;
    ChunkShares shares_;
    alignas(64) std::atomic<uint64_t> epoch_{0};
    std::atomic<int> helpers_{0};
    std::atomic<int> sleepers_{0};
    alignas(64) std::atomic<int> inside_{kClosed};
};

std::atomic<Pool*> current_pool{nullptr};

// Workers do not live on in a forked child: it gets a pool of its own.
void forget_pool() { current_pool.store(nullptr); }

// Never destroyed, so that workers may outlive static destructors at exit.
Pool& pool() {
    static const int registered = pthread_atfork(nullptr, nullptr, forget_pool);
    (void)registered;
    Pool* known = current_pool.load(std::memory_order_acquire);
    if (known == nullptr) {
        auto* fresh = new Pool;
        if (current_pool.compare_exchange_strong(known, fresh)) return *fresh;
        delete fresh;
    }
    return *known;
}

}  // namespace

void run_chunks(int64_t chunks, int threads, ChunkBody body, void* context) {
    if (threads > 1 && chunks > 1) {
        pool().run(chunks, threads, body, context);
        return;
    }
    for (int64_t i = 0; i < chunks; ++i) body(context, i);
}

void spread_workers(const std::vector<std::vector<int>>& groups) { pool().spread(groups); }

}  // namespace lmo
