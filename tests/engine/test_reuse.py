"""One LLM over many calls: what is loaded stays, what does not suffice is replaced."""

from __future__ import annotations

import gc
import json
import os
import time
from pathlib import Path

import pytest

from lm_offload import SamplingParams, Workload
from lm_offload.engine.planning import covers
from lm_offload.errors import RequestError
from lm_offload.pipeline.runner import ModelRunner
from lm_offload.units import PAGE_BYTES
from tests.engine.harness import (
    GREEDY,
    open_llm,
    prompts_of,
    smallest_budget,
    tokens_of,
)

PROMPTS = prompts_of(9, 20, 4)


def test_calls_of_the_same_size_reuse_what_is_loaded(toy):
    loads = []
    with open_llm(toy("llama"), on_load=lambda done, total: loads.append((done, total))) as llm:
        first = tokens_of(llm, PROMPTS)
        count, plan = len(loads), llm.plan
        assert loads[-1][1] - PAGE_BYTES < loads[-1][0] <= loads[-1][1]  # files end inside a page
        assert tokens_of(llm, PROMPTS) == first
        assert tokens_of(llm, PROMPTS[:1]) == first[:1]
        assert (len(loads), llm.plan) == (count, plan)


def test_a_larger_call_plans_and_loads_again(toy):
    with open_llm(toy("llama")) as llm:
        small = tokens_of(llm, PROMPTS[:1])
        before = llm.plan
        assert tokens_of(llm, PROMPTS)[:1] == small
        assert before is not None
        assert llm.plan.kv_blocks > before.kv_blocks


def test_a_plan_covers_what_is_no_larger(toy):
    with open_llm(toy("llama")) as llm:
        plans = [
            llm.plan_for(Workload((length,) * count, (5,) * count))
            for length, count in ((10, 1), (10, 4), (60, 1), (60, 4))
        ]
    assert all(covers(plan, plan) for plan in plans)
    assert all(covers(plans[3], plan) for plan in plans)
    assert not covers(plans[0], plans[1])
    assert not covers(plans[0], plans[2])
    assert not covers(plans[1], plans[2])
    assert not covers(plans[2], plans[1])


def test_an_llm_that_is_forgotten_without_close_gives_its_files_back(toy):
    folder = toy("llama")
    llm = open_llm(folder)
    tokens_of(llm, PROMPTS)
    held = open_files_in(folder)
    del llm
    gc.collect()
    assert len(held) == 1
    assert open_files_in(folder) == []


def open_files_in(*folders: Path) -> list[str]:
    """Names of the files there that this process has open."""
    links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    names = [os.readlink(link) for link in links if link.is_symlink()]
    return [name for name in names if name.startswith(tuple(map(str, folders)))]


def test_closing_twice_and_using_again(toy):
    llm = open_llm(toy("llama"))
    first = tokens_of(llm, PROMPTS)
    llm.close()
    llm.close()
    assert llm.plan is None
    assert tokens_of(llm, PROMPTS) == first
    llm.close()


def test_statistics_count_every_token_once(toy):
    with open_llm(toy("llama")) as llm:
        llm.generate(PROMPTS, GREEDY)
        stats = llm.stats
        assert sum(sweep.prefill_tokens for sweep in stats.sweeps) == sum(map(len, PROMPTS))
        assert sum(sweep.decode_tokens for sweep in stats.sweeps) == 3 * (GREEDY.max_tokens - 1)
        assert stats.prefill_s > 0 < stats.decode_s
        assert stats.prefill_tokens_per_s > 0 < stats.decode_tokens_per_s
        assert all(sweep.time.read_bytes == 0 for sweep in stats.sweeps)
        llm.generate(PROMPTS[:1], GREEDY)
        assert sum(sweep.prefill_tokens for sweep in llm.stats.sweeps) == len(PROMPTS[0])


def test_only_what_is_not_resident_is_read(toy):
    folder = toy("llama", num_hidden_layers=6)
    budget = 2 * smallest_budget(folder, PROMPTS, 8)
    with open_llm(folder, budget, overlap=False) as llm:
        llm.generate(PROMPTS, GREEDY)
        streamed_bytes = llm.plan.streamed_bytes
        assert 0 < streamed_bytes < sum(layout.size_bytes for layout in llm.files.layouts)
        times = [sweep.time for sweep in llm.stats.sweeps]
        (read_bytes,) = {time.read_bytes - time.kv_read_bytes for time in times}
        assert streamed_bytes - PAGE_BYTES < read_bytes <= streamed_bytes


def test_a_trace_shows_reads_beside_computation(toy, tmp_path, monkeypatch):
    real_compute = ModelRunner.compute

    def compute(self, task):
        time.sleep(0.003)
        real_compute(self, task)

    monkeypatch.setattr(ModelRunner, "compute", compute)
    folder, path = toy("llama"), tmp_path / "trace.json"
    budget = int(1.5 * smallest_budget(folder, PROMPTS, 3))
    with open_llm(folder, budget, trace=path) as llm:
        llm.generate(PROMPTS, SamplingParams(max_tokens=3, ignore_eos=True))
        assert llm.plan.streamed
    events = [e for e in json.loads(path.read_text())["traceEvents"] if e["ph"] == "X"]
    reads, computes = ([e for e in events if e["cat"] == kind] for kind in ("read", "compute"))
    assert any(
        r["ts"] < c["ts"] + c["dur"] and c["ts"] < r["ts"] + r["dur"]
        for r in reads
        for c in computes
    )


def test_a_run_that_is_not_finished_refuses_another_and_can_be_dropped(toy):
    with open_llm(toy("llama")) as llm:
        wanted = tokens_of(llm, PROMPTS)
        unfinished = llm.generate_each(PROMPTS, [GREEDY, GREEDY, SamplingParams(max_tokens=1)])
        assert next(unfinished).index == 2
        with pytest.raises(RequestError, match="unfinished"):
            llm.generate(PROMPTS, GREEDY)
        unfinished.close()
        assert tokens_of(llm, PROMPTS) == wanted


def test_outputs_come_as_they_finish_and_generate_sorts_them(toy):
    params = [SamplingParams(max_tokens=count, ignore_eos=True) for count in (6, 1, 3)]
    with open_llm(toy("llama")) as llm:
        assert [output.index for output in llm.generate_each(PROMPTS, params)] == [1, 2, 0]
        assert [output.index for output in llm.generate(PROMPTS, params)] == [0, 1, 2]
