// Whether a table of operations computes on this CPU what another one does.
#pragma once

#include "operations.h"

namespace lmo {

// Compares small products of every kind of weight, attention over every kind of cache, recurrent
// states and rounded weights; takes about a millisecond.
bool agrees(const Operations& operations, const Operations& reference);

}  // namespace lmo
