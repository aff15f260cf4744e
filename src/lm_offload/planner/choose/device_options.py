"""What a search beside a device chooses from: where keys and values lie, and what is in place.

Part of the sequences may have their keys and values on the device and the others in host memory.
More on the device leave the CPU less to attend to and the weights less room. Which number is best
is a matter of predicted time, so several are looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lm_offload.device_plan import InPlaceKind
from lm_offload.plan import Workload
from lm_offload.planner.choose.in_place_choice import reserved_rows
from lm_offload.planner.choose.smallest import blocks_needed
from lm_offload.planner.costs.memory import Sizes
from lm_offload.planner.places.device_placement import attention_choices, in_place_choices
from lm_offload.planner.request import Request

PARTS = 8  # of the sequences in flight, of which 1 to 7 are on the device


def options_beside(request: Request, options: Sequence[Sizes]) -> Iterator[Sequence[Sizes]]:
    """With keys and values on the device, in host memory, and in both; with and without units in
    place, but with none where both attend.
    """
    assert request.device is not None
    ways = itertools.product(attention_choices(request.device), in_place_choices(request.device))
    for attention, kind in ways:
        if attention == "both":
            yield from _splits(request.workload, options) if kind == "none" else ()
        else:
            attended = [replace(sizes, attention=attention) for sizes in options]
            yield _in_place(request.config.num_layers, attended, kind)


def _in_place(num_layers: int, options: list[Sizes], kind: InPlaceKind) -> list[Sizes]:
    """As many layers as there are stand for those that are to be chosen."""
    if kind == "none":
        return options
    layers = num_layers if kind == "layers" else 0
    return [
        replace(sizes, in_place_rows=reserved_rows(sizes), in_place_layers=layers)
        for sizes in options
    ]


def _splits(workload: Workload, options: Sequence[Sizes]) -> Iterator[Sequence[Sizes]]:
    """With part of the sequences in each memory."""
    in_flight = options[0].max_sequences
    for on_device in sorted({in_flight * part // PARTS for part in range(1, PARTS)} - {0}):
        first = blocks_needed(workload, on_device)
        blocks = first + blocks_needed(workload, in_flight - on_device)
        yield [
            replace(sizes, attention="both", kv_blocks=blocks, device_blocks=first)
            for sizes in options
        ]
