#include "self_check_parts.h"

namespace lmo {

// Two sequences of a recurrent layer, one of which goes on: five rows and three, two heads by key.
bool recurrence_agrees(const Operations& operations, const Operations& reference) {
    constexpr int64_t rows = 8, key_heads = 1, heads = 2, key_dim = 24, value_dim = 40, taps = 4;
    constexpr int64_t width = 2 * key_heads * key_dim + heads * value_dim;
    constexpr int64_t slot = heads * key_dim * value_dim;
    const int32_t starts[] = {0, 5, 8}, lengths[] = {5, 10}, slots[] = {1, 0};
    Noise noise;
    const std::vector<float> x = noise.floats(rows * width), gates = noise.floats(rows * heads);
    const std::vector<float> weight = noise.floats(width * taps), factors = noise.floats(heads);
    const std::vector<float> convolved = noise.floats(2 * (taps - 1) * width);
    const std::vector<float> state = noise.floats(2 * slot), biases = noise.floats(width);
    const auto compute = [&](const Operations& ops) {
        std::vector<float> inputs = convolved, kept = state, mixed(rows * width);
        std::vector<float> plain(rows * width);
        std::vector<float> out(2 * rows * heads * value_dim);
        const SequenceRows sequences{starts, lengths, slots, 2};
        ops.causal_convolution({x.data(), width, width, weight.data(), Dtype::f32, biases.data(),
                                Dtype::f32, inputs.data(), (taps - 1) * width, width, sequences, 1,
                                width, taps, mixed.data(), width, 1});
        ops.plain_convolution({x.data(), width, width, weight.data(), Dtype::f32, biases.data(),
                               Dtype::f32, inputs.data(), (taps - 1) * width, width, sequences, 1,
                               width, taps, plain.data(), width, 1});
        ops.gated_delta({mixed.data(), width, gates.data(), heads, heads, gates.data(), heads,
                         heads, factors.data(), Dtype::f32, factors.data(), Dtype::f32,
                         kept.data(), slot, sequences, key_heads, heads, key_dim, value_dim,
                         out.data(), heads * value_dim, 1});
        ops.selective_scan({mixed.data(), width, gates.data(), heads, factors.data(), Dtype::f32,
                            factors.data(), Dtype::f32, factors.data(), Dtype::f32, 0.1f, 0.9f,
                            kept.data(), slot, sequences, key_heads, heads, key_dim, value_dim,
                            out.data() + rows * heads * value_dim, heads * value_dim, 1});
        for (const auto* more : {&plain, &inputs, &kept}) out.insert(out.end(), more->begin(), more->end());
        return out;
    };
    return close(compute(operations), compute(reference), 1e-3f);
}

// Weights rounded to every kind of code, which have the same bits everywhere; the last tile is not
// full.
bool rounding_agrees(const Operations& operations, const Operations& reference) {
    constexpr int64_t rows = 11, columns = 128, group = 64, most_bytes = 16 * (columns + 16);
    Noise noise;
    const std::vector<float> x = noise.floats(rows * columns);
    const auto same = [&](int bits, bool symmetric, bool floats) {
        std::vector<uint8_t> found(most_bytes), wanted(most_bytes);
        for (const auto& [ops, out] : {std::pair(&operations, &found), {&reference, &wanted}}) {
            ops->quantize({x.data(), Dtype::f32, columns, bits, group, symmetric, floats,
                           out->data(), rows, columns, 1});
        }
        return found == wanted;
    };
    return same(8, true, false) && same(4, true, false) && same(4, false, false) &&
           same(8, true, true);
}

}  // namespace lmo
