"""The progress bar of a call, as users of vLLM ask for it: tqdm, over finished prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any, TypeVar

from lm_offload.errors import RequestError

MakeBar = Callable[..., Any]  # with the arguments of tqdm
Output = TypeVar("Output")


def check_bar(use_tqdm: bool | MakeBar) -> MakeBar:
    """What makes the bar; raises RequestError for what does not.

    True is tqdm, on standard error where that is a terminal, and False a bar that is not shown.
    """
    if callable(use_tqdm):
        return use_tqdm
    if not isinstance(use_tqdm, bool):
        raise RequestError(
            f"use_tqdm is {use_tqdm!r}; allowed are True, False and what makes a bar as tqdm does."
        )
    return _on_terminal if use_tqdm else _Hidden


def watched(outputs: Iterable[Output], total: int, make_bar: MakeBar) -> Iterator[Output]:
    """The same outputs, counted on a bar of `total` as they come."""
    with closing(make_bar(total=total, desc="Processed prompts", dynamic_ncols=True)) as bar:
        for output in outputs:
            yield output
            bar.update(1)


class _Hidden:
    """A bar that nobody sees."""

    def __init__(self, **options: object) -> None:
        pass

    def update(self, count: int) -> None:
        pass

    def close(self) -> None:
        pass


def _on_terminal(**options: Any) -> Any:
    from tqdm import tqdm

    return tqdm(**options, disable=None)
