"""Memory whose pages lie on several NUMA nodes in turn."""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import platform
from collections.abc import Sequence

log = logging.getLogger(__name__)

MBIND = {"x86_64": 237, "aarch64": 235}  # numbers of the system call
MPOL_INTERLEAVE = 3
WORD_BITS = 64


def interleave(mapping: mmap.mmap, nodes: Sequence[int]) -> bool:
    """Let pages of `mapping` that nobody has touched lie on `nodes` in turn (mbind(2)).

    Where that is not allowed all is as it was, but for one warning; returns whether it is so.
    """
    number = MBIND.get(platform.machine())
    if number is None:
        return False
    start = ctypes.c_char.from_buffer(mapping)
    address, size_bytes, mask = ctypes.addressof(start), ctypes.c_ulong(len(mapping)), _mask(nodes)
    bits = ctypes.c_ulong(len(mask) * WORD_BITS + 1)  # the kernel takes one off
    call = ctypes.CDLL(None, use_errno=True).syscall
    arguments = ctypes.c_void_p(address), size_bytes, ctypes.c_int(MPOL_INTERLEAVE), mask, bits
    if call(ctypes.c_long(number), *arguments, ctypes.c_uint(0)) == 0:
        return True
    log.warning(
        "Memory cannot be spread over %d NUMA nodes (%s): it lies where it is touched first, which "
        "may leave the bandwidth of one node; numactl --interleave=all does the same from outside.",
        *(len(nodes), os.strerror(ctypes.get_errno())),
    )
    return False


def _mask(nodes: Sequence[int]) -> ctypes.Array[ctypes.c_uint64]:
    """A bit for each node."""
    words = (ctypes.c_uint64 * (max(nodes) // WORD_BITS + 1))()
    for node in nodes:
        words[node // WORD_BITS] |= 1 << node % WORD_BITS
    return words
