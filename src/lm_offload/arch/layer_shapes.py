"""What a layer is, as data: how it attends, and what it keeps of a token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class KVShape(NamedTuple):
    """Keys, or values, of one token in one layer."""

    kv_heads: int
    head_dim: int


@dataclass(frozen=True)
class LayerConfig:
    """What one decoder layer has, and how it attends."""

    window: int | None = None  # a position sees itself and window - 1 before it
    rope_index: int | None = 0  # which of ModelConfig.ropes rotates its queries and keys
    dense: bool = False  # one MLP, in a model whose other layers have experts
    tempered: int | None = None  # which of ModelConfig.ropes scales its queries by their position
    chunked: bool = False  # the window is a chunk: a position sees those of its own, up to itself
    recurrent: bool = False  # keeps a state instead of keys and values
    mixes: bool = True  # has attention, or what is recurrent; else an MLP or experts alone
    feeds: bool = True  # has an MLP or experts
    kv_shape: KVShape | None = None  # None: the model's
    kv_of: int | None = None  # the layer before it whose keys and values it reads; None: its own
    values_of_keys: bool = False  # values are what keys are made of, normalised in another way
    mlp_size: int | None = None  # width of its MLP; None: the model's

    @property
    def attends(self) -> bool:
        """Whether it reads keys and values."""
        return self.mixes and not self.recurrent

    @property
    def has_experts(self) -> bool:
        """Whether it has a router and experts, in a model that has them."""
        return self.feeds and not self.dense


@dataclass(frozen=True)
class LatentShape:
    """Multi-head latent attention: keys and values of all heads are made of one narrow vector.

    What is kept of a token is that vector and the channels of its keys that are rotated.
    """

    query_rank: int | None  # the same of queries; None: they are made of hidden states
    kv_rank: int
    rotated_dim: int  # channels of a head; those of keys are the same in all heads
    other_dim: int  # channels of queries and keys that are not rotated
    value_dim: int

    @property
    def head_dim(self) -> int:
        """Channels of queries and keys of one head."""
        return self.rotated_dim + self.other_dim

    @property
    def kept_dim(self) -> int:
        """Channels of what is kept of a token, which all heads read."""
        return self.rotated_dim + self.kv_rank
