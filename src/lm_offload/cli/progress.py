"""Progress with an estimate of the time left, on a terminal; silence elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)


class RunProgress:
    """Two bars: weights loaded and tokens generated, each shown from its first update."""

    def __init__(self, console: Console, total_tokens: int) -> None:
        shown = console.is_terminal and not console.quiet
        self._load = _bar(console, DownloadColumn(binary_units=True), shown)
        self._tokens = _bar(console, MofNCompleteColumn(), shown)
        self._total_tokens = total_tokens
        self._load_task: TaskID | None = None
        self._token_task: TaskID | None = None

    def on_load(self, done_bytes: int, total_bytes: int) -> None:
        """Weights read so far."""
        if self._load_task is None:
            self._load.start()
            self._load_task = self._load.add_task("loading weights", total=total_bytes)
        self._load.update(self._load_task, completed=done_bytes)
        if done_bytes >= total_bytes:
            self._load.stop()

    def on_tokens(self, count: int) -> None:
        """Tokens that a sweep gave."""
        if self._token_task is None:
            self._tokens.start()
            self._token_task = self._tokens.add_task("generating", total=self._total_tokens)
        self._tokens.advance(self._token_task, count)

    def __enter__(self) -> RunProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._load.stop()
        self._tokens.stop()


def _bar(console: Console, amount: DownloadColumn | MofNCompleteColumn, shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        amount,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not shown,
    )
