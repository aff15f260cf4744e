"""Requests that join and leave a run give what they give alone."""

from __future__ import annotations

import random
import shutil
from collections import defaultdict
from dataclasses import replace

import pytest

from lm_offload import SamplingParams, Workload
from lm_offload.errors import RequestError, StorageError
from tests.engine.harness import open_llm, prompts_of
from tests.engine.tokenizer_file import write_tokenizer

WORKLOAD = Workload((30,) * 3, (18,) * 3, may_end_early=True)
PARAMS = (
    SamplingParams(max_tokens=12, ignore_eos=True),
    SamplingParams(max_tokens=9, temperature=0.9, seed=5, n=2, logprobs=1),
    SamplingParams(max_tokens=15, stop="A"),
    SamplingParams(max_tokens=1),
    SamplingParams(max_tokens=14, stop=["A", "B"], min_tokens=4, include_stop_str_in_output=True),
    SamplingParams(max_tokens=8, logit_bias={70: 3.0}, bad_words="A", truncate_prompt_tokens=5),
    SamplingParams(max_tokens=12, stop_token_ids=[40, 70, 80], include_stop_str_in_output=True),
)


@pytest.fixture(scope="module")
def folder(toy, tmp_path_factory):
    copy = tmp_path_factory.mktemp("open") / "model"
    return write_tokenizer(shutil.copytree(toy("llama"), copy))


class Given:
    """The deltas of every completion, joined."""

    def __init__(self):
        self.text, self.tokens, self.logprobs = (
            defaultdict(str),
            defaultdict(list),
            defaultdict(list),
        )
        self.reasons = {}

    def take(self, deltas):
        for delta in deltas:
            key = delta.request, delta.completion
            assert key not in self.reasons
            self.text[key] += delta.text
            self.tokens[key] += delta.token_ids
            self.logprobs[key] += delta.logprobs
            if delta.finish_reason:
                self.reasons[key] = delta.finish_reason


def run_all(run, given):
    while run.has_work:
        given.take(run.step())


def requests_of(count: int, seed: int = 1):
    draw = random.Random(seed)
    prompts = prompts_of(*(draw.randrange(1, 30) for _ in range(count)))
    return [(prompt, draw.choice(PARAMS)) for prompt in prompts]


@pytest.mark.parametrize("speculation", ["off", "prompt-lookup"])
def test_requests_that_join_give_what_they_give_alone(folder, speculation):
    requests, given = requests_of(20), Given()
    with (
        open_llm(folder, speculation=speculation) as llm,
        llm.open_run(WORKLOAD) as run,
    ):
        for number, request in enumerate(requests):
            assert run.add(*request) == number
            for _ in range(number % 3):
                given.take(run.step())
        run_all(run, given)
    with open_llm(folder) as llm:
        for number, (prompt, params) in enumerate(requests):
            (alone,) = llm.generate([prompt], params)
            for index, expected in enumerate(alone.outputs):
                key = number, index
                assert given.tokens[key] == list(expected.token_ids)
                assert given.text[key] == expected.text
                assert given.reasons[key] == expected.finish_reason
                known = [
                    {token: replace(it, decoded_token=None) for token, it in place.items()}
                    for place in expected.logprobs or []
                ]
                assert given.logprobs[key] == known


def test_one_that_leaves_frees_its_room_for_those_that_wait(folder):
    prompts, given = prompts_of(30, 30, 30, 30, 30), Given()
    params = SamplingParams(max_tokens=18, ignore_eos=True)
    with open_llm(folder, prefix_sharing=False) as llm, llm.open_run(WORKLOAD) as run:
        numbers = [run.add(prompt, params) for prompt in prompts]
        given.take(run.step())
        run.cancel(numbers[0])  # it runs
        run.cancel(numbers[4])  # it waits
        run_all(run, given)
        blocks = llm._engine.machinery.scheduler.blocks
        assert blocks.num_used == 0
        assert not run.streams
    with open_llm(folder) as llm:
        for number in numbers[1:4]:
            (alone,) = llm.generate([prompts[number]], params)
            assert given.tokens[number, 0] == list(alone.outputs[0].token_ids)
    assert {number for number, _ in given.reasons} == {1, 2, 3}


def test_no_more_is_taken_than_memory_is_reserved_for(folder):
    with open_llm(folder) as llm, llm.open_run(WORKLOAD) as run:
        for length, max_tokens in ((48, None), (40, 9), (60, 1)):
            with pytest.raises(RequestError, match="reserved for 48 tokens"):
                run.add(prompts_of(length)[0], SamplingParams(max_tokens=max_tokens))
        with pytest.raises(RequestError, match="prompt_logprobs"):
            run.add([5, 6], SamplingParams(prompt_logprobs=1))
        with pytest.raises(RequestError, match="empty"):
            run.add([], SamplingParams())
        assert not run.has_work
        run.add(prompts_of(40)[0], SamplingParams(max_tokens=None, ignore_eos=True))
        given = Given()
        run_all(run, given)
        assert len(given.tokens[0, 0]) == 8


def test_the_model_serves_other_calls_afterwards(folder):
    (prompt,) = prompts_of(12)
    with open_llm(folder) as llm:
        with llm.open_run(WORKLOAD) as run:
            with pytest.raises(RequestError, match="unfinished"):
                llm.generate([prompt])
            run.add(prompt, SamplingParams(max_tokens=18))
            run.step()
        assert len(llm.generate([prompt], SamplingParams(max_tokens=4, ignore_eos=True))) == 1


def test_an_error_in_a_sweep_ends_the_run_and_not_the_model(folder, monkeypatch):
    (prompt,) = prompts_of(12)
    params = replace(PARAMS[0], max_tokens=4)
    with open_llm(folder) as llm:
        with pytest.raises(StorageError, match="went away"):
            _run_with_a_failure(llm, prompt, params, monkeypatch)
        with llm.open_run(WORKLOAD) as run:
            given = Given()
            run.add(prompt, params)
            run_all(run, given)
        assert len(given.tokens[0, 0]) == 4


def _run_with_a_failure(llm, prompt, params, monkeypatch):
    with llm.open_run(WORKLOAD) as run:
        run.add(prompt, params)
        monkeypatch.setattr(llm._engine, "step", _fail)
        run.step()


def _fail():
    raise StorageError("The disk went away.")


def test_prompts_of_a_run_are_kept_for_other_processes(folder, tmp_path):
    (prompt,) = prompts_of(30)
    with (
        open_llm(folder, prefix_cache=tmp_path / "kept") as llm,
        llm.open_run(WORKLOAD) as run,
    ):
        run.add(prompt, SamplingParams(max_tokens=2))
        run_all(run, Given())
        assert any((tmp_path / "kept").rglob("*"))
