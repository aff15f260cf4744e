"""What llama.cpp's converter does to the models of each architecture, and what is undone here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from lm_offload.arch.fields import Fields
from lm_offload.foreign import (
    gguf_deepseek,
    gguf_dense,
    gguf_hybrids,
    gguf_mixtures,
    gguf_plain,
    gguf_sigmoids,
)
from lm_offload.foreign.gguf_rope import Shapes

Read = Callable[[Fields, Shapes, Collection[str]], dict[str, Any]]


@dataclass(frozen=True)
class Architecture:
    """One value of `general.architecture`."""

    config: Read  # model_type and its own keys, from metadata, common shapes and tensor names
    pairs_rows: bool = False  # rows of queries and keys are in the order of `row_order.py`
    adds_one: bool = False  # to the weights of norms
    heads_in_turns: bool = False  # of values, see `gguf_heads.py`
    hybrid: bool = False  # recurrent layers say that they have 0 heads


ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture(gguf_mixtures.llama, pairs_rows=True),
    "qwen2": Architecture(gguf_dense.qwen2),
    "qwen3": Architecture(gguf_dense.qwen3),
    "qwen2moe": Architecture(gguf_mixtures.qwen2moe),
    "qwen3moe": Architecture(gguf_mixtures.qwen3moe),
    "olmoe": Architecture(gguf_mixtures.olmoe),
    "gpt-oss": Architecture(gguf_mixtures.gpt_oss),
    "phi3": Architecture(gguf_dense.phi3),
    "gemma": Architecture(gguf_dense.gemma, adds_one=True),
    "gemma2": Architecture(gguf_dense.gemma2, adds_one=True),
    "gemma3": Architecture(gguf_dense.gemma3, adds_one=True),
    "olmo2": Architecture(gguf_dense.olmo2),
    "exaone4": Architecture(gguf_dense.exaone4),
    "smollm3": Architecture(gguf_dense.smollm3, pairs_rows=True),
    "granite": Architecture(gguf_dense.granite, pairs_rows=True),
    "glm4": Architecture(gguf_dense.glm4),
    "ernie4_5": Architecture(gguf_dense.ernie4_5),
    "command-r": Architecture(gguf_plain.command_r),
    "cohere2": Architecture(gguf_plain.cohere2),
    "starcoder2": Architecture(gguf_plain.starcoder2),
    "arcee": Architecture(gguf_plain.arcee, pairs_rows=True),
    "seed_oss": Architecture(gguf_dense.seed_oss),
    "qwen2vl": Architecture(gguf_dense.qwen2),
    "qwen3vl": Architecture(gguf_dense.qwen3),
    "qwen3vlmoe": Architecture(gguf_mixtures.qwen3moe),
    "mistral3": Architecture(gguf_dense.mistral3, pairs_rows=True),
    "hunyuan-dense": Architecture(gguf_dense.hunyuan_dense),
    "hunyuan-moe": Architecture(gguf_mixtures.hunyuan_moe),
    "granitemoe": Architecture(gguf_mixtures.granitemoe, pairs_rows=True),
    "ernie4_5-moe": Architecture(gguf_mixtures.ernie4_5_moe),
    "glm4moe": Architecture(gguf_sigmoids.glm4moe),
    "dots1": Architecture(gguf_sigmoids.dots1),
    "afmoe": Architecture(gguf_sigmoids.afmoe),
    "exaone-moe": Architecture(gguf_sigmoids.exaone_moe),
    "lfm2": Architecture(gguf_hybrids.lfm2, hybrid=True),
    "lfm2moe": Architecture(gguf_hybrids.lfm2moe, hybrid=True),
    "minimax-m2": Architecture(gguf_sigmoids.minimax_m2),
    "nemotron": Architecture(gguf_plain.nemotron, adds_one=True),
    "stablelm": Architecture(gguf_plain.stablelm),
    "qwen3next": Architecture(gguf_hybrids.qwen3next, adds_one=True),
    "qwen35": Architecture(gguf_hybrids.qwen35, adds_one=True, heads_in_turns=True),
    "qwen35moe": Architecture(gguf_hybrids.qwen35moe, adds_one=True, heads_in_turns=True),
    "deepseek2": Architecture(gguf_deepseek.deepseek2),
    "granitehybrid": Architecture(gguf_hybrids.granitehybrid, pairs_rows=True, hybrid=True),
}
