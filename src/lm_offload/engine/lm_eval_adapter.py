"""The tasks of EleutherAI's lm-evaluation-harness on this engine; needs the package `lm-eval`.

Its command line with the model of this module registered::

    python -m lm_offload.engine.lm_eval_adapter run --model lm-offload \\
        --model_args pretrained=FOLDER,cpu_memory=8GiB,weight_format=int4:64 --tasks hellaswag
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import lm_eval.models  # noqa: F401  its own models are registered only where there is none yet
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from lm_offload.engine.eval_windows import Window
from lm_offload.engine.evaluate import Predictions, predict
from lm_offload.engine.llm import LLM
from lm_offload.engine.tokenizer_kinds import transformers_tokenizer
from lm_offload.errors import RequestError
from lm_offload.sampling import SamplingParams

DEFAULT_MAX_TOKENS = 256  # of the harness
DRAW_NAMES = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
MAX_TOKENS_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")

Pair = tuple[Any, list[int], list[int]]  # cache key, context, continuation
Answer = tuple[float, bool]  # log probability, and whether greedy decoding gives the same


@register_model("lm-offload")
class OffloadLM(TemplateLM):  # type: ignore[misc]
    """`LLM` as a model of the harness; text becomes tokens as in the harness's `hf` model.

    The harness always gives batch sizes and a device; here the plan decides of both.
    """

    def __init__(
        self,
        pretrained: str,
        cpu_memory: str | int | None = None,
        threads: int | None = None,
        weight_format: str | None = None,
        max_length: int | None = None,
        batch_size: object = None,
        max_batch_size: object = None,
        device: object = None,
    ) -> None:
        super().__init__()
        self.llm = LLM(
            pretrained, cpu_memory=cpu_memory, threads=threads, weight_format=weight_format
        )
        self.tokenizer = transformers_tokenizer(self.llm.files.folder)
        self.max_length = max_length or self.llm.files.config.max_positions

    @property
    def tokenizer_name(self) -> str:
        """What the harness keeps tokenized requests under."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        own: int | None = self.tokenizer.eos_token_id
        return self.llm.files.config.eos_token_ids[0] if own is None else own

    @property
    def prefix_token_id(self) -> int:
        """The token in front of a text without a context."""
        own: int | None = self.tokenizer.bos_token_id
        return self.eot_token_id if own is None else own

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **options: object
    ) -> list[int]:
        """Token ids; by default with the tokenizer's own prefix, unless the text has it already."""
        if add_special_tokens is None:
            add_special_tokens = not string.startswith(self.tokenizer.decode(self.prefix_token_id))
        return list(self.tokenizer.encode(string, add_special_tokens=add_special_tokens))

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as text, by the template of the checkpoint."""
        return str(
            self.tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """Log probability of whole texts, in windows where they are longer than the context."""
        windows = [self._rolling(request.args[0]) for request in requests]
        pairs = [(None, *pair) for text in windows for pair in text]
        answers = self._loglikelihood_tokens(pairs, disable_tqdm=disable_tqdm)
        bounds = pairwise(accumulate(map(len, windows), initial=0))
        totals = [sum(answer[0] for answer in answers[first:last]) for first, last in bounds]
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The completion of each context, up to one of its stop strings."""
        params = [self._sampling_params(request.args[1]) for request in requests]
        prompts = [
            self.tok_encode(request.args[0])[-max(self.max_length - one.most_tokens, 1) :]
            for request, one in zip(requests, params, strict=True)
        ]
        texts = [""] * len(requests)
        outputs = self.llm.generate_each(prompts, params)
        for output in tqdm(outputs, total=len(requests), disable=disable_tqdm):
            output.check_complete()
            texts[output.index] = output.text
            arguments = requests[output.index].args
            self.cache_hook.add_partial("generate_until", arguments, output.text)
        return texts

    def _loglikelihood_tokens(
        self, requests: Sequence[Pair], disable_tqdm: bool = False, **options: object
    ) -> list[Answer]:
        windows = [self._window(context, targets) for _, context, targets in requests]
        log_probs, greedy = [0.0] * len(windows), [True] * len(windows)
        with tqdm(total=sum(len(w.targets) for w in windows), disable=disable_tqdm) as progress:

            def visit(found: Predictions) -> None:
                log_probs[found.window] += found.log_likelihood
                greedy[found.window] &= bool((found.log_probs.argmax(-1) == found.targets).all())
                progress.update(len(found.targets))

            predict(self.llm, windows, visit)
        answers = list(zip(log_probs, greedy, strict=True))
        for (key, *_), answer in zip(requests, answers, strict=True):
            if key is not None:  # windows of a longer text are no answer of their own
                self.cache_hook.add_partial("loglikelihood", key, answer)
        return answers

    def _window(self, context: list[int], targets: list[int]) -> Window:
        """Cut on the left to what the model takes; the last token is only predicted."""
        if len(targets) > self.max_length:
            raise RequestError(
                f"A continuation has {len(targets)} tokens, the model takes {self.max_length}; "
                "choose a task with shorter ones."
            )
        return Window([*context, *targets[:-1]][-self.max_length :], targets)

    def _rolling(self, text: str) -> list[tuple[list[int], list[int]]]:
        windows = get_rolling_token_windows(
            self.tok_encode(text), self.prefix_token_id, self.max_length, context_len=1
        )
        return [make_disjoint_window(window) for window in windows]

    def _sampling_params(self, arguments: Mapping[str, Any]) -> SamplingParams:
        """What a task asks of generation, in our words; raises RequestError for what is unknown."""
        given = dict(arguments)
        stop, stop_token_ids = self._stops(given.pop("until", None) or [])
        lengths = [given.pop(name, None) for name in MAX_TOKENS_NAMES]
        max_tokens = next((int(length) for length in lengths if length), DEFAULT_MAX_TOKENS)
        if given.pop("do_sample", None) is False:
            given["temperature"] = 0.0
        if unknown := sorted(given.keys() - DRAW_NAMES):
            raise RequestError(
                f"A task asks for {', '.join(unknown)} in generation; known are "
                f"{', '.join(DRAW_NAMES)}, until, do_sample and max_gen_toks."
            )
        return SamplingParams(max_tokens, stop=stop, stop_token_ids=stop_token_ids, **given)

    def _stops(self, until: str | Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Stop strings and stop tokens: special tokens are no part of the text that is searched."""
        texts = [until] if isinstance(until, str) else until
        special = self.tokenizer.get_added_vocab()
        return (
            tuple(text for text in texts if text and text not in special),
            tuple(special[text] for text in texts if text in special),
        )


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
