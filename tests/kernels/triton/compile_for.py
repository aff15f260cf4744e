"""Compile the kernels for GPUs that are not there: every launch ends before the GPU.

    TRITON_INTERPRET=0 python -m tests.kernels.triton.compile_for 75 80 86 90 [--all]

What Triton compiles must fit the shared memory of that capability, else it raises.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from lm_offload.kernels.torch_kernels import TorchKernels
from lm_offload.kernels.triton_kernels import TritonKernels
from tests.kernels.packed import ALL_FORMATS, random_weight
from tests.kernels.packed_cache import pack_inputs
from tests.kernels.paged import Case, make_inputs

# Of a block, by the CUDA C++ programming guide, table "technical specifications".
SHARED_BYTES = {75: 65536, 80: 166912, 86: 101376, 89: 101376, 90: 232448}


class AbsentGpu:
    """What Triton asks of a driver; kernels are loaded and launched nowhere."""

    def __init__(self, capability: int) -> None:
        self.capability = capability
        self.loaded: list[tuple[str, int]] = []
        self.utils = SimpleNamespace(
            get_device_properties=lambda _: {"max_shared_mem": SHARED_BYTES[capability]},
            load_binary=self._load,
        )

    def launcher_cls(self, *_arguments):
        return lambda *_arguments: None

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return self.capability  # compiled kernels are kept by device

    def get_current_stream(self, _device: int) -> int:
        return 0

    def _load(self, name, _binary, shared_bytes, _device):
        self.loaded.append((name, shared_bytes))
        return None, None, 0, 0, 1024  # module, function, registers, spills, most threads


def compile_products(kernels: TritonKernels, name: str, rows: int) -> None:
    weight = random_weight(name, 256, 512)
    kernels.linear(torch.ones(rows, 512), weight, torch.empty(rows, 256), torch.ones(256))


def compile_cache(kernels: TritonKernels, case: Case, name: str) -> None:
    """Attention and writes over a cache in a format, or in the dtype of the case."""
    if name in ("int8", "int4"):
        packed = pack_inputs(case, name)
        inputs, keys, values = packed.floats, packed.keys, packed.values
    else:
        inputs = make_inputs(case)
        keys, values = inputs.keys, inputs.values
    kernels.attention(inputs.q, keys, values, inputs.batch, 0.1, torch.empty_like(inputs.q))
    rows = inputs.q[:, : case.kv_heads].contiguous()
    kernels.store_kv(rows, rows, keys, values, torch.arange(len(rows)))


def compile_rows(kernels: TritonKernels) -> None:
    x, heads = torch.ones(2, 4096), torch.ones(2, 8, 128)
    kernels.rms_norm(x, x[0].bfloat16(), 1e-5, x)
    kernels.rotary(heads, heads[:, 0, :64], heads[:, 0, :64])


def main(capabilities: list[int], everything: bool) -> None:
    kernels = TritonKernels(TorchKernels(1))
    for capability in capabilities:
        gpu = AbsentGpu(capability)
        driver.set_active(gpu)
        for name in ALL_FORMATS if everything else ("int4:64",):
            for rows in (1, 64, 65) if everything else (1, 65):
                compile_products(kernels, name, rows)
        for dim in (64, 128, 256) if everything else (64,):
            for name in ("bf16", "int8", "int4") if everything else ("int4",):
                for rows, context in ((1, 600), (40, 41)) if everything else ((1, 600),):
                    case = Case((rows,), (context,), 8, 2, dim, torch.bfloat16)
                    compile_cache(kernels, case, name)
        compile_rows(kernels)
        largest = max(size for _, size in gpu.loaded)
        print(f"{capability}: {len(gpu.loaded)} kernels, up to {largest} bytes of shared memory")


if __name__ == "__main__":
    words = sys.argv[1:]
    main([int(word) for word in words if word.isdigit()], "--all" in words)
