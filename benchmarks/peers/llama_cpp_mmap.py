"""Runner: llama.cpp on a memory-mapped GGUF file, driven through its batch interface."""

from __future__ import annotations

import argparse
import ctypes
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.peers.protocol import Generate, Generation, Peer, run_peer

MAX_BATCH_TOKENS = 2048  # prompts are fed in groups of whole sequences up to this many tokens


def import_libraries() -> str:
    """Import what a generation needs; the version that is measured."""
    import llama_cpp

    llama_cpp.llama_backend_init()
    return str(llama_cpp.__version__)


def gguf_file(args: argparse.Namespace) -> Path:
    """Where the converted weights lie."""
    suffix = f"-{args.weight_format}" if args.weight_format else ""
    return Path(args.work_dir) / f"model{suffix}.gguf"


def prepare(args: argparse.Namespace) -> None:
    """Convert the checkpoint, and quantize what was converted where a format asks for it."""
    from benchmarks.peers.gguf_convert import convert

    target = gguf_file(args)
    if target.exists():
        return
    plain = target.with_name("model.gguf")
    convert(args.model, plain)
    if args.weight_format:
        quantize(plain, target, args)


def quantize(source: Path, target: Path, args: argparse.Namespace) -> None:
    """Write `target` in Q8_0 or Q4_0, beside it first; every matrix, as llama.cpp chooses."""
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.nthread = args.threads
    params.ftype = {
        "int8": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
        "int4": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
    }[args.weight_format]
    partial = target.with_suffix(".partial")
    status = llama_cpp.llama_model_quantize(bytes(source), bytes(partial), ctypes.byref(params))
    if status:
        raise RuntimeError(f"llama.cpp could not quantize the converted model ({status})")
    partial.rename(target)


def open_model(args: argparse.Namespace) -> Any:
    """Map the weights; nothing is copied or locked.

    Under a limit its repacked copies of quantized weights are off: they would be memory of its
    own beside the file, and it would be killed.
    """
    import llama_cpp

    params = llama_cpp.llama_model_default_params()
    params.load_mode = llama_cpp.LLAMA_LOAD_MODE_MMAP
    params.n_gpu_layers = 0
    params.use_extra_bufts = args.limit_bytes is None
    model = llama_cpp.llama_model_load_from_file(bytes(gguf_file(args)), params)
    if not model:
        raise RuntimeError("llama.cpp could not load the converted model")
    return model


def open_context(model: Any, args: argparse.Namespace) -> Any:
    """A context with room for all sequences and one micro-batch per group of prompts.

    Under a limit the sequences share one cache buffer: separate ones are padded to 256 positions
    each, which at batch 64 would cost more memory than the layers that stay.
    """
    import llama_cpp

    params = llama_cpp.llama_context_default_params()
    params.n_ctx = args.batch * (args.prompt_len + args.gen_len)
    params.n_batch = params.n_ubatch = group_size(args) * args.prompt_len
    params.n_seq_max = args.batch
    params.kv_unified = args.limit_bytes is not None
    params.n_threads = params.n_threads_batch = args.threads
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise RuntimeError("llama.cpp could not make a context for this batch")
    return context


def group_size(args: argparse.Namespace) -> int:
    """How many whole prompts go into one prefill batch; at least enough tokens for decode."""
    fitting = max(1, MAX_BATCH_TOKENS // args.prompt_len)
    return int(min(args.batch, max(fitting, -(-args.batch // args.prompt_len))))


class Batch:
    """One reusable llama_batch: token, position and sequence of each entry."""

    def __init__(self, capacity: int) -> None:
        import llama_cpp

        self.raw = llama_cpp.llama_batch_init(capacity, 0, 1)

    def clear(self) -> None:
        """Forget all entries."""
        self.raw.n_tokens = 0

    def add(self, token_id: int, position: int, sequence: int, *, logits: bool) -> int:
        """Append one token; its index in the batch."""
        i: int = self.raw.n_tokens
        self.raw.token[i], self.raw.pos[i] = token_id, position
        self.raw.n_seq_id[i], self.raw.seq_id[i][0] = 1, sequence
        self.raw.logits[i] = logits
        self.raw.n_tokens = i + 1
        return i


def decode_greedy(context: Any, batch: Batch, wanted: list[int], vocab: int) -> list[int]:
    """Run the batch; the most likely next token at each of the `wanted` entries."""
    import llama_cpp
    import numpy as np

    status = llama_cpp.llama_decode(context, batch.raw)
    if status:
        raise RuntimeError(f"llama_decode returned {status}")
    return [
        int(np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, i), (vocab,)).argmax())
        for i in wanted
    ]


def prefill(
    context: Any, batch: Batch, prompts: list[list[int]], group: int, vocab: int
) -> list[int]:
    """Feed all prompts, `group` at a time; the first token of each sequence."""
    first_tokens: list[int] = []
    for start in range(0, len(prompts), group):
        batch.clear()
        wanted = []
        for sequence, prompt in enumerate(prompts[start : start + group], start):
            for position, token_id in enumerate(prompt):
                last = position == len(prompt) - 1
                index = batch.add(token_id, position, sequence, logits=last)
            wanted.append(index)
        first_tokens += decode_greedy(context, batch, wanted, vocab)
    return first_tokens


def load(args: argparse.Namespace) -> Generate:
    """Map the model."""
    import llama_cpp

    model = open_model(args)
    context = open_context(model, args)
    vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    batch, group = Batch(group_size(args) * args.prompt_len), group_size(args)

    def run(prompts: list[list[int]], gen_len: int) -> Generation:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        return generate(context, batch, prompts, gen_len, group, vocab)

    return run


def generate(
    context: Any, batch: Batch, prompts: list[list[int]], gen_len: int, group: int, vocab: int
) -> Generation:
    """Run prompts of one length in an empty context, `group` at a time."""
    prompt_len = len(prompts[0])
    start_s = time.perf_counter()
    steps = [prefill(context, batch, prompts, group, vocab)]
    first_token_s = time.perf_counter()
    for position in range(prompt_len, prompt_len + gen_len - 1):
        batch.clear()
        wanted = [
            batch.add(token_id, position, sequence, logits=True)
            for sequence, token_id in enumerate(steps[-1])
        ]
        steps.append(decode_greedy(context, batch, wanted, vocab))
    tokens = [list(sequence) for sequence in zip(*steps, strict=True)]
    return Generation(start_s, first_token_s, time.perf_counter(), tokens)


if __name__ == "__main__":
    sys.exit(run_peer(Peer("llama.cpp", import_libraries, load, prepare)))
