"""The files of a draft model, which must speak the tokens of the model it drafts for."""

from __future__ import annotations

import json
from pathlib import Path

from lm_offload.engine.model_files import ModelFiles
from lm_offload.engine.opening import open_model
from lm_offload.engine.recurrent_options import check_draft
from lm_offload.errors import CheckpointError, ConfigError
from lm_offload.plan import Speculation

TOKENIZER_FILE = "tokenizer.json"


def open_draft(
    model: str | Path | None, target: ModelFiles, speculation: Speculation
) -> ModelFiles | None:
    """Config and headers of a draft model for `target`, None without one.

    Raises ConfigError where it has other tokens or could not take effect, CheckpointError for
    what cannot be read.
    """
    if model is None:
        if speculation == "draft-model":
            raise ConfigError(
                "speculation is 'draft-model' and no draft model was given; name its folder with "
                "--draft-model, or leave speculation to auto."
            )
        return None
    if speculation in ("off", "prompt-lookup"):
        raise ConfigError(
            f"A draft model was given and speculation is {speculation!r}, allowed with it are auto "
            "and draft-model; change one of the two."
        )
    files = open_model(model)
    check_draft(files.config)
    _check_tokens(files, target)
    return files


def _check_tokens(draft: ModelFiles, target: ModelFiles) -> None:
    """By their tokenizers; where one has none, by the sizes of their vocabularies."""
    mine, wanted = _token_ids(draft.folder), _token_ids(target.folder)
    sizes = draft.config.vocab_size, target.config.vocab_size
    if mine == wanted if mine and wanted else sizes[0] == sizes[1]:
        return
    raise ConfigError(
        f"The draft model {draft.folder.name} has another vocabulary ({len(mine) or sizes[0]} "
        f"tokens) than {target.folder.name} ({len(wanted) or sizes[1]}); take a draft model with "
        "the same tokenizer, or none."
    )


def _token_ids(folder: Path) -> dict[str, int]:
    """Every token of a tokenizer with its id, empty where there is no `tokenizer.json`."""
    file = folder / TOKENIZER_FILE
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        vocab = content["model"]["vocab"]
        pairs = vocab if isinstance(vocab, dict) else _numbered(vocab)
        added = ((token["content"], token["id"]) for token in content.get("added_tokens") or ())
        return {**pairs, **dict(added)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{TOKENIZER_FILE} of {folder.name} cannot be read; download it again."
        ) from error


def _numbered(pieces: list[list[object]]) -> dict[str, int]:
    """Unigram vocabularies are lists of pieces with their scores."""
    return {str(piece[0]): index for index, piece in enumerate(pieces)}
