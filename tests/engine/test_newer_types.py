"""What newer model types compute in other ways, in every place where the engine computes it."""

from __future__ import annotations

import pytest
import torch

from lm_offload import Workload
from tests.engine.device_harness import cpu_tokens, open_on_device, smallest_budgets
from tests.engine.harness import GREEDY, PLENTY, generate, prompts_of, spilled, tokens_of
from tests.quantized import toy_shapes

# A layer of one unit, queries that grow, chunks of attention, norms once rotated, plain MLPs.
TYPES = ("cohere2", "ministral3", "llama4_text", "hunyuan_v1_dense", "starcoder2")
DENSE = tuple(it for it in TYPES if it != "llama4_text")
PROMPTS = prompts_of(5, 1, 34, 90, 15, 16)
WORKLOAD = Workload(tuple(map(len, PROMPTS)), (GREEDY.max_tokens,) * len(PROMPTS))


@pytest.mark.parametrize("model_type", DENSE)
def test_keys_and_values_on_disk(toy, tmp_path, model_type):
    folder = toy(model_type)
    plan = spilled(folder, WORKLOAD, (0, 1, 2), sweep_tokens=30, micro_batch_tokens=13)
    found = generate(folder, PLENTY, PROMPTS, plan=plan, spill_dir=tmp_path)
    assert found == generate(folder, PLENTY, PROMPTS)


@pytest.mark.parametrize("attention", ["device", "cpu"])
@pytest.mark.parametrize("model_type", DENSE)
def test_tokens_of_a_device_are_those_of_the_cpu(toy, model_type, attention):
    folder = toy(model_type)
    gpu_bytes, cpu_bytes = smallest_budgets(folder, PROMPTS, attention=attention)
    wanted = cpu_tokens(folder, PROMPTS)
    for budgets in ((gpu_bytes, cpu_bytes), (gpu_bytes, PLENTY), (PLENTY, cpu_bytes)):
        with open_on_device(folder, *budgets, attention=attention) as llm:
            assert tokens_of(llm, PROMPTS) == wanted


@pytest.mark.parametrize("in_place", ["mlp", "layers"])
def test_a_layer_of_one_unit_is_computed_where_it_lies(toy, in_place):
    folder = toy("cohere2")
    wanted = cpu_tokens(folder, PROMPTS)
    gpu_bytes, _ = smallest_budgets(folder, PROMPTS)
    with open_on_device(folder, gpu_bytes, in_place=in_place) as llm:
        assert tokens_of(llm, PROMPTS) == wanted


@pytest.mark.parametrize("model_type", TYPES)
def test_quantized_weights_do_not_depend_on_the_budget(toy, tmp_path, monkeypatch, model_type):
    monkeypatch.setenv("LM_OFFLOAD_CACHE", str(tmp_path))
    folder = toy(model_type, **toy_shapes(model_type), dtype=torch.bfloat16)
    plenty = generate(folder, PLENTY, PROMPTS, weight_format="int8:64", kv_format="int8")
    assert generate(folder, "3MiB", PROMPTS, weight_format="int8:64", kv_format="int8") == plenty
    assert plenty != generate(folder, PLENTY, PROMPTS[:2])


def test_granite_4_that_attends_alone_runs_on_a_device(toy):
    """Without state spaces it is a dense model whose gate and up are rows of one tensor."""
    folder = toy("granitemoehybrid", layer_types=["attention"] * 4, num_local_experts=0)
    gpu_bytes, cpu_bytes = smallest_budgets(folder, PROMPTS, attention="device")
    wanted = cpu_tokens(folder, PROMPTS)
    for budgets in ((gpu_bytes, cpu_bytes), (PLENTY, cpu_bytes)):
        with open_on_device(folder, *budgets, attention="device") as llm:
            assert tokens_of(llm, PROMPTS) == wanted
