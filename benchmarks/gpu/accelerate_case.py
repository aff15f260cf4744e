"""accelerate's CPU offload on one case: layers stay on the GPU as far as its budget goes."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu.case import Case, answer

CONTEXT_BYTES = 768 << 20  # of the budget, as for the engine
WEIGHTS_FRAC = 0.7  # of what is left; the rest is for the layer on loan, cache and activations
HOST_BYTES = 1 << 50  # no limit: what does not fit the GPU lies there


def measure(case: Case) -> dict[str, Any]:
    """The rates, and the version that reached them."""
    import accelerate
    from transformers import AutoModelForCausalLM

    from benchmarks.gpu.timed_model import rates, torch_device
    from lm_offload.units import parse_size

    device = torch_device(case.device)
    placement: dict[str, Any] = {"device_map": {"": "cpu"}}
    if device != "cpu":
        weights_bytes = int((parse_size(case.gpu_memory) - CONTEXT_BYTES) * WEIGHTS_FRAC)
        index = int(device.partition(":")[2] or 0)
        limits = {index: max(weights_bytes, 0), "cpu": HOST_BYTES}
        placement = {"device_map": "auto", "max_memory": limits}
    model = AutoModelForCausalLM.from_pretrained(case.model, dtype="auto", **placement)
    return {"version": accelerate.__version__, **rates(model.eval(), case, device)}


if __name__ == "__main__":
    answer(measure)
