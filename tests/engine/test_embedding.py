"""An LLM inside another program: outputs that travel, threads, forks, runs that are dropped."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import shutil
import signal
import threading
from collections.abc import Iterator

import pytest

from lm_offload import RequestOutput, SamplingParams
from lm_offload.errors import CheckpointError, RequestError, StorageError
from tests.engine.harness import GREEDY, open_llm, prompts_of, tokens_of
from tests.engine.tokenizer_file import write_tokenizer

PROMPTS = prompts_of(9, 20)


@pytest.fixture(scope="module")
def folder(toy, tmp_path_factory):
    return write_tokenizer(shutil.copytree(toy("llama"), tmp_path_factory.mktemp("text") / "model"))


@pytest.mark.parametrize("move", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_outputs_travel_with_their_text(folder, move):
    params = SamplingParams(max_tokens=4, logprobs=1, n=2, temperature=1.0, prompt_logprobs=0)
    with open_llm(folder) as llm:
        outputs = llm.generate(["HELLO", PROMPTS[0]], params)
        moved: list[RequestOutput] = move(outputs)
        stats = move(llm.stats)
        assert stats == llm.stats
        assert moved == outputs
        assert [one.text for it in moved for one in it.outputs] == [
            one.text for it in outputs for one in it.outputs
        ]


def test_without_a_tokenizer_the_tokens_travel(toy):
    with open_llm(toy("llama")) as llm:
        outputs = llm.generate(PROMPTS, GREEDY)
    moved = pickle.loads(pickle.dumps(outputs))
    assert moved == outputs
    with pytest.raises(CheckpointError, match="decode its token_ids"):
        _ = moved[0].text


def test_completions_are_numbered_and_know_how_likely_they_are(folder):
    params = SamplingParams(max_tokens=4, n=2, temperature=1.0, logprobs=0)
    with open_llm(folder) as llm:
        (output,) = llm.generate("HELLO", params)
        (plain,) = llm.generate("HELLO", GREEDY)
    assert [one.index for one in output.outputs] == [0, 1]
    first = output.outputs[0]
    each = [
        place[token].logprob for place, token in zip(first.logprobs, first.token_ids, strict=True)
    ]
    assert first.cumulative_logprob == pytest.approx(sum(each))
    assert plain.outputs[0].cumulative_logprob is None


def test_of_two_threads_one_is_told_to_wait(toy):
    inside, go_on = threading.Event(), threading.Event()
    found: list[list[int]] = []

    def hold(record: object) -> None:
        inside.set()
        assert go_on.wait(30)

    with open_llm(toy("llama")) as llm:
        wanted = tokens_of(llm, PROMPTS)
        llm.close()
        work = threading.Thread(
            target=lambda: found.extend(
                list(it.outputs[0].token_ids) for it in llm.generate(PROMPTS, GREEDY, hold)
            )
        )
        work.start()
        assert inside.wait(30)
        with pytest.raises(RequestError, match="take turns by a lock"):
            llm.generate(PROMPTS, GREEDY)
        go_on.set()
        work.join(30)
        assert found == wanted
        assert tokens_of(llm, PROMPTS) == wanted


def test_a_run_that_waits_for_its_reader_is_not_mixed_with_the_next(toy):
    short = SamplingParams(max_tokens=1, ignore_eos=True)
    with open_llm(toy("llama")) as llm:
        first = llm.generate_each(PROMPTS, [short, GREEDY])
        next(first)  # the other one is not finished, but nobody has asked for it
        with pytest.raises(RequestError, match="unfinished"):
            llm.generate(PROMPTS, GREEDY)
        assert len(list(first)) == 1
        assert len(llm.generate(PROMPTS, GREEDY)) == 2


@pytest.mark.parametrize("way", ["generate_each", "stream"])
def test_a_run_ends_with_what_it_gives_last_though_nobody_asks_for_more(folder, way):
    with open_llm(folder) as llm:
        wanted = llm.generate("HELLO", GREEDY)[0].text
        count = len(list(getattr(llm, way)("HELLO", GREEDY)))
        run = getattr(llm, way)("HELLO", GREEDY)
        for _ in range(count):
            last = next(run)
        assert llm.generate("HELLO", GREEDY)[0].text == wanted
        assert list(run) == []
        assert last


def test_what_fails_at_the_end_comes_after_the_last_output(toy, tmp_path):
    trace = tmp_path / "folder" / "trace.json"
    trace.parent.mkdir()
    with open_llm(toy("llama"), trace=trace) as llm:
        run = llm.generate_each(PROMPTS[:1], GREEDY)
        trace.mkdir()  # instead of a disk that is full
        assert len(next(run).outputs[0].token_ids) == GREEDY.max_tokens
        with pytest.raises(StorageError, match=r"trace\.json"):
            next(run)


@pytest.mark.parametrize("draft", [False, True])
@pytest.mark.parametrize("run_is_left", [False, True])
def test_a_forgotten_model_ends_its_threads(toy, draft, run_is_left):
    before = {*threading.enumerate()}
    options = {"draft_model": toy("llama"), "speculation": "draft-model"} if draft else {}
    llm = open_llm(toy("llama"), "900KiB" if draft else "400KiB", **options)
    outputs = llm.generate(PROMPTS, GREEDY)
    if run_is_left:
        next(llm.generate_each(PROMPTS, [SamplingParams(max_tokens=1), GREEDY]))
    assert llm.plan.streamed
    held = {*threading.enumerate()} - before
    assert any(thread.name.startswith("disk") for thread in held)
    del llm
    gc.collect()
    for thread in held:
        thread.join(20)
        assert not thread.is_alive(), thread.name
    assert outputs[0].outputs[0].token_ids


def test_a_fork_forgets_a_model_without_waiting_for_its_threads(toy):
    llm = open_llm(toy("llama"), "400KiB")
    wanted = tokens_of(llm, PROMPTS)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        del llm
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert tokens_of(llm, PROMPTS) == wanted
    llm.close()


def test_closing_ends_a_run_and_the_next_one_is_whole(toy):
    with open_llm(toy("llama")) as llm:
        wanted = tokens_of(llm, PROMPTS)
        left = llm.generate_each(PROMPTS, [SamplingParams(max_tokens=1), GREEDY])
        next(left)
        llm.close()
        assert tokens_of(llm, PROMPTS) == wanted
        plan = llm.plan
        with pytest.raises(RequestError, match="was closed"):
            next(left)
        assert llm.plan is plan  # what is loaded now is not the old run's to throw away
        assert tokens_of(llm, PROMPTS) == wanted


def test_breaking_out_of_a_stream_leaves_the_model_ready(folder):
    params = SamplingParams(max_tokens=24, ignore_eos=True)
    with open_llm(folder) as llm:
        wanted = llm.generate("HELLO", params)[0].text
        for _ in llm.stream("HELLO", params):
            break
        with pytest.raises(ZeroDivisionError):
            fail_in_the_middle(llm.stream("HELLO", params))
        assert llm.generate("HELLO", params)[0].text == wanted


def test_a_fork_of_the_process_that_loaded_is_refused_and_can_close(toy):
    with open_llm(toy("llama")) as llm:
        wanted = tokens_of(llm, PROMPTS)
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # instead of waiting for threads that are not there
            try:
                llm.generate(PROMPTS, GREEDY)
            except RequestError as error:
                llm.close()
                os._exit("after the fork" not in str(error))
            os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert tokens_of(llm, PROMPTS) == wanted


def test_a_fork_makes_an_llm_of_its_own(toy):
    with open_llm(toy("llama")) as llm:
        wanted = tokens_of(llm, PROMPTS)
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            with open_llm(toy("llama")) as other:
                os._exit(tokens_of(other, PROMPTS) != wanted)
        assert os.waitpid(child, 0)[1] == 0


def fail_in_the_middle(pieces: Iterator[str]) -> None:
    for _ in pieces:
        _ = 1 / 0
