"""What a model file offers: plain functions over weights, hidden states and KV views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.arch.config import ModelConfig
    from lm_offload.kernels.base import Kernels
    from lm_offload.kernels.expert_choice import Choice
    from lm_offload.kvcache.recurrent_states import State
    from lm_offload.micro_batch import MicroBatch
    from lm_offload.models.experts import ExpertRows
    from lm_offload.models.workspace import Workspace

    QKV = tuple[Tensor, Tensor, Tensor]  # [T, heads, head_dim], twice [T, kv_heads, head_dim]

Weights = Mapping[str, Any]  # role to Tensor in its own dtype, or PackedWeight of a matrix


@dataclass(frozen=True)
class Context:
    """What every model function needs and none owns."""

    config: ModelConfig
    kernels: Kernels
    workspace: Workspace

    def on(self, kernels: Kernels) -> Context:
        """The same with other kernels."""
        return self if kernels is self.kernels else replace(self, kernels=kernels)

    def of_layer(self, layer: int) -> Context:
        """The same where layers differ in their heads."""
        config = self.config.of_layer(layer)
        return self if config is self.config else replace(self, config=config)


class ModelFunctions(Protocol):
    """The functions of a model file; shapes: T rows of a micro-batch, R rows that want logits."""

    KERNELS_ONLY: frozenset[str]  # kinds of units that call kernels and nothing else of torch

    def embed_rows(
        self, config: ModelConfig, token_ids: Tensor, positions: Tensor
    ) -> dict[str, Tensor]:
        """Which rows of each row table are needed: role to int64 [T]."""

    def embed(self, ctx: Context, rows: Weights, hidden: Tensor, weights: Weights) -> None:
        """hidden[T, H] = embedding of the gathered rows [T, width] of each table."""

    def qkv(self, ctx: Context, weights: Weights, hidden: Tensor) -> QKV:
        """What attention asks of hidden[T, H], before rotation."""

    def add_attended(
        self, ctx: Context, weights: Weights, attended: Tensor, hidden: Tensor
    ) -> None:
        """hidden[T, H] += what the block makes of attended[T, heads * head_dim]."""

    def mlp(self, ctx: Context, layer: int, weights: Weights, hidden: Tensor) -> None:
        """hidden[T, H] += MLP block."""

    def final_norm(self, ctx: Context, weights: Weights, hidden: Tensor, out: Tensor) -> None:
        """out[R, H] = what the head reads, from hidden[R, H]."""

    def head(self, ctx: Context, weights: Weights, normed: Tensor, logits: Tensor) -> None:
        """logits[R, rows] of this part of the head, final softcap included."""


class HalvedFunctions(Protocol):
    """The halves of `mlp`, which a model of arch/halves.py offers beside it; I is its inner size.

    One after the other they give the same bits.
    """

    def inner_rows(self, ctx: Context, weights: Weights, hidden: Tensor, out: Tensor) -> None:
        """out[T, I] = activation(gate) * up of what the block reads of hidden[T, H]."""

    def add_inner(self, ctx: Context, weights: Weights, inner: Tensor, hidden: Tensor) -> None:
        """hidden[T, H] += what the block makes of inner[T, I]."""


class TurnedFunctions(Protocol):
    """What a model offers beside those if it changes queries and keys once they are rotated."""

    def after_rotation(self, ctx: Context, weights: Weights, q: Tensor, k: Tensor) -> None:
        """q[T, heads, head_dim] and k[T, kv_heads, head_dim] in place, in layers that rotate."""


class MixtureFunctions(Protocol):
    """What a model with experts offers instead of `mlp`."""

    def route(
        self, ctx: Context, weights: Weights, hidden: Tensor, normed: Tensor, choice: Choice
    ) -> None:
        """normed[T, H] = what the experts read of hidden[T, H]; choice = who is to read it."""

    def add_expert(
        self, ctx: Context, weights: Weights, chosen: ExpertRows, normed: Tensor, hidden: Tensor
    ) -> None:
        """hidden[rows] += what one expert makes of normed[rows], scaled."""


class SummedFunctions(Protocol):
    """What such a model offers beside those if a step follows the experts of a layer."""

    def add_sums(
        self, ctx: Context, weights: Weights, normed: Tensor, sums: Tensor, hidden: Tensor
    ) -> None:
        """hidden[T, H] += what becomes of sums[T, H] of all experts, and an MLP beside them.

        normed[T, H] is what the experts read.
        """


class RecurrentFunctions(Protocol):
    """What a model offers beside those if some layers keep states."""

    def recur(
        self, ctx: Context, weights: Weights, hidden: Tensor, batch: MicroBatch, state: State
    ) -> None:
        """hidden[T, H] += a recurrent block; moves the states of the rows' sequences on."""


class SharedFunctions(Protocol):
    """What a model offers beside those if layers read keys and values of another one."""

    def queries(self, ctx: Context, weights: Weights, hidden: Tensor) -> Tensor:
        """What attention asks of hidden[T, H], before rotation: [T, heads, head_dim]."""


class LayeredFunctions(Protocol):
    """What a model offers beside those if each layer reads something of the tokens themselves."""

    def layer_inputs(
        self, ctx: Context, rows: Weights, hidden: Tensor, weights: Weights, out: Tensor
    ) -> None:
        """out[T, layers * width] of the gathered rows and the embedding hidden[T, H]."""

    def add_layer_input(
        self, ctx: Context, weights: Weights, inputs: Tensor, hidden: Tensor
    ) -> None:
        """hidden[T, H] += what a layer makes of its inputs[T, width]; after its MLP."""
