"""`lm-offload eval`: how well a model predicts a text, and what a lossy format costs of that."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from lm_offload.cli import options
from lm_offload.cli.eval_report import Row, print_quality, quality_record
from lm_offload.cli.line_file import unreadable
from lm_offload.cli.progress import RunProgress
from lm_offload.cli.report import people_console, print_json, report_console
from lm_offload.demo import demo_path
from lm_offload.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from lm_offload.engine.eval_windows import Window
    from lm_offload.engine.evaluate import Quality
    from lm_offload.engine.llm import LLM
    from lm_offload.engine.model_files import ModelFiles

DEFAULT_CONTEXT = 512
Score = Callable[..., "Quality"]  # of an LLM, windows and on_sweep


def evaluate(
    model: options.Model,
    text: Annotated[
        Path | None,
        typer.Option(
            help="File with the text to predict; default: the demo model's held-out text, which "
            "is Python.",
            show_default=False,
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            help="Tokens of each window of the text; default: 512, or what the model takes if "
            "that is less.",
            show_default=False,
            min=1,
        ),
    ] = None,
    tokens: Annotated[int, typer.Option(help="Most tokens of the text to use.", min=2)] = 8192,
    weight_format: options.WeightFormat = None,
    kv_format: options.KvFormat = None,
    cpu_memory: options.CpuMemory = None,
    threads: options.Threads = None,
    overlap: options.Overlap = True,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.ConfigFile = None,
) -> None:
    """Report the perplexity of a text, for a lossy format beside that of the own precision."""
    from lm_offload.engine.llm import LLM
    from lm_offload.engine.opening import open_model

    files = open_model(model)
    text = text or demo_path() / "heldout.txt"
    windows = _windows(files, text, context, tokens)
    open_llm = partial(LLM, model, cpu_memory=cpu_memory, threads=threads, overlap=overlap)
    evaluator = Evaluator(open_llm, windows, people_console(quiet))
    formats = Formats(weight_format, kv_format)
    rows = evaluator.run_alone() if formats == Formats() else evaluator.run_beside(files, formats)
    if as_json:
        print_json(quality_record(text.name, rows))
    else:
        print_quality(report_console(as_json), text.name, rows)


@dataclass(frozen=True)
class Formats:
    """What is asked for; None is the checkpoint's own precision."""

    weight_format: str | None = None
    kv_format: str | None = None


@dataclass(frozen=True)
class Evaluator:
    """Runs a model in several formats over the same windows, with progress."""

    open_llm: Callable[..., LLM]
    windows: Sequence[Window]
    console: Console

    def run_alone(self) -> list[Row]:
        """The model as it is."""
        from lm_offload.engine.evaluate import measure

        return [self._run(measure, Formats())]

    def run_beside(self, files: ModelFiles, formats: Formats) -> list[Row]:
        """The model in its own precision, and in other formats compared with that."""
        from lm_offload.engine.eval_file import row_file
        from lm_offload.engine.evaluate import compare, measure_reference
        from lm_offload.engine.quantized_cache import cache_folder

        if files.weight_format is not None:
            raise ConfigError(
                f"{files.folder} holds {files.weight_format}, beside which nothing can be "
                "compared; give the original checkpoint, or leave --weight-format out."
            )
        rows = sum(len(window.targets) for window in self.windows)
        with row_file(cache_folder().parent, rows, files.config.vocab_size) as file:
            reference = self._run(partial(measure_reference, file=file), Formats())
            return [reference, self._run(partial(compare, file=file), formats)]

    def _run(self, score: Score, formats: Formats) -> Row:
        from lm_offload.engine.scored_requests import scored_workload

        with RunProgress(self.console) as progress:
            hooks = {
                "on_load": progress.on_load,
                "on_quantize": progress.on_quantize,
                "on_measure": progress.on_measure,
            }
            with self.open_llm(**vars(formats), **hooks) as llm:
                workload = scored_workload(self.windows)
                plan = llm.load(workload)
                progress.expect(sum(workload.prompt_lens), 0)
                start_s = time.perf_counter()
                quality = score(llm, self.windows, on_sweep=progress.on_sweep)
                seconds = time.perf_counter() - start_s
                weight_bytes = llm.files.weight_bytes
        return Row(plan.weight_format, plan.kv_format, weight_bytes, seconds, quality)


def _windows(files: ModelFiles, text: Path, context: int | None, tokens: int) -> list[Window]:
    from lm_offload.engine.eval_windows import cut_text
    from lm_offload.engine.tokenizer import load_tokenizer

    most = files.config.max_positions
    if context is not None and context > most:
        raise RequestError(f"--context is {context}; the model takes 1 to {most} tokens.")
    tokenizer = load_tokenizer(files.folder)
    return cut_text(tokenizer, _read(text), context or min(DEFAULT_CONTEXT, most), tokens)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(str(file), error) from error
