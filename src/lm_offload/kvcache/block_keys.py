"""Keys of KV blocks: two blocks with one key hold the same keys and values.

What a token's K and V are depends on all tokens up to it, so the key of a block is a digest of its
token ids and of the key of the block before. The first of them follows a root, which stands for
what else they depend on.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Items
from hashlib import blake2b

from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.sequence import Sequence

KEY_BYTES = 16  # of a cryptographic digest: equal keys are taken for equal tokens


def next_key(parent: bytes, token_ids: Items[int]) -> bytes:
    """The key of the block of `token_ids` that follows the block with key `parent`."""
    tokens = struct.pack(f"<{len(token_ids)}i", *token_ids)
    return blake2b(parent + tokens, digest_size=KEY_BYTES).digest()


def prompt_keys(sequence: Sequence) -> Iterator[bytes]:
    """The key of each full block of the prompt; none where nothing is to be shared."""
    return _keys(sequence, len(sequence.prompt))


def text_keys(sequence: Sequence) -> Iterator[bytes]:
    """The key of each full block of prompt and output so far."""
    return _keys(sequence, sequence.num_tokens)


def _keys(sequence: Sequence, num_tokens: int) -> Iterator[bytes]:
    key = sequence.prefix_root
    if key is None:
        return
    for stop in range(BLOCK_TOKENS, num_tokens + 1, BLOCK_TOKENS):
        key = next_key(key, sequence.tokens(stop - BLOCK_TOKENS, stop))
        yield key


def reusable_blocks(sequence: Sequence) -> int:
    """Leading blocks of its text that need not be computed for its sake.

    Its last token must be, as must every token whose logits are wanted.
    """
    last = sequence.num_tokens - 1
    return (min(last, sequence.logits_from) if sequence.is_scored else last) // BLOCK_TOKENS


def shared_lens(sequences: Iterable[Sequence]) -> tuple[int, ...]:
    """Of each prompt the leading tokens, in whole blocks, that an earlier one begins with too."""
    seen: set[bytes] = set()
    lengths = []
    for sequence in sequences:
        keys = list(prompt_keys(sequence))
        known = next((i for i, key in enumerate(keys) if key not in seen), len(keys))
        lengths.append(BLOCK_TOKENS * min(known, reusable_blocks(sequence)))
        seen.update(keys[known:])
    return tuple(lengths)


def key_behind(sequence: Sequence, stop: int) -> bytes:
    """The key of the full block that ends at position `stop`; those before it are known."""
    keys, index = sequence.block_keys, stop // BLOCK_TOKENS - 1
    if index < len(keys):
        return keys[index]
    parent = keys[-1] if keys else sequence.prefix_root or b""
    return next_key(parent, sequence.tokens(stop - BLOCK_TOKENS, stop))
