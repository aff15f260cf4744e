"""The engine on one case: rates, busy device, link used, and what was predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.gpu.case import Case, answer
from lm_offload import LLM, SamplingParams, Workload
from lm_offload.engine.outputs import SweepRecord


def measure(case: Case) -> dict[str, Any]:
    """The figures of a case; raises LMOffloadError."""
    workload = Workload((case.prompt_len,) * case.batch, (case.gen_len,) * case.batch)
    cpu_memory = case.cpu_memory or None
    sizes: dict[str, Any] = {"cpu_memory": cpu_memory, "gpu_memory": case.gpu_memory}
    with LLM(case.model, device=case.device, **sizes) as llm:
        plan, link, gpu = llm.plan_for(workload), llm.profile.h2d, llm.profile.gpu
        assert plan.device is not None
        assert link is not None
        assert gpu is not None
        llm.load(workload)
        llm.generate(case.prompts, _tokens(min(4, case.gen_len)))  # compiles and touches everything
        llm.generate(case.prompts, _tokens(case.gen_len))
        stats = llm.stats
        return {
            "device_model": model_of(case.device),
            "units_on_device": len(plan.device.resident),
            "units_on_host": len(plan.resident),
            "units_on_disk": len(plan.streamed),
            "units_in_place": len(plan.device.in_place),
            "attention_on": plan.device.attention,
            "replays_graphs": plan.device.replays,
            "prefill_tokens_per_s": stats.prefill_tokens_per_s,
            "decode_tokens_per_s": stats.decode_tokens_per_s,
            "predicted_prefill_tokens_per_s": plan.predicted.prefill_tokens_per_s,
            "predicted_decode_tokens_per_s": plan.predicted.decode_tokens_per_s,
            "device_budget_bytes": plan.device.budget_bytes,
            "device_planned_bytes": plan.device.used_bytes,
            "kernel_s": gpu.kernel_s,
            "replay_s": gpu.replay_s,
            **_shares(stats.decode, max(link.bytes_per_s.rates)),
        }


def model_of(device: str) -> str:
    """The model of a GPU; a stand-in is what it is called."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def _tokens(count: int) -> SamplingParams:
    return SamplingParams(max_tokens=count, ignore_eos=True)


def _shares(sweeps: Sequence[SweepRecord], peak_bytes_per_s: float) -> dict[str, float]:
    """Of decode sweeps: the device computing, and the link's rate over its measured peak."""
    times = [sweep.time for sweep in sweeps]
    total_s = sum(time.total_s for time in times)
    h2d_bytes_per_s = sum(time.h2d_bytes for time in times) / total_s
    return {
        "gpu_busy_frac": sum(time.gpu_s for time in times) / total_s,
        "h2d_bytes_per_s": h2d_bytes_per_s,
        "h2d_peak_bytes_per_s": peak_bytes_per_s,
        "h2d_of_peak_frac": h2d_bytes_per_s / peak_bytes_per_s,
        "disk_bytes_per_s": sum(time.read_bytes for time in times) / total_s,
    }


if __name__ == "__main__":
    answer(measure)
