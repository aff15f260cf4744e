"""What users of vLLM look for in outputs, and around them."""

from __future__ import annotations

import pickle
import shutil

import pytest

from lm_offload import SamplingParams
from lm_offload.errors import RequestError
from tests.engine.harness import GREEDY, open_llm, prompts_of
from tests.engine.tokenizer_file import write_tokenizer

PROMPTS = prompts_of(4, 9, 5)


@pytest.fixture(scope="module")
def llm(toy, tmp_path_factory):
    copy = tmp_path_factory.mktemp("text") / "model"
    with open_llm(write_tokenizer(shutil.copytree(toy("llama"), copy))) as llm:
        yield llm


def test_requests_are_numbered_over_all_calls(llm):
    outputs = [*llm.generate(PROMPTS, GREEDY), *llm.generate(PROMPTS[:1], GREEDY)]
    first = int(outputs[0].request_id)
    assert [output.request_id for output in outputs] == [str(first + i) for i in range(4)]
    assert [output.index for output in outputs] == [0, 1, 2, 0]
    assert all(output.finished for output in outputs)


def test_log_probabilities_know_the_texts_of_their_tokens(llm):
    params = SamplingParams(max_tokens=4, ignore_eos=True, logprobs=3, prompt_logprobs=2)
    outputs = llm.generate("HELLO", params)
    for output in (*outputs, *pickle.loads(pickle.dumps(outputs))):
        assert output.prompt_logprobs[0] is None
        assert len(output.prompt_logprobs) == 5
        for place in (*output.prompt_logprobs[1:], *output.outputs[0].logprobs):
            for token, found in place.items():
                assert found.decoded_token == llm.tokenizer.decode_all([token])
        ranks = [sorted(it.rank for it in place.values()) for place in output.outputs[0].logprobs]
        assert ranks == [[1, 2, 3]] * 4
    assert [
        place[t].decoded_token
        for t, place in zip(
            outputs[0].prompt_token_ids[1:], outputs[0].prompt_logprobs[1:], strict=True
        )
    ] == [*"ELLO"]


def test_the_tokenizer_is_that_of_transformers(llm):
    tokenizer = llm.get_tokenizer()
    ids = tokenizer.encode("HELLO", add_special_tokens=False)
    assert ids == llm.tokenizer.encode("HELLO")
    assert tokenizer.eos_token == "</s>"
    assert tokenizer.convert_ids_to_tokens(ids) == [*"HELLO"]


class Bar:
    """Counts what is said to it."""

    def __init__(self, total: int, **options: object) -> None:
        self.total, self.done, self.closed = total, 0, False
        made.append(self)

    def update(self, count: int) -> None:
        self.done += count

    def close(self) -> None:
        self.closed = True


made: list[Bar] = []


def test_a_bar_counts_prompts(llm, capsys):
    made.clear()
    for use in (False, True, Bar):  # without a terminal True shows nothing
        assert len(llm.generate(PROMPTS, GREEDY, use_tqdm=use)) == 3
    assert capsys.readouterr() == ("", "")
    assert [(bar.total, bar.done, bar.closed) for bar in made] == [(3, 3, True)]
    with pytest.raises(RequestError, match="Prompt 0 has no tokens"):
        llm.generate([[]], GREEDY, use_tqdm=Bar)
    assert made[-1].closed


def test_what_makes_no_bar_is_refused(llm):
    with pytest.raises(RequestError, match="use_tqdm is 5; allowed are True, False and"):
        llm.generate(PROMPTS, GREEDY, use_tqdm=5)
