"""The embedded demo model: a small Llama trained on Python's standard library."""

from pathlib import Path


def demo_path() -> Path:
    """The Hugging Face folder of the demo model (config, bf16 safetensors, tokenizer)."""
    return Path(__file__).parent
