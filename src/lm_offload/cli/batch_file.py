"""The requests of a batch file, those that are left to answer, and answers with what made them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_offload.cli.line_file import STANDARD_STREAM, LineSink, name_of, read_records, text_lines
from lm_offload.cli.made_with import MADE_WITH, Made, check_made_with, digest
from lm_offload.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from lm_offload.server.batch_lines import BatchLine


def read_requests(file: Path) -> list[BatchLine]:
    """All of them, before anything is computed; raises RequestError for a line that is none."""
    from lm_offload.server.batch_lines import read_line

    found: dict[str, BatchLine] = {}
    for place, text in text_lines(file):
        line = read_line(text, place)
        if line.custom_id in found:
            raise RequestError(
                f"{place} has the custom_id {line.custom_id!r} of an earlier line; give each its "
                "own."
            )
        found[line.custom_id] = line
    if not found:
        raise RequestError(f"{name_of(file)} holds no request; give a line for each.")
    return list(found.values())


def left_to_answer(lines: list[BatchLine], output: Path | None, made: Made) -> list[BatchLine]:
    """Those that the output has no answer of.

    Raises ConfigError for no file, and for an answer to another request or by another model.
    """
    from lm_offload.server.batch_lines import is_done

    if output in (None, STANDARD_STREAM):
        raise ConfigError("--resume was given without --output FILE; name the file to go on with.")
    assert output is not None
    records = read_records(output, {"custom_id": str, "response": dict})
    done = {record["custom_id"]: record for record in records if is_done(record)}
    for line in lines:
        if line.custom_id in done:
            which = f"request {line.custom_id!r}"
            check_made_with(output, which, done[line.custom_id], made_of(line, made))
    return [line for line in lines if line.custom_id not in done]


def made_of(line: BatchLine, made: Made) -> Made:
    """Also of the request itself, whose options are its own."""
    return {"request": digest([line.url, line.body]), **made}


def parsers_as_made(reasoning: str, tool_calls: str) -> Made:
    """Those that are not what the template says."""
    given = {"reasoning_parser": reasoning, "tool_call_parser": tool_calls}
    return {name: value for name, value in given.items() if value != "auto"}


class MadeSink:
    """Answers with what they were made with."""

    def __init__(self, sink: LineSink, made_by_id: Mapping[str, Made]) -> None:
        self._sink = sink
        self._made_by_id = made_by_id

    def write(self, record: Mapping[str, Any]) -> None:
        """See `LineSink.write`."""
        self._sink.write({**record, MADE_WITH: self._made_by_id[record["custom_id"]]})
