// Which of the compiled instruction sets this CPU runs.
#pragma once

#include "operations.h"

namespace lmo {

// The fastest table of operations that this CPU can run.
const Operations& best_operations();

}  // namespace lmo
