"""What people call a model, wherever it lies."""

from pathlib import Path

import pytest

from lm_offload.engine.model_folder import model_name


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("/data/llama-1.1b", "llama-1.1b"),
        ("/hub/models--org--model/snapshots/0123abc", "org--model"),
        ("/data/here/../there", "there"),
    ],
)
def test_the_name_is_that_of_the_folder_or_the_repository(folder, name):
    assert model_name(Path(folder)) == name
