"""Prefixes on disk: found by another process, never trusted blindly."""

from __future__ import annotations

import pytest

from lm_offload.errors import ConfigError
from lm_offload.kvcache.prefix_entries import shrink
from lm_offload.quant.kv_format import KV_FORMATS
from tests.engine.harness import GREEDY, open_llm, prompts_of

(PREFIX,) = prompts_of(50)
PROMPTS = [PREFIX + tail for tail in prompts_of(3, 20, seed=1)]


def run(folder, cache, prompts=PROMPTS, **options) -> tuple[list[list[int]], list[int]]:
    """Tokens and cached tokens of each prompt, by an engine of its own."""
    with open_llm(folder, prefix_cache=cache, **options) as llm:
        outputs = llm.generate(prompts, GREEDY)
    tokens = [list(output.outputs[0].token_ids) for output in outputs]
    return tokens, [output.num_cached_tokens for output in outputs]


def files_in(cache) -> list:
    return sorted(cache.glob("*/*.kv"))


@pytest.mark.parametrize("kv_format", [None, *KV_FORMATS])
def test_another_process_computes_the_rest_only(toy, tmp_path, kv_format):
    folder, how = toy("llama"), {"kv_format": kv_format}
    wanted, cached = run(folder, tmp_path, **how)
    assert cached == [0, 48]
    assert len(files_in(tmp_path)) == 4  # 3 in common, one more of the second prompt
    assert run(folder, tmp_path, **how) == (wanted, [48, 64])


def test_what_is_there_is_not_written_again(toy, tmp_path):
    run(toy("llama"), tmp_path)
    before = [path.stat().st_ino for path in files_in(tmp_path)]
    run(toy("llama"), tmp_path)
    assert [path.stat().st_ino for path in files_in(tmp_path)] == before


def test_other_models_and_formats_have_blocks_of_their_own(toy, tmp_path):
    for folder, how in (
        (toy("llama"), {}),
        (toy("llama", seed=1), {}),
        (toy("llama"), {"kv_format": "int8"}),
    ):
        assert run(folder, tmp_path, **how)[1] == [0, 48]
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign"])
def test_damaged_blocks_are_computed_and_made_anew_with_one_warning(toy, tmp_path, caplog, damage):
    folder = toy("llama")
    wanted, _ = run(folder, tmp_path)
    paths = files_in(tmp_path)
    whole = [path.read_bytes() for path in paths]
    for path, data in zip(paths, whole, strict=True):
        changed = {
            "cut": data[:-1],
            "flipped": data[:100] + bytes([data[100] ^ 255]) + data[101:],
            "foreign": data[:8] + bytes(16) + data[24:],
        }
        path.write_bytes(changed[damage])
    tokens, cached = run(folder, tmp_path)
    assert (tokens, cached) == (wanted, [0, 48])
    assert len([r for r in caplog.records if "prefix cache" in r.message]) == 1
    mended, cached = run(folder, tmp_path)
    assert mended == wanted
    assert cached[0] >= 16  # the first block was read, so it was made anew


def test_a_folder_that_cannot_be_written_is_one_warning(toy, tmp_path, caplog, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lm_offload.kvcache.prefix_store.write_block", full)
    tokens, _ = run(toy("llama"), tmp_path)
    assert all(len(one) == GREEDY.max_tokens for one in tokens)
    assert [r.message for r in caplog.records if "No space left" in r.message]
    assert files_in(tmp_path) == []


def test_the_folder_stays_within_its_limit_and_keeps_beginnings(toy, tmp_path):
    folder = toy("llama")
    run(folder, tmp_path)
    size_bytes = files_in(tmp_path)[0].stat().st_size
    shrink(tmp_path, 2 * size_bytes)
    assert len(files_in(tmp_path)) == 2
    assert run(folder, tmp_path, prefix_cache_limit=2 * size_bytes)[1] == [32, 48]
    assert len(files_in(tmp_path)) == 2


def test_it_is_not_read_where_computing_is_sooner(toy, tmp_path, monkeypatch):
    monkeypatch.setattr("lm_offload.engine.prefix_folder.read_s", lambda *_: 1e9)
    assert run(toy("llama"), tmp_path)[1] == [0, 48]
    assert files_in(tmp_path) == []


def test_what_cannot_take_effect_is_refused(toy, tmp_path):
    file = tmp_path / "file"
    file.touch()
    for options, said in (
        ({"prefix_cache": tmp_path, "prefix_sharing": False}, "prefix sharing off"),
        ({"prefix_cache_limit": "1GiB"}, "without its folder"),
        ({"prefix_cache": file / "below"}, "cannot be made"),
        ({"prefix_cache": tmp_path, "prefix_cache_limit": "much"}, "not a size"),
    ):
        with pytest.raises(ConfigError, match=said):
            open_llm(toy("llama"), **options)
