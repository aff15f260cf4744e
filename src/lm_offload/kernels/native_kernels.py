"""The operations in native code (csrc/): arguments are checked here, computed there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.kernels import _native
from lm_offload.kernels.native_arguments import (
    packing,
    product,
    refuse,
    rows,
    rows_to_rows,
    vector,
)
from lm_offload.kernels.native_attention import attended, rotation, stored
from lm_offload.kernels.native_experts import NativeExperts
from lm_offload.kernels.native_states import NativeStates
from lm_offload.quant.packed import PackedWeight

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Items

    from torch import Tensor

    from lm_offload.kernels.base import Product, Weight
    from lm_offload.micro_batch import MicroBatch
    from lm_offload.quant.kv_blocks import Blocks


class NativeKernels(NativeExperts, NativeStates):
    """`Kernels` in C++, each call on at most `threads` threads and without the GIL.

    `operations` is one table of `_native`; by default the fastest that this CPU can run.
    `attention_threads` are those of attention where it has another number of them.
    Inputs of products with bf16 and fp8 weights are rounded to bf16 first where `rounds_inputs`.
    Calls raise ValueError for tensors that the kernels could not read.
    """

    def __init__(
        self,
        threads: int,
        operations: _native.Operations | None = None,
        attention_threads: int | None = None,
    ) -> None:
        self.threads = threads
        self._attention_threads = attention_threads or threads
        self._ops = operations or _native.best_operations()
        self.name = f"native-{self._ops.name}"
        self.rounds_inputs = self._ops.rounds_inputs

    def with_threads(self, compute: int, attention: int) -> NativeKernels:
        """See `Kernels.with_threads`."""
        return NativeKernels(compute, self._ops, attention)

    def record(self) -> NativeRecording:
        """See `Kernels.record`."""
        return NativeRecording(self.threads, self._ops, self._attention_threads)

    def linear(self, x: Tensor, weight: Weight, out: Tensor, bias: Tensor | None = None) -> None:
        """See `Kernels.linear`."""
        self._multiply(x, ((weight, out, bias),), False)

    def linear_each(self, x: Tensor, products: Items[Product]) -> None:
        """See `Kernels.linear_each`."""
        formats = {getattr(weight, "format", None) for weight, _, _ in products}
        if len(formats) == 1 and len(products) <= _native.MOST_PRODUCTS:
            self._multiply(x, products, False)
        else:
            for product in products:
                self._multiply(x, (product,), False)

    def linear_add(
        self, x: Tensor, weight: Weight, out: Tensor, bias: Tensor | None = None
    ) -> None:
        """See `Kernels.linear_add`."""
        self._multiply(x, ((weight, out, bias),), True)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float, out: Tensor) -> None:
        """See `Kernels.rms_norm`."""
        self._rms_norm(x, weight, 0.0, eps, out)

    def rms_norm_plus_one(self, x: Tensor, weight: Tensor, eps: float, out: Tensor) -> None:
        """See `Kernels.rms_norm_plus_one`."""
        self._rms_norm(x, weight, 1.0, eps, out)

    def bare_norm(self, x: Tensor, eps: float, out: Tensor) -> None:
        """See `Kernels.bare_norm`."""
        at, stride, out_at, out_stride, count, width = rows_to_rows(x, out)
        self._ops.bare_norm(at, stride, eps, out_at, out_stride, count, width, self.threads)

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float, out: Tensor) -> None:
        """See `Kernels.layer_norm`."""
        at, stride, out_at, out_stride, count, width = rows_to_rows(x, out)
        scale, shift = vector(weight, width), vector(bias, width)
        self._ops.layer_norm(
            at, stride, *scale, *shift, eps, out_at, out_stride, count, width, self.threads
        )

    def rotary(self, x: Tensor, cos: Tensor, sin: Tensor) -> None:
        """See `Kernels.rotary`."""
        self._ops.rotary(*rotation(x, cos, sin), self.threads)

    def store_kv(self, k: Tensor, v: Tensor, keys: Blocks, values: Blocks, slots: Tensor) -> None:
        """See `Kernels.store_kv`."""
        self._ops.store_kv(*stored(k, v, keys, values, slots), self.threads)

    def attention(
        self,
        q: Tensor,
        keys: Blocks,
        values: Blocks,
        batch: MicroBatch,
        scale: float,
        out: Tensor,
        window: int | None = None,
        softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> None:
        """See `Kernels.attention`."""
        seen = attended(q, keys, values, batch, scale, out, window, softcap, sinks)
        self._ops.attention(*seen, self._attention_threads)

    def silu_mul(self, gate: Tensor, up: Tensor, out: Tensor) -> None:
        """See `Kernels.silu_mul`."""
        self._gate(self._ops.silu_mul, gate, up, out)

    def gelu_tanh_mul(self, gate: Tensor, up: Tensor, out: Tensor) -> None:
        """See `Kernels.gelu_tanh_mul`."""
        self._gate(self._ops.gelu_tanh_mul, gate, up, out)

    def sigmoid_mul(self, gate: Tensor, up: Tensor, out: Tensor) -> None:
        """See `Kernels.sigmoid_mul`."""
        self._gate(self._ops.sigmoid_mul, gate, up, out)

    def relu(self, x: Tensor) -> None:
        """See `Kernels.relu`."""
        self._gate(self._ops.relu, x, x, x)

    def multiply(self, x: Tensor, y: Tensor, out: Tensor) -> None:
        """See `Kernels.multiply`."""
        self._gate(self._ops.multiply, x, y, out)

    def add(self, x: Tensor, out: Tensor) -> None:
        """See `Kernels.add`."""
        self._gate(self._ops.add, x, out, out)

    def scale(self, x: Tensor, factor: Tensor) -> None:
        """See `Kernels.scale`."""
        at, stride, count, width = rows(x)
        self._ops.scale(at, stride, *vector(factor, 1), count, width, self.threads)

    def _multiply(self, x: Tensor, products: Items[Product], accumulate: bool) -> None:
        """x times weights that are all plain or all packed in one format."""
        at, stride, m, k = rows(x)
        checked = [product(x, m, k, *each) for each in products]
        first = products[0][0]
        if isinstance(first, PackedWeight):
            self._ops.packed_linear(
                at, stride, m, k, *packing(first), checked, accumulate, self.threads
            )
        else:
            self._ops.linear(at, stride, m, k, checked, accumulate, self.threads)

    def _rms_norm(self, x: Tensor, weight: Tensor, offset: float, eps: float, out: Tensor) -> None:
        at, stride, out_at, out_stride, count, width = rows_to_rows(x, out)
        w_at, code = vector(weight, width)
        self._ops.rms_norm(
            at, stride, w_at, code, offset, eps, out_at, out_stride, count, width, self.threads
        )

    def _gate(self, kernel: Callable[..., None], gate: Tensor, up: Tensor, out: Tensor) -> None:
        at, stride, count, width = rows(gate)
        up_at, up_stride, *up_shape = rows(up)
        out_at, out_stride, *out_shape = rows(out)
        if up_shape != [count, width] or out_shape != [count, width]:
            refuse("a gate, a factor and an output of one shape", gate, up, out)
        kernel(at, stride, up_at, up_stride, out_at, out_stride, count, width, self.threads)


class NativeRecording:
    """See `Recording`; a replay is one call, whatever the number of operations."""

    complete = True

    def __init__(
        self, threads: int, operations: _native.Operations, attention_threads: int
    ) -> None:
        program = _native.Program(operations)
        self.kernels = NativeKernels(threads, program, attention_threads)
        self.replay = program.replay
