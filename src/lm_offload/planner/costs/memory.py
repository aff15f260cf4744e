"""Every byte of the CPU tier by purpose; a plan that exceeds the budget does not exist."""

from __future__ import annotations

from dataclasses import dataclass, fields

from lm_offload.arch.config import ModelConfig
from lm_offload.device_plan import AttentionOn
from lm_offload.kernels.scratch import linear_scratch_bytes, packed_scratch_bytes
from lm_offload.kvcache.cache import kv_block_bytes
from lm_offload.kvcache.spilled_size import spilled_block_bytes, tails_bytes
from lm_offload.kvcache.swap_file import swap_slot_bytes
from lm_offload.plan import IN_MEMORY, KVSpill
from lm_offload.planner.costs.activation_memory import (
    F32_BYTES,
    activations,
    inner_bytes,
    workspace_bytes,
)
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.lazy import lazy
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.speculation.token_index import BYTES_PER_TOKEN
from lm_offload.storage.gather_size import gather_bytes
from lm_offload.units import align_up

CHOICE_BYTES = 64  # of one row and expert: number and scale, of the layer and in order, sorting
SWEEPS_ALIVE = 2  # rotary tables of a sweep are made while those of the last one are there
# What torch and the kernels allocate by themselves, beside the one mapping of all else.
APART = frozenset({"embedding rows", "indices and sampling", "product scratch"})
LEAST_SWAP_BLOCKS = 256  # of a cache in which the memory of one more is not missed


@dataclass(frozen=True)
class Sizes:
    """The choices that memory other than weights depends on."""

    kv_blocks: int
    max_sequences: int
    sweep_tokens: int
    micro_batch_tokens: int
    scored_rows: int = 0
    draft_rows: int = 0
    spare_sequences: int = 0
    kept_states: int = 0  # of recurrent layers, behind prefixes
    spill: KVSpill = IN_MEMORY
    attention: AttentionOn = "device"  # if there is one
    device_blocks: int = 0  # of the KV cache, where that lies in both memories
    in_place_rows: int = 0  # most rows of a sweep of which the CPU computes units beside a device
    in_place_layers: int = 0  # layers whose attention is among these units
    threads: int = 1  # most threads of a product: each may keep memory of its own

    def __hash__(self) -> int:
        return self._hash

    @lazy
    def _hash(self) -> int:
        """A search looks sizes up again and again."""
        return hash(tuple(getattr(self, item.name) for item in fields(self)))

    @property
    def lanes(self) -> int:
        """Most sequences in flight, at their longest or not."""
        return self.max_sequences + self.spare_sequences

    @property
    def device_frac(self) -> float:
        """The share of the KV cache that a device attends to beside the CPU."""
        return self.device_blocks / self.kv_blocks

    @property
    def logit_rows(self) -> int:
        """Most rows of a sweep whose logits are wanted."""
        return self.lanes + max(self.scored_rows, self.draft_rows)


def logits_bytes(config: ModelConfig, sizes: Sizes) -> int:
    """Normed rows and logits of the sampled rows, f32."""
    return align_up(sizes.logit_rows * (config.vocab_size + 2 * config.hidden_size) * F32_BYTES)


def kv_bytes(model: ModelSizes, sizes: Sizes) -> int:
    """The paged KV cache, as far as it lies in memory."""
    return align_up(sizes.kv_blocks * held_block_bytes(model, sizes.spill))


