"""What mixtures of experts need, in plain torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.kernels import expert_choice

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.base import Weights
    from lm_offload.kernels.expert_choice import Choice, ChoiceRule


class TorchExperts:
    """The part of `TorchKernels` that is about experts."""

    def choose_experts(
        self,
        scores: Tensor,
        rule: ChoiceRule,
        bias: Tensor | None,
        choice: Choice,
        factors: Tensor | None = None,
    ) -> None:
        """See `Kernels.choose_experts`."""
        expert_choice.choose_experts(scores, rule, bias, choice, factors)

    def choose_close(self, scores: Tensor, margin: float, choice: Choice) -> None:
        """See `Kernels.choose_close`."""
        expert_choice.choose_close(scores, margin, choice)

    def expert_table(self, experts: int, example: Weights) -> None:
        """See `Kernels.expert_table`."""

    def weigh_rows(self, inputs: Tensor, gate: Tensor, scores: Tensor, x: Tensor) -> None:
        """See `Kernels.weigh_rows`.

        A product with one vector would be summed in an order that depends on how many rows there
        are.
        """
        scores.copy_((inputs * gate).sum(-1, keepdim=True))
        x.mul_(expert_choice.sigmoid(scores))

    def clear(self, x: Tensor) -> None:
        """See `Kernels.clear`."""
        x.zero_()
