"""Perplexity and divergence against transformers, for models that fit and models that stream."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lm_offload import LLM
from lm_offload.engine.eval_file import row_file
from lm_offload.engine.eval_windows import Window, cut_text
from lm_offload.engine.evaluate import compare, measure, measure_reference, predict
from lm_offload.errors import RequestError, StorageError
from tests.toy import MAX_POSITIONS, VOCAB_SIZE, load_oracle, make_toy_checkpoint

BOS = 1


class Letters:
    """A tokenizer of single letters, with or without a token in front."""

    def __init__(self, prefix: list[int]) -> None:
        self.prefix = prefix

    def encode(self, text: str) -> list[int]:
        return [*self.prefix, *map(ord, text)]


def windows_of(lengths: list[int], seed: int = 0) -> list[Window]:
    draw = torch.Generator().manual_seed(seed)
    texts = [torch.randint(0, VOCAB_SIZE, (n + 1,), generator=draw).tolist() for n in lengths]
    return [Window(text[:-1], text[4:] if len(text) > 9 else text[1:]) for text in texts]


WINDOWS = windows_of([40, 5, 130, 1])


def oracle_log_probs(folder: Path) -> torch.Tensor:
    """Of every prediction of WINDOWS, [rows, V]."""
    oracle = load_oracle(folder)
    with torch.no_grad():
        tables = [oracle(torch.tensor([w.token_ids])).logits[0].log_softmax(-1) for w in WINDOWS]
    return torch.cat([table[w.first_row :] for table, w in zip(tables, WINDOWS, strict=True)])


TARGETS = torch.tensor([token for window in WINDOWS for token in window.targets])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models of one vocabulary."""
    root = tmp_path_factory.mktemp("toys")
    return (
        make_toy_checkpoint(root / "one", "llama"),
        make_toy_checkpoint(root / "other", "llama", seed=1),
    )


@given(
    text=st.text("abc", min_size=2, max_size=50),
    context=st.integers(1, 12),
    most=st.integers(2, 60),
    prefix=st.sampled_from([[], [BOS]]),
)
def test_every_token_but_the_first_is_predicted_once(text, context, most, prefix):
    windows = cut_text(Letters(prefix), text, context, most)
    wanted = [ord(letter) for letter in text[:most]][1 - len(prefix) :]
    assert [token for window in windows for token in window.targets] == wanted
    for window in windows:
        assert len(window.token_ids) <= context
        assert list(window.token_ids[: len(prefix)]) == prefix
        known = [*window.token_ids[window.first_row + 1 :], window.targets[-1]]
        assert known == list(window.targets)
    if not prefix:
        for before, window in pairwise(windows):
            assert window.token_ids[0] == before.targets[-1]


@pytest.mark.parametrize(("text", "context"), [("", 8), ("a", 8), ("ab", 0)])
def test_nothing_to_predict_is_refused(text, context):
    with pytest.raises(RequestError, match=r"give more|allowed is 1 and more"):
        cut_text(Letters([]), text, context, 99)


@pytest.mark.parametrize("budget", ["64MiB", "400KiB"])
def test_perplexity_is_that_of_transformers(folders, budget):
    with LLM(folders[0], cpu_memory=budget, threads=1) as llm:
        quality = measure(llm, WINDOWS)
        assert bool(llm.plan.streamed) is (budget == "400KiB")
    found = oracle_log_probs(folders[0]).gather(1, TARGETS.unsqueeze(1))
    assert quality.tokens == len(TARGETS)
    assert quality.perplexity == pytest.approx(float(found.double().mean().neg().exp()), rel=1e-4)


def test_divergence_is_that_of_the_distributions(folders, tmp_path):
    with row_file(tmp_path, len(TARGETS), VOCAB_SIZE) as file:
        with LLM(folders[0], cpu_memory="64MiB", threads=1) as llm:
            reference = measure_reference(llm, WINDOWS, file)
            same = compare(llm, WINDOWS, file)
        with LLM(folders[1], cpu_memory="400KiB", threads=1) as llm:
            found = compare(llm, WINDOWS, file)
            assert found.nats == measure(llm, WINDOWS).nats
        assert not any(tmp_path.iterdir())
    assert (reference.mean_kl, reference.top1_agreement) == (None, None)
    assert same == replace(reference, mean_kl=0, top1_agreement=1)
    p, q = (oracle_log_probs(folder).double() for folder in folders)
    kl = torch.nn.functional.kl_div(q, p, log_target=True, reduction="batchmean")
    assert found.mean_kl == pytest.approx(float(kl), rel=1e-4)
    agreed = (p.argmax(1) == q.argmax(1)).double().mean()
    assert found.top1_agreement == pytest.approx(float(agreed))


def test_a_window_may_fill_the_context(folders):
    (window,) = windows_of([MAX_POSITIONS])
    with LLM(folders[0], cpu_memory="64MiB", threads=1) as llm:
        assert measure(llm, [window]).tokens == len(window.targets)
        with pytest.raises(RequestError, match=f"Prompt 0 has {MAX_POSITIONS + 1} tokens"):
            measure(llm, windows_of([MAX_POSITIONS + 1]))


def test_what_is_not_predicted_needs_no_logits(folders):
    (whole,) = windows_of([200])
    end = replace(whole, targets=whole.targets[-3:])
    with LLM(folders[0], cpu_memory="64MiB", threads=1) as llm:
        measure(llm, [end])
        assert len(llm.stats.sweeps) == 1
        found: list[int] = []
        predict(llm, [end, whole], lambda predictions: found.append(len(predictions.targets)))
    assert sum(found) == 3 + len(whole.targets)


def test_rows_come_back_as_they_were_written(tmp_path, monkeypatch):
    monkeypatch.setattr("lm_offload.engine.eval_file.DROP_BYTES", 100)
    rows = torch.randn(6, 10)
    with row_file(tmp_path, 6, 10) as file:
        file.write(4, rows[4:])
        file.write(0, rows[:4])
        assert torch.equal(file.read(3, 3), rows[3:])


def test_a_full_disk_is_said_before_anything_runs(tmp_path):
    with pytest.raises(StorageError, match="compare fewer tokens"), row_file(tmp_path, 1, 1 << 58):
        pass
    assert not any(tmp_path.iterdir())
