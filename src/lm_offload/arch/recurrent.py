"""Layers that keep a state of fixed size instead of keys and values: what they keep, as data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

F32_BYTES = 4
MOST_TAPS = 8  # of a convolution: what the kernels take
MOST_KEY_DIM = 256


@dataclass(frozen=True)
class RecurrentShape(ABC):
    """Each head has a matrix that every token moves on, with a key, a value and a query.

    All three are convolved over the last few tokens first; several heads of values share the
    queries and keys of one.
    """

    key_heads: int
    heads: int  # of values, and so of the state: a multiple of key_heads
    key_dim: int
    value_dim: int
    taps: int  # tokens that the convolution sees

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

    @property
    def made(self) -> tuple[int, ...]:
        """Widths of what is made of that: the convolution's rows, and what the state says."""
        return (self.channels, self.value_size)

    @property
    @abstractmethod
    def flops_per_value(self) -> int:
        """Of a row for each value of its state."""

    @property
    @abstractmethod
    def projected(self) -> tuple[int, ...]:
        """Widths of what is projected of a token."""


@dataclass(frozen=True)
class DeltaShape(RecurrentShape):
    """A gated delta net (Yang et al. 2024): what a key recalls is corrected towards its value."""

    fused: bool  # q, k, v and gates of a key head are neighbours in one matrix

    @property
    def flops_per_value(self) -> int:
        """Decayed, read twice, corrected."""
        return 7

    @property
    def projected(self) -> tuple[int, ...]:
        """What is convolved and the gates; rates and decays."""
        if self.fused:
            return (self.channels + self.value_size, 2 * self.heads)
        return (self.channels, self.value_size, self.heads, self.heads)


@dataclass(frozen=True)
class ScanShape(RecurrentShape):
    """A state space layer (Mamba-2, Dao and Gu 2024): a key adds its value, by a step."""

    least_step: float
    most_step: float
    norm_eps: float  # of the norm of what passed its gate, for each group of heads alone
    bias: bool  # of the projections
    convolution_bias: bool

    @property
    def flops_per_value(self) -> int:
        """Decayed, added to, read."""
        return 5

    @property
    def projected(self) -> tuple[int, ...]:
        """Gates and what is convolved; steps."""
        return (self.value_size + self.channels, self.heads)


@dataclass(frozen=True)
class ConvolutionShape(RecurrentShape):
    """A short convolution between two gates (LFM2): there is no matrix to move on."""

    bias: bool  # of convolution and projections

    @property
    def flops_per_value(self) -> int:
        """Of none."""
        return 0

    @property
    def projected(self) -> tuple[int, ...]:
        """Both gates and what is convolved."""
        return (3 * self.channels,)

    @property
    def made(self) -> tuple[int, ...]:
        """What is convolved passes its gate where it lies."""
        return (self.channels,)


def convolution_shape(channels: int, taps: int, bias: bool) -> ConvolutionShape:
    """Of so many channels, each by itself."""
    return ConvolutionShape(
        key_heads=1, heads=1, key_dim=0, value_dim=channels, taps=taps, bias=bias
    )
