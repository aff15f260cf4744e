"""MLPs in two halves: the same bits as in one, for every model type that has them."""

from __future__ import annotations

import pytest
import torch

from lm_offload.arch.config import supported_model_types
from lm_offload.arch.halves import IN_HALVES
from lm_offload.models.registry import load_model
from tests.models.harness import PagedModel
from tests.toy import EVERY_TYPE, VOCAB_SIZE


def test_types_said_to_have_halves_offer_their_functions():
    for model_type in IN_HALVES:
        model = load_model(model_type)
        assert callable(model.inner_rows)
        assert callable(model.add_inner)


def test_every_type_of_a_toy_with_the_functions_is_said_to_have_them():
    offering = {name for name in supported_model_types() if hasattr(load_model(name), "add_inner")}
    assert {name for name in offering if hasattr(load_model(name), "inner_rows")} == IN_HALVES


@pytest.mark.parametrize("model_type", sorted(IN_HALVES & {*EVERY_TYPE}))
def test_logits_are_those_of_whole_mlps(toy, model_type):
    folder = toy(model_type)
    whole, cut = PagedModel(folder), PagedModel(folder, cut=True)
    assert len(cut.units) >= len(whole.units) + whole.config.num_layers
    generator = torch.Generator().manual_seed(1)
    prompt = torch.randint(0, VOCAB_SIZE, (21,), generator=generator).tolist()
    sweeps = [{0: prompt[:9], 1: prompt[3:20]}, {0: prompt[9:], 1: prompt[:1]}, {0: [5], 1: [6]}]
    for new_tokens in sweeps:
        wanted, found = whole.sweep(new_tokens), cut.sweep(new_tokens)
        for number, logits in wanted.items():
            assert torch.equal(found[number], logits)
