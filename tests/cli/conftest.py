"""The command in this process, and copies of the demo model to run it on."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lm_offload.cli.main import main
from lm_offload.demo import demo_path

TEMPLATE = "{% for m in messages %}# {{ m['role'] }}: {{ m['content'] }}\n{% endfor %}# answer:"


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C works here and in children, also where the tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def _given_machine() -> Iterator[None]:
    """Plans are made for a machine that is written down, so that none is measured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LM_OFFLOAD_PROFILE", str(Path(__file__).parents[1] / "null_machine.yaml"))
        yield


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """The command in this process: importing torch anew would cost seconds each time."""

    def run_main(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["lm-offload", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capfd.readouterr()
        code = stop.value.code
        return Done(code if isinstance(code, int) else int(code is not None), *captured)

    return run_main


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo model."""
    return Path(shutil.copytree(demo_path(), tmp_path_factory.mktemp("demo") / "model"))


@pytest.fixture(scope="session")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo model with a chat template."""
    folder = Path(shutil.copytree(demo_path(), tmp_path_factory.mktemp("chat") / "model"))
    declared = json.loads((folder / "tokenizer_config.json").read_text())
    declared["chat_template"] = TEMPLATE
    (folder / "tokenizer_config.json").write_text(json.dumps(declared))
    return folder
