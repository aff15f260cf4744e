"""With --json every verb prints JSON on standard output and nothing else, progress included."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.reference import verbs

SHORT = ["--max-tokens", "2"]
TINY = ["--prompt-len", "4", "--gen-len", "2"]
LINES = {
    "version": [],
    "doctor": [],
    "demo": SHORT,
    "generate": ["MODEL", "--prompt", "a", "--prompt", "b", "--show-plan", *SHORT],
    "batch": ["MODEL", "--input", "REQUESTS", "--served-model-name", "m"],
    "chat": ["MODEL", "--context-len", "64", *SHORT],
    "inspect": ["MODEL"],
    "plan": ["MODEL", "--cpu-memory", "12MiB", *TINY],
    "bench": ["MODEL", "--cpu-memory", "12MiB", *TINY],
    "eval": ["MODEL", "--tokens", "64", "--context", "32"],
    "simulate": ["--config", "opt-6.7b", "--machine", "t4-208gb", "--schedule", "flexgen"],
    "quantize": ["MODEL", "--format", "int8"],
    "cache list": [],
    "cache verify": [],
    "cache clear": ["--yes"],
    "cache prefixes": ["FOLDER"],
    "cache clear-prefixes": ["FOLDER", "--yes"],
}


ELSEWHERE = {"profile", "serve"}  # whose own tests look at their JSON
REQUEST = {"model": "m", "prompt": "a", "max_tokens": 2}


def test_every_verb_is_here() -> None:
    assert set(LINES) | ELSEWHERE == set(verbs())


@pytest.mark.parametrize("verb", LINES)
def test_standard_output_is_json_alone(
    verb: str, run: Run, chatty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\n"))
    monkeypatch.setenv("LM_OFFLOAD_CACHE", str(tmp_path))
    requests = tmp_path / "requests.jsonl"
    requests.write_text(json.dumps({"custom_id": "a", "url": "/v1/completions", "body": REQUEST}))
    places = {"MODEL": str(chatty), "FOLDER": str(tmp_path), "REQUESTS": str(requests)}
    words = [places.get(word, word) for word in LINES[verb]]
    done = run(*verb.split(), *words, "--json")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(records) == (2 if verb == "generate" else 1)
    assert all(isinstance(record, dict) for record in records)
