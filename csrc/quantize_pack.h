// The bytes of codes in a tile of eight rows, as quant/packing.py lays them out.
#pragma once

#include <cstdint>
#include <cstring>

namespace lmo {
namespace LMO_ISA {

// Columns k0 k2 k1 k3 of four codes.
inline uint32_t four_bytes(const uint8_t* codes) {
    uint32_t x;
    std::memcpy(&x, codes, sizeof x);
    return (x & 0xFF0000FFu) | (x >> 8 & 0x0000FF00u) | (x << 8 & 0x00FF0000u);
}

// Nibbles k0 k2 | k4 k6 | k1 k3 | k5 k7 of eight codes below 16.
inline uint32_t eight_nibbles(const uint8_t* codes) {
    uint64_t x;
    std::memcpy(&x, codes, sizeof x);
    x |= x >> 12;  // k2 above k0, k3 above k1, and so on
    const auto byte = [&](int from, int to) {
        return static_cast<uint32_t>(x >> 8 * from & 0xFF) << 8 * to;
    };
    return byte(0, 0) | byte(4, 1) | byte(1, 2) | byte(5, 3);
}

// Codes of eight rows, one behind the other, into 32 bits for each row in turn.
inline void pack_codes(const uint8_t* codes, int64_t columns, int bits, uint8_t* out) {
    for (int64_t column = 0; column < columns; column += 32 / bits) {
        for (int row = 0; row < 8; ++row, out += sizeof(uint32_t)) {
            const uint8_t* from = codes + row * columns + column;
            const uint32_t lane = bits == 4 ? eight_nibbles(from) : four_bytes(from);
            std::memcpy(out, &lane, sizeof lane);
        }
    }
}

}  // namespace LMO_ISA
}  // namespace lmo
