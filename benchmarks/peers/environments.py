"""The engines, and a virtual environment for each under `.peers/`, made when first asked for."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS_DIR = ROOT / ".peers"
REQUIREMENTS_DIR = ROOT / "benchmarks" / "requirements-peers"


@dataclass(frozen=True)
class PeerSpec:
    """Where a peer's runner is, and what its installation needs besides the requirements file.

    `installed` stands for this project itself: it runs in the environment of the caller. A
    `weight_format` is one of `WEIGHT_FORMATS` in protocol.py; None keeps the checkpoint's own.
    """

    name: str
    module: str
    build_env: dict[str, str] = field(default_factory=dict)
    installed: bool = False
    weight_format: str | None = None

    @property
    def engine(self) -> str:
        """The engine whose environment and converted weights it shares with other formats."""
        return self.name.removesuffix(f"_{self.weight_format}")

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
)
LM_OFFLOAD = PeerSpec("lm_offload", "benchmarks.peers.lm_offload_engine", installed=True)
EXACT = (
    LLAMA_CPP,
    PeerSpec("transformers", "benchmarks.peers.transformers_mapped"),
    PeerSpec("accelerate", "benchmarks.peers.accelerate_offload"),
    PeerSpec("airllm", "benchmarks.peers.airllm_layers"),
    LM_OFFLOAD,
)
QUANTIZED = tuple(
    replace(spec, name=f"{spec.name}_{weight_format}", weight_format=weight_format)
    for weight_format in ("int8", "int4")
    for spec in (LLAMA_CPP, LM_OFFLOAD)
)
PEERS = {spec.name: spec for spec in (*EXACT, *QUANTIZED)}


def ensure_environment(spec: PeerSpec) -> None:
    """Make or renew the peer's environment; a stamp with the requirements' hash says it is done.

    Raises RuntimeError with pip's last line where the installation fails.
    """
    if spec.installed:
        return
    stamp = spec.environment / "requirements.sha256"
    wanted = hashlib.sha256(spec.requirements.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    print(f"installing {spec.name} into its own environment", file=sys.stderr)
    venv.create(spec.environment, with_pip=True)
    command = [str(spec.python), "-m", "pip", "install", "--requirement", str(spec.requirements)]
    env = {**os.environ, **spec.build_env}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        last_line = (done.stderr.strip() or "no output").splitlines()[-1]
        raise RuntimeError(f"{spec.name} could not be installed: {last_line}")
    stamp.write_text(wanted)
