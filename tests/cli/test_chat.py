"""Conversations: turns, commands, and what Ctrl-C ends."""

from __future__ import annotations

import io
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lm_offload import LLM, SamplingParams
from lm_offload.cli.conversation import interruptible
from lm_offload.cli.interrupt import Interruption
from tests.cli.conftest import Done, Run

Talk = Callable[..., Done]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def talk(run: Run, chatty: Path, monkeypatch: pytest.MonkeyPatch) -> Talk:
    """`chat` with these lines as its input."""

    def run_chat(lines: str, *arguments: str, stdin: type[io.StringIO] = io.StringIO) -> Done:
        monkeypatch.setattr(sys, "stdin", stdin(lines))
        common = ["chat", str(chatty), "--max-tokens", "4", "--context-len", "64"]
        return run(*common, *arguments)

    return run_chat


def answers(done: Done) -> list[str]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["content"] for line in done.stdout.splitlines()]


def test_each_answer_sees_the_turns_before_it(talk: Talk, chatty: Path) -> None:
    first, second = answers(talk("one\n\ntwo\n", "--json", "--system", "Short."))
    messages = [
        {"role": "system", "content": "Short."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "two"},
    ]
    with LLM(chatty) as llm:
        assert llm.chat(messages, SamplingParams(max_tokens=4))[0].text == second


def test_reset_forgets_and_exit_ends(talk: Talk) -> None:
    first, again = answers(talk("one\n/reset\none\n/exit\nnever asked\n", "--json"))
    assert first == again


def test_text_is_streamed_to_standard_output(talk: Talk) -> None:
    (answer,) = answers(talk("one\n", "--json"))
    done = talk("one\n", "-q")
    assert done.stdout == answer + "\n"
    assert done.stderr == ""


def test_a_model_without_template_is_refused_before_loading(run: Run, demo: Path) -> None:
    done = run("chat", str(demo))
    assert done.returncode == 7
    assert "no chat template" in done.stderr


def test_a_question_beyond_the_context_is_one_sentence(talk: Talk) -> None:
    done = talk("word " * 3000 + "\n")
    assert done.returncode == 7
    assert "context is 2048" in done.stderr


def test_a_terminal_keeps_the_chat_after_a_bad_question(talk: Talk) -> None:
    done = talk("word " * 3000 + "\none\n", "--json", stdin=Terminal)
    assert len(answers(done)) == 1
    assert "/reset" in done.stderr


def test_the_first_interrupt_ends_the_answer() -> None:
    shown: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    for part in interruptible(iter("abc")):
        shown.append(part)
        signal.raise_signal(signal.SIGINT)
    assert shown == ["a"]
    assert signal.getsignal(signal.SIGINT) is before


def test_the_second_interrupt_does_not_wait_for_the_sweep() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_at_the_prompt_exits_with_130(
    run: Run, chatty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(prompt: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupted)
    assert run("chat", str(chatty)).returncode == 130
