"""How thoroughly a machine is measured."""

from __future__ import annotations

from dataclasses import dataclass

from lm_offload.hardware.attention_rates import HeadShape
from lm_offload.hardware.disk_probe import ALL_WAYS, FEW_WAYS
from lm_offload.hardware.disk_reader import Way
from lm_offload.hardware.memory_probe import FEWEST_TIMES, TIMES_CACHE
from lm_offload.quant.format import Format, parse_format
from lm_offload.units import MIB


@dataclass(frozen=True)
class Effort:
    """Seconds, and the points at which rates are measured, each in ascending order."""

    name: str
    seconds: float
    rows: tuple[int, ...]
    contexts: tuple[int, ...]
    shapes: tuple[HeadShape, ...]  # of heads in the most usual format, bf16
    other_shapes: tuple[HeadShape, ...]  # in other formats
    ways: tuple[Way, ...]
    packed_formats: tuple[Format, ...]  # that are quantized to and turned back
    other_formats: tuple[Format, ...]  # of products, beside those that are always measured
    file_bytes: int  # that is written; 0: writes are taken to be as fast as reads
    turns: int = 1  # over all formats of products
    visits: int = 1  # to the engine, the last one after all else
    disk_visits: int = 1  # the same, to the disk
    interference_visits: int = 1  # the same, to disk and CPU beside one another
    sweeps: int = 30  # turns of the engine's sweeps, of all visits together
    cache_fracs: tuple[float, ...] = (1.0,)  # of the last-level cache, that sweeps then use
    times_cache: int = TIMES_CACHE  # memory that probes work in, over the last-level cache
    threads: bool = False  # whether speed by threads is measured, which a disturbance may spoil


ALL_SHAPES = tuple(HeadShape(size, group) for size in (64, 128) for group in (1, 4, 8))
FEW_SHAPES = (HeadShape(64, 4), HeadShape(64, 8), HeadShape(128, 4))

PACKED_FORMATS = (parse_format("int8"), parse_format("int4"))
OTHER_FORMATS = tuple(map(parse_format, ("int4:a8", "int8:a8", "fp8", "mxfp4")))

FULL = Effort(
    name="full",
    seconds=44.0,
    rows=(1, 2, 4, 6, 8, 16, 32, 64, 128, 512),
    contexts=(16, 64, 256, 512, 1024, 4096),
    shapes=ALL_SHAPES,
    other_shapes=ALL_SHAPES,
    ways=ALL_WAYS,
    packed_formats=PACKED_FORMATS,
    other_formats=OTHER_FORMATS,
    file_bytes=512 * MIB,
    turns=3,
    visits=4,
    disk_visits=8,
    interference_visits=6,
    cache_fracs=(0.5, 0.75, 1.0, 1.5, 2.0),
    threads=True,
)
QUICK = Effort(
    name="quick",
    seconds=3.2,
    rows=(1, 4, 16, 64, 256),
    contexts=(32, 1024),
    shapes=ALL_SHAPES,
    other_shapes=FEW_SHAPES,
    ways=FEW_WAYS,
    packed_formats=PACKED_FORMATS,
    other_formats=OTHER_FORMATS,
    file_bytes=128 * MIB,
    disk_visits=3,
    interference_visits=3,
    cache_fracs=(0.5, 1.0, 2.0),
    sweeps=12,
    times_cache=FEWEST_TIMES,
    threads=True,
)
START = Effort(
    name="start",
    seconds=1.7,
    rows=(1, 4, 16, 64, 256),
    contexts=(16, 128, 1024),
    shapes=FEW_SHAPES,
    other_shapes=FEW_SHAPES[:1],
    ways=FEW_WAYS,
    packed_formats=(),
    other_formats=(),
    file_bytes=0,
)
TIGHT = Effort(  # where memory is too little for true rates, and for more than this
    name="start, in little memory",
    seconds=0.6,
    rows=(1, 8, 64),
    contexts=(16, 256),
    shapes=FEW_SHAPES[:1],
    other_shapes=(),
    ways=FEW_WAYS,
    packed_formats=(),
    other_formats=(),
    file_bytes=0,
)
