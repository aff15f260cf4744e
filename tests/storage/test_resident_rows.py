import torch
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.storage.resident_rows import ResidentRows

WIDTH = 5


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 7)), min_size=1, max_size=4), st.data())
def test_rows_of_parts_wherever_they_lie_in_one_memory(parts, data):
    """Each part is some rows and so many elements behind the one before, not a multiple of rows."""
    memory, views, start = torch.randn(sum(n * WIDTH + gap for n, gap in parts)), [], 0
    for rows, gap in parts:
        start += gap
        views.append(memory[start : start + rows * WIDTH].view(rows, WIDTH))
        start += rows * WIDTH
    table = torch.cat(views)
    indices = data.draw(st.lists(st.integers(0, len(table) - 1), max_size=20))
    found = ResidentRows(views, memory).gather(torch.tensor(indices, dtype=torch.int64))
    assert torch.equal(found, table[indices])
