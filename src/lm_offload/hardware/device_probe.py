"""What a device and its links can do, measured through the interface that the engine uses.

Kernels are timed several at once: a launch does not wait for the one before. All have run before,
for a first call compiles, loads modules and opens libraries.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lm_offload.device.base import Device, Graph
from lm_offload.errors import DeviceError
from lm_offload.hardware.attention_probe import AttentionRates, measure_attention
from lm_offload.hardware.attention_rates import HeadShape
from lm_offload.hardware.attention_setting import Setting
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.device_products import crossing, endless_product, tiny_product
from lm_offload.hardware.link_places import LinkPlaces
from lm_offload.hardware.processor import Processor
from lm_offload.hardware.product_probe import matrices, work_s
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.timing import Key, typical_s
from lm_offload.kernels.base import Kernels, SwitchedProducts
from lm_offload.quant.format import Format
from lm_offload.quant.kv_format import KV_FORMATS
from lm_offload.storage.arena import Memory, Tier
from lm_offload.units import align_down

if TYPE_CHECKING:
    from lm_offload.kernels.base import Weight

LAUNCHES = 8  # of kernels that are timed together ...
TINY_LAUNCHES = 64  # ... and of tiny ones, beside which the wait for the last is nothing
ROWS = (1, 8, 64, 512)
MATRIX_SIZE = 3072
PACKED = Format("int4", 64, symmetric=False)
FORMATS = (Format("bf16"), PACKED, Format("int8", 64))
SWITCH_ROWS = (8, 16, 32, 64, 128, 256)
ATTENTION_PARTS = 3
# Of the time: links, fixed costs, memory and the switch of products, products, attention.
PARTS = 9 + 4 + len(FORMATS) + ATTENTION_PARTS
# By KV format, few shapes of heads: each of them is compiled, for decode and for prompts.
WIDE = HeadShape(128, 8)
HEADS = {"bf16": (HeadShape(128, 1), WIDE), "int8": (WIDE,), "int4": (WIDE,)}
CONTEXTS = (256, 2048)
SEQUENCES, PROMPT_ROWS = 16, 256  # enough for many processors
UNIT_KERNELS = 8  # about as many as a layer's attention or MLP asks for


@dataclass(frozen=True)
class DeviceProbe:
    """Measures one open device within `host_bytes` and `device_bytes` of memory."""

    device: Device
    cpu_kernels: Kernels
    host_bytes: int
    device_bytes: int
    weights: Path | None = None  # a file on the disk that is read beside uploads

    def added_to(self, profile: HardwareProfile, seconds: float) -> HardwareProfile:
        """The profile with the device and its links, measured in about that time.

        Where the system refuses to pin memory, uploads are taken to be staged.
        """
        part_s, tier = seconds / PARTS, self.device.tier(self.device_bytes)
        size_bytes = align_down(min(self.device_bytes // 2, self.host_bytes))
        places = LinkPlaces.taken(self.device, tier.allocate("copies", size_bytes))
        found = replace(
            profile, gpu=self._processor(tier, profile.cpu, part_s), **places.links(2 * part_s)
        )
        disturbed = places.disturbed(found, self.cpu_kernels, self.weights, part_s)
        return replace(found, link_interference=disturbed)

    def _processor(self, tier: Tier, cpu: Processor, part_s: float) -> Processor:
        """Fixed costs of a task and of a sweep are those of the host, which launches them."""
        kernels, here = self.device.kernels(self.cpu_kernels), self.device.torch_device
        kernel_s = self._call_s(tiny_product(kernels, here), part_s, TINY_LAUNCHES)
        replay_s = self._replay_s(tiny_product(kernels, here), part_s)
        space = tier.allocate("kernels", tier.capacity_bytes - tier.used_bytes)
        memory_bytes_per_s = self._memory_bytes_per_s(space, kernel_s, part_s)
        kernels, few_rows = self._switched(kernels, space, part_s)
        products = {
            str(format): self._products(
                kernels, matrices(space, format, MATRIX_SIZE), kernel_s, part_s
            )
            for format in FORMATS
        }
        attention = self._attention(kernels, space, kernel_s, ATTENTION_PARTS * part_s)
        return Processor(
            threads=1,
            memory_bytes=self.device.memory().total_bytes,
            memory_bytes_per_s=memory_bytes_per_s,
            peak_flops=max(rate for curve in products.values() for rate in curve.rates),
            kernel_s=kernel_s,
            task_s=cpu.task_s,
            replay_s=replay_s,
            few_rows=few_rows,
            product_flops=products,
            decode_attention_bytes_per_s=attention.decode_bytes_per_s,
            prefill_attention_flops=attention.prefill_flops,
        )

    def _memory_bytes_per_s(self, space: Memory, kernel_s: float, part_s: float) -> float:
        """Read and written by a copy of one half of `space` to the other."""
        half = align_down(space.size_bytes // 2)
        low, high = (space.view(start, torch.uint8, (half,)) for start in (0, half))
        copy_s = self._call_s(lambda: high.copy_(low), part_s)
        return 2 * half / work_s(copy_s, kernel_s)

    def _attention(
        self, kernels: Kernels, space: Memory, kernel_s: float, budget_s: float
    ) -> AttentionRates:
        """Over caches of every kind, as far as `space` holds them."""
        setting = Setting(
            SEQUENCES,
            PROMPT_ROWS,
            orders=False,
            device=self.device.torch_device,
            seconds_of=lambda works, part_s: self._typical_s(works, part_s, LAUNCHES),
        )
        shapes = {str(KV_FORMATS[name]): some for name, some in HEADS.items()}
        return measure_attention(kernels, shapes, CONTEXTS, space, kernel_s, budget_s, setting)

    def _switched(self, kernels: Kernels, space: Memory, part_s: float) -> tuple[Kernels, int]:
        """With packed products switched where the two ways cross, and at how many rows."""
        if not isinstance(kernels, SwitchedProducts):
            return kernels, 0
        weights, here = matrices(space, PACKED, MATRIX_SIZE), self.device.torch_device
        works = {
            (rows, as_it_is): endless_product(
                kernels.switched_at(rows * as_it_is), weights, rows, here
            )
            for rows in SWITCH_ROWS
            for as_it_is in (True, False)
        }
        few_rows = crossing(self._typical_s(works, part_s, LAUNCHES))
        return kernels.switched_at(few_rows), few_rows

    def _products(
        self, kernels: Kernels, weights: Sequence[Weight], kernel_s: float, part_s: float
    ) -> Curve:
        """FLOP/s by rows, `kernel_s` taken off."""
        count, width = weights[0].shape
        here = self.device.torch_device
        works = {rows: endless_product(kernels, weights, rows, here) for rows in ROWS}
        seconds = self._typical_s(works, part_s, LAUNCHES)
        call_s = {rows: work_s(seconds[rows], kernel_s) for rows in seconds}
        flops = (2.0 * rows * count * width / call_s[rows] for rows in call_s)
        return Curve(tuple(map(float, call_s)), tuple(flops))

    def _replay_s(self, work: Callable[[], None], part_s: float) -> float:
        """Seconds of a unit of tiny kernels that was recorded; 0 where nothing can be."""
        found: list[Graph | None] = []

        def unit() -> None:
            for _ in range(UNIT_KERNELS):
                work()

        with contextlib.suppress(DeviceError):  # said when it is wanted for a plan
            self.device.compute.launch(lambda: found.append(self.device.capture(unit)))
        self.device.compute.record().synchronize()
        graph = found[0] if found else None
        return self._call_s(graph.replay, part_s, TINY_LAUNCHES) if graph else 0.0

    def _call_s(self, work: Callable[[], object], part_s: float, launches: int = LAUNCHES) -> float:
        return self._typical_s({0: work}, part_s, launches)[0]

    def _typical_s(
        self, works: Mapping[Key, Callable[[], object]], part_s: float, launches: int
    ) -> dict[Key, float]:
        """Seconds of one call of each work."""
        for work in works.values():
            self._timed(work, 1)()
        seconds = typical_s({key: self._timed(works[key], launches) for key in works}, part_s)
        return {key: seconds[key] / launches for key in seconds}

    def _timed(self, work: Callable[[], object], launches: int) -> Callable[[], None]:
        """Several launches of `work` and the wait for the last."""

        def launch() -> None:
            for _ in range(launches):
                self.device.compute.launch(lambda: _ignore(work()))
            self.device.compute.record().synchronize()

        return launch


def _ignore(result: object) -> None:
    """What a launch returns is not looked at."""
