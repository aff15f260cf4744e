"""Runner: AirLLM, which streams layer files that it splits from the checkpoint beforehand."""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version
from typing import Any

from benchmarks.peers.protocol import Generate, Peer, run_peer


def import_libraries() -> str:
    """Import what a generation needs; the version that is measured."""
    import airllm  # noqa: F401
    import benchmarks.peers.hf_generate  # noqa: F401

    return version("airllm")


def split_model(args: argparse.Namespace) -> Any:
    """The model on the CPU; splits the checkpoint into layer files where that is not done yet."""
    from airllm import AutoModel

    args.work_dir.mkdir(parents=True, exist_ok=True)
    return AutoModel.from_pretrained(
        str(args.model), device="cpu", layer_shards_saving_path=str(args.work_dir)
    )


def load(args: argparse.Namespace) -> Generate:
    """Load the model."""
    from benchmarks.peers.hf_generate import generator

    return generator(split_model(args).model.eval(), args.threads)


def prepare(args: argparse.Namespace) -> None:
    """Write the layer files."""
    split_model(args)


if __name__ == "__main__":
    sys.exit(run_peer(Peer("airllm", import_libraries, load, prepare)))
