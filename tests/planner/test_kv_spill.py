"""Keys and values on disk: chosen where that wins, counted, refused where it cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.arch.config import parse_config
from lm_offload.errors import BudgetError, ConfigError
from lm_offload.hardware.curve import Curve
from lm_offload.plan import Workload
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.choose.search import candidates, make_plan
from lm_offload.planner.decided.fixed_plan import fixed_plan
from lm_offload.planner.decided.plan_choice import choice_of
from lm_offload.planner.decided.plan_text import plan_text, read_plan
from lm_offload.planner.places.kv_spill import spread_layers
from lm_offload.quant.kv_format import parse_kv_format
from lm_offload.units import GIB, KIB, MIB
from tests.planner.requests import PROFILE, TINY, make_request

MODEL = {**TINY, "num_hidden_layers": 8, "hidden_size": 512, "intermediate_size": 1536}
MANY = Workload((100,) * 16, (20,) * 16)
BUDGET = 30 * MIB


def request(workload: Workload = MANY, budget_bytes: int = BUDGET, spill_bytes: int = 8 * GIB):
    raw = {**MODEL, "max_position_embeddings": 4096}
    return replace(make_request(raw, workload, budget_bytes), spill_bytes=spill_bytes)


def test_layers_are_spread_and_those_with_a_window_come_first():
    config = parse_config(TINY | {"num_hidden_layers": 6})
    assert spread_layers(config, 3) == (1, 3, 5)
    assert spread_layers(config, 6) == (0, 1, 2, 3, 4, 5)
    assert spread_layers(config, 1) == (5,)
    half = [
        replace(layer, window=64 if index < 3 else None)
        for index, layer in enumerate(config.layers)
    ]
    assert spread_layers(replace(config, layers=tuple(half)), 4) == (0, 1, 2, 5)


def test_it_is_chosen_where_it_is_predicted_to_win():
    with_spill, without = make_plan(request()), make_plan(request(spill_bytes=0))
    assert with_spill.spill.layers
    assert not without.spill.layers
    assert with_spill.predicted.run_s < without.predicted.run_s
    assert with_spill.max_sequences > without.max_sequences
    assert with_spill.predicted.step_s["decode"].kv_read_bytes > 0
    assert with_spill.used_bytes <= BUDGET


@pytest.mark.parametrize("budget_mib", [30, 8192])
@pytest.mark.parametrize("lossy_bytes_per_s", [1e10, 1e6])  # of attention over rounded caches
def test_a_format_is_chosen_where_it_is_predicted_to_win(budget_mib, lossy_bytes_per_s):
    rates = {"fp32": 1e10, "int8:row": lossy_bytes_per_s, "int4:64": lossy_bytes_per_s}
    curves = {name: Curve((16.0,), (rate,)) for name, rate in rates.items()}
    cpu = replace(PROFILE.cpu, decode_attention_bytes_per_s=curves)
    asked = replace(request(budget_bytes=budget_mib * MIB), profile=replace(PROFILE, cpu=cpu))
    (own,) = asked.models
    lossy = [replace(own, kv_wanted=parse_kv_format(name)) for name in ("int8", "int4")]
    chosen = make_plan(replace(asked, models=[own, *lossy]))
    alone = [make_plan(replace(asked, models=[model])) for model in (own, *lossy)]
    best_s = min(plan.predicted.run_s for plan in alone)
    assert chosen.predicted.run_s == pytest.approx(best_s, rel=0.01)
    exact_s = alone[0].predicted.run_s
    if exact_s > 1.02 * best_s:
        assert chosen.kv_format != "fp32"
    if exact_s == best_s:
        assert chosen.kv_format == "fp32"


def test_nothing_stays_in_the_processor_cache_beside_a_cache_on_disk():
    """As beside streamed units: what is read passes through it, and threads wait in between."""
    cpu = replace(PROFILE.cpu, cache_bytes=GIB)
    asked = request(budget_bytes=100 * MIB)
    predictor = Predictor(replace(asked, profile=replace(PROFILE, cpu=cpu)))
    cached = {
        bool(found.sizes.spill.layers): predictor.costs_of(found).cached
        for found in candidates(predictor.request)
        if not found.streamed
    }
    assert cached == {True: False, False: True}


def test_it_is_not_chosen_where_everything_fits():
    assert not make_plan(request(budget_bytes=8 * GIB)).spill.layers


def test_a_disk_without_room_is_not_counted_on():
    assert not make_plan(request(spill_bytes=100 * KIB)).spill.layers


def test_a_cache_of_one_sequence_may_be_larger_than_the_budget():
    long = Workload((4000,), (9,))
    needed = request(long, budget_bytes=40 * MIB, spill_bytes=0)
    with pytest.raises(BudgetError):
        make_plan(needed)
    plan = make_plan(replace(needed, spill_bytes=GIB))
    assert len(plan.spill.layers) > 0


def test_a_plan_is_saved_and_read_again(tmp_path):
    asked = request()
    plan, file = make_plan(asked), tmp_path / "plan.yaml"
    file.write_text(plan_text(plan, "toy"))
    assert fixed_plan(asked, read_plan(file)) == plan
    text = "".join(line for line in file.read_text().splitlines(True) if "kv_o" not in line)
    file.write_text(text.replace("kv_group", "# kv_group").replace("kv_ring", "# kv_ring"))
    assert read_plan(file).kv_on_disk == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kv_on_disk": (8,)}, "allowed is each layer below 8 once"),
        ({"kv_on_disk": (1, 1)}, "allowed is each layer below 8 once"),
        ({"kv_on_disk": ()}, "allowed is 0 for both where kv_on_disk names no layer"),
        ({"kv_ring_blocks": 1}, "at least kv_group_blocks"),
        ({"kv_group_blocks": 1, "kv_ring_blocks": 9}, "stages 1 KV blocks together"),
    ],
)
def test_a_plan_that_cannot_hold_is_refused(changes, words):
    asked = request()
    with pytest.raises(ConfigError, match=words):
        fixed_plan(asked, replace(choice_of(make_plan(asked)), **changes))
