"""The weights of a checkpoint as byte ranges, for converters that have no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Source:
    """Where one weight lies: a safetensors file and a byte range in it."""

    file: Path
    offset: int
    size_bytes: int
    shape: tuple[int, ...]
    dtype: str

    def read(self) -> npt.NDArray[np.uint8]:
        """The weight's bytes; pages of the file are dropped when the result is."""
        return np.memmap(self.file, np.uint8, "r", self.offset, (self.size_bytes,))

    def as_fp32(self) -> npt.NDArray[np.float32]:
        """The weight in fp32, in its own shape."""
        raw = self.read()
        if self.dtype == "BF16":
            values = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            values = raw.view(np.float16 if self.dtype == "F16" else np.float32).astype(np.float32)
        return values.reshape(self.shape)


def sources_of(folder: Path) -> dict[str, Source]:
    """Every weight of a checkpoint by its Hugging Face name."""
    sources: dict[str, Source] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            header_bytes = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(header_bytes))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            start, end = entry["data_offsets"]
            offset = 8 + header_bytes + start
            sources[name] = Source(file, offset, end - start, tuple(entry["shape"]), entry["dtype"])
    return sources
