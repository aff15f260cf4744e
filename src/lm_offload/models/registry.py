"""From `model_type` to the functions of a model; adding a model is adding a file."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from lm_offload.arch.config import supported_model_types
from lm_offload.errors import UnsupportedModelError

if TYPE_CHECKING:
    from lm_offload.models.base import MixtureFunctions, ModelFunctions, RecurrentFunctions

SAME_FUNCTIONS = {  # their configs differ
    "exaone_moe": "glm4_moe",
    "ministral": "mistral",
    "olmo3": "olmo2",
    "seed_oss": "llama",
    "smollm3": "llama",
    "cohere2": "cohere",
    "dots1": "glm4_moe",
    "solar_open": "glm4_moe",
    "ministral3": "mistral",
    "glm4_moe_lite": "deepseek_v3",
}

__all__ = ["load_mixture", "load_model", "load_recurrent", "supported_model_types"]


def load_model(model_type: str) -> ModelFunctions:
    """The functions in `models/<model_type>.py`, or of a type that has the same ones.

    Raises UnsupportedModelError for other names.
    """
    if model_type not in supported_model_types():
        raise UnsupportedModelError(
            f"model_type {model_type!r} was given, supported are "
            f"{', '.join(supported_model_types())}; choose another checkpoint."
        )
    name = SAME_FUNCTIONS.get(model_type, model_type)
    return cast("ModelFunctions", import_module(f"lm_offload.models.{name}"))


def load_mixture(model_type: str) -> MixtureFunctions:
    """What the same file says of experts, for a model that has them."""
    return cast("MixtureFunctions", load_model(model_type))


def load_recurrent(model_type: str) -> RecurrentFunctions:
    """What the same file says of recurrent layers, for a model that has them."""
    return cast("RecurrentFunctions", load_model(model_type))
