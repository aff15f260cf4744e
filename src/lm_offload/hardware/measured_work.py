"""The names of work that has a curve of its own, and the numbers of threads it is measured on."""

from __future__ import annotations

OPERATIONS = (
    *("rms_norm", "layer_norm", "rotary", "store_kv", "silu_mul", "gelu_tanh_mul", "relu"),
    "gather",  # rows of hidden states, picked by index
    "embed",  # rows of a table in memory, picked by index
)
THREADED_WORK = (  # whose speed by threads is measured
    *("product_row", "packed_product_row", "cached_product_row", "product_rows"),
    *("decode_attention", "prefill_attention"),
)


def thread_counts(most: int) -> list[int]:
    """The numbers of threads that are measured and chosen from: powers of two, and `most`."""
    return sorted({*(1 << power for power in range(most.bit_length())), most})
