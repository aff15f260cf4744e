"""A quantized matrix as the kernels read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.quant.format import Format


@dataclass(frozen=True, eq=False)
class PackedWeight:
    """A view of packed bytes; never unpacked in memory.

    `data` is uint8 [format.matrix_bytes(*shape)], contiguous; the layout is that of
    quant/packing.py.
    """

    data: Tensor
    format: Format
    shape: tuple[int, int]  # rows N (outputs), columns K (inputs)
