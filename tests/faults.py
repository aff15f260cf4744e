"""What tests let go wrong."""

from __future__ import annotations

import errno
import os

import pytest


def refuse_direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems that refuse O_DIRECT."""
    real_open = os.open

    def refuse(path, flags, *args, **kwargs):
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real_open(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
