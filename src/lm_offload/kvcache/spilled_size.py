"""Which layers of a KV cache may lie on disk; bytes of a block there, of what stays in memory."""

from __future__ import annotations

from lm_offload.arch.accounting import kept_bytes
from lm_offload.arch.config import ModelConfig
from lm_offload.quant.format import Format
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.storage.spill_file import SECTOR_BYTES
from lm_offload.units import align_up


def spillable_layers(config: ModelConfig) -> list[int]:
    """Those that may lie on disk: blocks there are all alike, and what others read stays here."""
    shared, usual = {layer.kv_of for layer in config.layers}, config.usual_kv_shape
    alike = (layer for layer in config.kv_layers if config.kv_shape(layer) == usual)
    return [layer for layer in alike if layer not in shared]


def spilled_block_bytes(config: ModelConfig, format: Format) -> int:
    """Bytes of one block of one layer, on disk and in the ring."""
    return align_up(BLOCK_TOKENS * kept_bytes(config.usual_kv_shape, format), SECTOR_BYTES)


def tails_bytes(config: ModelConfig, format: Format, layers: int, lanes: int) -> int:
    """Memory of the partly filled blocks of `lanes` sequences in `layers` layers."""
    return layers * lanes * spilled_block_bytes(config, format)
