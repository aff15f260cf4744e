"""The native thread pool: several callers at once, forked children, more threads than cores."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.kernels.implementations import native_kernels

pytestmark = pytest.mark.skipif(not native_kernels(1), reason="native kernels are not built")


def test_two_callers_at_once_get_their_own_results() -> None:
    kernels = native_kernels(3)[0]
    weights = [torch.randn(500, 64).bfloat16() for _ in range(4)]
    x = torch.randn(6, 64)
    expected = [torch.empty(6, 500) for _ in weights]
    for weight, out in zip(weights, expected, strict=True):
        native_kernels(1)[0].linear(x, weight, out)

    def many_products(index: int) -> bool:
        out = torch.empty(6, 500)
        for _ in range(300):
            out.zero_()
            kernels.linear(x, weights[index], out)
            if not torch.equal(out, expected[index]):
                return False
        return True

    with ThreadPoolExecutor(4) as callers:
        assert all(callers.map(many_products, range(4)))


def test_the_same_kernels_on_other_threads() -> None:
    x, weight = torch.randn(6, 64), torch.randn(500, 64).bfloat16()
    one, three = torch.empty(6, 500), torch.empty(6, 500)
    kernels = native_kernels(1)[0]
    kernels.linear(x, weight, one)
    again = kernels.with_threads(3, 2)
    again.linear(x, weight, three)
    assert (again.threads, again.name) == (3, kernels.name)
    assert torch.equal(one, three)


@pytest.mark.parametrize("threads", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("n", [1, 24, 250, 2000])
def test_every_chunk_is_computed_once(threads: int, n: int) -> None:
    kernels = native_kernels(threads)[0]
    x, weight, out = torch.ones(2, 64), torch.ones(n, 64).bfloat16(), torch.zeros(2, n)
    for count in range(1, 40):
        kernels.linear_add(x, weight, out)
        assert torch.equal(out, torch.full_like(out, 64.0 * count))


def test_workers_that_slept_wake_up() -> None:
    kernels = native_kernels(2)[0]
    x, weight, out = torch.randn(2, 64), torch.randn(400, 64), torch.empty(2, 400)
    for _ in range(5):
        kernels.linear(x, weight, out.zero_())
        torch.testing.assert_close(out, x @ weight.T, atol=1e-4, rtol=1e-4)
        time.sleep(0.002)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_computes_too() -> None:
    kernels = native_kernels(2)[0]
    x, weight, out = torch.ones(2, 64), torch.ones(400, 64), torch.empty(2, 400)
    kernels.linear(x, weight, out)
    child = os.fork()
    if child == 0:
        kernels.linear(x, weight, out.zero_())
        os._exit(0 if out.min().item() == 64.0 else 1)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0
            return
        time.sleep(0.01)
    os.kill(child, 9)
    pytest.fail("the forked child hung")


def test_unreadable_tensors_are_refused() -> None:
    kernels = native_kernels(1)[0]
    x, weight, out = torch.ones(2, 8), torch.ones(4, 8), torch.empty(2, 4)
    for bad_x, bad_weight, bad_out in (
        (x.double(), weight, out),
        (x, weight.int(), out),
        (x, weight[:, :7], out),
        (x, weight, out[:1]),
        (x.T.contiguous().T, weight, out),
    ):
        with pytest.raises(ValueError, match="A native kernel takes"):
            kernels.linear(bad_x, bad_weight, bad_out)
