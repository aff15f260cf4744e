"""What a loaded model does with prompts: completes them, streams one, answers, scores windows."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from collections.abc import Sequence as Items
from contextlib import closing, contextmanager
from typing import Any

from lm_offload.engine.eval_windows import Window
from lm_offload.engine.loaded import SweepCallback
from lm_offload.engine.open_run import OpenRun
from lm_offload.engine.option_kinds import check_kinds, check_workload
from lm_offload.engine.option_names import OF_CALLS
from lm_offload.engine.outputs import RequestOutput
from lm_offload.engine.progress_bar import MakeBar, check_bar, watched
from lm_offload.engine.prompt_forms import PlainPrompt, Prompt, as_batch, as_prompt
from lm_offload.engine.request_text import next_piece
from lm_offload.engine.results import RequestGather, check_finished, request_output
from lm_offload.engine.scored_requests import ScoreConsumer, make_scored
from lm_offload.engine.tokenized_model import Params, TokenizedModel
from lm_offload.engine.tokenizer_kinds import Messages
from lm_offload.engine.turn import ending_with
from lm_offload.errors import RequestError
from lm_offload.keywords import known_keywords
from lm_offload.plan import Workload
from lm_offload.sampling import SamplingParams


class TextModel(TokenizedModel):
    """Takes prompts, conversations, windows of text, or requests as they come."""

    @known_keywords("generate", RequestError, OF_CALLS)
    def generate(
        self,
        prompts: Prompt | Iterable[Prompt],
        sampling_params: Params | None = None,
        on_sweep: SweepCallback | None = None,
        use_tqdm: bool | MakeBar = False,
    ) -> list[RequestOutput]:
        """Complete prompts, given as text or token ids; outputs in the order of the prompts.

        vLLM's {"prompt": text} and {"prompt_token_ids": ids} are taken, too, and arrays of ids.
        `on_sweep` is called after every sweep with its record; `use_tqdm` shows a bar of finished
        prompts on a terminal. Raises RequestError for a bad prompt, ConfigError where `on_sweep` is
        no function, BudgetError if the budget is too small.
        """
        make_bar, batch = check_bar(use_tqdm), as_batch(prompts)
        outputs = self.generate_each(batch, sampling_params, on_sweep)
        in_time = watched(outputs, len(batch), make_bar)
        return sorted(in_time, key=lambda output: output.index)

    @known_keywords("generate_each", RequestError, OF_CALLS)
    def generate_each(
        self,
        prompts: Prompt | Iterable[Prompt],
        sampling_params: Params | None = None,
        on_sweep: SweepCallback | None = None,
    ) -> Iterator[RequestOutput]:
        """The same, each output as soon as it is finished; `output.index` is that of its prompt."""
        check_kinds(on_sweep=on_sweep)
        return ending_with(self._finished(as_batch(prompts), sampling_params, on_sweep))

    def _finished(
        self, batch: Items[PlainPrompt], params: Params | None, on_sweep: SweepCallback | None
    ) -> Generator[tuple[RequestOutput, bool], None, None]:
        gather = RequestGather(len(batch))
        with (
            self._turn.taken(),
            closing(self._sweeps(self._sequences(batch, params))) as sweeps,
        ):
            first_id, self._num_requests = self._num_requests, self._num_requests + len(batch)
            for sampled in sweeps:
                self._report(on_sweep)
                done = [sequence for sequence in sampled if sequence.finish_reason]
                for request in gather.add(done):
                    prompt = batch[request[0].request]
                    output = request_output(request, prompt, self._open_tokenizer, first_id)
                    yield output, not gather.left

    @known_keywords("stream", RequestError, OF_CALLS)
    def stream(
        self,
        prompt: Prompt,
        sampling_params: SamplingParams | None = None,
        on_sweep: SweepCallback | None = None,
    ) -> Iterator[str]:
        """The completion of one prompt, piece by piece as its characters are certain.

        Raises RequestError where more than one completion is asked for.
        """
        check_kinds(on_sweep=on_sweep)
        return ending_with(self._pieces(as_prompt(prompt), sampling_params, on_sweep))

    def _pieces(
        self, prompt: PlainPrompt, params: Params | None, on_sweep: SweepCallback | None
    ) -> Generator[tuple[str, bool], None, None]:
        with self._turn.taken():
            sequence, *others = self._sequences([prompt], params)
            if others:
                raise RequestError(
                    f"n is {len(others) + 1}; a stream gives 1 completion, use generate."
                )
            stream = self._stream_of(sequence)
            self._streams[sequence.index] = stream
            with closing(self._sweeps([sequence])) as sweeps:
                for _ in sweeps:
                    self._report(on_sweep)
                    yield next_piece(stream, sequence), sequence.finish_reason is not None
            check_finished([sequence])

    def chat(
        self,
        messages: Messages | Items[Messages],
        sampling_params: Params | None = None,
        on_sweep: SweepCallback | None = None,
        use_tqdm: bool | MakeBar = False,
        **template: Any,
    ) -> list[RequestOutput]:
        """The answer to a conversation, or to each of several, by the checkpoint's chat template.

        `template` is what the template takes beside the messages: `tools=[...]`, or
        `enable_thinking=False` of Qwen 3. Raises RequestError where it refuses the messages.
        """
        several = bool(messages) and not isinstance(messages[0], Mapping)
        conversations = messages if several else [messages]
        encode = self.tokenizer.apply_chat_template
        prompts = [encode(one, **template) for one in conversations]  # type: ignore[arg-type]
        return self.generate(prompts, sampling_params, on_sweep, use_tqdm)

    @contextmanager
    def open_run(self, workload: Workload) -> Iterator[OpenRun]:
        """A run that requests join and leave while it goes on, for the thread that opens it.

        Memory is planned for `workload`, whose longest sequence is the longest that is taken.
        """
        check_workload(workload)
        with self._turn.taken():
            engine = self._engine_for(workload)
            shares, longest = self._wishes.prefix_sharing, workload.most_tokens
            run = OpenRun(engine, self.files.config, *self._words, longest, shares)
            self._streams = run.streams
            try:
                yield run
            except BaseException:
                self._unload()
                raise
            run.close()
            self._write_trace()

    def score(
        self,
        windows: Items[Window],
        consumer: ScoreConsumer,
        on_sweep: SweepCallback | None = None,
    ) -> None:
        """Compute windows and hand out the logits that predict their targets, as sweeps make them.

        `consumer(window, position, logits)` gets logits f32 [R, V] of the positions from
        `position` on, in order within a window; they are overwritten by the next sweep.
        """
        check_kinds(on_sweep=on_sweep)
        sequences = make_scored(windows, consumer, self.files.config)
        with self._turn.taken(), closing(self._sweeps(sequences)) as sweeps:
            self._streams = {}
            for _ in sweeps:
                self._report(on_sweep)
        check_finished(sequences)
