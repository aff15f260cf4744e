"""Outputs held to schemas, regexes and choices: alone, in batches, with drafts, preempted."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch

from lm_offload import LLM, SamplingParams, StructuredOutputs, Workload
from lm_offload.demo import demo_path
from lm_offload.engine import assembly
from lm_offload.errors import RequestError
from lm_offload.planner.costs import memory
from tests.engine.harness import open_llm, prompts_of, tokens_of
from tests.engine.test_preemption import all_blocks_are_back, seen, tight
from tests.engine.tokenizer_file import write_tokenizer
from tests.toy import load_oracle, make_toy_checkpoint

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
DATE, ANSWERS = r"20\d\d-(0[1-9]|1[0-2])", ["yes", "no \U0001f600", 'a"b']
HELD_TO = [
    StructuredOutputs(json=PERSON, disable_any_whitespace=True),
    StructuredOutputs(regex=DATE),
    StructuredOutputs(choice=ANSWERS),
    StructuredOutputs(grammar='root ::= "[" ("x" | "yz")* "]"'),
    None,
]
PROMPTS = ["def f(", "import os\n\nclass", "x = 1", "for name in names:\n", "while True:"]


def params_of(temperature: float, **values) -> list[SamplingParams]:
    """One for each of the prompts, each held to something else."""
    return [
        SamplingParams(
            max_tokens=64, temperature=temperature, seed=index, structured_outputs=held, **values
        )
        for index, held in enumerate(HELD_TO)
    ]


def check_person(text: str) -> None:
    person = json.loads(text)
    assert person.keys() == {"name", "age", "tags"}
    assert isinstance(person["name"], str)
    assert len(person["name"]) <= 12
    assert person["age"] in range(151)
    assert len(person["tags"]) <= 3
    assert set(person["tags"]) <= {"a", "b"}


@pytest.fixture(scope="module")
def llm():
    with open_llm(demo_path(), speculation="off") as llm:
        yield llm


@pytest.mark.parametrize("temperature", [0.0, 1.0, 5.0])
def test_outputs_are_what_they_are_held_to(llm, temperature):
    params = params_of(temperature, n=2)
    person, date, answer, grammar, free = llm.generate(PROMPTS, params)
    assert all(one.finish_reason == "stop" for it in (person, date, answer) for one in it.outputs)
    for one in person.outputs:
        check_person(one.text)
    assert all(re.fullmatch(DATE, one.text) for one in date.outputs)
    assert all(one.text in ANSWERS for one in answer.outputs)
    assert all(re.fullmatch(r"\[(x|yz)*\]?", one.text) for one in grammar.outputs)
    held = replace(params[-1], structured_outputs=None)
    assert [one.token_ids for one in free.outputs] == [
        one.token_ids for one in llm.generate(PROMPTS[-1], held)[0].outputs
    ]


def test_greedy_tokens_are_those_of_transformers(llm):
    """All tokens that go on in no text of the choice left out, one by one."""
    oracle = load_oracle(demo_path())
    texts = ["return None", "return self", "raise ValueError(name)", "pass"]
    decoded = [llm.tokenizer.decode_all([token]) for token in range(llm.files.config.vocab_size)]
    prompt, wanted = llm.tokenizer.encode("def read(path):\n    "), []
    while (text := llm.tokenizer.decode(wanted)) not in texts:
        with torch.no_grad():
            logits = oracle(torch.tensor([prompt + wanted])).logits[0, -1]
        likeliest = logits.argsort(descending=True).tolist()
        goes_on = (it for it in likeliest if any(t.startswith(text + decoded[it]) for t in texts))
        wanted.append(next(goes_on))
    held = SamplingParams(max_tokens=32, structured_outputs=StructuredOutputs(choice=texts))
    assert tokens_of(llm, [prompt], held) == [wanted]


def test_completions_of_one_prompt_have_places_of_their_own(llm):
    held = StructuredOutputs(regex="[a-z]{3,9}( [a-z]{3,9})?")
    (output,) = llm.generate("x", SamplingParams(temperature=2.0, n=6, structured_outputs=held))
    texts = [one.text for one in output.outputs]
    assert len(set(texts)) > 3
    assert all(re.fullmatch("[a-z]{3,9}( [a-z]{3,9})?", text) for text in texts)


@pytest.mark.parametrize("temperature", [0.0, 1.2])
def test_a_request_does_not_depend_on_the_others_and_on_memory(llm, temperature):
    params = params_of(temperature, n=2, logprobs=1)
    together = seen(llm.generate(PROMPTS, params))
    assert [seen(llm.generate(p, q))[0] for p, q in zip(PROMPTS, params, strict=True)] == together
    with open_llm(demo_path(), "13MiB", speculation="off") as small:
        assert seen(small.generate(PROMPTS, params)) == together
        assert small.stats.sweeps[-1].time.read_bytes


@pytest.mark.parametrize("draft", ["text", "model"])
@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_drafts_change_nothing(llm, draft, temperature):
    params = params_of(temperature, n=2, logprobs=1)
    wanted = seen(llm.generate(PROMPTS, params))
    by_model = {"speculation": "draft-model", "draft_model": demo_path()}
    options = by_model if draft == "model" else {"speculation": "prompt-lookup"}
    with open_llm(demo_path(), **options) as drafting:
        assert seen(drafting.generate(PROMPTS, params)) == wanted
        assert drafting.stats.accepted > 0


def test_a_model_that_drafts_for_itself_keeps_to_the_grammar(llm):
    params = params_of(1.0)[0]
    options = {"speculation": "draft-model", "draft_model": demo_path()}
    with open_llm(demo_path(), **options) as drafting:
        (output,) = drafting.generate(PROMPTS[:1], params)
        check_person(output.text)
        assert drafting.stats.drafted > 0
        assert drafting.stats.accepted >= drafting.stats.drafted - 8  # but those after its end


@pytest.mark.parametrize(("spare_blocks", "rows"), [(0, 1), (1, 7), (2, 40)])
@pytest.mark.parametrize("temperature", [0.0, 1.2])
def test_preempted_requests_go_on_in_their_text(llm, spare_blocks, rows, temperature):
    prompts = [llm.tokenizer.encode(prompt * 4) for prompt in PROMPTS]
    params = [one.clone(n=2) for one in params_of(temperature, logprobs=1)]
    wanted = seen(llm.generate(prompts, params))
    changes = {"sweep_tokens": 10 + rows, "micro_batch_tokens": min(16, 10 + rows)}
    plan = tight(demo_path(), prompts, 64, spare_blocks, max_sequences=10, **changes)
    with open_llm(demo_path(), plan=plan) as small:
        assert seen(small.generate(prompts, params)) == wanted
        assert small.stats.preemptions
        assert all_blocks_are_back(small)


def test_swapped_requests_go_on_in_their_text(llm, monkeypatch):
    """Short ones come first, so that more are admitted than there is room for."""
    monkeypatch.setattr(memory, "LEAST_SWAP_BLOCKS", 1)
    monkeypatch.setattr(assembly, "swap_choice", lambda request, plan: lambda preemption: True)
    prompts = [llm.tokenizer.encode(prompt) for prompt in (*PROMPTS, *PROMPTS)]
    forms = [StructuredOutputs(regex=f"([a-f]{{3}} ){{{count}}}") for count in (1, 13)]
    one = SamplingParams(max_tokens=64, temperature=1.2, logprobs=1)
    params = [one.clone(structured_outputs=forms[i >= 5], seed=i) for i in range(10)]
    wanted = seen(llm.generate(prompts, params))
    plan = tight(demo_path(), prompts, 64, 1, max_sequences=2, spare_sequences=6)
    with open_llm(demo_path(), plan=plan) as small:
        assert seen(small.generate(prompts, params)) == wanted
        assert small.stats.swapped


def test_requests_that_join_later_give_the_same(llm):
    params = [one.clone(seed=3) for one in params_of(1.2)[:3]]
    wanted = [llm.generate(p, q)[0].text for p, q in zip(PROMPTS, params, strict=False)]
    workload = Workload((32,) * 3, (64,) * 3, may_end_early=True)
    texts = dict.fromkeys(range(3), "")
    with llm.open_run(workload) as run:
        for prompt, one in zip(PROMPTS, params, strict=False):
            run.add(prompt, one)
            for delta in run.step():
                texts[delta.request] += delta.text
        while run.has_work:
            for delta in run.step():
                texts[delta.request] += delta.text
        with pytest.raises(RequestError, match="cannot be compiled"):
            run.add("x", SamplingParams(structured_outputs=StructuredOutputs(regex="(")))
    assert [*texts.values()] == wanted


def test_a_complete_text_ends_without_an_end_token(llm):
    held = StructuredOutputs(regex="[0-9]{3}")
    (output,) = llm.generate("x", SamplingParams(structured_outputs=held, ignore_eos=True))
    (one,) = output.outputs
    assert re.fullmatch("[0-9]{3}", one.text)
    assert one.finish_reason == "stop"
    assert llm.tokenizer.decode_all(one.token_ids) == one.text


def test_a_prompt_that_opens_reasoning_leaves_the_text_free_until_it_ends(llm):
    held = StructuredOutputs(regex="[0-9]{3}", after_reasoning="qwen3")
    params = SamplingParams(max_tokens=24, structured_outputs=held)
    free, bound = llm.generate(["def f(x): # <think>\n", "def f(x): # "], params)
    (without,) = llm.generate(["def f(x): # <think>\n"], SamplingParams(max_tokens=24))
    assert free.outputs[0].token_ids == without.outputs[0].token_ids
    assert free.outputs[0].finish_reason == "length"
    assert re.fullmatch("[0-9]{3}", bound.text)
    assert bound.outputs[0].finish_reason == "stop"


def test_an_end_token_comes_where_the_text_may_end_and_is_not_ignored(llm):
    held, wanted = StructuredOutputs(regex="(ab)+"), {0: 100.0}
    params = SamplingParams(structured_outputs=held, logit_bias=wanted, ignore_eos=True)
    (output,) = llm.generate("x", params)
    assert output.text == "ab"
    assert output.outputs[0].token_ids[-1] == 0


@pytest.mark.parametrize(
    "values",
    [{"min_tokens": 9}, {"allowed_token_ids": [5]}, {"logit_bias": dict.fromkeys(range(4096), -1)}],
)
def test_what_leaves_no_token_of_the_grammar_gives_way(llm, values):
    held = StructuredOutputs(choice=["yes", "no"])
    (output,) = llm.generate("x", SamplingParams(structured_outputs=held, **values))
    assert output.text in ("yes", "no")


def test_log_probabilities_are_those_of_the_model(llm):
    params = SamplingParams(logprobs=0, structured_outputs=HELD_TO[1])
    (output,) = llm.generate("x", params)
    prompt, (one,) = output.prompt_token_ids, output.outputs
    scored = SamplingParams(max_tokens=1, prompt_logprobs=0)
    places = llm.generate([[*prompt, *one.token_ids]], scored)[0].prompt_logprobs[len(prompt) :]
    for token, own, place in zip(one.token_ids, one.logprobs, places, strict=True):
        assert own[token].logprob == pytest.approx(place[token].logprob, abs=1e-4)


def test_what_cannot_be_compiled_is_refused_before_anything_runs():
    refused = SamplingParams(structured_outputs=StructuredOutputs(json={"not": {}}))
    with LLM(demo_path(), threads=1) as llm:
        with pytest.raises(RequestError, match="Unimplemented keys"):
            llm.generate(["x", "y"], [SamplingParams(), refused])
        with pytest.raises(RequestError, match="Unimplemented keys"):
            llm.check(["x"], refused)
        assert llm.plan is None


def test_a_text_that_cannot_go_on_ends_alone(tmp_path):
    """The toys' tokenizer has no small letters, which shows in the middle of this text."""
    folder = write_tokenizer(make_toy_checkpoint(tmp_path / "llama", "llama"))
    held = SamplingParams(structured_outputs=StructuredOutputs(regex="ABc"), max_tokens=9)
    prompts, free = prompts_of(9, 5), SamplingParams(max_tokens=9, ignore_eos=True)
    with open_llm(folder) as llm:
        broken, whole = llm.generate(prompts, [held, free])
        assert broken.outputs[0].finish_reason == "error"
        assert "no token of this model fits" in broken.outputs[0].error
        assert whole.outputs[0].token_ids == tokens_of(llm, prompts[1:], free)[0]


def test_drafts_do_not_change_where_a_text_cannot_go_on(tmp_path):
    folder = write_tokenizer(make_toy_checkpoint(tmp_path / "llama", "llama"))
    forms = [StructuredOutputs(regex=f"{'ABCD'[:length]}c") for length in (1, 2, 3, 4)]
    params = [SamplingParams(max_tokens=9, structured_outputs=held) for held in forms]
    prompts = prompts_of(9, 5, 3, 17)
    with open_llm(folder, speculation="off") as llm:
        wanted = seen(llm.generate(prompts, params))
    with open_llm(folder, speculation="draft-model", draft_model=folder) as drafting:
        assert seen(drafting.generate(prompts, params)) == wanted
        assert drafting.stats.accepted
