"""What the disk and the processor do in two decode sweeps, for the report's timeline.

::

    python -m benchmarks.bench_trace --model .checkpoints/llama-1.1b --cpu-memory 1280MiB \
        --json benchmarks/results/trace.json
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.entry import result_parser, run
from benchmarks.part_file import write_whole
from benchmarks.peers.protocol import make_prompts
from benchmarks.result import result_of
from lm_offload import LLM, SamplingParams

FIRST, LAST = 4, 5  # sweeps that are kept: the prefill and the first fill are past
RESOURCES = {1: "cpu", 2: "disk_read", 3: "disk_write", 4: "h2d", 5: "d2h", 6: "gpu"}
Event = dict[str, Any]


def main() -> None:
    """Generate some tokens, keep the events of two sweeps."""
    parser = result_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--cpu-memory", required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        with LLM(args.model, cpu_memory=args.cpu_memory, threads=args.threads, trace=file) as llm:
            prompts = make_prompts(args.model, args.batch, 8, seed=0)
            llm.generate(prompts, SamplingParams(max_tokens=LAST + 2, ignore_eos=True))
        events = json.loads(file.read_text())["traceEvents"]
    rows = rows_of([event for event in events if "ts" in event])
    print(f"{len(rows)} events of sweeps {FIRST} to {LAST}")
    if args.json:
        sizes = {"cpu_memory": args.cpu_memory, "batch": args.batch}
        write_whole(args.json, result_of("trace", rows, model=args.model.name, **sizes))


def rows_of(events: list[Event]) -> list[Event]:
    """What overlaps the time in which the processor works on the kept sweeps; times from its start.

    Raises ValueError where there is nothing of these sweeps.
    """
    inside = [
        event
        for event in events
        if event["cat"] == "compute" and FIRST <= event["args"]["sweep"] <= LAST
    ]
    start_us = min(event["ts"] for event in inside)
    stop_us = max(event["ts"] + event["dur"] for event in inside)
    clipped = ((max(event["ts"], start_us), event["ts"] + event["dur"], event) for event in events)
    return [
        {
            "resource": RESOURCES[event["tid"]],
            "kind": event["cat"],
            "name": event["name"],
            "sweep": event["args"]["sweep"],
            "start_us": round(begin - start_us, 1),
            "duration_us": round(min(end, stop_us) - begin, 1),
        }
        for begin, end, event in clipped
        if end > start_us and begin < stop_us
    ]


if __name__ == "__main__":
    run(main)
