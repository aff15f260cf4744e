"""Tables of benchmarks with a goal: the decisive figure and its goal stand in the first columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from benchmarks.report.result_files import Row
from benchmarks.round_ratio import LEAST_ROUNDS

Columns = Mapping[str, Callable[[Row], str]]  # headings, and what stands below them
SLOWER_GOAL, FASTEST_SHOWN = 1.03, 3


def speculation(result: Row) -> str:
    """Drafts that are right, and drafts that never are."""
    columns: Columns = {
        "speed-up (goal 1.8x)": lambda row: ratio(row, "speedup"),
        "time when never right (goal at most 1.03x)": lambda row: ratio(
            row, "never_accepted_slowdown", ".3f"
        ),
        "with a draft model": lambda row: ratio(row, "draft_speedup"),
        "model": lambda row: row["model"],
        "prompts": lambda row: row["prompts"],
        "tokens a sweep": lambda row: f"{row['auto']['tokens'] / row['auto']['sweeps']:.2f}",
        "drafted, accepted": lambda row: f"{row['auto']['drafted']}, {row['auto']['accepted']}",
        "memory": lambda row: mib(row["budget_bytes"]),
        "read each sweep": lambda row: mib(row["streamed_bytes"]),
    }
    return table("Drafts from the text itself, batch 1, out of core", columns, result["rows"])


def long_context(result: Row) -> str:
    """A KV cache beyond its memory against the larger of disk and compute."""
    columns: Columns = {
        "share of the bound (goal 80 %)": lambda row: share(row, "bound_frac"),
        "same tokens as resident": lambda row: "yes" if row["same_tokens"] else "NO",
        "sweep": lambda row: ms(row["spilled_sweep_s"]),
        "as predicted": lambda row: ms(row["predicted_sweep_s"]),
        "all in memory": lambda row: ms(row["resident_sweep_s"]),
        "model": lambda row: row["model"],
        "sequences x context": lambda row: f"{row['batch']} x {row['context']}",
        "KV format": lambda row: row["kv_format"],
        "KV cache (in memory)": lambda row: (
            f"{mib(row['kv_bytes'])} ({mib(row['kv_memory_bytes'])})"
        ),
        "disk": lambda row: f"{row['disk_bytes_per_s'] / 1e9:.2f} GB/s",
    }
    return table("Decode over a KV cache of twice its memory", columns, result["rows"])


def prefix(result: Row) -> str:
    """Prompts that begin alike."""
    columns: Columns = {
        "all first tokens sooner by (goal for 64 x 1024: 10x)": lambda row: ratio(
            row, "times_sooner", ".1f"
        ),
        "same tokens": lambda row: "yes" if row["same_tokens"] else "NO",
        "last first token": lambda row: both_s(row["last_first_token_s"], "shared", "apart"),
        "one prompt read from disk sooner by": lambda row: ratio(row, "read_times_sooner", ".1f"),
        "first token": lambda row: both_s(row["one_prompt_first_token_s"], "read", "computed"),
        "model": lambda row: f"{row['model']}, {row['weight_format']}",
        "prompts x (common + own)": lambda row: (
            f"{row['prompts']} x ({row['prefix_len']} + {row['tail_len']})"
        ),
        "KV blocks": lambda row: (
            f"{row['kv_blocks']['shared']} instead of {row['kv_blocks']['apart']}"
        ),
    }
    return table("Prompts with a common beginning, computed once", columns, result["rows"])


def attention(result: Row) -> str:
    """Attention over the paged KV cache."""
    columns: Columns = {
        "KV format": lambda row: row["format"],
        "share of memory read": lambda row: share(row, "read_frac"),
        "over bf16": lambda row: ratio(row, "over_bf16"),
        "heads / KV heads x size": lambda row: "{heads} / {kv_heads} x {head_dim}".format(
            **row["case"]
        ),
        "sequences x new rows, context": lambda row: "{sequences} x {rows}, {context}".format(
            **row["case"]
        ),
        "time": lambda row: f"{row['time_s'] * 1e3:.2f} ms",
        "KV read": lambda row: f"{row['gbytes_per_s']:.1f} GB/s",
        "GFLOP/s": lambda row: f"{row['gflops_per_s']:.0f}",
    }
    title = (
        "Attention over a paged KV cache that comes from memory (goals at 16 x 1, 4096: bf16 75 % "
        "of memory read, int8 1.6x and int4 2.4x bf16)"
    )
    return table(title, columns, result["rows"])


def threads(result: Row) -> str:
    """For each case its fastest settings, the plan's choice, torch's default and the slowest."""
    return "\n\n".join(_thread_case(row) for row in result["rows"])


def _thread_case(row: Row) -> str:
    settings = row["settings"]
    marks = {id(settings[0]): "fastest", id(settings[-1]): "slowest"}
    chosen = next(one for one in settings if _is(one, row["chosen"]))
    marks[id(chosen)] = (
        f"**chosen**: {ratio(row, 'loss', '.3f')} the fastest's time (goal {SLOWER_GOAL}x)"
    )
    shown = [*settings[:FASTEST_SHOWN], chosen, settings[-1]]
    if default := next((one for one in settings if _is(one, row.get("default", {}))), None):
        shown.append(default)
        gain = f"torch's default: the chosen one is {ratio(row, 'speedup_over_default')} as fast"
        marks[id(default)] = f"{marks.get(id(default), '')} {gain}".strip()
    columns: Columns = {
        "": lambda one: marks.get(id(one), ""),
        "decode sweep": lambda one: f"{one['sweep_s'] * 1e3:.2f} ms",
        "threads of products": lambda one: str(one["compute"]),
        "of attention": lambda one: str(one["attention"]),
        "of torch": lambda one: str(one["sampling"]),
        "of disk reads": lambda one: str(one["readers"]),
    }
    unique = {id(one): one for one in shown}
    title = (
        f"Threads, {row['case']}: batch {row['batch']}, context {row['context']}, "
        f"{len(settings)} settings"
    )
    return table(title, columns, sorted(unique.values(), key=lambda one: one["sweep_s"]))


def _is(setting: Row, wanted: Row) -> bool:
    return bool(wanted) and all(setting[name] == value for name, value in wanted.items())


def plan_choice(result: Row) -> str:
    """The plan that was chosen against the best of those that were run."""
    columns: Columns = {
        "time of the chosen plan over the best (goal 1.05x)": lambda row: ratio(row, "loss", ".3f"),
        "pairs in the wrong order": lambda row: (
            f"{row['ranking']['wrong_pairs']} of {row['ranking']['pairs']}"
        ),
        "plans run": lambda row: str(len(row["plans"])),
        "model": lambda row: row["model"],
        "memory": lambda row: f"{row['budget_frac']:.0%} of the weights",
        "batch": lambda row: str(row["shape"]["batch_size"]),
        "prompt": lambda row: str(row["shape"]["prompt_len"]),
        "processor busy with other work": lambda row: f"{row['others_frac']:.0%}",
    }
    return table("The chosen plan against the best measured one", columns, result["rows"])


def table(title: str, columns: Columns, rows: Iterable[Row]) -> str:
    """Markdown; columns that are empty in all rows are left out."""
    cells = [[text_of(row) for text_of in columns.values()] for row in rows]
    kept = [index for index in range(len(columns)) if any(line[index] for line in cells)]
    heads = list(columns)
    lines = [[heads[index] for index in kept], *([line[index] for index in kept] for line in cells)]
    head, *body = ("| " + " | ".join(line) + " |" for line in lines)
    return "\n".join([f"**{title}**", "", head, "|---" * len(kept) + "|", *body])


def ratio(row: Row, key: str, form: str = ".2f") -> str:
    """A ratio and half of its interval; nothing where it is missing."""
    return f"{row[key]:{form}}x{noise(row, key)}" if row.get(key) else ""


def share(row: Row, key: str) -> str:
    """A share and half of its interval."""
    return f"{row[key]:.0%}{noise(row, key)}"


def noise(row: Row, key: str) -> str:
    """Half of the interval over the figure; of few rounds their number, for they have none."""
    if not (found := row.get(f"{key}_interval")):
        return ""
    if (rounds := row.get("rounds", LEAST_ROUNDS)) < LEAST_ROUNDS:
        return f" ({rounds} rounds)"
    low, high = found
    return f" ± {(high - low) / 2 / row[key]:.0%}"


def both_s(seconds: Row, better: str, worse: str) -> str:
    """Two times in words."""
    return f"{seconds[better]:.2f} instead of {seconds[worse]:.2f} s"


def ms(seconds: float) -> str:
    """Milliseconds."""
    return f"{seconds * 1e3:.0f} ms"


def mib(size_bytes: float) -> str:
    """Mebibytes."""
    return f"{size_bytes / 2**20:.0f} MiB"
