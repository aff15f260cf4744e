"""A made-up runner that answers, is silent, fails or dies."""

from __future__ import annotations

import os
import sys

import pytest
from benchmarks.peers.protocol import Generation, Peer, run_peer
from benchmarks.peers.session import Session, SessionError

RUNNER = """
import json, sys, time
print("a library's own words")
print(json.dumps({"error": None, "version": "1"}), flush=True)
for line in sys.stdin:
    count = int(line)
    if count == 13:
        sys.exit("no more memory")
    if count == 14:
        time.sleep(60)
    error = "ValueError: odd" if count == 15 else None
    print(json.dumps({"error": error, "tokens": count}), flush=True)
"""


@pytest.fixture
def session():
    with Session([sys.executable, "-c", RUNNER], os.environ, None, 5.0) as opened:
        yield opened


def test_it_generates_as_often_as_it_is_told(session):
    assert session.loaded["version"] == "1"
    assert [session.generate(count)["tokens"] for count in (4, 5)] == [4, 5]


@pytest.mark.parametrize(
    ("count", "told"), [(13, "exit 1: no more memory"), (15, "ValueError: odd")]
)
def test_a_runner_that_fails_says_why(session, count, told):
    with pytest.raises(SessionError) as raised:
        session.generate(count)
    assert str(raised.value) == told


def test_a_runner_that_is_silent_is_given_up():
    command = [sys.executable, "-c", RUNNER]
    with Session(command, os.environ, None, 5.0) as opened:
        opened._timeout_s = 0.2
        with pytest.raises(SessionError, match="timeout after 0 s"):
            opened.generate(14)


def test_a_runner_that_does_not_load_says_why():
    with (
        pytest.raises(SessionError, match="exit 1: too bad"),
        Session([sys.executable, "-c", "exit('too bad')"], os.environ, None, 5.0),
    ):
        pass


def test_the_protocol_of_a_runner(tmp_path, monkeypatch, capsys):
    (tmp_path / "config.json").write_text('{"vocab_size": 100}')

    def load(args):
        print("hidden")
        return lambda prompts, gen_len: Generation(0.0, 1.0, 3.0, [[7] * gen_len] * len(prompts))

    words = ["--model", str(tmp_path), "--work-dir", str(tmp_path), "--batch", "2"]
    monkeypatch.setattr(sys, "stdin", iter(["3\n", "5\n"]))
    assert run_peer(Peer("made up", lambda: "1", load), words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert '"decode_tokens_per_s": 2.0' in lines[1]  # 2 sequences, 2 steps, 2 seconds
    assert '"decode_tokens_per_s": 4.0' in lines[2]
