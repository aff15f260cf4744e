"""Every byte by purpose where a device computes: on the device, and on the host beside it."""

from __future__ import annotations

from collections.abc import Iterator

from lm_offload.arch.config import ModelConfig
from lm_offload.kernels.scratch import PIECE_ELEMENTS
from lm_offload.planner.costs.activation_memory import F32_BYTES, hidden_bytes, workspace_bytes
from lm_offload.planner.costs.memory import (
    Sizes,
    host_rows,
    index_bytes,
    kv_bytes_of,
    logits_bytes,
    product_bytes,
)
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.request import DeviceBudget, Request
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.units import MIB, align_up

UPLOAD_BLOCK_BYTES = 16 * MIB  # where a described machine does not say
UPLOADS_IN_FLIGHT = 2  # blocks, so that the link has the next when one ends
PACKED_BYTES = 16  # of a weight of a packed matrix: its code, the float, and between them
PACKED_KV_BYTES = 8  # of a key or value of a packed block that a token is written to


def device_memory_table(
    model: ModelSizes, sizes: Sizes, budget: DeviceBudget
) -> tuple[tuple[str, int], ...]:
    """Purpose and bytes of everything on the device but weights and their ring."""
    config, layers = model.config, model.config.num_layers
    return (
        *_kv_cache(model, _device_blocks(sizes), layers - layers_on_host(model, sizes)),
        ("hidden states", hidden_bytes(config, sizes.sweep_tokens)),
        *_exchanged(model, sizes, config.query_size + 2 * config.kv_size),
        ("workspace", workspace_bytes(config, sizes.micro_batch_tokens, sizes.logit_rows)),
        ("logits", logits_bytes(config, sizes)),
        ("indices", align_up(index_bytes(config, sizes))),
        ("kernel scratch", align_up(scratch_bytes(model, sizes))),
        ("context and libraries", budget.fixed_bytes),
    )


def host_rows_beside(
    request: Request, model: ModelSizes, sizes: Sizes, table_resident: bool = False
) -> tuple[tuple[str, int], ...]:
    """Purpose and bytes of everything on the host but weights and their ring."""
    device, link = request.device, request.profile.h2d
    assert device is not None
    block_bytes = upload_block_bytes(model, link.block_bytes if link else 0)
    return host_memory_table(model, sizes, table_resident, block_bytes, len(device.each))


def host_memory_table(
    model: ModelSizes,
    sizes: Sizes,
    table_resident: bool,
    upload_block_bytes: int,
    devices: int = 1,
) -> tuple[tuple[str, int], ...]:
    """The same beside so many devices.

    The staging of uploads is used only where memory cannot be pinned.
    """
    config = model.config
    return (
        *_kv_cache(model, *_kv_on_host(model, sizes)),
        ("logits", align_up(sizes.logit_rows * config.vocab_size * F32_BYTES)),
        *_exchanged(model, sizes, 2 * (config.query_size + config.kv_size)),
        *_in_place(model, sizes),
        ("upload staging", devices * UPLOADS_IN_FLIGHT * upload_block_bytes),
        *host_rows(config, sizes, table_resident),
    )


def layers_on_host(model: ModelSizes, sizes: Sizes) -> int:
    """Layers of which all keys and values lie in host memory, where the CPU attends."""
    return model.config.num_layers if sizes.attention == "cpu" else sizes.in_place_layers


def upload_block_bytes(model: ModelSizes, wanted_bytes: int) -> int:
    """The size of the blocks of uploads, no larger than the largest unit."""
    return align_up(min(wanted_bytes or UPLOAD_BLOCK_BYTES, model.largest_bytes))


def scratch_bytes(model: ModelSizes, sizes: Sizes) -> int:
    """What operations in torch allocate: the product being added, and K and V gathered in f32."""
    config = model.config
    rows = max(sizes.micro_batch_tokens, sizes.logit_rows)
    product = rows * 4 * max(model.most_rows, model.most_columns)
    piece = min(PIECE_ELEMENTS, model.most_elements)
    packed = PACKED_BYTES * piece * model.weight_format.is_packed
    if layers_on_host(model, sizes) == config.num_layers:
        return product + packed
    return product + packed + attention_scratch_bytes(model, sizes)


def attention_scratch_bytes(model: ModelSizes, sizes: Sizes) -> int:
    """What attention, or storing keys and values before it, allocates in torch."""
    return max(_attention_bytes(model.config, sizes), _store_bytes(model, sizes))


def _kv_on_host(model: ModelSizes, sizes: Sizes) -> tuple[int, int]:
    """Blocks and layers of the KV cache in host memory."""
    if sizes.device_blocks:
        return sizes.kv_blocks - sizes.device_blocks, model.config.num_layers
    return sizes.kv_blocks, layers_on_host(model, sizes)


def _device_blocks(sizes: Sizes) -> int:
    """Blocks of the KV cache on the device, of layers whose cache is there."""
    return sizes.device_blocks or sizes.kv_blocks


def _kv_cache(model: ModelSizes, blocks: int, layers: int) -> Iterator[tuple[str, int]]:
    if layers:
        yield "KV cache", kv_bytes_of(model, blocks, layers)


def _exchanged(model: ModelSizes, sizes: Sizes, width: int) -> Iterator[tuple[str, int]]:
    """Queries, keys, values and results of a sweep on their way to and from the CPU."""
    if layers_on_host(model, sizes) or sizes.device_blocks:
        yield "attention exchange", align_up(sizes.sweep_tokens * width * F32_BYTES)


def _in_place(model: ModelSizes, sizes: Sizes) -> Iterator[tuple[str, int]]:
    """What the CPU needs for units that it computes."""
    if not sizes.in_place_rows:
        return
    most = min(sizes.micro_batch_tokens, sizes.in_place_rows)
    yield "hidden states", hidden_bytes(model.config, sizes.in_place_rows)
    yield "workspace", workspace_bytes(model.config, most, sizes.logit_rows)
    if scratch := product_bytes(model, sizes):
        yield "product scratch", scratch


def _attention_bytes(config: ModelConfig, sizes: Sizes) -> int:
    """One sequence at a time: K and V as they are gathered, turned around, and padded."""
    context = min(_device_blocks(sizes) * BLOCK_TOKENS, config.max_positions)
    return 2 * 3 * context * config.kv_size * F32_BYTES


def _store_bytes(model: ModelSizes, sizes: Sizes) -> int:
    """The packed blocks that new tokens go to are unpacked, filled and packed again."""
    blocks = min(sizes.micro_batch_tokens, _device_blocks(sizes)) * model.kv_format.is_packed
    return blocks * BLOCK_TOKENS * model.config.kv_size * PACKED_KV_BYTES
