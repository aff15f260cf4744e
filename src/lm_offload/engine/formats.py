"""Which formats of weights and of the KV cache a user may ask for, and what `exact` forbids."""

from __future__ import annotations

from lm_offload.arch.config import ModelConfig
from lm_offload.errors import ConfigError
from lm_offload.quant.format import Format, format_of_dtype, parse_format
from lm_offload.quant.kv_format import can_pack, check_head_dim, parse_kv_format

AUTO = "auto"
AUTO_KV_FORMATS = ("int8", "int4")  # beside the checkpoint's own


def wanted_format(weight_format: str | None, exact: bool) -> Format | None:
    """What was asked for; raises ConfigError for no format, or a lossy one where `exact` is."""
    format = parse_format(weight_format) if weight_format is not None else None
    if exact and format is not None:
        refuse_lossy(format)
    return format


def check_on_device(config: ModelConfig, format: Format) -> None:
    """Raise ConfigError for what only the CPU computes: some models, and formats of weights."""
    parts = (
        (config.is_moe, "a mixture of experts"),
        (config.recurrent, "recurrent layers"),
        (config.layers_differ, "layers whose heads or inputs differ"),
    )
    for found, name in parts:
        if found:
            raise ConfigError(
                f"GPU memory was given for {name}, which only the CPU computes so far; leave the "
                "GPU out."
            )
    if format.int8_activations:
        raise ConfigError(
            f"GPU memory was given and weights in {format}; activations are rounded to 8 bits on "
            f"the CPU alone, name {format.stored} or leave the GPU out."
        )


def refuse_lossy(format: Format) -> None:
    """Raise ConfigError for a format that rounds weights, and maybe activations."""
    if format.is_packed:
        raise ConfigError(
            f"The weights would be {format}, which is not exact; leave --exact out, or take the "
            "original checkpoint in its own precision."
        )


def wanted_kv_format(config: ModelConfig, name: str | None, exact: bool) -> Format | None:
    """The format for keys and values, or None for the checkpoint's own precision, the default.

    Raises ConfigError for a format that is unknown, that heads of this size cannot be packed in,
    or that is another than the own where `exact` is.
    """
    if name is None:
        return None
    format, own = parse_kv_format(name), format_of_dtype(config.dtype)
    for shape in config.kv_shapes:
        check_head_dim(format, shape.head_dim)
    if exact and format != own:
        raise ConfigError(
            f"Keys and values would be {format.name}, which is not exact; leave --exact out, or "
            f"keep them in {own}."
        )
    return format


def kv_choices(config: ModelConfig, name: str | None, exact: bool) -> list[Format | None]:
    """The formats for keys and values that may be chosen: one, or several for `auto`.

    None is the checkpoint's own precision. Raises what `wanted_kv_format` raises.
    """
    if name != AUTO:
        return [wanted_kv_format(config, name, exact)]
    lossy = [parse_kv_format(name) for name in AUTO_KV_FORMATS]
    sizes = [shape.head_dim for shape in config.kv_shapes]
    fits = [format for format in lossy if all(can_pack(format, size) for size in sizes)]
    return [None] if exact else [None, *fits]


def quantized_format(wanted: Format | None, config: ModelConfig) -> Format | None:
    """The format to quantize a checkpoint to, or None for its own precision, the default.

    Raises ConfigError for another precision, as only int8, int4, fp8 and mxfp4 are made, and for
    mxfp4 where there are no experts.
    """
    if wanted is not None and wanted.is_of_experts and not config.is_moe:
        raise ConfigError(
            f"The weight format {wanted} was given for a model without experts, of which alone it "
            "is a format; allowed are int8, int4 and fp8 formats."
        )
    if wanted is None or wanted.is_packed:
        return wanted
    own = format_of_dtype(config.dtype)
    if wanted != own:
        raise ConfigError(
            f"The weight format {wanted} was given for a checkpoint in {own}; allowed are {own} "
            "and the int8, int4, fp8 and mxfp4 formats."
        )
    return None
