"""The KV cache in host memory, attention on the CPU and all else on a stand-in: the same tokens."""

from __future__ import annotations

import pytest

from tests.engine.harness import PLENTY, generate, tokens_of
from tests.engine.test_device import PROMPTS, open_on_device
from tests.toy import MODEL_TYPES

@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_tokens_are_those_of_the_cpu(toy, model_type):
    folder = toy(model_type)
    with open_on_device(folder, PLENTY, attention="cpu") as llm:
        assert tokens_of(llm, PROMPTS) == generate(folder, PLENTY, PROMPTS)
        assert dict(llm.plan.memory)["KV cache"] > 0
        assert "KV cache" not in dict(llm.plan.device.memory)
        assert llm.stats.decode[-1].time.attend_s > 0
