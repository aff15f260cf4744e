"""Opens a GGUF file, or the parts of one that was split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from lm_offload.arch.config import ModelConfig, parse_config
from lm_offload.arch.weight_spec import LATENT_UP
from lm_offload.arch.weights import WeightSpec
from lm_offload.errors import CheckpointError, UnsupportedModelError
from lm_offload.foreign.converted import ConvertedTensor
from lm_offload.foreign.gguf_architectures import ARCHITECTURES, Architecture
from lm_offload.foreign.gguf_config import gguf_config
from lm_offload.foreign.gguf_experts import expert_entries
from lm_offload.foreign.gguf_header import GGUFHeader, read_gguf_header
from lm_offload.foreign.gguf_latent import latent_up
from lm_offload.foreign.gguf_names import ROPE_FACTORS, hugging_face_name
from lm_offload.foreign.gguf_recurrent import recurrent_tensor
from lm_offload.foreign.gguf_tensor import gguf_norm, gguf_tensor, in_shape, own_matrix
from lm_offload.foreign.gguf_unused import refuse_unused
from lm_offload.foreign.model import ForeignModel
from lm_offload.quant.format import Format
from lm_offload.storage.checkpoint import Checkpoint, FileStamp
from lm_offload.storage.direct_file import DirectFile
from lm_offload.storage.row_reader import read_tensor
from lm_offload.storage.safetensors_header import TensorEntry
from lm_offload.storage.tensor_source import FLOAT_FORMATS

_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_LAYER = re.compile(r"blk\.(\d+)\.")
_PAIRED = re.compile(r"\.self_attn\.[qk]_proj\.(weight|bias)$")


def open_gguf(path: Path) -> ForeignModel:
    """Parse the headers of a GGUF file and of its parts; `path` is the file or the first part.

    Raises CheckpointError for a damaged or incomplete file, UnsupportedModelError for a model
    that is not read from GGUF.
    """
    paths = _parts(path)
    headers = [read_gguf_header(part) for part in paths]
    tensors = {name: entry for header in headers for name, entry in header.tensors.items()}
    header = GGUFHeader(headers[0].metadata, tensors)
    config = gguf_config(header, path.name, _rope_factors(tensors))
    arch = header.metadata["general.architecture"]
    renamed = _renamed(_without_guesses(header), arch, config["model_type"])
    refuse_unused(renamed, config, _name(path))
    checkpoint = Checkpoint(path, renamed, {part: FileStamp.of(part) for part in paths})
    parsed = parse_config(config, path.name)
    convert = partial(_convert, checkpoint, ARCHITECTURES[arch], parsed)
    return ForeignModel(
        _name(path), _name(path), {**config, "dtype": "float16"}, checkpoint, convert
    )


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


def _rope_factors(tensors: dict[str, TensorEntry]) -> dict[str, list[float]]:
    """The divisors of the frequencies, a few hundred bytes that belong to the config."""
    return {name: _numbers(tensors[name]) for name in ROPE_FACTORS if name in tensors}


def _numbers(entry: TensorEntry) -> list[float]:
    if entry.dtype != "F32" or len(entry.shape) != 1:
        raise CheckpointError(
            f"Tensor {entry.name} of {entry.path.name} is {entry.dtype} {list(entry.shape)}, it "
            "must be a list in F32; download it again."
        )
    file = DirectFile(entry.path)
    try:
        return [float(value) for value in read_tensor(entry, file)]
    finally:
        file.close()


def _without_guesses(header: GGUFHeader) -> dict[str, TensorEntry]:
    """Without the layers behind the last one that guess further tokens."""
    arch = header.metadata["general.architecture"]
    guessing = header.metadata.get(f"{arch}.nextn_predict_layers", 0)
    last = header.metadata[f"{arch}.block_count"] - guessing
    layers = {name: _LAYER.match(name) for name in header.tensors}
    return {
        name: entry
        for name, entry in header.tensors.items()
        if not (guessing and (found := layers[name]) and last <= int(found[1]))
    }


def _renamed(tensors: dict[str, TensorEntry], arch: str, model_type: str) -> dict[str, TensorEntry]:
    entries = (entry for name, entry in tensors.items() if name not in ROPE_FACTORS)
    return {entry.name: entry for entry in _in_other_words(entries, arch, model_type)}


def _in_other_words(
    entries: Iterable[TensorEntry], arch: str, model_type: str
) -> Iterator[TensorEntry]:
    for entry in entries:
        if experts := [*expert_entries(entry, model_type)]:
            yield from experts
            continue
        name = hugging_face_name(entry.name, arch)
        if name is None:
            raise UnsupportedModelError(
                f"Tensor {entry.name} of {entry.path.name} is none that a model of the "
                f"architecture {arch} has here; take the Hugging Face checkpoint of this model."
            )
        yield replace(entry, name=name)


def _convert(
    checkpoint: Checkpoint,
    arch: Architecture,
    config: ModelConfig,
    spec: WeightSpec,
    wanted: Format | None,
) -> ConvertedTensor | None:
    shape = config.recurrent
    if shape and (found := recurrent_tensor(checkpoint, shape, spec, wanted, arch.heads_in_turns)):
        return found
    if config.latent and spec.role == LATENT_UP and spec.name not in checkpoint.tensors:
        return latent_up(checkpoint, config.latent, spec)
    if (own := own_matrix(spec)) is not spec:
        return gguf_tensor(_need(checkpoint, own.name), own, None, wanted)
    stored = checkpoint.tensors.get(spec.name)
    if stored is None:
        return None
    entry = in_shape(stored, spec)
    if arch.adds_one and spec.name.endswith("norm.weight") and spec.role != "gated_norm":
        return gguf_norm(entry, spec)
    paired = config.head_dim if arch.pairs_rows and _PAIRED.search(spec.name) else None
    if entry.dtype in FLOAT_FORMATS and paired is None and entry is stored:
        return None
    return gguf_tensor(entry, spec, paired, wanted)


def _need(checkpoint: Checkpoint, name: str) -> TensorEntry:
    if name not in checkpoint.tensors:
        raise CheckpointError(
            f"Tensor {name} is missing from {checkpoint.folder.name}; download it again."
        )
    return checkpoint.tensors[name]
