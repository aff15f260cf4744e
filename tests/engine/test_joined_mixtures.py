"""Mixtures in memory: few tasks, and the tokens of experts that are asked for one by one."""

from __future__ import annotations

import pytest

from lm_offload import SamplingParams, Workload
from lm_offload.kernels.torch_kernels import TorchKernels
from lm_offload.pipeline.runner import ModelRunner
from lm_offload.schedule.task import Task
from tests.engine.harness import open_llm
from tests.engine.test_mixtures import ONE, on_disk
from tests.newer_toys import GEMMA4_MIXTURE
from tests.toy import KINDRED_MIXTURES, MIXTURE_TYPES, RECURRENT_MIXTURES

NativeKernels = pytest.importorskip("lm_offload.kernels.native_kernels").NativeKernels
OTHERS = (*KINDRED_MIXTURES, *RECURRENT_MIXTURES)
TWO_TASKS = (
    *("mixtral", "qwen3_moe", "qwen2_moe", "olmoe", "gpt_oss"),
    *("phimoe", "flex_olmo", "afmoe"),
)
PROMPTS = [list(range(5, 5 + length)) for length in (3, 20, 9)]
SAMPLED = [  # the batch shrinks, tables of blocks grow
    SamplingParams(max_tokens=count, ignore_eos=True, temperature=0.7, seed=count)
    for count in (12, 3, 30)
]


@pytest.fixture(params=MIXTURE_TYPES)
def folder(toy, request):
    return toy(request.param)


def tokens_and_uses(folder, count=3, **options) -> tuple[list[list[int]], list[int]]:
    with open_llm(folder, **options) as llm:
        outputs = llm.generate(PROMPTS[:count], SAMPLED[:count])
        uses = [record.experts_used for record in llm.stats.sweeps]
    return [output.outputs[0].token_ids for output in outputs], uses


def test_tokens_and_uses_are_those_of_experts_one_by_one(folder, monkeypatch):
    joined = tokens_and_uses(folder)
    assert min(joined[1]) > 0
    with monkeypatch.context() as patch:
        patch.setattr(NativeKernels, "record", TorchKernels.record)
        assert tokens_and_uses(folder) == joined
    monkeypatch.setattr(NativeKernels, "expert_table", TorchKernels.expert_table)
    assert tokens_and_uses(folder) == joined


def test_uses_are_the_same_wherever_experts_lie(folder):
    in_memory = tokens_and_uses(folder, count=1)
    workload = Workload((len(PROMPTS[0]),), (SAMPLED[0].max_tokens,))
    assert tokens_and_uses(folder, count=1, plan=on_disk(folder, workload)) == in_memory


def last_sweep(folder, monkeypatch, **options) -> tuple[list[Task], list[str]]:
    """The compute tasks of a decode sweep, and the kinds of all units."""
    seen: list[Task] = []
    compute = ModelRunner.compute

    def noted(self: ModelRunner, task: Task) -> None:
        seen.append(task)
        compute(self, task)

    monkeypatch.setattr(ModelRunner, "compute", noted)
    with open_llm(folder, speculation="off", **options) as llm:
        llm.generate([[3, 4, 5]], SamplingParams(max_tokens=4, ignore_eos=True))
        kinds = [unit.kind for unit in llm.files.units]
    return [task for task in seen if task.id.sweep == seen[-1].id.sweep], kinds


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *(pytest.param(name, {}, id=name) for name in TWO_TASKS),
        pytest.param("gemma4_text", {**GEMMA4_MIXTURE, "final_logit_softcapping": None}),
    ],
)
def test_a_resident_mixture_is_two_tasks(toy, name, changes, monkeypatch):
    tasks, kinds = last_sweep(toy(name, **changes), monkeypatch)
    assert [task.units for task in tasks] == [1, len(kinds) - 1]


@pytest.mark.parametrize("model_type", OTHERS)
def test_newer_mixtures_have_the_same_tokens_and_uses(toy, model_type, monkeypatch):
    folder = toy(model_type)
    joined = tokens_and_uses(folder)
    assert min(joined[1]) > 0
    with monkeypatch.context() as patch:
        patch.setattr(NativeKernels, "record", TorchKernels.record)
        assert tokens_and_uses(folder) == joined
    monkeypatch.setattr(NativeKernels, "expert_table", TorchKernels.expert_table)
    assert tokens_and_uses(folder) == joined


@pytest.mark.parametrize("model_type", [*MIXTURE_TYPES, *OTHERS])
def test_no_router_or_expert_is_a_task_of_its_own(toy, model_type, monkeypatch):
    tasks, kinds = last_sweep(toy(model_type), monkeypatch)
    alone = {kinds[task.id.unit] for task in tasks if task.units == 1}
    assert alone <= {"embed", "attention", "recurrent", "mlp", "head"}


def test_attention_and_router_are_one_task_where_experts_are_read(toy, monkeypatch):
    folder = toy("mixtral")
    tasks, kinds = last_sweep(folder, monkeypatch, plan=on_disk(folder, ONE))
    layers = kinds.count("router")
    assert [task.units for task in tasks].count(2) >= layers
    alone = [kinds[task.id.unit] for task in tasks if task.units == 1]
    assert set(alone) == {"embed", "expert"}
