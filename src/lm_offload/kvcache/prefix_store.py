"""Blocks of prefixes in a folder, so that another process need not compute them.

A file for each block, named by its key, in a subfolder for each owner: model, formats and kernels.
What is read is, bit by bit, what would be computed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lm_offload.errors import StorageError
from lm_offload.kvcache.prefix_entries import SUFFIX, shrink
from lm_offload.kvcache.whole_blocks import BlockBytes
from lm_offload.storage.block_file import read_block, write_block

log = logging.getLogger(__name__)


class PrefixStore:
    """Reads into and writes from the blocks of one KV cache."""

    def __init__(self, folder: Path, owner: bytes, limit_bytes: int, cache: BlockBytes) -> None:
        self._folder = folder
        self._owner = owner
        self._limit_bytes = limit_bytes  # of all owners beside this one, too
        self._cache = cache
        self._damaged: set[bytes] = set()
        self._warned = False

    def restore(self, keys: Iterable[bytes], blocks: Iterable[int]) -> int:
        """Fill blocks with what `keys` stand for, up to the first that is not there; how many."""
        found = []
        for key, block in zip(keys, blocks, strict=False):
            if not self._read(key, block):
                break
            found.append(self._path(key))
        for path in reversed(found):  # so that the end of a prefix is the first to go
            os.utime(path)
        return len(found)

    def save(self, filled: Iterable[tuple[bytes, int]]) -> None:
        """Write blocks that are not there yet; one warning where that fails."""
        missing = [(key, block) for key, block in filled if self._is_missing(key)]
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for key, block in reversed(missing):
                write_block(self._path(key), self._owner, key, self._bytes_of(block))
                self._damaged.discard(key)
            shrink(self._folder.parent, self._limit_bytes)
        except (OSError, StorageError) as error:
            self._warn(f"The prefix cache {self._folder} cannot be written ({error}).")

    def _is_missing(self, key: bytes) -> bool:
        return key in self._damaged or not self._path(key).exists()

    def _read(self, key: bytes, block: int) -> bool:
        path, size_bytes = self._path(key), self._cache.block_bytes
        try:
            data = read_block(path, self._owner, key, size_bytes)
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            self._damaged.add(key)
            self._warn(f"{path} in the prefix cache cannot be used ({error}); it is made anew.")
            return False
        try:
            self._cache.copy_in(block, np.frombuffer(data, dtype=np.uint8))
        except StorageError as error:
            self._warn(f"Blocks of the prefix cache are computed instead of read: {error}")
            return False
        return True

    def _bytes_of(self, block: int) -> bytes:
        data = np.empty(self._cache.block_bytes, dtype=np.uint8)
        self._cache.copy_out(block, data)
        return data.tobytes()

    def _path(self, key: bytes) -> Path:
        return self._folder / (key.hex() + SUFFIX)

    def _warn(self, sentence: str) -> None:
        if not self._warned:
            log.warning(sentence)
        self._warned = True
