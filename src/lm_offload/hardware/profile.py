"""What a machine can do, measured or described: the only source of speeds in the planner."""

from __future__ import annotations

from dataclasses import dataclass, field

from lm_offload.hardware.link import Link
from lm_offload.hardware.link_interference import LinkInterference
from lm_offload.hardware.processor import Processor


@dataclass(frozen=True)
class Interference:
    """What is left of a rate while another resource works: 1 where they do not disturb."""

    disk_read_while_computing_frac: float = 1.0
    compute_while_reading_frac: float = 1.0


@dataclass(frozen=True)
class HardwareProfile:
    """A machine of up to three tiers and two processors.

    `source` says where the numbers come from: "measured", or the paper or data sheet.
    """

    name: str
    source: str
    cpu: Processor
    disk_bytes: int
    disk_read: Link
    disk_write: Link
    gpu: Processor | None = None
    h2d: Link | None = None  # host to device: CPU memory to GPU memory
    d2h: Link | None = None
    host_copy: Link | None = None  # into pinned memory, before h2d; None: costs nothing
    d2h_pageable: Link | None = None  # to host memory that is not pinned; None: as d2h
    h2d_staged: Link | None = None  # from such memory through pinned buffers; None: as h2d
    interference: Interference = Interference()
    link_interference: LinkInterference = field(default_factory=LinkInterference)
    disturbed_frac: float = 0.0  # of the time of its measurement, by other work
    fingerprint: tuple[tuple[str, str], ...] = ()  # empty: described by hand
