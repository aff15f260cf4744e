"""Products of every format, and the fixed cost of a kernel."""

from __future__ import annotations

from typing import cast

import pytest
import torch

from lm_offload.hardware.effort import QUICK
from lm_offload.hardware.memory_probe import probe_memory
from lm_offload.hardware.product_probe import (
    FORMATS,
    Products,
    matrices,
    measure_kernel_s,
    settled_s,
)
from lm_offload.hardware.product_work import product_work
from lm_offload.kernels.base import Kernels
from lm_offload.quant.format import parse_format
from lm_offload.units import MIB
from tests.hardware.probing import BUDGET_S, check


@pytest.mark.parametrize("format", [*FORMATS, *QUICK.other_formats], ids=str)
def test_products(kernels: Kernels, format) -> None:
    assert len(matrices(probe_memory(MIB), format, 3072)) >= 2
    products = Products(3072, cached=False)
    for _ in range(2):
        products.measure(kernels, probe_memory(MIB), [format], (1, 3), BUDGET_S)
    check([products.flops(format, 1e-6)])


def test_formats_that_are_measured_side_by_side_have_curves_of_their_own(kernels: Kernels) -> None:
    products = Products(256, cached=True)
    products.measure(kernels, probe_memory(4 * MIB), FORMATS, (1, 64), 0.2)
    curves = [products.flops(format, 0.0) for format in FORMATS]
    check(curves)
    assert [curve.sizes for curve in curves] == [(1.0, 64.0)] * len(FORMATS)
    assert len({curve.rates for curve in curves}) == len(FORMATS)


def test_mxfp4_is_measured() -> None:
    assert parse_format("mxfp4") in QUICK.other_formats


def test_a_kernel_takes_time(kernels: Kernels) -> None:
    assert 0 < measure_kernel_s(kernels, BUDGET_S) < 1


def test_all_weights_are_brought_into_the_cache_before_a_product_is_timed() -> None:
    seen = list[tuple[int, int]]()

    class Noting:
        def record(self) -> None:
            pass

        def linear(self, x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> None:
            seen.append((len(x), weight.data_ptr()))

    weights, kernels = list(torch.empty(3, 8, 8)), cast("Kernels", Noting())
    assert settled_s(product_work(kernels, weights, 4), kernels, weights, 0.0) > 0
    assert seen[:3] == [(1, weight.data_ptr()) for weight in weights]
    assert {rows for rows, _ in seen[3:]} == {4}
