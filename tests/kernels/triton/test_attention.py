"""Attention over caches of floats, int8 and int4: ragged, windowed, capped and in parts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.kernels.packed_cache import FORMATS, pack_inputs
from tests.kernels.paged import Case, Inputs, make_inputs, reference_attention

CASES = {
    "decode": Case((1, 1), (9, 33), heads=4, kv_heads=2, head_dim=16),
    "ragged": Case((3, 0, 1, 18), (20, 5, 1, 18), heads=6, kv_heads=2, head_dim=24),
    "parts": Case((1,), (520,), heads=3, kv_heads=1, head_dim=32),
    "many heads": Case((2, 1), (40, 17), heads=20, kv_heads=1, head_dim=72),
}
EACH_CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
HIDING = ((None, None), (7, 5.0))


def attend(kernels, inputs: Inputs, window=None, softcap=None) -> torch.Tensor:
    out = torch.full_like(inputs.q, torch.nan)
    kernels.attention(inputs.q, inputs.keys, inputs.values, inputs.batch, 0.3, out, window, softcap)
    return out


@EACH_CASE
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_floats(kernels, case, dtype):
    inputs = make_inputs(replace(case, dtype=dtype))
    for window, softcap in HIDING:
        expected = reference_attention(inputs, 0.3, window, softcap)
        found = attend(kernels, inputs, window, softcap)
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


@EACH_CASE
@pytest.mark.parametrize("name", FORMATS)
def test_codes(kernels, case, name):
    packed = pack_inputs(case, name)
    inputs = replace(packed.floats, keys=packed.keys, values=packed.values)
    for window, softcap in HIDING:
        expected = reference_attention(packed.floats, 0.3, window, softcap)
        found = attend(kernels, inputs, window, softcap)
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("head_dim", [1, 17])
def test_odd_heads(kernels, head_dim):
    inputs = make_inputs(Case((2, 1), (5, 20), heads=7, kv_heads=1, head_dim=head_dim))
    expected = reference_attention(inputs, 0.3, None, None)
    torch.testing.assert_close(attend(kernels, inputs), expected, atol=2e-5, rtol=1e-4)


def test_parts_that_a_window_hides(kernels):
    inputs = make_inputs(Case((1, 1), (800, 40), heads=2, kv_heads=1, head_dim=16))
    expected = reference_attention(inputs, 0.3, 20, None)
    torch.testing.assert_close(attend(kernels, inputs, 20), expected, atol=2e-5, rtol=1e-4)


def test_strided_queries_and_outputs(kernels):
    inputs = make_inputs(CASES["parts"])
    fused, out = torch.randn(1, 6, 32), torch.full((1, 4, 32), 7.0)
    fused[:, 1:4] = inputs.q
    part = replace(inputs, q=fused[:, 1:4])
    kernels.attention(part.q, part.keys, part.values, part.batch, 0.3, out[:, 1:], None, None)
    assert torch.equal(out[:, 1:], attend(kernels, inputs))
    assert (out[:, 0] == 7.0).all()


@pytest.mark.parametrize("name", ["parts", "ragged"])
def test_a_nan_query_spoils_its_own_row_only(kernels, name):
    inputs = make_inputs(CASES[name])
    clean = attend(kernels, inputs)
    inputs.q[0, 1, 3] = torch.nan
    spoiled = attend(kernels, inputs)
    assert spoiled[0, 1].isnan().all()
    spoiled[0, 1] = clean[0, 1]
    assert torch.equal(spoiled, clean)


def test_no_rows(kernels):
    inputs = make_inputs(Case((0, 0), (4, 9)))
    assert attend(kernels, inputs).shape[0] == 0


@pytest.mark.parametrize("longest", [16, 512, 528, 4112, 131072])
@pytest.mark.parametrize("programs", [1, 24, 511, 4000])
def test_parts_cover_the_context_and_have_work(kernels, longest, programs):
    from lm_offload.kernels.triton_attention import WANTED_PROGRAMS, split_context

    parts, tokens = split_context(longest, programs, 32)
    assert tokens % 32 == 0
    assert (parts - 1) * tokens < longest <= parts * tokens
    assert parts == 1 or (parts * programs <= WANTED_PROGRAMS and tokens >= 256)
