"""What a suite has done and how long its parts took, kept beside their results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.part_file import write_whole
from benchmarks.suite import Part


class States:
    """What is remembered of parts from one run to the next, by name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def all(self) -> dict[str, Any]:
        """Everything."""
        return dict(self._found)

    def note(self, name: str, value: object) -> None:
        """Remember one more."""
        self._found[name] = value
        write_whole(self._path, self._found)

    def forget(self) -> None:
        """The next run begins anew."""
        self._path.unlink(missing_ok=True)


class Progress:
    """What has been begun and done; a part whose command has changed counts as new."""

    def __init__(self, path: Path) -> None:
        self._states = States(path)

    def state(self, part: Part) -> str | None:
        """`begun`, `done`, or None."""
        return self._states.all().get(_key(part))

    def note(self, part: Part, state: str) -> None:
        """Remember a state."""
        self._states.note(_key(part), state)

    def forget(self) -> None:
        """The next run begins anew."""
        self._states.forget()


def _key(part: Part) -> str:
    return " ".join((part.name, part.module, *part.arguments, f"{part.minutes}"))
