"""What chat bodies say of tools, and what a call that they demand has to look like."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lm_offload.errors import RequestError
from lm_offload.sampling import StructuredOutputs

NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}
SPACE = " "  # between parts of a call at most one, as models write them


class Function(BaseModel):
    """What a tool is called, and the JSON schema of its arguments."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(BaseModel):
    """A function is the only kind."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["function"]
    function: Function


class FunctionName(BaseModel):
    """Of the one that is to be called."""

    model_config = ConfigDict(extra="forbid")

    name: str


class ToolName(BaseModel):
    """The same in the form of a tool."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["function"]
    function: FunctionName


ToolChoice = Literal["none", "auto", "required"] | ToolName


@dataclass(frozen=True)
class ToolUse:
    """The tools that an answer may call; one of them, and nothing else, where it `must`."""

    tools: Items[Tool]
    must: bool

    @property
    def schemas(self) -> dict[str, dict[str, Any]]:
        """Of their arguments, by what they are called."""
        return {tool.function.name: tool.function.parameters or {} for tool in self.tools}

    @property
    def form(self) -> StructuredOutputs | None:
        """What the text is held to, `{"name": ..., "arguments": ...}` of a tool; None: free."""
        if not self.must:
            return None
        calls = [_call_schema(tool.function, f"#/anyOf/{i}") for i, tool in enumerate(self.tools)]
        return StructuredOutputs(json={"anyOf": calls}, whitespace_pattern=SPACE)


def tool_use(tools: Items[Tool] | None, choice: ToolChoice | None) -> ToolUse | None:
    """Which tools a body wants used and how, None for none; raises RequestError."""
    named = choice.function.name if isinstance(choice, ToolName) else None
    chosen = [tool for tool in tools or () if named in (None, tool.function.name)]
    must = named is not None or choice == "required"
    if must and not chosen:
        raise RequestError(
            f"tool_choice is {named or choice!r} and tools has no such function; give it in tools."
        )
    return ToolUse(chosen, must) if chosen and choice != "none" else None


def _call_schema(function: Function, place: str) -> dict[str, Any]:
    """Of a call, which stands at `place` of a schema that has its own root."""
    return {
        "type": "object",
        "properties": {"name": {"const": function.name}, "arguments": _parameters(function, place)},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _parameters(function: Function, place: str) -> dict[str, Any]:
    """Raises RequestError for a schema within too many others."""
    schema = {"type": "object", **(function.parameters or NO_ARGUMENTS)}
    try:
        moved: dict[str, Any] = _moved(schema, f"{place}/properties/arguments")
    except RecursionError as error:
        raise RequestError(
            f"The parameters of {function.name!r} in tools are nested too deeply; give a flatter "
            "schema."
        ) from error
    return moved


def _moved(schema: Any, root: str) -> Any:
    """A schema whose references to its own root find it at `root`."""
    if isinstance(schema, Mapping):
        return {
            key: f"{root}{value[1:]}" if _is_reference(key, value) else _moved(value, root)
            for key, value in schema.items()
        }
    return [_moved(one, root) for one in schema] if isinstance(schema, list) else schema


def _is_reference(key: str, value: Any) -> bool:
    return key == "$ref" and isinstance(value, str) and value.startswith("#")
