"""Attention: right for ragged, windowed and capped batches, the same bits however it is cut."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.kernels.base import Kernels
from tests.kernels.implementations import DTYPES, all_kernels, native_kernels
from tests.kernels.paged import Case, Inputs, make_batch, make_inputs, reference_attention

EACH = pytest.mark.parametrize("kernels", all_kernels(2), ids=lambda kernels: kernels.name)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    sequences = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40)), min_size=1))
    return Case(
        rows=tuple(rows for rows, _ in sequences),
        contexts=tuple(rows + past for rows, past in sequences),
        heads=(kv_heads := draw(st.integers(1, 3))) * draw(st.integers(1, 7)),
        kv_heads=kv_heads,
        head_dim=draw(st.integers(1, 70)),
        dtype=getattr(torch, draw(st.sampled_from(DTYPES))),
    )


def attend(
    kernels: Kernels,
    inputs: Inputs,
    window: int | None = None,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    out, kv = torch.full_like(inputs.q, 7.0), (inputs.keys, inputs.values)
    kernels.attention(inputs.q, *kv, inputs.batch, 0.3, out, window, softcap, sinks)
    return out


@EACH
@settings(max_examples=40)
@given(
    case=cases(),
    window=st.none() | st.integers(1, 50),
    softcap=st.none() | st.floats(0.5, 30.0),
    seed=st.integers(0, 99),
)
def test_attention_is_softmax_attention(
    kernels: Kernels, case: Case, window: int | None, softcap: float | None, seed: int
) -> None:
    if max(case.contexts) == 0:
        return
    inputs = make_inputs(case, seed)
    expected = reference_attention(inputs, 0.3, window, softcap)
    torch.testing.assert_close(
        attend(kernels, inputs, window, softcap), expected, atol=2e-5, rtol=1e-4
    )


@EACH
@settings(max_examples=25)
@given(
    case=cases(),
    window=st.none() | st.integers(1, 50),
    size=st.sampled_from([1.0, 100.0]),
    dtype_name=st.sampled_from(DTYPES),
    seed=st.integers(0, 99),
)
def test_sinks_are_scores_of_nothing(
    kernels: Kernels, case: Case, window: int | None, size: float, dtype_name: str, seed: int
) -> None:
    if max(case.contexts) == 0:
        return
    inputs = make_inputs(case, seed)
    sinks = (size * torch.randn(case.heads)).to(getattr(torch, dtype_name))
    expected = reference_attention(inputs, 0.3, window, None, sinks)
    result = attend(kernels, inputs, window, None, sinks)
    torch.testing.assert_close(result, expected, atol=2e-5, rtol=1e-4)


@EACH
def test_sinks_of_long_contexts_have_the_same_bits_however_a_prompt_is_cut(
    kernels: Kernels,
) -> None:
    inputs, sinks = make_inputs(Case((1100,), (1100,), heads=6, head_dim=20)), torch.randn(6)
    whole = attend(kernels, inputs, 515, None, sinks)
    expected = reference_attention(inputs, 0.3, 515, None, sinks)
    torch.testing.assert_close(whole, expected, atol=2e-5, rtol=1e-4)
    for start, stop in ((0, 1), (513, 514), (1000, 1100), (1099, 1100)):
        batch = make_batch([stop - start], [stop], inputs.batch.block_tables[:1])
        part = Inputs(inputs.q[start:stop].contiguous(), inputs.keys, inputs.values, batch)
        assert torch.equal(attend(kernels, part, 515, None, sinks), whole[start:stop])


@EACH
def test_a_sink_far_below_all_scores_changes_no_bit(kernels: Kernels) -> None:
    inputs = make_inputs(Case((3, 1), (20, 600)))
    far = torch.full((4,), -1e4)
    assert torch.equal(attend(kernels, inputs, None, None, far), attend(kernels, inputs))


@EACH
@pytest.mark.parametrize("dtype_name", DTYPES)
def test_contexts_of_several_segments(kernels: Kernels, dtype_name: str) -> None:
    dtype = getattr(torch, dtype_name)
    inputs = make_inputs(Case((1, 5, 40), (1300, 600, 530), head_dim=24, dtype=dtype))
    for window in (None, 3, 520):
        expected = reference_attention(inputs, 0.3, window, None)
        torch.testing.assert_close(attend(kernels, inputs, window), expected, atol=2e-5, rtol=1e-4)


@EACH
@pytest.mark.parametrize("dtype_name", DTYPES)
def test_wide_heads(kernels: Kernels, dtype_name: str) -> None:
    """As in the layers of Gemma 4 that see everything: 512 channels, eight heads that share."""
    case = Case((1, 21), (530, 40), heads=8, kv_heads=1, head_dim=512)
    inputs = make_inputs(replace(case, dtype=getattr(torch, dtype_name)))
    expected = reference_attention(inputs, 0.1, None, None)
    out = torch.full_like(inputs.q, 7.0)
    kernels.attention(inputs.q, inputs.keys, inputs.values, inputs.batch, 0.1, out)
    torch.testing.assert_close(out, expected, atol=2e-5, rtol=1e-4)


@EACH
@pytest.mark.parametrize("window", [None, 30, 515])
def test_a_row_has_the_same_bits_however_a_prompt_is_cut(
    kernels: Kernels, window: int | None
) -> None:
    context = 1100
    inputs = make_inputs(Case((context, 3), (context, 9), heads=6, kv_heads=2, head_dim=20))
    whole = attend(kernels, inputs, window, softcap=20.0)
    table = inputs.batch.block_tables[:1]
    for start, stop in ((0, 1), (0, 7), (513, 514), (500, 530), (1000, 1100), (1099, 1100)):
        batch = make_batch([stop - start], [stop], table)
        part = Inputs(inputs.q[start:stop].contiguous(), inputs.keys, inputs.values, batch)
        assert torch.equal(attend(kernels, part, window, softcap=20.0), whole[start:stop])


@pytest.mark.parametrize("rows", [1, 3])
def test_threads_share_segments_without_changing_a_bit(rows: int) -> None:
    inputs = make_inputs(Case((rows,), (2100,), heads=4, kv_heads=1, head_dim=32))
    one, many = ([attend(kernels, inputs) for kernels in native_kernels(t)] for t in (1, 4))
    assert all(torch.equal(a, b) for a, b in zip(one, many, strict=True))


@EACH
def test_strided_queries_and_outputs(kernels: Kernels) -> None:
    inputs = make_inputs(Case((2, 1), (20, 5)))
    fused = torch.randn(3, 10, 16)
    fused[:, 1:5] = inputs.q
    out = torch.full((3, 6, 16), 7.0)
    kernels.attention(
        fused[:, 1:5], inputs.keys, inputs.values, inputs.batch, 0.3, out[:, 2:], None, None
    )
    assert torch.equal(out[:, 2:], attend(kernels, inputs))
    assert (out[:, :2] == 7.0).all()


@EACH
def test_a_nan_query_spoils_its_own_row_only(kernels: Kernels) -> None:
    inputs = make_inputs(Case((4,), (30,)))
    clean = attend(kernels, inputs)
    inputs.q[1, 2, 3] = torch.nan
    spoiled = attend(kernels, inputs)
    assert spoiled[1, 2].isnan().all()
    spoiled[1, 2] = clean[1, 2]
    assert torch.equal(spoiled, clean)
