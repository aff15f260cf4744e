// Waiting for another thread without a system call.
#pragma once

#include <thread>

namespace lmo {

inline void cpu_pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Spins first, then offers the core to whoever is waited for.
class Backoff {
public:
    void pause() {
        if (++turns_ < kTurns) {
            cpu_pause();
        } else {
            std::this_thread::yield();
        }
    }

private:
    static constexpr int kTurns = 1000;
    int turns_ = 0;
};

}  // namespace lmo
