"""What plans show of a format's quality is what was measured last."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.bench_quality import SHIPPED, shipped

from lm_offload.quant.quality import quality_of

RESULT = Path(__file__).parents[2] / "benchmarks/results/quality.json"


def test_the_shipped_figures_are_those_of_the_committed_result() -> None:
    rows = json.loads(RESULT.read_text())["rows"]
    assert json.loads(SHIPPED.read_text()) == shipped(rows)


def test_pairs_that_round_something_have_figures_and_others_none() -> None:
    found = quality_of("int4:64", "bf16")
    assert found is not None
    assert 1.0 < found.perplexity_ratio < 1.03
    assert found == quality_of("int4", "fp16")
    assert quality_of("fp32", "bf16") is None
    assert quality_of("int8:32", "int4") is None
    both = quality_of("int4", "int4")
    assert both is not None
    assert both.mean_kl > found.mean_kl
