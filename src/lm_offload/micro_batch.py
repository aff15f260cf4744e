"""The rows of a sweep that are computed together, flattened into index tensors::

tokens      a a a a | b | c | d d        4 sequences, 8 rows
query_starts 0       4   5   6    8
context_lens [4,      9,  3,  7]         tokens in the KV cache after this sweep
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class MicroBatch:
    """The rows of a sweep that are computed together, as attention needs them.

    Shapes: T rows, S sequences, B blocks of the longest sequence. Integer tensors are
    contiguous; those the native kernels read are int32.
    """

    start: int  # first row of this micro-batch in the sweep's hidden states
    stop: int  # one past its last row
    positions: Tensor  # [T] int64, position of each row in its own sequence
    query_starts: Tensor  # [S + 1] int32, first row of each sequence, relative to `start`
    context_lens: Tensor  # [S] int32, KV length of each sequence including these rows
    block_tables: Tensor  # [S, B] int32, KV block numbers in order of position
    slots: Tensor  # [T] int64, block number * block_tokens + offset, where K and V are written
    states: Tensor | None = None  # [S] int32, slots of recurrent states, if the model has any
    loads: tuple[tuple[int, int], ...] = ()  # kept state, slot that it is copied to before the rows
    saves: tuple[tuple[int, int], ...] = ()  # slot, kept state that it becomes behind the rows
    rotary: tuple[tuple[Tensor, Tensor], ...] = ()  # (cos, sin) [T, rotary_dim / 2] f32 per kind
    chunked: MicroBatch | None = None  # the same rows for layers that see their chunk alone

    @property
    def num_tokens(self) -> int:
        """Rows in this micro-batch."""
        return self.stop - self.start

    def on(self, device: torch.device, cache_device: torch.device) -> MicroBatch:
        """The same for kernels on `device` and attention on `cache_device`.

        Positions stay: the host looks rows of tables up by them.
        """
        return replace(
            self,
            query_starts=self.query_starts.to(cache_device),
            context_lens=self.context_lens.to(cache_device),
            block_tables=self.block_tables.to(cache_device),
            slots=self.slots.to(cache_device),
            rotary=tuple((cos.to(device), sin.to(device)) for cos, sin in self.rotary),
            chunked=self.chunked and self.chunked.on(device, cache_device),
        )
