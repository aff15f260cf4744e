"""Turns rows of a checkpoint, or their codes, into the bytes that a quantized folder stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from lm_offload.errors import CheckpointError
from lm_offload.quant.float8 import LARGEST, holds_nan
from lm_offload.quant.format import TILE_ROWS
from lm_offload.quant.packed import PackedWeight
from lm_offload.quant.packing import Codes, pack
from lm_offload.quant.quantize import Quantize
from lm_offload.storage.packed_layout import PackedTensor
from lm_offload.storage.tensor_source import Piece, row_count
from lm_offload.units import align_up


class Encoder:
    """Has rows quantized on `threads` threads, each some of them, with torch on that thread alone.

    Torch's own threads meet at a barrier after every small operation, which wastes more than they
    gain, and many times more where other processes want the cores. So they rest while an encoder
    is entered.
    """

    def __init__(self, threads: int, quantize: Quantize) -> None:
        self._threads = threads
        self._quantize = quantize
        self._torch_threads = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(threads, "quantize", self.on_one_core)

    @staticmethod
    def on_one_core() -> None:
        """Keep torch from other cores, as far as the calling thread asks it."""
        torch.set_num_threads(1)

    def encode(self, piece: Piece, tensor: PackedTensor) -> Iterator[memoryview]:
        """The bytes of `piece`, whole tiles of `tensor` but for its end, one behind the other.

        Raises CheckpointError for values that are not finite, naming the tensor.
        """
        if isinstance(piece, Tensor) and not tensor.format.is_packed:
            _check_finite(piece, tensor)
            yield piece.flatten().view(torch.uint8).numpy().data
            return
        share = align_up(-(-row_count(piece) // self._threads), TILE_ROWS)
        for packed in self._pool.map(lambda part: self._packed(part, tensor), _split(piece, share)):
            yield packed.data.numpy().data

    def _packed(self, part: Piece, tensor: PackedTensor) -> PackedWeight:
        if isinstance(part, Tensor):
            return self._quantize(part, tensor.format, f"Tensor {tensor.name}")
        return _packed_codes(part, tensor)

    def __enter__(self) -> Encoder:
        self.on_one_core()
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self._torch_threads)


def _packed_codes(part: Codes, tensor: PackedTensor) -> PackedWeight:
    for factors in (part.scales, part.minimums):
        if factors is not None:
            _check_finite(factors, tensor)
    if tensor.format.name == "fp8":
        _check_float8(part, tensor)
    return pack(part, tensor.format)


def _check_float8(part: Codes, tensor: PackedTensor) -> None:
    _check_finite(part.scales * LARGEST, tensor)
    if holds_nan(part.values):
        raise _not_finite(tensor)


def _split(piece: Piece, rows: int) -> Sequence[Piece]:
    if isinstance(piece, Tensor):
        return torch.split(piece, rows)
    values, scales = torch.split(piece.values, rows), torch.split(piece.scales, rows)
    if piece.minimums is None:
        return [Codes(*part, None) for part in zip(values, scales, strict=True)]
    minimums = torch.split(piece.minimums, rows)
    return [Codes(*part) for part in zip(values, scales, minimums, strict=True)]


def _check_finite(values: Tensor, tensor: PackedTensor) -> None:
    if not bool(torch.isfinite(values.float()).all()):
        raise _not_finite(tensor)


def _not_finite(tensor: PackedTensor) -> CheckpointError:
    return CheckpointError(
        f"Tensor {tensor.name} holds NaN or infinite values; download or convert the checkpoint "
        "again."
    )
