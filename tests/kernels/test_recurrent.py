"""What recurrent layers do to their states against plain loops in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from lm_offload.kernels.base import Kernels
from lm_offload.kernels.state_kernels import ScanFactors
from lm_offload.micro_batch import MicroBatch
from tests.kernels.implementations import DTYPES, all_kernels, native_kernels
from tests.kernels.paged import make_batch

EACH = pytest.mark.parametrize("kernels", all_kernels(2), ids=lambda kernels: kernels.name)
NATIVE = pytest.mark.parametrize("kernels", native_kernels(2), ids=lambda kernels: kernels.name)
SLOTS = 5
rows_of = st.lists(st.integers(0, 20), min_size=1, max_size=4)
names = st.sampled_from(DTYPES)


def batch_of(rows: list[int], before: list[int]) -> MicroBatch:
    """Sequences with `rows` new tokens behind `before` others, slots in no order."""
    count = len(rows)
    contexts = [new + old for new, old in zip(rows, before, strict=True)]
    batch = make_batch(rows, contexts, torch.zeros(count, 1, dtype=torch.int32))
    return replace(batch, states=torch.tensor([3, 0, 4, 1][:count], dtype=torch.int32))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spans(batch: MicroBatch) -> list[tuple[slice, int, bool]]:
    assert batch.states is not None
    starts, lens = batch.query_starts.tolist(), batch.context_lens.tolist()
    return [
        (slice(*starts[i : i + 2]), slot, lens[i] == starts[i + 1] - starts[i])
        for i, slot in enumerate(batch.states.tolist())
    ]


def summed(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor, batch: MicroBatch) -> Tensor:
    """What a convolution should say of x[T, C], in float64; moves the state on."""
    out, taps = torch.empty_like(x), weight.shape[-1]
    for span, slot, begins in spans(batch):
        if span.start == span.stop:
            continue
        if begins:
            state[slot] = 0.0
        inputs = torch.cat([state[slot], x[span]])
        for row in range(span.start, span.stop):
            window = inputs[row - span.start : row - span.start + taps]
            out[row] = (window * weight[:, 0].T).sum(0) + bias
        state[slot] = inputs[len(inputs) - taps + 1 :]
    return out


def learned(x: Tensor, gates: list[Tensor], state: Tensor, batch: MicroBatch) -> Tensor:
    """What the delta rule should say, in float64; moves the state on."""
    rates, decays, decay_log, decay_bias = gates
    _, heads, key_dim, value_dim = state.shape
    key_heads = rates.shape[1]
    q, k, v = x.split([key_heads * key_dim] * 2 + [heads * value_dim], -1)
    out = torch.empty(len(x), heads, value_dim, dtype=x.dtype)
    for span, slot, begins in spans(batch):
        if begins and span.start < span.stop:
            state[slot] = 0.0
        for row in range(span.start, span.stop):
            for head in range(heads):
                at = slice((head // (heads // key_heads)) * key_dim, None)
                key, query = (each[row, at][:key_dim] for each in (k, q))
                key = key / (key.square().sum() + 1e-6).sqrt()
                query = query / (query.square().sum() + 1e-6).sqrt() / key_dim**0.5
                value = v[row, head * value_dim :][:value_dim]
                amount = functional.softplus(decays.flatten(1)[row, head] + decay_bias[head])
                matrix = state[slot, head] * torch.exp(-decay_log[head].exp() * amount)
                change = rates.flatten(1)[row, head].sigmoid() * (value - key @ matrix)
                state[slot, head] = matrix + key[:, None] * change
                out[row, head] = query @ state[slot, head]
    return out.flatten(1)


def scanned(
    x: Tensor, steps: Tensor, factors: ScanFactors, state: Tensor, batch: MicroBatch
) -> Tensor:
    """What the selective scan should say, in float64; moves the state on."""
    _, heads, key_dim, value_dim = state.shape
    values, shared = x.split([heads * value_dim, x.shape[1] - heads * value_dim], -1)
    groups = shared.shape[1] // (2 * key_dim)
    keys, queries = shared.reshape(len(x), 2, groups, key_dim).unbind(1)
    out = torch.empty(len(x), heads, value_dim, dtype=x.dtype)
    for span, slot, begins in spans(batch):
        if begins and span.start < span.stop:
            state[slot] = 0.0
        for row in range(span.start, span.stop):
            for head in range(heads):
                group = head * groups // heads
                value = values[row, head * value_dim :][:value_dim]
                step = functional.softplus(steps[row, head] + factors.step_bias[head].double())
                step = step.clamp(factors.least_step, factors.most_step)
                decay = torch.exp(-factors.decay_log[head].double().exp() * step)
                added = keys[row, group][:, None] * (step * value)
                state[slot, head] = decay * state[slot, head] + added
                read = queries[row, group] @ state[slot, head]
                out[row, head] = read + factors.skip[head].double() * value
    return out.flatten(1)


def factors_of(heads: int, name: str = "float32", limits: tuple[float, float] = (0, 1e9)):
    """Of so many heads, in one dtype."""
    vectors = (noise(heads, seed=seed).to(getattr(torch, name)) for seed in (2, 3, 4))
    return ScanFactors(*vectors, *limits)


@EACH
@pytest.mark.parametrize("name", ["causal_convolution", "plain_convolution"])
@given(
    rows=rows_of,
    before=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    groups=st.integers(1, 3),
    channels=st.integers(1, 70),
    taps=st.integers(2, 8),
    dtype=names,
    biased=st.booleans(),
)
def test_convolutions(
    kernels: Kernels, name, rows, before, groups, channels, taps, dtype, biased
) -> None:
    batch, width = batch_of(rows, before[: len(rows)]), groups * channels
    x = noise(sum(rows), groups, channels + 3)[..., 2 : 2 + channels]
    weight = noise(width, 1, taps, seed=1).to(getattr(torch, dtype))
    pool = noise(SLOTS, taps - 1, width + 5, seed=2)
    state, expected_state = pool[..., 3 : 3 + width], pool[..., 3 : 3 + width].double()
    bias = noise(width, seed=3).to(weight.dtype)
    added = bias.double() if biased else torch.zeros(width).double()
    expected = summed(x.flatten(1).double(), weight.double(), added, expected_state, batch)
    expected = functional.silu(expected) if name.startswith("causal") else expected
    out = torch.full((sum(rows), width + 1), torch.nan)[:, 1:]
    getattr(kernels, name)(x, weight, state, batch, out, bias if biased else None)
    torch.testing.assert_close(out, expected.float(), atol=1e-5, rtol=1e-5)
    assert torch.equal(state, expected_state.float())


@EACH
@given(
    rows=rows_of,
    before=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    key_heads=st.integers(1, 2),
    shared=st.integers(1, 3),
    dims=st.tuples(st.integers(1, 40), st.integers(1, 80)),
    name=names,
)
def test_delta_rule(kernels: Kernels, rows, before, key_heads, shared, dims, name) -> None:
    batch, count, heads = batch_of(rows, before[: len(rows)]), sum(rows), key_heads * shared
    x = noise(count, 2 * key_heads * dims[0] + heads * dims[1] + 2)[:, 1:-1]
    both = noise(count, key_heads, 2 * shared, seed=1) * 3
    vectors = [noise(heads, seed=seed).to(getattr(torch, name)) for seed in (2, 3)]
    gates = [*both.chunk(2, -1), *vectors]
    state = noise(SLOTS, heads, *dims, seed=4)
    expected_state = state.double()
    expected = learned(x.double(), [gate.double() for gate in gates], expected_state, batch)
    out = torch.full((count, heads * dims[1]), torch.nan)
    kernels.gated_delta(x, *gates, state, batch, out)
    torch.testing.assert_close(out, expected.float(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(state, expected_state.float(), atol=1e-5, rtol=1e-4)


@EACH
@given(
    rows=rows_of,
    before=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    groups=st.integers(1, 2),
    shared=st.integers(1, 3),
    dims=st.tuples(st.integers(1, 40), st.integers(1, 80)),
    name=names,
    limits=st.sampled_from([(0.0, torch.inf), (0.3, 0.9)]),
)
def test_selective_scan(kernels: Kernels, rows, before, groups, shared, dims, name, limits) -> None:
    batch, count, heads = batch_of(rows, before[: len(rows)]), sum(rows), groups * shared
    x = noise(count, 2 * groups * dims[0] + heads * dims[1] + 2)[:, 1:-1]
    steps = noise(count, heads + 3, seed=1)[:, 2:-1] * 3
    factors, state = factors_of(heads, name, limits), noise(SLOTS, heads, *dims, seed=5)
    expected_state = state.double()
    expected = scanned(x.double(), steps.double(), factors, expected_state, batch)
    out = torch.full((count, heads * dims[1]), torch.nan)
    kernels.selective_scan(x, steps, factors, state, batch, out)
    torch.testing.assert_close(out, expected.float(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(state, expected_state.float(), atol=1e-5, rtol=1e-4)


@EACH
@pytest.mark.parametrize("cut", [1, 7, 16, 35])
def test_chunks_and_neighbours_change_no_bit_of_a_scan(kernels: Kernels, cut: int) -> None:
    rows, heads, key_dim, value_dim = 40, 4, 24, 72
    x, steps = noise(rows + 6, 4 * key_dim + heads * value_dim), noise(rows + 6, heads, seed=1)

    def run(batches: list[tuple[slice, MicroBatch]]) -> tuple[Tensor, Tensor]:
        state = torch.full((SLOTS, heads, key_dim, value_dim), torch.nan)
        outs = []
        for span, batch in batches:
            out = torch.empty(span.stop - span.start, heads * value_dim)
            kernels.selective_scan(x[span], steps[span], factors_of(heads), state, batch, out)
            outs.append(out)
        return torch.cat(outs), state[3]

    whole = run([(slice(0, rows), batch_of([rows], [0]))])
    first = slice(0, cut), batch_of([cut], [0])
    second = slice(cut, rows + 6), batch_of([rows - cut, 6], [cut, 0])
    for found, expected in zip(run([first, second]), whole, strict=True):
        assert torch.equal(found[: len(expected)], expected)


@EACH
@pytest.mark.parametrize("cut", [1, 7, 16, 30])
def test_chunks_and_neighbours_change_no_bit(kernels: Kernels, cut: int) -> None:
    rows, key_heads, heads, key_dim, value_dim, taps = 40, 2, 4, 24, 72, 4
    width = 2 * key_heads * key_dim + heads * value_dim
    x, weight = noise(rows + 6, 1, width), noise(width, 1, taps, seed=1)
    gates = [noise(rows + 6, key_heads, 2, seed=seed) for seed in (2, 3)]
    vectors = [noise(heads, seed=seed) for seed in (4, 5)]

    def run(batches: list[tuple[slice, MicroBatch]]) -> tuple[Tensor, Tensor]:
        inputs = torch.full((SLOTS, taps - 1, width), torch.nan)
        state = torch.full((SLOTS, heads, key_dim, value_dim), torch.nan)
        outs = []
        for span, batch in batches:
            mixed = torch.empty(span.stop - span.start, width)
            out = torch.empty(span.stop - span.start, heads * value_dim)
            kernels.causal_convolution(x[span], weight, inputs, batch, mixed)
            own = [gate[span] for gate in gates]
            kernels.gated_delta(mixed, *own, *vectors, state, batch, out)
            outs.append(out)
        return torch.cat(outs), state[3]

    whole = run([(slice(0, rows), batch_of([rows], [0]))])
    first = slice(0, cut), batch_of([cut], [0])
    second = slice(cut, rows + 6), batch_of([rows - cut, 6], [cut, 0])
    for found, expected in zip(run([first, second]), whole, strict=True):
        assert torch.equal(found[: len(expected)], expected)


@NATIVE
def test_threads_change_no_bit(kernels: Kernels) -> None:
    batch, heads, dim = batch_of([9, 30, 1], [0, 4, 2]), 3, 64
    x, gates = noise(40, 3 * heads * dim), [noise(40, 3, 1, seed=seed) for seed in (1, 2)]
    vectors, state = [noise(heads, seed=seed) for seed in (3, 4)], noise(SLOTS, heads, dim, dim)
    steps = noise(40, heads, seed=5)
    found = []
    for threads in (1, 2, 5):
        own, out = state.clone(), torch.empty(40, heads * dim)
        on_threads = kernels.with_threads(threads, threads)
        on_threads.gated_delta(x, *gates, *vectors, own, batch, out)
        found.append(torch.cat([out.flatten(), own.flatten()]))
        on_threads.selective_scan(x, steps, factors_of(heads), own, batch, out)
        found[-1] = torch.cat([found[-1], out.flatten(), own.flatten()])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@NATIVE
def test_what_native_code_could_not_read_is_refused(kernels: Kernels) -> None:
    batch, x = batch_of([2], [0]), noise(2, 1, 8)
    state, out = torch.zeros(SLOTS, 3, 8), torch.empty(2, 8)
    with pytest.raises(ValueError, match=r"weights \[C, 1, up to 8\] and C channels"):
        kernels.causal_convolution(x, noise(8, 1, 5), state, batch, out)
    with pytest.raises(ValueError, match="a float32 state with contiguous channels"):
        kernels.causal_convolution(x, noise(8, 1, 4), state.double(), batch, out)
    gates = [noise(2, 1, 1), noise(2, 1, 1), noise(1), noise(1)]
    with pytest.raises(ValueError, match="heads of up to 256 channels, as the state's"):
        kernels.gated_delta(noise(2, 9), *gates, torch.zeros(SLOTS, 1, 2, 4), batch, out[:, :4])
    with pytest.raises(ValueError, match="a rate and a decay for each row and head"):
        kernels.gated_delta(noise(2, 8), *gates, torch.zeros(SLOTS, 2, 2, 4), batch, out)
    strided = torch.zeros(SLOTS, 1, 2, 8)[..., :4]
    with pytest.raises(ValueError, match="a contiguous float32 state"):
        kernels.gated_delta(noise(2, 8), *gates, strided, batch, out[:, :4])
    scan = factors_of(1), torch.zeros(SLOTS, 1, 2, 4), batch, out[:, :4]
    with pytest.raises(ValueError, match="values of all heads, then keys and queries"):
        kernels.selective_scan(noise(2, 9), noise(2, 1), *scan)
    with pytest.raises(ValueError, match="a step for each row and head"):
        kernels.selective_scan(noise(2, 8), noise(2, 2), *scan)
    with pytest.raises(ValueError, match="a contiguous float32 state"):
        kernels.selective_scan(noise(2, 8), noise(2, 1), factors_of(1), strided, *scan[2:])
    with pytest.raises(ValueError, match="1 contiguous float32"):
        kernels.selective_scan(noise(2, 8), noise(2, 1), factors_of(2), *scan[1:])


@EACH
@given(count=st.integers(0, 9), width=st.integers(1, 40), size=st.sampled_from([1.0, 30.0]))
def test_sigmoid_gates(kernels: Kernels, count: int, width: int, size: float) -> None:
    gate, up = noise(count, 2 * width)[:, width:] * size, noise(count, width, seed=1)
    expected = (gate.double().sigmoid() * up).float()
    out = torch.empty(count, width)
    kernels.sigmoid_mul(gate, up, out)
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-5)
    kernels.sigmoid_mul(gate, up, up)
    assert torch.equal(up, out)
