"""Whole layers computed on the CPU where they lie: when they are, how many, what they take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.plan import Workload
from lm_offload.planner.choose.common import Common
from lm_offload.planner.choose.search import make_plan
from lm_offload.planner.costs.memory import Sizes, kv_bytes
from lm_offload.planner.decided.fixed_plan import fixed_plan
from lm_offload.planner.decided.plan_choice import choice_of
from lm_offload.planner.reasons.ceiling import CeilingModel
from lm_offload.planner.reasons.in_place_reason import in_place_reason, in_place_text
from tests.planner.test_in_place import MODEL, decode_s, request_of

WORKLOAD = Workload((600,) * 4, (60,) * 4)


def layers_request(link_bytes_per_s=2e9, **device):
    options = {"gpu_mib": 24, "in_place": "layers", "attention": "device", **device}
    return request_of(link_bytes_per_s, WORKLOAD, **options)


def layers_of(plan, units=("attention", "mlp")):
    names = {*plan.device.in_place}
    numbers = range(MODEL["num_hidden_layers"])
    return [it for it in numbers if {f"layers.{it}.{unit}" for unit in units} <= names]


def test_only_as_many_as_leave_nothing_to_upload():
    found = [make_plan(layers_request(gpu_mib=gpu_mib)) for gpu_mib in (16, 24, 32, 1024)]
    counts = [len(layers_of(plan, ["attention"])) for plan in found]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[1] > counts[-1] == 0
    for plan in found:
        assert plan.predicted.step_s["decode"].h2d_bytes == 0
        layers = layers_of(plan, ["attention"])
        assert layers == list(range(len(layers)))  # in one piece: one round trip


def test_keys_and_values_lie_with_their_layers():
    request = layers_request()
    plan = make_plan(request)
    sizes = Sizes(plan.kv_blocks, 1, 1, 1)
    model = request.models[0]
    parts = dict(plan.memory)["KV cache"], dict(plan.device.memory)["KV cache"]
    share = len(layers_of(plan, ["attention"])) / MODEL["num_hidden_layers"]
    assert parts[0] == pytest.approx(share * kv_bytes(model, sizes), rel=0.01)
    assert sum(parts) == pytest.approx(kv_bytes(model, sizes), rel=0.01)


@pytest.mark.parametrize(
    ("attention", "cpu_mib", "streams"),
    [("device", 64, False), ("cpu", 64, False), ("device", 24, True), ("cpu", 40, False)],
)
def test_a_decided_plan_is_predicted_alike_and_holds_its_budgets(attention, cpu_mib, streams):
    request = layers_request(attention=attention, cpu_mib=cpu_mib, gpu_mib=16)
    plan = make_plan(request)
    layers = layers_of(plan)
    assert layers
    assert bool(plan.streamed) == streams
    is_one_piece = layers == [*range(len(layers))]
    assert is_one_piece == (not streams)  # what the link brings is spread between them
    again = fixed_plan(request, choice_of(plan))
    assert again.predicted == plan.predicted
    assert (again.memory, again.device.memory) == (plan.memory, plan.device.memory)
    assert plan.used_bytes <= plan.budget_bytes
    assert plan.device.used_bytes <= plan.device.budget_bytes


def test_prompts_of_these_layers_are_computed_on_the_device():
    plan = make_plan(layers_request())
    prefill, decode = plan.predicted.step_s["prefill"], plan.predicted.step_s["decode"]
    assert plan.max_sequences <= plan.device.in_place_rows < 600
    assert prefill.h2d_bytes == plan.device.uploaded_bytes > 0
    assert prefill.gpu_s > decode.gpu_s
    assert min(prefill.attend_s, decode.attend_s) > 0


def test_they_are_chosen_where_attention_has_no_room_on_the_device():
    open_request = layers_request(in_place=None, attention=None, gpu_mib=16)
    device = open_request.device
    none, mlp, layers, chosen = (
        make_plan(replace(open_request, device=replace(device, in_place=kind)))
        for kind in ("none", "mlp", "layers", None)
    )
    assert decode_s(layers) < decode_s(mlp) < decode_s(none)
    assert layers_of(chosen)
    assert chosen.predicted.run_s <= 1.01 * layers.predicted.run_s


def test_a_fast_link_moves_them():
    assert not make_plan(layers_request(1e12, in_place=None)).device.in_place


def test_without_room_in_host_memory_nothing_is_in_place():
    plan = make_plan(layers_request(cpu_mib=9, gpu_mib=24))
    assert plan.device.in_place == ()
    assert plan.device.in_place_rows == 0


def test_the_reason_says_what_a_layer_takes_either_way():
    request = layers_request()
    plan = make_plan(request)
    found = in_place_reason(request, plan, Common())
    assert found.what == "layer"
    assert found.in_place == len(layers_of(plan))
    assert found.on_cpu_s < found.upload_s


def test_the_ceiling_counts_what_the_cpu_reads():
    request = layers_request()
    plan = make_plan(request)
    ceiling = CeilingModel(request.models[0], plan, request.profile).ceiling(WORKLOAD)
    assert ceiling.decode.tokens_per_s >= plan.predicted.decode_tokens_per_s
    assert ceiling.decode.link_s == 0


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ((), ""),
        (("layers.3.mlp",), "1 MLP"),
        (("layers.3.mlp", "layers.3.attention"), "1 layer"),
        (("l.1.attention", "l.1.mlp", "l.0.attention"), "1 layer and 1 attention unit"),
        (("l.1.attention", "l.10.mlp", "l.2.mlp"), "1 attention unit and 2 MLPs"),
    ],
)  # fmt: skip
def test_units_are_told_as_layers_where_they_are(names, wanted):
    assert in_place_text(names) == wanted
