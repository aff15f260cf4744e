import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.errors import RequestError
from lm_offload.sampling import SamplingParams
from lm_offload.sampling.draw import Row, sample, uniform

VOCAB = 50


def logits_of(seed: int, rows: int = 1) -> torch.Tensor:
    return 3 * torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed))


def row(params: SamplingParams, position: int) -> Row:
    return Row(params, params.seed, range(position), [])


def draw_many(logits: torch.Tensor, count: int, **values) -> torch.Tensor:
    """Shares of the tokens drawn from one row of logits by `count` seeds."""
    rows = [row(SamplingParams(seed=seed, **values), 0) for seed in range(count)]
    tokens = sample(logits.repeat(count, 1), rows)
    return torch.bincount(torch.tensor(tokens), minlength=VOCAB) / count


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", -2),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_p", math.nan),
        ("min_p", -0.1),
        ("min_p", 1.0),
        ("min_p", math.nan),
        ("stop", ("",)),
        ("n", 0),
        ("repetition_penalty", 0.0),
        ("presence_penalty", 2.1),
        ("frequency_penalty", math.nan),
        ("logprobs", -1),
        ("prompt_logprobs", 21),
    ],
)
def test_values_out_of_range_name_the_field_and_what_is_allowed(name, value):
    with pytest.raises(RequestError, match=rf"^{name} is .*; allowed is .*\.$"):
        SamplingParams(**{name: value})


def test_one_stop_string_is_not_taken_for_its_letters():
    assert SamplingParams(stop="END").stop == ("END",)


@given(st.integers(0, 1000), st.integers(1, 5))
def test_temperature_zero_takes_the_largest_and_leaves_the_logits(seed, rows):
    logits = logits_of(seed, rows)
    before = logits.clone()
    tokens = sample(logits, [row(SamplingParams(), 9)] * rows)
    assert tokens == before.argmax(-1).tolist()
    assert torch.equal(logits, before)


@given(
    st.integers(0, 1000),
    st.integers(0, 2**63),
    st.integers(0, 10**6),
    st.floats(0.01, 10),
    st.integers(0, 60),
    st.floats(0.01, 1),
    st.floats(0, 0.99),
)
def test_drawn_tokens_obey_every_filter(draw, seed, position, temperature, top_k, top_p, min_p):
    logits = logits_of(draw)
    probabilities = (logits[0].double() / temperature).softmax(-1)
    params = SamplingParams(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed
    )
    (token,) = sample(logits, [row(params, position)])
    larger = probabilities[probabilities > probabilities[token]]
    assert not top_k or len(larger) < top_k
    assert float(larger.sum()) < top_p + 1e-5
    assert float(probabilities[token]) >= min_p * float(probabilities.max()) - 1e-6


def drawn_from_all(logits: torch.Tensor, params: SamplingParams, number: float) -> int:
    """The same draw with every token sorted."""
    scaled = (logits - logits.max()) / params.temperature
    probabilities, tokens = scaled.softmax(-1).sort(descending=True)
    keep = (probabilities.cumsum(-1) - probabilities) < params.top_p
    keep &= probabilities >= params.min_p * probabilities[0]
    keep[params.top_k or len(keep) :] = False
    cumulative = (probabilities * keep).cumsum(-1)
    index = int((cumulative <= number * float(cumulative[-1])).sum())
    return int(tokens[min(index, int(keep.sum()) - 1)])


@pytest.mark.parametrize("heat", [0.3, 1.0, 3.0])  # from a few likely tokens to all of them
@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"top_p": 0.9},
        {"min_p": 0.02},
        {"top_k": 5},
        {"top_k": 40, "top_p": 0.7},
        {"top_k": 9999},
    ],
)
def test_looking_at_the_likeliest_first_draws_as_if_all_were_sorted(heat, limits):
    logits = 3 * torch.randn(1, 1000, generator=torch.Generator().manual_seed(4))
    for seed in range(60):
        params = SamplingParams(temperature=heat, seed=seed, **limits)
        wanted = drawn_from_all(logits[0], params, uniform(seed, 7))
        assert sample(logits, [row(params, 7)]) == [wanted]


@pytest.mark.parametrize("temperature", [1e-3, 1e-20, 1e-40, 5e-324])
def test_a_tiny_temperature_is_greedy(temperature):
    logits = logits_of(3)
    wanted = logits.argmax(-1).tolist()
    assert sample(logits, [row(SamplingParams(temperature=temperature), 4)]) == wanted


def test_top_k_of_one_is_greedy():
    logits = logits_of(1)
    assert draw_many(logits, 50, temperature=5.0, top_k=1).argmax() == logits.argmax()


def test_shares_of_drawn_tokens_approach_the_probabilities():
    logits = logits_of(2)
    shares = draw_many(logits, 4000, temperature=1.5)
    wanted = (logits[0] / 1.5).softmax(-1)
    assert 0.5 * float((shares - wanted).abs().sum()) < 0.05


def test_a_row_does_not_depend_on_the_others():
    logits = logits_of(5, 6)
    rows = [row(SamplingParams(temperature=float(i), seed=i), i) for i in range(6)]
    together = sample(logits, rows)
    alone = [sample(logits[i : i + 1], rows[i : i + 1])[0] for i in range(6)]
    assert together == alone


@given(st.integers(-(2**70), 2**70), st.integers(0, 2**40))
def test_uniform_is_a_fraction_and_repeats(seed, position):
    assert 0 <= uniform(seed, position) < 1
    assert uniform(seed, position) == uniform(seed, position)


@pytest.mark.parametrize("by_position", [True, False])
def test_uniform_is_spread_evenly_over_seeds_and_over_positions(by_position):
    values = [uniform(7, i) if by_position else uniform(i, 7) for i in range(2000)]
    counts = torch.histc(torch.tensor(values), bins=10, min=0, max=1)
    assert float((counts - 200).abs().max()) < 60
    pairs = torch.corrcoef(torch.tensor([values[:-1], values[1:]]))
    assert abs(float(pairs[0, 1])) < 0.08
