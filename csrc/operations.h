// The operations and their arguments; one table of them per instruction set.
//
// Strides count elements, the last dimension is contiguous.
#pragma once

#include <cstdint>

#include "recurrent_args.h"
#include "types.h"

namespace lmo {

// out[m, n] (+)= x[m, k] @ weight[n, k].T (+ bias[n])
struct LinearArgs {
    const float* x;
    int64_t x_stride;
    const void* weight;
    int64_t weight_stride;
    Dtype weight_dtype;
    const void* bias;  // may be null
    Dtype bias_dtype;
    float* out;
    int64_t out_stride;
    int64_t m, n, k;
    bool accumulate;
    int threads;
};

// The same with weights packed as src/lm_offload/quant/packing.py says.
struct PackedArgs {
    const float* x;
    int64_t x_stride;
    const uint8_t* weight;
    int bits;          // of a code: 4 or 8
    int64_t group;     // columns that share a scale
    bool symmetric;    // without minimums
    bool floats;       // codes are floats: e4m3 with 8 bits, e2m1 with 4
    int input_bits;    // that x is rounded to: 16, or 8 where that was asked for; 32: not at all
    const void* bias;  // may be null
    Dtype bias_dtype;
    float* out;
    int64_t out_stride;
    int64_t m, n, k;
    bool accumulate;
    int threads;
};

// Products that have x, m, k, threads and, where packed, the format in common.
constexpr int kMostProducts = 4;  // queries, keys and values; gate and up

template <class Args>
struct Products {
    Args at[kMostProducts];
    int count;  // at least one

    const Args& first() const { return at[0]; }
};

using LinearRun = Products<LinearArgs>;
using PackedRun = Products<PackedArgs>;

// out[rows, width] = normalised x[rows, width] * (weight + weight_offset) (+ bias)
struct NormArgs {
    const float* x;
    int64_t x_stride;
    const void* weight;
    Dtype weight_dtype;
    float weight_offset;
    const void* bias;  // layer_norm only
    Dtype bias_dtype;
    float eps;
    float* out;
    int64_t out_stride;
    int64_t rows, width;
    int threads;
};

// x[rows, heads, >= 2 * half] in place; cos, sin [rows, half]
struct RotaryArgs {
    float* x;
    int64_t row_stride, head_stride;
    const float* cos;
    int64_t cos_stride;
    const float* sin;
    int64_t sin_stride;
    int64_t rows, heads, half;
    int threads;
};

// A paged cache, blocks of 16 tokens: keys [blocks, kv_heads, head_dim, 16], values [blocks,
// kv_heads, 16, head_dim]; a quantized one is laid out as quant/kv_blocks.py says. The strides of
// blocks and heads count bytes.
struct Cache {
    void* keys;
    void* values;
    Dtype dtype;
    int bits;  // of a code, 8 or 4; 0 where the cache holds elements of `dtype`
    int64_t block_stride, head_stride;
    int64_t kv_heads, head_dim;
};

constexpr int64_t kBlockTokens = 16;

// k, v [rows, kv_heads, head_dim] into the cache at slots[rows]
struct StoreArgs {
    const float* k;
    int64_t k_stride, k_head_stride;
    const float* v;
    int64_t v_stride, v_head_stride;
    Cache cache;
    const int64_t* slots;
    int64_t rows;
    int threads;
};

// x[rows, width] *= factor, one number among the weights
struct ScaleArgs {
    float* x;
    int64_t x_stride;
    const void* factor;
    Dtype dtype;
    int64_t rows, width;
    int threads;
};

// out[rows, width] = f(gate) * up, or gate + up
struct GateArgs {
    const float* gate;
    int64_t gate_stride;
    const float* up;
    int64_t up_stride;
    float* out;
    int64_t out_stride;
    int64_t rows, width;
    int threads;
};

// Causal attention of q[rows, heads, head_dim] over the cache; see kernels/base.py.
struct AttentionArgs {
    const float* q;
    int64_t q_stride, q_head_stride;
    Cache cache;
    const int32_t* query_starts;  // [sequences + 1]
    const int32_t* context_lens;  // [sequences]
    const int32_t* block_tables;  // [sequences, table_stride]
    int64_t table_stride, sequences, heads;
    float scale;
    int64_t window;  // positions a row sees, itself included
    float softcap;   // 0: none
    const void* sinks;  // [heads] scores of nothing, which only the sum of weights has; may be null
    Dtype sinks_dtype;
    float* out;
    int64_t out_stride, out_head_stride;
    int threads;
};

// Weights [rows, columns] into packed ones, see src/lm_offload/quant/quantize.py.
struct QuantizeArgs {
    const void* x;
    Dtype dtype;
    int64_t x_stride;
    int bits;
    int64_t group;
    bool symmetric;
    bool floats;  // codes are e4m3 floats
    uint8_t* out;
    int64_t rows, columns;
    int threads;
};

struct Operations {
    const char* name;
    void (*linear)(const LinearRun&);
    void (*packed_linear)(const PackedRun&);
    void (*rms_norm)(const NormArgs&);
    void (*layer_norm)(const NormArgs&);
    void (*rotary)(const RotaryArgs&);
    void (*store_kv)(const StoreArgs&);
    void (*attention)(const AttentionArgs&);
    void (*silu_mul)(const GateArgs&);
    void (*gelu_tanh_mul)(const GateArgs&);
    void (*sigmoid_mul)(const GateArgs&);
    void (*relu)(const GateArgs&);
    void (*multiply)(const GateArgs&);
    void (*add)(const GateArgs&);
    void (*scale)(const ScaleArgs&);
    void (*bare_norm)(const NormArgs&);
    void (*causal_convolution)(const ConvolutionArgs&);
    void (*plain_convolution)(const ConvolutionArgs&);
    void (*gated_delta)(const DeltaArgs&);
    void (*selective_scan)(const ScanArgs&);
    bool (*quantize)(const QuantizeArgs&);  // whether weights and scales are finite
    void (*read)(const float* data, int64_t count, int threads);
    // Bytes that `linear` keeps for its threads after a product of these sizes.
    int64_t (*linear_scratch_bytes)(int64_t m, int64_t n, int64_t k, int threads);
    bool rounds_inputs = false;  // of products with bf16 and fp8 weights, to bf16
};

const Operations& generic_operations();
const Operations& avx2_operations();  // this and the next ones only on x86
const Operations& avx512_operations();
const Operations& avx512_vnni_operations();
const Operations& avx512_bf16_operations();
const Operations& amx_operations();  // only where amx_access.h defines LMO_AMX

}  // namespace lmo
