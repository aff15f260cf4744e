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
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Items
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from benchmarks.entry import result_parser, run
from benchmarks.result import report
from benchmarks.round_ratio import quotients, with_interval
from benchmarks.testbed import collect, largest_weight_file
from lm_offload import LLM, SamplingParams, Workload
from lm_offload.demo import demo_path
from lm_offload.engine.draft_model import DraftModel
from lm_offload.engine.proposers import Draft, Wanted
from lm_offload.plan import Plan
from lm_offload.speculation.prompt_lookup import PromptLookup

SEED_TOKENS = 8
FUNCTION_CHARACTERS = 700  # of a function that is shown whole
REPEATED_CHARACTERS = 120  # of its beginning, to be continued


@dataclass(frozen=True)
class Case:
    """One checkpoint with one sort of prompts."""

    model: Path
    prompts: str
    prompt_len: int
    gen_len: int
    rounds: int
    threads: int
    budget_frac: float
    draft_model: Path | None = None

    @property
    def params(self) -> SamplingParams:
        """Greedy; for loops used tokens become likelier, or random weights hardly repeat any."""
        penalty = -2.0 if self.prompts == "loop" else 0.0
        return SamplingParams(frequency_penalty=penalty, ignore_eos=True)

    @property
    def budget_bytes(self) -> int:
        """A part of the checkpoint's bytes."""
        size = sum(path.stat().st_size for path in self.model.glob("*.safetensors"))
        return int(size * self.budget_frac)


@dataclass
class Total:
    """Decode of several runs."""

    seconds: float = 0.0
    tokens: int = 0
    sweeps: int = 0
    drafted: int = 0
    accepted: int = 0
    runs_s: list[float] = field(default_factory=list)  # prompt after prompt

    def add(self, llm: LLM) -> None:
        """Count the last run."""
        self.seconds += llm.stats.decode_s
        self.runs_s.append(llm.stats.decode_s)
        self.tokens += sum(sweep.decode_tokens for sweep in llm.stats.decode)
        self.sweeps += len(llm.stats.decode)
        self.drafted += llm.stats.drafted
        self.accepted += llm.stats.accepted


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


def open_llm(case: Case, prompts: list[list[int]], resident: bool = False, **how: Any) -> LLM:
    """An engine loaded for the case, within its budget or with all in memory."""
    budget = None if resident else case.budget_bytes
    llm = LLM(case.model, cpu_memory=budget, threads=case.threads, **how)
    llm.load(Workload((max(map(len, prompts)),), (case.gen_len,)))
    return llm


def generated(llm: LLM, case: Case, prompt: list[int], total: Total) -> list[int]:
    """The tokens of one run, which is added to `total`."""
    params = replace(case.params, max_tokens=case.gen_len)
    tokens = llm.generate([prompt], params)[0].outputs[0].token_ids
    total.add(llm)
    return tokens


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


def loop_prompts(case: Case) -> list[list[int]]:
    """For each round a few tokens and what a resident model says after them."""
    starts = [[7 + 31 * index + 5 * place for place in range(SEED_TOKENS)]
              for index in range(case.rounds)]  # fmt: skip
    params = replace(case.params, max_tokens=case.prompt_len - SEED_TOKENS)
    with open_llm(case, starts, resident=True, speculation="off") as llm:
        outputs = llm.generate(starts, params)
    return [it.prompt_token_ids + it.outputs[0].token_ids for it in outputs]


def code_prompts(case: Case) -> list[list[int]]:
    """For each round a function of the held-out text and its beginning once more."""
    return _encoded(case, (f"{it}\n\n\n{it[:REPEATED_CHARACTERS]}" for it in _functions(case)))


def text_prompts(case: Case) -> list[list[int]]:
    """For each round the beginning of a function of the held-out text."""
    return [tokens[: case.prompt_len] for tokens in _encoded(case, _functions(case))]


def _functions(case: Case) -> Iterator[str]:
    text = (demo_path() / "heldout.txt").read_text(encoding="utf-8")
    pieces = text.split("\ndef ")[1:]
    long = (piece for piece in pieces if len(piece) >= FUNCTION_CHARACTERS)
    return (f"def {piece[:FUNCTION_CHARACTERS]}" for piece in islice(long, case.rounds))


def _encoded(case: Case, texts: Iterable[str]) -> list[list[int]]:
    with LLM(case.model, threads=case.threads) as llm:
        return [llm.tokenizer.encode(text) for text in texts]


def format_row(name: str, total: Total, off: Total) -> str:
    """One way on one line."""
    return (
        f"{name:<26}{total.tokens / total.seconds:8.2f} tok/s, {total.tokens / total.sweeps:5.2f} "
        f"tokens a sweep of {total.seconds / total.sweeps * 1e3:7.1f} ms, {total.accepted} of "
        f"{total.drafted} drafted accepted, {off.seconds / total.seconds:.2f} x off"
    )


if __name__ == "__main__":
    run(main)
