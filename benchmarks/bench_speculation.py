"""Drafts from the text itself against one token a sweep, at batch 1 with half of the checkpoint.

Both engines take the same prompts in turn, greedily, and must give the same tokens. A second pair
of runs spoils every draft before it is verified, so that none is ever accepted: what that costs is
the price of drafts where they do not help. Prompts are Python functions with their first lines
once more (`code`, for the demo model), or what the model itself said before (`loop`, for random
weights, with a negative frequency penalty, or their text would not repeat itself)::

    python -m benchmarks.bench_speculation --model .checkpoints/llama-1.1b --prompts loop
    python -m benchmarks.bench_speculation --prompts code --gen-len 96

With `--draft-model` a third engine keeps that model in the same budget, and `text` prompts do not
repeat themselves. `--draft-layers` makes one of the first layers of the checkpoint itself. A
checkpoint that was quantized to int4 is about the best draft of itself that can be had::

    lm-offload quantize src/lm_offload/demo --format int4:64 --output demo-int4
    python -m benchmarks.bench_speculation --prompts text --draft-model demo-int4 --budget-frac 0.8
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from collections.abc import Sequence as Items
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from benchmarks.entry import result_parser, run
from benchmarks.result import report
from benchmarks.round_ratio import quotients, with_interval
from benchmarks.speculation_case import Case, Total, generated, open_llm
from benchmarks.speculation_prompts import code_prompts, loop_prompts, text_prompts
from benchmarks.testbed import collect
from benchmarks.weight_files import largest_weight_file
from lm_offload.demo import demo_path
from lm_offload.engine.draft_model import DraftModel
from lm_offload.engine.proposers import Draft, Wanted
from lm_offload.plan import Plan
from lm_offload.speculation.prompt_lookup import PromptLookup


def main() -> None:
    """Measure one case and print a row for each way, then one JSON line."""
    parser = result_parser(__doc__)
    parser.add_argument("--model", type=Path, default=demo_path())
    parser.add_argument("--prompts", choices=("code", "loop", "text"), default="code")
    drafts = parser.add_mutually_exclusive_group()
    drafts.add_argument("--draft-model", type=Path)
    drafts.add_argument("--draft-layers", type=int, help="of the checkpoint itself")
    parser.add_argument("--prompt-len", type=int, default=96, help="but of code")
    parser.add_argument("--gen-len", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5, help="prompts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budget-frac", type=float, default=0.5)
    args = vars(parser.parse_args())
    file, layers = args.pop("json"), args.pop("draft_layers")
    with TemporaryDirectory() as folder:
        if layers:
            args["draft_model"] = first_layers(args["model"], layers, Path(folder))
        case = Case(**args)
        bed = collect(largest_weight_file(case.model), case.threads)
        report("speculation", [measure(case)], file, bed=bed)


def measure(case: Case) -> dict[str, object]:
    """All ways in turn, prompt after prompt."""
    prompts = {"code": code_prompts, "loop": loop_prompts, "text": text_prompts}[case.prompts](case)
    ways: dict[str, dict[str, Any]] = {"off": {"speculation": "off"}, "auto": {}}
    if case.draft_model:
        ways["draft model"] = {"draft_model": case.draft_model}
    totals = {name: Total() for name in (*ways, *(f"{way}, never right" for way in ways))}
    with ExitStack() as stack:
        llms = {name: stack.enter_context(open_llm(case, prompts, **how))
                for name, how in ways.items()}  # fmt: skip
        for prompt in prompts:
            wanted = generated(llms["off"], case, prompt, totals["off"])
            for name in list(ways)[1:]:
                llm = llms[name]
                assert generated(llm, case, prompt, totals[name]) == wanted, (
                    "drafts changed the text"
                )
                with spoiled_drafts(llm.files.config.vocab_size):
                    found = generated(llm, case, prompt, totals[f"{name}, never right"])
                assert found == wanted, "drafts changed the text"
        plans = {name: llm.plan for name, llm in llms.items()}
    del totals["off, never right"]
    for name, total in totals.items():
        print(format_row(name, total, totals["off"]), flush=True)
    return _row(case, plans, totals)


def _row(case: Case, plans: dict[str, Plan | None], totals: dict[str, Total]) -> dict[str, object]:
    """What was measured, and with which plans."""
    off, auto, spoiled = (totals[name] for name in ("off", "auto", "auto, never right"))
    plan = plans["auto"]
    assert plan is not None
    row = {
        "model": case.model.name,
        "prompts": case.prompts,
        "rounds": case.rounds,
        "budget_bytes": plan.budget_bytes,
        "streamed_bytes": plan.streamed_bytes,
        "draft_rows": plan.draft_rows,
        "off": vars(off),
        "auto": vars(auto),
        "never_accepted": vars(spoiled),
        **with_interval("speedup", quotients(off.runs_s, auto.runs_s)),
        **with_interval("never_accepted_slowdown", quotients(spoiled.runs_s, off.runs_s)),
    }
    return {**row, **_draft_row(case, plans, totals)} if case.draft_model else row


def _draft_row(
    case: Case, plans: dict[str, Plan | None], totals: dict[str, Total]
) -> dict[str, object]:
    """The same of the engine with a draft model."""
    plan, off = plans["draft model"], totals["off"]
    drafted, spoiled = totals["draft model"], totals["draft model, never right"]
    assert plan is not None
    return {
        "draft_model": case.draft_model.name if case.draft_model else None,
        "draft_bytes": plan.draft.used_bytes if plan.draft else 0,
        "streamed_bytes_beside_draft": plan.streamed_bytes,
        "drafted": vars(drafted),
        "drafted_never_right": vars(spoiled),
        **with_interval("draft_speedup", quotients(off.runs_s, drafted.runs_s)),
        **with_interval("draft_never_right_slowdown", quotients(spoiled.runs_s, off.runs_s)),
    }


@contextmanager
def spoiled_drafts(vocab_size: int) -> Iterator[None]:
    """Within the block every drafted token is replaced by another."""
    real_lookup, real_model = PromptLookup.draft, DraftModel.draft

    def spoil(tokens: Draft) -> Draft:
        return tuple((token + vocab_size // 2) % vocab_size for token in tokens)

    def lookup(self: PromptLookup, count: int) -> Draft:
        return spoil(real_lookup(self, count))

    def model(self: DraftModel, wanted: Items[Wanted]) -> list[Draft]:
        return [spoil(draft) for draft in real_model(self, wanted)]

    with patch.object(PromptLookup, "draft", lookup), patch.object(DraftModel, "draft", model):
        yield


def first_layers(model: Path, layers: int, folder: Path) -> Path:
    """A checkpoint of the first layers of another one, whose files it shares."""
    for file in model.iterdir():
        (folder / file.name).symlink_to(file.resolve())
    config = json.loads((model / "config.json").read_text())
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}))
    return folder


def format_row(name: str, total: Total, off: Total) -> str:
    """One way on one line."""
    return (
        f"{name:<26}{total.tokens / total.seconds:8.2f} tok/s, {total.tokens / total.sweeps:5.2f} "
        f"tokens a sweep of {total.seconds / total.sweeps * 1e3:7.1f} ms, {total.accepted} of "
        f"{total.drafted} drafted accepted, {off.seconds / total.seconds:.2f} x off"
    )


if __name__ == "__main__":
    run(main)
