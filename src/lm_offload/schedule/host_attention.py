"""In what order a device computes where the CPU attends, so that neither waits for the other.

A unit with attention is two pieces on the device, `project` and, when the CPU has attended, the
rest. A stage is what is computed of one micro-batch before the next has its turn::

    a stage from attention to attention        gpu  | p0 p1 | c0 m0 p0' | c1 m1 p1' | c0' m0' ...
    (rest, MLP, projections of the next)       cpu     | a0 |    a1     |    a0'    |   a1'  ...

    a stage of each piece                      gpu  | p0 p1 |    | c0 c1 | m0 m1 | p0' p1' | ...
                                               cpu     | a0 | a1 |                  | a0' | a1'

The first keeps both busy and holds the weights of a whole stage; the second is for a ring that is
too small for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from lm_offload.schedule.task import Task, TaskId

LEAST_MICRO_BATCHES = 2  # of a sweep of several rows: one is attended to while another computes


class Piece(NamedTuple):
    """What is computed of a unit at one time, and where."""

    unit: int
    kind: Literal["project", "compute", "in place"]  # the last by the CPU, the others by a device

    @property
    def hands_over(self) -> bool:
        """Whether the CPU has its turn after it, or with it."""
        return self.kind != "compute"


def most_rows(rows: int, micro_batch_tokens: int) -> int:
    """Rows of a micro-batch of a sweep, which has several."""
    return max(min(micro_batch_tokens, -(-rows // LEAST_MICRO_BATCHES)), 1)


def stages_of(
    micro_batches: Sequence[int],
    on_host: frozenset[int],
    upload_bytes: Mapping[int, int],
    ring_bytes: int,
    in_place: frozenset[int] = frozenset(),
) -> list[list[Piece]]:
    """All pieces of a sweep in stages, whose units have equally many micro-batches.

    Of units `on_host` the CPU computes attention, of those `in_place` all.
    """
    pieces = _pieces(len(micro_batches), on_host, in_place)
    if any(piece.hands_over for piece in pieces) and max(micro_batches) > 1:
        wide = _cut(pieces, micro_batches)
        if all(_fits(stage, upload_bytes, ring_bytes) for stage in wide):
            return wide
    return [[piece] for piece in pieces]


def after_projection(project: TaskId) -> Iterator[Task]:
    """What was projected goes to the CPU, which attends."""
    sweep, _, unit, micro_batch = project
    send, attend = (TaskId(sweep, kind, unit, micro_batch) for kind in ("send_qkv", "attend"))
    yield Task(send, "d2h", (project,))
    yield Task(attend, "cpu", (send,))


def before_rest(compute: TaskId) -> Task:
    """What the CPU made comes to the device."""
    sweep, _, unit, micro_batch = compute
    attend = TaskId(sweep, "attend", unit, micro_batch)
    return Task(TaskId(sweep, "return_attended", unit, micro_batch), "h2d", (attend,))


def _pieces(units: int, on_host: frozenset[int], in_place: frozenset[int]) -> list[Piece]:
    pieces = []
    for unit in range(units):
        if unit in on_host - in_place:
            pieces.append(Piece(unit, "project"))
        pieces.append(Piece(unit, "in place" if unit in in_place else "compute"))
    return pieces


def _cut(pieces: Sequence[Piece], micro_batches: Sequence[int]) -> list[list[Piece]]:
    """A stage ends where the CPU has its turn, or the number of micro-batches changes."""
    stages: list[list[Piece]] = []
    before: Piece | None = None
    for piece in pieces:
        counts = micro_batches[before.unit if before else piece.unit], micro_batches[piece.unit]
        returns = before is not None and before.hands_over and piece.kind != "in place"
        if before is None or returns or counts[0] != counts[1]:
            stages.append([])
        stages[-1].append(piece)
        before = piece
    return stages


def _fits(stage: Sequence[Piece], upload_bytes: Mapping[int, int], ring_bytes: int) -> bool:
    """Whether all its weights are in the ring at once, wherever it is cut at its end."""
    sizes = [upload_bytes.get(piece.unit, 0) for piece in stage if piece.kind != "in place"]
    return sum(sizes) + max(upload_bytes.values(), default=0) <= ring_bytes
