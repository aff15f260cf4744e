"""What a user fixes narrows what the search may choose from."""

from dataclasses import replace

import pytest

from lm_offload.arch.shipped import find_config
from lm_offload.errors import ConfigError
from lm_offload.hardware.machine_file import load_machine
from lm_offload.planner.policies.choices import CPU_ONLY, ON_GPU, SPLIT
from lm_offload.planner.policies.constraints import Constraints, choices_for, parse_pin
from lm_offload.planner.policies.job import Job
from lm_offload.planner.policies.model_shape import model_shape
from lm_offload.quant.format import parse_format

MODEL = model_shape(find_config("opt-30b"))
MACHINE = load_machine("t4-208gb")


def choices(machine=MACHINE, **wanted):
    return choices_for(Job(MODEL, machine, 512, 32), Constraints(**wanted))


def test_everything_is_allowed_unless_it_is_excluded():
    free = choices()
    assert [str(format) for format in free.weight_formats] == ["fp16", "int8:64", "int4:64"]
    assert free.kv_formats == free.weight_formats
    assert free.decode == (ON_GPU, SPLIT, CPU_ONLY)
    assert free.weights is None


def test_exact_keeps_the_precision_of_the_checkpoint():
    exact = choices(exact=True)
    assert [str(format) for format in exact.weight_formats + exact.kv_formats] == ["fp16"] * 2
    assert choices(exact=True, weight_format=parse_format("fp16")) == exact
    with pytest.raises(ConfigError, match="int4:64 was given together with --exact"):
        choices(exact=True, weight_format=parse_format("int4"))


def test_activations_are_not_rounded():
    with pytest.raises(ConfigError, match="keep activations as they are, name int4:64"):
        choices(weight_format=parse_format("int4:a8"))


def test_experts_in_few_bits_are_not_quantized_again():
    job = Job(model_shape(find_config("gpt-oss-20b")), MACHINE, 512, 32)
    mxfp4 = parse_format("mxfp4")
    for wanted in (Constraints(), Constraints(exact=True), Constraints(weight_format=mxfp4)):
        found = choices_for(job, wanted)
        assert found.weight_formats == (mxfp4,)
        assert str(found.kv_formats[0]) == "bf16"
    with pytest.raises(ConfigError, match="int4:64 was given, the experts of this model are mxfp4"):
        choices_for(job, Constraints(weight_format=parse_format("int4")))
    with pytest.raises(ConfigError, match="mxfp4 was given, which is one of experts alone"):
        choices(weight_format=mxfp4)


def test_formats_and_schedule_can_be_fixed():
    fixed = choices(kv_format=parse_format("int8"), schedule="flexgen")
    assert [str(format) for format in fixed.kv_formats] == ["int8:64"]
    assert len(fixed.weight_formats) == 3
    assert fixed.schedules == ("flexgen",)


def test_pins():
    pins = dict(map(parse_pin, ["attention=cpu", "compute=gpu", "prefill=gpu", "weights=disk"]))
    pinned = choices(pins=pins)
    assert (pinned.prefill, pinned.decode) == ((ON_GPU,), (SPLIT,))
    assert pinned.weights is not None
    assert pinned.weights.disk == 1
    assert all(policy.weights == pinned.weights for policy in pinned.policies())


@pytest.mark.parametrize("text", ["attention", "attention=disk", "layers=cpu", "weights=", "=cpu"])
def test_pins_that_cannot_be(text):
    with pytest.raises(ConfigError, match=r"attention=gpu\|cpu.* weights=gpu\|cpu\|disk"):
        parse_pin(text)


def test_pins_that_contradict():
    with pytest.raises(ConfigError, match="contradict"):
        choices(pins={"compute": "cpu", "attention": "gpu"})


def test_a_block_is_cut_evenly():
    cut = choices(batch_size=96, micro_batches=4)
    assert cut.blocks() == [(24, 4)]
    free = choices(batch_size=12)
    assert sorted(free.blocks()) == [(1, 12), (2, 6), (3, 4), (4, 3), (6, 2), (12, 1)]
    assert {count for _, count in choices(micro_batches=3).blocks()} == {3}
    with pytest.raises(ConfigError, match="batch of 96 cannot be cut into 5"):
        choices(batch_size=96, micro_batches=5)


def test_latency_is_that_of_one_sequence():
    assert choices(objective="latency").blocks() == [(1, 1)]
    assert choices(objective="latency", batch_size=4, micro_batches=2).blocks() == [(2, 2)]
    assert choices(objective="latency", micro_batches=2).blocks() == [(1, 2)]


def test_without_a_gpu_only_the_cpu_is_left():
    cpu_only = replace(MACHINE, gpu=None, h2d=None, d2h=None)
    assert choices(cpu_only).decode == choices(cpu_only).prefill == (CPU_ONLY,)
    for pin in ({"attention": "gpu"}, {"weights": "gpu"}, {"prefill": "gpu"}):
        with pytest.raises(ConfigError, match="pinned to gpu, but the machine has none"):
            choices(cpu_only, pins=pin)


def test_each_combination_is_one_policy():
    few = choices(exact=True, batch_size=8, micro_batches=2, pins={"prefill": "gpu"})
    assert [policy.decode for policy in few.policies()] == [ON_GPU, SPLIT, CPU_ONLY]
    assert {policy.block_size for policy in few.policies()} == {8}
