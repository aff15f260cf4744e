"""The engines, and a virtual environment for each under `.peers/`, made when first asked for.

::

    python -m benchmarks.peers.environments    # install all of them
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.entry import run

ROOT = Path(__file__).resolve().parents[2]
PEERS_DIR = ROOT / ".peers"
REQUIREMENTS_DIR = ROOT / "benchmarks" / "requirements-peers"


ROUNDED = "_a8"  # ends the name of a peer that rounds activations to 8 bits


@dataclass(frozen=True)
class PeerSpec:
    """Where a peer's runner is, and what its installation needs besides the requirements file.

    `installed` stands for this project itself: it runs in the environment of the caller. A
    `weight_format` is one of `WEIGHT_FORMATS` in protocol.py; None keeps the checkpoint's own.
    `has_budget` says that it keeps a memory limit by itself, `converts` that it writes weights of
    its own, of about the checkpoint's size; `conversion_memory` times that is held meanwhile. With
    `int8_activations` it rounds activations too, a lossy choice that its name tells.
    """

    name: str
    module: str
    build_env: dict[str, str] = field(default_factory=dict)
    installed: bool = False
    weight_format: str | None = None
    has_budget: bool = False
    converts: bool = False
    conversion_memory: float = 0.0
    int8_activations: bool = False

    @property
    def engine(self) -> str:
        """The engine whose environment and converted weights it shares with other formats."""
        return self.name.removesuffix(ROUNDED).removesuffix(f"_{self.weight_format}")

    @property
    def environment(self) -> Path:
        """The folder of its virtual environment."""
        return PEERS_DIR / self.engine

    @property
    def python(self) -> Path:
        """The interpreter that runs it."""
        return Path(sys.executable) if self.installed else self.environment / "bin" / "python"

    @property
    def requirements(self) -> Path:
        """Its pinned requirements."""
        return REQUIREMENTS_DIR / f"{self.engine}.txt"


# llama.cpp is compiled from source for this processor, without the parts for images
LLAMA_CPP = PeerSpec(
    "llama_cpp",
    "benchmarks.peers.llama_cpp_mmap",
    {"CMAKE_ARGS": "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF", "CMAKE_BUILD_PARALLEL_LEVEL": "2"},
    converts=True,
)
OPENVINO = PeerSpec(
    "openvino", "benchmarks.peers.openvino_stateful", converts=True, conversion_memory=3.0
)
CTRANSLATE2 = PeerSpec(
    "ctranslate2", "benchmarks.peers.ctranslate2_generator", converts=True, conversion_memory=3.0
)
LM_OFFLOAD = PeerSpec(
    "lm_offload", "benchmarks.peers.lm_offload_engine", installed=True, has_budget=True
)
EXACT = (
    LLAMA_CPP,
    OPENVINO,
    CTRANSLATE2,
    PeerSpec("transformers", "benchmarks.peers.transformers_mapped"),
    PeerSpec("accelerate", "benchmarks.peers.accelerate_offload", has_budget=True),
    PeerSpec("airllm", "benchmarks.peers.airllm_layers", converts=True),
    LM_OFFLOAD,
)
BY_FORMAT = {
    "int8": (LLAMA_CPP, OPENVINO, CTRANSLATE2, LM_OFFLOAD),
    "int4": (LLAMA_CPP, LM_OFFLOAD),
}
QUANTIZED = tuple(
    replace(spec, name=f"{spec.name}_{weight_format}", weight_format=weight_format)
    for weight_format, specs in BY_FORMAT.items()
    for spec in specs
)
ROUNDING = tuple(
    replace(spec, name=f"{spec.name}{ROUNDED}", int8_activations=True)
    for spec in QUANTIZED
    if spec.installed
)
PEERS = {spec.name: spec for spec in (*EXACT, *QUANTIZED, *ROUNDING)}
NO_NETWORK = (
    "name resolution", "NameResolutionError", "NewConnectionError", "Network is unreachable",
    "ConnectTimeout", "ProxyError",
)  # fmt: skip


def specs_of(weight_format: str | None, engines: Collection[str] | None) -> list[PeerSpec]:
    """The peers that have a format, in a fixed order; `engines` None stands for all."""
    return [
        spec
        for spec in PEERS.values()
        if spec.weight_format == weight_format and (engines is None or spec.engine in engines)
    ]


def ensure_environment(spec: PeerSpec, *, install: bool = True) -> None:
    """Make or renew the peer's environment; a stamp with the requirements' hash says it is done.

    Raises RuntimeError with pip's last line where the installation fails, and where there is none
    though nothing shall be installed.
    """
    if spec.installed:
        return
    stamp = spec.environment / "requirements.sha256"
    wanted = hashlib.sha256(spec.requirements.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    if not install:
        raise RuntimeError(f"{spec.engine} is not installed; `make bench-peers` does it")
    print(f"installing {spec.engine} into its own environment", file=sys.stderr)
    try:
        venv.create(spec.environment, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(f"{spec.engine} has no environment: {error}") from error
    command = [str(spec.python), "-m", "pip", "install", "--requirement", str(spec.requirements)]
    env = {**os.environ, **spec.build_env}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        raise RuntimeError(f"{spec.engine} could not be installed: {reason(done.stderr)}")
    stamp.write_text(wanted)


def reason(stderr: str) -> str:
    """Why pip failed, in one line: its last one says nothing where there is no network."""
    if any(sign in stderr for sign in NO_NETWORK):
        return "no network"
    return (stderr.strip() or "no output").splitlines()[-1]


def main() -> int:
    """Install every engine; a line for each that does not, and their number."""
    failures = []
    for spec in EXACT:
        try:
            ensure_environment(spec)
        except RuntimeError as error:
            failures.append(str(error))
            print(error)
    return len(failures)


if __name__ == "__main__":
    run(main)
