"""A whole model over a hand-made paged cache: the smallest engine that can run every batch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from lm_offload.arch.accounting import workspace_floats
from lm_offload.arch.config import load_config
from lm_offload.arch.halves import cut_units
from lm_offload.arch.weights import Unit, WeightSpec, build_units, name_candidates
from lm_offload.kernels.torch_kernels import TorchKernels
from lm_offload.kvcache.recurrent_states import State
from lm_offload.micro_batch import MicroBatch
from lm_offload.models.attention_kinds import attention_of
from lm_offload.models.base import Context
from lm_offload.models.registry import load_mixture, load_model, load_recurrent
from lm_offload.models.rotary import rotary_tables
from lm_offload.models.workspace import Workspace
from lm_offload.pipeline.chunked_rows import in_chunks
from lm_offload.pipeline.expert_functions import ExpertFunctions
from tests.single_experts import with_single_experts

BLOCK_TOKENS = 4
NUM_BLOCKS = 96
NUM_SLOTS = 12  # of recurrent states
MAX_HEAD_BYTES = 64 * 64 * 4  # so that the toy vocabulary needs several parts


def load_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, experts by themselves."""
    files = sorted(folder.glob("*.safetensors"))
    tensors = {name: tensor for file in files for name, tensor in load_file(file).items()}
    return with_single_experts(tensors)


@dataclass
class Sequence:
    """Tokens that are in the cache, and the blocks that hold them."""

    length: int = 0
    blocks: list[int] = field(default_factory=list)


