"""Train the demo model within a wall-clock budget: `python -m recipes.train_demo.train`."""

import argparse
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from recipes.train_demo import parallel
from recipes.train_demo.checkpoint import export, load_state, save_state
from recipes.train_demo.corpus import read_corpus, write_held_out
from recipes.train_demo.model import DemoConfig
from recipes.train_demo.tokenizer import token_stream, train_tokenizer
from recipes.train_demo.trainer import Options, Trainer
from recipes.train_demo.windows import phase_at, window_stream
from tokenizers import Tokenizer
from torch import Tensor

log = logging.getLogger("train_demo")

SAVE_EVERY_S = 200


def run(trainer: Trainer, tokenizer: Tokenizer, windows: Iterator[Tensor]) -> None:
    """Train until the budget is used; save and export every few minutes and at the end."""
    saved_s, is_first = trainer.elapsed_s, parallel.rank_and_world()[0] == 0
    while trainer.progress < 1.0:
        start = time.perf_counter()
        phase = phase_at(trainer.progress)
        batch = torch.stack([next(windows) for _ in range(phase.windows)])
        loss = trainer.step(batch, phase.length)
        step_s = time.perf_counter() - start
        trainer.elapsed_s = parallel.from_first(trainer.elapsed_s + step_s)
        if is_first and trainer.steps % 5 == 0:
            _report(trainer, loss, batch[:, 1:].numel() / step_s)
        due = trainer.elapsed_s - saved_s > SAVE_EVERY_S or trainer.progress >= 1.0
        if is_first and due:
            saved_s = trainer.elapsed_s
            save_state(trainer, trainer.options.work)
            export(trainer.parameters, trainer.config, tokenizer, trainer.options.output)


def _report(trainer: Trainer, loss: float, tokens_per_s: float) -> None:
    done = 100 * trainer.progress
    log.info("step %d  %.1f %%  loss %.4f  %.0f tokens/s", trainer.steps, done, loss, tokens_per_s)


def prepare(options: Options, config: DemoConfig) -> tuple[Tokenizer, np.ndarray, np.ndarray]:
    """Tokenizer, and token streams of modules and tests; a resumed run keeps its tokenizer."""
    options.work.mkdir(parents=True, exist_ok=True)
    corpus = read_corpus()
    write_held_out(corpus, options.output / "heldout.txt")
    tokenizer_file = options.work / "tokenizer.json"
    if not tokenizer_file.exists():
        train_tokenizer(corpus.modules, config.vocab_size).save(str(tokenizer_file))
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    modules, tests = (token_stream(tokenizer, part) for part in (corpus.modules, corpus.tests))
    log.info("%d tokens of modules, %d of tests", len(modules), len(tests))
    return tokenizer, modules, tests


def parse_options() -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("src/lm_offload/demo"))
    parser.add_argument("--work", type=Path, default=Path("build/train_demo"))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--muon-lr", type=float, default=0.02)
    parser.add_argument("--adam-lr", type=float, default=4e-3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    return Options(**vars(parser.parse_args()))


def main() -> None:
    """Prepare the data, resume if there is a state, train, export."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options, config = parse_options(), DemoConfig()
    parallel.join_group()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    tokenizer, modules, tests = prepare(options, config)
    trainer = Trainer(config, options)
    load_state(trainer, options.work)
    run(trainer, tokenizer, window_stream(modules, tests, seed=trainer.steps))


if __name__ == "__main__":
    main()
