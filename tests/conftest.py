"""What all tests share: one thread of torch, and toy checkpoints that are made once a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.toy import make_toy_checkpoint

settings.register_profile(
    "suite", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is kept in the user's cache, and no machine is measured; for subprocesses, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LM_OFFLOAD_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("LM_OFFLOAD_PROFILE", str(Path(__file__).with_name("machine.yaml")))
        yield


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, not made yet, of one test."""
    monkeypatch.setenv("LM_OFFLOAD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`make_toy_checkpoint` with a memory; its folders are read-only for the tests."""
    made: dict[str, Path] = {}

    def make(model_type: str = "llama", **arguments: Any) -> Path:
        key = f"{model_type} {sorted(arguments.items())}"
        if key not in made:
            folder = tmp_path_factory.mktemp(model_type)
            made[key] = make_toy_checkpoint(folder, model_type, **arguments)
        return made[key]

    return make
