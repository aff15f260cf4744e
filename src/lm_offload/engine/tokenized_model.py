"""A loaded model with its tokenizer: prompts become sequences, their tokens text."""

from __future__ import annotations

from collections.abc import Sequence as Items
from functools import cache, partial
from typing import Any

from lm_offload.engine.assembly import RunOptions
from lm_offload.engine.grammar_loading import load_grammars
from lm_offload.engine.loaded import LoadedModel
from lm_offload.engine.model_files import ModelFiles
from lm_offload.engine.planned import Wishes
from lm_offload.engine.prompt_forms import PlainPrompt
from lm_offload.engine.request_text import RequestText
from lm_offload.engine.requests import make_sequences
from lm_offload.engine.text_stream import TextStream
from lm_offload.engine.tokenizer import Tokenizer, load_tokenizer
from lm_offload.kernels.base import Kernels
from lm_offload.sampling import SamplingParams
from lm_offload.sequence import Sequence

Params = SamplingParams | Items[SamplingParams]


class TokenizedModel(LoadedModel):
    """What every way to use a model needs of its tokenizer."""

    def __init__(
        self, choices: Items[ModelFiles], kernels: Kernels, wishes: Wishes, options: RunOptions
    ) -> None:
        super().__init__(choices, kernels, wishes, options)
        self._streams: dict[int, TextStream] = {}
        self._open_tokenizer = cache(partial(load_tokenizer, choices[0].folder))
        grammars = cache(partial(load_grammars, self._open_tokenizer, choices[0].config))
        self._words = self._open_tokenizer, grammars  # each made at first use
        self._num_requests = 0  # so far, in all calls

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the checkpoint, loaded at first use."""
        return self._open_tokenizer()

    def get_tokenizer(self) -> Any:
        """The tokenizer of the checkpoint as transformers makes it, with all that it can do."""
        return self.tokenizer.for_transformers()

    def check(self, prompts: Items[PlainPrompt], params: Params) -> None:
        """Raise RequestError for what `generate` would refuse; grammars are kept compiled."""
        make_sequences(prompts, params, self.files.config, *self._words)

    def _sequences(self, prompts: Items[PlainPrompt], params: Params | None) -> list[Sequence]:
        params = params or SamplingParams()
        sequences = make_sequences(prompts, params, self.files.config, *self._words)
        self._streams = {
            sequence.index: self._stream_of(sequence)
            for sequence in sequences
            if sequence.params.stop
        }
        return sequences

    def _stream_of(self, sequence: Sequence) -> TextStream:
        """The text of a sequence as it grows; raises CheckpointError without a tokenizer."""
        self._open_tokenizer()
        return RequestText(self._open_tokenizer, sequence.params).stream()

    def _is_stopped(self, sequence: Sequence, token: int) -> bool:
        stream = self._streams.get(sequence.index)
        return stream.add(token) if stream else False
