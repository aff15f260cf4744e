// Tile registers of AMX: eight of 16 rows of 64 bytes. Included by isa_amx.cpp behind
// simd_avx512.h.
#pragma once

#include "packed_inputs.h"

namespace lmo {
namespace LMO_ISA {

constexpr int64_t kMatrixRows = 16;
constexpr int64_t kMatrixRowBytes = 64;
constexpr int64_t kMatrixBytes = kMatrixRows * kMatrixRowBytes;

// What LDTILECFG reads.
struct TileShapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
static_assert(sizeof(TileShapes) == 64);

// The calling thread's tile registers, all of the full size, from construction to destruction.
class TileRegisters {
public:
    TileRegisters() { _tile_loadconfig(&kShapes); }
    ~TileRegisters() { _tile_release(); }
    TileRegisters(const TileRegisters&) = delete;
    TileRegisters& operator=(const TileRegisters&) = delete;

private:
    alignas(64) static constexpr TileShapes kShapes = {
        1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
};

// Upper and lower bytes of 16 inputs times weights of 16 outputs; the upper ones alone where inputs
// are bytes.
struct alignas(64) ByteSums {
    int32_t upper[kMatrixRows * kLanes], lower[kMatrixRows * kLanes];
};

// GCC does not know that a tile is read from memory: what was written there must not come later.
inline void finish_writes(const void* memory) { asm volatile("" : : "r"(memory) : "memory"); }

// Registers 2 and 3: four columns a row for 16 outputs each, V times.
template <int V>
inline void load_weights(const uint8_t* bytes) {
    static_assert(V == 1 || V == 2);
    finish_writes(bytes);
    _tile_loadd(2, bytes, kMatrixRowBytes);
    if constexpr (V == 2) _tile_loadd(3, bytes + kMatrixBytes, kMatrixRowBytes);
}

// Products of 16 rows of split inputs (see split_values) with the weights in registers.
template <int V>
inline void multiply_weights(const PairInputs* x, ByteSums* sums) {
    const auto* upper = reinterpret_cast<const uint8_t*>(x->values);
    _tile_loadd(0, upper, sizeof(PairInputs));
    _tile_loadd(1, upper + kBlockColumns, sizeof(PairInputs));
    _tile_zero(4);
    _tile_zero(5);
    _tile_dpbssd(4, 0, 2);
    _tile_dpbusd(5, 1, 2);
    if constexpr (V == 2) {
        _tile_zero(6);
        _tile_zero(7);
        _tile_dpbssd(6, 0, 3);
        _tile_dpbusd(7, 1, 3);
        _tile_stored(6, sums[1].upper, kMatrixRowBytes);
        _tile_stored(7, sums[1].lower, kMatrixRowBytes);
    }
    _tile_stored(4, sums[0].upper, kMatrixRowBytes);
    _tile_stored(5, sums[0].lower, kMatrixRowBytes);
}

template <int V>
inline void multiply_weights(const ByteInputs* x, ByteSums* sums) {
    _tile_loadd(0, x->values, sizeof(ByteInputs));
    _tile_zero(4);
    _tile_dpbssd(4, 0, 2);
    if constexpr (V == 2) {
        _tile_zero(6);
        _tile_dpbssd(6, 0, 3);
        _tile_stored(6, sums[1].upper, kMatrixRowBytes);
    }
    _tile_stored(4, sums[0].upper, kMatrixRowBytes);
}

inline Ints byte_sum(const ByteSums& sums, int64_t row, const ByteInputs&) {
    return load_ints(sums.upper + row * kLanes);
}

// 256 * upper + lower of one row.
inline Ints byte_sum(const ByteSums& sums, int64_t row, const PairInputs&) {
    const Ints upper = load_ints(sums.upper + row * kLanes);
    return joined_bytes(upper, load_ints(sums.lower + row * kLanes));
}

}  // namespace LMO_ISA
}  // namespace lmo
