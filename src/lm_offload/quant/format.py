"""How a weight matrix is stored: its name, its groups, its exact bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from lm_offload.errors import ConfigError

FormatName = Literal["fp32", "bf16", "fp16", "int8", "int4", "fp8", "mxfp4"]

_BY_DTYPE: dict[str, FormatName] = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
FLOAT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
CODE_BITS = {"int8": 8, "int4": 4, "fp8": 8, "mxfp4": 4}
GROUP_SIZES = (32, 64, 128)
ROW = "row"  # one group for all columns
DEFAULT_GROUPS = {"int8": "64", "int4": "64", "fp8": ROW}  # floats gain little by smaller ones
TILE_ROWS = 8  # rows of a matrix that are packed side by side, see quant/packing.py
SCALE_BYTES = 2  # fp16
OTHER_SCALE_BYTES = {"fp8": 4, "mxfp4": 1}  # fp32, as checkpoints in fp8 have them; e8m0
MXFP4_GROUP = 32  # the only one


@dataclass(frozen=True)
class Format:
    """A storage format; `str(format)` is what users write: bf16, int8, int4:64, int4:128:sym:a8.

    A quantized value is scale * code, or scale * code + minimum where it is not symmetric, with
    one scale (and minimum) for each row and group of columns. Codes are integers, those of fp8
    e4m3 floats, those of mxfp4 e2m1 floats with a power of two for every 32 columns. A group size
    of 0 is one scale for the whole row (not int4). With
    `int8_activations` (:a8) the same stored bytes are multiplied with activations that are
    rounded to 8 bits, see quant/activations.py.
    """

    name: FormatName
    group_size: int = 0
    symmetric: bool = True
    int8_activations: bool = False

    def __str__(self) -> str:
        if not self.is_packed or self.name == "mxfp4":
            return self.name
        group = f":{self.group_size or ROW}"
        symmetric_by_default = self.name != "int4"
        symmetry = "" if self.symmetric is symmetric_by_default else ":sym"
        return self.name + group + symmetry + (":a8" if self.int8_activations else "")

    @property
    def stored(self) -> Format:
        """The format of the same bytes that are multiplied without rounding activations to 8 bits.

        It names what lies in files.
        """
        return replace(self, int8_activations=False)

    @property
    def is_packed(self) -> bool:
        """Whether the format has codes and scales, so that values are rounded to few levels."""
        return self.name in CODE_BITS

    @property
    def has_float_codes(self) -> bool:
        """Whether codes are small floats, not whole numbers."""
        return self.name in ("fp8", "mxfp4")

    @property
    def is_of_experts(self) -> bool:
        """Whether only the experts of mixtures are stored in it, all else in its own precision."""
        return self.name == "mxfp4"

    @property
    def scale_bytes(self) -> int:
        """Bytes of one scale, and of one minimum."""
        return OTHER_SCALE_BYTES.get(self.name, SCALE_BYTES)

    def matrix_bytes(self, rows: int, columns: int) -> int:
        """Exact bytes of a [rows, columns] matrix, scales and padding of the rows included."""
        if not self.is_packed:
            return rows * columns * FLOAT_BYTES[self.name]
        groups = columns // self.group_size if self.group_size else 1
        factors = self.scale_bytes * (1 if self.symmetric else 2)
        row_bytes = columns * CODE_BITS[self.name] // 8 + groups * factors
        return -(-rows // TILE_ROWS) * TILE_ROWS * row_bytes


def format_of_dtype(dtype: str) -> Format:
    """How weights of a dtype (bfloat16, float16, float32) are stored as they are."""
    return Format(_BY_DTYPE[dtype])


def parse_format(text: str) -> Format:
    """The format that a user wrote: NAME[:GROUP|:row][:sym][:a8]; raises ConfigError."""
    name, *options = text.lower().split(":")
    if name in FLOAT_BYTES and not options:
        return Format(name)  # type: ignore[arg-type]
    if name == "mxfp4" and not options:
        return Format(name, MXFP4_GROUP)  # type: ignore[arg-type]
    if int8_activations := options[-1:] == ["a8"] and name != "fp8":
        options.pop()
    group = options.pop(0) if options and options[0] != "sym" else DEFAULT_GROUPS.get(name, "")
    symmetric = name != "int4" or options == ["sym"]
    if name in DEFAULT_GROUPS and options in ([], ["sym"]):
        if group == ROW and name != "int4":
            return Format(name, 0, True, int8_activations)  # type: ignore[arg-type]
        if group.isdigit() and int(group) in GROUP_SIZES:
            size = int(group)
            return Format(name, size, symmetric, int8_activations)  # type: ignore[arg-type]
    raise ConfigError(
        f"Format {text!r} is not known; allowed are bf16, fp16, fp32, mxfp4, int8, int4 and fp8, "
        f"the last three with a group size of {', '.join(map(str, GROUP_SIZES))} as in int4:64, "
        "int8 and fp8 with :row for one group, int4 with :sym for symmetric codes; :a8 at the end "
        "of an integer one also rounds activations to 8 bits."
    )
