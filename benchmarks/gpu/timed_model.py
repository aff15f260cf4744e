"""Rates of a model of transformers, whoever moves its weights: of one token, and of all."""

from __future__ import annotations

import time
from typing import Any

import torch

from benchmarks.gpu.case import Case


def rates(model: Any, case: Case, device: str) -> dict[str, float]:
    """Prefill and decode of a whole batch; both runs end when their tokens are on the host."""
    input_ids = torch.tensor(case.prompts, device=device)

    def seconds(count: int) -> float:
        start_s = time.perf_counter()
        with torch.inference_mode():
            model.generate(
                input_ids,
                attention_mask=torch.ones_like(input_ids),
                max_new_tokens=count,
                min_new_tokens=count,
                do_sample=False,
                pad_token_id=0,
            ).cpu()
        return time.perf_counter() - start_s

    seconds(1)  # touches everything
    prefill_s, run_s = seconds(1), seconds(case.gen_len)
    decode_s = max(run_s - prefill_s, 1e-9)
    return {
        "prefill_tokens_per_s": case.batch * case.prompt_len / prefill_s,
        "decode_tokens_per_s": case.batch * (case.gen_len - 1) / decode_s,
    }


def torch_device(name: str) -> str:
    """Where peers compute; what plays a GPU plays none for them."""
    return name if name.startswith("cuda") else "cpu"
