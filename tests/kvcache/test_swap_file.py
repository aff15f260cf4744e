"""Blocks come back from the file as they were."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from lm_offload.arch.config import load_config
from lm_offload.errors import StorageError
from lm_offload.kvcache.cache import KVCache, kv_block_bytes
from lm_offload.kvcache.swap_file import NO_SLOTS, SwapFile, swap_slot_bytes
from lm_offload.quant.kv_format import KV_FORMATS
from lm_offload.storage.arena import MemoryTier
from lm_offload.units import align_up


@pytest.fixture
def make(toy, tmp_path):
    """A cache of 5 blocks with a file beside it."""
    opened = []

    def open_file(name: str) -> tuple[KVCache, SwapFile]:
        config, format = load_config(toy("llama")), KV_FORMATS[name]
        cache_bytes = align_up(5 * kv_block_bytes(config, format))
        buffer_bytes = align_up(swap_slot_bytes(kv_block_bytes(config, format)))
        tier = MemoryTier("CPU", cache_bytes + buffer_bytes)
        cache = KVCache(config, 5, format, tier)
        opened.append(SwapFile(cache, tier.allocate("KV swap", buffer_bytes), tmp_path))
        return cache, opened[-1]

    yield open_file
    for file in opened:
        file.close()


def content(cache: KVCache, block: int) -> np.ndarray:
    memory = np.empty(cache.block_bytes, np.uint8)
    cache.copy_out(block, memory)
    return memory


@pytest.mark.parametrize("name", sorted(KV_FORMATS))
def test_blocks_come_back_into_other_blocks(make, name):
    cache, file = make(name)
    for block in range(5):
        for part in cache.block_parts(block):
            part.copy_(torch.randint(0, 256, part.shape, dtype=torch.uint8))
    wanted = [content(cache, block) for block in range(5)]
    for block, slot in ((1, 4), (3, 0)):
        file.write(block, slot)
    file.read(4, 0)
    file.read(0, 1).result()
    found = [content(cache, block) for block in range(5)]
    for block, source in enumerate((1, 3, 2, 3, 4)):
        np.testing.assert_array_equal(found[block], wanted[source])


def test_there_is_a_file_from_the_first_write_on_and_none_is_left(make, tmp_path, monkeypatch):
    _, file = make("fp32")
    reserved = []
    real = os.posix_fallocate
    monkeypatch.setattr(
        os, "posix_fallocate", lambda fd, at, size: (reserved.append(size), real(fd, at, size))
    )
    assert reserved == []
    for slot in range(2):
        file.write(0, slot).result()
    assert reserved == [5 * 12288]
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_said_by_the_move(make, tmp_path):
    _, file = make("fp32")
    file._folder = tmp_path / "file"
    file._folder.write_text("")
    with pytest.raises(StorageError, match="--spill-dir"):
        file.write(0, 0).result()


def test_nothing_moves_without_slots():
    with pytest.raises(ValueError, match="no slot"):
        NO_SLOTS.write(0, 0)
    with pytest.raises(ValueError, match="no slot"):
        NO_SLOTS.read(0, 0)
