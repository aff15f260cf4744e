"""What keys and values depend on beside tokens: sequences alike in it may share blocks."""

from __future__ import annotations

from collections.abc import Iterable

from lm_offload.arch.config import ModelConfig
from lm_offload.engine.machinery import Machinery
from lm_offload.sequence import Sequence


def share_prefixes(sequences: Iterable[Sequence], config: ModelConfig) -> None:
    """Let these sequences use the KV blocks of others of this model that begin alike."""
    for sequence in sequences:
        sequence.prefix_root = prefix_root(config, sequence.max_tokens)


def save_prefixes(sequences: Iterable[Sequence], machinery: Machinery) -> None:
    """Keep the prompts of finished sequences for other processes, where that is asked for."""
    if machinery.prefixes is None:
        return
    found: dict[bytes, int] = {}
    for sequence in sequences:
        found.update(machinery.scheduler.blocks.filled_prompt(sequence))
    machinery.prefixes.save(found.items())


def prefix_root(config: ModelConfig, max_tokens: int) -> bytes:
    """What the keys of a sequence's blocks begin with.

    Some ropes turn by other frequencies where the sequence may become longer than their window.
    """
    return repr([rope.length_class(max_tokens) for rope in config.ropes]).encode()
