"""What recurrent layers do to their states in native code; arguments are checked first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.kernels.native_recurrent import convolution, delta, scan

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels import _native
    from lm_offload.kernels.state_kernels import ScanFactors
    from lm_offload.micro_batch import MicroBatch


class NativeStates:
    """The part of `NativeKernels` that moves states on."""

    threads: int
    _ops: _native.Operations

    def causal_convolution(
        self,
        x: Tensor,
        weight: Tensor,
        state: Tensor,
        batch: MicroBatch,
        out: Tensor,
        bias: Tensor | None = None,
    ) -> None:
        """See `Kernels.causal_convolution`."""
        self._ops.causal_convolution(*convolution(x, weight, state, batch, out, bias), self.threads)

    def plain_convolution(
        self,
        x: Tensor,
        weight: Tensor,
        state: Tensor,
        batch: MicroBatch,
        out: Tensor,
        bias: Tensor | None = None,
    ) -> None:
        """See `Kernels.plain_convolution`."""
        self._ops.plain_convolution(*convolution(x, weight, state, batch, out, bias), self.threads)

    def gated_delta(
        self,
        x: Tensor,
        rates: Tensor,
        decays: Tensor,
        decay_log: Tensor,
        decay_bias: Tensor,
        state: Tensor,
        batch: MicroBatch,
        out: Tensor,
    ) -> None:
        """See `Kernels.gated_delta`."""
        gates = rates, decays, decay_log, decay_bias
        self._ops.gated_delta(*delta(x, *gates, state, batch, out), self.threads)

    def selective_scan(
        self,
        x: Tensor,
        steps: Tensor,
        factors: ScanFactors,
        state: Tensor,
        batch: MicroBatch,
        out: Tensor,
    ) -> None:
        """See `Kernels.selective_scan`."""
        self._ops.selective_scan(*scan(x, steps, factors, state, batch, out), self.threads)
