"""The group of each column, where columns were quantized in the order of their activations."""

from __future__ import annotations

import torch
from torch import Tensor

from lm_offload.errors import CheckpointError
from lm_offload.foreign.grouped import Grouping
from lm_offload.foreign.parts import WHY, Parts
from lm_offload.storage.row_reader import read_tensor
from lm_offload.storage.safetensors_header import TensorEntry
from lm_offload.storage.tensor_source import Files


def find_order(parts: Parts, suffix: str, columns: int, grouping: Grouping) -> TensorEntry | None:
    """The tensor of group numbers, which need not be there where groups are in order."""
    if grouping.in_order and parts.find(suffix) is None:
        return None
    return parts.need(suffix, ("I32",), (columns,))


def read_order(entry: TensorEntry | None, grouping: Grouping, files: Files) -> Tensor | None:
    """The group of each column int64 [K], None where groups are in order.

    Raises CheckpointError if it is not what the config says.
    """
    if entry is None:
        return None
    group_of = read_tensor(entry, files[entry.path]).long()
    neighbours = torch.arange(len(group_of)) // grouping.group_size
    if grouping.in_order and not torch.equal(group_of, neighbours):
        raise CheckpointError(
            f"Tensor {entry.name} has columns in activation order, which {WHY} does not say; use "
            "the config.json that belongs to these weights."
        )
    low, high = int(group_of.min()), int(group_of.max())
    if low < 0 or high > int(neighbours[-1]):
        raise CheckpointError(
            f"Tensor {entry.name} has groups from {low} to {high}, allowed are 0 to "
            f"{int(neighbours[-1])}; download the checkpoint again."
        )
    return None if grouping.in_order else group_of
