"""MoE-Lightning's microbenchmark of one layer of Mixtral 8x7B on an L4 (its figure 9).

Is it faster to move the KV cache to the GPU, or to attend where it lies? The rates of the machine
are medians over these rows, so what is tested is how bytes and times grow with micro-batch and
context, and the ratio of both ways.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from benchmarks.published.machines import nominal_l4
from lm_offload.arch.shipped import find_config
from lm_offload.hardware.machine_file import load_machine
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.planner.policies.model_shape import model_shape
from lm_offload.planner.policies.policy import PhasePolicy, Policy, Share
from lm_offload.planner.policies.scene import Scene, Step
from lm_offload.planner.policies.task_costs import task_seconds
from lm_offload.planner.policies.time import predict

FILE = Path(__file__).parent / "one_layer.csv"
MODEL = "mixtral-8x7b"
HRM_STEP_S = 4.957  # decode step that MoE-Lightning's own planner predicts, artifact's README


@dataclass(frozen=True)
class LayerRow:
    """Seconds of one layer, as published or predicted."""

    micro_batch: int
    context: int
    kv_upload_s: float
    cpu_attention_s: float
    experts_s: float

    @property
    def ratio(self) -> float:
        """How much faster attention on the CPU is than moving the KV cache."""
        return self.kv_upload_s / self.cpu_attention_s


def published_layers() -> list[LayerRow]:
    """The rows of the microbenchmark."""
    with FILE.open(newline="") as lines:
        return [
            LayerRow(int(row["micro_batch"]), int(row["context"]), *_seconds(row))
            for row in csv.DictReader(lines)
        ]


def predicted_layer(micro_batch: int, context: int) -> LayerRow:
    """The same from the cost model."""
    machine, step = load_machine("l4-192gb"), Step("decode", 1, context)
    moved = task_seconds(_scene(machine, _policy(micro_batch, 1, 0.0, "gpu"), step))
    attended = task_seconds(_scene(machine, _policy(micro_batch, 1, 0.0, "cpu"), step))
    upload_s = moved["upload_kv", "attention"]
    attend_s, experts_s = attended["attend", "attention"], attended["compute", "mlp"]
    return LayerRow(micro_batch, context, upload_s, attend_s, experts_s)


def predicted_hrm_step_s() -> float:
    """The decode step that MoE-Lightning's planner gives as 4.957 s, with its own constants."""
    policy = _policy(324, 14, 0.0559, "cpu")
    model = model_shape(find_config(MODEL))
    return predict(model, nominal_l4(), policy, prompt_len=77, gen_len=32).decode.step_s


def _scene(machine: HardwareProfile, policy: Policy, step: Step) -> Scene:
    return Scene(model_shape(find_config(MODEL)), machine, policy, step)


def _policy(micro_batch: int, count: int, weights_gpu: float, attention: str) -> Policy:
    return Policy(
        weights=Share(gpu=weights_gpu, cpu=1.0 - weights_gpu),
        kv=Share(cpu=1.0),
        activations=Share(gpu=1.0),
        micro_batch_size=micro_batch,
        num_micro_batches=count,
        prefill=PhasePolicy("gpu", "gpu"),
        decode=PhasePolicy("gpu", attention),  # type: ignore[arg-type]
        schedule="cgopipe",
    )


def _seconds(row: dict[str, str]) -> list[float]:
    return [float(row[name]) for name in ("kv_upload_s", "cpu_attention_s", "experts_s")]
