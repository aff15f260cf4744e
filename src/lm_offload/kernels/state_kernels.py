"""The signatures of what recurrent layers do to their states; see base.py for what binds all."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.micro_batch import MicroBatch


class ScanFactors(NamedTuple):
    """What a state space layer has of each head, and the limits of its steps."""

    decay_log: Tensor  # [heads], of any float dtype, as the next two
    step_bias: Tensor
    skip: Tensor
    least_step: float
    most_step: float


class StateKernels(Protocol):
    """Operations on rows of several sequences, each after its own state."""

    def causal_convolution(
        self,
        x: Tensor,
        weight: Tensor,
        state: Tensor,
        batch: MicroBatch,
        out: Tensor,
        bias: Tensor | None = None,
    ) -> None:
        """out[T, C] = silu of sums over a row and those before it of x[T, n, C / n], by channel.

        weight [C, 1, taps] and bias [C] are of any float dtype, the last tap for the row itself.
        state [slots, taps - 1, C] holds at batch.states the inputs before the rows, afterwards
        those before the next; a sequence that begins with these rows has none.
        """

    def plain_convolution(
        self,
        x: Tensor,
        weight: Tensor,
        state: Tensor,
        batch: MicroBatch,
        out: Tensor,
        bias: Tensor | None = None,
    ) -> None:
        """`causal_convolution` without the silu."""

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
        """out[T, heads * value_dim] of x[T, q | k | v], row after row of a sequence.

        S = state[slots, heads, key_dim, value_dim] at batch.states, zero where a sequence begins;
        q and k, of G heads that several heads of v share, are made to have length one, q then
        divided by sqrt(key_dim); S = decay S, S += k (rate (v - S^T k))^T, out = S^T q, with rate =
        sigmoid(rates[T, G, heads / G]) and decay = exp(-exp(decay_log) softplus(decays +
        decay_bias)), where decay_log and decay_bias [heads] may have any float dtype.
        """

    def selective_scan(
        self,
        x: Tensor,
        steps: Tensor,
        factors: ScanFactors,
        state: Tensor,
        batch: MicroBatch,
        out: Tensor,
    ) -> None:
        """out[T, heads * value_dim] of x[T, v | k | q], row after row of a sequence (Mamba-2).

        S = state[slots, heads, key_dim, value_dim] as above; k and q, of G groups that several
        heads of v share, are taken as they are; S = decay S + k (step v)^T, out = S^T q + skip v,
        with step = softplus(steps[T, heads] + step_bias) within its limits and decay =
        exp(-exp(decay_log) step).
        """
