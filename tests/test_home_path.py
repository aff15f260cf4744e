"""Home folders that are not known are refused in one sentence, wherever a path is given."""

from __future__ import annotations

import pwd
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from lm_offload.engine.model_folder import find_folder
from lm_offload.engine.prefix_folder import prefix_folder
from lm_offload.errors import ConfigError
from lm_offload.hardware.machine_file import load_machine
from lm_offload.home_path import expanded
from lm_offload.storage.spill_folder import spill_folder
from lm_offload.storage.user_cache import user_cache_folder

NOBODY = "~no-such-user/folder"


def test_a_home_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert expanded("~/a") == Path("/somewhere/a")
    assert expanded(Path("b")) == Path("b")


@pytest.mark.parametrize(
    "use",
    [find_folder, load_machine, spill_folder, lambda path: prefix_folder(path, None, True)],
    ids=["model", "machine", "spill", "prefixes"],
)
def test_the_home_of_nobody(use: Callable[[str], object]) -> None:
    with pytest.raises(ConfigError, match="'~no-such-user/folder' begins with a home folder that"):
        use(NOBODY)


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number that no user has."""

    def unknown(uid: int) -> NoReturn:
        raise KeyError(uid)

    for name in ("HOME", "XDG_CACHE_HOME", "LM_OFFLOAD_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(ConfigError, match="or set HOME, or LM_OFFLOAD_CACHE"):
        user_cache_folder()
