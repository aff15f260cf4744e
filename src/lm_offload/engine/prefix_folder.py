"""The persistent prefix cache: which folder, how large, whose blocks, and whether they pay."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from lm_offload.engine.model_files import ModelFiles
from lm_offload.engine.model_folder import model_name
from lm_offload.errors import ConfigError
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.home_path import expanded
from lm_offload.kernels.base import Kernels
from lm_offload.kvcache.cache import kv_block_bytes
from lm_offload.kvcache.prefix_store import PrefixStore
from lm_offload.kvcache.whole_blocks import BlockBytes
from lm_offload.plan import Plan
from lm_offload.planner.costs.disk_cost import read_s
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.units import GIB, parse_size

DEFAULT_LIMIT_BYTES = 4 * GIB
OWNER_DIGITS = 12


@dataclass(frozen=True)
class PrefixFolder:
    """Where blocks are kept from one process to the next."""

    path: Path
    limit_bytes: int

    def store(self, files: ModelFiles, kernels: Kernels, cache: BlockBytes) -> PrefixStore:
        """The blocks that one model, in one format and by these kernels, fills."""
        owner = owner_of(files, kernels)
        name = f"{model_name(files.folder)}-{owner.hex()[:OWNER_DIGITS]}"
        return PrefixStore(self.path / name, owner, self.limit_bytes, cache)


def prefix_folder(
    folder: str | Path | None, limit: str | int | None, sharing: bool
) -> PrefixFolder | None:
    """What users ask for; raises ConfigError where it cannot take effect."""
    if folder is None:
        if limit is not None:
            raise ConfigError("A limit of the prefix cache was given without its folder; give one.")
        return None
    if not sharing:
        raise ConfigError(
            "A prefix cache was given with prefix sharing off; leave out one of them."
        )
    path = expanded(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"The prefix cache {path} cannot be made ({error}); name a folder that is writable."
        ) from error
    return PrefixFolder(path, DEFAULT_LIMIT_BYTES if limit is None else parse_size(limit))


def owner_of(files: ModelFiles, kernels: Kernels) -> bytes:
    """16 bytes that stand for all that keys and values depend on beside tokens and their places."""
    parts = files.checkpoint.fingerprint(), files.stored_format, files.kv_format, kernels.name
    return blake2b("\n".join(map(str, parts)).encode(), digest_size=16).digest()


def worth_reading(files: ModelFiles, plan: Plan, profile: HardwareProfile) -> bool:
    """Whether a block is read sooner than it is predicted to be computed.

    Of layers whose KV cache lies on disk it is also written there, one layer after the other.
    """
    block_bytes = kv_block_bytes(files.config, files.kv_format)
    compute_s = BLOCK_TOKENS / plan.predicted.prefill_tokens_per_s
    layer_s = profile.disk_write.transfer_s(block_bytes / files.config.num_layers)
    written_s = len(plan.spill.layers) * layer_s
    return read_s(profile.disk_read, block_bytes, block_bytes) + written_s < compute_s
