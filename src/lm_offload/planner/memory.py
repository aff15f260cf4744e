"""Every byte of the CPU tier by purpose; a plan that exceeds the budget does not exist."""

from __future__ import annotations

from dataclasses import dataclass

from lm_offload.arch.accounting import workspace_floats
from lm_offload.arch.config import ModelConfig
from lm_offload.kernels.scratch import product_scratch_bytes
from lm_offload.kvcache.cache import kv_block_bytes
from lm_offload.planner.request import ModelSizes
from lm_offload.storage.row_table import gather_bytes
from lm_offload.units import align_up

F32_BYTES = 4


@dataclass(frozen=True)
class Sizes:
    """The choices that memory other than weights depends on."""

    kv_blocks: int
    max_sequences: int
    sweep_tokens: int
    micro_batch_tokens: int
    scored_rows: int = 0

    @property
    def logit_rows(self) -> int:
        """Most rows of a sweep whose logits are wanted."""
        return self.max_sequences + self.scored_rows


def hidden_bytes(config: ModelConfig, sizes: Sizes) -> int:
    """Hidden states of all rows of a sweep, f32."""
    return align_up(sizes.sweep_tokens * config.hidden_size * F32_BYTES)


def workspace_bytes(config: ModelConfig, sizes: Sizes) -> int:
    """Intermediates of one unit on one micro-batch, or of the final norm on the sampled rows."""
    floats = workspace_floats(config, sizes.micro_batch_tokens, sizes.logit_rows)
    return align_up(floats * F32_BYTES)


def logits_bytes(config: ModelConfig, sizes: Sizes) -> int:
    """Normed rows and logits of the sampled rows, f32."""
    return align_up(sizes.logit_rows * (config.vocab_size + 2 * config.hidden_size) * F32_BYTES)


def kv_bytes(model: ModelSizes, sizes: Sizes) -> int:
    """The paged KV cache."""
    return align_up(sizes.kv_blocks * kv_block_bytes(model.config, model.kv_format))


def index_bytes(config: ModelConfig, sizes: Sizes) -> int:
    """Index tensors, block tables and rotary tables of a sweep; torch owns these."""
    rotary = sum(rope.rotary_dim * F32_BYTES * 2 for rope in config.ropes)
    tables = sizes.max_sequences * sizes.kv_blocks * 4
    return sizes.sweep_tokens * (64 + rotary) + min(tables, sizes.kv_blocks * 64)


def _embedding_bytes(config: ModelConfig, sizes: Sizes, table_resident: bool) -> int:
    """Rows of one micro-batch, fetched and put in order, and the read buffers."""
    row_bytes = config.embed_size * config.itemsize
    copies = 2 * sizes.micro_batch_tokens * row_bytes
    if table_resident:
        return copies
    return copies + gather_bytes(config.vocab_size * row_bytes, sizes.micro_batch_tokens)


def host_rows(
    config: ModelConfig, sizes: Sizes, table_resident: bool
) -> tuple[tuple[str, int], ...]:
    """What the host needs for a sweep wherever that is computed."""
    sampling = config.vocab_size * 40  # sorted probabilities, token ids and masks of one row
    return (
        ("embedding rows", _embedding_bytes(config, sizes, table_resident)),
        ("indices and sampling", align_up(index_bytes(config, sizes) + sampling)),
    )


def _scratch_bytes(model: ModelSizes) -> int:
    """What products with packed weights keep for themselves."""
    packed = model.weight_format.is_packed
    return align_up(product_scratch_bytes(model.most_columns)) if packed else 0


def memory_table(
    model: ModelSizes, sizes: Sizes, table_resident: bool
) -> tuple[tuple[str, int], ...]:
    """Purpose and bytes of everything but weights and staging."""
    config = model.config
    scratch_bytes = _scratch_bytes(model)
    return (
        ("KV cache", kv_bytes(model, sizes)),
        ("hidden states", hidden_bytes(config, sizes)),
        ("workspace", workspace_bytes(config, sizes)),
        ("logits", logits_bytes(config, sizes)),
        *host_rows(config, sizes, table_resident),
        *([("product scratch", scratch_bytes)] if scratch_bytes else []),
    )
