"""How many sequences may have their keys and values on a device while others have them on the host.

More on the device leave the CPU less to attend to and the weights less room. Which number is best
is a matter of predicted time, so several are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lm_offload.plan import Workload
from lm_offload.planner.best_first import Group
from lm_offload.planner.smallest import blocks_needed

PARTS = 8  # of the sequences in flight, of which 1 to 7 are on the device


def splits(workload: Workload, group: Group) -> Iterator[Group]:
    """The options of a group with part of the sequences in each memory."""
    in_flight = group.options[0].max_sequences
    for on_device in sorted({in_flight * part // PARTS for part in range(1, PARTS)} - {0}):
        first = blocks_needed(workload, on_device)
        blocks = first + blocks_needed(workload, in_flight - on_device)
        options = [
            replace(sizes, attention="both", kv_blocks=blocks, device_blocks=first)
            for sizes in group.options
        ]
        yield group._replace(options=options)
