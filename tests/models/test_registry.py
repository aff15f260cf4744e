import pytest

from lm_offload.errors import UnsupportedModelError
from lm_offload.models.base import MixtureFunctions, ModelFunctions
from lm_offload.models.registry import SAME_FUNCTIONS, load_model, supported_model_types
from tests.toy import KINDRED_MIXTURES, MIXTURE_TYPES, RECURRENT_MIXTURES, RECURRENT_TYPES


@pytest.mark.parametrize("model_type", supported_model_types())
def test_every_type_has_all_functions(model_type):
    functions = {name for name in vars(ModelFunctions) if not name.startswith("_")}
    assert len(functions) == 7
    model = load_model(model_type)
    if model_type in (*MIXTURE_TYPES, *KINDRED_MIXTURES, *RECURRENT_MIXTURES):
        experts = {name for name in vars(MixtureFunctions) if not name.startswith("_")}
        functions = functions - {"mlp"} | experts
    if model_type in RECURRENT_TYPES:
        functions = functions - {"qkv"} | {"recur"}
    assert all(callable(getattr(model, name)) for name in functions)
    name = SAME_FUNCTIONS.get(model_type, model_type)
    assert model.__name__ == f"lm_offload.models.{name}"


@pytest.mark.parametrize("model_type", ["mamba", "workspace", "../llama", ""])
def test_other_names_are_refused(model_type):
    with pytest.raises(UnsupportedModelError, match="supported are afmoe, apertus, "):
        load_model(model_type)
