"""Policies as text: what is written is read, what cannot be is refused."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.errors import ConfigError
from lm_offload.planner.policies.policy import PhasePolicy, Policy, Share
from lm_offload.planner.policies.text import policy_from_dict, policy_text, read_policy
from lm_offload.quant.format import parse_format

TEXT = """
weights: {gpu: 20%, cpu: 80%}
kv: {cpu: 100%}
activations: {cpu: 1}
micro_batch_size: 48
num_micro_batches: 3
prefill: {compute: gpu, attention: gpu}
decode: {compute: gpu, attention: cpu}
schedule: flexgen
weight_format: fp16
kv_format: int4
"""
GPU = PhasePolicy("gpu", "gpu")


@st.composite
def shares(draw):
    gpu = draw(st.floats(0, 1))
    cpu = draw(st.floats(0, 1 - gpu))
    return Share(gpu, cpu, 1 - gpu - cpu)


policies = st.builds(
    Policy,
    weights=shares(),
    kv=shares(),
    activations=shares(),
    micro_batch_size=st.integers(1, 4096),
    num_micro_batches=st.integers(1, 4096),
    prefill=st.sampled_from([GPU, PhasePolicy("cpu", "cpu")]),
    decode=st.sampled_from([GPU, PhasePolicy("gpu", "cpu")]),
    schedule=st.sampled_from(["flexgen", "pipo", "pipo-memory", "zigzag", "cgopipe"]),
    weight_format=st.sampled_from([parse_format("bf16"), parse_format("int4:64")]),
    kv_format=st.sampled_from([parse_format("fp16"), parse_format("int8:row")]),
    dequantize=st.sampled_from(["fused", "unit", "micro_batch"]),
    prefetch_units=st.integers(1, 8),
    pinned=st.booleans(),
)


def parse(text):
    return policy_from_dict(yaml.safe_load(text), "p.yaml")


def test_what_a_person_writes(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text(TEXT)
    policy = read_policy(file)
    assert policy.weights == Share(0.2, 0.8, 0.0)
    assert policy.activations == Share(0, 1, 0)
    assert policy.decode == PhasePolicy("gpu", "cpu")
    assert policy.block_size == 144
    assert str(policy.kv_format) == "int4:64"
    assert policy.prefetch_units == 1


@given(policies)
def test_round_trip(policy):
    assert parse(policy_text(policy)) == policy


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cpu: 80%", "cpu: 70%", "weights in p.yaml is 0.9 in sum; allowed is shares of gpu"),
        ("gpu: 20%", "gpu: 120%", "weights.gpu in p.yaml is '120%'"),
        ("gpu: 20%", "gpu: some", "weights.gpu in p.yaml is 'some'"),
        ("gpu: 20%", "tpu: 20%", "weights.tpu in p.yaml is not a known key; allowed is gpu, cpu"),
        ("cpu: 1}", "cpu: true}", "activations.cpu in p.yaml is True"),
        ("{cpu: 100%}", "100%", "kv in p.yaml is '100%'; allowed is a mapping of gpu, cpu, disk"),
        ("batch_size: 48", "batch_size: 0", "micro_batch_size in p.yaml is 0"),
        ("batch_size: 48", "batch_size: 4.5", "micro_batch_size in p.yaml is 4.5"),
        ("attention: cpu", "attention: disk", "decode.attention in p.yaml is 'disk'"),
        (", attention: cpu", "", "decode.attention in p.yaml is None; allowed is gpu, cpu"),
        ("schedule: flexgen", "schedule: best", "schedule in p.yaml is 'best'; allowed is flexgen"),
        ("int4", "int5", "kv_format in p.yaml: Format 'int5' is not known"),
        ("schedule:", "scheduler:", "scheduler in p.yaml is not a known key"),
        ("num_micro_batches: 3\n", "", "num_micro_batches in p.yaml is missing"),
    ],
)
def test_what_cannot_be_is_one_sentence(old, new, message):
    assert old in TEXT
    with pytest.raises(ConfigError) as caught:
        parse(TEXT.replace(old, new))
    text = str(caught.value)
    assert message in text
    assert "\n" not in text
    assert text.endswith(".")


@pytest.mark.parametrize("values", [None, [], "text", {1: 2}])
def test_files_that_hold_no_policy(values):
    with pytest.raises(ConfigError, match=r"p\.yaml is"):
        policy_from_dict(values, "p.yaml")
