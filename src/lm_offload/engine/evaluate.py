"""How well a model predicts a text, and how far a lossy format is from the exact model.

The divergence of Q (a lossy format) from P (the checkpoint's own precision) at one token is
KL(P || Q) = sum over the vocabulary of p * (log p - log q), in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from lm_offload.engine.eval_file import RowFile
from lm_offload.engine.eval_windows import Window
from lm_offload.engine.llm import LLM
from lm_offload.engine.loaded import SweepCallback
from lm_offload.sampling.logprobs import ROWS_AT_ONCE


@dataclass(frozen=True)
class Quality:
    """How well the tokens of a text were predicted; the last two are None without a reference."""

    tokens: int
    nats: float  # mean negative log probability
    mean_kl: float | None = None  # nats
    top1_agreement: float | None = None  # share of tokens with the same likeliest prediction

    @property
    def perplexity(self) -> float:
        """Exponential of the mean negative log probability."""
        return math.exp(self.nats)


@dataclass(frozen=True)
class Predictions:
    """A few predictions of one window: log probabilities f32 [R, V] and the targets [R]."""

    window: int
    row: int  # number of the first of them among those of all windows
    log_probs: Tensor
    targets: Tensor

    @property
    def log_likelihood(self) -> float:
        """Sum of the log probabilities of the targets."""
        own = self.log_probs.gather(1, self.targets.unsqueeze(1))
        return float(own.sum(dtype=torch.float64))


Visit = Callable[[Predictions], None]


def predict(
    llm: LLM, windows: Sequence[Window], visit: Visit, on_sweep: SweepCallback | None = None
) -> None:
    """Hand the predictions of all targets to `visit`, few at a time, in order in a window."""
    first_rows = [0, *accumulate(len(window.targets) for window in windows)]

    def consume(index: int, position: int, logits: Tensor) -> None:
        window = windows[index]
        for start in range(0, len(logits), ROWS_AT_ONCE):
            log_probs = logits[start : start + ROWS_AT_ONCE].log_softmax(dim=-1)
            first = position + start - window.first_row
            targets = torch.tensor(window.targets[first : first + len(log_probs)])
            visit(Predictions(index, first_rows[index] + first, log_probs, targets))

    llm.score(windows, consume, on_sweep)


def measure(llm: LLM, windows: Sequence[Window], on_sweep: SweepCallback | None = None) -> Quality:
    """Predict every target of `windows`."""
    return _measure(llm, windows, lambda found: None, on_sweep)


def measure_reference(
    llm: LLM, windows: Sequence[Window], file: RowFile, on_sweep: SweepCallback | None = None
) -> Quality:
    """The same, and keep the log probabilities of every prediction in `file`."""
    return _measure(llm, windows, lambda found: file.write(found.row, found.log_probs), on_sweep)


def compare(
    llm: LLM, windows: Sequence[Window], file: RowFile, on_sweep: SweepCallback | None = None
) -> Quality:
    """The same for a model in another format, compared with the reference in `file`."""
    kl, agreed = 0.0, 0

    def visit(found: Predictions) -> None:
        nonlocal kl, agreed
        reference = file.read(found.row, len(found.targets))
        kl += float((reference.exp() * (reference - found.log_probs)).sum(dtype=torch.float64))
        agreed += int((reference.argmax(dim=-1) == found.log_probs.argmax(dim=-1)).sum())

    quality = _measure(llm, windows, visit, on_sweep)
    return replace(quality, mean_kl=kl / quality.tokens, top1_agreement=agreed / quality.tokens)


def _measure(
    llm: LLM, windows: Sequence[Window], visit: Visit, on_sweep: SweepCallback | None
) -> Quality:
    log_likelihood = 0.0

    def add(found: Predictions) -> None:
        nonlocal log_likelihood
        log_likelihood += found.log_likelihood
        visit(found)

    predict(llm, windows, add, on_sweep)
    tokens = sum(len(window.targets) for window in windows)
    return Quality(tokens, -log_likelihood / tokens)
