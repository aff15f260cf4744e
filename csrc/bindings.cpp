// The Python module lm_offload.kernels._native: operations on addresses, without the GIL.
//
// native_kernels.py checks every argument before it calls; nothing is checked here.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "cpu_features.h"
#include "operations.h"
#include "packed_inputs.h"
#include "self_check.h"

namespace nb = nanobind;
using namespace lmo;

namespace {

using Address = uintptr_t;

template <class T>
T* at(Address address) {
    return reinterpret_cast<T*>(address);
}

Dtype dtype_of(int code) { return static_cast<Dtype>(code); }

void linear(const Operations& ops, Address x, int64_t x_stride, Address weight,
            int64_t weight_stride, int weight_dtype, Address bias, int bias_dtype, Address out,
            int64_t out_stride, int64_t m, int64_t n, int64_t k, bool accumulate, int threads) {
    ops.linear({at<float>(x), x_stride, at<void>(weight), weight_stride, dtype_of(weight_dtype),
                at<void>(bias), dtype_of(bias_dtype), at<float>(out), out_stride, m, n, k,
                accumulate, threads});
}

void packed_linear(const Operations& ops, Address x, int64_t x_stride, Address weight, int bits,
                   int64_t group, bool symmetric, Address bias, int bias_dtype, Address out,
                   int64_t out_stride, int64_t m, int64_t n, int64_t k, bool accumulate,
                   int threads) {
    ops.packed_linear({at<float>(x), x_stride, at<uint8_t>(weight), bits, group, symmetric,
                       at<void>(bias), dtype_of(bias_dtype), at<float>(out), out_stride, m, n, k,
                       accumulate, threads});
}

void rms_norm(const Operations& ops, Address x, int64_t x_stride, Address weight, int weight_dtype,
              float weight_offset, float eps, Address out, int64_t out_stride, int64_t rows,
              int64_t width, int threads) {
    ops.rms_norm({at<float>(x), x_stride, at<void>(weight), dtype_of(weight_dtype), weight_offset,
                  nullptr, Dtype::f32, eps, at<float>(out), out_stride, rows, width, threads});
}

void layer_norm(const Operations& ops, Address x, int64_t x_stride, Address weight,
                int weight_dtype, Address bias, int bias_dtype, float eps, Address out,
                int64_t out_stride, int64_t rows, int64_t width, int threads) {
    ops.layer_norm({at<float>(x), x_stride, at<void>(weight), dtype_of(weight_dtype), 0.0f,
                    at<void>(bias), dtype_of(bias_dtype), eps, at<float>(out), out_stride, rows,
                    width, threads});
}

void rotary(const Operations& ops, Address x, int64_t row_stride, int64_t head_stride, Address cos,
            int64_t cos_stride, Address sin, int64_t sin_stride, int64_t rows, int64_t heads,
            int64_t half, int threads) {
    ops.rotary({at<float>(x), row_stride, head_stride, at<float>(cos), cos_stride, at<float>(sin),
                sin_stride, rows, heads, half, threads});
}

Cache make_cache(Address keys, Address values, int dtype, int bits, int64_t block_stride,
                 int64_t head_stride, int64_t kv_heads, int64_t head_dim) {
    return {at<void>(keys), at<void>(values), dtype_of(dtype), bits, block_stride, head_stride,
            kv_heads, head_dim};
}

void store_kv(const Operations& ops, Address k, int64_t k_stride, int64_t k_head_stride, Address v,
              int64_t v_stride, int64_t v_head_stride, const Cache& cache, Address slots,
              int64_t rows, int threads) {
    ops.store_kv({at<float>(k), k_stride, k_head_stride, at<float>(v), v_stride, v_head_stride,
                  cache, at<int64_t>(slots), rows, threads});
}

void attention(const Operations& ops, Address q, int64_t q_stride, int64_t q_head_stride,
               const Cache& cache, Address query_starts, Address context_lens,
               Address block_tables, int64_t table_stride, int64_t sequences, int64_t heads,
               float scale, int64_t window, float softcap, Address out, int64_t out_stride,
               int64_t out_head_stride, int threads) {
    ops.attention({at<float>(q), q_stride, q_head_stride, cache, at<int32_t>(query_starts),
                   at<int32_t>(context_lens), at<int32_t>(block_tables), table_stride, sequences,
                   heads, scale, window, softcap, at<float>(out), out_stride, out_head_stride,
                   threads});
}

using GateMember = void (*Operations::*)(const GateArgs&);

template <GateMember Member>
void gate(const Operations& ops, Address gate, int64_t gate_stride, Address up, int64_t up_stride,
          Address out, int64_t out_stride, int64_t rows, int64_t width, int threads) {
    (ops.*Member)({at<float>(gate), gate_stride, at<float>(up), up_stride, at<float>(out),
                   out_stride, rows, width, threads});
}

void read_memory(const Operations& ops, Address data, int64_t bytes, int threads) {
    ops.read(at<float>(data), bytes / static_cast<int64_t>(sizeof(float)), threads);
}

}  // namespace

NB_MODULE(_native, m) {
    nb::set_leak_warnings(false);  // an engine that lives until exit is no leak
    const nb::call_guard<nb::gil_scoped_release> no_gil;
    const auto forever = nb::rv_policy::reference;  // the tables are static
    nb::class_<Cache>(m, "Cache");
    nb::class_<Operations>(m, "Operations")
        .def_prop_ro("name", [](const Operations& ops) { return ops.name; })
        .def("linear", linear, no_gil)
        .def("packed_linear", packed_linear, no_gil)
        .def("rms_norm", rms_norm, no_gil)
        .def("layer_norm", layer_norm, no_gil)
        .def("rotary", rotary, no_gil)
        .def("store_kv", store_kv, no_gil)
        .def("attention", attention, no_gil)
        .def("silu_mul", gate<&Operations::silu_mul>, no_gil)
        .def("gelu_tanh_mul", gate<&Operations::gelu_tanh_mul>, no_gil)
        .def("relu", gate<&Operations::relu>, no_gil)
        .def("read", read_memory, no_gil);
    m.def("packed_scratch_bytes", packed_scratch_bytes);
    m.def("cache", make_cache);
    m.def("best_operations", best_operations, forever);
    m.def("rejected_operations", rejected_operations);
    m.def("all_operations", all_operations, forever);
    m.def("agrees", agrees);
}
