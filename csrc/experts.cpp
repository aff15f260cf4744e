// What experts add to the rows that use them, through the operations of a table.
#include "experts.h"

#include <algorithm>
#include <cmath>

#include "few_rows.h"

namespace lmo {
namespace {

// Where what is between the products lies, and who uses an expert, for at most so many rows.
struct Between {
    float *x, *gate, *up, *added;
    int64_t* uses;
};

Between places(const ExpertArgs& a) {
    static_assert(sizeof(int64_t) == kUseFloats * sizeof(float));
    float* x = a.scratch;
    float* gate = x + a.most_rows * a.width;
    float* up = gate + a.most_rows * a.inner;
    float* added = up + a.most_rows * a.inner;
    return {x, gate, up, added, reinterpret_cast<int64_t*>(added + a.most_rows * a.width)};
}

// Some places among the choices where an expert is, from `at` on, which moves behind them.
int64_t find_uses(const ExpertArgs& a, int64_t expert, int64_t& at, int64_t* uses) {
    int64_t count = 0;
    for (; at < a.rows * a.used && count < a.most_rows; ++at) {
        if (a.chosen[at] == expert) uses[count++] = at;
    }
    return count;
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
const float* inputs(const ExpertArgs& a, const int64_t* uses, int64_t m, float* x) {
    if (m == 1 && !a.scales_inputs) return a.x + uses[0] / a.used * a.x_stride;
    each_of(m, a.threads, [&](int64_t i) {
        const float* row = a.x + uses[i] / a.used * a.x_stride;
        const float scale = a.scales_inputs ? a.scales[uses[i]] : 1.0f;
        for (int64_t j = 0; j < a.width; ++j) x[i * a.width + j] = row[j] * scale;
    });
    return x;
}

// activation(gate) * up [m, inner] of x.
const float* gated(const ExpertArgs& a, const int64_t* weights, const float* x, int64_t m,
                   const Between& at) {
    const Factor wide[] = {{weights[kGate], weights[kGateBias], at.gate},
                           {weights[kUp], weights[kUpBias], at.up}};
    multiply(a, a.wide, x, a.width, m, a.inner, a.width, wide, 2);
    if (std::isfinite(a.limit)) cut_off(a, at.gate, at.up, m);
    const auto activate = a.activation == Activation::silu ? a.operations->silu_mul
                                                           : a.operations->gelu_tanh_mul;
    activate({at.gate, a.inner, at.up, a.inner, at.gate, a.inner, m, a.inner, a.threads});
    return at.gate;
}

// The squares of what is above zero of up [m, inner] of x.
const float* squared(const ExpertArgs& a, const int64_t* weights, const float* x, int64_t m,
                     const Between& at) {
    const Factor wide{weights[kUp], weights[kUpBias], at.up};
    multiply(a, a.wide, x, a.width, m, a.inner, a.width, &wide, 1);
    const GateArgs same{at.up, a.inner, at.up, a.inner, at.up, a.inner, m, a.inner, a.threads};
    a.operations->relu(same);
    a.operations->multiply(same);
    return at.up;
}

// One expert on at most `most_rows` rows.
void add_expert(const ExpertArgs& a, const int64_t* weights, int64_t m, const Between& at) {
    const float* x = inputs(a, at.uses, m, at.x);
    const auto inner_of = a.activation == Activation::relu2 ? squared : gated;
    const float* inner = inner_of(a, weights, x, m, at);
    const Factor narrow{weights[kDown], weights[kDownBias], at.added};
    multiply(a, a.narrow, inner, a.inner, m, a.width, a.inner, &narrow, 1);
    each_of(m, a.threads, [&](int64_t i) {
        float* out = a.out + at.uses[i] / a.used * a.out_stride;
        const float scale = a.scales_inputs ? 1.0f : a.scales[at.uses[i]];
        for (int64_t j = 0; j < a.width; ++j) out[j] += at.added[i * a.width + j] * scale;
    });
}

}  // namespace

void add_experts(const ExpertArgs& a) {
    const Between between = places(a);
    for (int64_t expert = a.first; expert < a.last; ++expert) {
        int64_t at = 0, m = find_uses(a, expert, at, between.uses);
        *a.count += m > 0;
        for (; m > 0; m = find_uses(a, expert, at, between.uses)) {
            add_expert(a, a.table + expert * kExpertAddresses, m, between);
        }
    }
}

}  // namespace lmo
