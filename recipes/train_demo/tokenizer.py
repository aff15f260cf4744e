"""The demo model's byte-level BPE: training it, and turning files into one token stream."""

from collections.abc import Iterable

import numpy as np
from recipes.train_demo.corpus import SEPARATOR
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn a lossless byte-level BPE (GPT-2's pre-tokenizer) with one special token, id 0."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[SEPARATOR],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def token_stream(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """Concatenate files, each preceded by the separator: `uint16` of shape (tokens,)."""
    separator = tokenizer.token_to_id(SEPARATOR)
    ids: list[int] = []
    for encoding in tokenizer.encode_batch(texts):
        ids += [separator, *encoding.ids]
    return np.array(ids, dtype=np.uint16)