def kv_bytes_of(model: ModelSizes, blocks: int, layers: int) -> int:
    """Of so many blocks and layers, where these are alike."""
    block_bytes = kv_block_bytes(model.config, model.kv_format)
    return align_up(blocks * block_bytes // model.config.attention_layers * layers)


def held_block_bytes(model: ModelSizes, spill: KVSpill) -> int:
    """Of one block what lies in memory."""
    block_bytes = kv_block_bytes(model.config, model.kv_format)
    return block_bytes - kv_block_bytes(model.config, model.kv_format, spill.layers)


def kv_staging_bytes(model: ModelSizes, sizes: Sizes) -> int:
    """The ring for keys and values from disk, and the tails of the sequences in flight."""
    config, format, spill = model.config, model.kv_format, sizes.spill
    ring_bytes = spill.ring_blocks * spilled_block_bytes(config, format)
    return align_up(ring_bytes + tails_bytes(config, format, len(spill.layers), sizes.lanes))


def swap_bytes(model: ModelSizes, sizes: Sizes) -> int:
    """A block on its way to the disk or back; only with spare sequences room may be wanted.

    States of recurrent layers are not swapped, so of their models nothing is.
    """
    few = sizes.kv_blocks < LEAST_SWAP_BLOCKS or not sizes.spare_sequences
    if few or model.config.recurrent:
        return 0
    return align_up(max(moved_block_bytes(model, sizes.spill), 1))


def moved_block_bytes(model: ModelSizes, spill: KVSpill) -> int:
    """Of a block what lies in memory, as it is swapped."""
    return swap_slot_bytes(held_block_bytes(model, spill))


def state_bytes(config: ModelConfig, sizes: Sizes) -> int:
    """What recurrent layers keep of all sequences in flight, f32."""
    return align_up(sizes.lanes * config.state_bytes)


def kept_states_bytes(config: ModelConfig, count: int) -> int:
    """Of so many prefixes."""
    return align_up(count * config.state_bytes)


def index_bytes(config: ModelConfig, sizes: Sizes) -> int:
    """Index tensors, block tables and rotary tables of a sweep, which torch owns; text to draft
    from."""
    rotary = SWEEPS_ALIVE * sum(rope.rotary_dim * F32_BYTES for rope in config.ropes)
    tables = sizes.lanes * sizes.kv_blocks * 4
    looked_up = sizes.kv_blocks * BLOCK_TOKENS * BYTES_PER_TOKEN if sizes.draft_rows else 0
    copies = 1 + len({config.layers[layer].window for layer in sizes.spill.layers})
    indices = sizes.sweep_tokens * (64 + rotary) + min(tables, sizes.kv_blocks * 64)
    return copies * indices + looked_up + _choice_bytes(config, sizes)


def _choice_bytes(config: ModelConfig, sizes: Sizes) -> int:
    """Probabilities of a micro-batch's experts, those that its rows use, and rows by expert."""
    if not config.is_moe:
        return 0
    probabilities = sizes.micro_batch_tokens * config.num_experts * F32_BYTES
    return probabilities + sizes.sweep_tokens * config.experts_per_token * CHOICE_BYTES


def _embedding_bytes(config: ModelConfig, sizes: Sizes, table_resident: bool) -> int:
    """Rows of one micro-batch, fetched and put in order, and the read buffers."""
    rows = [width * config.itemsize for width in config.table_widths]
    copies = 2 * sizes.micro_batch_tokens * sum(rows)
    if table_resident:
        return copies
    read = (gather_bytes(config.vocab_size * row, sizes.micro_batch_tokens) for row in rows)
    return copies + sum(read)


def host_rows(
    config: ModelConfig, sizes: Sizes, table_resident: bool
) -> tuple[tuple[str, int], ...]:
    """What the host needs for a sweep wherever that is computed."""
    sampling = config.vocab_size * 40  # sorted probabilities, token ids and masks of one row
    return (
        ("embedding rows", _embedding_bytes(config, sizes, table_resident)),
        ("indices and sampling", align_up(index_bytes(config, sizes) + sampling)),
    )


def product_bytes(model: ModelSizes, sizes: Sizes) -> int:
    """What products on the CPU keep for themselves."""
    if model.weight_format.is_packed:
        return align_up(packed_scratch_bytes(model.most_columns))
    rows = max(sizes.micro_batch_tokens, sizes.logit_rows)
    kept = (linear_scratch_bytes(rows, n, k, sizes.threads) for n, k in model.matrix_shapes)
    return align_up(max(kept))


def memory_table(
    model: ModelSizes, sizes: Sizes, table_resident: bool
) -> tuple[tuple[str, int], ...]:
    """Purpose and bytes of everything but weights and staging."""
    config = model.config
    scratch_bytes, staging_bytes = product_bytes(model, sizes), kv_staging_bytes(model, sizes)
    moved_bytes, kept_bytes = swap_bytes(model, sizes), kept_states_bytes(config, sizes.kept_states)
    return (
        ("KV cache", kv_bytes(model, sizes)),
        *([("recurrent states", state_bytes(config, sizes))] if config.recurrent else []),
        *([("kept states", kept_bytes)] if kept_bytes else []),
        *([("KV staging", staging_bytes)] if sizes.spill.layers else []),
        *([("KV swap", moved_bytes)] if moved_bytes else []),
        *activations(config, sizes.sweep_tokens),
        *([("inner rows", inner_bytes(config, sizes.sweep_tokens))] if model.is_cut else []),
        ("workspace", workspace_bytes(config, sizes.micro_batch_tokens, sizes.logit_rows)),
        ("logits", logits_bytes(config, sizes)),
        *host_rows(config, sizes, table_resident),
        *([("product scratch", scratch_bytes)] if scratch_bytes else []),
    )
