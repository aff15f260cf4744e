"""What a row of a prompt costs the engine beside its kernels: index tensors, angles, token ids."""

from __future__ import annotations

import tempfile
from array import array
from functools import partial
from pathlib import Path

import torch

from lm_offload.arch.config import ModelConfig, load_config
from lm_offload.engine.tiny_model import write_tiny_model
from lm_offload.hardware.timing import typical_s
from lm_offload.pipeline.micro_batches import build_sweep_input
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.sampling import SamplingParams
from lm_offload.sequence import Batch, Chunk, Sequence

FEW, MANY = BLOCK_TOKENS, 512  # rows
BUDGET_S = 0.05


def measure_row_s() -> float:
    """Seconds that a row more of a prompt adds, on one thread, as plans have it for this."""
    with tempfile.TemporaryDirectory() as folder:
        write_tiny_model(Path(folder), layers=1)
        config = load_config(Path(folder))
    works = {rows: partial(_build, config, rows) for rows in (FEW, MANY)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = typical_s(works, BUDGET_S)
    torch.set_num_threads(threads)
    return max(seconds[MANY] - seconds[FEW], 0.0) / (MANY - FEW)


def _build(config: ModelConfig, rows: int) -> None:
    """What a sweep needs beside weights and cache, of one prompt."""
    sequence = Sequence(0, array("i", [1] * rows), SamplingParams())
    sequence.blocks = list(range(rows // BLOCK_TOKENS))
    build_sweep_input(config, Batch((Chunk(sequence, 0, rows),)), rows)
