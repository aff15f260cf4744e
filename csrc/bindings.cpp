// The Python module lm_offload.kernels._native: operations on addresses, without the GIL.
//
// native_kernels.py checks every argument before it calls; nothing is checked here.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "bindings_rows.h"
#include "bindings_states.h"
#include "cpu_features.h"
#include "experts.h"
#include "packed_inputs.h"
#include "self_check.h"
#include "thread_pool.h"

namespace nb = nanobind;
using namespace lmo;
using namespace lmo::bindings;

namespace {

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
