// What the parts of the self-check have in common, and those that have files of their own.
#pragma once

#include <cmath>
#include <cstring>
#include <vector>

#include "operations.h"

namespace lmo {

// Numbers without a pattern.
class Noise {
public:
    uint32_t bits() {
        state_ = state_ * 1664525u + 1013904223u;
        return state_ >> 8;
    }

    // Multiples of 1 / steps from -1 up to 1.
    std::vector<float> floats(int64_t count, uint32_t steps = 2048) {
        std::vector<float> values(count);
        for (float& value : values) {
            value = static_cast<float>(bits() % (2 * steps)) / static_cast<float>(steps) - 1.0f;
        }
        return values;
    }

    std::vector<uint16_t> halves(int64_t count, uint16_t base, uint16_t mask) {
        std::vector<uint16_t> values(count);
        for (uint16_t& value : values) value = static_cast<uint16_t>(base | (bits() & mask));
        return values;
    }

private:
    uint32_t state_ = 1;
};

inline bool close(const std::vector<float>& a, const std::vector<float>& b, float tolerance) {
    for (size_t i = 0; i < a.size(); ++i) {
        if (!(std::fabs(a[i] - b[i]) <= tolerance * (1.0f + std::fabs(b[i])))) return false;
    }
    return true;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

bool recurrence_agrees(const Operations& operations, const Operations& reference);
bool rounding_agrees(const Operations& operations, const Operations& reference);

}  // namespace lmo
