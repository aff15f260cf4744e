"""Texts and conversations as tokens and back, by vLLM's names."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from lm_offload.engine.tokenizer import Tokenizer
from lm_offload.errors import RequestError
from lm_offload.server.answer_forms import Json
from lm_offload.server.bodies import ChatBody
from lm_offload.server.messages import Message
from lm_offload.server.questions import prompt_of
from lm_offload.server.tool_bodies import Tool


class TokenizeBody(BaseModel):
    """`POST /tokenize`: a text, or what the chat template makes of messages."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    prompt: str | None = None
    add_special_tokens: bool = True
    messages: Annotated[list[Message], Field(min_length=1)] | None = None
    tools: list[Tool] | None = None
    add_generation_prompt: bool = True
    chat_template_kwargs: dict[str, Any] | None = None
    return_token_strs: bool = False


class DetokenizeBody(BaseModel):
    """`POST /detokenize`."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    tokens: list[StrictInt]


def tokenized(body: TokenizeBody, tokenizer: Tokenizer, max_model_len: int) -> Json:
    """Token ids, how many, and their texts where these were asked for; raises RequestError."""
    ids = _ids(body, tokenizer)
    texts = [tokenizer.decode_all([token]) for token in ids] if body.return_token_strs else None
    return {"count": len(ids), "max_model_len": max_model_len, "tokens": ids, "token_strs": texts}


def detokenized(body: DetokenizeBody, tokenizer: Tokenizer) -> Json:
    """Text of token ids, special tokens by their names; raises RequestError for others."""
    try:
        return {"prompt": tokenizer.decode_all(body.tokens)}
    except OverflowError as error:
        raise RequestError("tokens has an id that no token has; use this model's.") from error


def _ids(body: TokenizeBody, tokenizer: Tokenizer) -> list[int]:
    if (body.prompt is None) == (body.messages is None):
        raise RequestError("A text or a conversation becomes tokens; give prompt or messages.")
    if body.prompt is not None:
        encode = tokenizer.encode if body.add_special_tokens else tokenizer.encode_words
        return encode(body.prompt)
    given = {
        "add_generation_prompt": body.add_generation_prompt,
        **(body.chat_template_kwargs or {}),
    }
    chat = ChatBody(
        model="", messages=body.messages or [], tools=body.tools, chat_template_kwargs=given
    )
    return prompt_of(chat, tokenizer)()
