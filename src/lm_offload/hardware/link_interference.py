"""What transfers to a device and other work leave of one another's rates."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LinkInterference:
    """What is left of a rate while the other works all the time: 1 where they do not disturb.

    What both directions of a link leave of one another is in their `Link.opposed_frac`.
    """

    upload_while_reading_frac: float = 1.0  # from disk
    disk_read_while_uploading_frac: float = 1.0
    upload_while_attending_frac: float = 1.0  # on the CPU
    attend_while_uploading_frac: float = 1.0
    upload_while_computing_frac: float = 1.0  # products on the CPU
    compute_while_uploading_frac: float | None = None  # None: by what both take of memory's rate
