"""What training leaves on disk: its own state to resume from, and the model in HF layout."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from recipes.train_demo.corpus import SEPARATOR
from recipes.train_demo.model import DemoConfig, Parameters
from safetensors.torch import save
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from recipes.train_demo.trainer import Trainer


def save_state(trainer: Trainer, work: Path) -> None:
    """Write weights, optimizers and used time, atomically."""
    state = {
        "parameters": {name: weight.detach() for name, weight in trainer.parameters.items()},
        "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
        "elapsed_s": trainer.elapsed_s,
        "steps": trainer.steps,
    }
    torch.save(state, work / "state.pt.tmp")
    os.replace(work / "state.pt.tmp", work / "state.pt")


def load_state(trainer: Trainer, work: Path) -> None:
    """Continue from the state in `work`, if there is one."""
    if not (work / "state.pt").exists():
        return
    state = torch.load(work / "state.pt")
    with torch.no_grad():
        for name, weight in state["parameters"].items():
            trainer.parameters[name].copy_(weight)
    for optimizer, saved in zip(trainer.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    trainer.elapsed_s, trainer.steps = state["elapsed_s"], state["steps"]


def export(parameters: Parameters, config: DemoConfig, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the model as a Hugging Face folder (bf16), each file atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    eos = tokenizer.token_to_id(SEPARATOR)
    weights = {name: weight.detach().bfloat16() for name, weight in parameters.items()}
    _write(folder / "config.json", _json(model_config(config, eos)))
    _write(folder / "generation_config.json", _json({"bos_token_id": eos, "eos_token_id": eos}))
    _write(folder / "tokenizer.json", tokenizer.to_str().encode())
    _write(folder / "tokenizer_config.json", _json(tokenizer_config(config)))
    _write(folder / "model.safetensors", save(weights, metadata={"format": "pt"}))


def model_config(config: DemoConfig, eos: int) -> dict[str, Any]:
    """HF's `config.json` for this shape."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **dataclasses.asdict(config),
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "use_cache": True,
        "bos_token_id": eos,
        "eos_token_id": eos,
        "torch_dtype": "bfloat16",
    }


def tokenizer_config(config: DemoConfig) -> dict[str, Any]:
    """HF's `tokenizer_config.json`: a plain fast tokenizer, no token added to prompts."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SEPARATOR,
        "eos_token": SEPARATOR,
        "model_max_length": config.max_position_embeddings,
        "clean_up_tokenization_spaces": False,
    }


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)
