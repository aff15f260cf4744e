"""The tokenizers there are: that of a `tokenizer.json` alone, and what transformers makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_offload.errors import RequestError

Messages = Sequence[Mapping[str, Any]]  # of a conversation

_NO_TEMPLATE = "This model has no chat template; give plain prompts instead of messages."


def transformers_tokenizer(folder: Path, gguf_file: str | None = None) -> Any:
    """What transformers makes of a folder; code that lies there is not run, nor asked about."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        folder, gguf_file=gguf_file, local_files_only=True, trust_remote_code=False
    )


class PlainTokenizer:
    """A `tokenizer.json` and nothing else, for checkpoints that declare just that.

    Spares the import of transformers: about a second and 100 MiB.
    """

    CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer as Backend

        self._file = file
        self._backend = Backend.from_file(str(file))

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt."""
        ids: list[int] = self._backend.encode(_checked(text)).ids
        return ids

    def encode_words(self, text: str) -> list[int]:
        """Token ids of a text within another."""
        ids: list[int] = self._backend.encode(_checked(text), add_special_tokens=False).ids
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, without special tokens."""
        text: str = self._backend.decode(list(token_ids))
        return text

    def decode_all(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens by their names."""
        text: str = self._backend.decode(list(token_ids), skip_special_tokens=False)
        return text

    @property
    def chat_template(self) -> str:
        """A plain tokenizer has none."""
        return ""

    def as_json(self) -> tuple[str, int]:
        """What the file says, and how many tokens it has."""
        return _as_json(self._backend)

    def apply_chat_template(self, messages: Messages, /, **template: Any) -> list[int]:
        """Refuse: a plain tokenizer has no template."""
        raise RequestError(_NO_TEMPLATE)

    def for_transformers(self) -> Any:
        """What transformers makes of the folder, or of the file where nothing is declared."""
        from transformers import PreTrainedTokenizerFast

        if self._file.with_name("tokenizer_config.json").exists():
            return transformers_tokenizer(self._file.parent)
        return PreTrainedTokenizerFast(tokenizer_file=str(self._file))


class HuggingFaceTokenizer:
    """The tokenizer that transformers makes of the folder, chat template included."""

    def __init__(self, folder: Path, gguf_file: str | None = None) -> None:
        self._backend = transformers_tokenizer(folder, gguf_file)

    def save(self, folder: Path) -> None:
        """Write files from which `load_tokenizer` makes the same."""
        self._backend.save_pretrained(folder)

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt."""
        return list(self._backend.encode(_checked(text)))

    def encode_words(self, text: str) -> list[int]:
        """Token ids of a text within another."""
        return list(self._backend.encode(_checked(text), add_special_tokens=False))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, without special tokens."""
        return str(self._backend.decode(list(token_ids), skip_special_tokens=True))

    def decode_all(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens by their names."""
        return str(self._backend.decode(list(token_ids), skip_special_tokens=False))

    @property
    def chat_template(self) -> str:
        """Those of the checkpoint, by names where there are several."""
        found = self._backend.chat_template or ""
        return found if isinstance(found, str) else "\n".join(found.values())

    def as_json(self) -> tuple[str, int]:
        """The same in the form of a `tokenizer.json`, and how many tokens it has."""
        if not getattr(self._backend, "is_fast", False):
            raise RequestError(
                "structured_outputs were given, and the tokenizer of this model is written in "
                "Python; add a tokenizer.json, or leave them out."
            )
        return _as_json(self._backend.backend_tokenizer)

    def apply_chat_template(self, messages: Messages, /, **template: Any) -> list[int]:
        """Token ids of a conversation, with the header of the answer to come."""
        if not self._backend.chat_template:
            raise RequestError(_NO_TEMPLATE)
        options = {"add_generation_prompt": True, **template, "tokenize": False}
        try:
            text = self._backend.apply_chat_template(list(messages), **options)
        except Exception as error:  # a template is a program of the checkpoint
            raise RequestError(
                f"The chat template of this model refuses these messages ({first_line(error)}); "
                'give a list like [{"role": "user", "content": "text"}].'
            ) from error
        return self.encode_words(text)

    def for_transformers(self) -> Any:
        """What transformers made of the folder."""
        return self._backend


def _as_json(backend: Any) -> tuple[str, int]:
    """Of a tokenizer of the library; ids may have gaps, so the largest one counts."""
    size = 1 + max(backend.get_vocab(with_added_tokens=True).values(), default=-1)
    return backend.to_str(), size


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


def first_line(error: Exception) -> str:
    """What an error of others says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
