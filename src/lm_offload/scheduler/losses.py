"""What a disk that fails takes from sequences, and those that are given up for it."""

from __future__ import annotations

from collections.abc import Mapping

from lm_offload.errors import StorageError
from lm_offload.sequence import Sequence

MOST_LOSSES = 1  # of a sequence


class Losses:
    """Why blocks of the KV cache were lost, and who could not go on without them."""

    def __init__(self) -> None:
        self._reason = ""
        self._failed: list[Sequence] = []

    @property
    def has_any(self) -> bool:
        """Whether blocks were lost, so that there are fewer now."""
        return bool(self._reason)

    def note(self, lost: Mapping[int, StorageError]) -> None:
        """Blocks by number, and why each is lost; there is at least one."""
        self._reason = str(next(iter(lost.values())))

    def may_try_again(self, sequence: Sequence) -> bool:
        """Count a loss of a sequence; False if that was one too many."""
        sequence.losses += 1
        return sequence.losses <= MOST_LOSSES

    def give_up(self, sequence: Sequence) -> None:
        """End a sequence with an error."""
        sequence.finish_reason, sequence.error = "error", self._reason
        self._failed.append(sequence)

    def take_failed(self) -> list[Sequence]:
        """The sequences that were given up since the last call."""
        failed, self._failed = self._failed, []
        return failed
