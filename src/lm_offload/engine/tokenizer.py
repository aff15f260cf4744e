"""Text to tokens and back, by the files of the checkpoint."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lm_offload.engine.model_folder import model_name
from lm_offload.errors import CheckpointError, RequestError

log = logging.getLogger(__name__)

Messages = Sequence[Mapping[str, Any]]  # of a conversation


class Tokenizer(Protocol):
    """What the engine asks of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt, special tokens added as the checkpoint wants them.

        Raises RequestError for what is no text.
        """

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, without special tokens."""

    def apply_chat_template(self, messages: Messages, **template: Any) -> list[int]:
        """Token ids of a conversation that the model is to continue.

        `template` is what the template takes besides. Raises RequestError where it refuses.
        """


class PlainTokenizer:
    """A `tokenizer.json` and nothing else, for checkpoints that declare just that.

    Spares the import of transformers: about a second and 100 MiB.
    """

    CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer as Backend

        self._backend = Backend.from_file(str(file))

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt."""
        ids: list[int] = self._backend.encode(_checked(text)).ids
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, without special tokens."""
        text: str = self._backend.decode(list(token_ids))
        return text

    def apply_chat_template(self, messages: Messages, **template: Any) -> list[int]:
        """Refuse: a plain tokenizer has no template."""
        raise RequestError(_NO_TEMPLATE)


class HuggingFaceTokenizer:
    """The tokenizer that transformers makes of the folder, chat template included."""

    def __init__(self, folder: Path, gguf_file: str | None = None) -> None:
        from transformers import AutoTokenizer

        self._backend: Any = AutoTokenizer.from_pretrained(
            folder, gguf_file=gguf_file, local_files_only=True
        )

    def save(self, folder: Path) -> None:
        """Write files from which `load_tokenizer` makes the same."""
        self._backend.save_pretrained(folder)

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt."""
        return list(self._backend.encode(_checked(text)))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, without special tokens."""
        return str(self._backend.decode(list(token_ids), skip_special_tokens=True))

    def apply_chat_template(self, messages: Messages, **template: Any) -> list[int]:
        """Token ids of a conversation, with the header of the answer to come."""
        if not self._backend.chat_template:
            raise RequestError(_NO_TEMPLATE)
        options = {"add_generation_prompt": True, **template, "tokenize": False}
        try:
            text = self._backend.apply_chat_template(list(messages), **options)
        except Exception as error:  # a template is a program of the checkpoint
            raise RequestError(
                f"The chat template of this model refuses these messages ({_first_line(error)}); "
                'give a list like [{"role": "user", "content": "text"}].'
            ) from error
        return list(self._backend.encode(_checked(text), add_special_tokens=False))


TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
_NO_TEMPLATE = "This model has no chat template; give plain prompts instead of messages."


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
            f"{model_name(folder)} has no tokenizer that can be loaded ({_first_line(error)}); add "
            "its tokenizer files, or give prompts as token ids."
        ) from error


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
            _first_line(error),
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


def _checked(text: str) -> str:
    """Raise RequestError for halves of characters, which tokenizers do not take."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        near = text[max(error.start - 10, 0) : error.end + 10]
        raise RequestError(
            f"A prompt is no text at {near!r}: bytes that are not UTF-8, or half of a surrogate "
            "pair; correct it."
        ) from error
    return text


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _is_plain(folder: Path) -> bool:
    config = folder / "tokenizer_config.json"
    if not config.exists() or not (folder / "tokenizer.json").exists():
        return False
    declared = json.loads(config.read_text())
    has_template = "chat_template" in declared or (folder / "chat_template.jinja").exists()
    return declared.get("tokenizer_class") in PlainTokenizer.CLASSES and not has_template
