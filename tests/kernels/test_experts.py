"""Experts in one call against each of them by its own operations; choices against torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lm_offload.kernels import expert_choice
from lm_offload.kernels.base import Kernels
from lm_offload.kernels.expert_choice import Choice, ChoiceRule
from lm_offload.kernels.expert_table import ExpertRoom, ExpertRows, Gate
from lm_offload.kernels.torch_kernels import TorchKernels
from tests.kernels.implementations import all_kernels, native_kernels
from tests.kernels.packed import random_weight

if TYPE_CHECKING:
    from lm_offload.kernels.base import Weights

EACH = pytest.mark.parametrize("kernels", all_kernels(2), ids=lambda kernels: kernels.name)
NATIVE = pytest.mark.parametrize("kernels", native_kernels(2), ids=lambda kernels: kernels.name)
EXPERTS, USED, WIDTH, INNER = 5, 2, 128, 64
SCRATCH_WIDTH = 2 * (WIDTH + INNER) + 2  # the last two for a place
PLAIN = Gate("silu", math.inf, 1.0)
CUT_OFF = Gate("silu", 0.5, 1.7)
SCALED = Gate("silu", math.inf, 1.0, scales_inputs=True)
SQUARED = Gate("relu2", math.inf, 1.0)


@st.composite
def rules(draw: st.DrawFn) -> tuple[int, ChoiceRule]:
    """How many experts there are, and how some are chosen."""
    groups, size = draw(st.integers(1, 4)), draw(st.integers(2, 5))
    groups_used = draw(st.integers(1, groups))
    used = draw(st.integers(1, groups_used * size))
    flags = draw(st.booleans()), draw(st.booleans())
    numbers = draw(st.sampled_from([(1.5, 0.0, 1.0), (1.0, 0.25, 0.125)]))
    rule = ChoiceRule(used, *flags, groups, groups_used, draw(st.integers(1, 2)), *numbers)
    return groups * size, rule


def empty_choice(rows: int, used: int) -> Choice:
    return Choice(torch.full((rows, used), -1), torch.full((rows, used), math.nan))


def chosen_by(
    kernels: Kernels,
    scores: Tensor,
    rule: ChoiceRule,
    bias: Tensor | None = None,
    factors: Tensor | None = None,
) -> Choice:
    choice = empty_choice(len(scores), rule.used)
    kernels.choose_experts(scores, rule, bias, choice, factors)
    return choice


def exact_choice(rows: int, used: int) -> Choice:
    choice = empty_choice(rows, used)
    return Choice(choice.experts, choice.scales.double())


@EACH
@given(
    given=rules(),
    rows=st.integers(0, 9),
    dtype=st.sampled_from([None, "float32", "bfloat16", "float16"]),
    seed=st.integers(0, 99),
)
def test_choices_are_those_of_float64(kernels, given, rows, dtype, seed):
    experts, rule = given
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(rows, experts, generator=generator)
    bias = None
    if dtype is not None:
        bias = torch.randn(experts, generator=generator).to(getattr(torch, dtype))
        bias = bias[None] if seed % 2 else bias  # as ERNIE's lie
    factors = None if seed % 3 else torch.rand(experts, generator=generator).bfloat16()
    found = chosen_by(kernels, scores, rule, bias, factors)
    wanted = exact_choice(rows, rule.used)
    expert_choice.choose_experts(scores.double(), rule, bias, wanted, factors)
    assert found.experts.tolist() == wanted.experts.tolist()
    torch.testing.assert_close(found.scales.double(), wanted.scales, atol=1e-6, rtol=1e-5)


@EACH
@pytest.mark.parametrize("sigmoids", [False, True])
def test_a_row_chooses_as_it_would_alone(kernels, sigmoids):
    scores, rule = torch.randn(37, 24), ChoiceRule(4, True, sigmoids, 4, 2, 2)
    together = chosen_by(kernels, scores, rule)
    for row in range(37):
        alone = chosen_by(kernels, scores[row : row + 1], rule)
        assert torch.equal(alone.experts[0], together.experts[row])
        assert torch.equal(alone.scales[0], together.scales[row])


@EACH
@pytest.mark.parametrize("sigmoids", [False, True])
def test_the_higher_score_is_chosen_where_shares_are_the_same(kernels, sigmoids):
    scores = torch.tensor([[20.0, 30.0, 25.0]]) if sigmoids else torch.tensor([[-200.0, 9.0, -150]])
    found = chosen_by(kernels, scores, ChoiceRule(2, False, sigmoids))
    assert found.experts.tolist() == [[1, 2]]


@EACH
@pytest.mark.parametrize("margin", [0.02, 0.3, 1.5])
def test_close_choices_are_those_of_float64(kernels, margin):
    torch.manual_seed(int(100 * margin))
    scores = torch.randn(40, 6)
    found, wanted = empty_choice(40, 2), exact_choice(40, 2)
    kernels.choose_close(scores, margin, found)
    expert_choice.choose_close(scores.double(), margin, wanted)
    assert found.experts.tolist() == wanted.experts.tolist()
    torch.testing.assert_close(found.scales.double(), wanted.scales, atol=1e-6, rtol=1e-5)
    assert (found.scales[:, 0] < 1.0).any()
    alone = empty_choice(1, 2)
    kernels.choose_close(scores[7:8], margin, alone)
    assert torch.equal(alone.scales[0], found.scales[7])


@EACH
@pytest.mark.parametrize("rows", [1, 21])
def test_rows_are_weighed_as_their_inputs_score(kernels, rows):
    inputs, gate, wide = (
        torch.randn(rows, 160),
        torch.randn(1, 160),
        torch.randn(rows, 99),
    )
    x, scores = wide[:, :64], torch.full((rows, 1), math.nan)
    shares = (inputs.double() @ gate.double().T).sigmoid()
    wanted, beside, last = x.double() * shares, wide[:, 64:].clone(), x[-1:].clone()
    kernels.weigh_rows(inputs, gate, scores, x)
    torch.testing.assert_close(x.double(), wanted, atol=1e-5, rtol=1e-4)
    assert torch.equal(wide[:, 64:], beside)
    kernels.weigh_rows(inputs[-1:], gate, scores[-1:], last)
    assert torch.equal(last[0], x[-1])


@EACH
def test_rows_are_cleared_and_nothing_beside_them(kernels):
    wide = torch.full((19, 40), math.nan)
    kernels.clear(wide[:, :30])
    assert (wide[:, :30] == 0).all()
    assert wide[:, 30:].isnan().all()


@NATIVE
def test_scores_that_are_no_numbers_choose_experts_that_exist(kernels):
    scores = torch.tensor([[math.nan] * 6, [0.0, math.nan, 1.0, math.inf, -math.inf, 2.0]])
    found = chosen_by(kernels, scores, ChoiceRule(3, True, False, 3, 2, 1))
    assert ((found.experts >= 0) & (found.experts < 6)).all()
    assert found.scales[0].isnan().all()


@EACH
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("in_bias", [False, True])
@pytest.mark.parametrize("sigmoids", [False, True])
def test_an_expert_that_is_no_number_is_not_passed_over(kernels, sigmoids, in_bias, value):
    scores, bias = torch.randn(5, 6), torch.zeros(6)
    for row in (1, 3):
        (bias if in_bias else scores[row])[4] = value
    scales = chosen_by(kernels, scores, ChoiceRule(2, True, sigmoids, 3, 2, 2), bias).scales
    assert scales.isnan().all(1).tolist() == [in_bias, True, in_bias, True, in_bias]


@EACH
def test_experts_that_are_masked_are_not_chosen(kernels):
    bias = torch.tensor([0.0, -math.inf, 0.0, 0.0, -math.inf])
    scores = torch.randn(9, 5)
    scores[:, 3] = -math.inf
    found = chosen_by(kernels, scores, ChoiceRule(2, True, True), bias)
    assert {*found.experts.flatten().tolist()} == {0, 2}
    assert found.scales.isfinite().all()


def expert(kind: str, biases: bool, gated: bool = True) -> Weights:
    shapes = {"gate_proj": (INNER, WIDTH), "up_proj": (INNER, WIDTH), "down_proj": (WIDTH, INNER)}
    if not gated:
        del shapes["gate_proj"]
    found: dict[str, object] = {}
    for role, shape in shapes.items():
        plain = torch.randn(shape) / 8
        found[role] = (
            plain.to(getattr(torch, kind)) if hasattr(torch, kind) else random_weight(kind, *shape)
        )
        if biases:
            found[role.replace("proj", "bias")] = torch.randn(shape[0]).bfloat16()
    return found


def one_by_one(
    kernels, experts: list[Weights], choice: Choice, x: Tensor, out: Tensor, gate: Gate
) -> None:
    """Every expert on all rows, by the kernels' other operations."""
    for number, weights in enumerate(experts):
        for row, place in (choice.experts == number).nonzero().tolist():
            scale, read = choice.scales[row, place], x[row : row + 1]
            inner = inner_of(kernels, weights, read * scale if gate.scales_inputs else read, gate)
            added = torch.empty(1, WIDTH)
            kernels.linear(inner, weights["down_proj"], added, weights.get("down_bias"))
            out[row] += added[0] if gate.scales_inputs else added[0] * scale


