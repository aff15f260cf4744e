"""Says which tensor is to blame when a model computes no numbers."""

from __future__ import annotations

import torch

from lm_offload.engine.machinery import Machinery
from lm_offload.errors import CheckpointError
from lm_offload.quant.packed import PackedWeight
from lm_offload.storage.unit_views import Views

ROWS_AT_ONCE = 256  # so that the check of a large matrix needs little memory


def explain_bad_logits(machinery: Machinery) -> CheckpointError:
    """The error for logits that are not finite; reads every weight, so the engine ends with it."""
    machinery.executor.close()
    store, plan = machinery.store, machinery.plan
    elsewhere = {*plan.streamed, *(plan.device.resident if plan.device else ())}
    for index, layout in enumerate(store.layouts):
        if layout.name not in elsewhere and store.has_home(index):
            role = _bad_role(store.acquire(index, -1))
        elif layout.name in elsewhere or layout.name in plan.resident:
            for block in store.staging_blocks(index, 0):
                block.read()
            role = _bad_role(store.acquire(index, 0))
        else:
            continue  # an embedding table on disk
        if role is not None:
            return CheckpointError(
                f"Weight {role} of {layout.name} holds NaN or infinite values; download or "
                "convert the checkpoint again."
            )
    return CheckpointError(
        "The model's logits are not finite although its weights are; its dtype is too narrow for "
        "these activations, or the embedding holds NaN: convert the checkpoint to float32."
    )


def _bad_role(views: Views) -> str | None:
    for role, weight in views.items():
        if isinstance(weight, PackedWeight):
            continue  # was finite when it was quantized; its checksum tells the rest
        for start in range(0, len(weight), ROWS_AT_ONCE):
            if not bool(torch.isfinite(weight[start : start + ROWS_AT_ONCE]).all()):
                return role
    return None
