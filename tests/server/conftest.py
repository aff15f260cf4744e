"""A server on a free port of this machine, over the demo model with a chat template."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import httpx
import pytest
from openai import OpenAI

from lm_offload import LLM, Workload
from lm_offload.server.app import Server, make_app
from lm_offload.server.listener import Listener, open_socket
from lm_offload.server.metrics import Metrics
from lm_offload.server.parsers import parsers_for
from lm_offload.server.worker import Worker
from tests.cli.conftest import chatty
from tests.engine.harness import PROFILE

__all__ = ["chatty"]
CONTEXT_LEN, MAX_RUNNING, MAX_WAITING = 256, 3, 8
KEY = "open sesame"


@contextmanager
def served(folder: Path, api_key: str | None = KEY, **options) -> Iterator[tuple[Worker, str]]:
    """The worker and the address of its routes."""
    half = (CONTEXT_LEN // 2,) * MAX_RUNNING
    workload = Workload(half, half, may_end_early=True)
    with LLM(folder, cpu_memory="40MiB", threads=1, **options) as llm:
        llm.profile = PROFILE
        metrics = Metrics()
        worker = Worker(llm, workload, metrics, MAX_WAITING)
        parsers = parsers_for(llm.tokenizer)
        server = Server(worker, metrics, "demo", CONTEXT_LEN, parsers, api_key)
        thread = Thread(target=worker.run)
        thread.start()
        listening = open_socket("127.0.0.1", 0)
        try:
            with Listener(make_app(server), listening):
                yield worker, f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            worker.close()
            thread.join()


@pytest.fixture(scope="module")
def address(chatty: Path) -> Iterator[str]:
    with served(chatty) as (_, address):
        yield address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def http(address: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=address, headers=headers, timeout=60) as client:
        yield client
