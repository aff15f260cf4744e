"""A byte-level tokenizer for toy checkpoints: bytes of ASCII and of two-byte characters."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tests.toy import VOCAB_SIZE

SPECIAL = ("<pad>", "<s>", "</s>")


def _letters() -> list[str]:
    """The printable stand-ins of bytes that byte-level tokenizers use, in order of their bytes."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in kept]
    table = {byte: chr(byte) for byte in kept}
    table |= {byte: chr(256 + index) for index, byte in enumerate(moved)}
    return [table[byte] for byte in range(256)]


def write_tokenizer(folder: Path) -> Path:
    """Add `tokenizer.json` to a toy checkpoint: one token for each byte that it can spell."""
    letters = _letters()
    spelled = [*range(0x20, 0x60), *range(0x80, 0xA0), *range(0xC2, 0xE0)]
    tokens = [*SPECIAL, *(letters[byte] for byte in spelled)]
    tokens += [f"<{number}>" for number in range(VOCAB_SIZE - len(tokens))]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    declared = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(declared))
    return folder