class PagedModel:
    """Runs sweeps of {sequence number: new tokens} and returns the logits of every new token."""

    def __init__(
        self, folder: Path, lengths: dict[int, int] | None = None, cut: bool = False
    ) -> None:
        self.config = load_config(folder)
        self.units = build_units(self.config, MAX_HEAD_BYTES)
        if cut:
            self.units = tuple(chain.from_iterable(cut_units(self.config, self.units)))
        self.lengths = lengths  # planned length of each sequence, for ropes that depend on it
        self.sequences: dict[int, Sequence] = {}
        self.workspace = Workspace(torch.empty(0))
        self._functions = load_model(self.config.model_type)
        self._tensors = load_tensors(folder)
        self._kernels = TorchKernels(1)
        # A stride of 7 scatters each sequence over the cache.
        self._free = [i * 7 % NUM_BLOCKS for i in range(NUM_BLOCKS)]
        self._caches: list[tuple[Tensor, Tensor]] = []
        for layer, place in enumerate(self.config.layers):
            own = self._empty_cache(layer) if place.kv_of is None else self._caches[place.kv_of]
            self._caches.append(own)
        self._states = self._empty_states() if self.config.recurrent else {}

    def _empty_cache(self, layer: int) -> tuple[Tensor, Tensor]:
        kv_heads, head_dim = self.config.kv_shape(layer)
        shape = (NUM_BLOCKS, kv_heads, BLOCK_TOKENS, head_dim)
        return torch.full(shape, float("nan")), torch.full(shape, float("nan"))

    def _empty_states(self) -> dict[int, State]:
        shape = self.config.recurrent
        inputs = (NUM_SLOTS, shape.taps - 1, shape.channels)
        matrices = (NUM_SLOTS, shape.heads, shape.key_dim, shape.value_dim)
        return {
            layer: State(torch.full(inputs, float("nan")), torch.full(matrices, float("nan")))
            for layer, place in enumerate(self.config.layers)
            if place.recurrent
        }

    def sweep(self, new_tokens: dict[int, list[int]]) -> dict[int, Tensor]:
        """One pass over all units; logits [new tokens, vocabulary] of each sequence."""
        batch = self._batch(new_tokens)
        tokens = torch.tensor([t for new in new_tokens.values() for t in new])
        rows = batch.num_tokens
        floats = workspace_floats(self.config, rows, rows)
        self.workspace = Workspace(torch.full((floats,), float("nan")))
        ctx = Context(self.config, self._kernels, self.workspace)
        hidden = torch.full((rows, self.config.hidden_size), float("nan"))
        normed = torch.full_like(hidden, float("nan"))
        logits = torch.full((rows, self.config.vocab_size), float("nan"))
        for unit in self.units:
            self.workspace.reset()
            self._compute(ctx, unit, batch, tokens, hidden, normed, logits)
        return dict(
            zip(new_tokens, logits.split([len(t) for t in new_tokens.values()]), strict=True)
        )

    def _compute(
        self,
        ctx: Context,
        unit: Unit,
        batch: MicroBatch,
        tokens: Tensor,
        hidden: Tensor,
        normed: Tensor,
        logits: Tensor,
    ) -> None:
        model, weights = self._functions, {s.role: self._view(s) for s in unit.loaded}
        if unit.kind == "embed":
            wanted = model.embed_rows(ctx.config, tokens, batch.positions)
            rows = {s.role: self._view(s)[wanted[s.role]] for s in unit.tables}
            model.embed(ctx, rows, hidden, weights)
            if ctx.config.layer_input_size:
                self._inputs = torch.full((len(tokens), ctx.config.layer_inputs_size), float("nan"))
                model.layer_inputs(ctx, rows, hidden, weights, self._inputs)
        elif unit.kind == "attention":
            cache = self._caches[unit.index]
            attend = attention_of(ctx.config, unit.index)
            attend(model, ctx, unit.index, weights, hidden, batch, *cache)
        elif unit.kind == "recurrent":
            functions = load_recurrent(ctx.config.model_type)
            functions.recur(ctx, weights, hidden, batch, self._states[unit.index])
        elif unit.kind == "mlp" and ctx.config.sums_experts(unit.index):
            self._experts.add_sums(weights, batch, ctx.kernels)
        elif unit.kind == "mlp":
            model.mlp(ctx, unit.index, weights, hidden)
            if ctx.config.layer_input_size:
                own = self._inputs.chunk(ctx.config.num_layers, 1)[unit.index]
                model.add_layer_input(ctx, weights, own, hidden)
        elif unit.kind == "gate_up":
            self._inner = torch.full((len(hidden), ctx.config.intermediate_size), float("nan"))
            model.inner_rows(ctx, weights, hidden, self._inner)
        elif unit.kind == "down":
            model.add_inner(ctx, weights, self._inner, hidden)
        elif unit.kind in ("router", "expert"):
            self._compute_mixture(ctx, unit, weights, batch, hidden)
        elif unit.kind == "final_norm":
            model.final_norm(ctx, weights, hidden, normed)
        else:
            first, last = unit.weights[0].rows or (0, ctx.config.vocab_size)
            model.head(ctx, weights, normed, logits[:, first:last])

    def _compute_mixture(
        self,
        ctx: Context,
        unit: Unit,
        weights: dict[str, Tensor],
        batch: MicroBatch,
        hidden: Tensor,
    ) -> None:
        if unit.kind == "router":
            functions, inputs = load_mixture(self.config.model_type), torch.empty_like(hidden)
            sums = torch.full_like(hidden, float("nan")) if self.config.summed_experts else None
            self._experts = ExpertFunctions(functions, ctx, hidden, inputs, batch.num_tokens, sums)
            self._experts.begin(batch.num_tokens)
            self._experts.route(weights, batch, ctx.kernels)
        else:
            self._experts.compute([(unit, weights)], ctx.kernels)

    def _view(self, spec: WeightSpec) -> Tensor:
        found = next(self._tensors[n] for n in name_candidates(spec.name) if n in self._tensors)
        assert tuple(found.shape) == spec.shape
        return found if spec.rows is None else found[spec.rows[0] : spec.rows[1]]

    def _batch(self, new_tokens: dict[int, list[int]]) -> MicroBatch:
        positions, slots, starts, tables, planned = [], [], [0], [], []
        for number, tokens in new_tokens.items():
            sequence = self.sequences.setdefault(number, Sequence())
            new_positions = range(sequence.length, sequence.length + len(tokens))
            sequence.length += len(tokens)
            while len(sequence.blocks) * BLOCK_TOKENS < sequence.length:
                sequence.blocks.append(self._free.pop())
            positions += new_positions
            blocks = sequence.blocks
            slots += [
                blocks[p // BLOCK_TOKENS] * BLOCK_TOKENS + p % BLOCK_TOKENS for p in new_positions
            ]
            starts.append(len(positions))
            tables.append(torch.tensor(blocks, dtype=torch.int32))
            planned += [(self.lengths or {}).get(number, 0)] * len(tokens)
        where = torch.tensor(positions)
        rows = MicroBatch(
            start=0,
            stop=len(positions),
            positions=where,
            query_starts=torch.tensor(starts, dtype=torch.int32),
            context_lens=torch.tensor(
                [self.sequences[n].length for n in new_tokens], dtype=torch.int32
            ),
            block_tables=torch.nn.utils.rnn.pad_sequence(tables, batch_first=True),
            slots=torch.tensor(slots),
            states=torch.tensor([n * 5 % NUM_SLOTS for n in new_tokens], dtype=torch.int32),
            rotary=rotary_tables(
                self.config, where, torch.tensor(planned) if self.lengths else None
            ),
        )
        if self.config.chunk_tokens is None:
            return rows
        return replace(rows, chunked=in_chunks(rows, self.config.chunk_tokens, BLOCK_TOKENS))
