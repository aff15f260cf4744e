from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest

from lm_offload.arch.config import parse_config
from lm_offload.arch.halves import are_cut, cut_units, has_halves
from lm_offload.arch.shipped import find_config, shipped_models
from lm_offload.arch.weights import Unit, build_units
from tests.arch.real_configs import LLAMA_3_1_8B, OPT_350M

GATED = [name for name in shipped_models() if has_halves(find_config(name))]


def cut(config, max_head_bytes: int) -> tuple[tuple[Unit, ...], list[Unit]]:
    units = build_units(config, max_head_bytes)
    return units, list(chain.from_iterable(cut_units(config, units)))


def tensors_of(units) -> Counter:
    """How often each tensor outside the head is loaded."""
    return Counter(spec.name for unit in units if unit.kind != "head" for spec in unit.weights)


def test_shipped_models_with_gates_have_halves():
    assert {"llama-3.1-8b", "llama-2-70b"} <= {*GATED}
    assert not has_halves(parse_config(OPT_350M))
    assert not has_halves(find_config("mixtral-8x7b"))


@pytest.mark.parametrize("name", GATED)
def test_parts_hold_every_weight_once_and_none_is_larger_than_a_first_half(name):
    config = find_config(name)
    inner = 3 * config.hidden_size * config.intermediate_size
    whole, parts = cut(config, inner * config.itemsize)
    assert tensors_of(parts) == tensors_of(whole)
    names = [unit.name for unit in parts]
    assert len({*names}) == len(names)
    halves = {unit.kind: sum(s.elements for s in unit.loaded) for unit in parts}
    assert halves["gate_up"] > 1.9 * halves["down"]
    heads = [unit for unit in parts if unit.kind == "head"]
    row = 64 * config.embed_size
    assert all(u.loaded[0].elements <= halves["gate_up"] + row for u in heads)
    assert [unit.index for unit in heads] == list(range(len(heads)))
    ends = [row for unit in heads for row in unit.loaded[0].rows]
    assert ends[0] == 0
    assert ends[1:-1:2] == ends[2::2]
    assert ends[-1] == config.vocab_size


def test_names_say_whether_units_are_cut():
    config = parse_config(LLAMA_3_1_8B)
    whole, parts = cut(config, 1 << 40)
    assert not are_cut(unit.name for unit in whole)
    assert are_cut(unit.name for unit in parts)
    assert [u.name for u in parts[1:4]] == [
        "layers.0.attention",
        "layers.0.gate_up",
        "layers.0.down",
    ]
    assert [spec.role for spec in parts[2].weights] == ["input_norm", "gate_proj", "up_proj"]
    assert [spec.role for spec in parts[3].weights] == ["down_proj"]


def test_parts_are_not_cut_again():
    config = parse_config(LLAMA_3_1_8B)
    _, parts = cut(config, 1 << 28)
    assert list(chain.from_iterable(cut_units(config, parts))) == parts
