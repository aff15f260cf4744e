"""Runner: accelerate's disk offload, with a share of the memory limit for layers that stay."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from benchmarks.peers.protocol import Generate, Peer, run_peer

RESIDENT_FRAC = 0.5  # of the limit; the rest is for the layer on loan, the cache and activations


def import_libraries() -> str:
    """Import what a generation needs; the version that is measured."""
    import accelerate
    import benchmarks.peers.hf_generate  # noqa: F401
    from transformers import AutoModelForCausalLM  # noqa: F401  loads the lazy module

    return str(accelerate.__version__)


def load(args: argparse.Namespace) -> Generate:
    """Dispatch the model over memory and disk."""
    from benchmarks.peers.hf_generate import generator
    from transformers import AutoModelForCausalLM

    placement: dict[str, Any] = {"device_map": {"": "cpu"}}
    if args.limit_bytes:
        placement = {
            "device_map": "auto",
            "max_memory": {"cpu": int(args.limit_bytes * RESIDENT_FRAC)},
            "offload_folder": args.work_dir / "offload",
        }
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype="auto", **placement)
    return generator(model.eval(), args.threads)


if __name__ == "__main__":
    sys.exit(run_peer(Peer("accelerate", import_libraries, load)))
