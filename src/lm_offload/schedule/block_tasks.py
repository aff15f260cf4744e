"""The tasks of one place of a block, with the edges that the data itself asks for.

What a schedule adds is the order and the edges that protect buffers. Attention on the CPU splits
a unit into five tasks::

    gpu  | project |                                             | compute |   output projection
    d2h            | send_qkv |
    cpu                       | attend |
    h2d                                | return_attended |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from lm_offload.schedule.block import TRANSFER_RESOURCE, Block, Place
from lm_offload.schedule.task import Kind, Task, TaskId

Needs = tuple[TaskId, ...]


@dataclass(frozen=True)
class BlockTasks:
    """Makes tasks; `pages` is into how many pieces the load of a unit's weights is cut."""

    block: Block
    pages: int = 1

    def load_weights(self, load: int, page: int, gates: Mapping[Kind, Needs]) -> Iterator[Task]:
        """One page of a unit's weights; `gates` says what each task of the chain has to wait for.

        The page takes the place of the micro-batch in the task's name.
        """
        place = self.block.place_of(load, page)
        before: Needs = ()
        for kind in self.block.flows.load_weights:
            task = Task(_id(place, kind), TRANSFER_RESOURCE[kind], before + gates.get(kind, ()))
            yield task
            before = (task.id,)

    def load_kv(self, place: Place, needs: Needs) -> Iterator[Task]:
        """Keys and values of the context; nothing for units without attention."""
        if self._attends(place):
            yield from _chain(place, self.block.flows.load_kv, needs)

    def load_hidden(self, place: Place, needs: Needs) -> Iterator[Task]:
        """The hidden states that the previous unit left; the first unit makes its own."""
        if place.unit > 0 and self.block.flows.load_hidden:
            stored = _id(_before(place), self.block.flows.store_hidden[-1])
            yield from _chain(place, self.block.flows.load_hidden, (stored, *needs))

    def attend(self, place: Place, needs: Needs = ()) -> Iterator[Task]:
        """Attention on the CPU up to its output on the GPU; nothing where attention is there."""
        if not self.splits(place):
            return
        ready = self._weights(place) + self._hidden(place)
        project = Task(_id(place, "project"), self.block.flows.compute, ready + needs)
        send = Task(_id(place, "send_qkv"), "d2h", (project.id,))
        attend = Task(_id(place, "attend"), "cpu", (send.id, *self._kv(place)))
        yield from (project, send, attend)
        yield Task(_id(place, "return_attended"), "h2d", (attend.id,))

    def compute(self, place: Place, needs: Needs = ()) -> Task:
        """The unit, or what is left of it after attention on the CPU."""
        if self.splits(place):
            ready: Needs = (_id(place, "return_attended"),)
        else:
            ready = self._weights(place) + self._hidden(place) + self._kv(place)
        return Task(_id(place, "compute"), self.block.flows.compute, ready + needs)

    def store_kv(self, place: Place, needs: Needs = ()) -> Iterator[Task]:
        """Keys and values of the new tokens on their way home."""
        if self._attends(place):
            made = _id(place, "send_qkv" if self.splits(place) else "compute")
            yield from _chain(place, self.block.flows.store_kv, (made, *needs))

    def store_hidden(self, place: Place, needs: Needs = ()) -> Iterator[Task]:
        """The unit's output on its way home; the last unit leaves nothing."""
        if place.unit + 1 < len(self.block.units):
            made = _id(place, "compute")
            yield from _chain(place, self.block.flows.store_hidden, (made, *needs))

    def kv_user(self, place: Place) -> TaskId:
        """The task after which the loaded keys and values are not needed any more."""
        return _id(place, "attend" if self.splits(place) else "compute")

    def hidden_user(self, place: Place) -> TaskId:
        """The task after which the loaded hidden states are not needed any more."""
        return _id(place, "compute")

    def last_compute(self, load: int) -> Needs:
        """The task after which the weights of a load are not needed; none before the first."""
        if load < 0:
            return ()
        return (_id(self.block.place_of(load, self.block.num_micro_batches - 1), "compute"),)

    def last_upload(self, load: int) -> Needs:
        """The task after which the host copy of a load is not needed; none before the first."""
        return () if load < 0 else (_id(self.block.place_of(load, self.pages - 1), "upload"),)

    def splits(self, place: Place) -> bool:
        """Whether this is an attention unit whose attention is on the CPU."""
        return self.block.flows.host_attention and self._attends(place)

    def _attends(self, place: Place) -> bool:
        return self.block.units[place.unit] == "attention"

    def _weights(self, place: Place) -> Needs:
        kinds = self.block.flows.load_weights
        return (TaskId(place.sweep, kinds[-1], place.unit, self.pages - 1),) if kinds else ()

    def _kv(self, place: Place) -> Needs:
        kinds = self.block.flows.load_kv
        return (_id(place, kinds[-1]),) if kinds and self._attends(place) else ()

    def _hidden(self, place: Place) -> Needs:
        """What brings the input: a load, the previous unit, or the previous sweep's token."""
        if place.unit > 0:
            kinds = self.block.flows.load_hidden
            return (_id(place, kinds[-1]) if kinds else _id(_before(place), "compute"),)
        if place.sweep == 0:
            return ()
        last = Place(place.sweep - 1, len(self.block.units) - 1, place.micro_batch)
        return (_id(last, "compute"),)


def _id(place: Place, kind: Kind) -> TaskId:
    return TaskId(place.sweep, kind, place.unit, place.micro_batch)


def _before(place: Place) -> Place:
    return Place(place.sweep, place.unit - 1, place.micro_batch)


def _chain(place: Place, kinds: Iterable[Kind], needs: Needs) -> Iterator[Task]:
    """One task after the other, the first after `needs`."""
    for kind in kinds:
        task = Task(_id(place, kind), TRANSFER_RESOURCE[kind], needs)
        yield task
        needs = (task.id,)
