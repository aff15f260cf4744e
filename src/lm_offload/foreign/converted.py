"""A tensor that a checkpoint holds in a format of its own, and what reading it loses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lm_offload.quant.format import Format
from lm_offload.storage.safetensors_header import TensorEntry
from lm_offload.storage.tensor_source import Files, Piece


class Loss(StrEnum):
    """What a conversion changes, as users read it."""

    NOTHING = "exact"
    CHOSEN = "as asked for"  # floats, for which the user named a format
    SCALES = "codes kept, scales and minimums rounded to fp16"
    ROWS = "rows of the embedding, rounded"
    WEIGHTS = "lossy, quantized again"


@dataclass(frozen=True)
class ConvertedTensor:
    """A `TensorSource` whose rows are decoded from the bytes of one or several entries."""

    name: str
    role: str
    shape: tuple[int, ...]
    format: Format
    origin: str  # the format in the file: "Q4_K", "GPTQ int4"
    loss: Loss
    entries: Sequence[TensorEntry]
    decode: Callable[[Files], Iterator[Piece]]
    rows_frac: float = 1.0  # of the rows in the file that are read

    @property
    def size_bytes(self) -> int:
        """Bytes to read."""
        return int(self.rows_frac * sum(entry.size_bytes for entry in self.entries))

    @property
    def paths(self) -> Sequence[Path]:
        """The files that are read."""
        return [entry.path for entry in self.entries]

    def pieces(self, files: Files) -> Iterator[Piece]:
        """Rows, or their codes where these are kept."""
        return self.decode(files)


def describe(tensors: Iterable[ConvertedTensor]) -> str:
    """One line: how many matrices of which format become what, the most frequent first."""
    matrices = {(tensor.name, tensor.role): tensor for tensor in tensors if len(tensor.shape) == 2}
    kinds = Counter((t.origin, str(t.format), t.loss) for t in matrices.values())
    lines = [
        f"{count} x {origin} to {format} ({loss})"
        for (origin, format, loss), count in kinds.most_common()
    ]
    return "; ".join(lines or ["floats as they are"])
