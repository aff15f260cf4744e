"""What outputs may be held to, as values: what is taken, and what is refused with a sentence."""

from __future__ import annotations

import pytest

from lm_offload.errors import RequestError
from lm_offload.sampling import SamplingParams, StructuredOutputs

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def test_a_schema_is_the_same_as_text_and_as_a_dictionary():
    given = StructuredOutputs(json=SCHEMA)
    assert given == StructuredOutputs(json=given.json)
    assert hash(given) == hash(StructuredOutputs(json=dict(SCHEMA)))
    assert given.kind == "json"


def test_any_object_is_a_schema():
    assert StructuredOutputs(json_object=True).schema == '{"type": "object"}'
    assert StructuredOutputs(regex="a", json_object=False).schema is None


def test_parameters_carry_them():
    held = StructuredOutputs(choice=["yes", "no"])
    assert SamplingParams(structured_outputs=held).clone(n=2).structured_outputs == held
    assert held.choice == ("yes", "no")
    with pytest.raises(RequestError, match="structured_outputs is 'yes'; allowed is none"):
        SamplingParams(structured_outputs="yes")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "has none of its kinds; give exactly one of json, regex"),
        ({"json_object": False}, "has none of its kinds"),
        ({"regex": "a", "choice": ["b"]}, "has regex, choice; give exactly one"),
        ({"choice": []}, "choice is ()"),
        ({"choice": ["a", ""]}, "choice is ('a', '')"),
        ({"choice": ["a", 3]}, "choice is ('a', 3)"),
        ({"json": "[1]"}, "json is '[1]'"),
        ({"json": "{"}, "json is '{'"),
        ({"json": 3}, "json is 3"),
        ({"json": {"enum": {1, 2}}}, "cannot be written as JSON"),
        ({"regex": ""}, "regex is ''"),
        ({"regex": 5}, "regex is 5"),
        ({"grammar": ""}, "grammar is ''"),
        ({"json_object": "yes"}, "json_object is 'yes'"),
        ({"json_object": True, "disable_any_whitespace": 3}, "disable_any_whitespace is 3"),
        ({"json_object": True, "whitespace_pattern": ""}, "whitespace_pattern is ''"),
    ],
)
def test_what_is_none_is_one_sentence(values, words):
    with pytest.raises(RequestError) as refused:
        StructuredOutputs(**values)
    assert words in str(refused.value)
