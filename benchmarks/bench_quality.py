"""What each format of weights and KV cache costs in quality and bytes, on the demo model.

The text is the demo model's held-out one; weights are quantized anew, not taken from the cache::

    python -m benchmarks.bench_quality --json out.json
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import lm_offload.quant.quality
from benchmarks.entry import result_parser, run
from benchmarks.result import report
from lm_offload import LLM
from lm_offload.demo import demo_path
from lm_offload.engine.eval_file import row_file
from lm_offload.engine.eval_windows import cut_text
from lm_offload.engine.evaluate import Quality, compare, measure_reference
from lm_offload.engine.model_files import ModelFiles
from lm_offload.planner.costs.model_sizes import spec_bytes
from lm_offload.quant.kv_format import head_bytes
from lm_offload.quant.quality import FILE, quality_key

WEIGHT_FORMATS = (
    *("int8:64", "int8:row", "int4:32", "int4:64", "int4:128", "int4:64:sym"),
    *("fp8:row", "fp8:128"),
)
FORMATS = (  # of weights and KV cache; None is the model's own
    *((name, None) for name in WEIGHT_FORMATS),
    ("int8:64:a8", None),
    ("int4:64:a8", None),
    (None, "int8"),
    (None, "int4"),
    ("int8:64", "int8"),
    ("int4:64", "int8"),
    ("int4:64", "int4"),
)
CONTEXT = 512
SHIPPED = Path(lm_offload.quant.quality.__file__).with_name(FILE)
Row = dict[str, object]


def main() -> None:
    """Measure bf16 and every format; a row each, then one JSON line."""
    parser = result_parser(__doc__)
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ship", action="store_true", help="also write what plans show")
    args = parser.parse_args()
    print(
        "goals: mean KL of int8 below 1e-3 nats; perplexity within 3 % with weights in int4:64, 2 %"
    )
    print("with the KV cache in int4")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LM_OFFLOAD_CACHE"] = folder
        measured = measured_rows(args.tokens, args.threads, Path(folder))
        result = report("quality", measured, args.json, context=CONTEXT)
    if args.ship:
        SHIPPED.write_text(json.dumps(shipped(result["rows"]), indent=1) + "\n")


def shipped(rows: Iterable[Row]) -> dict[str, Row]:
    """What `lm_offload.quant.quality` reads, from the rows of a result."""
    return {
        quality_key(str(row["weight_format"]), str(row["kv_format"])): {
            "perplexity_ratio": row["perplexity_over_reference"],
            "mean_kl": row["mean_kl"],
        }
        for row in rows
        if row["mean_kl"] is not None
    }


def measured_rows(tokens: int, threads: int, folder: Path) -> Iterator[Row]:
    """The demo model's own precision, then each format compared with it."""
    own = LLM(demo_path(), threads=threads)
    text = (demo_path() / "heldout.txt").read_text(encoding="utf-8")
    windows = cut_text(own.tokenizer, text, CONTEXT, tokens)
    count = sum(len(window.targets) for window in windows)
    with row_file(folder, count, own.files.config.vocab_size) as file:
        with own:
            reference = measure_reference(own, windows, file)
            yield row_of(own.files, reference, reference)
        for weight_format, kv_format in FORMATS:
            with LLM(
                demo_path(), threads=threads, weight_format=weight_format, kv_format=kv_format
            ) as llm:
                yield row_of(llm.files, compare(llm, windows, file), reference)


def row_of(files: ModelFiles, quality: Quality, reference: Quality) -> Row:
    """What is reported of one format."""
    return {
        "weight_format": str(files.stored_format),
        "kv_format": str(files.kv_format),
        "bytes_per_weight": bytes_per_weight(files),
        "bytes_per_kv": head_bytes(files.kv_format, files.config.head_dim) / files.config.head_dim,
        "perplexity": quality.perplexity,
        "perplexity_over_reference": quality.perplexity / reference.perplexity,
        **vars(quality),
    }


def bytes_per_weight(files: ModelFiles) -> float:
    """Of all matrices that are loaded whole, scales and padding included."""
    format = files.stored_format
    matrices = [spec for unit in files.units for spec in unit.weights if len(spec.shape) == 2]
    size_bytes = sum(spec_bytes(spec, format, files.config) for spec in matrices)
    return size_bytes / sum(spec.elements for spec in matrices)


if __name__ == "__main__":
    run(main)
