"""Makes the input of a sweep, and tells those beside the runner which rows it has."""

from __future__ import annotations

from dataclasses import dataclass

from lm_offload.arch.config import ModelConfig
from lm_offload.kvcache.cache import KVCache
from lm_offload.pipeline.host_attention import HostAttention
from lm_offload.pipeline.host_units import HostUnits
from lm_offload.pipeline.micro_batches import SweepInput, build_sweep_input
from lm_offload.schedule.in_place import NOTHING
from lm_offload.sequence import Batch


@dataclass(frozen=True)
class SweepInputs:
    """Of batch after batch, in micro-batches of at most `most_rows`."""

    config: ModelConfig
    cache: KVCache
    most_rows: int
    host: HostAttention | None  # attention on the CPU where a device computes
    host_units: HostUnits | None  # what the CPU computes where it lies, beside a device

    def of(self, batch: Batch) -> SweepInput:
        """Its tensors are on the host."""
        found = self._made(batch)
        for host in (self.host, self.host_units):
            if host is not None:
                host.begin(found.micro_batches)
        return found

    def _made(self, batch: Batch) -> SweepInput:
        """Where the device waits for the CPU's attention there are several turns."""
        in_place = self.host_units.units_of(batch.num_tokens) if self.host_units else NOTHING
        if self.host is not None and self.host.units - in_place:
            return self.host.input_of(batch, self.most_rows)
        return build_sweep_input(self.config, batch, self.most_rows, self.cache.blocks_of)
