"""Which implementation is chosen, and what is said when it is not the best one."""

from __future__ import annotations

import logging
import sys

import pytest
import torch

from lm_offload.kernels import resolve
from lm_offload.kernels.onednn_kernels import OneDnnKernels
from lm_offload.kernels.torch_kernels import TorchKernels
from tests.kernels.implementations import all_kernels, native_kernels


def test_native_code_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "has_bf16_tiles", lambda: False)
    kernels = resolve.resolve_kernels(2)
    assert kernels.name == all_kernels()[0].name
    assert kernels.threads == 2


def test_torch_is_the_fallback_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resolve, "has_bf16_units", lambda: False)
    monkeypatch.setitem(sys.modules, "lm_offload.kernels.native_kernels", None)
    with caplog.at_level(logging.WARNING):
        kernels = resolve.resolve_kernels(1)
    assert isinstance(kernels, TorchKernels)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "slower" in caplog.text


@pytest.mark.skipif(not native_kernels(1), reason="native kernels are not built")
def test_every_table_passes_the_check_of_its_first_use() -> None:
    from lm_offload.kernels import _native

    tables = _native.all_operations()
    generic = next(table for table in tables if table.name == "generic")
    assert [table.name for table in tables if not _native.agrees(table, generic)] == []
    assert _native.best_operations().name == tables[0].name
    assert _native.rejected_operations() == []


@pytest.mark.skipif(not native_kernels(1), reason="native kernels are not built")
def test_a_table_that_fails_the_check_is_named_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from lm_offload.kernels import _native

    monkeypatch.setattr(resolve, "has_bf16_tiles", lambda: False)
    monkeypatch.setattr(_native, "rejected_operations", lambda: ["avx512"])
    with caplog.at_level(logging.WARNING):
        resolve.resolve_kernels(1)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "avx512" in caplog.text


@pytest.mark.parametrize("inner", all_kernels(), ids=lambda kernels: kernels.name)
def test_onednn_takes_wide_bf16_products_only(inner: TorchKernels) -> None:
    kernels = OneDnnKernels(inner, min_rows=4)
    weight, x = torch.randn(20, 64), torch.randn(5, 64)
    bias = torch.randn(20)
    for dtype, rows, exact in (
        (torch.bfloat16, 5, False),
        (torch.bfloat16, 3, False),
        (torch.float16, 5, True),
    ):
        out, expected = torch.ones(rows, 20), torch.ones(rows, 20)
        inner.linear_add(x[:rows], weight.to(dtype), expected, bias)
        kernels.linear_add(x[:rows], weight.to(dtype), out, bias)
        assert torch.equal(out, expected) == exact
        torch.testing.assert_close(out, expected, atol=0.3, rtol=0.02)
        kernels.linear(x[:rows], weight.to(dtype), out, bias)
        torch.testing.assert_close(out, expected - 1.0, atol=0.3, rtol=0.02)


@pytest.mark.parametrize("inner", all_kernels(), ids=lambda kernels: kernels.name)
def test_few_rows_are_rounded_like_many(inner: TorchKernels) -> None:
    weight, x, bias = torch.randn(40, 64).bfloat16(), torch.randn(9, 64), torch.randn(40)
    many, few = torch.empty(9, 40), torch.empty(3, 40)
    OneDnnKernels(inner, min_rows=4).linear(x, weight, many, bias)
    OneDnnKernels(inner, min_rows=4).linear(x[:3], weight, few, bias)
    differing = (many[:3] != few).float().mean()
    assert differing < 0.02  # only where the sums straddle a rounding boundary
    torch.testing.assert_close(few, many[:3], atol=0.07, rtol=0.01)


@pytest.mark.skipif(not native_kernels(1), reason="native kernels are not built")
@pytest.mark.parametrize("has_tiles", [False, True])
def test_onednn_replaces_native_products_only_where_there_are_tiles(
    has_tiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "has_bf16_units", lambda: True)
    monkeypatch.setattr(resolve, "has_bf16_tiles", lambda: has_tiles)
    kernels = resolve.resolve_kernels(1)
    assert kernels.name.endswith("+onednn-bf16") == has_tiles
    assert not has_tiles or (isinstance(kernels, OneDnnKernels) and kernels.min_rows == 32)


@pytest.mark.parametrize("has_units", [False, True])
def test_onednn_replaces_torch_where_there_are_bf16_units(
    has_units: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "has_bf16_units", lambda: has_units)
    monkeypatch.setitem(sys.modules, "lm_offload.kernels.native_kernels", None)
    kernels = resolve.resolve_kernels(1)
    assert kernels.name.endswith("+onednn-bf16") == has_units
    assert not has_units or (isinstance(kernels, OneDnnKernels) and kernels.min_rows == 8)
