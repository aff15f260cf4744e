"""What goes wrong in the middle: a clear error, nothing left over, and the next call works."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lm_offload.errors import CheckpointChangedError, CheckpointError, StorageError
from lm_offload.pipeline.runner import ModelRunner
from tests.engine.harness import (
    GREEDY,
    PLENTY,
    generate,
    open_llm,
    prompts_of,
    smallest_budget,
    tokens_of,
)
from tests.faults import refuse_direct

PROMPTS = prompts_of(5, 20)


@pytest.fixture
def copy(toy, tmp_path) -> Path:
    """A checkpoint that the test may damage."""
    return Path(shutil.copytree(toy("llama"), tmp_path / "model"))


@pytest.fixture(params=["streamed", "resident"])
def budget(request, toy) -> int:
    """So little that units are streamed, or plenty."""
    return smallest_budget(toy("llama"), PROMPTS, 8) if request.param == "streamed" else 64 << 20


def engine_threads() -> list[str]:
    return [
        t.name for t in threading.enumerate() if t.name.startswith(("disk-read", "load", "rows"))
    ]


def open_weight_files() -> int:
    links = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    return sum(link.endswith(".safetensors") for link in links)


@pytest.fixture(autouse=True)
def _nothing_is_left_over():
    yield
    assert engine_threads() == []
    assert open_weight_files() == 0


def fail_reads_after(monkeypatch, count: int) -> None:
    """The disk works for `count` reads, then reports EIO."""
    real_preadv, left = os.preadv, iter(range(count))

    def preadv(*args):
        if next(left, None) is None:
            raise OSError(errno.EIO, "Input/output error")
        return real_preadv(*args)

    monkeypatch.setattr(os, "preadv", preadv)


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("reads", [0, 3, 40])
def test_an_error_of_the_disk_surfaces_and_the_engine_recovers(toy, monkeypatch, reads, overlap):
    folder = toy("llama")
    wanted = generate(folder, PLENTY, PROMPTS)
    with open_llm(folder, smallest_budget(folder, PROMPTS, 8), overlap=overlap) as llm:
        with monkeypatch.context() as patch:
            fail_reads_after(patch, reads)
            with pytest.raises(StorageError, match="check the disk"):
                llm.generate(PROMPTS, GREEDY)
        assert llm.plan is None
        assert engine_threads() == []
        assert open_weight_files() == 0
        assert tokens_of(llm, PROMPTS) == wanted


def test_an_error_of_the_disk_while_loading(toy, monkeypatch):
    folder = toy("llama")
    with open_llm(folder) as llm:
        with monkeypatch.context() as patch:
            fail_reads_after(patch, 2)
            with pytest.raises(StorageError, match="check the disk"):
                llm.generate(PROMPTS, GREEDY)
        assert open_weight_files() == 0
        assert tokens_of(llm, PROMPTS) == generate(folder, PLENTY, PROMPTS)


def interrupt_compute_at(monkeypatch, number: int) -> None:
    real_compute, calls = ModelRunner.compute, iter(range(number))

    def compute(self, task):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        real_compute(self, task)

    monkeypatch.setattr(ModelRunner, "compute", compute)


@pytest.mark.parametrize("number", [0, 5, 12])
def test_ctrl_c_in_a_sweep_leaves_an_engine_that_works(toy, budget, monkeypatch, number):
    folder = toy("llama")
    with open_llm(folder, budget) as llm:
        with monkeypatch.context() as patch:
            interrupt_compute_at(patch, number)
            with pytest.raises(KeyboardInterrupt):
                llm.generate(PROMPTS, GREEDY)
        assert tokens_of(llm, PROMPTS) == generate(folder, PLENTY, PROMPTS)


def test_ctrl_c_while_loading_leaves_nothing_open(toy):
    def interrupt(done_bytes: int, total_bytes: int) -> None:
        raise KeyboardInterrupt

    llm = open_llm(toy("llama"), on_load=interrupt)
    with pytest.raises(KeyboardInterrupt):
        llm.generate(PROMPTS, GREEDY)
    assert open_weight_files() == 0


def test_an_error_of_the_caller_between_sweeps_ends_the_run(toy, budget):
    folder = toy("llama")
    with open_llm(folder, budget) as llm:
        with pytest.raises(ZeroDivisionError) as caught:
            llm.generate(PROMPTS, GREEDY, on_sweep=lambda sweep: 1 / 0)
        # The traceback, and with it the frames of the run, is still alive here.
        assert tokens_of(llm, PROMPTS) == generate(folder, PLENTY, PROMPTS)
        del caught


def test_a_file_that_changes_while_running(copy, budget):
    def touch(sweep: object) -> None:
        os.utime(copy / "model.safetensors", ns=(0, 0))

    with open_llm(copy, budget) as llm:
        for _ in range(2):
            with pytest.raises(CheckpointChangedError, match=r"model\.safetensors changed"):
                llm.generate(PROMPTS, GREEDY, on_sweep=touch)


def poison(folder: Path, name: str, value: float) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors[name].view(-1)[-1] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.layers.1.mlp.down_proj.weight", r"Weight down_proj of layers\.1\.(mlp|down)"),
        ("model.layers.2.self_attn.q_proj.weight", "Weight q_proj of layers.2.attention"),
        ("model.norm.weight", "Weight norm of final_norm"),
        ("lm_head.weight", r"Weight head of head\.\d"),
    ],
)
def test_weights_that_are_no_numbers_are_named(copy, budget, name, message, value):
    poison(copy, name, value)
    with open_llm(copy, budget) as llm, pytest.raises(CheckpointError, match=message):
        llm.generate(PROMPTS, GREEDY)


def test_an_embedding_that_is_no_number(copy, budget):
    tensors = load_file(copy / "model.safetensors")
    tensors["model.embed_tokens.weight"].fill_(torch.nan)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with open_llm(copy, budget) as llm, pytest.raises(CheckpointError, match="embed"):
        llm.generate(PROMPTS, GREEDY)


def test_truncated_weights(copy):
    path = copy / "model.safetensors"
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(CheckpointError, match="truncated"):
        open_llm(copy)


def test_missing_weights(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor"):
        open_llm(copy)


def test_weights_of_another_shape(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "intermediate_size": 80}))
    with pytest.raises(CheckpointError, match=r"has shape \[88, 64\], config.json asks for"):
        open_llm(copy)


def test_weights_of_another_dtype(copy):
    tensors = load_file(copy / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.int8)
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(CheckpointError, match="has dtype I8; allowed are"):
        open_llm(copy)


def test_an_unknown_model_type_and_a_missing_folder(copy, tmp_path):
    (copy / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(CheckpointError, match="model_type 'mamba', supported are"):
        open_llm(copy)
    with pytest.raises(CheckpointError, match="does not exist; give the folder of"):
        open_llm(tmp_path / "absent")


def test_an_adapter_is_no_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"holds an adapter .* merge it into its model"):
        open_llm(tmp_path)


def test_file_systems_without_direct_reads_give_the_same_tokens(toy, budget, monkeypatch, caplog):
    folder = toy("llama", max_shard_bytes=120_000)
    wanted = generate(folder, PLENTY, PROMPTS)
    refuse_direct(monkeypatch)
    assert generate(folder, budget, PROMPTS) == wanted
    warnings = [record for record in caplog.records if "No direct reads" in record.message]
    assert len(warnings) == 1
