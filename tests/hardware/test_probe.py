import pytest

from lm_offload.hardware.probe import READ_OPTIONS, measure_rates
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.storage.direct_file import DirectFile
from lm_offload.units import PAGE_BYTES


@pytest.mark.parametrize("file_bytes", [10, 3 * PAGE_BYTES + 5, 1 << 20])
@pytest.mark.parametrize("buffer_bytes", [1, 1 << 19])
def test_rates_of_any_file_with_any_buffer_are_usable(tmp_path, file_bytes, buffer_bytes):
    path = tmp_path / "weights"
    path.write_bytes(bytes(file_bytes))
    file = DirectFile(path)
    rates = measure_rates(file, resolve_kernels(1), buffer_bytes)
    file.close()
    assert rates.disk_read_bytes_per_s > 0
    assert rates.memory_read_bytes_per_s > 0
    assert rates.matmul_flops > 0
    assert (rates.read_block_bytes, rates.read_concurrency) in READ_OPTIONS


def test_the_fastest_way_of_reading_wins(tmp_path, monkeypatch):
    path = tmp_path / "weights"
    path.write_bytes(bytes(PAGE_BYTES))
    rates = {READ_OPTIONS[0]: 1.0, READ_OPTIONS[1]: 2.0, READ_OPTIONS[2]: 2.1}
    monkeypatch.setattr(
        "lm_offload.hardware.probe._read_rate",
        lambda file, memory, start, block_bytes, concurrency: rates[block_bytes, concurrency],
    )
    file = DirectFile(path)
    best = measure_rates(file, resolve_kernels(1), PAGE_BYTES)
    file.close()
    # The third is not clearly better than the second.
    assert (best.read_block_bytes, best.read_concurrency) == READ_OPTIONS[1]
