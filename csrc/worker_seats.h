// Which cores each worker of a pool may run on, so that none shares one with the caller.
//
// A worker that slept is often woken on the core of the thread that wakes it, though others are
// idle: both run at half their pace until the system's balancing sees it, some ten milliseconds on.
#pragma once

#include <pthread.h>
#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

namespace lmo {

class WorkerSeats {
public:
    // Groups of cores, one for each thread of a run; the caller is taken to be on the first.
    void arrange(const std::vector<std::vector<int>>& groups) {
        groups_ = groups;
        order_.resize(groups.size());
        std::iota(order_.begin(), order_.end(), size_t{0});
        note_groups();
        for (size_t index = 0; index < workers_.size(); ++index) sit(index);
    }

    void join(pthread_t worker) {
        workers_.push_back(worker);
        sit(workers_.size() - 1);
    }

    // The worker that is where the caller runs now takes the group that the caller has left.
    void make_way() {
        const size_t group = group_here();
        if (group == kNone || order_[0] == group) return;
        const size_t seat = std::find(order_.begin(), order_.end(), group) - order_.begin();
        std::swap(order_[0], order_[seat]);
        for (size_t index = 0; index < workers_.size(); ++index) {
            if (seat_of(index) == seat || seat_of(index) == 0) sit(index);
        }
    }

private:
    static constexpr size_t kNone = static_cast<size_t>(-1);

    // More workers than groups share them.
    size_t seat_of(size_t index) const { return (index + 1) % groups_.size(); }

    void note_groups() {
        group_of_core_.clear();
        for (size_t group = 0; group < groups_.size(); ++group) {
            for (int core : groups_[group]) {
                if (core < 0) continue;
                if (group_of_core_.size() <= static_cast<size_t>(core)) {
                    group_of_core_.resize(core + 1, kNone);
                }
                group_of_core_[core] = group;
            }
        }
    }

#ifdef __linux__
    size_t group_here() const {
        if (groups_.size() < 2) return kNone;
        const int core = sched_getcpu();
        const bool known = core >= 0 && static_cast<size_t>(core) < group_of_core_.size();
        return known ? group_of_core_[core] : kNone;
    }

    // A hint: where the system refuses it the worker stays where it may be.
    void sit(size_t index) {
        if (groups_.empty()) return;
        cpu_set_t cores;
        CPU_ZERO(&cores);
        for (int core : groups_[order_[seat_of(index)]]) {
            if (core >= 0 && core < CPU_SETSIZE) CPU_SET(core, &cores);
        }
        pthread_setaffinity_np(workers_[index], sizeof(cores), &cores);
    }
#else
    size_t group_here() const { return kNone; }
    void sit(size_t) {}
#endif

    std::vector<pthread_t> workers_;
    std::vector<std::vector<int>> groups_;  // empty: wherever the system puts them
    std::vector<size_t> order_;             // the groups of the caller, the first worker, ...
    std::vector<size_t> group_of_core_;
};

}  // namespace lmo
