"""Opens a GGUF file, or the parts of one that was split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from lm_offload.arch.weights import WeightSpec
from lm_offload.errors import CheckpointError, UnsupportedModelError
from lm_offload.foreign.converted import ConvertedTensor
from lm_offload.foreign.gguf_config import gguf_config
from lm_offload.foreign.gguf_experts import expert_entries
from lm_offload.foreign.gguf_header import GGUFHeader, read_gguf_header
from lm_offload.foreign.gguf_names import ROPE_FACTORS, hugging_face_name
from lm_offload.foreign.gguf_tensor import gguf_tensor
from lm_offload.foreign.model import ForeignModel
from lm_offload.quant.format import Format
from lm_offload.storage.checkpoint import Checkpoint, FileStamp
from lm_offload.storage.direct_file import DirectFile
from lm_offload.storage.row_reader import read_tensor
from lm_offload.storage.safetensors_header import TensorEntry
from lm_offload.storage.tensor_source import FLOAT_FORMATS

_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_PAIRED = re.compile(r"\.self_attn\.[qk]_proj\.(weight|bias)$")


def open_gguf(path: Path) -> ForeignModel:
    """Parse the headers of a GGUF file and of its parts; `path` is the file or the first part.

    Raises CheckpointError for a damaged or incomplete file, UnsupportedModelError for a model
    that is none of the Llama family.
    """
    paths = _parts(path)
    headers = [read_gguf_header(part) for part in paths]
    tensors = {name: entry for header in headers for name, entry in header.tensors.items()}
    header = GGUFHeader(headers[0].metadata, tensors)
    config = gguf_config(header, path.name, _rope_factors(tensors))
    renamed = _renamed(tensors, config["model_type"])
    checkpoint = Checkpoint(path, renamed, {part: FileStamp.of(part) for part in paths})
    pairs = config["head_dim"] if header.metadata["general.architecture"] == "llama" else None
    convert = partial(_convert, checkpoint, pairs)
    return ForeignModel(_name(path), {**config, "dtype": "float16"}, checkpoint, convert)


def _parts(path: Path) -> list[Path]:
    found = _PART.search(path.name)
    if found is None:
        return [path]
    count = int(found[2])
    stem = path.name[: found.start()]
    parts = [path.with_name(f"{stem}-{i:05}-of-{count:05}.gguf") for i in range(1, count + 1)]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise CheckpointError(
            f"{missing[0]} is missing beside {path.name}; copy all {count} parts into one folder."
        )
    return parts


def _name(path: Path) -> str:
    return _PART.sub("", path.name).removesuffix(".gguf")


def _rope_factors(tensors: dict[str, TensorEntry]) -> list[float]:
    """The divisors of the frequencies, a few hundred bytes that belong to the config."""
    entry = tensors.get(ROPE_FACTORS)
    if entry is None:
        return []
    if entry.dtype != "F32":
        raise CheckpointError(
            f"Tensor {ROPE_FACTORS} of {entry.path.name} is {entry.dtype}, it must be F32; "
            "download it again."
        )
    file = DirectFile(entry.path)
    try:
        return [float(value) for value in read_tensor(entry, file)]
    finally:
        file.close()


def _renamed(tensors: dict[str, TensorEntry], model_type: str) -> dict[str, TensorEntry]:
    entries = (entry for name, entry in tensors.items() if name != ROPE_FACTORS)
    return {entry.name: entry for entry in _in_other_words(entries, model_type)}


def _in_other_words(entries: Iterable[TensorEntry], model_type: str) -> Iterator[TensorEntry]:
    for entry in entries:
        if experts := [*expert_entries(entry, model_type)]:
            yield from experts
            continue
        name = hugging_face_name(entry.name)
        if name is None:
            raise UnsupportedModelError(
                f"Tensor {entry.name} of {entry.path.name} is none of the Llama family's; take "
                "the Hugging Face checkpoint of this model."
            )
        yield replace(entry, name=name)


def _convert(
    checkpoint: Checkpoint, head_dim: int | None, spec: WeightSpec, wanted: Format | None
) -> ConvertedTensor | None:
    paired = head_dim if _PAIRED.search(spec.name) else None
    entry = checkpoint.tensors.get(spec.name)
    if entry is None or (entry.dtype in FLOAT_FORMATS and paired is None):
        return None
    return gguf_tensor(entry, spec, paired, wanted)
