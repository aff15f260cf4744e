"""The index of a quantized folder: written last, so that a folder that has one is complete."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_offload.errors import CheckpointError, ConfigError
from lm_offload.quant.format import Format, parse_format
from lm_offload.storage.checkpoint import FileStamp
from lm_offload.storage.durable import write_whole
from lm_offload.storage.packed_layout import PackedTensor, PackedUnit

VERSION = 1  # of the bytes, and of how scales are chosen
INDEX_FILE = "packed.json"
DATA_FILE = "weights.bin"


@dataclass(frozen=True)
class PackedPlan:
    """What a quantized folder holds; known before anything is written."""

    model: str  # for people
    format: Format
    dtype: str  # own precision of the checkpoint, which the KV cache keeps
    fingerprint: str  # of that checkpoint
    units: tuple[PackedUnit, ...]

    @property
    def size_bytes(self) -> int:
        """Size of the data file."""
        return sum(unit.size_bytes for unit in self.units)

    @property
    def identity(self) -> int:
        """A number that differs between plans."""
        return _checksum(self)


@dataclass(frozen=True)
class PackedIndex:
    """A complete folder: the plan, and a CRC-32 of the block of each unit."""

    plan: PackedPlan
    checksums: Mapping[str, int]
    data_bytes: int
    modified_ns: int  # of the data file when its checksums were last known to be right

    def describes(self, stamp: FileStamp) -> bool:
        """Whether the data file is untouched since its checksums were last known to be right."""
        return (stamp.size_bytes, stamp.modified_ns) == (self.data_bytes, self.modified_ns)


def make_index(plan: PackedPlan, checksums: Mapping[str, int], folder: Path) -> PackedIndex:
    """The index for the data file as it is now."""
    stamp = FileStamp.of(folder / DATA_FILE)
    return PackedIndex(plan, checksums, stamp.size_bytes, stamp.modified_ns)


def write_index(folder: Path, index: PackedIndex) -> None:
    """Replace the index at once; raises OSError."""
    content = {"version": VERSION, "checksum": _checksum(index), "index": index}
    write_whole(folder / INDEX_FILE, json.dumps(content, default=_plain, indent=1).encode())


def read_index(folder: Path) -> PackedIndex:
    """The index of `folder`; raises CheckpointError if it is damaged or of another version."""
    try:
        content = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise CheckpointError(
                f"{folder} was quantized by another version of lm-offload (format "
                f"{content['version']!r}, this one reads {VERSION}); quantize the model again."
            )
        index = _index(content["index"])
        if _checksum(index) != content["checksum"]:
            raise ValueError("its checksum does not fit")
        return index
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ConfigError) as error:
        raise CheckpointError(
            f"{folder / INDEX_FILE} is damaged ({error}); quantize the model again."
        ) from error


def _checksum(value: object) -> int:
    return zlib.crc32(json.dumps(value, default=_plain, sort_keys=True).encode())


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Format) else vars(value)


def _index(raw: dict[str, Any]) -> PackedIndex:
    return PackedIndex(
        _plan(raw["plan"]), dict(raw["checksums"]), raw["data_bytes"], raw["modified_ns"]
    )


def _plan(raw: dict[str, Any]) -> PackedPlan:
    units = tuple(_unit(unit) for unit in raw["units"])
    return PackedPlan(
        raw["model"], parse_format(raw["format"]), raw["dtype"], raw["fingerprint"], units
    )


def _unit(raw: dict[str, Any]) -> PackedUnit:
    tensors = tuple(_tensor(tensor) for tensor in raw["tensors"])
    return PackedUnit(raw["name"], raw["offset"], raw["size_bytes"], tensors)


def _tensor(raw: dict[str, Any]) -> PackedTensor:
    format, shape = parse_format(raw["format"]), tuple(raw["shape"])
    return PackedTensor(raw["name"], raw["role"], format, shape, raw["offset"])
