"""Which blocks of an unfinished data file are written, so that a killed run is taken up again.

One JSON line for the plan and one for each block; a line that was being written when the process
died is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from lm_offload.storage.durable import write_whole
from lm_offload.storage.packed_index import VERSION

JOURNAL_FILE = "packed.journal"


class Journal:
    """Appends the checksum of each block, once the block has reached the disk."""

    def __init__(self, folder: Path, identity: int) -> None:
        """Take up the journal in `folder`, or begin one if there is none for this plan."""
        self._path = folder / JOURNAL_FILE
        self._head = {"version": VERSION, "plan": identity}
        self.checksums = self._read()
        self.restart(self.checksums)

    def restart(self, checksums: Mapping[str, int]) -> None:
        """Forget all blocks but these."""
        self.checksums = dict(checksums)
        lines = [self._head, *({name: value} for name, value in checksums.items())]
        write_whole(self._path, "".join(json.dumps(line) + "\n" for line in lines).encode())

    def append(self, name: str, checksum: int) -> None:
        """Note a block."""
        self.checksums[name] = checksum
        with self._path.open("a") as file:
            file.write(json.dumps({name: checksum}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """The folder is complete, or given up."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> dict[str, int]:
        lines = self._path.read_text().split("\n")[:-1] if self._path.exists() else []
        try:
            head, *blocks = (json.loads(line) for line in lines)
            found = {name: int(value) for block in blocks for name, value in block.items()}
        except (ValueError, TypeError, AttributeError):
            return {}
        return found if head == self._head else {}
