"""Foreign folders: their config, their packer, and what reading them is to become."""

from __future__ import annotations

from typing import Any

from tests.foreign.folders import (
    Packer,
    awq,
    awq_section,
    compressed,
    compressed_section,
    float8,
    gptq,
    gptq_section,
)

EXACT, SCALES, AGAIN = "exact", "codes kept", "lossy"
_INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}
_INT8 = {"num_bits": 8, "type": "int", "strategy": "channel"}
_FP8 = {"num_bits": 8, "type": "float"}
_BLOCKS = {"quant_method": "fp8", "weight_block_size": [48, 32]}

# name: (quantization_config, packer, format, loss)
CASES: dict[str, tuple[dict[str, Any], Packer, str, str]] = {
    "gptq": (gptq_section(4, 32), gptq(4, 32, True), "int4:32:sym", EXACT),
    "gptq asymmetric": (
        gptq_section(4, 64, sym=False),
        gptq(4, 64, False),
        "int4:64",
        SCALES,
    ),
    "gptq v2": (
        gptq_section(4, 64, sym=False, format="gptq_v2"),
        gptq(4, 64, False, shift=0),
        "int4:64",
        SCALES,
    ),
    "gptq of whole rows": (gptq_section(4, -1), gptq(4, -1, True), "int4:whole:sym", EXACT),
    "gptq 8 bits": (gptq_section(8, 32), gptq(8, 32, True), "int8:32", EXACT),
    "gptq 8 bits of whole rows": (gptq_section(8, -1), gptq(8, -1, True), "int8:row", EXACT),
    "gptq 8 bits asymmetric": (
        gptq_section(8, 32, sym=False),
        gptq(8, 32, False),
        "int8:64",
        AGAIN,
    ),
    "gptq activation order": (
        gptq_section(4, 32, desc_act=True),
        gptq(4, 32, True, shuffled=True),
        "int8:64",
        AGAIN,
    ),
    "gptq static groups": (
        gptq_section(4, 32, desc_act=True, static_groups=True),
        gptq(4, 32, True),
        "int4:32:sym",
        EXACT,
    ),
    "gptq groups of 16": (gptq_section(4, 16), gptq(4, 16, True), "int8:64", AGAIN),
    "awq": (awq_section(32), awq(32), "int4:32", SCALES),
    "compressed int4": (
        compressed_section("pack-quantized", _INT4),
        compressed(4, 32, True),
        "int4:32:sym",
        EXACT,
    ),
    "compressed int4 asymmetric": (
        compressed_section("pack-quantized", _INT4 | {"symmetric": False}),
        compressed(4, 32, False),
        "int4:32",
        SCALES,
    ),
    "compressed int4 activation order": (
        compressed_section("pack-quantized", _INT4 | {"actorder": "group"}),
        compressed(4, 32, True, shuffled=True),
        "int8:64",
        AGAIN,
    ),
    "compressed int8 packed": (
        compressed_section("pack-quantized", _INT8),
        compressed(8, -1, True),
        "int8:row",
        EXACT,
    ),
    "compressed int8": (
        compressed_section("int-quantized", _INT4, _INT8),
        compressed(8, -1, True, packed=False),
        "int8:row",
        EXACT,
    ),
    "compressed int8 asymmetric": (
        compressed_section("int-quantized", _INT8 | {"symmetric": False}),
        compressed(8, -1, False, packed=False),
        "int8:64",
        AGAIN,
    ),
    "compressed fp8 by channel": (
        compressed_section("float-quantized", _FP8 | {"strategy": "channel"}),
        float8(1, 0, "weight_scale"),
        "fp8:row",
        EXACT,
    ),
    "compressed fp8 by tensor": (
        compressed_section("float-quantized", _FP8 | {"strategy": "tensor"}),
        float8(0, 0, "weight_scale", (1,)),
        "fp8:row",
        EXACT,
    ),
    "compressed fp8 by block": (
        compressed_section(
            "float-quantized", _FP8 | {"strategy": "block", "block_structure": [48, 32]}
        ),
        float8(48, 32, "weight_scale"),
        "fp8:32",
        EXACT,
    ),
    "fp8 by tensor": (
        {"quant_method": "fp8", "weight_block_size": None, "activation_scheme": "static"},
        float8(0, 0, "weight_scale_inv", ()),
        "fp8:row",
        EXACT,
    ),
    "fp8 blocks": (_BLOCKS, float8(48, 32, "weight_scale_inv"), "fp8:32", EXACT),
    "fp8 blocks that no group fits": (
        _BLOCKS | {"weight_block_size": [48, 40]},
        float8(48, 40, "weight_scale_inv"),
        "int8:64",
        AGAIN,
    ),
}
