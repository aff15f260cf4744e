"""Measure the exported model into `card.json`: `python -m recipes.train_demo.evaluate`."""

import argparse
import json
import math
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from recipes.train_demo.bigram import best_bigram_nats, count_bigrams
from recipes.train_demo.corpus import read_corpus
from recipes.train_demo.tokenizer import token_stream
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

README = Path(__file__).parent / "model_readme.md"
PROMPTS = (
    "import os\n\ndef ",
    "class Stack:\n",
    "class Stack:\n    def __init__(self, items):",
    "def read_file(path):",
)
CONTEXT = 1024
NEW_TOKENS = 120


def model_nats(model: LlamaForCausalLM, stream: np.ndarray) -> float:
    """Mean nats per token over windows of CONTEXT tokens, every token but the first scored once."""
    ids = torch.from_numpy(stream.astype(np.int64))
    total = 0.0
    for start in range(0, len(ids) - 1, CONTEXT):
        window = ids[start : start + CONTEXT + 1]
        with torch.inference_mode():
            logits = model(window[None, :-1]).logits[0].float()
        total += F.cross_entropy(logits, window[1:], reduction="sum").item()
    return total / (len(ids) - 1)


def sample(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, prompt: str
) -> dict[str, str]:
    """Continue a prompt greedily, and once at temperature 0.8 and top-p 0.95 with a fixed seed."""
    inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    torch.manual_seed(0)
    kinds: dict[str, dict[str, Any]] = {
        "greedy": {"do_sample": False},
        "sampled": {"do_sample": True, "temperature": 0.8, "top_p": 0.95, "top_k": 0},
    }
    return {"prompt": prompt} | {
        kind: _continue(model, tokenizer, inputs, options) for kind, options in kinds.items()
    }


def _continue(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    inputs: dict[str, torch.Tensor],
    options: dict[str, Any],
) -> str:
    output = model.generate(
        **inputs, **options, max_new_tokens=NEW_TOKENS, pad_token_id=model.config.eos_token_id
    )
    return tokenizer.decode(output[0, inputs["input_ids"].shape[1] :])


def measure(folder: Path) -> dict[str, Any]:
    """All figures of the card; the weights are the bf16 ones as shipped, computed in fp32."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    corpus = read_corpus()
    train = token_stream(tokenizer.backend_tokenizer, corpus.modules)
    held_out_text = (folder / "heldout.txt").read_text(encoding="utf-8")
    held_out = np.array(tokenizer(held_out_text)["input_ids"], dtype=np.uint16)
    bigram, weight = best_bigram_nats(count_bigrams(train, model.config.vocab_size), held_out)
    nats = model_nats(model, held_out)
    return {
        "parameters": model.num_parameters(),
        "files_bytes": sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
        "trained_on": f"standard library of Python {platform.python_version()}",
        "module_tokens": len(train),
        "held_out_tokens": len(held_out),
        "held_out_bytes_per_token": len(held_out_text.encode()) / len(held_out),
        "context_tokens": CONTEXT,
        "model_perplexity": math.exp(nats),
        "model_bits_per_byte": nats * len(held_out) / math.log(2) / len(held_out_text.encode()),
        "bigram_perplexity": math.exp(bigram),
        "bigram_weight": weight,
        "samples": [sample(model, tokenizer, prompt) for prompt in PROMPTS],
    }


def describe(card: dict[str, Any]) -> str:
    """The model's README: where it comes from, and the figures of its card."""
    samples = "\n\n".join(
        f"```python\n{one['prompt']}{one['greedy']}\n```" for one in card["samples"]
    )
    return README.read_text(encoding="utf-8").format(**card, samples_as_code=samples)


def main() -> None:
    """Measure, write the card and the README, and show the card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("src/lm_offload/demo"))
    folder = parser.parse_args().model
    card = measure(folder)
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(describe(card), encoding="utf-8")
    print(json.dumps(card, indent=2))


if __name__ == "__main__":
    main()
