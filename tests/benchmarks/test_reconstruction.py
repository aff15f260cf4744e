"""The spaces of the rivals, and one row of the reconstruction."""

from __future__ import annotations

import pytest
from benchmarks.rivals import (
    INT4,
    flexgen,
    flexgen_compressed,
    lm_offload,
    searched,
    zero_inference,
)

from benchmarks import reconstruction
from lm_offload.hardware.machine_file import load_machine


def policies(system):
    return [policy for choices in system.spaces for policy in choices.policies()]


def test_each_system_has_its_own_space():
    assert all(not policy.weight_format.is_packed for policy in policies(flexgen()))
    compressed = policies(flexgen_compressed())
    assert all(policy.decode.attention == "gpu" for policy in compressed)
    assert all(INT4 in (policy.weight_format, policy.kv_format) for policy in compressed)
    assert {policy.num_micro_batches for policy in policies(zero_inference())} == {1}
    assert {policy.weights.gpu for policy in policies(zero_inference())} == {0.0}
    for system in (flexgen(), flexgen_compressed(), lm_offload()):
        assert {policy.schedule for policy in policies(system)} == {"flexgen"}
        assert {policy.dequantize for policy in policies(system)} == {"micro_batch"}


def test_attention_on_the_cpu_is_slower_with_more_copies():
    base = load_machine("a100-40gb")
    slow = flexgen().machine(base).cpu.decode_attention_bytes_per_s["fp16"].at(512)
    fast = searched().machine(base).cpu.decode_attention_bytes_per_s["fp16"].at(512)
    assert slow < fast < base.cpu.memory_bytes_per_s


@pytest.mark.parametrize(("model", "gen_len"), [("llama-30b", 8)])
def test_more_choices_are_not_slower(model, gen_len):
    systems = (flexgen(), flexgen_compressed(), lm_offload(), searched())
    best = {it.name: reconstruction._best(it, model, gen_len) for it in systems}
    row = reconstruction.Row(model, gen_len, best)
    for baseline in ("FlexGen", "FlexGen(c)"):
        assert row.speedup("LM-Offload", baseline) > 0.97
    assert row.speedup("searched", "LM-Offload") > 1
    assert row.speedup("searched", "ZeRO-Inference") is None
