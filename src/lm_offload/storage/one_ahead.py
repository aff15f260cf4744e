"""Makes the next of many things while the last one is used."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def one_ahead(items: Iterator[Item], begin: Callable[[], None]) -> Generator[Item, None, None]:
    """The same items in the same order, each being made on another thread while one is used::

        thread    make 0  make 1   make 2   make 3
        caller            use 0    use 1    use 2  ..

    An item that cannot be made raises where it would be used. `begin` is called on that thread
    first.
    """
    end = object()
    with ThreadPoolExecutor(1, "ahead", begin) as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]
