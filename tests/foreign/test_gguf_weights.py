"""Weights of GGUF files: codes are kept where they can be, and are what the gguf package says."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize

from lm_offload.arch.weights import WeightSpec
from lm_offload.errors import CheckpointError, UnsupportedModelError
from lm_offload.foreign import pieces
from lm_offload.foreign.converted import Loss
from lm_offload.foreign.gguf_tensor import gguf_tensor
from lm_offload.quant.format import parse_format
from lm_offload.quant.quantize import dequantize as unpacked
from lm_offload.quant.quantize import quantize
from lm_offload.storage.direct_file import open_files
from lm_offload.storage.safetensors_header import TensorEntry
from tests.foreign.gguf_files import as_bytes
from tests.foreign.test_folder_weights import decoded

ROWS, COLUMNS, HEAD_DIM = 50, 512, 10
KEPT = {"Q8_0": "int8:32", "Q4_0": "int4:32:sym", "Q4_1": "int4:32", "Q5_0": "int8:32"}
KEPT["IQ4_NL"] = "int8:32"
AGAIN = (
    *("Q5_1", "Q2_K", "Q3_K", "Q5_K", "Q6_K", "TQ1_0", "TQ2_0"),
    *("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"),
)


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(pieces, "DECODED_WEIGHTS", 10 * COLUMNS)


def written(path, dtype: str, pad: int = 11) -> tuple[TensorEntry, torch.Tensor]:
    """A matrix in a file, and what it stands for."""
    kind = gguf.GGMLQuantizationType[dtype]
    values = np.random.default_rng(1).normal(size=(ROWS, COLUMNS)).astype(np.float32)
    data = as_bytes(values, kind)
    path.write_bytes(bytes(pad) + data.tobytes())
    entry = TensorEntry("t.weight", path, dtype, (ROWS, COLUMNS), pad, data.nbytes)
    return entry, torch.from_numpy(dequantize(data, kind).copy())


def spec_of(role: str = "up_proj", rows: tuple[int, int] | None = None) -> WeightSpec:
    return WeightSpec("t.weight", role, (ROWS, COLUMNS), rows)


@pytest.mark.parametrize("dtype", KEPT)
def test_codes_are_kept_to_the_bit(tmp_path, dtype):
    entry, wanted = written(tmp_path / "f", dtype)
    tensor = gguf_tensor(entry, spec_of(), None, None)
    assert (str(tensor.format), tensor.loss) == (KEPT[dtype], Loss.NOTHING)
    assert torch.equal(decoded(tensor), wanted)


def test_q4_k_keeps_its_codes_and_rounds_its_scales(tmp_path):
    entry, wanted = written(tmp_path / "f", "Q4_K")
    tensor = gguf_tensor(entry, spec_of(), None, None)
    assert (str(tensor.format), tensor.loss) == ("int4:32", Loss.SCALES)
    groups = wanted.view(-1, 32)
    steps = (groups.amax(1) - groups.amin(1)) / 15
    errors = (decoded(tensor).view(-1, 32) - groups).abs().amax(1)
    # 15 steps and as much of a minimum, each off by 2^-11 at most
    assert bool((errors <= steps * 15 * 2**-11 + groups.amin(1).abs() * 2**-11 + 1e-7).all())


def test_iq4_xs_keeps_its_levels_and_rounds_its_scales(tmp_path):
    entry, wanted = written(tmp_path / "f", "IQ4_XS")
    tensor = gguf_tensor(entry, spec_of(), None, None)
    assert (str(tensor.format), tensor.loss) == ("int8:32", Loss.SCALES)
    assert torch.allclose(decoded(tensor), wanted, rtol=2**-11, atol=1e-7)


@pytest.mark.parametrize("dtype", AGAIN)
def test_others_are_quantized_again(tmp_path, dtype):
    entry, wanted = written(tmp_path / "f", dtype)
    tensor = gguf_tensor(entry, spec_of(), None, None)
    assert (str(tensor.format), tensor.loss) == ("int8:32", Loss.WEIGHTS)
    again = unpacked(quantize(wanted, parse_format("int8:32"), "w"))
    assert torch.equal(decoded(tensor), again)


@pytest.mark.parametrize("dtype", ["Q8_0", "Q4_K", "Q6_K"])
def test_some_rows_and_rows_of_heads(tmp_path, dtype):
    entry, _ = written(tmp_path / "f", dtype)
    whole = decoded(gguf_tensor(entry, spec_of(), None, None))
    part = gguf_tensor(entry, spec_of(rows=(8, 33)), None, None)
    assert torch.equal(decoded(part), whole[8:33])
    assert part.size_bytes == entry.size_bytes // 2
    heads = decoded(gguf_tensor(entry, spec_of("q_proj"), HEAD_DIM, None))
    apart = torch.cat([torch.arange(0, HEAD_DIM, 2), torch.arange(1, HEAD_DIM, 2)])
    order = (torch.arange(0, ROWS, HEAD_DIM)[:, None] + apart).flatten()
    assert torch.equal(heads, whole[order])


def test_a_quantized_table_becomes_rows_of_fp16(tmp_path):
    entry, wanted = written(tmp_path / "f", "Q6_K")
    tensor = gguf_tensor(entry, spec_of("tokens"), None, None)
    assert (str(tensor.format), tensor.loss) == ("fp16", Loss.ROWS)
    files = open_files(tensor.paths)
    assert torch.equal(torch.cat(list(tensor.pieces(files))), wanted.half())
    files[entry.path].close()


def test_shapes_and_formats_are_checked(tmp_path):
    entry, _ = written(tmp_path / "f", "Q8_0")
    other = WeightSpec("t.weight", "up_proj", (ROWS, 2 * COLUMNS))
    with pytest.raises(
        CheckpointError, match=r"t\.weight of f has shape \[50, 512\], its metadata"
    ):
        gguf_tensor(entry, other, None, None)
    strange = TensorEntry("t.weight", entry.path, "NVFP4", entry.shape, 0, entry.size_bytes)
    with pytest.raises(UnsupportedModelError, match=r"t\.weight of f is NVFP4, which is not read"):
        gguf_tensor(strange, spec_of(), None, None)
