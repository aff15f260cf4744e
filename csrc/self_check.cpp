#include "self_check.h"

#include "packed_inputs.h"
#include "self_check_parts.h"

namespace lmo {
namespace {

// Products with bf16 weights: whole and partial tiles, and columns that fill no vector. Inputs are
// bf16 numbers, as some tables round them.
bool linear_agrees(const Operations& operations, const Operations& reference, int64_t m) {
    constexpr int64_t n = 11, k = 53;
    Noise noise;
    const std::vector<float> x = noise.floats(m * k, 128);
    const std::vector<uint16_t> weight = noise.halves(n * k, 0x3E00, 0x81FF);
    const auto product = [&](const Operations& ops) {
        std::vector<float> out(m * n);
        ops.linear({{{x.data(), k, weight.data(), k, Dtype::bf16, nullptr, Dtype::f32, out.data(),
                      n, m, n, k, false, 1}},
                    1});
        return out;
    };
    return close(product(operations), product(reference), 1e-4f);
}

// The 15 tiles of these outputs are computed by 8, 4, 2 and 1.
constexpr int64_t kOutputs = 117, kColumns = 64, kTiles = 15, kTileOutputs = 8;

std::vector<float> packed_product(const Operations& ops, const std::vector<float>& x,
                                  const std::vector<uint16_t>& weight, int bits, int64_t group,
                                  bool symmetric, bool floats, int input_bits) {
    const int64_t m = static_cast<int64_t>(x.size()) / kColumns;
    std::vector<float> out(m * kOutputs);
    ops.packed_linear({{{x.data(), kColumns, reinterpret_cast<const uint8_t*>(weight.data()), bits,
                         group, symmetric, floats, input_bits, nullptr, Dtype::f32, out.data(),
                         kOutputs, m, kOutputs, kColumns, false, 1}},
                       1});
    return out;
}

// Products with weights of whole codes, which have the same bits everywhere.
bool packed_agrees(const Operations& operations, const Operations& reference, int64_t m,
                   int64_t group, int bits, bool symmetric, int input_bits) {
    Noise noise;
    std::vector<uint16_t> weight;
    for (int64_t i = 0; i < kTiles * kColumns / group; ++i) {
        const auto factors = noise.halves((symmetric ? 1 : 2) * kTileOutputs, 0x2C00, 0x83FF);
        const auto codes = noise.halves(group * kTileOutputs * bits / 16, 0, 0xFFFF);
        weight.insert(weight.end(), factors.begin(), factors.end());
        weight.insert(weight.end(), codes.begin(), codes.end());
    }
    const std::vector<float> x = noise.floats(m * kColumns);
    const auto a = packed_product(operations, x, weight, bits, group, symmetric, false, input_bits);
    const auto b = packed_product(reference, x, weight, bits, group, symmetric, false, input_bits);
    return same_bits(a, b);
}

// The same with weights of e2m1 floats and powers of two, from 2^-7 to 2^0.
bool float4_agrees(const Operations& operations, const Operations& reference, int64_t m) {
    Noise noise;
    std::vector<uint16_t> weight;
    for (int64_t i = 0; i < kTiles * kColumns / kHalfColumns; ++i) {
        const auto powers = noise.halves(kTileOutputs / 2, 0x7878, 0x0707);
        const auto codes = noise.halves(kHalfColumns * kTileOutputs / 4, 0, 0xFFFF);
        weight.insert(weight.end(), powers.begin(), powers.end());
        weight.insert(weight.end(), codes.begin(), codes.end());
    }
    const std::vector<float> x = noise.floats(m * kColumns);
    return same_bits(packed_product(operations, x, weight, 4, kHalfColumns, true, true, 16),
                     packed_product(reference, x, weight, 4, kHalfColumns, true, true, 16));
}

// Products with weights of e4m3 floats, of which none is NaN; inputs are bf16 numbers, as above.
bool float8_agrees(const Operations& operations, const Operations& reference, int64_t m,
                   int64_t group) {
    Noise noise;
    std::vector<uint16_t> weight;
    for (int64_t i = 0; i < kTiles * kColumns / group; ++i) {
        for (int64_t lane = 0; lane < kTileOutputs; ++lane) {  // float32 from 2^-4 to 2^-3
            weight.push_back(static_cast<uint16_t>(noise.bits()));
            weight.push_back(static_cast<uint16_t>(0x3D80 | (noise.bits() & 0x7F)));
        }
        const auto codes = noise.halves(group * kTileOutputs / 2, 0, 0xBFBF);
        weight.insert(weight.end(), codes.begin(), codes.end());
    }
    const std::vector<float> x = noise.floats(m * kColumns, 128);
    return close(packed_product(operations, x, weight, 8, group, true, true, 32),
                 packed_product(reference, x, weight, 8, group, true, true, 32), 1e-4f);
}

// Attention of two heads over 20 tokens of a cache of bf16 (`bits` 0) or of codes.
bool attention_agrees(const Operations& operations, const Operations& reference, int bits) {
    constexpr int64_t tokens = 20, heads = 2, dim = 24, block_bytes = 2048;
    Noise noise;
    const std::vector<float> q = noise.floats(tokens * heads * dim);
    const std::vector<float> k = noise.floats(tokens * dim), v = noise.floats(tokens * dim);
    const int32_t starts[] = {0, tokens}, table[] = {0, 1};
    constexpr float sinks[] = {-1.0f, 2.0f};
    int64_t slots[tokens];
    for (int64_t i = 0; i < tokens; ++i) slots[i] = i;
    const auto attend = [&](const Operations& ops) {
        std::vector<uint8_t> memory(4 * block_bytes);  // keys of two blocks, then values
        uint8_t* keys = memory.data();
        const Cache cache{keys, keys + 2 * block_bytes, Dtype::bf16, bits, block_bytes, block_bytes,
                          1, dim};
        std::vector<float> out(q.size());
        ops.store_kv({k.data(), dim, dim, v.data(), dim, dim, cache, slots, tokens, 1});
        ops.attention({q.data(), heads * dim, dim, cache, starts, starts + 1, table, 2, 1, heads,
                       0.2f, INT64_MAX, 0.0f, sinks, Dtype::f32, out.data(), heads * dim, dim, 1});
        return out;
    };
    return close(attend(operations), attend(reference), bits ? 0.05f : 1e-3f);
}

}  // namespace

bool agrees(const Operations& operations, const Operations& reference) {
    if (&operations == &reference) return true;
    constexpr int64_t shapes[][2] = {{1, 32}, {3, 32}, {9, 64}, {20, 32}, {20, 64}};
    for (const auto& [m, group] : shapes) {
        if (!float8_agrees(operations, reference, m, group)) return false;
        if (!float4_agrees(operations, reference, m)) return false;
        for (const int input_bits : {16, 8}) {
            if (!packed_agrees(operations, reference, m, group, 8, true, input_bits) ||
                !packed_agrees(operations, reference, m, group, 4, true, input_bits) ||
                !packed_agrees(operations, reference, m, group, 4, false, input_bits)) {
                return false;
            }
        }
    }
    return linear_agrees(operations, reference, 9) && linear_agrees(operations, reference, 50) &&
           attention_agrees(operations, reference, 0) &&
           attention_agrees(operations, reference, 8) &&
           attention_agrees(operations, reference, 4) && recurrence_agrees(operations, reference) &&
           rounding_agrees(operations, reference);
}

}  // namespace lmo
