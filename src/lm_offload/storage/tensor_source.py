"""A tensor on its way into a quantized folder: how it will be stored, and where its rows are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from lm_offload.arch.weights import WeightSpec
from lm_offload.quant.format import TILE_ROWS, Format
from lm_offload.storage.checkpoint import Checkpoint
from lm_offload.storage.direct_file import DirectFile
from lm_offload.storage.layout import Extent, find_extent

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.quant.packing import Codes

FLOAT_FORMATS = {"F32": Format("fp32"), "BF16": Format("bf16"), "F16": Format("fp16")}

Files = Mapping[Path, DirectFile]
Piece: TypeAlias = "Tensor | Codes"  # rows to be quantized, or codes as they are stored


class TensorSource(Protocol):
    """One tensor of a checkpoint, or some of its rows."""

    @property
    def name(self) -> str:
        """In the checkpoint."""

    @property
    def role(self) -> str:
        """What the model functions call it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is stored."""

    @property
    def format(self) -> Format:
        """In which it is stored."""

    @property
    def size_bytes(self) -> int:
        """Bytes to read."""

    @property
    def paths(self) -> Sequence[Path]:
        """The files that are read."""

    def pieces(self, files: Files) -> Iterator[Piece]:
        """Consecutive rows, whole tiles of them but at the end.

        Each is valid while the next one is made, until the one behind that is asked for.

        Floats are in the format's own dtype, or of any dtype where that is a packed one.
        """


@dataclass(frozen=True)
class OwnTensor:
    """A tensor that the checkpoint holds in full precision."""

    extent: Extent
    format: Format

    @property
    def name(self) -> str:
        """In the checkpoint."""
        return self.extent.entry.name

    @property
    def role(self) -> str:
        """What the model functions call it."""
        return self.extent.role

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is stored."""
        return self.extent.shape

    @property
    def size_bytes(self) -> int:
        """Bytes to read."""
        return self.extent.size_bytes

    @property
    def paths(self) -> Sequence[Path]:
        """The file that is read."""
        return (self.extent.entry.path,)

    def pieces(self, files: Files) -> Iterator[Tensor]:
        """Rows in the dtype of the checkpoint."""
        from lm_offload.storage.row_reader import read_rows  # with torch

        return read_rows(self.extent, files[self.extent.entry.path], TILE_ROWS)


def row_count(piece: Piece) -> int:
    """Rows of a piece."""
    from lm_offload.quant.packing import Codes  # with torch

    return len(piece.values if isinstance(piece, Codes) else piece)


def own_tensors(
    checkpoint: Checkpoint, specs: Iterable[WeightSpec], format: Format | None
) -> list[OwnTensor]:
    """Tensors of which matrices become `format` (None: nothing does) and all else stays.

    Norms, biases and routers are too small to gain and too important to lose.
    """
    found = ((find_extent(checkpoint, spec), format and spec.takes(format)) for spec in specs)
    return [
        OwnTensor(extent, format if format and taken else FLOAT_FORMATS[extent.entry.dtype])
        for extent, taken in found
    ]
