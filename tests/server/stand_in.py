"""A server whose model says what a test wants, a few characters at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from fastapi.testclient import TestClient
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from lm_offload.demo import demo_path
from lm_offload.engine.open_run import Delta
from lm_offload.engine.tokenizer import Tokenizer, load_tokenizer
from lm_offload.errors import LMOffloadError
from lm_offload.server.app import Server, make_app
from lm_offload.server.metrics import Metrics
from lm_offload.server.parsers import parsers_for


def tokenizer_with(folder: Path, template: str, special: Iterable[str] = ()) -> Tokenizer:
    """The demo model's tokenizer with a chat template and some more special tokens."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(demo_path() / name, folder / name)
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    backend.add_special_tokens([AddedToken(text, special=True) for text in special])
    backend.save(str(folder / "tokenizer.json"))
    declared = json.loads((folder / "tokenizer_config.json").read_text())
    declared["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(declared))
    return load_tokenizer(folder)


@dataclass
class StandIn:
    """A worker that answers each prompt with the same text."""

    tokenizer: Tokenizer
    text: str = ""
    step: int = 3  # characters of a delta
    finish_reason: str = "stop"
    error: LMOffloadError | None = None  # what ends answers after their first delta
    prompts: list[str] = field(default_factory=list)
    params: list = field(default_factory=list)
    most = 8

    @property
    def llm(self) -> SimpleNamespace:
        return SimpleNamespace(tokenizer=self.tokenizer)

    def has_room(self, count: int) -> bool:
        return True

    def submit(self, tickets) -> None:
        for ticket in tickets:
            prompt = ticket.prompt()
            self.prompts.append(self.tokenizer.decode_all(prompt))
            self.params.append(ticket.params)
            for delta in self._deltas(prompt):
                ticket.deliver(delta)
                if self.error is not None:
                    ticket.deliver(self.error)

    def _deltas(self, prompt: list[int]) -> Iterable[Delta]:
        starts = range(0, max(len(self.text), 1), self.step)
        for start in starts:
            reason = self.finish_reason if start == starts[-1] else None
            piece = self.text[start : start + self.step]
            yield Delta(0, 0, piece, [1], [], reason, len(prompt), 0, None, prompt)

    def cancel(self, tickets) -> None:
        pass


def client_of(worker: StandIn, *parsers: str) -> TestClient:
    """Asks a server over this worker, with parsers of these names."""
    found = parsers_for(worker.tokenizer, *parsers)
    return TestClient(make_app(Server(worker, Metrics(), "m", 64, found)))


def chat(client: TestClient, **more) -> dict:
    """The choice of a whole answer."""
    answer = client.post("/v1/chat/completions", json=_body(more))
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]


def streamed(client: TestClient, **more) -> tuple[dict, list[dict]]:
    """The message that the deltas of a stream join to, and those deltas."""
    answer = client.post("/v1/chat/completions", json=_body(more | {"stream": True}))
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert events.pop() == "[DONE]"
    choices = [json.loads(event)["choices"][0] for event in events]
    message: dict = {}
    for choice in choices:
        for key, value in choice["delta"].items():
            message[key] = message[key] + value if key in message else value
    return message | {"finish_reason": choices[-1]["finish_reason"]}, choices


def _body(more: dict) -> dict:
    return {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **more}
