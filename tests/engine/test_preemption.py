"""Sequences that are preempted: the same tokens as with room for all, whatever else is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload import LLM, RequestOutput, SamplingParams, Workload
from lm_offload.kvcache.cache import blocks_for
from lm_offload.planner.decided.plan_choice import PlanChoice, choice_of
from tests.engine.harness import PLENTY, open_llm, prompts_of

STOPS = tuple(range(3, 6))  # of 131 tokens: ends come at very different places


def tight(folder, prompts, max_tokens: int, spare_blocks: int, **changes: Any) -> PlanChoice:
    """A plan with everything in memory, room for the longest request and a few blocks more."""
    workload = Workload(tuple(map(len, prompts)), (max_tokens,) * len(prompts))
    options = {"speculation": changes.pop("speculation", "off")}
    with open_llm(folder, kv_format=changes.pop("kv_format", None), **options) as llm:
        choice = choice_of(llm.plan_for(workload))
    longest = max(map(blocks_for, workload.total_lens))
    return replace(choice, kv_blocks=longest + spare_blocks, **changes)


def params_of(
    prompts, max_tokens: int, temperature: float, prompt_logprobs: int | None
) -> list[SamplingParams]:
    """For each prompt with a seed of its own; ends come at very different places."""
    params = SamplingParams(
        max_tokens=max_tokens,
        temperature=temperature,
        stop_token_ids=STOPS,
        logprobs=2,
        prompt_logprobs=prompt_logprobs,
    )
    return [replace(params, seed=index) for index in range(len(prompts))]


def seen(outputs: list[RequestOutput]) -> list[Any]:
    """All that a caller gets but times and what it cost."""
    return [(output.prompt_logprobs, output.outputs) for output in outputs]


def all_blocks_are_back(llm: LLM) -> bool:
    assert llm._engine is not None
    scheduler = llm._engine.machinery.scheduler
    blocks = scheduler.blocks
    free = blocks._blocks.available_beside(())
    return blocks.num_used == 0 and free == llm._engine.machinery.plan.kv_blocks


@settings(max_examples=6)
@given(
    model_type=st.sampled_from(["llama", "mistral", "gemma3_text"]),
    lengths=st.lists(st.integers(1, 40), min_size=3, max_size=6),
    shared=st.sampled_from([0, 40]),
    spare_blocks=st.integers(0, 5),
    rows=st.integers(1, 40),
    sharing=st.booleans(),
    temperature=st.sampled_from([0.0, 1.5]),
    n=st.integers(1, 2),
    prompt_logprobs=st.sampled_from([None, 2]),
)
def test_tokens_and_log_probabilities_are_those_of_a_roomy_cache(
    toy, model_type, lengths, shared, spare_blocks, rows, sharing, temperature, n, prompt_logprobs
):
    folder, max_tokens = toy(model_type), 50
    prompts = [[5] * shared + prompt for prompt in prompts_of(*lengths)]
    params = [
        replace(one, n=n, presence_penalty=0.5 * (index % 2))
        for index, one in enumerate(params_of(prompts, max_tokens, temperature, prompt_logprobs))
    ]
    with open_llm(folder, PLENTY, prefix_sharing=sharing) as llm:
        wanted = seen(llm.generate(prompts, params))
    plan = tight(
        folder,
        prompts,
        max_tokens,
        spare_blocks,
        max_sequences=6,
        sweep_tokens=6 + rows,
        micro_batch_tokens=min(16, 6 + rows),
        scored_rows=3 if prompt_logprobs is not None else 0,
    )
    with open_llm(folder, PLENTY, plan=plan, prefix_sharing=sharing) as llm:
        assert seen(llm.generate(prompts, params)) == wanted
        assert all_blocks_are_back(llm)


def run_tight(folder, prompts, params, **options: Any) -> tuple[list[Any], LLM]:
    plan = tight(folder, prompts, params.max_tokens, 2, **options.pop("plan", {}))
    with open_llm(folder, PLENTY, plan=plan, **options) as llm:
        found = seen(llm.generate(prompts, params))
        assert all_blocks_are_back(llm)
    return found, llm


PROMPTS = prompts_of(*[20, 31, 7, 18] * 4)
SHORT = SamplingParams(max_tokens=90, temperature=1.0, stop_token_ids=STOPS)


def wanted_of(folder, params) -> list[Any]:
    with open_llm(folder, PLENTY) as llm:
        return seen(llm.generate(PROMPTS, params))


def test_preemptions_are_counted_and_their_tokens_apart(toy):
    folder = toy("llama")
    found, llm = run_tight(folder, PROMPTS, SHORT, plan={"max_sequences": 8}, prefix_sharing=False)
    assert found == wanted_of(folder, SHORT)
    stats = llm.stats
    assert stats.preemptions > 0
    assert stats.redone_tokens > 0
    assert sum(sweep.prefill_tokens for sweep in stats.sweeps) == sum(map(len, PROMPTS))
    made = sum(len(outputs[0].token_ids) for _, outputs in found)
    assert sum(sweep.decode_tokens for sweep in stats.sweeps) == made - len(PROMPTS)


def test_what_is_still_there_is_not_computed_again(toy):
    folder = toy("llama")
    redone = []
    for sharing in (True, False):
        _, llm = run_tight(
            folder, PROMPTS, SHORT, plan={"max_sequences": 8}, prefix_sharing=sharing
        )
        redone.append(llm.stats.redone_tokens)
    assert redone[0] < redone[1]


def test_outputs_that_cannot_end_early_are_never_preempted(toy):
    params = replace(SHORT, stop_token_ids=(), ignore_eos=True)
    _, llm = run_tight(toy("llama"), PROMPTS[:5], params, plan={"max_sequences": 8})
    assert llm.stats.preemptions == llm.stats.redone_tokens == 0


def test_keys_and_values_on_disk(toy):
    folder, spill = toy("llama"), {"max_sequences": 8, "kv_on_disk": (0, 2)}
    blocks = blocks_for(31 + 90)
    spill |= {"kv_group_blocks": blocks, "kv_ring_blocks": 2 * blocks}
    found, llm = run_tight(folder, PROMPTS, SHORT, plan=spill)
    assert found == wanted_of(folder, SHORT)
    assert llm.stats.preemptions > 0


def test_drafts_in_blocks_that_end(toy):
    folder = toy("llama")
    params = replace(SHORT, temperature=0.0, frequency_penalty=-2.0)  # repeats itself
    drafts = {"max_sequences": 8, "draft_rows": 32, "speculation": "prompt-lookup"}
    drafts |= {"sweep_tokens": 200, "micro_batch_tokens": 100}
    found, llm = run_tight(folder, PROMPTS, params, plan=drafts, speculation="prompt-lookup")
    assert found == wanted_of(folder, params)
    assert llm.stats.accepted > 0
    assert llm.stats.preemptions > 0


def test_plans_leave_places_for_outputs_that_end_early(toy):
    folder, prompts = toy("llama"), prompts_of(*[30] * 12)
    lanes = []
    for ends_early in (False, True):
        workload = Workload((30,) * 12, (400,) * 12, may_end_early=ends_early)
        with open_llm(folder, "2MiB") as llm:
            plan = llm.plan_for(workload)
            lanes.append(plan.lanes)
            assert plan.used_bytes <= plan.budget_bytes
    assert lanes[0] == plan.max_sequences < lanes[1]
    params = replace(SHORT, max_tokens=400)
    with open_llm(folder, "2MiB") as llm, open_llm(folder, PLENTY) as roomy:
        assert seen(llm.generate(prompts, params)) == seen(roomy.generate(prompts, params))
        assert all_blocks_are_back(llm)
