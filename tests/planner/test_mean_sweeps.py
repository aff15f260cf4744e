"""The numbers of mean sweeps, against the sweeps that the scheduler will make."""

from __future__ import annotations

import pytest

from lm_offload.plan import Workload
from lm_offload.planner.costs.memory import Sizes
from lm_offload.planner.sweeps.mean_sweeps import mean_decode, mean_prefill, mean_wave
from lm_offload.planner.sweeps.replay import sweeps_of


def sizes_of(count: int, rows: int) -> Sizes:
    return Sizes(kv_blocks=1 << 20, max_sequences=count, sweep_tokens=rows, micro_batch_tokens=rows)


def ratio(count: int, prompt: int, output: int, rows: int) -> float:
    """Of the sweeps of a wave by their means to those that there are."""
    workload, sizes = Workload((prompt,) * count, (output,) * count), sizes_of(count, rows)
    means = mean_prefill(workload, sizes, count), mean_decode(workload, count)
    return sum(mean.sweeps for mean in means) / sum(it.count for it in sweeps_of(workload, sizes))


@pytest.mark.parametrize("rows", [32, 64, 128, 512])
@pytest.mark.parametrize("output", [12, 64, 300])
@pytest.mark.parametrize("prompt", [4, 16, 128, 512])
def test_prompts_wait_for_rows_that_decodes_take(prompt: int, output: int, rows: int) -> None:
    """32 sequences in sweeps of 32 rows and more: up to 1.6 times the sweeps of prompts alone."""
    assert 0.85 <= ratio(32, prompt, output, rows) <= 1.15


@pytest.mark.parametrize(("prompt", "rows"), [(16, 1), (16, 64), (500, 64)])
def test_one_sequence_has_nothing_to_wait_for(prompt: int, rows: int) -> None:
    assert ratio(1, prompt, 20, rows) == pytest.approx(1.0, abs=0.03)


def test_a_mean_wave_has_all_rows_of_its_prompts() -> None:
    workload, sizes = Workload((4,) * 32, (12,) * 32), sizes_of(32, 32)
    first, _ = mean_wave(workload, sizes)
    assert first.count > 8
    assert first.count * first.prompt_rows == pytest.approx(128, abs=first.count / 2)
