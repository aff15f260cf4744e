"""The yardstick beside the model: an interpolated bigram of the same tokens."""

from dataclasses import dataclass

import numpy as np

_ADD_K = 0.1


@dataclass(frozen=True)
class Bigram:
    """Counts of one token stream: `pairs` is (vocab, vocab), `starts` and `unigram` (vocab,)."""

    pairs: np.ndarray
    starts: np.ndarray
    unigram: np.ndarray


def count_bigrams(stream: np.ndarray, vocab_size: int) -> Bigram:
    """Count a stream of token ids; unigram probabilities are smoothed by add-k."""
    ids = stream.astype(np.int64)
    pairs = np.bincount(ids[:-1] * vocab_size + ids[1:], minlength=vocab_size**2)
    counts = np.bincount(ids, minlength=vocab_size) + _ADD_K
    pairs = pairs.reshape(vocab_size, vocab_size)
    return Bigram(pairs, pairs.sum(axis=1), counts / counts.sum())


def bigram_nats(bigram: Bigram, stream: np.ndarray, bigram_weight: float) -> float:
    """Mean nats per token of `weight * bigram + (1 - weight) * unigram`, from the second token."""
    previous, current = stream[:-1].astype(np.int64), stream[1:].astype(np.int64)
    conditional = bigram.pairs[previous, current] / np.maximum(bigram.starts[previous], 1)
    mixed = bigram_weight * conditional + (1 - bigram_weight) * bigram.unigram[current]
    return float(-np.log(mixed).mean())


def best_bigram_nats(bigram: Bigram, stream: np.ndarray) -> tuple[float, float]:
    """The lowest nats per token over a grid of weights, and its weight.

    The weight is picked on the evaluated text itself, which favours the bigram.
    """
    grid = np.linspace(0.05, 0.99, 95)
    return min((bigram_nats(bigram, stream, weight), float(weight)) for weight in grid)
