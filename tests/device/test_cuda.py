"""What only a GPU can show; the rest is tested on the stand-in."""

from __future__ import annotations

import pytest
import torch

from lm_offload import LLM
from lm_offload.device.registry import missing_gpu, open_device
from lm_offload.units import MIB
from tests.engine.harness import PLENTY, generate, prompts_of, tokens_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(missing_gpu() is not None, reason=f"no GPU: {missing_gpu()}"),
]
PROMPTS = prompts_of(5, 34)


@pytest.fixture
def device():
    opened = open_device("cuda:0")
    yield opened
    opened.close()


def test_registered_memory_is_copied_both_ways(device):
    host = torch.randint(0, 255, (8 * MIB,), dtype=torch.uint8)
    back = torch.zeros_like(host)
    assert device.pin(host)
    assert device.pin(back)
    there = device.tier(8 * MIB).allocate("copy", 8 * MIB).view(0, torch.uint8, (8 * MIB,))
    device.h2d.copy_async(host, there)
    device.d2h.wait(device.h2d.record())
    device.d2h.copy_async(there, back)
    device.d2h.record().synchronize()
    assert torch.equal(host, back)


def test_memory_that_is_pinned_may_be_pinned_again_and_nothing_fails_after_it(device):
    host = torch.zeros(MIB, dtype=torch.uint8)
    assert device.pin(host)
    assert device.pin(host)
    assert torch.ones(3, device=device.torch_device).sum().item() == 3


@pytest.mark.parametrize("gpu_memory", ["900MiB", "2GiB"])
def test_float32_tokens_are_those_of_the_cpu(toy, gpu_memory):
    folder = toy("llama", dtype=torch.float32)
    with LLM(folder, cpu_memory=PLENTY, gpu_memory=gpu_memory, threads=1) as llm:
        assert tokens_of(llm, PROMPTS) == generate(folder, PLENTY, PROMPTS)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU only")
@pytest.mark.parametrize("gpu_memory", ["900MiB", "2GiB"])
def test_tokens_of_two_gpus_are_those_of_the_cpu(toy, gpu_memory):
    folder = toy("llama", dtype=torch.float32)
    options = {"cpu_memory": PLENTY, "gpu_memory": gpu_memory, "threads": 1}
    with LLM(folder, device="cuda:0,cuda:1", **options) as llm:
        assert tokens_of(llm, PROMPTS) == generate(folder, PLENTY, PROMPTS)


def test_the_process_takes_no_more_than_the_budget(toy):
    before_bytes = torch.cuda.mem_get_info()[0]
    with LLM(toy("llama"), cpu_memory=PLENTY, gpu_memory="1GiB", threads=1) as llm:
        tokens_of(llm, PROMPTS)
        taken_bytes = before_bytes - torch.cuda.mem_get_info()[0]
    assert taken_bytes <= 1 << 30
    assert before_bytes - torch.cuda.mem_get_info()[0] < 1 << 29  # but for the context


def test_a_second_budget_counts_what_the_first_run_gave_back(toy):
    for gpu_memory in ("60%", "60%"):
        with LLM(toy("llama"), cpu_memory=PLENTY, gpu_memory=gpu_memory, threads=1) as llm:
            assert tokens_of(llm, PROMPTS)


def test_bf16_tokens_are_computed_with_triton_s_kernels(toy, caplog):
    with LLM(toy("llama"), cpu_memory=PLENTY, gpu_memory="2GiB", kv_format="int8") as llm:
        assert all(tokens_of(llm, PROMPTS))
    assert "Triton does not work" not in caplog.text


def test_attention_on_the_cpu_leaves_float32_tokens_as_they_are(toy):
    folder = toy("llama", dtype=torch.float32)
    options = {"cpu_memory": PLENTY, "gpu_memory": "2GiB", "threads": 1}
    with LLM(folder, attention="cpu", **options) as llm:
        assert tokens_of(llm, PROMPTS) == generate(folder, PLENTY, PROMPTS)


def test_a_graph_does_what_was_taken_down_on_what_now_lies_there(device):
    device.kernels(None)
    x, out, found = torch.ones(4, device="cuda:0"), torch.zeros(4, device="cuda:0"), []

    def work():
        out.copy_(x * 2 + 1)

    def capture():
        work()
        found.append(device.capture(work))

    torch.cuda.synchronize()
    device.compute.launch(capture)
    if found[0] is None:
        pytest.skip("Triton does not work here, and torch's own operations are not taken down")
    device.compute.launch(lambda: x.fill_(5.0))
    device.compute.launch(found[0].replay)
    device.compute.record().synchronize()
    assert out.tolist() == [11.0] * 4


def test_decode_that_is_replayed_gives_the_same_tokens(toy, caplog):
    folder = toy("llama", dtype=torch.float32)
    with LLM(folder, cpu_memory=PLENTY, gpu_memory="3GiB", threads=1) as llm:
        tokens = tokens_of(llm, PROMPTS)
        assert llm.plan.device.replays
        assert not caplog.records
    assert tokens == generate(folder, PLENTY, PROMPTS)
