"""The garbage collector rests while a plan is made, and only then."""

from __future__ import annotations

import gc

import pytest

from lm_offload.cli.uncollected import uncollected


def test_collection_goes_on_afterwards_even_after_an_error():
    with pytest.raises(ValueError, match="no plan"), uncollected():
        raise ValueError("no plan")
    assert gc.isenabled()


def test_nothing_is_collected_meanwhile():
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_what_was_off_stays_off():
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
