// Standard headers of the operations, included before any code is compiled for one
// instruction set, so that their inline functions run on every CPU.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <cstdlib>
#include <limits>
