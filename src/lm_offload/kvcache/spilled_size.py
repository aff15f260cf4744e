"""Bytes of a KV cache whose blocks lie on disk: of a block there, and of what stays in memory."""

from __future__ import annotations

from lm_offload.arch.config import ModelConfig
from lm_offload.kvcache.cache import kv_block_bytes
from lm_offload.quant.format import Format
from lm_offload.storage.spill_file import SECTOR_BYTES
from lm_offload.units import align_up


def spilled_block_bytes(config: ModelConfig, format: Format) -> int:
    """Bytes of one block of one layer, on disk and in the ring."""
    return align_up(kv_block_bytes(config, format) // config.attention_layers, SECTOR_BYTES)


def tails_bytes(config: ModelConfig, format: Format, layers: int, lanes: int) -> int:
    """Memory of the partly filled blocks of `lanes` sequences in `layers` layers."""
    return layers * lanes * spilled_block_bytes(config, format)
