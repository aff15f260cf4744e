"""Parsers of the model types of 2025 and 2026, and of older ones that came in with them."""

from __future__ import annotations

from collections.abc import Callable

from lm_offload.arch.families_plain import (
    parse_apertus,
    parse_arcee,
    parse_nemotron,
    parse_stablelm,
    parse_starcoder2,
)
from lm_offload.arch.families_sigmoid import parse_dots1, parse_solar_open
from lm_offload.arch.family_afmoe import parse_afmoe
from lm_offload.arch.family_cohere import parse_cohere, parse_cohere2
from lm_offload.arch.family_deepseek import parse_glm4_moe_lite
from lm_offload.arch.family_gemma4 import parse_gemma4_text
from lm_offload.arch.family_granite_hybrid import parse_granitemoehybrid
from lm_offload.arch.family_hunyuan import parse_hunyuan_v1_dense, parse_hunyuan_v1_moe
from lm_offload.arch.family_lfm2 import parse_lfm2, parse_lfm2_moe
from lm_offload.arch.family_llama4 import parse_llama4_text
from lm_offload.arch.family_minimax import parse_minimax_m2
from lm_offload.arch.family_mistral import parse_ministral, parse_ministral3, parse_mistral4
from lm_offload.arch.family_nemotron_h import parse_nemotron_h
from lm_offload.arch.family_olmo import parse_exaone_moe, parse_flex_olmo
from lm_offload.arch.family_phi import parse_phimoe
from lm_offload.arch.fields import Fields
from lm_offload.arch.shapes import ModelConfig

NEWER_PARSERS: dict[str, Callable[[Fields], ModelConfig]] = {
    "ministral3": parse_ministral3,
    "mistral4": parse_mistral4,
    "arcee": parse_arcee,
    "nemotron": parse_nemotron,
    "starcoder2": parse_starcoder2,
    "stablelm": parse_stablelm,
    "hunyuan_v1_dense": parse_hunyuan_v1_dense,
    "hunyuan_v1_moe": parse_hunyuan_v1_moe,
    "dots1": parse_dots1,
    "solar_open": parse_solar_open,
    "cohere": parse_cohere,
    "cohere2": parse_cohere2,
    "llama4_text": parse_llama4_text,
    "minimax_m2": parse_minimax_m2,
    "glm4_moe_lite": parse_glm4_moe_lite,
    "gemma4_text": parse_gemma4_text,
    "granitemoehybrid": parse_granitemoehybrid,
    "nemotron_h": parse_nemotron_h,
    "ministral": parse_ministral,
    "lfm2": parse_lfm2,
    "lfm2_moe": parse_lfm2_moe,
    "apertus": parse_apertus,
    "afmoe": parse_afmoe,
    "flex_olmo": parse_flex_olmo,
    "exaone_moe": parse_exaone_moe,
    "phimoe": parse_phimoe,
}