def inner_of(kernels, weights: Weights, x: Tensor, gate: Gate) -> Tensor:
    sides = {role: torch.empty(1, INNER) for role in ("gate", "up") if f"{role}_proj" in weights}
    for role, side in sides.items():
        kernels.linear(x, weights[f"{role}_proj"], side, weights.get(f"{role}_bias"))
    if gate.activation == "relu2":
        return sides["up"].relu_().square_()
    if gate.limit < math.inf:
        sides["gate"].clamp_(max=gate.limit).mul_(gate.slope)
        sides["up"].clamp_(-gate.limit, gate.limit).add_(1.0).div_(gate.slope)
    activate = kernels.silu_mul if gate.activation == "silu" else kernels.gelu_tanh_mul
    activate(sides["gate"], sides["up"], sides["gate"])
    return sides["gate"]


def random_choice(rows: int) -> Choice:
    scales, experts = torch.rand(rows, EXPERTS).topk(USED)
    return Choice(experts, scales.contiguous())


def table_of(kernels, experts: list[Weights]):
    table = kernels.expert_table(len(experts), experts[0])
    for number, weights in enumerate(experts):
        table.put(number, weights)
    return table


def room(most: int) -> ExpertRoom:
    scratch = torch.full((most, SCRATCH_WIDTH), math.nan)
    return ExpertRoom(scratch, torch.zeros(1, dtype=torch.int64))


