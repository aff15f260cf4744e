"""What serving costs: tokens per second by HTTP against those of the same prompts by one call.

Both in turns, on the embedded demo model, all of it in memory: its sweeps take a millisecond or
two, so what HTTP, JSON and detokenization take shows as it would with no larger model. Clients are
a process of their own on the same cores::

    python -m benchmarks.bench_server --json out.json
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from threading import Thread
from typing import NamedTuple

import httpx

from benchmarks.entry import result_parser, run
from benchmarks.peers.protocol import make_prompts
from benchmarks.result import Row, report
from benchmarks.round_ratio import with_interval
from lm_offload import LLM, SamplingParams, Workload
from lm_offload.demo import demo_path
from lm_offload.server.app import Server, make_app
from lm_offload.server.listener import Listener, open_socket
from lm_offload.server.metrics import Metrics
from lm_offload.server.parsers import parsers_for
from lm_offload.server.worker import Worker

PROMPT_LEN, GEN_LEN = 32, 128


class Served(NamedTuple):
    """What the clients saw of one round."""

    run_s: float
    ttft_s: list[float]  # of each client


def main() -> None:
    """A row for each number of clients, then one JSON line."""
    parser = result_parser(__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    rows = (measured(count, args.rounds, args.threads) for count in args.clients)
    report("server", rows, args.json, show=format_row)


def format_row(row: Row) -> str:
    """A line for each number of clients."""
    return (
        f"{row['clients']:>3} clients: {row['http_tokens_per_s']:.0f} tok/s by HTTP, "
        f"{row['ratio']:.2f} of {row['python_tokens_per_s']:.0f} by one call, first token after "
        f"{row['http_ttft_s'] * 1e3:.0f} ms"
    )


def measured(clients: int, rounds: int, threads: int) -> Row:
    """Rounds of both in turns; medians, and the ratio of the two of a round."""
    workload = Workload((PROMPT_LEN,) * clients, (GEN_LEN,) * clients)
    prompts = make_prompts(demo_path(), clients, PROMPT_LEN, seed=clients)
    with (
        LLM(demo_path(), threads=threads, speculation="off", prefix_sharing=False) as llm,
        ProcessPoolExecutor(1, get_context("spawn")) as others,
    ):
        pairs = []
        for _ in range(rounds + 1):
            by_call_s = called_s(llm, prompts)
            with serving(llm, workload) as url:
                pairs.append((by_call_s, others.submit(ask_all, url, prompts).result()))
        return row_of(clients, pairs[1:])  # the first round loads and compiles


def row_of(clients: int, pairs: list[tuple[float, Served]]) -> Row:
    """Tokens per second of the medians; how HTTP compares within a round."""
    tokens = clients * GEN_LEN
    ratios = [call_s / http.run_s for call_s, http in pairs]
    return {
        "clients": clients,
        "prompt_len": PROMPT_LEN,
        "gen_len": GEN_LEN,
        "python_tokens_per_s": tokens / statistics.median(call_s for call_s, _ in pairs),
        "http_tokens_per_s": tokens / statistics.median(http.run_s for _, http in pairs),
        "http_ttft_s": statistics.median(one for _, http in pairs for one in http.ttft_s),
        **with_interval("ratio", ratios),
    }


def called_s(llm: LLM, prompts: list[list[int]]) -> float:
    """Seconds of all prompts in one call."""
    start_s = time.perf_counter()
    llm.generate(prompts, SamplingParams(max_tokens=GEN_LEN, ignore_eos=True))
    return time.perf_counter() - start_s


@contextmanager
def serving(llm: LLM, workload: Workload) -> Iterator[str]:
    """The address of the model's completions."""
    metrics = Metrics()
    worker = Worker(llm, workload, metrics, 0)
    thread = Thread(target=worker.run)
    thread.start()
    listening = open_socket("127.0.0.1", 0)
    app = make_app(
        Server(worker, metrics, "demo", workload.most_tokens, parsers_for(llm.tokenizer))
    )
    try:
        with Listener(app, listening):
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1/completions"
    finally:
        worker.close()
        thread.join()


def ask_all(url: str, prompts: list[list[int]]) -> Served:
    """Every prompt by a client of its own, all at once, streamed; in a process of its own."""
    return asyncio.run(_ask_all(url, prompts))


async def _ask_all(url: str, prompts: list[list[int]]) -> Served:
    async with httpx.AsyncClient(timeout=None) as client:
        await client.get(url.replace("completions", "models"))  # imports and connects
        start_s = time.perf_counter()
        firsts_s = await asyncio.gather(*(_ask(client, url, prompt) for prompt in prompts))
        end_s = time.perf_counter()
    return Served(end_s - start_s, [first_s - start_s for first_s in firsts_s])


async def _ask(client: httpx.AsyncClient, url: str, prompt: list[int]) -> float:
    """When the first piece came; the rest is read to its end."""
    body = {"model": "demo", "prompt": prompt, "max_tokens": GEN_LEN, "ignore_eos": True}
    body |= {"temperature": 0, "stream": True}
    first_s = 0.0
    async with client.stream("POST", url, json=body) as answer:
        answer.raise_for_status()
        async for _ in answer.aiter_raw():
            first_s = first_s or time.perf_counter()
    return first_s


if __name__ == "__main__":
    run(main)
