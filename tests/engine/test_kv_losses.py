"""A disk that fails while it holds keys and values: who is concerned begins again or ends alone."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest

from lm_offload import RequestOutput, Workload
from lm_offload.errors import StorageError
from lm_offload.storage.spill_file import SECTOR_BYTES
from tests.engine.harness import GREEDY, PLENTY, generate, open_llm, prompts_of, spilled, tokens_of
from tests.engine.tokenizer_file import write_tokenizer

PROMPTS = prompts_of(5, 34, 90, 20, 50, 16)
PARAMS = replace(GREEDY, max_tokens=20)
WORKLOAD = Workload(tuple(map(len, PROMPTS)), (PARAMS.max_tokens,) * len(PROMPTS))
BLOCK_BYTES = 2 * 2 * 16 * 16 * 4  # of one layer of the toy model
LAYERS = (0, 2)


def failing(monkeypatch, name: str, code: int, concerns: Callable[[int, int], bool]) -> list[int]:
    """Let `os.pwrite` or `os.preadv` fail where `concerns(offset, bytes)`; the offsets of these."""
    real, failed = getattr(os, name), []

    def move(fd: int, data, offset: int) -> int:
        size_bytes = len(data[0]) if name == "preadv" else len(data)
        if size_bytes > SECTOR_BYTES and concerns(offset, size_bytes):
            failed.append(offset)
            raise OSError(code, os.strerror(code))
        return real(fd, data, offset)

    monkeypatch.setattr(os, name, move)
    return failed


def check(outputs: list[RequestOutput], wanted: list[list[int]]) -> list[int]:
    """Each output is right or says why it is not; those that are not."""
    lost = []
    for index, (output, tokens) in enumerate(zip(outputs, wanted, strict=True)):
        (completion,) = output.outputs
        if completion.finish_reason == "error":
            lost.append(index)
            assert "--spill-dir" in completion.error
            assert completion.token_ids == tokens[: len(completion.token_ids)]
            with pytest.raises(StorageError, match="--spill-dir"):
                output.check_complete()
        else:
            assert completion.token_ids == tokens
            output.check_complete()
    return lost


@pytest.fixture
def wanted(toy) -> list[list[int]]:
    with open_llm(toy("llama"), PLENTY) as llm:
        return tokens_of(llm, PROMPTS, PARAMS)


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("sharing", [True, False])
@pytest.mark.parametrize(("name", "sector"), [("pwrite", 0), ("pwrite", 7), ("preadv", 9)])
def test_a_bad_place_is_used_no_more(toy, wanted, monkeypatch, name, sector, sharing, overlap):
    plan = spilled(toy("llama"), WORKLOAD, LAYERS, sweep_tokens=60, micro_batch_tokens=60)
    bad = sector * BLOCK_BYTES
    options = {"plan": plan, "prefix_sharing": sharing, "overlap": overlap}
    with open_llm(toy("llama"), PLENTY, **options) as llm:
        llm.load(WORKLOAD)
        failed = failing(monkeypatch, name, errno.EIO, lambda at, size: at <= bad < at + size)
        assert check(llm.generate(PROMPTS, PARAMS), wanted) == []
        assert len(failed) == 1
        assert llm.stats.preemptions == 1
        assert llm.plan is None  # the next run takes another file
        monkeypatch.undo()
        assert tokens_of(llm, PROMPTS, PARAMS) == wanted


def test_a_full_disk_ends_only_what_has_to_be_written(toy, wanted, monkeypatch):
    plan = spilled(toy("llama"), WORKLOAD, LAYERS)
    with open_llm(toy("llama"), PLENTY, plan=plan, prefix_sharing=False) as llm:
        llm.load(WORKLOAD)
        failing(monkeypatch, "pwrite", errno.ENOSPC, lambda at, size: True)
        outputs = llm.generate([*PROMPTS, [7] * 3], [PARAMS] * 6 + [GREEDY])
        lost = check(outputs[:6], wanted)
        assert lost == [0, 1, 2, 3, 4, 5]
        assert all("is full" in outputs[index].outputs[0].error for index in lost)
        assert outputs[6].outputs[0].finish_reason == "length"  # 11 tokens, in memory
        monkeypatch.undo()
        assert tokens_of(llm, PROMPTS, PARAMS) == wanted


def test_a_disk_that_fails_later_keeps_what_was_written(toy, wanted, monkeypatch):
    """The places of half of the blocks fail: there is room for some of the sequences."""
    plan = spilled(toy("llama"), WORKLOAD, LAYERS)

    def late(at: int, size_bytes: int) -> bool:
        last_block = (at + size_bytes - 1) // BLOCK_BYTES % plan.kv_blocks
        return last_block >= plan.kv_blocks // 2

    with open_llm(toy("llama"), PLENTY, plan=plan) as llm:
        llm.load(WORKLOAD)
        failing(monkeypatch, "pwrite", errno.EIO, late)
        lost = check(llm.generate(PROMPTS, PARAMS), wanted)
    assert 0 < len(lost) < len(PROMPTS)


def test_nothing_can_be_read(toy, wanted, monkeypatch):
    plan = spilled(toy("llama"), WORKLOAD, LAYERS)
    with open_llm(toy("llama"), PLENTY, plan=plan) as llm:
        llm.load(WORKLOAD)
        failing(monkeypatch, "preadv", errno.EIO, lambda at, size: True)
        assert check(llm.generate(PROMPTS, PARAMS), wanted) == [0, 1, 2, 3, 4, 5]
        monkeypatch.undo()
        assert tokens_of(llm, PROMPTS, PARAMS) == wanted


def test_a_stream_ends_with_the_sentence(toy, tmp_path, monkeypatch):
    folder = write_tokenizer(shutil.copytree(toy("llama"), tmp_path / "model"))
    with open_llm(folder, PLENTY, plan=spilled(folder, WORKLOAD, LAYERS)) as llm:
        llm.load(WORKLOAD)
        failing(monkeypatch, "preadv", errno.EIO, lambda at, size: True)
        with pytest.raises(StorageError, match="Reading the KV cache"):
            list(llm.stream(PROMPTS[2], PARAMS))


def test_a_prefix_in_common_is_lost_for_all(toy, monkeypatch):
    head, *tails = prompts_of(70, 5, 33, 1, 20)
    prompts = [head + tail for tail in tails]
    workload = Workload(tuple(map(len, prompts)), (GREEDY.max_tokens,) * len(prompts))
    expected = generate(toy("llama"), PLENTY, prompts)
    plan = spilled(toy("llama"), workload, LAYERS, sweep_tokens=90, micro_batch_tokens=40)
    with open_llm(toy("llama"), PLENTY, plan=plan) as llm:
        llm.load(workload)
        failed = failing(monkeypatch, "preadv", errno.EIO, lambda at, size: at <= 0 < at + size)
        assert check(llm.generate(prompts, GREEDY), expected) == []
        assert len(failed) >= 1
        assert llm.stats.preemptions == 4
