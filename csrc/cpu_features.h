// Which of the compiled instruction sets this CPU runs.
#pragma once

#include <string>
#include <vector>

#include "operations.h"

namespace lmo {

// The tables that this CPU can run, fastest first; the last one is generic. In a build for tests
// the emulated ones follow.
std::vector<const Operations*> all_operations();

// The fastest table that computes what the generic one does, decided at the first call.
const Operations& best_operations();

// Names of the tables that were passed over because they do not.
const std::vector<std::string>& rejected_operations();

// Whether a core reads few streams from memory faster than many, and from further ahead.
extern const bool kReadsFewStreams;

}  // namespace lmo
