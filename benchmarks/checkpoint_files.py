"""The small files of a generated checkpoint: its config, tokenizer and index."""

from __future__ import annotations

import json

from benchmarks.checkpoint_shapes import DTYPES, Shape, Tensor, model_config, tensors_of


def checkpoint_bytes(shape: Shape, dtype: str) -> int:
    """The size of all weights."""
    return sum(tensor.elements for tensor in tensors_of(shape)) * DTYPES[dtype][1].itemsize


def byte_level_tokenizer(vocab: int) -> dict[str, object]:
    """A `tokenizer.json` of one token per byte, without merges, padded to `vocab` ids."""
    special = ["<unk>", "<s>", "</s>"]
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [byte for byte in range(256) if byte not in printable]
    symbols = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(other))]
    names = special + symbols
    names += [f"<unused{i}>" for i in range(vocab - len(names))]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": name, "special": True, **flags} for i, name in enumerate(special)
        ],
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "use_regex": False},
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": False},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {name: i for i, name in enumerate(names)},
            "merges": [],
        },
    }


def small_files(shape: Shape, dtype: str, shards: list[list[Tensor]]) -> dict[str, str]:
    """Text of every file that is not weights, by file name."""
    total_bytes = checkpoint_bytes(shape, dtype)
    weight_map = {
        tensor.name: shard_name(i, len(shards))
        for i, shard in enumerate(shards)
        for tensor in shard
    }
    contents: dict[str, dict[str, object]] = {
        "config.json": model_config(shape, dtype),
        "generation_config.json": {
            "_from_model_config": True,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        "tokenizer.json": byte_level_tokenizer(shape.vocab),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "model_max_length": 8192,
        },
        "model.safetensors.index.json": {
            "metadata": {"total_size": total_bytes},
            "weight_map": dict(sorted(weight_map.items())),
        },
    }
    return {name: json.dumps(content, indent=2) + "\n" for name, content in contents.items()}


def shard_name(index: int, count: int) -> str:
    """Of the file with the weights of one of `count` shards."""
    return f"model-{index + 1:05d}-of-{count:05d}.safetensors"
