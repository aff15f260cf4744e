// The Python module lm_offload.kernels._native: operations on addresses, without the GIL.
//
// native_kernels.py checks every argument before it calls; nothing is checked here.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "cpu_features.h"
#include "experts.h"
#include "operations.h"
#include "packed_inputs.h"
#include "program.h"
#include "self_check.h"
#include "thread_pool.h"

namespace nb = nanobind;
using namespace lmo;

namespace {

using Address = uintptr_t;

template <class T>
T* at(Address address) {
    return reinterpret_cast<T*>(address);
}

Dtype dtype_of(int code) { return static_cast<Dtype>(code); }

// Carries out an operation of a table; of a program, which also writes it down.
template <class Args>
void run(const Operations& ops, void (*Operations::*operation)(const Args&), const Args& args) {
    (ops.*operation)(args);
}

template <class Args>
void run(Program& program, void (*Operations::*operation)(const Args&), const Args& args) {
    program.run(program.*operation, args);
}

// The same of an operation that no table has.
template <class Args>
void run(const Operations&, void (*operation)(const Args&), const Args& args) {
    operation(args);
}

template <class Args>
void run(Program& program, void (*operation)(const Args&), const Args& args) {
    program.run(operation, args);
}

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

Cache make_cache(Address keys, Address values, int dtype, int bits, int64_t block_stride,
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

// Query starts, context lengths and slots of sequences, and how many there are.
using SequenceList = std::tuple<Address, Address, Address, int64_t>;

SequenceRows rows_of(const SequenceList& list) {
    const auto& [starts, lengths, slots, count] = list;
    return {at<int32_t>(starts), at<int32_t>(lengths), at<int32_t>(slots), count};
}

using ConvolutionMember = void (*Operations::*)(const ConvolutionArgs&);

template <ConvolutionMember Member, class Target>
void convolution(Target& target, Address x, int64_t x_stride, int64_t group_stride, Address weight,
                 int weight_dtype, Address bias, int bias_dtype, Address state,
                 int64_t slot_stride, int64_t tap_stride, const SequenceList& rows, int64_t groups,
                 int64_t channels, int64_t taps, Address out, int64_t out_stride, int threads) {
    run(target, Member,
        ConvolutionArgs{at<float>(x), x_stride, group_stride, at<void>(weight),
                        dtype_of(weight_dtype), at<void>(bias), dtype_of(bias_dtype),
                        at<float>(state), slot_stride, tap_stride, rows_of(rows), groups, channels,
                        taps, at<float>(out), out_stride, threads});
}

using Heads = std::tuple<Address, int64_t, int64_t>;  // address, row stride, head stride
using Vector = std::tuple<Address, int>;              // address and dtype

template <class Target>
void gated_delta(Target& target, Address x, int64_t x_stride, const Heads& rates,
                 const Heads& decays, const Vector& decay_log, const Vector& decay_bias,
                 Address state, int64_t slot_stride, const SequenceList& rows, int64_t key_heads,
                 int64_t heads, int64_t key_dim, int64_t value_dim, Address out,
                 int64_t out_stride, int threads) {
    const auto& [rates_at, rates_stride, rates_group] = rates;
    const auto& [decays_at, decays_stride, decays_group] = decays;
    const auto& [log_at, log_dtype] = decay_log;
    const auto& [bias_at, bias_dtype] = decay_bias;
    run(target, &Operations::gated_delta,
        DeltaArgs{at<float>(x), x_stride, at<float>(rates_at), rates_stride, rates_group,
                  at<float>(decays_at), decays_stride, decays_group, at<void>(log_at),
                  dtype_of(log_dtype), at<void>(bias_at), dtype_of(bias_dtype), at<float>(state),
                  slot_stride, rows_of(rows), key_heads, heads, key_dim, value_dim,
                  at<float>(out), out_stride, threads});
}

template <class Target>
void selective_scan(Target& target, Address x, int64_t x_stride, Address steps,
                    int64_t steps_stride, const Vector& decay_log, const Vector& step_bias,
                    const Vector& skip, float least_step, float most_step, Address state,
                    int64_t slot_stride, const SequenceList& rows, int64_t key_heads,
                    int64_t heads, int64_t key_dim, int64_t value_dim, Address out,
                    int64_t out_stride, int threads) {
    const auto& [log_at, log_dtype] = decay_log;
    const auto& [bias_at, bias_dtype] = step_bias;
    const auto& [skip_at, skip_dtype] = skip;
    run(target, &Operations::selective_scan,
        ScanArgs{at<float>(x), x_stride, at<float>(steps), steps_stride, at<void>(log_at),
                 dtype_of(log_dtype), at<void>(bias_at), dtype_of(bias_dtype), at<void>(skip_at),
                 dtype_of(skip_dtype), least_step, most_step, at<float>(state), slot_stride,
                 rows_of(rows), key_heads, heads, key_dim, value_dim, at<float>(out), out_stride,
                 threads});
}

using Groups = std::tuple<int64_t, int64_t, int64_t>;  // how many, those used, whose best summed

template <class Target>
void choose_experts(Target& target, Address scores, int64_t stride, int64_t rows, int64_t experts,
                    float sharpness, bool sigmoids, const Vector& bias, const Vector& factors,
                    const Groups& groups, int64_t used, bool to_one, float added_to_sum,
                    float scale, Address chosen, Address scales) {
    const auto& [bias_at, bias_dtype] = bias;
    const auto& [factors_at, factors_dtype] = factors;
    const auto& [count, groups_used, summed] = groups;
    run(target, lmo::choose_experts,
        ChoiceArgs{at<float>(scores), stride, rows, experts, sharpness, sigmoids,
                   at<void>(bias_at), dtype_of(bias_dtype), at<void>(factors_at),
                   dtype_of(factors_dtype), count, groups_used, summed, used, to_one,
                   added_to_sum, scale, at<int64_t>(chosen), at<float>(scales)});
}

template <class Target>
void choose_close(Target& target, Address scores, int64_t stride, int64_t rows, int64_t experts,
                  float margin, int64_t used, Address chosen, Address scales) {
    run(target, lmo::choose_close,
        CloseArgs{at<float>(scores), stride, rows, experts, margin, used, at<int64_t>(chosen),
                  at<float>(scales)});
}

// Bits (0 where it is not packed), dtype, row stride, group, symmetry, whether codes are floats,
// bits of inputs.
using Matrix = std::tuple<int, int, int64_t, int64_t, bool, bool, int>;

ExpertMatrix matrix_of(const Matrix& matrix) {
    const auto& [bits, dtype, stride, group, symmetric, floats, input_bits] = matrix;
    return {bits, dtype_of(dtype), stride, group, symmetric, floats, input_bits};
}

using Span = std::tuple<int64_t, int64_t>;
using ExpertChoices = std::tuple<Address, Address, int64_t, int64_t>;  // chosen, scales; rows, used
using ExpertScratch = std::tuple<Address, int64_t>;                    // and rows of a product

template <class Target>
void add_experts(Target& target, Address table, const Span& span, const ExpertChoices& choices,
                 Address x, int64_t x_stride, Address out, int64_t out_stride, int64_t width,
                 int64_t inner, const Matrix& wide, const Matrix& narrow, int bias_dtype,
                 int activation, float limit, float slope, bool scales_inputs,
                 const ExpertScratch& scratch, Address count, int threads) {
    const auto& [first, last] = span;
    const auto& [chosen, scales, rows, used] = choices;
    const auto& [scratch_at, most_rows] = scratch;
    run(target, lmo::add_experts,
        ExpertArgs{&target, at<int64_t>(table), first, last, at<int64_t>(chosen),
                   at<float>(scales), rows, used, at<float>(x), x_stride, at<float>(out),
                   out_stride, width, inner, matrix_of(wide), matrix_of(narrow),
                   dtype_of(bias_dtype), static_cast<Activation>(activation), limit, slope,
                   scales_inputs, at<float>(scratch_at), most_rows, at<int64_t>(count), threads});
}

int64_t linear_scratch_bytes(const Operations& ops, int64_t m, int64_t n, int64_t k, int threads) {
    return ops.linear_scratch_bytes(m, n, k, threads);
}

bool quantize(const Operations& ops, Address x, int dtype, int64_t x_stride, int bits,
              int64_t group, bool symmetric, bool floats, Address out, int64_t rows,
              int64_t columns, int threads) {
    return ops.quantize({at<void>(x), dtype_of(dtype), x_stride, bits, group, symmetric, floats,
                         at<uint8_t>(out), rows, columns, threads});
}

void read_memory(const Operations& ops, Address data, int64_t bytes, int threads) {
    ops.read(at<float>(data), bytes / static_cast<int64_t>(sizeof(float)), threads);
}

// What a table and a program have in common.
template <class Target, class Class>
void define_operations(Class& bound) {
    const nb::call_guard<nb::gil_scoped_release> no_gil;
    bound.def("linear", linear<Target>, no_gil)
        .def("packed_linear", packed_linear<Target>, no_gil)
        .def("rms_norm", rms_norm<Target>, no_gil)
        .def("layer_norm", layer_norm<Target>, no_gil)
        .def("rotary", rotary<Target>, no_gil)
        .def("store_kv", store_kv<Target>, no_gil)
        .def("attention", attention<Target>, no_gil)
        .def("silu_mul", gate<&Operations::silu_mul, Target>, no_gil)
        .def("gelu_tanh_mul", gate<&Operations::gelu_tanh_mul, Target>, no_gil)
        .def("sigmoid_mul", gate<&Operations::sigmoid_mul, Target>, no_gil)
        .def("relu", gate<&Operations::relu, Target>, no_gil)
        .def("multiply", gate<&Operations::multiply, Target>, no_gil)
        .def("add", gate<&Operations::add, Target>, no_gil)
        .def("scale", scale<Target>, no_gil)
        .def("bare_norm", bare_norm<Target>, no_gil)
        .def("causal_convolution", convolution<&Operations::causal_convolution, Target>, no_gil)
        .def("plain_convolution", convolution<&Operations::plain_convolution, Target>, no_gil)
        .def("gated_delta", gated_delta<Target>, no_gil)
        .def("selective_scan", selective_scan<Target>, no_gil)
        .def("choose_experts", choose_experts<Target>, no_gil)
        .def("choose_close", choose_close<Target>, no_gil)
        .def("weigh_rows", gate<lmo::weigh_rows, Target>, no_gil)
        .def("clear_rows", gate<lmo::clear_rows, Target>, no_gil)
        .def("add_experts", add_experts<Target>, no_gil);
}

}  // namespace

NB_MODULE(_native, m) {
    nb::set_leak_warnings(false);  // an engine that lives until exit is no leak
    const nb::call_guard<nb::gil_scoped_release> no_gil;
    const auto forever = nb::rv_policy::reference;  // the tables are static
    nb::class_<Cache>(m, "Cache");
    nb::class_<Operations> table(m, "Operations");
    define_operations<const Operations>(table);
    table.def_prop_ro("name", [](const Operations& ops) { return ops.name; })
        .def_prop_ro("rounds_inputs", [](const Operations& ops) { return ops.rounds_inputs; })
        .def("linear_scratch_bytes", linear_scratch_bytes)
        .def("quantize", quantize, no_gil)
        .def("read", read_memory, no_gil);
    nb::class_<Program, Operations> program(m, "Program");
    define_operations<Program>(program);
    program.def(nb::init<const Operations&>()).def("replay", &Program::replay, no_gil);
    m.attr("MOST_PRODUCTS") = kMostProducts;
    m.attr("MOST_TAPS") = kMostTaps;
    m.attr("MOST_KEY_DIM") = kMostKeyDim;
    m.attr("EXPERT_ADDRESSES") = static_cast<int>(kExpertAddresses);
    m.attr("USE_FLOATS") = kUseFloats;
    m.def("packed_scratch_bytes", packed_scratch_bytes);
    m.def("cache", make_cache);
    m.def("best_operations", best_operations, forever);
    m.def("rejected_operations", rejected_operations);
    m.def("all_operations", all_operations, forever);
    m.def("agrees", agrees);
    m.def("spread_workers", spread_workers);
}
