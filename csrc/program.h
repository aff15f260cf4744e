// Operations that are carried out once and then again, without anybody asking Python for them.
#pragma once

#include <functional>
#include <vector>

#include "experts.h"
#include "operations.h"

namespace lmo {

// Bytes by which weights and KV cache lie elsewhere than when a program was written down: units and
// blocks of the cache that come from disk are staged in another place of a ring in every sweep.
struct Shift {
    int64_t weights, cache;
};

template <class T>
void move(T*& pointer, int64_t bytes) {
    if (pointer) pointer = reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(pointer) + bytes);
}

template <class Args>
void move(Products<Args>& run, Shift shift) {
    for (int i = 0; i < run.count; ++i) {
        move(run.at[i].weight, shift.weights);
        move(run.at[i].bias, shift.weights);
    }
}

inline void move(NormArgs& args, Shift shift) {
    move(args.weight, shift.weights);
    move(args.bias, shift.weights);
}

inline void move(Cache& cache, Shift shift) {
    move(cache.keys, shift.cache);
    move(cache.values, shift.cache);
}

inline void move(StoreArgs& args, Shift shift) { move(args.cache, shift); }

inline void move(AttentionArgs& args, Shift shift) {
    move(args.cache, shift);
    move(args.sinks, shift.weights);
}

inline void move(ConvolutionArgs& args, Shift shift) {
    move(args.weight, shift.weights);
    move(args.bias, shift.weights);
}

inline void move(DeltaArgs& args, Shift shift) {
    move(args.decay_log, shift.weights);
    move(args.decay_bias, shift.weights);
}

inline void move(ScanArgs& args, Shift shift) {
    move(args.decay_log, shift.weights);
    move(args.step_bias, shift.weights);
    move(args.skip, shift.weights);
}

inline void move(ScaleArgs& args, Shift shift) { move(args.factor, shift.weights); }

inline void move(RotaryArgs&, Shift) {}
inline void move(GateArgs&, Shift) {}
inline void move(ChoiceArgs& args, Shift shift) {
    move(args.bias, shift.weights);
    move(args.factors, shift.weights);
}
inline void move(CloseArgs&, Shift) {}
inline void move(ExpertArgs&, Shift) {}  // their table says where they lie

// The operations of a table, each written down with its arguments as it runs. What the arguments
// point to must stay where it is for as long as the program is replayed, or move as `Shift` says.
class Program : public Operations {
public:
    explicit Program(const Operations& operations) : Operations(operations) {}

    template <class Args>
    void run(void (*operation)(const Args&), const Args& args) {
        operation(args);
        calls_.emplace_back([operation, args](Shift shift) {
            Args moved = args;
            move(moved, shift);
            operation(moved);
        });
    }

    // The same operations in the same order, on what now lies at their addresses.
    void replay(int64_t weights_shift, int64_t cache_shift) const {
        for (const auto& call : calls_) call({weights_shift, cache_shift});
    }

private:
    std::vector<std::function<void(Shift)>> calls_;
};

}  // namespace lmo
