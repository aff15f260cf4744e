from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.speculation.token_index import (
    BYTES_PER_TOKEN,
    LONGEST,
    MOST_TRIED,
    SHORTEST,
    TokenIndex,
)

TEXTS = st.lists(st.integers(0, 3), max_size=60)


def index_of(tokens: list[int], most_tokens: int = 0) -> TokenIndex:
    index = TokenIndex(most_tokens or len(tokens))
    index.extend(tokens)
    return index


def equal_before(tokens: list[int], stop: int) -> int:
    """Tokens before `stop` that are also the last of the text."""
    length = 0
    while length < min(stop, LONGEST) and tokens[stop - 1 - length] == tokens[-1 - length]:
        length += 1
    return length


@given(TEXTS)
def test_the_match_is_the_longest_and_of_these_the_latest(tokens):
    match = index_of(tokens).find()
    lengths = {stop: equal_before(tokens, stop) for stop in range(1, len(tokens))}
    pairs = [stop for stop in reversed(lengths) if lengths[stop] >= SHORTEST]
    if len(pairs) > MOST_TRIED:  # a chain may end before it comes to the longest
        assert match is not None
        assert match.length == lengths[match.start] >= SHORTEST
    elif pairs:
        assert match == (max(pairs, key=lambda stop: lengths[stop]), max(lengths.values()))
    else:
        assert match is None


@given(TEXTS, st.integers(1, 64))
def test_piece_by_piece_and_with_collisions_it_finds_what_is_there(tokens, most_tokens):
    index = TokenIndex(most_tokens)
    for token in tokens:
        index.extend([token])
    found, wanted = index.find(), index_of(tokens, 1 << 12).find()
    assert len(index) == len(tokens)
    if found is not None:
        assert found.length == equal_before(tokens, found.start)
    if most_tokens >= len(tokens) and len(tokens) < MOST_TRIED:
        assert found == wanted


def test_what_follows_goes_round_in_a_loop():
    index = index_of([9, 5, 6, 7, 5, 6, 7, 5])
    match = index.find()
    assert match == (5, 4)
    assert index.following(match, 7) == (6, 7, 5, 6, 7, 5, 6)
    assert index.following(match, 0) == ()


@pytest.mark.parametrize("tokens", [[], [1], [1, 2], [1, 2, 3, 2]])
def test_nothing_repeats(tokens):
    assert index_of(tokens).find() is None


@pytest.mark.parametrize("count", [1, 17, 1000, 1025])
def test_the_memory_is_what_plans_count(count):
    index = index_of(list(range(count)))
    parts = (index._tokens, index._previous, index._heads)
    assert sum(sys.getsizeof(part) for part in parts) <= count * BYTES_PER_TOKEN * 1.13 + 300
