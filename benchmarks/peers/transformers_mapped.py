"""Runner: transformers with the weights left memory-mapped.

`from_pretrained` in the checkpoint's own dtype keeps each weight a view of the mapped safetensors
file, so the kernel pages them in and out under a memory limit.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.peers.protocol import Generate, Peer, run_peer


def import_libraries() -> str:
    """Import what a generation needs; the version that is measured."""
    import benchmarks.peers.hf_generate  # noqa: F401
    import transformers
    from transformers import AutoModelForCausalLM  # noqa: F401  loads the lazy module

    return transformers.__version__


def load(args: argparse.Namespace) -> Generate:
    """Load the model."""
    from benchmarks.peers.hf_generate import generator
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(args.model, dtype="auto")
    return generator(model.eval(), args.threads)


if __name__ == "__main__":
    sys.exit(run_peer(Peer("transformers", import_libraries, load)))
