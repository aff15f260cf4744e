"""Finds the folder or the GGUF file of a model, and what people call it."""

from __future__ import annotations

from contextlib import suppress
from os import PathLike
from pathlib import Path

from lm_offload.errors import CheckpointError
from lm_offload.home_path import expanded
from lm_offload.near_name import did_you_mean

GGUF_SUFFIX = ".gguf"
WANTED = (
    "give the folder of a Hugging Face checkpoint, a GGUF file, or a hub id that was downloaded "
    "before"
)


def find_folder(model: str | Path) -> Path:
    """The folder of `model`: a path, or an id that the local Hugging Face cache holds.

    A GGUF file stands for a folder. Raises CheckpointError.
    """
    if not isinstance(model, str | PathLike) or not str(model):
        raise _not_a_folder(model)
    path = expanded(model)
    is_folder, is_file = kind_of(path)
    if is_folder or (is_file and path.suffix == GGUF_SUFFIX):
        return path
    if is_file:
        raise _not_a_folder(str(model))
    if str(model).count("/") > 1:
        raise _not_there(path)
    return _cached_folder(path, str(model))


def kind_of(path: Path) -> tuple[bool, bool]:
    """Whether it is a folder, and whether a file; raises CheckpointError where nobody may look."""
    try:
        return path.is_dir(), path.is_file()
    except OSError as error:
        raise CheckpointError(
            f"{str(path)[:80]!r} cannot be looked at ({error.strerror}); check the path and its "
            "permissions."
        ) from error


def _not_a_folder(model: object) -> CheckpointError:
    return CheckpointError(f"{model!r} is not a folder; {WANTED}.")


def _not_there(path: Path) -> CheckpointError:
    return CheckpointError(f"{str(path)!r}{_near(path)} does not exist; {WANTED}.")


def _near(path: Path) -> str:
    """What lies beside a path that is not there, if it has nearly its name."""
    with suppress(OSError):
        return did_you_mean(path.name, (it.name for it in path.parent.iterdir()))
    return ""


def model_name(folder: Path) -> str:
    """The name of a folder, or of the repository whose snapshot it is in the Hugging Face cache."""
    folder = folder.resolve()
    if folder.parent.name == "snapshots":
        return folder.parent.parent.name.removeprefix("models--")
    return folder.name


def _cached_folder(path: Path, model_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model_id, local_files_only=True))
    except HFValidationError as error:
        raise _not_there(path) from error
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{model_id!r}{_near(path)} is neither a folder nor in the local Hugging Face cache; "
            f"check the path or download it first with: hf download {model_id}"
        ) from error
