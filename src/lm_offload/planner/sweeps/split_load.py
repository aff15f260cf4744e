"""What device and CPU do in a sweep where both attend, in turns of two micro-batches.

::

    units = max(G0 + G1, A0 + A1, G0 + A0 + link, G1 + A1 + link)     G: device, A: CPU
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lm_offload.planner.sweeps.host_load import HostLoad, Turn
from lm_offload.schedule.task import Task


@dataclass(frozen=True)
class SplitLoad(HostLoad):
    """See `HostLoad`; `attend` is the CPU's, `own` the device's, which is in the first turn."""

    products: Sequence[Sequence[float]] = ()  # of each turn, of each unit
    own: Sequence[float] = ()
    shares: Sequence[float] = ()  # of `attend` in each turn
    links_s: Sequence[tuple[float, float]] = ()  # down and up, of each turn

    @property
    def alone(self) -> int:
        """Turns that the CPU has no part in; the others follow."""
        return sum(share == 0 for share in self.shares)

    @property
    def sent_s(self) -> float:
        """Seconds of all that goes down."""
        return sum(seconds > 0 for seconds in self.attend) * sum(down for down, _ in self.links_s)

    @property
    def back_s(self) -> float:
        """Seconds of all copies that come back."""
        return sum(seconds > 0 for seconds in self.attend) * sum(up for _, up in self.links_s)

    def slowed(self, down: float, attend: float) -> SplitLoad:
        """The same with factors on what goes down and on attention."""
        links_s = [(down * down_s, up_s) for down_s, up_s in self.links_s]
        return replace(self, attend=[attend * it for it in self.attend], links_s=links_s)

    def steady_s(self, device_s: float, wait_s: float) -> float:
        """All units, if neither ring holds anything up; what comes back waits for uploads."""
        first_s = device_s - sum(map(sum, self.products[1:]))
        each_s = [first_s, *map(sum, self.products[1:])]
        layers = len(self.attend) - self.attend.count(0.0)
        trips_s = [layers * (sum(link) + wait_s) for link in self.links_s]
        return turns_s(each_s, [share * self.attend_s for share in self.shares], trips_s)

    def turns(self, compute_s: Sequence[float]) -> list[Turn]:
        """Of each micro-batch; what is beside the products is in the first one."""
        beside = [
            whole - sum(parts) - own
            for whole, own, *parts in zip(compute_s, self.own, *self.products, strict=True)
        ]
        nothing = [0.0] * len(beside)
        first, *rest = zip(self.products, self.shares, self.links_s, strict=True)
        return [
            self._turn(*first, self.own, beside),
            *(self._turn(*turn, nothing, nothing) for turn in rest),
        ]

    def task_s(self, task: Task, device_s: float) -> float:
        """Seconds of a task of a unit that takes `device_s` on the device."""
        _, kind, unit, micro_batch = task.id
        compute_s = [sum(parts) for parts in zip(self.own, *self.products, strict=True)]
        compute_s[unit] = device_s
        turn = self.turns(compute_s)[micro_batch]
        if kind == "send_qkv":
            return turn.down_s
        if kind == "return_attended":
            return turn.up_s
        of_kind = {"attend": turn.attend_s, "project": turn.project_s}
        return of_kind.get(kind, turn.compute_s)[unit]

    def _turn(
        self,
        products: Sequence[float],
        share: float,
        link_s: tuple[float, float],
        own: Sequence[float],
        beside: Sequence[float],
    ) -> Turn:
        attended = [bool(pair[0] or pair[1]) for pair in zip(self.own, self.attend, strict=True)]
        before = [
            self.project_frac * seconds * is_attended
            for seconds, is_attended in zip(products, attended, strict=True)
        ]
        rest = [sum(it) for it in zip(products, (-s for s in before), beside, strict=True)]
        project = [sum(it) for it in zip(before, own, strict=True)]
        return Turn(project, rest, [share * seconds for seconds in self.attend], *link_s)


def turns_s(
    device_s: Sequence[float], attend_s: Sequence[float], trips_s: Sequence[float]
) -> float:
    """Seconds of turns: the longer of device and CPU, or of one turn alone."""
    turns = zip(device_s, attend_s, trips_s, strict=True)
    longest_s = max(computes + attends + trip for computes, attends, trip in turns)
    return max(sum(device_s), sum(attend_s), longest_s)
