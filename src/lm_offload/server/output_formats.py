"""What bodies say of the form of a text: OpenAI's `response_format`, vLLM's own fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lm_offload.errors import RequestError
from lm_offload.sampling import StructuredOutputs

_NAMES = {field.name for field in fields(StructuredOutputs)}


class TextFormat(BaseModel):
    """Any text."""

    type: Literal["text"]


class ObjectFormat(BaseModel):
    """Any JSON object."""

    type: Literal["json_object"]


class NamedSchema(BaseModel):
    """A JSON schema; strict or not, the text is held to it."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = None
    description: str | None = None
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class SchemaFormat(BaseModel):
    """JSON by a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[TextFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")]


def of_format(given: ResponseFormat | None) -> StructuredOutputs | None:
    """What a text of this format is held to; raises RequestError."""
    if given is None or isinstance(given, TextFormat):
        return None
    schema = given.json_schema.json_schema if isinstance(given, SchemaFormat) else None
    return StructuredOutputs(json_object=True) if schema is None else StructuredOutputs(json=schema)


def of_fields(given: Mapping[str, Any] | None) -> StructuredOutputs | None:
    """Those of vLLM's `structured_outputs`; raises RequestError."""
    if given is None:
        return None
    if unknown := [name for name in given if name not in _NAMES]:
        raise RequestError(
            f"structured_outputs.{unknown[0]} was given, which has no effect here; leave it out."
        )
    return StructuredOutputs(**given)


def only_one(given: Mapping[str, StructuredOutputs | None]) -> StructuredOutputs | None:
    """The one that was given, if any; raises RequestError for several."""
    named = [name for name, one in given.items() if one is not None]
    if len(named) > 1:
        raise RequestError(f"{' and '.join(named)} were given; a text is held to one of them.")
    return given[named[0]] if named else None
