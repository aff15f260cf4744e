// The chunks of several products in one run of the threads: small products leave none idle.
#pragma once

#include "thread_pool.h"

namespace lmo {

constexpr int kMostProducts = 4;  // of one input: queries, keys, values; gate and up

// Calls body(product, chunk) for every chunk of each product; count_of(product) says how many.
template <class Product, class Count, class Body>
void each_chunk(const Product* products, int count, const Count& count_of, const Body& body) {
    int64_t ends[kMostProducts];
    int64_t total = 0;
    for (int i = 0; i < count; ++i) ends[i] = total += count_of(products[i]);
    parallel_for(total, products[0].threads, [&](int64_t chunk) {
        int i = 0;
        while (chunk >= ends[i]) ++i;
        body(products[i], i ? chunk - ends[i - 1] : chunk);
    });
}

}  // namespace lmo
