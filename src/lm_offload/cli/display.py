"""Two ways to show progress: bars on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

FIRST_LINE_S = 2.0  # shorter runs say nothing
LINE_INTERVAL_S = 5.0

States = Mapping[str, tuple[int, int, str]]  # by label: done, total and both in words


class Display(Protocol):
    """Shows what is under way."""

    def show(self, states: States, now_s: float) -> None:
        """Replace what was shown before."""

    def stop(self) -> None:
        """Show nothing more until the next `show`."""


class BarDisplay:
    """Bars that vanish when they stop."""

    def __init__(self, console: Console) -> None:
        columns = (BarColumn(bar_width=24), TextColumn("{task.description}"))
        self._progress = Progress(*columns, console=console, transient=True)
        self._tasks: dict[str, TaskID] = {}

    def show(self, states: States, now_s: float) -> None:
        """See `Display.show`."""
        for label in self._tasks.keys() - states.keys():  # first: a start shows what is left
            self._progress.remove_task(self._tasks.pop(label))
        if states:
            self._progress.start()
        for label, (done, total, words) in states.items():
            if label not in self._tasks:
                self._tasks[label] = self._progress.add_task(words)
            self._progress.update(
                self._tasks[label], completed=done, total=total, description=words
            )

    def stop(self) -> None:
        """See `Display.stop`."""
        self._progress.stop()


class LineDisplay:
    """Lines for logs, from 2 s on and then every 5 s."""

    def __init__(self, console: Console, start_s: float) -> None:
        self._console = console
        self._next_s = start_s + FIRST_LINE_S

    def show(self, states: States, now_s: float) -> None:
        """See `Display.show`."""
        if states and now_s >= self._next_s:
            self._next_s = now_s + LINE_INTERVAL_S
            words = "; ".join(words for _, _, words in states.values())
            self._console.print(words, soft_wrap=True, highlight=False)

    def stop(self) -> None:
        """Nothing to take back."""


def make_display(console: Console, start_s: float) -> Display:
    """Bars where they can be seen; a quiet console prints no lines either."""
    if console.is_terminal and not console.quiet:
        return BarDisplay(console)
    return LineDisplay(console, start_s)
