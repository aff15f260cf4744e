#include "attention_plan.h"

#include <algorithm>

namespace lmo {
namespace {

template <class Body>
void each_tile(const AttentionArgs& a, const Body& body) {
    const int64_t height = std::max<int64_t>(1, kTileQueries / (a.heads / a.cache.kv_heads));
    for (int64_t s = 0; s < a.sequences; ++s) {
        const int64_t end = a.query_starts[s + 1];
        for (int64_t row = a.query_starts[s]; row < end; row += height) {
            const int64_t rows = std::min(height, end - row);
            const int64_t position = a.context_lens[s] - (end - row);
            const int64_t oldest = std::max<int64_t>(0, position - a.window + 1);
            const int64_t newest = position + rows - 1;
            body(Tile{s, row, rows, position, oldest / kSegmentTokens,
                      newest / kSegmentTokens + 1});
        }
    }
}

}  // namespace

TileCounts count_tiles(const AttentionArgs& a) {
    TileCounts counts{0, 0, 0};
    each_tile(a, [&](const Tile& tile) {
        ++counts.tiles;
        counts.rows = std::max(counts.rows, tile.rows);
        counts.most_segments =
            std::max(counts.most_segments, tile.last_segment - tile.first_segment);
    });
    return counts;
}

void fill_tiles(const AttentionArgs& a, Tile* tiles) {
    each_tile(a, [&](const Tile& tile) { *tiles++ = tile; });
}

}  // namespace lmo
