// How a ragged batch is cut into pieces of work for the attention kernel.
#pragma once

#include "operations.h"

namespace lmo {

// Softmax is summed up over segments of this many positions, counted from position 0, and
// their sums are combined in order: so a row sees the same sums however work is cut.
constexpr int64_t kSegmentTokens = 512;

// Queries (rows times heads of a group) that share each load of K and V in a prefill.
constexpr int64_t kTileQueries = 32;

// Consecutive rows of one sequence and the segments [first, last) that any of them sees.
struct Tile {
    int64_t sequence, row, rows;
    int64_t position;  // of the first row
    int64_t first_segment, last_segment;
};

struct TileCounts {
    int64_t tiles, rows;    // how many; the most rows of one
    int64_t most_segments;  // that any tile sees
};

TileCounts count_tiles(const AttentionArgs& a);

// Writes as many tiles as counted.
void fill_tiles(const AttentionArgs& a, Tile* tiles);

}  // namespace lmo
