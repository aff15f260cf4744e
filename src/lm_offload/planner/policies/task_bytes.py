"""Bytes that each transfer task moves: one unit's weights, or what one micro-batch needs.

With g, c, d the shares in GPU memory, CPU memory and on disk::

    weights  read d W    stage c W (not pinned)    upload (c+d) W
    KV       read d X    stage c X (not pinned)    upload (c+d) X     X: of the context
             download (c+d) x    write d x                            x: of the new tokens
    hidden   read d A    upload (c+d) A    download (c+d) A    write d A

Where the CPU computes, what lies in GPU memory (g) crosses the link instead, in the opposite
directions; weights that lie there are used there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lm_offload.planner.policies.policy import Share
from lm_offload.planner.policies.scene import Scene
from lm_offload.schedule.block import (
    HOST_LOAD_HIDDEN,
    HOST_LOAD_KV,
    HOST_STORE_HIDDEN,
    HOST_STORE_KV,
    LOAD_HIDDEN,
    LOAD_KV,
    LOAD_WEIGHTS,
    STORE_HIDDEN,
    STORE_KV,
    Flows,
    Transfers,
    UnitKind,
)
from lm_offload.schedule.task import Kind

Key = tuple[Kind, UnitKind]


def transfer_bytes(scene: Scene) -> dict[Key, float]:
    """Bytes of one task of each kind; tasks that would move nothing are left out."""
    sizes: dict[Key, float] = {}
    kinds: tuple[UnitKind, ...] = ("attention", "mlp", "head")
    for unit in kinds:
        moved = {**_weights(scene, unit), **_hidden(scene, unit)}
        moved |= _kv(scene) if unit == "attention" else {}
        sizes |= {(kind, unit): size for kind, size in moved.items() if size > 0}
    return sizes


def chains_of(scene: Scene) -> Flows:
    """The chains of transfers in order of their tasks, whether or not anything moves."""
    on_gpu = scene.on_gpu
    return Flows(
        load_weights=LOAD_WEIGHTS,
        load_kv=LOAD_KV if on_gpu else HOST_LOAD_KV,
        store_kv=STORE_KV if on_gpu else HOST_STORE_KV,
        load_hidden=LOAD_HIDDEN if on_gpu else HOST_LOAD_HIDDEN,
        store_hidden=STORE_HIDDEN if on_gpu else HOST_STORE_HIDDEN,
        compute=scene.devices.compute,
        host_attention=scene.splits_attention,
    )


def flows_of(scene: Scene, sizes: Mapping[Key, float]) -> Flows:
    """The chains without the tasks that would move nothing, as a schedule wants them."""
    kinds, chains = {kind for kind, _ in sizes}, chains_of(scene)

    def present(chain: Transfers) -> Transfers:
        return tuple(kind for kind in chain if kind in kinds)

    return replace(
        chains,
        load_weights=present(chains.load_weights),
        load_kv=present(chains.load_kv),
        store_kv=present(chains.store_kv),
        load_hidden=present(chains.load_hidden),
        store_hidden=present(chains.store_hidden),
    )


def kv_bytes(scene: Scene, tokens: float) -> float:
    """Bytes of keys and values of one layer for `tokens` tokens."""
    heads = scene.model.kv_size // scene.model.head_dim
    token_bytes = scene.policy.kv_format.matrix_bytes(8 * heads, scene.model.head_dim) / 8
    return 2 * tokens * token_bytes


def float_bytes(scene: Scene) -> int:
    """Bytes of one value of the hidden states."""
    return scene.model.float_format.matrix_bytes(1, 1)


def _weights(scene: Scene, unit: UnitKind) -> dict[Kind, float]:
    share, policy = scene.policy.weights, scene.policy
    size = scene.model.unit_bytes(unit, policy.weight_format)
    if not scene.on_gpu:
        return {"read": share.disk * size}
    staged = 0.0 if policy.pinned else share.cpu * size
    return {"read": share.disk * size, "stage": staged, "upload": _outside(share) * size}


def _kv(scene: Scene) -> dict[Kind, float]:
    step, share = scene.step, scene.policy.kv
    sequences = scene.policy.micro_batch_size
    seen = 0.0 if step.phase == "prefill" else scene.model.seen_tokens(step.context)
    context = kv_bytes(scene, sequences * seen)
    new = kv_bytes(scene, sequences * step.tokens)
    moved: dict[Kind, float] = {"read_kv": share.disk * context, "write_kv": share.disk * new}
    if scene.splits_attention:
        return moved | _attention_on_host(scene)
    if not scene.on_gpu:
        return moved | {"download_kv": share.gpu * context, "upload_kv": share.gpu * new}
    moved["stage_kv"] = 0.0 if scene.policy.kv_pinned else share.cpu * context
    return moved | {"upload_kv": _outside(share) * context, "download_kv": _outside(share) * new}


def _attention_on_host(scene: Scene) -> dict[Kind, float]:
    """Queries, keys and values down, attention's output up, of the sequences whose KV is there."""
    row_bytes = scene.rows * float_bytes(scene) * _outside(scene.policy.kv)
    model = scene.model
    down = row_bytes * (model.query_size + 2 * model.kv_size)
    return {"send_qkv": down, "return_attended": row_bytes * model.query_size}


def _hidden(scene: Scene, unit: UnitKind) -> dict[Kind, float]:
    """Hidden states before and after a unit; the head reads one token and leaves nothing."""
    share = scene.policy.activations
    rows = scene.policy.micro_batch_size if unit == "head" else scene.rows
    size = rows * scene.model.hidden_size * float_bytes(scene)
    crossing = (_outside(share) if scene.on_gpu else share.gpu) * size
    load: Kind = "upload_hidden" if scene.on_gpu else "download_hidden"
    store: Kind = "download_hidden" if scene.on_gpu else "upload_hidden"
    loaded: dict[Kind, float] = {"read_hidden": share.disk * size, load: crossing}
    stored: dict[Kind, float] = {store: crossing, "write_hidden": share.disk * size}
    return loaded if unit == "head" else loaded | stored


def _outside(share: Share) -> float:
    """What is not in GPU memory."""
    return share.cpu + share.disk
