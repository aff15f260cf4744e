"""Which readers take apart what a model writes: by its chat template, or by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce

from lm_offload.engine.channels import CHANNEL
from lm_offload.engine.reasoning import hides, marks_of, template_way
from lm_offload.engine.tokenizer import Tokenizer
from lm_offload.sampling import SamplingParams
from lm_offload.server.json_calls import HERMES, LLAMA3, MISTRAL
from lm_offload.server.marked_calls import BEGIN, DEEPSEEK_V3, OPENAI
from lm_offload.server.parser_names import ReasoningParser, ToolCallParser
from lm_offload.server.reasoning_reader import ReasoningReader
from lm_offload.server.replies import Choice
from lm_offload.server.tool_bodies import ToolUse
from lm_offload.server.tool_calls import CallForm
from lm_offload.server.tool_reader import ToolReader
from lm_offload.server.xml_calls import FUNCTION, GLM45, KEY, QWEN3_CODER

Reader = Callable[[Choice], Choice]
FORMS: dict[ToolCallParser, CallForm] = {
    "hermes": HERMES,
    "llama3_json": LLAMA3,
    "mistral": MISTRAL,
    "qwen3_coder": QWEN3_CODER,
    "glm45": GLM45,
    "deepseek_v3": DEEPSEEK_V3,
    "openai": OPENAI,
}
BY_TEMPLATE = {CHANNEL: OPENAI, FUNCTION: QWEN3_CODER, KEY: GLM45, BEGIN: DEEPSEEK_V3}
DEMANDED = (LLAMA3,)  # a call that the text is held to is bare JSON


@dataclass(frozen=True)
class Parsers:
    """The way in which a model reasons, if it does, and the forms in which it may write calls."""

    tokenizer: Tokenizer
    way: str | None
    forms: tuple[CallForm, ...]
    reasons_in_special_tokens: bool = False
    calls_in_special_tokens: bool = False

    def params_for(self, params: SamplingParams, use: ToolUse | None) -> SamplingParams:
        """The same for a text that is read: with its marks, and a form is that of its content."""
        held = params.structured_outputs
        if held is not None and self.way is not None:
            params = params.clone(structured_outputs=replace(held, after_reasoning=self.way))
        calls = use is not None and self.calls_in_special_tokens
        shown = self.reasons_in_special_tokens or calls
        return params.clone(skip_special_tokens=False) if shown else params

    def reader(self, use: ToolUse | None, with_reasoning: bool) -> Reader:
        """What makes of the deltas of one answer those that are shown."""
        stages: list[Reader] = []
        if self.way is not None:
            stages.append(ReasoningReader(self.way, self.tokenizer))
            stages += [] if with_reasoning else [_without_reasoning]
        if use is not None and (use.must or self.forms):
            stages.append(ToolReader(use, DEMANDED if use.must else self.forms))
        return lambda choice: reduce(lambda read, stage: stage(read), stages, choice)


def as_written() -> Reader:
    """Leaves texts as they are."""
    return lambda choice: choice


def _without_reasoning(choice: Choice) -> Choice:
    return replace(choice, reasoning="")


def parsers_for(
    tokenizer: Tokenizer, reasoning: ReasoningParser = "auto", calls: ToolCallParser = "auto"
) -> Parsers:
    """Those of a model, or those that are named."""
    template = tokenizer.chat_template
    way = template_way(template) if reasoning == "auto" else _named(reasoning)
    forms = _forms(template, calls)
    needed = tuple(mark for form in forms for mark in form.needed)
    in_special = way is not None and hides(tokenizer, marks_of(way))
    return Parsers(tokenizer, way, forms, in_special, hides(tokenizer, needed))


def _named(reasoning: ReasoningParser) -> str | None:
    return None if reasoning == "none" else reasoning


def _forms(template: str, calls: ToolCallParser) -> tuple[CallForm, ...]:
    """Templates that teach JSON do not always say which form of it the model was trained on."""
    if calls == "none":
        return ()
    if calls != "auto":
        return (FORMS[calls],)
    taught = [form for mark, form in BY_TEMPLATE.items() if mark in template]
    return (taught[0],) if taught else tuple(it for it in FORMS.values() if it is not OPENAI)
