// The chunks of several products in one run of the threads: small products leave none idle.
#pragma once

#include "operations.h"
#include "thread_pool.h"

namespace lmo {

// Calls body(product, chunk) for every chunk of each product; count_of(product) says how many.
template <class Args, class Count, class Body>
void each_chunk(const Products<Args>& products, const Count& count_of, const Body& body) {
    int64_t ends[kMostProducts];
    int64_t total = 0;
    for (int i = 0; i < products.count; ++i) ends[i] = total += count_of(products.at[i]);
    parallel_for(total, products.first().threads, [&](int64_t chunk) {
        int i = 0;
        while (chunk >= ends[i]) ++i;
        body(products.at[i], i ? chunk - ends[i - 1] : chunk);
    });
}

}  // namespace lmo
