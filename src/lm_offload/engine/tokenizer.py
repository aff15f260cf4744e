"""Text to tokens and back, by the files of the checkpoint."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from lm_offload.engine.model_folder import model_name
from lm_offload.engine.tokenizer_kinds import (
    HuggingFaceTokenizer,
    Messages,
    PlainTokenizer,
    first_line,
)
from lm_offload.errors import CheckpointError

log = logging.getLogger(__name__)


class Tokenizer(Protocol):
    """What the engine asks of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt, special tokens added as the checkpoint wants them.

        Raises RequestError for what is no text.
        """

    def encode_words(self, text: str) -> list[int]:
        """Token ids of a text within another, no special tokens added."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, without special tokens."""

    def decode_all(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens by their names."""

    def apply_chat_template(self, messages: Messages, /, **template: Any) -> list[int]:
        """Token ids of a conversation that the model is to continue.

        `template` is what the template takes besides. Raises RequestError where it refuses.
        """

    @property
    def chat_template(self) -> str:
        """The text of the chat template, of all where there are several; empty for none."""

    def as_json(self) -> tuple[str, int]:
        """The text of a `tokenizer.json` that says the same, and how many tokens it has.

        Raises RequestError for a tokenizer that is none of the library `tokenizers`.
        """

    def for_transformers(self) -> Any:
        """What transformers makes of the same files."""


TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a checkpoint; raises CheckpointError if there is none.

    That of a GGUF file is what lies beside it, else what it holds itself.
    """
    try:
        if folder.is_file():
            return _beside(folder) or HuggingFaceTokenizer(folder.parent, folder.name)
        if _is_plain(folder):
            return PlainTokenizer(folder / "tokenizer.json")
        return HuggingFaceTokenizer(folder)
    except Exception as error:
        raise CheckpointError(
            f"{model_name(folder)} has no tokenizer that can be loaded ({_why(folder, error)}); "
            "add its tokenizer files, or give prompts as token ids in Python."
        ) from error


def _why(folder: Path, error: Exception) -> str:
    if folder.is_file() or any((folder / name).exists() for name in VOCABULARIES):
        return first_line(error)
    return f"there is no {VOCABULARIES[0]}"


def save_gguf_tokenizer(file: Path, folder: Path) -> None:
    """Put the tokenizer that `load_tokenizer` finds for a GGUF file into `folder`.

    Raises OSError. One warning if there is none.
    """
    beside = [file.with_name(name) for name in TOKENIZER_FILES if file.with_name(name).exists()]
    for path in beside:
        shutil.copyfile(path, folder / path.name)
    if beside:
        return
    try:
        tokenizer = HuggingFaceTokenizer(file.parent, file.name)
    except Exception as error:
        log.warning(
            "%s has no tokenizer that can be loaded (%s): add tokenizer files to %s, or give "
            "prompts as token ids.",
            file.name,
            first_line(error),
            folder,
        )
        return
    tokenizer.save(folder)


def _beside(file: Path) -> Tokenizer | None:
    folder = file.parent
    if not (folder / TOKENIZER_FILES[0]).exists():
        return None
    if _is_plain(folder) or not (folder / TOKENIZER_FILES[1]).exists():
        return PlainTokenizer(folder / TOKENIZER_FILES[0])
    return HuggingFaceTokenizer(folder)


def _is_plain(folder: Path) -> bool:
    config = folder / "tokenizer_config.json"
    if not config.exists() or not (folder / "tokenizer.json").exists():
        return False
    declared = json.loads(config.read_text())
    has_template = "chat_template" in declared or (folder / "chat_template.jinja").exists()
    return declared.get("tokenizer_class") in PlainTokenizer.CLASSES and not has_template
