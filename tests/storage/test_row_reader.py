"""Rows come in whole tiles, in order, whatever the size of a piece and wherever they lie."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.arch.weights import WeightSpec
from lm_offload.storage import row_reader
from lm_offload.storage.checkpoint import open_checkpoint
from lm_offload.storage.direct_file import DirectFile
from lm_offload.storage.layout import find_extent
from lm_offload.storage.row_reader import read_rows
from tests.storage.files import numbered, write_shards


@settings(max_examples=50)
@given(
    st.integers(1, 70),
    st.integers(1, 90),
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.sampled_from([1, 5000, 1 << 20]),
    st.integers(0, 9),
)
def test_pieces_are_the_tensor(rows, columns, dtype, piece_bytes, pad):
    first = rows // 3
    tensor = numbered(rows, columns, dtype=dtype)
    spec = WeightSpec("t", "t", (rows, columns), (first, rows))
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_reader, "PIECE_BYTES", piece_bytes)
        write_shards(Path(name), {"m.safetensors": {"a": torch.ones(3), "t": tensor}}, pad=pad)
        extent = find_extent(open_checkpoint(Path(name)), spec)
        file = DirectFile(extent.entry.path)
        pieces = [piece.clone() for piece in read_rows(extent, file, 8)]
        file.close()
    assert torch.equal(torch.cat(pieces), tensor[first:])
    assert all(len(piece) % 8 == 0 for piece in pieces[:-1])
    largest = max(piece_bytes, 8 * columns * dtype.itemsize)
    assert all(piece.nbytes <= largest for piece in pieces)
