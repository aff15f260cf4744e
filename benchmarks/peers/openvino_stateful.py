"""Runner: OpenVINO's runtime on a model that keeps its KV cache, everything in memory.

The checkpoint's own precision is stored in fp16; int8 has a scale for each row. OpenVINO GenAI runs
the same graph, but it needs a tokenizer, which a benchmark of token ids has not.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.peers.protocol import Generate, Generation, Peer, run_peer


def import_libraries() -> str:
    """Import what a generation needs; the version that is measured."""
    import openvino

    return str(openvino.__version__).split("-")[0]


def model_file(args: argparse.Namespace) -> Path:
    """Where the converted model lies."""
    return Path(args.work_dir) / f"{args.weight_format or 'fp16'}.xml"


def prepare(args: argparse.Namespace) -> None:
    """Convert the checkpoint."""
    from benchmarks.peers.openvino_graph import convert

    convert(args.model, model_file(args), args.weight_format)


def load(args: argparse.Namespace) -> Generate:
    """Load the model."""
    import openvino as ov

    options = {"INFERENCE_NUM_THREADS": args.threads, "PERFORMANCE_HINT": "LATENCY"}
    request = ov.Core().compile_model(model_file(args), "CPU", options).create_infer_request()
    return lambda prompts, gen_len: generate(request, prompts, gen_len)


def generate(request: Any, prompts: list[list[int]], gen_len: int) -> Generation:
    """Run prompts of one length."""
    import numpy as np

    request.reset_state()
    ids = np.array(prompts, dtype=np.int64)
    prompt_len = ids.shape[1]
    start_s = time.perf_counter()
    steps = [next_tokens(request, ids, 0)]
    first_token_s = time.perf_counter()
    for position in range(prompt_len, prompt_len + gen_len - 1):
        steps.append(next_tokens(request, steps[-1], position))
    end_s = time.perf_counter()
    return Generation(start_s, first_token_s, end_s, np.concatenate(steps, axis=1).tolist())


def next_tokens(request: Any, ids: Any, start: int) -> Any:
    """The most likely next tokens, (batch, 1); `ids` is (batch, tokens) from position `start`."""
    import numpy as np

    batch, count = ids.shape
    inputs = {
        "input_ids": ids,
        "attention_mask": np.ones((batch, start + count), np.int64),
        "position_ids": np.tile(np.arange(start, start + count), (batch, 1)),
        "beam_idx": np.arange(batch, dtype=np.int32),
    }
    request.infer(inputs)
    return request.get_tensor("logits").data[:, -1].argmax(-1, keepdims=True).astype(np.int64)


if __name__ == "__main__":
    sys.exit(run_peer(Peer("openvino", import_libraries, load, prepare)))
