"""Rows of a table in files of any size."""

from contextlib import closing
from pathlib import Path

import pytest

from lm_offload.hardware import rows_probe
from lm_offload.hardware.rows_probe import COUNTS, FAR, PIECES, ROW_BYTES, RowsProbe
from lm_offload.storage.direct_file import DirectFile
from lm_offload.storage.gather_size import request_bytes
from lm_offload.units import KIB, MIB
from tests.hardware.probing import BUDGET_S, check


@pytest.mark.parametrize(
    ("known_bytes", "counts", "pieces"),
    [
        (0, 0, 0),
        (9, 0, 0),
        (140 * KIB, 1, 0),
        (3 * MIB, 3, 2),
        (16 * MIB, len(COUNTS), len(PIECES)),
    ],
)
def test_as_many_rows_as_are_known(
    tmp_path: Path, known_bytes: int, counts: int, pieces: int
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(known_bytes))
    file = DirectFile(path)
    with closing(RowsProbe(file, known_bytes, BUDGET_S)) as probe:
        probe.visit()
        rates = probe.rates
    file.close()
    for curve, count in ((rates.rows, counts), (rates.pieces, pieces)):
        assert (curve is not None) == (count > 0)
        if curve is not None:
            check([curve])
            assert len(curve.sizes) == count


def test_single_rows_are_requests_of_their_own_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sizes = tmp_path / "weights", list[int]()
    path.write_bytes(bytes(16 * MIB))
    file = DirectFile(path)
    read = file.read_into
    monkeypatch.setattr(file, "read_into", lambda to, at: (sizes.append(len(to)), read(to, at))[1])
    table = rows_probe.RowTable(
        rows_probe._extent(file, 16 * MIB), file, rows_probe.ThreadPoolExecutor(1)
    )
    rows_probe._sampler(table, 16, FAR)()
    assert sizes == [request_bytes(ROW_BYTES)] * 16
    sizes.clear()
    rows_probe._sampler(table, PIECES[1] // ROW_BYTES // rows_probe.NEAR, rows_probe.NEAR)()
    assert len(sizes) == PIECES[1] // PIECES[0]
    assert sum(sizes) > 0.9 * PIECES[1]
    file.close()
