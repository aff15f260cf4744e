"""One engine of a plan in which something is switched on and off from turn to turn.

Two engines with the same plan differ by 10 % in one process, so both ways run on the same memory.
"""

from __future__ import annotations

import random
import statistics
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from benchmarks.peers.protocol import FIRST_PLAIN_TOKEN_ID
from benchmarks.round_ratio import quotients, with_interval
from lm_offload import LLM, SamplingParams
from lm_offload.engine.cpu_machinery import build_cpu_machinery
from lm_offload.engine.engine import Engine
from lm_offload.kvcache.swap_choice import SwapChoice, swap_never
from lm_offload.pipeline.trace import NullTrace
from lm_offload.plan import Plan
from lm_offload.sequence import Sequence

if TYPE_CHECKING:
    from lm_offload.kernels.base import Kernels

Row = dict[str, Any]
Turn = Callable[[bool], float]  # with the feature or without: seconds


@contextmanager
def engine_of(
    llm: LLM, plan: Plan, *, kernels: object | None = None, swap_pays: SwapChoice = swap_never
) -> Iterator[Engine]:
    """An engine that runs a plan, with kernels or a choice of the benchmark's own."""
    llm.prepare(plan)
    machinery = build_cpu_machinery(
        llm.files,
        plan,
        cast("Kernels", kernels or llm.kernels),
        NullTrace(),
        True,
        lambda done_bytes, total_bytes: None,
        swap_pays=swap_pays,
    )
    engine = Engine(machinery, (), lambda sequence, token: False)
    try:
        yield engine
    finally:
        engine.close()


def sequences_of(
    llm: LLM, count: int, prompt_len: int, max_tokens: int, *, computed: int = 0
) -> list[Sequence]:
    """Random prompts, greedy, the same at each call; `computed` tokens count as in the cache."""
    draw, vocab_size = random.Random(0), llm.files.config.vocab_size
    params = SamplingParams(max_tokens=max_tokens, ignore_eos=True)
    return [
        Sequence(
            index,
            array(
                "i", (draw.randrange(FIRST_PLAIN_TOKEN_ID, vocab_size) for _ in range(prompt_len))
            ),
            params,
            num_computed=computed,
        )
        for index in range(count)
    ]


def compared(turn: Turn, rounds: int) -> Row:
    """Seconds of both ways and how much faster the feature makes it, after a round not counted."""
    turn(True), turn(False)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for index in range(rounds):
        for switched_on in (True, False) if index % 2 else (False, True):
            seconds[switched_on].append(turn(switched_on))
    return {
        **with_interval("speedup", quotients(seconds[False], seconds[True])),
        "with_s": statistics.median(seconds[True]),
        "without_s": statistics.median(seconds[False]),
        "rounds": rounds,
    }
