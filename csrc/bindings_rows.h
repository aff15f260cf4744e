// Products, norms, attention and activations as the Python module calls them.
#pragma once

#include <tuple>
#include <vector>

#include "bindings_run.h"

namespace lmo::bindings {

// Address, row stride (0 where packed), dtype and rows of a weight; address and dtype of its
// bias; address and row stride of the output.
using Product = std::tuple<Address, int64_t, int, int64_t, Address, int, Address, int64_t>;
using ProductList = std::vector<Product>;  // at most kMostProducts

template <class Target>
void linear(Target& target, Address x, int64_t x_stride, int64_t m, int64_t k,
            const ProductList& products, bool accumulate, int threads) {
    LinearRun args{};
    for (const auto& [weight, stride, dtype, n, bias, bias_dtype, out, out_stride] : products) {
        args.at[args.count++] = {at<float>(x), x_stride, at<void>(weight), stride,
                                 dtype_of(dtype), at<void>(bias), dtype_of(bias_dtype),
                                 at<float>(out), out_stride, m, n, k, accumulate, threads};
    }
    run(target, &Operations::linear, args);
}

template <class Target>
void packed_linear(Target& target, Address x, int64_t x_stride, int64_t m, int64_t k, int bits,
                   int64_t group, bool symmetric, bool floats, int input_bits,
                   const ProductList& products, bool accumulate, int threads) {
    PackedRun args{};
    for (const auto& [weight, stride, dtype, n, bias, bias_dtype, out, out_stride] : products) {
        args.at[args.count++] = {at<float>(x), x_stride, at<uint8_t>(weight), bits, group,
                                 symmetric, floats, input_bits, at<void>(bias),
                                 dtype_of(bias_dtype), at<float>(out), out_stride, m, n, k,
                                 accumulate, threads};
    }
    run(target, &Operations::packed_linear, args);
}

template <class Target>
void rms_norm(Target& target, Address x, int64_t x_stride, Address weight, int weight_dtype,
              float weight_offset, float eps, Address out, int64_t out_stride, int64_t rows,
              int64_t width, int threads) {
    run(target, &Operations::rms_norm,
        NormArgs{at<float>(x), x_stride, at<void>(weight), dtype_of(weight_dtype), weight_offset,
                 nullptr, Dtype::f32, eps, at<float>(out), out_stride, rows, width, threads});
}

template <class Target>
void bare_norm(Target& target, Address x, int64_t x_stride, float eps, Address out,
               int64_t out_stride, int64_t rows, int64_t width, int threads) {
    run(target, &Operations::bare_norm,
        NormArgs{at<float>(x), x_stride, nullptr, Dtype::f32, 0.0f, nullptr, Dtype::f32, eps,
                 at<float>(out), out_stride, rows, width, threads});
}

template <class Target>
void layer_norm(Target& target, Address x, int64_t x_stride, Address weight, int weight_dtype,
                Address bias, int bias_dtype, float eps, Address out, int64_t out_stride,
                int64_t rows, int64_t width, int threads) {
    run(target, &Operations::layer_norm,
        NormArgs{at<float>(x), x_stride, at<void>(weight), dtype_of(weight_dtype), 0.0f,
                 at<void>(bias), dtype_of(bias_dtype), eps, at<float>(out), out_stride, rows,
                 width, threads});
}

template <class Target>
void rotary(Target& target, Address x, int64_t row_stride, int64_t head_stride, Address cos,
            int64_t cos_stride, Address sin, int64_t sin_stride, int64_t rows, int64_t heads,
            int64_t half, int threads) {
    run(target, &Operations::rotary,
        RotaryArgs{at<float>(x), row_stride, head_stride, at<float>(cos), cos_stride,
                   at<float>(sin), sin_stride, rows, heads, half, threads});
}

inline Cache make_cache(Address keys, Address values, int dtype, int bits, int64_t block_stride,
                 int64_t head_stride, int64_t kv_heads, int64_t head_dim) {
    return {at<void>(keys), at<void>(values), dtype_of(dtype), bits, block_stride, head_stride,
            kv_heads, head_dim};
}

template <class Target>
void store_kv(Target& target, Address k, int64_t k_stride, int64_t k_head_stride, Address v,
              int64_t v_stride, int64_t v_head_stride, const Cache& cache, Address slots,
              int64_t rows, int threads) {
    run(target, &Operations::store_kv,
        StoreArgs{at<float>(k), k_stride, k_head_stride, at<float>(v), v_stride, v_head_stride,
                  cache, at<int64_t>(slots), rows, threads});
}

template <class Target>
void attention(Target& target, Address q, int64_t q_stride, int64_t q_head_stride,
               const Cache& cache, Address query_starts, Address context_lens,
               Address block_tables, int64_t table_stride, int64_t sequences, int64_t heads,
               float scale, int64_t window, float softcap, Address sinks, int sinks_dtype,
               Address out, int64_t out_stride, int64_t out_head_stride, int threads) {
    run(target, &Operations::attention,
        AttentionArgs{at<float>(q), q_stride, q_head_stride, cache, at<int32_t>(query_starts),
                      at<int32_t>(context_lens), at<int32_t>(block_tables), table_stride,
                      sequences, heads, scale, window, softcap, at<void>(sinks),
                      dtype_of(sinks_dtype), at<float>(out), out_stride, out_head_stride,
                      threads});
}

template <auto Member, class Target>  // of operations, or a function
void gate(Target& target, Address gate, int64_t gate_stride, Address up, int64_t up_stride,
          Address out, int64_t out_stride, int64_t rows, int64_t width, int threads) {
    run(target, Member, GateArgs{at<float>(gate), gate_stride, at<float>(up), up_stride,
                                 at<float>(out), out_stride, rows, width, threads});
}

template <class Target>
void scale(Target& target, Address x, int64_t x_stride, Address factor, int dtype, int64_t rows,
           int64_t width, int threads) {
    run(target, &Operations::scale,
        ScaleArgs{at<float>(x), x_stride, at<void>(factor), dtype_of(dtype), rows, width, threads});
}

}  // namespace lmo::bindings
