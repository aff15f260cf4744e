// What experts add to the rows that use them, through the operations of a table.
#include "experts.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "thread_pool.h"

namespace lmo {
namespace {

constexpr int64_t kRowsOfChunk = 8;  // of sums: fewer are not worth another thread

// A row that uses an expert, and how much of what that says is added.
struct Use {
    int64_t row;
    float scale;
};

// Where what is between the products lies, for at most so many rows.
struct Between {
    float *x, *gate, *up, *added;
};

Between places(const ExpertArgs& a) {
    float* x = a.scratch;
    float* gate = x + a.most_rows * a.width;
    float* up = gate + a.most_rows * a.inner;
    return {x, gate, up, up + a.most_rows * a.inner};
}

// The rows that use an expert, in order.
void find_uses(const ExpertArgs& a, int64_t expert, std::vector<Use>& uses) {
    uses.clear();
    for (int64_t i = 0; i < a.rows * a.used; ++i) {
        if (a.chosen[i] == expert) uses.push_back({i / a.used, a.scales[i]});
    }
}

// Calls body(i) for some rows, many of them on several threads.
template <class Body>
void each_of(int64_t rows, int threads, const Body& body) {
    parallel_for((rows + kRowsOfChunk - 1) / kRowsOfChunk, threads, [&](int64_t chunk) {
        const int64_t end = std::min(rows, (chunk + 1) * kRowsOfChunk);
        for (int64_t i = chunk * kRowsOfChunk; i < end; ++i) body(i);
    });
}

// A product of m rows with one matrix of an expert.
struct Factor {
    int64_t weight, bias;
    float* out;
};

void multiply_plain(const ExpertArgs& a, const ExpertMatrix& matrix, const float* x,
                    int64_t x_stride, int64_t m, int64_t n, int64_t k, const Factor* factors,
                    int count) {
    LinearRun run{};
    run.count = count;
    for (int i = 0; i < count; ++i) {
        run.at[i] = {x, x_stride, reinterpret_cast<const void*>(factors[i].weight), matrix.stride,
                     matrix.dtype, reinterpret_cast<const void*>(factors[i].bias), a.bias_dtype,
                     factors[i].out, n, m, n, k, false, a.threads};
    }
    a.operations->linear(run);
}

void multiply_packed(const ExpertArgs& a, const ExpertMatrix& matrix, const float* x,
                     int64_t x_stride, int64_t m, int64_t n, int64_t k, const Factor* factors,
                     int count) {
    PackedRun run{};
    run.count = count;
    for (int i = 0; i < count; ++i) {
        run.at[i] = {x, x_stride, reinterpret_cast<const uint8_t*>(factors[i].weight), matrix.bits,
                     matrix.group, matrix.symmetric, matrix.floats, matrix.input_bits,
                     reinterpret_cast<const void*>(factors[i].bias), a.bias_dtype, factors[i].out,
                     n, m, n, k, false, a.threads};
    }
    a.operations->packed_linear(run);
}

void multiply(const ExpertArgs& a, const ExpertMatrix& matrix, const float* x, int64_t x_stride,
              int64_t m, int64_t n, int64_t k, const Factor* factors, int count) {
    const auto with = matrix.bits ? multiply_packed : multiply_plain;
    with(a, matrix, x, x_stride, m, n, k, factors, count);
}

// Gates up to the limit, made steeper; what they are multiplied with within it, plus one.
// x * sigmoid(slope x) is silu(slope x) / slope.
void cut_off(const ExpertArgs& a, float* gate, float* up, int64_t m) {
    for (int64_t i = 0; i < m * a.inner; ++i) {
        gate[i] = (gate[i] > a.limit ? a.limit : gate[i]) * a.slope;
        const float low = up[i] < -a.limit ? -a.limit : up[i];
        up[i] = ((low > a.limit ? a.limit : low) + 1.0f) / a.slope;
    }
}

// The inputs of some rows one behind the other; those of one row stay where they are.
const float* inputs(const ExpertArgs& a, const Use* uses, int64_t m, float* x) {
    if (m == 1) return a.x + uses[0].row * a.x_stride;
    each_of(m, a.threads, [&](int64_t i) {
        std::copy_n(a.x + uses[i].row * a.x_stride, a.width, x + i * a.width);
    });
    return x;
}

// One expert on at most `most_rows` rows.
void add_expert(const ExpertArgs& a, const int64_t* weights, const Use* uses, int64_t m) {
    const auto [gathered, gate, up, added] = places(a);
    const float* x = inputs(a, uses, m, gathered);
    const Factor wide[] = {{weights[kGate], weights[kGateBias], gate},
                           {weights[kUp], weights[kUpBias], up}};
    multiply(a, a.wide, x, a.width, m, a.inner, a.width, wide, 2);
    if (std::isfinite(a.limit)) cut_off(a, gate, up, m);
    const auto activate = a.gelu ? a.operations->gelu_tanh_mul : a.operations->silu_mul;
    activate({gate, a.inner, up, a.inner, gate, a.inner, m, a.inner, a.threads});
    const Factor narrow{weights[kDown], weights[kDownBias], added};
    multiply(a, a.narrow, gate, a.inner, m, a.width, a.inner, &narrow, 1);
    each_of(m, a.threads, [&](int64_t i) {
        float* out = a.out + uses[i].row * a.out_stride;
        for (int64_t j = 0; j < a.width; ++j) out[j] += added[i * a.width + j] * uses[i].scale;
    });
}

}  // namespace

void add_experts(const ExpertArgs& a) {
    std::vector<Use> uses;
    for (int64_t expert = a.first; expert < a.last; ++expert) {
        find_uses(a, expert, uses);
        const int64_t count = static_cast<int64_t>(uses.size());
        *a.count += count > 0;
        for (int64_t at = 0; at < count; at += a.most_rows) {
            const int64_t m = std::min(a.most_rows, count - at);
            add_expert(a, a.table + expert * kExpertAddresses, uses.data() + at, m);
        }
    }
}

}  // namespace lmo
