"""How much memory a product takes beside its arguments."""

from __future__ import annotations

from functools import cache

PIECE_ELEMENTS = 1 << 22  # of a packed matrix on a device, as float32 and as it is stored
TORCH_BYTES_PER_ELEMENT = 8  # float32 values of a piece, and its codes on the way to them


def packed_scratch_bytes(columns: int) -> int:
    """Most bytes for `Kernels.linear` with a packed weight [N, columns], for any N and rows of x.

    Native code has up to 64 rows of x in 16 bits, or 32 in float32 where codes are floats, and
    keeps their memory in the calling thread; torch has a piece of the weight in float32, and
    results of that piece as for any weight.
    """
    try:
        from lm_offload.kernels import _native
    except ImportError:
        from lm_offload.kernels.torch_linear import piece_rows

        return TORCH_BYTES_PER_ELEMENT * piece_rows(columns) * columns
    return _native.packed_scratch_bytes(columns)


@cache
def linear_scratch_bytes(m: int, n: int, k: int, threads: int) -> int:
    """Bytes that `Kernels.linear` keeps after a product of x [m, k] with a float weight [n, k].

    Where rows of x are many, native code has some of them in another order, and for each thread a
    part of the weight in float32.
    """
    try:
        from lm_offload.kernels import _native
    except ImportError:
        return 0
    return _native.best_operations().linear_scratch_bytes(m, n, k, threads)
