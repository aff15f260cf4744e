"""Costs of tasks against what can be reckoned by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.arch.config import parse_config
from lm_offload.arch.weights import build_units
from lm_offload.hardware.curve import Curve
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.sized_model import sizes_of_config
from lm_offload.planner.costs.sweep_shape import Piece, SweepShape
from lm_offload.planner.costs.unit_cost import UnitCosts
from lm_offload.planner.costs.unit_work import visible_tokens
from lm_offload.quant.format import format_of_dtype, parse_format
from tests.arch.real_configs import GEMMA_2_9B, OPT_350M
from tests.planner.machines import PLAIN_CPU, with_cpu
from tests.planner.requests import TINY

ROWS = SweepShape((Piece(4, 1, 32),), 4)


def sizes(raw=TINY, weight_format: str | None = None) -> ModelSizes:
    config = parse_config(raw)
    chosen = parse_format(weight_format) if weight_format else format_of_dtype(config.dtype)
    return sizes_of_config(config, build_units(config, 1 << 20), chosen)


def by_name(costs: UnitCosts, shape: SweepShape, micro: int = 64) -> dict[str, float]:
    names = [sized.unit.name for sized in costs.model.units]
    return dict(zip(names, costs.unit_s(shape, micro), strict=True))


@given(st.integers(1, 40), st.integers(0, 60), st.one_of(st.none(), st.integers(1, 50)))
def test_visible_tokens_are_those_of_the_mask(rows, before, window):
    context = before + rows
    seen = [min(position + 1, window or context) for position in range(before, context)]
    assert visible_tokens(rows, context, window) == sum(seen)


def test_an_mlp_takes_its_products_and_its_elementwise_kernels() -> None:
    """hidden 64, inner 88, fp32: 3 products, a norm, an activation; memory binds 4 rows."""
    found = by_name(UnitCosts(sizes(), PLAIN_CPU, missed_frac=1.0), ROWS)["layers.0.mlp"]
    weights = 3 * 64 * 88
    norm_bytes, silu_bytes = 2 * 4 * 64 * 4, 3 * 4 * 88 * 4
    assert found == pytest.approx((weights * 4 + norm_bytes + silu_bytes) / 1e10)


def test_many_rows_are_bound_by_arithmetic() -> None:
    shape = SweepShape((Piece(1, 512, 512),), 1)
    found = by_name(UnitCosts(sizes(), PLAIN_CPU, missed_frac=1.0), shape, 512)["layers.0.mlp"]
    elementwise_bytes = 512 * 4 * (2 * 64 + 3 * 88)
    assert found == pytest.approx(2 * 512 * 3 * 64 * 88 / 1e11 + elementwise_bytes / 1e10)


def test_fixed_costs_are_those_of_a_task_and_its_kernels() -> None:
    """q, k, v, o, a norm, two rotations, a store and attention are nine kernels."""
    cpu = replace(PLAIN_CPU, task_s=1.0, kernel_s=10.0, memory_bytes_per_s=1e30, peak_flops=1e30)
    cpu = replace(cpu, elementwise_bytes_per_s=1e30)
    found = by_name(UnitCosts(sizes(), cpu, missed_frac=1.0), ROWS)
    assert found["layers.0.attention"] == pytest.approx(91.0)
    assert found["layers.0.mlp"] == pytest.approx(51.0)
    assert found["final_norm"] == pytest.approx(21.0)
    assert found["head.0"] == pytest.approx(11.0)
    halves = by_name(UnitCosts(sizes(), cpu, missed_frac=1.0), ROWS, micro=2)
    assert halves["layers.0.mlp"] == pytest.approx(2 * 51.0)
    assert halves["head.0"] == pytest.approx(11.0)


def test_decode_replays_its_layers_and_calls_the_kernels_of_all_else() -> None:
    cpu = replace(PLAIN_CPU, task_s=1.0, call_s=100.0, kernel_s=10.0, memory_bytes_per_s=1e30)
    cpu = replace(cpu, elementwise_bytes_per_s=1e30, peak_flops=1e30)
    costs = UnitCosts(sizes(), cpu, missed_frac=1.0)
    decode, prompt = by_name(costs, ROWS), by_name(costs, SweepShape((Piece(2, 2, 32),), 4))
    assert decode["layers.0.attention"] == decode["layers.0.mlp"] == pytest.approx(1.0)
    assert prompt["layers.0.attention"] == pytest.approx(901.0)
    assert prompt["layers.0.mlp"] == pytest.approx(501.0)
    assert decode["head.0"] == prompt["head.0"] == pytest.approx(101.0)


def test_a_task_takes_longer_after_a_unit_that_leaves_less_of_the_cache() -> None:
    small, large = 1 << 20, 1 << 25
    cpu = replace(PLAIN_CPU, task_s=1.0, large_task_s=3.0, cache_bytes=large)
    assert [cpu.task_fixed_s(size) for size in (0, small, 1 << 40)] == [1.0, 1.0, 3.0]
    assert 1.0 < cpu.task_fixed_s(4 << 20) < cpu.task_fixed_s(8 << 20) < 3.0
    tiny = replace(cpu, tiny_task_s=0.5)
    assert [tiny.task_fixed_s(size) for size in (0, 1 << 19, small)] == [0.5, 0.5, 1.0]
    assert 0.5 < tiny.task_fixed_s(3 << 18) < 1.0
    assert replace(tiny, task_s=0.0).task_fixed_s(small) == 0.0
    assert replace(cpu, large_task_s=0.0).task_fixed_s(large) == 1.0


def test_activations_push_out_of_the_caches_what_the_engine_needs() -> None:
    """An MLP with 68 KiB of weights moves 2.3 MiB of norms and activations with 1500 rows."""
    cpu = replace(PLAIN_CPU, task_s=1e6, large_task_s=4e6, cache_bytes=4 << 20)
    costs, mlp = UnitCosts(sizes(), cpu, missed_frac=1.0), "layers.0.mlp"
    few, many = (SweepShape((Piece(1, rows, rows),), 1) for rows in (64, 1500))
    assert by_name(costs, few)[mlp] == pytest.approx(1e6, rel=1e-3)
    moved_bytes = 3 * 64 * 88 * 4 + 2 * 64 * 4 + 1500 * 4 * (2 * 64 + 3 * 88)
    tasks_s = cpu.task_fixed_s(moved_bytes)
    assert 2e6 < tasks_s < 4e6
    assert by_name(costs, many, 1500)[mlp] == pytest.approx(tasks_s, rel=1e-2)


def test_inputs_of_q_k_and_v_are_counted_once() -> None:
    """64 inputs and 128 outputs, 64 and 64 of o, beside 16 and 8 of squares of 512 x 512."""
    for name, values in (("product_input_s", 128 - 24), ("product_output_s", 192 - 24)):
        cpu = replace(PLAIN_CPU, **{name: {"fp32": 1e6}})
        found = by_name(UnitCosts(sizes(), cpu, missed_frac=1.0), ROWS)
        assert found["layers.0.attention"] == pytest.approx(4 * values * 1e6)


def test_kernels_of_decode_that_are_not_replayed_cost_less_where_most_weights_stay_cached() -> None:
    """The head calls one; prompts call every kernel once in a while, an MLP five."""
    cpu = replace(PLAIN_CPU, task_s=1e6, call_s=1e6, cached_overhead_frac=0.5)
    cold, cool, warm = (UnitCosts(sizes(), cpu, missed_frac=frac) for frac in (1.0, 0.6, 0.5))
    prompt = SweepShape((Piece(2, 2, 32),), 4)
    for costs, head_s in ((cold, 2e6), (cool, 2e6), (warm, 1.5e6)):
        assert by_name(costs, ROWS)["head.0"] == pytest.approx(head_s)
        assert by_name(costs, prompt)["layers.0.mlp"] == pytest.approx(6e6)


def test_weights_that_partly_stay_in_the_cache_take_a_part_of_both_times() -> None:
    fast = {"fp32": Curve((1,), (1e15,))}
    cpu = with_cpu(cached_product_flops=fast, memory_start_s=1e3).cpu
    kept, partly, missed = (
        by_name(UnitCosts(sizes(), cpu, missed_frac=frac), ROWS)["layers.0.mlp"]
        for frac in (0.0, 0.25, 1.0)
    )
    assert partly == pytest.approx(0.75 * kept + 0.25 * missed)


def test_products_with_one_input_start_once() -> None:
    """q, k and v are one call, o another; gate and up are one, down another; the head is one."""
    cpu = replace(PLAIN_CPU, memory_start_s=1e6, cached_start_s=1e3)
    from_memory, from_cache = (UnitCosts(sizes(), cpu, missed_frac=frac) for frac in (1.0, 0.0))
    for name, calls in (("layers.0.attention", 2), ("layers.0.mlp", 2), ("head.0", 1)):
        assert by_name(from_memory, ROWS)[name] == pytest.approx(calls * 1e6)
        assert by_name(from_cache, ROWS)[name] == pytest.approx(calls * 1e3)


def test_rows_of_a_tied_head_are_picked_at_once_however_many_parts_it_has() -> None:
    config = parse_config({**TINY, "tie_word_embeddings": True})
    cpu = replace(PLAIN_CPU, call_s=1e6)
    found = {}
    for part_bytes in (1 << 20, 1 << 12):
        units = build_units(config, part_bytes)
        model = sizes_of_config(config, units, format_of_dtype(config.dtype))
        heads = sum(unit.kind == "head" for unit in units)
        found[heads] = by_name(UnitCosts(model, cpu, missed_frac=1.0), ROWS)["embed"]
    (_, one_s), (parts, several_s) = sorted(found.items())
    assert parts > 1
    assert several_s == one_s > 1e6


def test_no_logits_no_head() -> None:
    cpu = replace(PLAIN_CPU, task_s=1.0)
    found = by_name(UnitCosts(sizes(), cpu, missed_frac=1.0), SweepShape((Piece(1, 8, 8),), 0))
    assert found["head.0"] == found["final_norm"] == 1.0


def test_decode_attention_reads_the_cache_and_prefill_computes() -> None:
    """TINY: 4 query heads and 2 KV heads of 16, fp32; 32 tokens of 4 sequences, or a prompt."""
    cpu = with_cpu(
        decode_attention_bytes_per_s={"fp32": Curve((1,), (1e6,))},
        prefill_attention_flops={"fp32": Curve((1,), (1e6,))},
    ).cpu
    silent, heard = (UnitCosts(sizes(), one, missed_frac=1.0) for one in (PLAIN_CPU, cpu))
    prompt = SweepShape((Piece(1, 8, 8),), 1)
    kv_bytes, pairs = 4 * 32 * 2 * 32 * 4, 8 * 9 // 2
    for shape, seconds, plain in (
        (ROWS, kv_bytes / 1e6, kv_bytes / 1e10),
        (prompt, 4 * 64 * pairs / 1e6, 4 * 64 * pairs / 1e11),
    ):
        extra = by_name(heard, shape)["layers.0.attention"]
        extra -= by_name(silent, shape)["layers.0.attention"]
        assert extra == pytest.approx(seconds - plain)


def test_weights_come_from_the_cache_when_all_fit_or_when_a_unit_is_used_again() -> None:
    fast = {"fp32": Curve((1,), (1e15,))}
    cpu = with_cpu(cached_product_flops=fast, cache_bytes=1 << 30).cpu
    from_memory, from_cache = (UnitCosts(sizes(), cpu, missed_frac=frac) for frac in (1.0, 0.0))
    assert by_name(from_cache, ROWS)["layers.0.mlp"] < by_name(from_memory, ROWS)["layers.0.mlp"]
    one, two = (by_name(from_memory, ROWS, micro)["layers.0.mlp"] for micro in (4, 2))
    elementwise_s = 4 * 4 * (2 * 64 + 3 * 88) / 1e10
    weights_s = 3 * 64 * 88 * 4 / 1e10
    assert one == pytest.approx(weights_s + elementwise_s)
    assert two == pytest.approx(weights_s + elementwise_s, rel=1e-3)  # the second half is free


def test_fewer_bytes_take_less_time_where_memory_binds() -> None:
    costs = {
        name: by_name(UnitCosts(sizes(weight_format=name), PLAIN_CPU, missed_frac=1.0), ROWS)
        for name in ("fp32", "int8:32")
    }
    assert costs["int8:32"]["head.0"] < 0.3 * costs["fp32"]["head.0"]


@pytest.mark.parametrize("raw", [OPT_350M, GEMMA_2_9B])
def test_every_unit_of_every_family_has_a_cost(raw) -> None:
    costs = UnitCosts(sizes(raw), PLAIN_CPU, missed_frac=1.0)
    assert all(seconds > 0 for name, seconds in by_name(costs, ROWS).items())


@pytest.mark.parametrize("raw", [TINY, GEMMA_2_9B])
def test_sums_over_some_units_are_those_of_each(raw) -> None:
    costs = UnitCosts(sizes(raw), PLAIN_CPU, missed_frac=1.0)
    some = frozenset(range(0, len(costs.model.units), 3))
    whole, attend = costs.unit_s(ROWS, 2), costs.attention_s(ROWS, 2)
    assert costs.sum_of_s(some, ROWS, 2) == pytest.approx(sum(whole[unit] for unit in some))
    assert costs.sum_of_attention_s(some, ROWS, 2) == pytest.approx(sum(attend[it] for it in some))


def test_layers_with_windows_span_a_range_of_attention() -> None:
    costs = UnitCosts(sizes(GEMMA_2_9B), PLAIN_CPU, missed_frac=1.0)
    shape = SweepShape((Piece(4, 1, 8000),), 4)
    least_s, most_s = costs.attention_range_s(shape, 4)
    assert least_s < costs.total_attention_s(shape, 4) < most_s
    layers = costs.model.config.num_layers
    seconds = [it for it in costs.attention_s(shape, 4) if it]
    assert (least_s, most_s) == pytest.approx((layers * min(seconds), layers * max(seconds)))
