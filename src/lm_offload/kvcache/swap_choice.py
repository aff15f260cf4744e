"""What decides whether a preempted sequence is swapped to disk or computed again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lm_offload.quant.kv_format import BLOCK_TOKENS


@dataclass(frozen=True)
class Preemption:
    """What a sequence would have to move or to compute, and who goes on meanwhile."""

    first_block: int  # those before it are used by others, too, and stay
    num_computed: int  # tokens
    written_blocks: int  # that are not on disk yet
    contexts: tuple[int, ...]  # tokens of each sequence that goes on

    @property
    def first_token(self) -> int:
        """Computed again from here on, if nothing is swapped."""
        return self.first_block * BLOCK_TOKENS

    @property
    def swapped_blocks(self) -> int:
        """Full blocks, which are read when it comes back; the tokens behind are computed again."""
        return self.num_computed // BLOCK_TOKENS - self.first_block


SwapChoice = Callable[[Preemption], bool]  # whether to swap


def swap_never(preemption: Preemption) -> bool:
    """Of an engine without room on disk."""
    return False
