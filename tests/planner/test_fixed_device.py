"""The device's part of a plan that somebody edited: what cannot hold is refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from lm_offload.errors import ConfigError
from lm_offload.planner.choose.search import make_plan
from lm_offload.planner.decided.fixed_plan import fixed_plan
from lm_offload.planner.decided.plan_text import plan_text, read_plan
from tests.planner.test_in_place import request_of

REQUEST = request_of(2e9, attention="device", in_place="mlp")


@pytest.fixture(scope="module")
def text() -> str:
    plan = make_plan(REQUEST)
    assert plan.device
    assert plan.device.in_place
    return plan_text(plan, "toy")


@pytest.fixture
def edited(text: str, tmp_path: Path) -> Any:
    """The plan after an edit of its file, of the whole and of the device's part."""

    def edit(on_device: dict[str, object], whole: dict[str, object]) -> None:
        file, record = tmp_path / "plan.yaml", yaml.safe_load(text)
        device = {**record["device"], **on_device}
        file.write_text(yaml.safe_dump({**record, "device": device, **whole}))
        assert REQUEST.device is not None
        open_device = replace(REQUEST.device, attention=None, in_place=None)
        fixed_plan(replace(REQUEST, device=open_device), read_plan(file))

    return edit


def test_as_it_is_it_holds(edited: Any) -> None:
    edited({}, {})


@pytest.mark.parametrize(
    ("on_device", "whole", "words"),
    [
        ({"name": "cuda:7"}, {}, ["for cuda:7, given was gpu"]),
        ({"name": 7}, {}, ["name in plan.yaml is 7", "a name"]),
        ({"budget": "1MiB"}, {}, ["of the device, the budget is 1.00 MiB"]),
        ({"budget": 0}, {}, ["above zero"]),
        ({"resident": ["layers.0.mlp"]}, {}, ["names units more than once"]),
        ({"resident": ["layers.99.mlp"]}, {}, ["does not have"]),
        ({"ring": "4KiB"}, {}, ["device ring is 4.00 KiB", "the largest unit"]),
        ({"ring": "1GiB"}, {}, ["of the device, the budget is"]),
        ({"attention": "gpu"}, {}, ["'gpu'", "device, cpu or both"]),
        ({"attention": "both"}, {}, ["kv_blocks of the device is 0 with attention both"]),
        ({"kv_blocks": 1}, {}, ["kv_blocks of the device is 1 with attention device"]),
        ({"in_place": ["layers.99.mlp"]}, {}, ["in_place is ['layers.99.mlp']"]),
        ({"in_place": ["embed"]}, {}, ["in_place is ['embed']"]),
        ({"in_place": []}, {}, ["in_place_rows is", "0 elsewhere"]),
        ({"in_place_rows": 0}, {}, ["in_place_rows is 0", "allowed are 1 to"]),
        ({"in_place_rows": 99999}, {}, ["in_place_rows is 99999", "allowed are 1 to"]),
        ({"ringg": 1}, {}, ["ringg", "not a known key"]),
        ({}, {"draft_rows": 1}, ["draft_rows is 1", "beside a device is 0"]),
        ({}, {"retention": True}, ["retention is true", "false with a device"]),
        (
            {},
            {"kv_on_disk": [0], "kv_group_blocks": 30, "kv_ring_blocks": 30},
            ["kv_on_disk is [0]", "beside a device is []"],
        ),
    ],
)
def test_what_cannot_hold_is_refused(
    edited: Any, on_device: dict[str, object], whole: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        edited(on_device, whole)
    text = str(caught.value)
    assert all(word in text for word in words), text
