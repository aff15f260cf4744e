"""Options, workloads and models of a wrong kind are one sentence, before anything is opened."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lm_offload import LLM, Workload
from lm_offload.demo import demo_path
from lm_offload.errors import CheckpointError, ConfigError, RequestError
from tests.engine.harness import GREEDY, open_llm


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"threads": "2"}, "threads is '2'; allowed is a whole number"),
        ({"threads": True}, "threads is True; allowed is a whole number"),
        ({"threads": 1.5}, "threads is 1.5"),
        ({"cpu_memory": []}, r"cpu_memory is \[\]; allowed is bytes, or text"),
        ({"cpu_memory": "9" * 400}, "is not a size"),
        ({"cpu_memory": b"8GiB"}, "cpu_memory is b'8GiB'"),
        ({"gpu_memory": [1]}, r"gpu_memory is \[1\]"),
        ({"max_memory": [1]}, r"max_memory is \[1\]; allowed is a mapping"),
        ({"max_memory": {None: 1}}, "max_memory is {None: 1}; allowed are the key"),
        ({"device": 5}, "device is 5; allowed is text"),
        ({"weight_format": 5}, "weight_format is 5"),
        ({"kv_format": 5}, "kv_format is 5"),
        ({"objective": "speed"}, "objective is 'speed'; allowed are throughput and latency"),
        ({"objective": None}, "objective is None"),
        ({"plan": 5}, "plan is 5; allowed is a file that plan --save wrote"),
        ({"prefix_cache": 5}, "prefix_cache is 5; allowed is a path"),
        ({"prefix_cache_limit": []}, r"prefix_cache_limit is \[\]"),
        ({"spill_dir": 5}, "spill_dir is 5; allowed is a path"),
        ({"trace": 5}, "trace is 5; allowed is a path"),
        ({"overlap": "no"}, "overlap is 'no'; allowed is True or False"),
        ({"trace": "/nowhere/trace.json"}, r"/nowhere/trace\.json cannot be written; name a file"),
        ({"trace": Path("/")}, "/ cannot be written"),
        ({"trace": ""}, "trace is ''; allowed is a path"),
        ({"prefix_cache": ""}, "prefix_cache is ''; allowed is a path"),
        ({"spill_dir": ""}, "spill_dir is ''; allowed is a path"),
        ({"on_load": 5}, "on_load is 5; allowed is a function"),
    ],
)
def test_options_of_a_wrong_kind(option, words):
    with pytest.raises(ConfigError, match=words):
        LLM(demo_path(), **option)


@pytest.mark.parametrize("model", [None, 5, "", b"folder", "x" * 300, "x/" * 3000])
def test_what_is_no_model(model):
    with pytest.raises(CheckpointError, match=r"is not a folder; give|cannot be looked at"):
        LLM(model)


def test_end_tokens_that_are_no_object(tmp_path):
    folder = shutil.copytree(demo_path(), tmp_path / "model")
    (folder / "generation_config.json").write_text(json.dumps([1]))
    with pytest.raises(CheckpointError, match=r"generation_config\.json holds list data"):
        LLM(folder)


@pytest.mark.parametrize(
    "workload",
    [
        None,
        Workload((), ()),
        Workload((-1,), (1,)),
        Workload((4,), (0,)),
        Workload((4, 5), (1,)),
        Workload(("a",), (1,)),
        Workload(5, 5),
    ],
)
def test_workloads_that_are_none(toy, workload):
    with open_llm(toy("llama")) as llm:
        for ask in (llm.plan_for, llm.load):
            with pytest.raises(RequestError, match="The workload"):
                ask(workload)


@pytest.mark.parametrize("way", ["generate", "generate_each", "stream", "score"])
def test_what_is_no_function_is_refused_before_a_sweep(toy, way):
    wanted = "on_sweep is 5; allowed is a function"
    with open_llm(toy("llama")) as llm, pytest.raises(ConfigError, match=wanted):
        getattr(llm, way)([[5, 6]], GREEDY, on_sweep=5)
    assert not llm.stats.sweeps


def test_an_iterator_refuses_a_bad_prompt_when_it_is_made(toy):
    with open_llm(toy("llama")) as llm:
        for make in (llm.generate_each, llm.stream):
            with pytest.raises(RequestError, match="is 5; allowed are text"):
                make(5, GREEDY)
