"""Conversations with a model that reasons: what is shown, and what it is told of earlier turns."""

from __future__ import annotations

import json
import sys

import pytest
from rich.console import Console

from lm_offload import SamplingParams
from lm_offload.cli.conversation import Conversation, converse
from lm_offload.cli.progress import RunProgress

PLAIN, TAGS, CHANNELS = "{{ m }}", "{{ m }}</think>", "{{ m }}<|channel|>"
THOUGHT = ["<think>\nTwo", " and two.\n</thi", "nk>\n\nIt is", " 4."]
SAID = ["<|channel|>analysis<|message|>Two and two.<|end|><|start|>assistant<|chan"]
SAID += ["nel|>final<|message|>It is 4."]


class Model:
    """Answers with these pieces; its tokens are characters, those beyond 127 special."""

    def __init__(self, template: str, answer: list[str], special: str = ""):
        self.tokenizer = self
        self.chat_template, self.answer, self.special = template, answer, special
        self.asked: list[list[dict]] = []
        self.params: list[SamplingParams] = []

    def apply_chat_template(self, messages: list[dict]) -> list[int]:
        self.asked.append(messages)
        return [ord(letter) for letter in "assistant"]

    def encode_words(self, text: str) -> list[int]:
        return [128] if text == self.special else [ord(letter) for letter in text]

    def decode(self, token_ids: list[int]) -> str:
        return "".join(chr(token) for token in token_ids if token < 128)

    decode_all = decode

    def stream(self, prompt, params, on_sweep):
        self.params.append(params)
        yield from self.answer


def talk(model: Model, monkeypatch: pytest.MonkeyPatch, as_json: bool = False) -> None:
    lines = iter(["two and two?", "again?"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines, None) or end())
    with RunProgress(Console(quiet=True)) as progress:
        converse(Conversation(model, SamplingParams(), progress, None), as_json, interactive=False)


def end() -> str:
    raise EOFError


@pytest.mark.parametrize(
    ("template", "pieces", "special"), [(TAGS, THOUGHT, ""), (CHANNELS, SAID, "<|channel|>")]
)
def test_reasoning_is_neither_printed_nor_told_again(
    template, pieces, special, monkeypatch, capsys
):
    model = Model(template, pieces, special)
    talk(model, monkeypatch)
    assert capsys.readouterr().out == "It is 4.\nIt is 4.\n"
    assert model.asked[1][:2] == [
        {"role": "user", "content": "two and two?"},
        {"role": "assistant", "content": "It is 4."},
    ]
    assert model.params[0].skip_special_tokens == (not special)


def test_a_terminal_shows_reasoning_dimmed(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    talk(Model(TAGS, THOUGHT), monkeypatch)
    out = capsys.readouterr().out
    dimmed = "\x1b[2mTwo\x1b[0m\x1b[2m and two.\x1b[0m"
    assert out == f"{dimmed}\n\nIt is 4.\n" * 2


def test_json_has_both(monkeypatch, capsys):
    talk(Model(TAGS, THOUGHT), monkeypatch, as_json=True)
    first, _ = map(json.loads, capsys.readouterr().out.splitlines())
    wanted = {"role": "assistant", "content": "It is 4.", "reasoning_content": "Two and two."}
    assert first == wanted


def test_an_answer_that_ends_within_reasoning_says_nothing(monkeypatch, capsys):
    model = Model(TAGS, THOUGHT[:2])
    talk(model, monkeypatch)
    assert capsys.readouterr().out == "\n\n"
    assert model.asked[1][1] == {"role": "assistant", "content": ""}


def test_other_models_are_left_alone(monkeypatch, capsys):
    model = Model(PLAIN, THOUGHT)
    talk(model, monkeypatch)
    assert capsys.readouterr().out == f"{''.join(THOUGHT)}\n" * 2
