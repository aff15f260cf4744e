"""One measurement of a peer: what it generates, from what, under which limit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.environments import PEERS_DIR, PeerSpec

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One measurement: what is generated from which checkpoint, under which limit for the model."""

    model: Path
    batch: int
    prompt_len: int
    gen_len: int
    threads: int = 2
    seed: int = 0
    limit_bytes: int | None = None


def work_dir(spec: PeerSpec, case: Case) -> Path:
    """Where the peer's converted weights of this checkpoint lie."""
    return PEERS_DIR / "work" / spec.engine / case.model.name
