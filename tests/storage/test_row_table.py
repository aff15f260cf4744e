import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event, get_ident

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.arch.weights import WeightSpec
from lm_offload.storage.checkpoint import open_checkpoint
from lm_offload.storage.direct_file import DirectFile
from lm_offload.storage.gather_size import GATHER_THREADS, PIECE_BYTES, gather_bytes
from lm_offload.storage.layout import find_extent
from lm_offload.storage.row_table import RowTable
from tests.storage.files import write_shards

ROWS, WIDTH = 900, 301  # more bytes than one piece, and rows that are not aligned


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16])
def table(request, tmp_path_factory):
    """The tensor, and the same as a table on disk behind a header of odd length."""
    folder = tmp_path_factory.mktemp("table")
    tensor = torch.randn(ROWS, WIDTH).to(request.param)
    write_shards(folder, {"model-0.safetensors": {"first": torch.ones(3), "t": tensor}}, pad=5)
    extent = find_extent(open_checkpoint(folder), WeightSpec("t", "tokens", (ROWS, WIDTH)))
    file, pool = DirectFile(extent.entry.path), ThreadPoolExecutor(GATHER_THREADS - 1)
    yield tensor, RowTable(extent, file, pool)
    pool.shutdown()
    file.close()


INDICES = st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=50)


@settings(max_examples=40)
@given(INDICES)
def test_rows_from_disk_in_any_order_and_repeated(table, indices):
    tensor, rows = table
    assert torch.equal(rows.gather(torch.tensor(indices)), tensor[indices])


@pytest.mark.parametrize("indices", [list(range(ROWS)), [0, ROWS - 1], [5] * 20, [ROWS - 1]])
def test_whole_table_ends_and_repetition(table, indices):
    tensor, rows = table
    assert torch.equal(rows.gather(torch.tensor(indices)), tensor[indices])


def test_neighbouring_rows_are_one_request_of_bounded_size(table):
    tensor, rows = table
    pieces = list(rows._cut(list(range(ROWS))))
    assert len(pieces) == -(-tensor.nbytes // (PIECE_BYTES - 8192))
    assert max(piece.size_bytes for piece in pieces) <= PIECE_BYTES
    assert len(list(rows._cut([3, 4, 5]))) == 1


def test_read_buffers_stay_within_what_the_plan_counts(table):
    tensor, rows = table
    for numbers in (list(range(ROWS)), [0, 400, 800], [7]):
        pieces = list(rows._cut(numbers))
        most = sorted((piece.size_bytes for piece in pieces), reverse=True)[:GATHER_THREADS]
        assert sum(most) <= gather_bytes(tensor.nbytes, len(numbers))


@pytest.mark.parametrize("most", [1, GATHER_THREADS])
def test_as_bytes_into_rows_that_are_farther_apart(table, most):
    tensor, rows = table
    indices = torch.tensor([7, 3, 7, *range(0, ROWS, 2)])
    memory = torch.zeros(len(indices), rows.row_bytes + 9, dtype=torch.uint8)
    rows.fetch(indices, memory[:, 4:-5], most)
    assert torch.equal(memory[:, 4:-5].contiguous().view(tensor.dtype), tensor[indices])
    assert not memory[:, :4].any()
    assert not memory[:, -5:].any()


def test_no_more_requests_at_once_than_there_is_memory_for(table, monkeypatch):
    _, rows = table
    threads = set()
    fetch = rows._fetch
    monkeypatch.setattr(rows, "_fetch", lambda *of: (threads.add(get_ident()), fetch(*of)))
    rows.fetch(torch.arange(ROWS), torch.zeros(ROWS, rows.row_bytes, dtype=torch.uint8), 1)
    assert threads == {get_ident()}


def test_nobody_writes_any_more_when_a_failed_request_is_reported(table, monkeypatch):
    _, rows = table
    caller, begun, written = get_ident(), Event(), []

    def fetch(request, wanted):
        if get_ident() == caller:
            assert begun.wait(10)
            raise OSError("lost")
        begun.set()
        time.sleep(0.05)
        written.append(request)

    monkeypatch.setattr(rows, "_fetch", fetch)
    with pytest.raises(OSError, match="lost"):
        rows.fetch(torch.arange(ROWS), torch.zeros(ROWS, rows.row_bytes, dtype=torch.uint8), 2)
    seen = len(written)
    time.sleep(0.1)
    assert seen
    assert len(written) == seen
