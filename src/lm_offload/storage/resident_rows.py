"""Rows of an embedding table that lies in memory, perhaps in parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from torch import Tensor

WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}  # by their bytes


class ResidentRows:
    """A table in memory; the same `gather` as that of a table on disk.

    A head that is the table has parts. They lie in one memory, so that a row of any part begins at
    an element of that: all rows are picked at once, in a view whose rows begin at every element.
    Numpy picks them, as integers of their size, in half of torch's time.
    """

    def __init__(self, parts: Sequence[Tensor], memory: Tensor) -> None:
        """`parts` [rows, width] in order, in `memory` [N], which begins before all of them."""
        self._width = parts[0].shape[1]
        self._dtype, size = memory.dtype, memory.itemsize
        shape = len(memory) - self._width + 1, self._width
        self._rows = as_strided(memory.view(WORDS[size]).numpy(), shape, (size, size))
        starts = np.cumsum([0, *map(len, parts[:-1])])
        offsets = [part.data_ptr() - memory.data_ptr() for part in parts]
        self._ends = starts[1:]
        self._shifts = np.array(offsets) // memory.itemsize - starts * self._width

    def gather(self, indices: Tensor) -> Tensor:
        """Rows [T, width] of `indices` [T] int64."""
        asked = indices.numpy()
        part = self._ends.searchsorted(asked, side="right")
        rows = self._rows[asked * self._width + self._shifts[part]]
        return torch.from_numpy(rows).view(self._dtype)
