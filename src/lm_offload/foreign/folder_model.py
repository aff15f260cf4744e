"""Opens a Hugging Face folder that cannot be streamed as it is: quantized, or experts stacked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lm_offload.arch.config import read_json
from lm_offload.arch.fields import Fields
from lm_offload.errors import UnsupportedModelError
from lm_offload.foreign.model import Convert, ForeignModel
from lm_offload.storage.checkpoint import Checkpoint, open_checkpoint

CONFIG_FILE = "config.json"
# Model types whose experts are stacked in one tensor, with rows for columns.
STACKED = ("gpt_oss", "llama4", "llama4_text", "qwen3_vl_moe")
KEYS = ("quantization_config", "compression_config")

Reader = Callable[[Fields, Checkpoint], Convert]


def open_quantized_folder(folder: Path, name: str) -> ForeignModel | None:
    """The model `name`, or None if its config.json has no word of quantization or such experts.

    Raises CheckpointError for files that are missing or contradict one another,
    UnsupportedModelError for a method that is not read here.
    """
    path = folder / CONFIG_FILE
    raw = read_json(path) if path.is_file() else {}
    key = next((key for key in KEYS if isinstance(raw, dict) and raw.get(key)), None)
    if key is None:
        return _open_stacked(folder, name, raw)
    fields = Fields(raw, CONFIG_FILE).section(key) or Fields({}, CONFIG_FILE)
    method = fields.text("quant_method")
    readers = _readers()
    if method not in readers:
        raise UnsupportedModelError(
            f"{fields.where} has quant_method {method!r}, read are {', '.join(readers)}; choose "
            "another checkpoint of this model."
        )
    checkpoint = open_checkpoint(folder)
    config = {name: value for name, value in raw.items() if name not in KEYS}
    return ForeignModel(name, CONFIG_FILE, config, checkpoint, readers[method](fields, checkpoint))


def _open_stacked(folder: Path, name: str, raw: Any) -> ForeignModel | None:
    if not isinstance(raw, dict) or raw.get("model_type") not in STACKED:
        return None
    from lm_offload.foreign import expert_columns, gpt_oss

    checkpoint = open_checkpoint(folder)
    reader = gpt_oss if raw["model_type"] == "gpt_oss" else expert_columns
    return ForeignModel(
        name, CONFIG_FILE, raw, checkpoint, partial(reader.convert_expert, checkpoint)
    )


def _readers() -> Mapping[str, Reader]:
    """By method; they come with torch."""
    from lm_offload.foreign.awq import read_awq
    from lm_offload.foreign.compressed import read_compressed
    from lm_offload.foreign.float8 import read_float8
    from lm_offload.foreign.gpt_oss import read_mxfp4
    from lm_offload.foreign.gptq import read_gptq

    return {
        "gptq": read_gptq,
        "awq": read_awq,
        "compressed-tensors": read_compressed,
        "fp8": read_float8,
        "mxfp4": read_mxfp4,
    }
