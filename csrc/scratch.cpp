#include "scratch.h"

#include <cstdlib>
#include <new>

namespace lmo {
namespace {

constexpr size_t kAlignment = 64;

class Buffer {
public:
    ~Buffer() { std::free(data_); }

    float* reserve(size_t floats) {
        if (floats > floats_) grow(floats);
        return data_;
    }

private:
    void grow(size_t floats) {
        std::free(data_);
        floats_ = 0;
        const size_t bytes = (floats * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment;
        data_ = static_cast<float*>(std::aligned_alloc(kAlignment, bytes));
        if (data_ == nullptr) throw std::bad_alloc();
        floats_ = floats;
    }

    float* data_ = nullptr;
    size_t floats_ = 0;
};

}  // namespace

float* scratch(Scratch which, size_t floats) {
    thread_local Buffer buffers[2];
    return buffers[static_cast<int>(which)].reserve(floats);
}

}  // namespace lmo
