"""The bound of a sweep from made-up rates of a machine."""

from __future__ import annotations

import json

import pytest
from benchmarks.ceilings import Rates, Weights, ceilings, shares, weights_of
from benchmarks.checkpoint_files import checkpoint_bytes
from benchmarks.checkpoint_shapes import PRESETS, model_config

WEIGHTS = Weights(size_bytes=100.0, decode_flops=50.0, prefill_flops=40.0)


def found(batch, limit_bytes, memory=1000.0, product=1000.0, disk=10.0):
    return ceilings(WEIGHTS, Rates(memory, product, disk), batch, 8, limit_bytes)


@pytest.mark.parametrize(
    ("batch", "limit_bytes", "decode", "prefill"),
    [
        (1, None, 10.0, 25.0),  # 0.1 s of memory, 8 x 0.04 s of products
        (4, None, 20.0, 25.0),  # 0.2 s of products
        (4, 60, 1.0, 8.0),  # 4 s of the disk
        (4, 200, 20.0, 25.0),  # all of it fits
    ],
)
def test_the_slowest_resource_is_the_ceiling(batch, limit_bytes, decode, prefill):
    row = found(batch, limit_bytes)
    assert row["decode_ceiling_tokens_per_s"] == pytest.approx(decode)
    assert row["prefill_ceiling_tokens_per_s"] == pytest.approx(prefill)


def test_a_run_is_held_against_its_ceiling_unless_it_failed():
    row = found(1, None) | {"decode_tokens_per_s": 5.0, "prefill_tokens_per_s": 5.0}
    assert shares(row) == {"decode_ceiling_frac": 0.5, "prefill_ceiling_frac": 0.2}
    assert shares({**row, "error": "killed"}) == {}


def test_weights_come_from_the_config_and_the_format(tmp_path):
    shape = PRESETS["tiny"]
    (tmp_path / "config.json").write_text(json.dumps(model_config(shape, "bf16")))
    stored, packed = weights_of(tmp_path, None), weights_of(tmp_path, "int4")
    table_bytes = 2 * shape.vocab * shape.hidden
    assert stored.size_bytes == checkpoint_bytes(shape, "bf16") - table_bytes
    assert packed.size_bytes == stored.size_bytes / 4
    assert stored.decode_flops - stored.prefill_flops == 2 * shape.vocab * shape.hidden


def test_of_a_mixture_the_experts_that_rows_use_count(tmp_path):
    shape = PRESETS["moe-2.4b"]
    (tmp_path / "config.json").write_text(json.dumps(model_config(shape, "bf16")))
    weights = weights_of(tmp_path, None)
    expert_bytes = 2 * 3 * shape.hidden * shape.intermediate
    table_bytes = 2 * shape.vocab * shape.hidden
    assert weights.experts_bytes == 12 * 8 * expert_bytes
    stored_bytes = checkpoint_bytes(shape, "bf16") - table_bytes
    assert weights.size_bytes + weights.experts_bytes == stored_bytes
    rates, limit_bytes = Rates(1e30, 1e30, 1.0), int(weights.size_bytes + 12 * expert_bytes)
    for rows, used in ((1, 2.0), (2, 3.5)):
        everything_s = weights.seconds(0.0, rows, 0, rates)
        assert everything_s == pytest.approx(weights.size_bytes + 12 * used * expert_bytes)
        some_s = weights.seconds(0.0, rows, limit_bytes, rates)
        assert some_s == pytest.approx(12 * used * expert_bytes * 7 / 8)
