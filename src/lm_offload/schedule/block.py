"""A block of sequences and what moves while it passes through the model: input of the schedules.

A block is K micro-batches that share each load of the weights. A sweep computes all units in
order, each for all micro-batches::

    unit 0: micro-batch 0 1 .. K-1 | unit 1: 0 1 .. K-1 | ... | head: 0 1 .. K-1
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

from lm_offload.schedule.task import Kind, Resource

UnitKind = Literal["attention", "mlp", "head"]
Transfers = tuple[Kind, ...]

LOAD_WEIGHTS: Transfers = ("read", "stage", "upload")  # chains in order of their tasks
LOAD_KV: Transfers = ("read_kv", "stage_kv", "upload_kv")
STORE_KV: Transfers = ("download_kv", "write_kv")
LOAD_HIDDEN: Transfers = ("read_hidden", "upload_hidden")
STORE_HIDDEN: Transfers = ("download_hidden", "write_hidden")

HOST_LOAD_KV: Transfers = ("read_kv", "download_kv")  # the same where the CPU computes
HOST_STORE_KV: Transfers = ("upload_kv", "write_kv")
HOST_LOAD_HIDDEN: Transfers = ("read_hidden", "download_hidden")
HOST_STORE_HIDDEN: Transfers = ("upload_hidden", "write_hidden")

TRANSFER_RESOURCE: Mapping[Kind, Resource] = MappingProxyType(
    {
        "read": "disk_read",
        "read_kv": "disk_read",
        "read_hidden": "disk_read",
        "write_kv": "disk_write",
        "write_hidden": "disk_write",
        "upload": "h2d",
        "upload_kv": "h2d",
        "upload_hidden": "h2d",
        "return_attended": "h2d",
        "download_kv": "d2h",
        "download_hidden": "d2h",
        "send_qkv": "d2h",
        "stage": "cpu",
        "stage_kv": "cpu",
        "attend": "cpu",
    }
)


class Place(NamedTuple):
    """One unit for one micro-batch in one sweep."""

    sweep: int
    unit: int
    micro_batch: int


@dataclass(frozen=True)
class Flows:
    """Which tasks each chain of transfers has; none where nothing moves."""

    load_weights: Transfers = ()
    load_kv: Transfers = ()
    store_kv: Transfers = ()
    load_hidden: Transfers = ()
    store_hidden: Transfers = ()
    compute: Literal["gpu", "cpu"] = "gpu"
    host_attention: bool = False  # on the CPU, while the GPU computes the rest


@dataclass(frozen=True)
class Block:
    """What a schedule puts in order: units, micro-batches, transfers, and how often."""

    units: tuple[UnitKind, ...]
    num_micro_batches: int
    flows: Flows
    num_sweeps: int = 1

    def places(self) -> Iterator[Place]:
        """Every unit for every micro-batch in the order of the computation."""
        for sweep in range(self.num_sweeps):
            for unit in range(len(self.units)):
                for micro_batch in range(self.num_micro_batches):
                    yield Place(sweep, unit, micro_batch)

    def place_of(self, load: int, micro_batch: int) -> Place:
        """The place of the unit that is the `load`-th since the first sweep."""
        sweep, unit = divmod(load, len(self.units))
        return Place(sweep, unit, micro_batch)

    @property
    def num_loads(self) -> int:
        """How often a unit's weights are loaded in all sweeps."""
        return self.num_sweeps * len(self.units)
