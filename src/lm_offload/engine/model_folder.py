"""Finds the folder or the GGUF file of a model, and what people call it."""

from __future__ import annotations

from pathlib import Path

from lm_offload.errors import CheckpointError

GGUF_SUFFIX = ".gguf"


def find_folder(model: str | Path) -> Path:
    """The folder of `model`: a path, or an id that the local Hugging Face cache holds.

    A GGUF file stands for a folder. Raises CheckpointError.
    """
    path = Path(model).expanduser()
    if path.is_dir() or (path.is_file() and path.suffix == GGUF_SUFFIX):
        return path
    if path.is_file() or str(model).count("/") > 1:
        raise CheckpointError(
            f"{str(model)!r} is not a folder; give the folder of a Hugging Face checkpoint, a GGUF "
            "file, or a hub id that was downloaded before."
        )
    return _cached_folder(str(model))


def model_name(folder: Path) -> str:
    """The name of a folder, or of the repository whose snapshot it is in the Hugging Face cache."""
    folder = folder.resolve()
    if folder.parent.name == "snapshots":
        return folder.parent.parent.name.removeprefix("models--")
    return folder.name


def _cached_folder(model_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model_id, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise CheckpointError(
            f"{model_id!r} is neither a folder nor in the local Hugging Face cache; check the path "
            f"or download it first with: hf download {model_id}"
        ) from error
