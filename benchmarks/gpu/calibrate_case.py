"""What was measured of the GPU and its links: first, for that compiles kernels and is stored.

Later processes find both, so that their own time goes to what they measure.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.gpu.case import Case, answer
from lm_offload import LLM
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.link import Link


def measure(case: Case) -> dict[str, Any]:
    """Rates of the links by block, of products by rows, of attention by context, in SI units."""
    start_s = time.perf_counter()
    sizes: dict[str, Any] = {"cpu_memory": case.cpu_memory or None, "gpu_memory": case.gpu_memory}
    with LLM(case.model, device=case.device, **sizes) as llm:
        profile = llm.profile
    gpu = profile.gpu
    assert gpu is not None
    links = {
        "h2d": profile.h2d,
        "d2h": profile.d2h,
        "h2d_pageable": profile.host_copy,
        "d2h_pageable": profile.d2h_pageable,
        "h2d_staged": profile.h2d_staged,
    }
    return {
        "calibration_s": time.perf_counter() - start_s,
        "links_bytes_per_s": {name: _rates(link) for name, link in links.items() if link},
        "link_interference": vars(profile.link_interference),
        "memory_bytes_per_s": gpu.memory_bytes_per_s,
        "kernel_s": gpu.kernel_s,
        "replay_s": gpu.replay_s,
        "product_flops": _points(gpu.product_flops),
        "decode_attention_bytes_per_s": _points(gpu.decode_attention_bytes_per_s),
        "prefill_attention_flops": _points(gpu.prefill_attention_flops),
    }


def _rates(link: Link) -> dict[str, Any]:
    """Alone by block, and what is left of that while the other direction works."""
    opposed = link.opposed_frac
    return {"alone": _by_size(link.bytes_per_s), "opposed_frac": opposed and _by_size(opposed)}


def _points(curves: Any) -> dict[str, dict[str, float]]:
    return {name: _by_size(curve) for name, curve in curves.items()}


def _by_size(curve: Curve) -> dict[str, float]:
    return {f"{size:.0f}": rate for size, rate in zip(curve.sizes, curve.rates, strict=True)}


if __name__ == "__main__":
    answer(measure)
