"""Decode that replays its units gives the tokens of decode that does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload import LLM, SamplingParams, Workload
from lm_offload.demo import demo_path
from lm_offload.kernels.torch_kernels import TorchKernels
from lm_offload.planner.decided.plan_choice import choice_of
from tests.engine.harness import GREEDY, PLENTY, generate, open_llm, prompts_of, tokens_of

NativeKernels = pytest.importorskip("lm_offload.kernels.native_kernels").NativeKernels


@pytest.mark.parametrize("weight_format", [None, "int4:32"])
@pytest.mark.parametrize("cpu_memory", ["11MiB", "100%"])  # most units are streamed, or none
def test_tokens_are_those_without_replays(
    weight_format: str | None, cpu_memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [list(range(5, 5 + length)) for length in (3, 40, 17, 64)]
    params = [
        SamplingParams(max_tokens=count, ignore_eos=True, temperature=0.7, seed=count)
        for count in (30, 9, 90, 18)  # the batch shrinks, tables of blocks grow
    ]

    def tokens() -> list[list[int]]:
        options = {"cpu_memory": cpu_memory, "weight_format": weight_format}
        with LLM(demo_path(), speculation="off", **options) as llm:  # type: ignore[arg-type]
            outputs = llm.generate(prompts, params)
        return [output.outputs[0].token_ids for output in outputs]

    replayed = tokens()
    monkeypatch.setattr(NativeKernels, "record", TorchKernels.record)
    assert tokens() == replayed


@pytest.mark.parametrize(
    ("model_type", "read"), [("llama", ".mlp"), ("mixtral", ".router"), ("gpt_oss", ".expert.0")]
)
def test_what_takes_all_rows_of_a_sweep_is_not_replayed_for_fewer(toy, model_type, read):
    """Heads and experts that are joined, where rows come in several micro-batches."""
    folder, prompts = toy(model_type), prompts_of(5, 6, 3, 7)
    wanted = generate(folder, PLENTY, prompts)
    workload = Workload(tuple(map(len, prompts)), (GREEDY.max_tokens,) * len(prompts))
    with open_llm(folder, speculation="off") as llm:
        plan = llm.plan_for(workload)
    streamed = tuple(name for name in plan.resident if name.endswith((read, ".attention")))
    resident = tuple(name for name in plan.resident if name not in streamed)
    rings = {"ring": 1 << 20, "expert_ring": 1 << 20 if ".expert" in read else 0}
    choice = replace(choice_of(plan), resident=resident, streamed=streamed, **rings)
    with open_llm(folder, plan=replace(choice, micro_batch_tokens=1, draft_rows=0)) as llm:
        tokens_of(llm, prompts, replace(GREEDY, max_tokens=2))  # once: nothing is written down yet
        for count in (1, 4, 2):
            assert tokens_of(llm, prompts[:count]) == wanted[:count]
