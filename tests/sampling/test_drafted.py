"""Drafts change how many tokens come at once, never which."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.sampling import SamplingParams
from lm_offload.sampling.draw import Row, likeliest_of, sample, sample_drafted

VOCAB = 6
COUNT = 4000
CHI_SQUARE = 20.5  # of 5 degrees of freedom; exceeded once in 1000 times
PARAMS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.7, 2.0]),
    top_k=st.sampled_from([0, 3]),
    top_p=st.sampled_from([0.8, 1.0]),
    min_p=st.sampled_from([0.0, 0.1]),
    repetition_penalty=st.sampled_from([1.0, 1.5]),
    presence_penalty=st.sampled_from([0.0, 0.6]),
    frequency_penalty=st.sampled_from([0.0, -0.4]),
    seed=st.integers(0, 2**40),
)
DRAFTS = st.lists(st.integers(0, VOCAB - 1), max_size=5).map(tuple)
LOGITS = torch.tensor([0.3, -1.2, 1.4, 0.0, 0.9, -0.5])


def one_by_one(logits: torch.Tensor, row: Row, count: int) -> list[int]:
    """The first tokens, each drawn from the logits of its own place."""
    output = list(row.output)
    for place in range(count):
        now = Row(row.params, row.seed, row.prompt, list(output))
        output += sample(logits[place : place + 1], [now])
    return output[len(row.output) :]


@given(st.lists(st.tuples(PARAMS, DRAFTS), min_size=1, max_size=4), st.integers(0, 99))
def test_tokens_are_those_drawn_one_by_one(asked, draw):
    rows = [Row(params, params.seed, [1, 2], [3, 3, 0]) for params, _ in asked]
    drafts = [draft for _, draft in asked]
    starts = [sum(1 + len(draft) for draft in drafts[:i]) for i in range(len(drafts))]
    generator = torch.Generator().manual_seed(draw)
    logits = 2 * torch.randn(starts[-1] + 1 + len(drafts[-1]), VOCAB, generator=generator)
    before = logits.clone()
    for first, row, draft, tokens in zip(
        starts,
        rows,
        drafts,
        sample_drafted(logits, likeliest_of(logits), rows, drafts),
        strict=True,
    ):
        assert tokens == one_by_one(before[first:], row, len(tokens))
        accepted = len(tokens) - 1
        assert tuple(tokens[:-1]) == draft[:accepted]
        assert accepted == len(draft) or tokens[-1] != draft[accepted]
    assert torch.equal(logits, before)


@cache
def tokens_by_seed(draft: int) -> list[list[int]]:
    """The tokens of many seeds, one drafted; the logits are the same before and after it."""
    rows = [Row(SamplingParams(temperature=1.0), seed, (), ()) for seed in range(COUNT)]
    logits = LOGITS.repeat(2 * COUNT, 1)
    return sample_drafted(logits, likeliest_of(logits), rows, [(draft,)] * COUNT)


def distance(tokens: list[int], probabilities: torch.Tensor) -> float:
    """Pearson's chi-square of a sample."""
    wanted = probabilities * len(tokens)
    found = torch.bincount(torch.tensor(tokens), minlength=VOCAB)
    used = wanted > 0
    assert not found[~used].any()
    return float(((found - wanted)[used] ** 2 / wanted[used]).sum())


@pytest.mark.parametrize("draft", range(VOCAB))
def test_the_rule_leaves_the_distribution_as_it_is(draft):
    probabilities = LOGITS.softmax(-1)
    drawn = tokens_by_seed(draft)
    assert distance([tokens[0] for tokens in drawn], probabilities) < CHI_SQUARE
    seconds = [tokens[1] for tokens in drawn if len(tokens) > 1]
    assert distance(seconds, probabilities) < CHI_SQUARE


@pytest.mark.parametrize("draft", range(VOCAB))
def test_it_accepts_with_the_probability_of_the_draft_and_else_draws_from_the_rest(draft):
    probabilities = LOGITS.softmax(-1)
    drawn = tokens_by_seed(draft)
    accepted = sum(len(tokens) > 1 for tokens in drawn) / COUNT
    assert accepted == pytest.approx(float(probabilities[draft]), abs=0.02)
    rest = probabilities.clone()
    rest[draft] = 0
    rejected = [tokens[0] for tokens in drawn if len(tokens) == 1]
    assert distance(rejected, rest / rest.sum()) < CHI_SQUARE


def test_the_bound_would_find_a_wrong_rule():
    """Such as drawing again from all of the distribution where the draft is rejected."""
    probabilities, again = LOGITS.softmax(-1), torch.Generator().manual_seed(0)
    draft = 2
    tokens = [
        draft if found[0] == draft else int(torch.multinomial(probabilities, 1, generator=again))
        for found in tokens_by_seed(draft)
    ]
    assert distance(tokens, probabilities) > 10 * CHI_SQUARE
