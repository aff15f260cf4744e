// Operations on rows: norms, rotary embedding, writing the KV cache, gates.
#pragma once

#include <algorithm>

#include "kv_store.h"
#include "operations.h"
#include "thread_pool.h"

namespace lmo {
namespace LMO_ISA {

constexpr int64_t kRowsChunkElements = 16 << 10;  // less is not worth another thread

// Calls body(row) for every row, several rows of `width` elements to a chunk.
template <class Body>
void each_row(int64_t rows, int64_t width, int threads, const Body& body) {
    const int64_t step = std::max<int64_t>(1, kRowsChunkElements / std::max<int64_t>(1, width));
    parallel_for((rows + step - 1) / step, threads, [&](int64_t chunk) {
        const int64_t end = std::min(rows, (chunk + 1) * step);
        for (int64_t row = chunk * step; row < end; ++row) body(row);
    });
}

// Sum of term(x) over a row, in four chains of vectors.
template <class Term>
inline float row_sum(const float* x, int64_t width, const Term& term) {
    Vec chains[4] = {zero(), zero(), zero(), zero()};
    int64_t next = 0;
    each_vector(width, [&](int64_t i, auto span) {
        Vec& chain = chains[next++ & 3];
        chain = chain + term(load(x + i, span), span);
    });
    return sum((chains[0] + chains[2]) + (chains[1] + chains[3]));
}

inline void rms_norm(const NormArgs& a) {
    with_type(a.weight_dtype, [&](auto* type) {
        const auto* weight = static_cast<decltype(type)>(a.weight);
        each_row(a.rows, a.width, a.threads, [&](int64_t row) {
            const float* x = a.x + row * a.x_stride;
            float* out = a.out + row * a.out_stride;
            const float squares = row_sum(x, a.width, [](Vec v, auto) { return v * v; });
            const float mean = squares / static_cast<float>(a.width);
            const Vec factor = splat(1.0f / std::sqrt(mean + a.eps));
            const Vec offset = splat(a.weight_offset);
            each_vector(a.width, [&](int64_t i, auto span) {
                const Vec scale = load(weight + i, span) + offset;
                store(out + i, load(x + i, span) * factor * scale, span);
            });
        });
    });
}

inline void bare_norm(const NormArgs& a) {
    each_row(a.rows, a.width, a.threads, [&](int64_t row) {
        const float* x = a.x + row * a.x_stride;
        float* out = a.out + row * a.out_stride;
        const float squares = row_sum(x, a.width, [](Vec v, auto) { return v * v; });
        const float mean = squares / static_cast<float>(a.width);
        const Vec factor = splat(1.0f / std::sqrt(mean + a.eps));
        each_vector(a.width, [&](int64_t i, auto span) {
            store(out + i, load(x + i, span) * factor, span);
        });
    });
}

template <class W, class B>
void layer_norm_typed(const NormArgs& a, const W* weight, const B* bias) {
    each_row(a.rows, a.width, a.threads, [&](int64_t row) {
        const float* x = a.x + row * a.x_stride;
        float* out = a.out + row * a.out_stride;
        const float width = static_cast<float>(a.width);
        const Vec mean = splat(row_sum(x, a.width, [](Vec v, auto) { return v; }) / width);
        const float squares = row_sum(x, a.width, [&](Vec v, auto span) {
            const Vec distance = v - first_lanes(mean, span);
            return distance * distance;
        });
        const Vec factor = splat(1.0f / std::sqrt(squares / width + a.eps));
        each_vector(a.width, [&](int64_t i, auto span) {
            const Vec normal = (load(x + i, span) - mean) * factor;
            store(out + i, fma(normal, load(weight + i, span), load(bias + i, span)), span);
        });
    });
}

inline void layer_norm(const NormArgs& a) {
    with_type(a.weight_dtype, [&](auto* w) {
        with_type(a.bias_dtype, [&](auto* b) {
            layer_norm_typed(a, static_cast<decltype(w)>(a.weight),
                             static_cast<decltype(b)>(a.bias));
        });
    });
}

inline void rotary(const RotaryArgs& a) {
    each_row(a.rows, a.heads * a.half, a.threads, [&](int64_t row) {
        const float* cos = a.cos + row * a.cos_stride;
        const float* sin = a.sin + row * a.sin_stride;
        for (int64_t head = 0; head < a.heads; ++head) {
            float* low = a.x + row * a.row_stride + head * a.head_stride;
            float* high = low + a.half;
            each_vector(a.half, [&](int64_t i, auto span) {
                const Vec c = load(cos + i, span), s = load(sin + i, span);
                const Vec l = load(low + i, span), h = load(high + i, span);
                store(low + i, l * c - h * s, span);
                store(high + i, h * c + l * s, span);
            });
        }
    });
}

// One token of a block: keys go beside the other tokens of each channel, values stay together.
template <class T>
inline void store_token(const StoreArgs& a, int64_t row, int64_t head, float* rounded) {
    const Cache& cache = a.cache;
    const int64_t block = a.slots[row] / kBlockTokens, token = a.slots[row] % kBlockTokens;
    const int64_t at = block * cache.block_stride + head * cache.head_stride;
    T* keys = reinterpret_cast<T*>(static_cast<char*>(cache.keys) + at) + token;
    T* values = reinterpret_cast<T*>(static_cast<char*>(cache.values) + at);
    const float* k = a.k + row * a.k_stride + head * a.k_head_stride;
    const float* v = a.v + row * a.v_stride + head * a.v_head_stride;
    T* key = reinterpret_cast<T*>(rounded);
    each_vector(cache.head_dim, [&](int64_t i, auto span) {
        store(key + i, load(k + i, span), span);
        store(values + token * cache.head_dim + i, load(v + i, span), span);
    });
    for (int64_t i = 0; i < cache.head_dim; ++i) keys[i * kBlockTokens] = key[i];
}

inline void store_kv(const StoreArgs& a) {
    const Cache& cache = a.cache;
    if (cache.bits) return cache.bits == 8 ? store_rounded<8>(a) : store_rounded<4>(a);
    with_type(cache.dtype, [&](auto* type) {
        using T = std::remove_const_t<std::remove_pointer_t<decltype(type)>>;
        each_row(a.rows, 2 * cache.kv_heads * cache.head_dim, a.threads, [&](int64_t row) {
            float* rounded = scratch(Scratch::chunk, cache.head_dim);
            for (int64_t head = 0; head < cache.kv_heads; ++head) {
                store_token<T>(a, row, head, rounded);
            }
        });
    });
}

template <class Gate>
void gate_mul(const GateArgs& a, const Gate& gate) {
    each_row(a.rows, a.width, a.threads, [&](int64_t row) {
        const float* g = a.gate + row * a.gate_stride;
        const float* up = a.up + row * a.up_stride;
        float* out = a.out + row * a.out_stride;
        each_vector(a.width, [&](int64_t i, auto span) {
            store(out + i, gate(load(g + i, span)) * load(up + i, span), span);
        });
    });
}

// x * sigmoid(y)
inline Vec sigmoid_gate(Vec x, Vec y) { return x / (splat(1.0f) + exp(zero() - y)); }

inline void silu_mul(const GateArgs& a) {
    gate_mul(a, [](Vec x) { return sigmoid_gate(x, x); });
}

// x / 2 * (1 + tanh(u)) is x * sigmoid(2 u), with u = sqrt(2 / pi) * (x + 0.044715 x^3).
inline void gelu_tanh_mul(const GateArgs& a) {
    gate_mul(a, [](Vec x) {
        const Vec inner = fma(x * x, splat(0.0713548163f), splat(1.5957691216f));
        return sigmoid_gate(x, x * inner);
    });
}

inline void multiply(const GateArgs& a) {
    gate_mul(a, [](Vec x) { return x; });
}

inline void add(const GateArgs& a) {
    each_row(a.rows, a.width, a.threads, [&](int64_t row) {
        const float* x = a.gate + row * a.gate_stride;
        const float* y = a.up + row * a.up_stride;
        float* out = a.out + row * a.out_stride;
        each_vector(a.width, [&](int64_t i, auto span) {
            store(out + i, load(x + i, span) + load(y + i, span), span);
        });
    });
}

inline void scale(const ScaleArgs& a) {
    float factor[1];
    with_type(a.dtype, [&](auto* type) {
        const auto* given = static_cast<decltype(type)>(a.factor);
        each_vector(1, [&](int64_t i, auto span) { store(factor + i, load(given + i, span), span); });
    });
    const Vec by = splat(factor[0]);
    each_row(a.rows, a.width, a.threads, [&](int64_t row) {
        float* x = a.x + row * a.x_stride;
        each_vector(a.width, [&](int64_t i, auto span) {
            store(x + i, load(x + i, span) * by, span);
        });
    });
}

inline void sigmoid_mul(const GateArgs& a) {
    each_row(a.rows, a.width, a.threads, [&](int64_t row) {
        const float* gate = a.gate + row * a.gate_stride;
        const float* up = a.up + row * a.up_stride;
        each_vector(a.width, [&](int64_t i, auto span) {
            const Vec passed = sigmoid_gate(load(up + i, span), load(gate + i, span));
            store(a.out + row * a.out_stride + i, passed, span);
        });
    });
}

inline void relu(const GateArgs& a) {
    each_row(a.rows, a.width, a.threads, [&](int64_t row) {
        float* x = a.out + row * a.out_stride;
        each_vector(a.width, [&](int64_t i, auto span) {
            store(x + i, max(zero(), load(x + i, span)), span);
        });
    });
}

}  // namespace LMO_ISA
}  // namespace lmo
