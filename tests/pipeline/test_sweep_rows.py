from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from lm_offload.arch.weights import WeightSpec
from lm_offload.pipeline.sweep_rows import SweepRows
from lm_offload.storage.checkpoint import open_checkpoint
from lm_offload.storage.direct_file import DirectFile
from lm_offload.storage.layout import find_extent
from lm_offload.storage.row_table import RowTable
from tests.storage.files import write_shards

ROWS, WIDTH, REQUESTS = 90, 16, 2
TOKENS, POSITIONS = torch.tensor([5, 89, 5, 0, 17, 3]), torch.arange(6)


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """Two tables on disk, what is in them, and the rows of each fetch."""
    stored = {name: torch.randn(ROWS, WIDTH).bfloat16() for name in ("tokens", "positions")}
    write_shards(tmp_path, {"model-0.safetensors": stored})
    checkpoint, pool = open_checkpoint(tmp_path), ThreadPoolExecutor(1)
    found, fetched = {}, []
    for name in stored:
        extent = find_extent(checkpoint, WeightSpec(name, name, (ROWS, WIDTH)))
        found[name] = RowTable(extent, DirectFile(extent.entry.path), pool)
    fetch = RowTable.fetch
    monkeypatch.setattr(
        RowTable,
        "fetch",
        lambda self, rows, *to: (fetched.append(len(rows)), fetch(self, rows, *to)),
    )
    yield found, stored, fetched
    pool.shutdown()


def taken(rows, wanted, size):
    """What micro-batches of so many rows take, as a model would put it in the same memory."""
    return {
        role: torch.cat(
            [rows.take(role, part, at * size) for at, part in enumerate(of.split(size))]
        )
        for role, of in wanted.items()
    }


@pytest.mark.parametrize(
    ("width", "fetches"),
    [(WIDTH, [6, 6]), (WIDTH // 2, [6, 2, 2, 2]), (WIDTH // 4, [2] * 6), (None, [2] * 6)],
)
def test_a_sweep_fetches_what_has_room_in_its_hidden_states(tables, width, fetches):
    tables, stored, fetched = tables
    hidden = None if width is None else torch.zeros(8, width)
    rows, wanted = SweepRows(tables, hidden, REQUESTS), {"tokens": TOKENS, "positions": POSITIONS}
    assert rows.may_fetch == (fetches[0] == 6)
    rows.begin(wanted if rows.may_fetch else {})
    found = taken(rows, wanted, 2)
    assert fetched == fetches
    for role, indices in wanted.items():
        assert torch.equal(found[role], stored[role][indices])


def test_rows_that_hidden_states_have_no_room_for_wait_in_inputs_of_layers(tables):
    tables, stored, fetched = tables
    hidden, inputs = torch.zeros(8, WIDTH // 2), torch.zeros(8, 2, WIDTH // 2)
    rows, wanted = SweepRows(tables, hidden, REQUESTS, inputs), {"tokens": TOKENS}
    wanted["positions"] = POSITIONS
    rows.begin(wanted)
    found = taken(rows, wanted, 2)
    assert fetched == [6, 6]
    for role, indices in wanted.items():
        assert torch.equal(found[role], stored[role][indices])


def test_what_is_taken_outlives_the_hidden_states_that_take_its_place(tables):
    tables, stored, _ = tables
    hidden = torch.zeros(8, WIDTH // 2)  # as wide as a row of the table
    rows = SweepRows({"tokens": tables["tokens"]}, hidden, REQUESTS)
    rows.begin({"tokens": TOKENS})
    found = rows.take("tokens", TOKENS[:2], 0)
    hidden[:2] = 7.0
    assert torch.equal(found, stored["tokens"][TOKENS[:2]])
    assert torch.equal(rows.take("tokens", TOKENS[2:], 2), stored["tokens"][TOKENS[2:]])


def test_a_sweep_of_one_micro_batch_takes_nothing_of_the_one_before(tables):
    tables, stored, fetched = tables
    rows = SweepRows({"tokens": tables["tokens"]}, torch.zeros(8, WIDTH), REQUESTS)
    rows.begin({"tokens": TOKENS})
    rows.begin({})
    assert torch.equal(rows.take("tokens", TOKENS[:1] + 1, 0), stored["tokens"][TOKENS[:1] + 1])
    assert fetched == [6, 1]
