"""Experts that are stacked by layer with rows for columns, as Llama 4 and Qwen 3 VL have them.

::

    feed_forward.experts.gate_up_proj   [E, H, 2 I]   the columns of the gate, then those of up
    feed_forward.experts.down_proj      [E, I, H]

Each expert becomes matrices of its own, without a loss.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from lm_offload.arch.weights import WeightSpec, name_candidates
from lm_offload.foreign.converted import ConvertedTensor, Loss
from lm_offload.foreign.parts import SCALE_DTYPES, Parts
from lm_offload.foreign.pieces import row_ranges
from lm_offload.quant.format import Format
from lm_offload.storage.checkpoint import Checkpoint
from lm_offload.storage.row_reader import read_tensor
from lm_offload.storage.safetensors_header import TensorEntry
from lm_offload.storage.tensor_source import FLOAT_FORMATS, Files

_EXPERT = re.compile(r"(.+\.experts\.)(\d+)\.(gate|up|down)_proj\.weight")
_STACKS = {
    "gate": ("gate_up_proj", 2, 0),
    "up": ("gate_up_proj", 2, 1),
    "down": ("down_proj", 1, 0),
}


def convert_expert(
    checkpoint: Checkpoint, spec: WeightSpec, wanted: Format | None
) -> ConvertedTensor | None:
    """One matrix of one expert, None for any other tensor.

    `wanted` is the format of matrices. Raises CheckpointError.
    """
    found = _EXPERT.fullmatch(spec.name)
    if found is None:
        return None
    stack, parts, part = _STACKS[found[3]]
    entry = _entry(
        checkpoint, found[1] + stack, int(found[2]), (spec.shape[1], parts * spec.shape[0])
    )

    def decode(files: Files) -> Iterator[Tensor]:
        columns = read_tensor(entry, files[entry.path]).view(entry.shape).chunk(parts, 1)[part]
        for rows in row_ranges(spec):
            yield columns[:, rows].T.contiguous()

    taken = wanted if wanted and spec.takes(wanted) else None
    return ConvertedTensor(
        spec.name,
        spec.role,
        spec.shape,
        taken or FLOAT_FORMATS[entry.dtype],
        entry.dtype,
        Loss.CHOSEN if taken else Loss.NOTHING,
        [entry],
        decode,
        rows_frac=1 / parts,
    )


def _entry(checkpoint: Checkpoint, name: str, expert: int, shape: tuple[int, int]) -> TensorEntry:
    """One expert's [columns, rows] of the stack `name`; raises CheckpointError."""
    stacks = [Parts(checkpoint, candidate) for candidate in name_candidates(name)]
    stack = next((it for it in stacks if it.find("")), stacks[0])
    held = stack.find("")
    experts = max(held.shape[0] if held and held.shape else 0, expert + 1)
    entry = stack.need("", SCALE_DTYPES, (experts, *shape))
    size_bytes = entry.size_bytes // experts
    return replace(
        entry, shape=shape, offset=entry.offset + expert * size_bytes, size_bytes=size_bytes
    )
