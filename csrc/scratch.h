// Working memory of the calling thread, allocated once and grown when a larger job comes.
#pragma once

#include <cstddef>

namespace lmo {

// Two buffers, so that a job can hand one to the threads that help it.
enum class Scratch { chunk = 0, job = 1 };

// At least `floats` floats, 64-byte aligned; the contents are undefined. Valid until the
// same thread asks for the same buffer again. Throws std::bad_alloc.
float* scratch(Scratch which, size_t floats);

}  // namespace lmo
