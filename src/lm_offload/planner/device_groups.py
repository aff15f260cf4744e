"""The groups of a search beside a device: where keys and values lie, and where MLPs are computed.

Part of the sequences may have their keys and values on the device and the others in host memory.
More on the device leave the CPU less to attend to and the weights less room. Which number is best
is a matter of predicted time, so several are looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from lm_offload.plan import Workload
from lm_offload.planner.best_first import Group
from lm_offload.planner.device_placement import attention_choices, mlp_choices
from lm_offload.planner.in_place_choice import reserved_rows
from lm_offload.planner.request import Request
from lm_offload.planner.smallest import blocks_needed

PARTS = 8  # of the sequences in flight, of which 1 to 7 are on the device


def groups_beside(request: Request, group: Group) -> Iterator[Group]:
    """With keys and values on the device, in host memory, and in both; with MLPs in place, and
    without.
    """
    assert request.device is not None
    ways = itertools.product(attention_choices(request.device), mlp_choices(request.device))
    for attention, mlp in ways:
        if attention == "both":
            yield from _splits(request.workload, group) if mlp == "device" else ()
            continue
        options = [replace(sizes, attention=attention) for sizes in group.options]
        if mlp == "cpu":
            options = [replace(sizes, in_place_rows=reserved_rows(sizes)) for sizes in options]
        yield group._replace(options=options)


def _splits(workload: Workload, group: Group) -> Iterator[Group]:
    """With part of the sequences in each memory."""
    in_flight = group.options[0].max_sequences
    for on_device in sorted({in_flight * part // PARTS for part in range(1, PARTS)} - {0}):
        first = blocks_needed(workload, on_device)
        blocks = first + blocks_needed(workload, in_flight - on_device)
        options = [
            replace(sizes, attention="both", kv_blocks=blocks, device_blocks=first)
            for sizes in group.options
        ]
        yield group._replace(options=options)
