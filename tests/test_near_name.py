"""Names that are nearly known ones, wherever one is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lm_offload.arch.shipped import find_config
from lm_offload.engine.model_folder import find_folder
from lm_offload.engine.plan_models import sizes_in
from lm_offload.engine.plan_options import PlanOptions
from lm_offload.errors import LMOffloadError
from lm_offload.hardware.machine_file import load_machine
from lm_offload.near_name import did_you_mean


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("opt30b", " (did you mean opt-30b?)"),
        ("opt-30", " (did you mean opt-30b?)"),
        ("bloom", ""),
        ("", ""),
        (30, ""),
    ],
)
def test_only_a_near_name_is_proposed(name: object, hint: str) -> None:
    assert did_you_mean(name, ["opt-13b", "opt-30b", "llama-7b"]) == hint


def sizes(model: str) -> Any:
    return sizes_in(PlanOptions(model=model))


@pytest.mark.parametrize(
    ("find", "given", "meant"),
    [
        (find_config, "OPT30b", "opt-30b"),
        (sizes, "llama-3.1-8", "llama-3.1-8b"),
        (load_machine, "t4-208", "t4-208gb"),
    ],
)
def test_what_ships_is_proposed_by_name(
    find: Callable[[str], Any], given: str, meant: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LMOffloadError, match=rf"\(did you mean {meant}\?\)"):
        find(given)


@pytest.mark.parametrize("given", ["models/here/llama-1b", "./llama-1b", "llama-1b"])
def test_a_folder_beside_the_one_that_is_not_there(
    given: str, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "models/here/llama-1.1b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path if given.startswith("models") else tmp_path / "models/here")
    with pytest.raises(LMOffloadError, match=r"\(did you mean llama-1\.1b\?\)"):
        find_folder(given)
