import subprocess
import sys

import pytest

import lm_offload


@pytest.mark.parametrize("name", lm_offload.__all__)
def test_every_public_name_can_be_imported_and_is_documented(name):
    assert getattr(lm_offload, name).__doc__


def test_dir_shows_exactly_the_public_names():
    assert {name for name in dir(lm_offload) if not name.startswith("__")} == set(
        lm_offload.__all__
    )


def test_star_import_gives_exactly_the_public_names():
    names: dict[str, object] = {}
    exec("from lm_offload import *", names)
    assert set(names) - {"__builtins__"} == set(lm_offload.__all__)


def test_unknown_names_are_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = lm_offload.Nothing


def test_import_loads_nothing_heavy():
    code = (
        "import sys, lm_offload, lm_offload.errors, lm_offload.units\n"
        "heavy = {'torch', 'transformers', 'numpy', 'tokenizers', 'rich', 'huggingface_hub'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
