"""Code that a checkpoint brings along is not run, and nobody is asked whether it may be."""

from __future__ import annotations

import json
import shutil

import pytest

from lm_offload.engine.tokenizer import load_tokenizer
from lm_offload.errors import CheckpointError


def test_a_tokenizer_of_its_own_code_is_refused(toy, tmp_path, monkeypatch):
    folder = shutil.copytree(toy("llama"), tmp_path / "model")
    ran = tmp_path / "ran"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w')\nclass Own: pass\n")
    classes = {"AutoTokenizer": ["own.Own", "own.Own"]}
    declared = {"tokenizer_class": "Own", "auto_map": classes}
    (folder / "tokenizer_config.json").write_text(json.dumps(declared))
    asked = []
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or "y")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    with pytest.raises(CheckpointError, match="tokenizer that can be loaded"):
        load_tokenizer(folder)
    assert not asked
    assert not ran.exists()
