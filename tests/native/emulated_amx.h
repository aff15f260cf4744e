// AMX for processors without it: the intrinsics that csrc/simd_amx.h uses, on tile registers in
// memory, in the words of Intel's reference. What a processor answers with a fault ends the process.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace lmo {
namespace emulated {

// What LDTILECFG reads.
struct TileConfig {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

struct TileFile {
    TileConfig config;
    uint8_t at[8][16][64];
};

inline TileFile& tile_file() {
    thread_local TileFile file = {};
    return file;
}

inline void require(bool allowed, const char* what) {
    if (allowed) return;
    std::fprintf(stderr, "emulated AMX: %s\n", what);
    std::abort();
}

inline void tile_release() { tile_file() = {}; }

inline void tile_loadconfig(const void* from) {
    TileConfig config;
    std::memcpy(&config, from, 64);
    static_assert(sizeof config == 64);
    require(config.palette == 1 && config.start_row == 0, "a palette that no processor has");
    for (uint8_t byte : config.reserved) require(byte == 0, "reserved bytes that are not zero");
    for (int i = 0; i < 16; ++i) {
        const int most = i < 8 ? 1 : 0;
        require(config.rows[i] <= 16 * most && config.row_bytes[i] <= 64 * most, "shape too large");
        require(!config.rows[i] == !config.row_bytes[i], "a shape of half a zero");
    }
    tile_release();
    tile_file().config = config;
}

inline int rows_of(int tile) {
    require(tile_file().config.rows[tile] > 0, "a register without a shape");
    return tile_file().config.rows[tile];
}

inline int row_bytes_of(int tile) {
    rows_of(tile);
    return tile_file().config.row_bytes[tile];
}

inline void tile_zero(int tile) {
    rows_of(tile);
    std::memset(tile_file().at[tile], 0, sizeof tile_file().at[tile]);
}

inline void tile_loadd(int tile, const void* base, int64_t stride) {
    tile_zero(tile);
    for (int row = 0; row < rows_of(tile); ++row) {
        std::memcpy(tile_file().at[tile][row], static_cast<const char*>(base) + row * stride,
                    row_bytes_of(tile));
    }
}

inline void tile_stored(int tile, void* base, int64_t stride) {
    for (int row = 0; row < rows_of(tile); ++row) {
        std::memcpy(static_cast<char*>(base) + row * stride, tile_file().at[tile][row],
                    row_bytes_of(tile));
    }
}

// to[m][n] += the products of four bytes of a[m], as A, and of b[k][n], as B, for every k.
template <class A, class B>
void tile_product(int to, int a, int b) {
    require(to != a && to != b && a != b, "a register that is named twice");
    require(rows_of(to) == rows_of(a) && row_bytes_of(to) == row_bytes_of(b), "shapes of a sum");
    require(row_bytes_of(a) == 4 * rows_of(b), "shapes of factors");
    auto& at = tile_file().at;
    for (int m = 0; m < rows_of(to); ++m) {
        int32_t sums[16];
        std::memcpy(sums, at[to][m], sizeof sums);
        for (int k = 0; k < row_bytes_of(a); ++k) {
            const int left = static_cast<A>(at[a][m][k]);
            for (int n = 0; n < row_bytes_of(to) / 4; ++n) {
                sums[n] += left * static_cast<B>(at[b][k / 4][4 * n + k % 4]);
            }
        }
        std::memcpy(at[to][m], sums, sizeof sums);
    }
}

}  // namespace emulated
}  // namespace lmo

#undef _tile_dpbssd
#undef _tile_dpbusd
#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#define _tile_dpbssd lmo::emulated::tile_product<int8_t, int8_t>
#define _tile_dpbusd lmo::emulated::tile_product<uint8_t, int8_t>
#define _tile_loadconfig lmo::emulated::tile_loadconfig
#define _tile_loadd lmo::emulated::tile_loadd
#define _tile_release lmo::emulated::tile_release
#define _tile_stored lmo::emulated::tile_stored
#define _tile_zero lmo::emulated::tile_zero
