"""A quantized KV cache: native code rounds and reads as the reference does, cut anyhow."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.kernels.base import Kernels
from lm_offload.quant.kv_blocks import write_tokens
from tests.kernels.implementations import all_kernels, native_kernels
from tests.kernels.packed_cache import FORMATS, PackedInputs, empty_blocks, pack_inputs
from tests.kernels.paged import Case, make_batch, reference_attention
from tests.kernels.rounding_error import rounding_error

EACH = pytest.mark.parametrize("kernels", all_kernels(2), ids=lambda kernels: kernels.name)
NATIVE = pytest.mark.parametrize("kernels", native_kernels(2), ids=lambda kernels: kernels.name)
LIKELY = 4  # standard deviations
EACH_FORMAT = pytest.mark.parametrize("name", FORMATS)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    sequences = draw(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 90)), min_size=1))
    return Case(
        rows=tuple(rows for rows, _ in sequences),
        contexts=tuple(rows + past for rows, past in sequences),
        heads=(kv_heads := draw(st.integers(1, 3))) * draw(st.integers(1, 7)),
        kv_heads=kv_heads,
        head_dim=8 * draw(st.integers(1, 20)),
    )


def scale_of(inputs: PackedInputs) -> float:
    return float(inputs.keys.head_dim**-0.5)


def attend(
    kernels: Kernels,
    inputs: PackedInputs,
    window: int | None = None,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    q, batch = inputs.floats.q, inputs.floats.batch
    out = torch.full_like(q, 7.0)
    kv, scale = (inputs.keys, inputs.values), scale_of(inputs)
    kernels.attention(q, *kv, batch, scale, out, window, softcap, sinks)
    return out


def assert_near(
    result: torch.Tensor,
    inputs: PackedInputs,
    window: int | None = None,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> None:
    """What the codes stand for, but for what native code rounds beside them."""
    options = scale_of(inputs), window, softcap, sinks
    errors = (result - reference_attention(inputs.floats, *options)).abs()
    allowed = rounding_error(inputs, *options)
    assert (errors <= allowed.most).all()
    assert errors.square().mean() < LIKELY**2 * allowed.variance.mean()


@EACH
@EACH_FORMAT
@settings(max_examples=30)
@given(
    case=cases(),
    window=st.none() | st.integers(1, 100),
    softcap=st.none() | st.floats(0.5, 30.0),
    seed=st.integers(0, 99),
)
def test_attention_over_what_the_codes_stand_for(
    kernels: Kernels, name: str, case: Case, window: int | None, softcap: float | None, seed: int
) -> None:
    inputs = pack_inputs(case, name, seed)
    assert_near(attend(kernels, inputs, window, softcap), inputs, window, softcap)


@EACH
@EACH_FORMAT
def test_wide_heads(kernels: Kernels, name: str) -> None:
    case = Case((1, 21), (530, 40), heads=8, kv_heads=1, head_dim=512)
    inputs = pack_inputs(case, name)
    assert_near(attend(kernels, inputs), inputs)


@EACH
@EACH_FORMAT
def test_contexts_of_several_segments(kernels: Kernels, name: str) -> None:
    inputs = pack_inputs(Case((1, 5, 40), (1300, 600, 530), head_dim=24), name)
    for window in (None, 3, 520):
        assert_near(attend(kernels, inputs, window), inputs, window)


@EACH
@EACH_FORMAT
def test_sinks_are_scores_of_nothing(kernels: Kernels, name: str) -> None:
    inputs = pack_inputs(Case((1, 5, 40), (1300, 600, 530), head_dim=24), name)
    sinks = torch.tensor([-1.0, 2.0, 0.5, 9.0]).bfloat16()
    assert_near(attend(kernels, inputs, 520, None, sinks), inputs, 520, None, sinks)


@EACH
@EACH_FORMAT
@pytest.mark.parametrize("window", [None, 30, 515])
def test_a_row_has_the_same_bits_however_a_prompt_is_cut(
    kernels: Kernels, name: str, window: int | None
) -> None:
    context = 1100
    inputs = pack_inputs(Case((context, 3), (context, 9), heads=6, kv_heads=2, head_dim=72), name)
    whole = attend(kernels, inputs, window, softcap=20.0)
    table = inputs.floats.batch.block_tables[:1]
    for start, stop in ((0, 1), (0, 7), (513, 514), (500, 530), (1000, 1100), (1099, 1100)):
        batch = make_batch([stop - start], [stop], table)
        part = replace(inputs.floats, q=inputs.floats.q[start:stop].contiguous(), batch=batch)
        result = attend(kernels, replace(inputs, floats=part), window, softcap=20.0)
        assert torch.equal(result, whole[start:stop])


@EACH_FORMAT
@pytest.mark.parametrize("rows", [1, 3])
def test_threads_share_segments_without_changing_a_bit(name: str, rows: int) -> None:
    inputs = pack_inputs(Case((rows,), (2100,), heads=4, kv_heads=1, head_dim=32), name)
    one, many = ([attend(kernels, inputs) for kernels in native_kernels(t)] for t in (1, 4))
    assert all(torch.equal(a, b) for a, b in zip(one, many, strict=True))


@EACH
@EACH_FORMAT
@settings(max_examples=30)
@given(
    count=st.integers(0, 60),
    head_dim=st.integers(1, 20).map(lambda eights: 8 * eights),
    exponent=st.integers(-40, 40),
    seed=st.integers(0, 99),
)
def test_store_kv_writes_the_bytes_of_the_reference(
    kernels: Kernels, name: str, count: int, head_dim: int, exponent: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    k, v = (torch.randn(count, 3, head_dim, generator=generator)[:, 1:] for _ in "kv")
    k, v = k * 2.0**exponent + 1.0, v * 2.0**exponent
    slots = torch.randperm(count + 40, generator=generator)[:count]
    stored, expected = (empty_blocks(name, 7, 2, head_dim) for _ in "se")
    kernels.store_kv(k, v, *stored, slots)
    for cache, rows in zip(expected, (k, v), strict=True):
        write_tokens(cache, rows, slots)
    for cache, reference in zip(stored, expected, strict=True):
        assert torch.equal(cache.data, reference.data)


@NATIVE
@EACH_FORMAT
@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_spoils_what_reads_it(kernels: Kernels, name: str, odd: float) -> None:
    for spoiled in (0, 1):
        inputs = pack_inputs(Case((4, 3), (40, 20)), name)
        clean = attend(kernels, inputs)
        slot = inputs.floats.batch.block_tables[0, 38 // 16] * 16 + 38 % 16
        row = torch.ones(1, 2, 16)
        row[0, 1, 5] = odd  # of the second KV head, seen by the last two rows of the first sequence
        write_tokens((inputs.keys, inputs.values)[spoiled], row, slot[None].long())
        result = attend(kernels, inputs)
        assert result[2:4, 2:].isnan().all()
        assert result[:, :2].isfinite().all()
        assert torch.equal(result[4:], clean[4:])


@EACH
@EACH_FORMAT
def test_a_nan_query_spoils_its_own_row_only(kernels: Kernels, name: str) -> None:
    inputs = pack_inputs(Case((4,), (30,)), name)
    clean = attend(kernels, inputs)
    inputs.floats.q[1, 2, 3] = torch.nan
    spoiled = attend(kernels, inputs)
    assert spoiled[1, 2].isnan().all()
    spoiled[1, 2] = clean[1, 2]
    assert torch.equal(spoiled, clean)


@EACH
@EACH_FORMAT
@pytest.mark.parametrize("size", [0.0, 1e-38, 1e-12, 1e30])
def test_extreme_sizes_stay_finite(kernels: Kernels, name: str, size: float) -> None:
    inputs = pack_inputs(Case((2,), (20,)), name)
    kernels.store_kv(
        torch.full((1, 2, 16), size), torch.full((1, 2, 16), -size),
        inputs.keys, inputs.values, inputs.floats.batch.block_tables[0, :1].long() * 16,
    )  # fmt: skip
    inputs.floats.q.mul_(1e-30 if size > 1 else size)
    assert attend(kernels, inputs).isfinite().all()


@NATIVE
def test_native_code_refuses_halves_of_two_caches(kernels: Kernels) -> None:
    inputs, other = (pack_inputs(Case((1,), (3,)), name) for name in FORMATS)
    for values in (other.values, inputs.keys, inputs.floats.values):
        mixed = replace(inputs, values=values)
        with pytest.raises(ValueError, match="native kernel takes"):
            attend(kernels, mixed)
