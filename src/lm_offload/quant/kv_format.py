"""Formats of the KV cache: their names and exact bytes.

A quantized value is scale * code + minimum. int8 has one scale for each token and head and no
minimum; int4 has a scale and a minimum for each token, head and group of at most 64 channels.
"""

from __future__ import annotations

from lm_offload.errors import ConfigError
from lm_offload.quant.format import CODE_BITS, FLOAT_BYTES, SCALE_BYTES, Format

BLOCK_TOKENS = 16
GROUP_CHANNELS = 64
LANES = 8  # tokens or channels that lie side by side, see quant/kv_blocks.py
KV_FORMATS = {
    "fp32": Format("fp32"),
    "bf16": Format("bf16"),
    "fp16": Format("fp16"),
    "int8": Format("int8"),
    "int4": Format("int4", GROUP_CHANNELS, symmetric=False),
}


def parse_kv_format(text: str) -> Format:
    """The format of a KV cache that a user wrote; raises ConfigError."""
    for name, format in KV_FORMATS.items():
        if text.lower() in (name, str(format)):
            return format
    raise ConfigError(f"KV format {text!r} is not known; allowed are {', '.join(KV_FORMATS)}.")


def can_pack(format: Format, head_dim: int) -> bool:
    """Whether heads of this size can be kept in the format."""
    return not (format.is_packed and head_dim % LANES)


def check_head_dim(format: Format, head_dim: int) -> None:
    """Raises ConfigError where heads of this size cannot be packed."""
    if not can_pack(format, head_dim):
        raise ConfigError(
            f"The model has heads of {head_dim} channels, which KV format {format.name} cannot "
            f"pack; allowed are multiples of {LANES}: keep the cache in its own precision."
        )


def groups_of(format: Format, head_dim: int) -> int:
    """Scales of one head of one token."""
    return -(-head_dim // (format.group_size or head_dim)) if format.is_packed else 0


def head_bytes(format: Format, head_dim: int) -> int:
    """Exact bytes of the keys or the values of one head of one token."""
    if not format.is_packed:
        return head_dim * FLOAT_BYTES[format.name]
    factors = SCALE_BYTES * (1 if format.symmetric else 2)
    return head_dim * CODE_BITS[format.name] // 8 + groups_of(format, head_dim) * factors
