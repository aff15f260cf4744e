"""Who closes the connection is no longer computed for; who closes the server tells everybody."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx
import pytest

from lm_offload import __version__
from tests.server.conftest import served

LONG = {"model": "demo", "prompt": "x", "max_tokens": 250, "ignore_eos": True}
WAIT_S = 60  # only a failing test waits so long


class Gate:
    """Holds the engine before a sweep until it is opened; tells when nothing is left to do."""

    def __init__(self, worker, monkeypatch, free_steps: int):
        self.reached, self.opened, self.idle = Event(), Event(), Event()
        self.steps = 0
        engine = worker.llm._engine
        step = engine.step

        def held():
            self.steps += 1
            if self.steps > free_steps:
                self.reached.set()
                assert self.opened.wait(WAIT_S)
            return step()

        monkeypatch.setattr(engine, "step", held)


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_whose_client_goes_away_is_cancelled(chatty, monkeypatch, stream):
    with served(chatty, api_key=None) as (worker, address):
        httpx.post(f"{address}/v1/completions", json={**LONG, "max_tokens": 1})
        gate = Gate(worker, monkeypatch, free_steps=3)
        cancelled = Event()
        cancel = worker.cancel
        monkeypatch.setattr(worker, "cancel", lambda tickets: (cancel(tickets), cancelled.set()))
        with (
            httpx.Client(timeout=WAIT_S) as client,
            pytest.raises(httpx.ReadTimeout),
            client.stream(
                "POST", f"{address}/v1/completions", json={**LONG, "stream": stream}, timeout=1
            ) as answer,
        ):
            answer.read()
        assert gate.reached.wait(WAIT_S)
        assert cancelled.wait(WAIT_S)
        gate.opened.set()
        again = httpx.post(f"{address}/v1/completions", json={**LONG, "max_tokens": 2})
        assert again.json()["usage"]["completion_tokens"] == 2
        assert gate.steps < 20  # of 250 and more


def test_those_under_way_are_told_when_the_server_closes(chatty, monkeypatch):
    with ThreadPoolExecutor(2) as pool, served(chatty, api_key=None) as (worker, address):
        httpx.post(f"{address}/v1/completions", json={**LONG, "max_tokens": 1})
        gate = Gate(worker, monkeypatch, free_steps=2)
        whole, stream = (
            pool.submit(
                httpx.post,
                f"{address}/v1/completions",
                json={**LONG, "stream": streams},
                timeout=WAIT_S,
            )
            for streams in (False, True)
        )
        assert gate.reached.wait(WAIT_S)
        worker.close()
        gate.opened.set()
        assert whole.result().status_code == 500
        assert "closing" in whole.result().json()["error"]["message"]
        assert "closing" in stream.result().text
        assert httpx.get(f"{address}/health").status_code == 503
        assert httpx.get(f"{address}/ping").status_code == 503
        late = httpx.post(f"{address}/v1/completions", json=LONG)
        assert "closing" in late.json()["error"]["message"]


def test_health_and_metrics_need_no_key(http, address):
    assert httpx.get(f"{address}/health").status_code == 200
    assert httpx.get(f"{address}/ping").status_code == 200
    assert httpx.post(f"{address}/ping").status_code == 200
    assert httpx.get(f"{address}/version").json() == {"version": __version__}
    asked = {"model": "demo", "prompt": "import re", "max_tokens": 5, "temperature": 0}
    http.post("/v1/completions", json={**asked, "ignore_eos": True})
    text = httpx.get(f"{address}/metrics").text
    counts = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert float(counts["lm_offload_prefill_tokens_total"]) >= 1
    assert float(counts["lm_offload_decode_tokens_total"]) >= 4
    assert float(counts["lm_offload_requests"]) == 0
    assert float(counts["lm_offload_time_to_first_token_seconds_count"]) >= 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal(number: signal.Signals, chatty: Path) -> None:
    options = ["--port", "0", "--context-len", "64", "--max-running", "2", "--json"]
    environment = {**os.environ, "LM_OFFLOAD_API_KEY": "secret"}
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "lm_offload",
            "serve",
            str(chatty),
            "--served-model-name",
            "m",
            *options,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        where = json.loads(process.stdout.readline())
        assert where["model"] == "m"
        headers = {"Authorization": "Bearer secret"}
        found = httpx.get(f"{where['url']}/models", headers=headers, timeout=WAIT_S)
        assert found.json()["data"][0]["max_model_len"] == 64
        assert httpx.get(f"{where['url']}/models", timeout=WAIT_S).status_code == 401
        process.send_signal(number)
        _, errors = process.communicate(timeout=WAIT_S)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
