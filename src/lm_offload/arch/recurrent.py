"""Layers that keep a state of fixed size instead of keys and values: gated delta nets."""

from __future__ import annotations

from dataclasses import dataclass

F32_BYTES = 4


@dataclass(frozen=True)
class RecurrentShape:
    """A gated delta net (Yang et al. 2024): each head has a matrix that every token corrects.

    Queries, keys and values are convolved over the last few tokens first; several heads of values
    share the queries and keys of one.
    """

    key_heads: int
    heads: int  # of values, and so of the state: a multiple of key_heads
    key_dim: int
    value_dim: int
    taps: int  # tokens that the convolution sees
    fused: bool  # q, k, v and gates of a key head are neighbours in one matrix

    @property
    def key_size(self) -> int:
        """Width of the keys of one token, all heads."""
        return self.key_heads * self.key_dim

    @property
    def value_size(self) -> int:
        """Width of the values of one token, all heads."""
        return self.heads * self.value_dim

    @property
    def channels(self) -> int:
        """Width of what is convolved: queries, keys, values."""
        return 2 * self.key_size + self.value_size

    @property
    def inputs_floats(self) -> int:
        """Inputs of the convolution that are kept of a sequence."""
        return (self.taps - 1) * self.channels

    @property
    def matrix_floats(self) -> int:
        """Of the matrices of all heads."""
        return self.value_size * self.key_dim

    @property
    def state_bytes(self) -> int:
        """What one layer keeps of a sequence, in float32."""
        return F32_BYTES * (self.inputs_floats + self.matrix_floats)
