"""Muon for the hidden matrices, in fp32: `torch.optim.Muon` orthogonalizes in bf16, which is
many times slower on a CPU without bf16 arithmetic."""

from collections.abc import Iterable

import torch
from recipes.train_demo import parallel
from torch import Tensor

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_STEPS = 5


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalized (Jordan 2024, kellerjordan.github.io/posts/muon)."""

    def __init__(self, matrices: Iterable[Tensor], lr: float, momentum: float, weight_decay: float):
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update every matrix once; matrices of one shape are orthogonalized together."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for weight in group["params"]:
                by_shape.setdefault(weight.shape, []).append(weight)
            for weights in by_shape.values():
                self._step_same_shape(weights, group)

    def _step_same_shape(self, weights: list[Tensor], group: dict[str, float]) -> None:
        updates = torch.stack([self._nesterov(weight, group["momentum"]) for weight in weights])
        rows, columns = updates.shape[1:]
        updates = _orthogonalize_shared(updates)
        step_size = group["lr"] * max(1.0, rows / columns) ** 0.5
        for weight, update in zip(weights, updates, strict=True):
            weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-step_size)

    def _nesterov(self, weight: Tensor, momentum: float) -> Tensor:
        assert weight.grad is not None
        buffer = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
        buffer.lerp_(weight.grad, 1 - momentum)
        return weight.grad.lerp(buffer, momentum)


def _orthogonalize_shared(updates: Tensor) -> Tensor:
    rank, world = parallel.rank_and_world()
    result = torch.zeros_like(updates)
    result[rank::world] = orthogonalize(updates[rank::world])
    parallel.sum_([result])
    return result


def orthogonalize(matrices: Tensor) -> Tensor:
    """Roughly the nearest semi-orthogonal matrices of (count, rows, columns), by Newton-Schulz."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = _NEWTON_SCHULZ
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