@NATIVE
@pytest.mark.parametrize(
    "kind", ["float32", "bfloat16", "float16", "int8:64", "int4:32", "mxfp4", "int4:64:a8"]
)
@pytest.mark.parametrize(
    ("gate", "biases"),
    [
        (PLAIN, False),
        (CUT_OFF, True),
        (Gate("gelu_tanh", math.inf, 1.0), False),
        (SCALED, False),
        (SQUARED, False),
    ],
)
def test_one_call_has_the_bits_of_experts_one_by_one(kernels, kind, gate, biases):
    torch.manual_seed(1)
    experts = [expert(kind, biases, gate is not SQUARED) for _ in range(EXPERTS)]
    table = table_of(kernels, experts)
    for rows, most in ((1, 1), (3, 2), (21, 21), (21, 8)):
        choice, out = random_choice(rows), torch.randn(rows, WIDTH)
        x = torch.randn(rows, WIDTH + 8)[:, :WIDTH]  # as narrow columns of hidden states
        wanted, halves, given = out.clone(), out.clone(), room(most)
        one_by_one(kernels, experts, choice, x, wanted, gate)
        kernels.add_experts(table, range(EXPERTS), ExpertRows(choice, x, out), gate, given)
        assert torch.equal(out, wanted)
        assert int(given.used) == len(choice.experts.unique())
        for span in (range(2), range(2, EXPERTS)):
            kernels.add_experts(table, span, ExpertRows(choice, x, halves), gate, given)
        assert torch.equal(halves, wanted)


@NATIVE
def test_a_replay_computes_what_is_chosen_then(kernels):
    experts = [expert("bfloat16", False) for _ in range(EXPERTS)]
    table, recording, given = table_of(kernels, experts), kernels.record(), room(4)
    choice, x, out = random_choice(4), torch.randn(4, WIDTH), torch.zeros(4, WIDTH)
    recording.kernels.add_experts(table, range(EXPERTS), ExpertRows(choice, x, out), PLAIN, given)
    other = random_choice(4)
    for kept, new in zip(choice, other, strict=True):
        kept.copy_(new)
    moved = expert("bfloat16", False)
    table.put(3, moved)
    out.zero_()
    recording.replay(1 << 40, 1 << 40)
    wanted = torch.zeros(4, WIDTH)
    one_by_one(kernels, [*experts[:3], moved, experts[4]], other, x, wanted, PLAIN)
    assert torch.equal(out, wanted)


@NATIVE
def test_what_does_not_fit_is_refused(kernels):
    experts = [expert("bfloat16", False) for _ in range(2)]
    table = kernels.expert_table(2, experts[0])
    table.put(0, experts[0])
    with pytest.raises(ValueError, match="experts that are alike"):
        table.put(1, expert("float16", False))
    choice, x = random_choice(2), torch.randn(2, WIDTH)
    with pytest.raises(ValueError, match="not all of them"):
        kernels.add_experts(table, range(2), ExpertRows(choice, x, x.clone()), PLAIN, room(2))
    with pytest.raises(ValueError, match="columns"):
        kernels.add_experts(table, range(1), ExpertRows(choice, x[:, 1:], x), PLAIN, room(2))
    short = ExpertRoom(torch.empty(2, WIDTH), room(1).used)
    with pytest.raises(ValueError, match="scratch"):
        kernels.add_experts(table, range(1), ExpertRows(choice, x, x.clone()), PLAIN, short)
    with pytest.raises(ValueError, match="relu2 of experts with gates"):
        kernels.add_experts(table, range(1), ExpertRows(choice, x, x.clone()), SQUARED, room(2))
    wrong = Choice(choice.experts.int(), choice.scales)
    with pytest.raises(ValueError, match="int64"):
        kernels.add_experts(table, range(1), ExpertRows(wrong, x, x.clone()), PLAIN, room(2))


def test_torch_is_asked_for_experts_one_by_one():
    assert TorchKernels(1).expert_table(2, expert("bfloat16", False)) is None
