"""The header of a GGUF file: metadata and where each tensor lies; reads no weights.

Layout of the format (ggml/docs/gguf.md), little-endian: magic, version, counts, key-value pairs,
tensor infos, then the data at the next multiple of `general.alignment`.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lm_offload.errors import CheckpointError
from lm_offload.storage.safetensors_header import TensorEntry
from lm_offload.units import align_up

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_HEADER_BYTES = 64 << 20  # vocabularies of 262 thousand tokens with their merges take 16 MB
LONG_ARRAY = 4096  # longer ones, and those of texts, are vocabularies: only their length is kept
_SCALARS = ("B", "b", "H", "h", "I", "i", "f", "?", None, None, "Q", "q", "d")  # by type number
_TEXT, _ARRAY = 8, 9
_Info = tuple[tuple[int, ...], int, int]  # of a tensor: shape, type number, offset


@dataclass(frozen=True)
class LongArray:
    """An array that was skipped."""

    length: int


@dataclass(frozen=True)
class GGUFHeader:
    """What one file says: metadata by key, and tensors by the names that GGUF gives them.

    The dtype of an entry is GGUF's ("Q4_K", "F16"), its shape is rows first.
    """

    metadata: Mapping[str, Any]
    tensors: Mapping[str, TensorEntry]


def read_gguf_header(path: Path) -> GGUFHeader:
    """Parse the header; raises CheckpointError for a damaged file or an unknown type."""
    try:
        with path.open("rb") as file:
            header = _Reader(path, file).header()
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return header
    except OSError as error:
        raise CheckpointError(f"Weight file {path.name} cannot be read ({error}).") from error


class _Reader:
    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self._file_bytes = os.fstat(file.fileno()).st_size

    def header(self) -> GGUFHeader:
        if self._take(4) != MAGIC:
            raise self._broken("it does not start with GGUF")
        version = self._number("I")
        if version not in VERSIONS:
            raise self._broken(f"it has version {version}, read are {VERSIONS}")
        tensor_count, pair_count = self._number("Q"), self._number("Q")
        pairs = ((self._text(), self._value(self._number("I"))) for _ in range(pair_count))
        metadata = self._unique("key", pairs)
        infos = self._unique("tensor", (self._info() for _ in range(tensor_count)))
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise self._broken(f"its alignment is {alignment!r}")
        start = align_up(self._file.tell(), alignment)
        tensors = {name: self._entry(name, info, start) for name, info in infos.items()}
        return GGUFHeader(metadata, tensors)

    def _unique(self, what: str, pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        """Pairs as they are read, up to the first that is there already: zeros end soon."""
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise self._broken(f"it has the {what} {name!r} twice")
            found[name] = value
        return found

    def _info(self) -> tuple[str, _Info]:
        name = self._text()
        dimensions = [self._number("Q") for _ in range(self._number("I"))]
        return name, (tuple(reversed(dimensions)), self._number("I"), self._number("Q"))

    def _entry(self, name: str, info: _Info, start: int) -> TensorEntry:
        shape, type_number, offset = info
        dtype, block, block_bytes = self._type(name, type_number)
        if not shape or 0 in shape or shape[-1] % block:
            raise self._broken(f"{name} has shape {list(shape)}, {dtype} needs rows of {block} x n")
        entry = TensorEntry(
            name, self._path, dtype, shape, start + offset, math.prod(shape) // block * block_bytes
        )
        if entry.offset + entry.size_bytes > self._file_bytes:
            end = entry.offset + entry.size_bytes
            raise self._broken(f"{name} ends at byte {end} of {self._file_bytes} (truncated?)")
        return entry

    def _type(self, name: str, number: int) -> tuple[str, int, int]:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        try:
            kind = GGMLQuantizationType(number)
        except ValueError:
            raise self._broken(f"{name} has the unknown type {number}") from None
        return (kind.name, *GGML_QUANT_SIZES[kind])

    def _value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self._text()
        if kind == _ARRAY:
            return self._array(self._number("I"), self._number("Q"))
        if kind >= len(_SCALARS):
            raise self._broken(f"a value in it has the unknown type {kind}")
        return self._number(str(_SCALARS[kind]))

    def _array(self, kind: int, length: int) -> list[Any] | LongArray:
        if kind == _TEXT:
            self._check_claim(length * struct.calcsize("<Q"))  # of the empty text
            for _ in range(length):
                self._skip(self._number("Q"))
            return LongArray(length)
        if kind == _ARRAY or kind >= len(_SCALARS):
            raise self._broken(f"an array in it has the unknown type {kind}")
        if length <= LONG_ARRAY:
            return [self._value(kind) for _ in range(length)]
        self._skip(length * struct.calcsize(f"<{_SCALARS[kind]}"))
        return LongArray(length)

    def _number(self, code: str) -> Any:
        size = struct.calcsize("<" + code)
        return struct.unpack("<" + code, self._take(size))[0]

    def _text(self) -> str:
        return self._take(self._number("Q")).decode("utf-8", "replace")

    def _skip(self, size_bytes: int) -> None:
        if size_bytes > self._file_bytes - self._file.tell():
            raise self._broken("its header is cut off")
        self._file.seek(size_bytes, os.SEEK_CUR)

    def _take(self, size_bytes: int) -> bytes:
        self._check_claim(size_bytes)
        data = self._file.read(size_bytes)
        if len(data) < size_bytes:
            raise self._broken("its header is cut off")
        return data

    def _check_claim(self, size_bytes: int) -> None:
        """Before it is read: that the header is not longer than headers are."""
        claimed = self._file.tell() + size_bytes
        if claimed > MAX_HEADER_BYTES:
            raise self._broken(f"its header claims {claimed} bytes")

    def _broken(self, reason: str) -> CheckpointError:
        return CheckpointError(
            f"GGUF file {self._path.name} is damaged or not one that can be read: {reason}; "
            "download it again."
        )
