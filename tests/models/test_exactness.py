"""Every model type against transformers: same logits, same greedy tokens, whatever the batch."""

import pytest
import torch
from safetensors.torch import save_file

from lm_offload.arch.accounting import workspace_floats
from tests.models.harness import PagedModel, load_tensors
from tests.models.variants import LONGROPE, VARIANTS
from tests.toy import (
    EVERY_TYPE,
    MAX_POSITIONS,
    VOCAB_SIZE,
    WINDOW,
    load_oracle,
    make_toy_checkpoint,
)

PROMPT_LENGTHS = {0: 37, 1: 1, 2: 18}
CHUNK, NEW_TOKENS, TOLERANCE = 7, 8, 1e-4


@pytest.fixture(scope="module", params=VARIANTS)
def checkpoint(request, tmp_path_factory):
    model_type, options = VARIANTS[request.param]
    folder = make_toy_checkpoint(tmp_path_factory.mktemp("toy"), model_type, **options)
    return folder, load_oracle(folder)


def prompts():
    generator = torch.Generator().manual_seed(3)
    return {
        number: torch.randint(3, VOCAB_SIZE, (length,), generator=generator).tolist()
        for number, length in PROMPT_LENGTHS.items()
    }


@torch.no_grad()
def oracle_logits(oracle, tokens):
    return oracle(torch.tensor([tokens])).logits[0]


def test_whole_prompt(checkpoint):
    folder, oracle = checkpoint
    tokens = prompts()[0]
    assert len(tokens) > 2 * WINDOW
    logits = PagedModel(folder).sweep({0: tokens})[0]
    torch.testing.assert_close(logits, oracle_logits(oracle, tokens), atol=TOLERANCE, rtol=0)


def test_ragged_generation_with_chunked_prefill(checkpoint):
    """Sequences join at different times; prefill chunks and decode rows share their sweeps."""
    folder, oracle = checkpoint
    model, tokens = PagedModel(folder), prompts()
    logits = {number: torch.empty(0, VOCAB_SIZE) for number in tokens}
    for sweep in range(6 + NEW_TOKENS):
        work = {n: next_tokens(tokens[n], len(logits[n]), n) for n in tokens if sweep >= n}
        for n, new in model.sweep({n: new for n, new in work.items() if new}).items():
            logits[n] = torch.cat([logits[n], new])
            if len(logits[n]) == len(tokens[n]):
                tokens[n].append(int(new[-1].argmax()))
    for n in tokens:
        done = tokens[n][: len(logits[n])]
        assert len(done) >= PROMPT_LENGTHS[n] + NEW_TOKENS - 1
        expected = oracle_logits(oracle, done)
        torch.testing.assert_close(logits[n], expected, atol=TOLERANCE, rtol=0)
        greedy = expected[PROMPT_LENGTHS[n] - 1 :].argmax(dim=1).tolist()
        assert tokens[n][PROMPT_LENGTHS[n] :] == greedy
    assert len({t for n in tokens for t in tokens[n][PROMPT_LENGTHS[n] :]}) > 1


def next_tokens(tokens, done, number):
    prompt_left = PROMPT_LENGTHS[number] - done
    return tokens[done : done + (min(CHUNK, prompt_left) if prompt_left > 0 else 1)]


@pytest.mark.parametrize("rows", [1, 5, 37])
def test_workspace_peak_is_what_accounting_says(checkpoint, rows):
    folder, _ = checkpoint
    model = PagedModel(folder)
    model.sweep({0: prompts()[0][:rows]})
    most = workspace_floats(model.config, rows, rows)
    assert model.workspace.peak == most or (model.config.is_moe and model.workspace.peak < most)


@pytest.mark.parametrize("model_type", EVERY_TYPE)
def test_a_row_does_not_depend_on_its_neighbours(tmp_path, model_type):
    folder = make_toy_checkpoint(tmp_path, model_type)
    alone, together = PagedModel(folder), PagedModel(folder)
    everyone = prompts()
    expected = alone.sweep({2: everyone[2]})[2]
    together.sweep({0: everyone[0], 2: everyone[2][:5]})
    rest = together.sweep({1: everyone[1], 2: everyone[2][5:]})[2]
    assert torch.equal(rest, expected[5:])


@pytest.mark.parametrize("model_type", ["gemma2", "opt"])
def test_checkpoint_of_a_base_model(tmp_path, model_type):
    """Saved without its head, a model's tensor names lack `model.` in front."""
    folder = make_toy_checkpoint(tmp_path, model_type)
    tokens = prompts()[2]
    expected = PagedModel(folder).sweep({0: tokens})[0]
    tensors = {name.removeprefix("model."): t for name, t in load_tensors(folder).items()}
    save_file(tensors, folder / "model.safetensors")
    assert torch.equal(PagedModel(folder).sweep({0: tokens})[0], expected)


LENGTH_DEPENDENT = [
    ("llama", {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}, MAX_POSITIONS),
    ("llama", LONGROPE, 128),
    ("phi3", LONGROPE, 128),
]


@pytest.mark.parametrize(("model_type", "parameters", "window"), LENGTH_DEPENDENT)
def test_sequences_planned_beyond_the_original_window(tmp_path, model_type, parameters, window):
    """A planned length has the effect of a call of that length in transformers."""
    overrides = {} if model_type == "llama" else {"original_max_position_embeddings": 128}
    folder = make_toy_checkpoint(tmp_path, model_type, rope_parameters=parameters, **overrides)
    generator = torch.Generator().manual_seed(0)
    long = torch.randint(3, VOCAB_SIZE, (window + 9,), generator=generator).tolist()
    short = long[:20]
    model = PagedModel(folder, lengths={0: window + 9, 1: window})
    first = model.sweep({0: long[:100], 1: short})
    rest = model.sweep({0: long[100:]})[0]
    oracle = load_oracle(folder)
    expected = oracle_logits(oracle, long)
    torch.testing.assert_close(torch.cat([first[0], rest]), expected, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(first[1], oracle_logits(oracle, short), atol=TOLERANCE, rtol=0)
    assert (expected[:20] - first[1]).abs().max() > 100 * TOLERANCE
