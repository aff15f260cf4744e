"""Keywords that are not known: what is said of them, and that signatures stay."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import pytest

from lm_offload import LLM, SamplingParams, StructuredOutputs
from lm_offload.demo import demo_path
from lm_offload.engine import option_names
from lm_offload.errors import ConfigError, RequestError
from lm_offload.sampling import param_names, structured_outputs


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"cpu_mem": "8GiB"},
            r"LLM has no cpu_mem \(did you mean cpu_memory\?\); it takes model, ",
        ),
        ({"colour": 1}, "LLM has no colour; it takes model, cpu_memory"),
        ({"tensor_parallel_size": 2}, "tensor_parallel_size: .*device='cuda:0,cuda:1'"),
        ({"overlap": True, "dtype": "auto"}, "LLM has no dtype: .*weight_format"),
        ({"max_model_len": 4096}, "LLM has no max_model_len: it is planned"),
    ],
)
def test_a_model_with_unknown_keywords(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        LLM(demo_path(), **given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"temprature": 1}, r"no temprature \(did you mean temperature\?\); it takes max_tokens"),
        ({"max_new_tokens": 1}, "SamplingParams has no max_new_tokens: it is called max_tokens"),
    ],
)
def test_sampling_with_unknown_keywords(given: dict[str, Any], words: str) -> None:
    for make in (SamplingParams, SamplingParams().clone):
        with pytest.raises(RequestError, match=words):
            make(**given)


@pytest.mark.parametrize("way", ["generate", "generate_each", "stream"])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"lora_request": None}, "has no lora_request: adapters are not taken"),
        ({"temperature": 1}, "has no temperature: it is a field of SamplingParams"),
        ({"params": None}, r"has no params.*; it takes prompt"),
    ],
)
def test_calls_with_unknown_keywords(way: str, given: dict[str, Any], words: str) -> None:
    with LLM(demo_path()) as llm, pytest.raises(RequestError, match=f"{way} {words}"):
        getattr(llm, way)("x", **given)


def test_a_form_with_an_unknown_keyword() -> None:
    with pytest.raises(RequestError, match="StructuredOutputs has no json_schema: it is called"):
        StructuredOutputs(json_schema={})  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("owner", "elsewhere"),
    [
        (LLM, option_names.ELSEWHERE),
        (SamplingParams, param_names.ELSEWHERE),
        (StructuredOutputs, structured_outputs.ELSEWHERE),
    ],
)
def test_no_keyword_is_said_to_be_elsewhere(owner: type, elsewhere: dict[str, str]) -> None:
    names = set(inspect.signature(owner).parameters)
    assert len(names) > 5
    assert not names & elsewhere.keys()


def test_parameters_are_still_a_plain_record() -> None:
    params = SamplingParams(3, temperature=0.5)
    assert pickle.loads(pickle.dumps(params)) == params
    assert params.max_tokens == 3
