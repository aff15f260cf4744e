"""The order of the rows of queries and keys: llama.cpp keeps the two channels of a pair together.

A rotary embedding turns pairs of channels of a head. Hugging Face pairs channel i with i + D/2;
GGUF files of the Llama architecture have them side by side::

    Hugging Face   a0 a1 .. b0 b1 ..        GGUF   a0 b0 a1 b1 ..
"""

from __future__ import annotations

from torch import Tensor


def pairs_apart(rows: Tensor, head_dim: int) -> Tensor:
    """Rows [heads * D, ...] of GGUF in the order of Hugging Face."""
    heads = rows.view(-1, head_dim // 2, 2, *rows.shape[1:])
    return heads.transpose(1, 2).reshape(rows.shape)
