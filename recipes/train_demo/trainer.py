"""The state of a training run and one update of it."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from recipes.train_demo import parallel
from recipes.train_demo.model import DemoConfig, Parameters, forward, init_parameters
from recipes.train_demo.optimizer import Muon
from torch import Tensor

MICRO_BATCH_TOKENS = 4096
WARM_UP_STEPS = 30
DECAY_FRACTION = 0.6


@dataclass(frozen=True)
class Options:
    """What the command line sets; learning rates are peaks."""

    output: Path
    work: Path
    minutes: float
    muon_lr: float
    adam_lr: float
    threads: int
    compile: bool


class Trainer:
    """Weights, their two optimizers, and how much of the time budget is used."""

    def __init__(self, config: DemoConfig, options: Options):
        self.config, self.options = config, options
        self.parameters = init_parameters(config)
        for weight in self.parameters.values():
            weight.requires_grad_()
        self.optimizers = make_optimizers(self.parameters, options)
        self.loss = torch.compile(token_loss, dynamic=False) if options.compile else token_loss
        self.elapsed_s, self.steps = 0.0, 0

    @property
    def progress(self) -> float:
        """Used fraction of the budget."""
        return self.elapsed_s / (60 * self.options.minutes)

    def step(self, windows: Tensor, length: int) -> float:
        """One update on windows (count, WINDOW + 1), cut to `length`; returns mean nats."""
        rank, world = parallel.rank_and_world()
        inputs = windows[rank::world, :-1].reshape(-1, length)
        targets = windows[rank::world, 1:].reshape(-1, length)
        loss = torch.tensor(self._accumulate(inputs, targets))
        parallel.sum_([loss, *(weight.grad for weight in self.parameters.values())], 1 / world)
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        scale = learning_rate_scale(self.progress, self.steps)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * scale
            optimizer.step()
            optimizer.zero_grad()
        self.steps += 1
        return loss.item()

    def _accumulate(self, inputs: Tensor, targets: Tensor) -> float:
        rows = max(1, MICRO_BATCH_TOKENS // inputs.shape[1])
        total = 0.0
        for x, y in zip(inputs.split(rows), targets.split(rows), strict=True):
            loss = self.loss(self.parameters, x, y, self.config) * (len(x) / len(inputs))
            loss.backward()
            total += loss.item()
        return total


def token_loss(
    parameters: Parameters, inputs: Tensor, targets: Tensor, config: DemoConfig
) -> Tensor:
    """Mean cross entropy in nats per token."""
    return F.cross_entropy(forward(parameters, inputs, config).flatten(0, 1), targets.flatten())


def make_optimizers(parameters: Parameters, options: Options) -> list[torch.optim.Optimizer]:
    """Muon for matrices inside the layers, AdamW for the embedding and the norms."""
    matrices = [w for name, w in parameters.items() if w.ndim == 2 and "embed" not in name]
    others = [w for name, w in parameters.items() if w.ndim == 1 or "embed" in name]
    muon = Muon(matrices, options.muon_lr, momentum=0.95, weight_decay=0.05)
    adam = torch.optim.AdamW(others, options.adam_lr, betas=(0.9, 0.95), weight_decay=0.0)
    for optimizer in (muon, adam):
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return [muon, adam]


def learning_rate_scale(progress: float, step: int) -> float:
    """Warm-up by steps, then flat, then linear to zero over the last part of the time."""
    return min(1.0, (step + 1) / WARM_UP_STEPS, max(0.0, (1.0 - progress) / DECAY_FRACTION))
