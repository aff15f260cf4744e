"""Memory on both sides of the link for attention on the CPU beside a device.

::

    device   | queries | keys | values |     what attention makes comes back to the queries' place
    host     | queries | keys | values |     | attended |

Every micro-batch has a place of its own for a whole sweep, so nothing that is under way is
overwritten, and one copy moves it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lm_offload.arch.config import ModelConfig
from lm_offload.micro_batch import MicroBatch

if TYPE_CHECKING:
    from lm_offload.models.base import QKV


@dataclass(frozen=True)
class Exchange:
    """f32 and flat, room for the rows of a sweep; every view is contiguous."""

    config: ModelConfig
    on_device: Tensor  # [rows * width]
    on_host: Tensor  # [rows * width]
    attended: Tensor  # [rows * query_size], on the host

    def device_qkv(self, rows: MicroBatch) -> QKV:
        """Where the device leaves what is sent; attention comes back to the first of them."""
        return self._split(self._sent(self.on_device, rows), rows)

    def host_qkv(self, rows: MicroBatch) -> QKV:
        """What was sent."""
        return self._split(self._sent(self.on_host, rows), rows)

    def host_attended(self, rows: MicroBatch) -> Tensor:
        """[T, heads, head_dim], what is brought back."""
        return self._result(rows).view(rows.num_tokens, -1, self.config.head_dim)

    def way_down(self, rows: MicroBatch) -> tuple[Tensor, Tensor]:
        """Source and target of queries, keys and values."""
        return self._sent(self.on_device, rows), self._sent(self.on_host, rows)

    def keys_and_values_down(self, rows: MicroBatch) -> tuple[Tensor, Tensor]:
        """Source and target without the queries."""
        first = rows.num_tokens * self.config.query_size
        source, target = self.way_down(rows)
        return source[first:], target[first:]

    def way_back(self, rows: MicroBatch) -> tuple[Tensor, Tensor]:
        """Source and target of what attention made."""
        source = self._result(rows)
        return source, self._sent(self.on_device, rows)[: source.numel()]

    @property
    def nothing(self) -> tuple[Tensor, Tensor]:
        """Source and target of a copy of no rows."""
        return self.on_device[:0], self.on_host[:0]

    def _sent(self, memory: Tensor, rows: MicroBatch) -> Tensor:
        width = sum(self._widths)
        return memory[rows.start * width : rows.stop * width]

    def _result(self, rows: MicroBatch) -> Tensor:
        width = self.config.query_size
        return self.attended[rows.start * width : rows.stop * width]

    def _split(self, memory: Tensor, rows: MicroBatch) -> QKV:
        parts = torch.split(memory, [rows.num_tokens * width for width in self._widths])
        q, k, v = (part.view(rows.num_tokens, -1, self.config.head_dim) for part in parts)
        return q, k, v

    @property
    def _widths(self) -> tuple[int, int, int]:
        config = self.config
        return config.query_size, config.kv_size, config.kv_size
