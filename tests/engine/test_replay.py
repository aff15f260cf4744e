"""Decode that replays its units gives the tokens of decode that does not."""

from __future__ import annotations

import pytest

from lm_offload import LLM, SamplingParams
from lm_offload.demo import demo_path
from lm_offload.kernels.torch_kernels import TorchKernels

NativeKernels = pytest.importorskip("lm_offload.kernels.native_kernels").NativeKernels


@pytest.mark.parametrize("weight_format", [None, "int4:32"])
@pytest.mark.parametrize("cpu_memory", ["11MiB", "100%"])  # most units are streamed, or none
def test_tokens_are_those_without_replays(
    weight_format: str | None, cpu_memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [list(range(5, 5 + length)) for length in (3, 40, 17, 64)]
    params = [
        SamplingParams(max_tokens=count, ignore_eos=True, temperature=0.7, seed=count)
        for count in (30, 9, 90, 18)  # the batch shrinks, tables of blocks grow
    ]

    def tokens() -> list[list[int]]:
        options = {"cpu_memory": cpu_memory, "weight_format": weight_format}
        with LLM(demo_path(), speculation="off", **options) as llm:  # type: ignore[arg-type]
            outputs = llm.generate(prompts, params)
        return [output.outputs[0].token_ids for output in outputs]

    replayed = tokens()
    monkeypatch.setattr(NativeKernels, "record", TorchKernels.record)
    assert tokens() == replayed
