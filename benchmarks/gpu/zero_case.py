"""DeepSpeed ZeRO-Inference on one case: all weights in pinned host memory, fetched by layer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from benchmarks.gpu.case import Case, answer

ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
PORT = "29511"


def dtype_of(model: str) -> str:
    """Of its weights, as DeepSpeed calls it."""
    config = json.loads(Path(model, "config.json").read_text(encoding="utf-8"))
    return "fp16" if config.get("torch_dtype") == "float16" else "bf16"


def measure(case: Case) -> dict[str, Any]:
    """The rates, and the version that reached them; one process is the whole group."""
    os.environ.update({**ALONE, "MASTER_PORT": PORT})
    import deepspeed
    from transformers import AutoModelForCausalLM
    from transformers.integrations.deepspeed import HfDeepSpeedConfig

    from benchmarks.gpu.timed_model import rates, torch_device

    offload = {"device": "cpu", "pin_memory": True}
    config = {
        dtype_of(case.model): {"enabled": True},
        "zero_optimization": {"stage": 3, "offload_param": offload},
        "train_micro_batch_size_per_gpu": 1,
    }
    deepspeed.init_distributed()
    kept = HfDeepSpeedConfig(config)  # alive while weights are loaded: they are partitioned then
    model = AutoModelForCausalLM.from_pretrained(case.model, dtype="auto")
    engine = deepspeed.initialize(model=model, config=config)[0]
    engine.module.eval()
    found = rates(engine.module, case, torch_device(case.device))
    del kept
    return {"version": deepspeed.__version__, **found}


if __name__ == "__main__":
    answer(measure)
