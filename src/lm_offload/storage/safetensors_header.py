"""Where each tensor of a safetensors file lies; reads the header and nothing else.

Layout of the format: 8 bytes little-endian header length, a JSON object, then the data.
Offsets in the JSON count from the start of the data; here they count from the start of the file.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_offload.errors import CheckpointError

MAX_HEADER_BYTES = 100_000_000  # the limit of the format's reference implementation
ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
DTYPE_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_OTHER_ITEM_BYTES = {
    "F64": 8, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1, "U16": 2, "U32": 4,
    "U64": 8, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip


@dataclass(frozen=True)
class TensorEntry:
    """One tensor in a file: its dtype (`F32`, `BF16`, ...), shape and place in bytes."""

    name: str
    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int  # from the start of the file
    size_bytes: int


def read_header(path: Path) -> dict[str, TensorEntry]:
    """The tensors of one safetensors file by name.

    Raises CheckpointError if the file is missing, truncated, or its header contradicts itself.
    """
    try:
        with path.open("rb") as file:
            file_bytes = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if file_bytes < 8 or length > min(file_bytes - 8, MAX_HEADER_BYTES):
                raise _broken(path, f"its header claims {length} bytes, the file has {file_bytes}")
            text = file.read(length)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    except FileNotFoundError:
        raise CheckpointError(
            f"Weight file {path.name} is missing from {path.parent}; copy it there again."
        ) from None
    except OSError as error:
        raise CheckpointError(f"Weight file {path.name} cannot be read ({error}).") from error
    entries = _parse(path, text, 8 + length)
    _check_places(path, entries, 8 + length, file_bytes)
    return {entry.name: entry for entry in entries}


def _broken(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"Weight file {path.name} is damaged: {reason}; download or copy it again."
    )


def _parse(path: Path, text: bytes, data_start: int) -> list[TensorEntry]:
    try:
        items = list(json.loads(text).items())
    except (ValueError, AttributeError, RecursionError) as error:
        raise _broken(path, f"its header is not valid ({type(error).__name__}: {error})") from error
    return [_entry(path, name, it, data_start) for name, it in items if name != "__metadata__"]


def _entry(path: Path, name: str, value: Any, data_start: int) -> TensorEntry:
    try:
        begin, end = value["data_offsets"]
        shape, dtype = tuple(value["shape"]), value["dtype"]
        item_bytes = ITEM_BYTES.get(dtype) or _OTHER_ITEM_BYTES.get(dtype)
    except (ValueError, TypeError, KeyError) as error:
        reason = f"tensor {name} has no valid dtype, shape and data_offsets"
        raise _broken(path, reason) from error
    if item_bytes is None:
        raise _broken(path, f"tensor {name} has the unknown dtype {dtype!r}")
    if not all(type(number) is int and number >= 0 for number in (begin, end, *shape)):
        raise _broken(path, f"tensor {name} has an offset or a size that is not a natural number")
    if end - begin != math.prod(shape) * item_bytes:
        words = f"tensor {name} has {end - begin} bytes, its shape and dtype need another number"
        raise _broken(path, words)
    # A single number is a vector of one.
    return TensorEntry(name, path, dtype, shape or (1,), data_start + begin, end - begin)


def _check_places(path: Path, entries: list[TensorEntry], data_start: int, file_bytes: int) -> None:
    position = data_start
    for entry in sorted(entries, key=lambda entry: (entry.offset, entry.size_bytes)):
        if entry.offset < position:
            raise _broken(path, f"tensor {entry.name} overlaps the one before it")
        position = entry.offset + entry.size_bytes
        if position > file_bytes:
            raise _broken(
                path, f"tensor {entry.name} ends at byte {position} of {file_bytes} (truncated?)"
            )
