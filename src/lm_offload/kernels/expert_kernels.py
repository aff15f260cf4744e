"""The signatures of what mixtures of experts need; see base.py for what binds all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.base import Weights
    from lm_offload.kernels.expert_choice import Choice, ChoiceRule
    from lm_offload.kernels.expert_table import ExpertTable


class ExpertKernels(Protocol):
    """Who is chosen, where experts lie, and what is done to rows beside them."""

    def choose_experts(
        self,
        scores: Tensor,
        rule: ChoiceRule,
        bias: Tensor | None,
        choice: Choice,
        factors: Tensor | None = None,
    ) -> None:
        """choice = the experts of a mixture that rows of scores[T, E] use.

        bias [E] counts when they are ranked, factors [E] multiply their scales in the end; both
        are weights of any float dtype.
        """

    def choose_close(self, scores: Tensor, margin: float, choice: Choice) -> None:
        """The same of one expert after the other, each weighed among those close to it."""

    def expert_table(self, experts: int, example: Weights) -> ExpertTable | None:
        """An empty table for experts like this one; None where they are asked for one by one."""

    def weigh_rows(self, inputs: Tensor, gate: Tensor, scores: Tensor, x: Tensor) -> None:
        """x[T, I] *= sigmoid(inputs[T, H] @ gate[1, H].T); scores [T, 1] is overwritten."""

    def clear(self, x: Tensor) -> None:
        """x[T, H] = 0."""
