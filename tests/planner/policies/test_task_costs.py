"""Bytes and seconds of tasks against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.errors import ConfigError
from lm_offload.hardware.curve import Curve
from lm_offload.planner.policies.compute_costs import (
    DEQUANTIZE_BYTES,
    compute_seconds,
    touched_experts,
)
from lm_offload.planner.policies.policy import PhasePolicy, Share
from lm_offload.planner.policies.scene import decode_step, prefill_step
from lm_offload.planner.policies.task_bytes import flows_of, transfer_bytes
from lm_offload.planner.policies.task_costs import resource_seconds, task_seconds
from lm_offload.quant.format import Format, parse_format
from tests.planner.scenes import (
    CPU,
    GPU,
    INT4,
    MACHINE,
    MIXTRAL,
    ON_CPU,
    PAGEABLE,
    SPLIT,
    constant,
    scene,
    shape_of,
)

ATTENTION_WEIGHTS = 256 * (256 + 2 * 128 + 256)  # q, k and v, o: 2 of 4 heads have keys
MLP_WEIGHTS = 3 * 256 * 512
NORM = 256


def test_weights_cross_the_link_once_for_a_unit():
    moved = transfer_bytes(scene(weights=Share(gpu=0.25, cpu=0.25, disk=0.5)))
    mlp_bytes = 2 * (MLP_WEIGHTS + NORM)
    assert moved["read", "mlp"] == pytest.approx(0.5 * mlp_bytes)
    assert moved["upload", "mlp"] == pytest.approx(0.75 * mlp_bytes)
    assert ("stage", "mlp") not in moved


def test_keys_and_values_grow_with_the_context_and_count_only_kv_heads():
    short = transfer_bytes(scene(decode_step(100, 0)))["upload_kv", "attention"]
    assert short == 4 * 100 * 2 * 128 * 2  # sequences, tokens, keys and values, width, bytes
    assert transfer_bytes(scene(decode_step(300, 0)))["upload_kv", "attention"] == 3 * short
    all_heads = shape_of(num_key_value_heads=4)
    assert transfer_bytes(scene(model=all_heads))["upload_kv", "attention"] == 2 * short
    new = transfer_bytes(scene())["download_kv", "attention"]
    assert new == short / 100


def test_a_window_bounds_what_a_token_sees():
    windowed = shape_of(model_type="mistral", sliding_window=50)
    moved = transfer_bytes(scene(decode_step(100, 0), windowed))
    assert moved["upload_kv", "attention"] == 4 * 50 * 2 * 128 * 2
    assert windowed.visible_pairs(100) == 50 * 51 / 2 + 50 * 50
    assert shape_of().visible_pairs(100) == 100 * 101 / 2


def test_packed_bytes_have_scale_and_minimum():
    fp16, int4 = (
        transfer_bytes(scene(weight_format=format, kv_format=format))
        for format in (scene().policy.weight_format, INT4)
    )
    assert int4["upload_kv", "attention"] / fp16["upload_kv", "attention"] == 0.5625 / 2
    packed = int4["upload", "mlp"] - 2 * NORM
    assert packed / (2 * MLP_WEIGHTS) == pytest.approx(0.5625 / 2)


def test_prefill_stores_what_it_makes_and_loads_nothing():
    moved = transfer_bytes(scene(prefill_step(100)))
    assert ("upload_kv", "attention") not in moved
    assert moved["download_kv", "attention"] == 4 * 100 * 2 * 128 * 2


def test_attention_on_the_cpu_moves_rows_instead_of_the_cache():
    split = scene(decode=SPLIT)
    moved = transfer_bytes(split)
    assert moved["send_qkv", "attention"] == 4 * 2 * (256 + 2 * 128)
    assert moved["return_attended", "attention"] == 4 * 2 * 256
    assert ("upload_kv", "attention") not in moved
    assert flows_of(split, moved).host_attention


def test_hidden_states_move_where_their_home_is_not_the_device():
    assert ("upload_hidden", "mlp") not in transfer_bytes(scene())
    moved = transfer_bytes(scene(activations=Share(cpu=0.5, disk=0.5)))
    size = 4 * 256 * 2
    assert moved["upload_hidden", "mlp"] == moved["download_hidden", "mlp"] == size
    assert moved["read_hidden", "mlp"] == moved["write_hidden", "mlp"] == 0.5 * size
    assert ("download_hidden", "head") not in moved


def test_what_lies_on_the_gpu_crosses_the_link_where_the_cpu_computes():
    moved = transfer_bytes(
        scene(decode=ON_CPU, kv=Share(gpu=0.5, cpu=0.5), activations=Share(gpu=1.0))
    )
    assert moved["download_kv", "attention"] == 0.5 * 4 * 100 * 2 * 128 * 2
    assert moved["upload_kv", "attention"] == 0.5 * 4 * 2 * 128 * 2
    assert moved["download_hidden", "mlp"] == moved["upload_hidden", "mlp"] == 4 * 256 * 2
    assert ("upload", "mlp") not in moved


def test_transfers_take_bytes_over_rate():
    seconds = task_seconds(scene(weights=Share(disk=1.0), kv=Share(disk=1.0)))
    mlp_bytes = 2 * (MLP_WEIGHTS + NORM)
    assert seconds["read", "mlp"] == pytest.approx(mlp_bytes / 1e9)
    assert seconds["upload", "mlp"] == pytest.approx(mlp_bytes / 1e10)
    new_bytes = 4 * 2 * 128 * 2
    assert seconds["download_kv", "attention"] == pytest.approx(new_bytes / 5e9)
    assert seconds["write_kv", "attention"] == pytest.approx(new_bytes / 5e8)


def test_memory_that_is_not_pinned_costs_a_host_copy():
    pinned = task_seconds(scene(machine=PAGEABLE))
    assert ("stage", "mlp") not in pinned
    pageable = task_seconds(scene(machine=PAGEABLE, pinned=False, kv_pinned=False))
    assert pageable["upload", "mlp"] == pinned["upload", "mlp"]
    assert pageable["stage", "mlp"] == pytest.approx(2 * (MLP_WEIGHTS + NORM) / 4e9)
    store_s = pageable["download_kv", "attention"]
    assert store_s == pytest.approx(5 * pinned["download_kv", "attention"])
    on_disk = scene(machine=PAGEABLE, kv_pinned=False, kv=Share(disk=1.0))
    through_pinned_s = task_seconds(on_disk)["download_kv", "attention"]
    assert through_pinned_s == pytest.approx(pinned["download_kv", "attention"])


def test_few_rows_reread_the_weights_and_many_are_bound_by_flops():
    few = compute_seconds(scene(micro_batch_size=1))["compute", "head"]
    assert few == pytest.approx(2 * 256 * 1024 / 1e11)
    many = compute_seconds(scene(micro_batch_size=1000))["compute", "head"]
    assert many == pytest.approx(2 * 1000 * 256 * 1024 / 1e13)


@pytest.mark.parametrize("weight_format", [Format("fp16"), INT4])
def test_a_product_starts_once_for_each_matrix(weight_format):
    curves = {"fp16": constant(1e12)}
    plain, slow = (
        replace(MACHINE, gpu=replace(GPU, product_flops=curves, memory_start_s=start_s))
        for start_s in (0.0, 1e-3)
    )
    for kind, matrices in (("attention", 4), ("mlp", 3), ("head", 1)):
        before, after = (
            compute_seconds(scene(machine=it, weight_format=weight_format))["compute", kind]
            for it in (plain, slow)
        )
        assert after - before == pytest.approx(matrices * 1e-3)


def test_dequantization_is_repeated_as_the_policy_says():
    fused, unit, each = (
        compute_seconds(scene(weight_format=INT4, dequantize=how))["compute", "mlp"]
        for how in ("fused", "unit", "micro_batch")
    )
    once_s = MLP_WEIGHTS * DEQUANTIZE_BYTES / 1e11
    assert each - unit == pytest.approx(once_s * 2 / 3)
    plain = compute_seconds(scene())["compute", "mlp"]
    assert each == pytest.approx(plain + once_s)
    assert fused < plain
    rated = replace(MACHINE, gpu=replace(GPU, dequantize_values_per_s={str(INT4): 1e9}))
    measured = scene(weight_format=INT4, dequantize="micro_batch", machine=rated)
    measured_s = compute_seconds(measured)["compute", "mlp"]
    assert measured_s == pytest.approx(plain + MLP_WEIGHTS / 1e9)


def test_a_packed_cache_costs_dequantization_of_the_whole_context():
    plain = compute_seconds(scene())["compute", "attention"]
    packed = compute_seconds(scene(kv_format=INT4, dequantize="unit"))["compute", "attention"]
    values = 4 * 100 * 2 * 128
    assert packed - plain > values * DEQUANTIZE_BYTES / 1e11
    fused = compute_seconds(scene(kv_format=INT4))["compute", "attention"]
    assert fused < plain


def test_attention_runs_at_the_rate_of_where_it_is():
    cpu = replace(CPU, decode_attention_bytes_per_s={"fp16": constant(2e9)})
    seconds = compute_seconds(scene(machine=replace(MACHINE, cpu=cpu), decode=SPLIT))
    kv_bytes = 4 * 100 * 2 * 128 * 2
    assert seconds["attend", "attention"] == pytest.approx(kv_bytes / 2e9)
    half = scene(machine=replace(MACHINE, cpu=cpu), decode=SPLIT, kv=Share(gpu=0.5, cpu=0.5))
    halves = compute_seconds(half)
    assert halves["attend", "attention"] == pytest.approx(kv_bytes / 4e9)
    assert halves["project", "attention"] > seconds["project", "attention"]


def test_tokens_touch_experts_as_if_they_chose_evenly():
    assert touched_experts(8, 2, 1) == 2
    assert touched_experts(8, 2, 2) == pytest.approx(8 * (1 - 0.75**2))
    assert touched_experts(8, 2, 1000) == pytest.approx(8)
    model = shape_of(**MIXTRAL)
    one = compute_seconds(scene(model=model, micro_batch_size=1))["compute", "mlp"]
    many = compute_seconds(scene(model=model, micro_batch_size=32))["compute", "mlp"]
    assert 1.8 < many / one < 2.2  # all 4 experts are read instead of 2
    assert transfer_bytes(scene(model=model))["upload", "mlp"] > 4 * 2 * MLP_WEIGHTS


def test_a_format_of_experts_is_of_experts_alone():
    model, mxfp4 = shape_of(**MIXTRAL), parse_format("mxfp4")
    floats, few = (scene(model=model, weight_format=it) for it in (Format("fp16"), mxfp4))
    moved = [transfer_bytes(it) for it in (floats, few)]
    assert moved[0]["upload", "attention"] == moved[1]["upload", "attention"]
    vectors_and_router = NORM + 4 * 256
    experts_bytes = [it["upload", "mlp"] - 2 * vectors_and_router for it in moved]
    assert experts_bytes[1] / experts_bytes[0] == pytest.approx(4.25 / 16)
    curves = {"fp16": constant(1e12), "mxfp4": constant(1e9)}
    slow = replace(MACHINE, gpu=replace(GPU, product_flops=curves))
    times = [compute_seconds(replace(it, machine=slow)) for it in (floats, few)]
    assert times[0]["compute", "attention"] == times[1]["compute", "attention"]
    assert times[1]["compute", "mlp"] > 100 * times[0]["compute", "mlp"]


def test_fixed_costs_are_counted_for_every_task_and_kernel():
    slow = replace(MACHINE, gpu=replace(GPU, kernel_s=1.0, task_s=100.0))
    seconds = compute_seconds(scene(machine=slow))
    assert 100 + 3 + 3 <= seconds["compute", "mlp"] < 100 + 12
    split = compute_seconds(scene(machine=slow, decode=SPLIT))
    assert split["project", "attention"] > 100
    assert split["compute", "attention"] < 10


def test_a_sweep_costs_each_resource_the_sum_of_its_tasks():
    setting = scene(weights=Share(gpu=0.5, cpu=0.5), activations=Share(cpu=1.0))
    seconds = task_seconds(setting)
    busy = resource_seconds(setting, seconds)
    gpu_s = 18 * (seconds["compute", "attention"] + seconds["compute", "mlp"])
    assert busy["gpu"] == pytest.approx(gpu_s + 3 * seconds["compute", "head"])
    weights_s = 6 * (seconds["upload", "attention"] + seconds["upload", "mlp"])
    kv_s = 18 * seconds["upload_kv", "attention"]
    hidden_s = 15 * seconds["upload_hidden", "attention"] + 18 * seconds["upload_hidden", "mlp"]
    head_s = seconds["upload", "head"] + 3 * seconds["upload_hidden", "head"]
    assert busy["h2d"] == pytest.approx(weights_s + kv_s + hidden_s + head_s)
    assert busy.keys() == {"gpu", "h2d", "d2h"}


def test_on_the_cpu_the_weights_that_lie_on_the_gpu_are_used_there():
    seconds = [
        compute_seconds(scene(decode=ON_CPU, weights=Share(gpu=g, cpu=1 - g)))["compute", "mlp"]
        for g in (0.0, 0.5, 1.0)
    ]
    assert seconds[1] == pytest.approx((seconds[0] + seconds[2]) / 2)
    assert seconds[2] < seconds[0]


def test_devices_that_are_not_there_are_refused():
    bare = replace(MACHINE, gpu=None, h2d=None, d2h=None)
    with pytest.raises(ConfigError, match="'null machine' has none"):
        compute_seconds(scene(machine=bare))
    with pytest.raises(ConfigError, match="no link to a GPU"):
        task_seconds(scene(machine=replace(MACHINE, h2d=None)))
    with pytest.raises(ConfigError, match="attends on the GPU"):
        scene(decode=PhasePolicy("cpu", "gpu"))
    assert task_seconds(scene(machine=bare, decode=ON_CPU, activations=Share(cpu=1.0)))


def test_packed_weights_without_a_rate_are_like_a_product_of_the_same_intensity():
    curve = Curve((1, 16, 1024), (1e11, 1.6e12, 1.6e12))
    rated = replace(MACHINE, gpu=replace(GPU, product_flops={"fp16": curve}))
    few = compute_seconds(scene(machine=rated, weight_format=INT4, micro_batch_size=1))
    assert few["compute", "head"] == pytest.approx(2 * 256 * 1024 / (1e11 * 2 / 0.5625))
    many = compute_seconds(scene(machine=rated, weight_format=INT4, micro_batch_size=64))
    plain = compute_seconds(scene(machine=rated, micro_batch_size=64))
    assert many["compute", "head"] == pytest.approx(plain["compute", "head"])


def test_a_fused_kernel_on_a_packed_cache_keeps_its_byte_rate():
    slow = replace(MACHINE, gpu=replace(GPU, decode_attention_bytes_per_s={"fp16": constant(1e9)}))
    plain, packed = (
        compute_seconds(scene(machine=slow, kv_format=format))["compute", "attention"]
        for format in (scene().policy.kv_format, INT4)
    )
    kv_bytes = 4 * 100 * 2 * 128 * 2
    assert plain - packed == pytest.approx(kv_bytes * (1 - 0.5625 / 2) / 1e9, rel=0.01)
