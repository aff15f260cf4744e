"""A matrix that a checkpoint has quantized and that is to be stored in floats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from lm_offload.foreign.converted import ConvertedTensor
from lm_offload.quant.format import Format
from lm_offload.quant.packing import Codes, pack
from lm_offload.quant.quantize import dequantize
from lm_offload.storage.tensor_source import Files

FLOATS = Format("fp32")  # holds what codes and scales say


def unpacked(tensor: ConvertedTensor) -> ConvertedTensor:
    """The same weights in fp32."""

    def decode(files: Files) -> Iterator[Tensor]:
        for piece in tensor.decode(files):
            if isinstance(piece, Codes):
                yield dequantize(pack(piece, tensor.format))
            else:
                yield piece.float()

    return replace(tensor, format=FLOATS, decode=decode)
