"""What `lm-offload eval` found, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from lm_offload.units import format_bytes

if TYPE_CHECKING:
    from lm_offload.engine.evaluate import Quality


@dataclass(frozen=True)
class Row:
    """The quality of one choice of formats, and what it takes."""

    weight_format: str
    kv_format: str
    weight_bytes: int
    seconds: float
    quality: Quality


def print_quality(console: Console, text: str, rows: Sequence[Row]) -> None:
    """A line for each choice of formats; the first one is what the others are compared with."""
    first = rows[0].quality
    table = Table(
        *("weights", "KV cache", "size", "perplexity", "mean KL", "same top-1"),
        title=f"{first.tokens} tokens of {text} predicted",
        title_justify="left",
    )
    for row in rows:
        table.add_row(
            row.weight_format,
            row.kv_format,
            format_bytes(row.weight_bytes),
            _perplexity(row.quality, first),
            "" if row.quality.mean_kl is None else f"{row.quality.mean_kl:.2e} nats",
            "" if row.quality.top1_agreement is None else f"{row.quality.top1_agreement:.2%}",
        )
    console.print(table)


def quality_record(text: str, rows: Sequence[Row]) -> dict[str, Any]:
    """The same for JSON; divergences are null in the first of `formats`."""
    return {"text": text, "formats": [_record(row) for row in rows]}


def _record(row: Row) -> dict[str, Any]:
    quality = {"perplexity": row.quality.perplexity, **vars(row.quality)}
    return {name: value for name, value in vars(row).items() if name != "quality"} | quality


def _perplexity(quality: Quality, reference: Quality) -> str:
    change = quality.perplexity / reference.perplexity - 1
    return f"{quality.perplexity:.3f}" + ("" if quality is reference else f" ({change:+.2%})")
