"""The part of `TorchKernels` that moves states on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.kernels import torch_recurrent

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.state_kernels import ScanFactors
    from lm_offload.micro_batch import MicroBatch


class TorchStates:
    """See `StateKernels`."""

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
        torch_recurrent.causal_convolution(x, weight, state, batch, out, bias)

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
        torch_recurrent.plain_convolution(x, weight, state, batch, out, bias)

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
        torch_recurrent.gated_delta(x, *gates, state, batch, out)

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
        torch_recurrent.selective_scan(x, steps, factors, state, batch, out)
