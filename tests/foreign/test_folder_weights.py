"""Weights of GPTQ, AWQ, compressed-tensors and FP8 folders: what their definitions say they are."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lm_offload.arch.config import load_config
from lm_offload.arch.weights import WeightSpec, build_units
from lm_offload.foreign import pieces
from lm_offload.foreign.folder_model import open_quantized_folder
from lm_offload.quant.format import parse_format
from lm_offload.quant.packing import Codes, pack
from lm_offload.quant.quantize import dequantize, quantize
from lm_offload.storage.direct_file import open_files
from lm_offload.storage.tensor_source import TensorSource
from tests.foreign.cases import AGAIN, CASES, EXACT, SCALES
from tests.foreign.folders import write_folder
from tests.quantized import toy_shapes


@pytest.fixture(scope="module")
def made(toy, tmp_path_factory):
    """Folders of all cases, made when they are asked for."""
    folders = {}

    def make(case):
        if case not in folders:
            section, packer, *_ = CASES[case]
            folder = tmp_path_factory.mktemp("foreign") / "toy"
            folders[case] = write_folder(
                toy("llama", **toy_shapes("llama")), folder, section, packer
            )
        return folders[case]

    return make


def decoded(tensor: TensorSource) -> Tensor:
    """The weights that a quantized folder would hold, float32."""
    files = open_files(tensor.paths)
    found = []
    for piece in tensor.pieces(files):
        if isinstance(piece, Codes):
            found.append(dequantize(pack(piece, tensor.format)))
        else:
            found.append(dequantize(quantize(piece, tensor.format, tensor.name)))
    for file in files.values():
        file.close()
    return torch.cat(found)


def matrices(folder) -> list[WeightSpec]:
    units = build_units(load_config(folder / "oracle"), 1 << 30)
    return [spec for unit in units[:3] for spec in unit.loaded if "proj" in spec.role]


@pytest.mark.parametrize("case", CASES)
def test_weights_are_those_of_the_definition(made, case, monkeypatch):
    monkeypatch.setattr(pieces, "DECODED_WEIGHTS", 1024)  # several pieces of each matrix
    folder = made(case)
    *_, format, loss = CASES[case]
    wanted = load_file(folder / "oracle" / "model.safetensors")
    model = open_quantized_folder(folder, "toy")
    specs = matrices(folder)
    assert len(specs) == 7
    for spec in specs:
        tensor = model.tensor(spec, None)
        assert tensor.loss.startswith(loss)
        # one group of a whole row is cut into the largest there are
        assert str(tensor.format) == format.replace(":whole:", f":{spec.shape[1]}:")
        found, weight = decoded(tensor), wanted[spec.name]
        if loss == EXACT:
            assert torch.equal(found, weight)
        elif loss == SCALES:
            torch.testing.assert_close(found, weight, rtol=0, atol=float(weight.abs().max()) * 6e-4)
        else:
            assert loss == AGAIN
            again = dequantize(quantize(weight, parse_format(format), "w"))
            torch.testing.assert_close(found, again, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", ["gptq", "awq", "compressed int4", "fp8 blocks"])
def test_some_rows_are_those_of_the_whole(made, case):
    folder = made(case)
    model = open_quantized_folder(folder, "toy")
    spec = matrices(folder)[-1]
    part = WeightSpec(spec.name, spec.role, spec.shape, (16, 40))
    assert torch.equal(decoded(model.tensor(part, None)), decoded(model.tensor(spec, None))[16:40])
