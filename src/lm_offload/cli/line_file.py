"""Lines of text that are read, and of JSON: appended to a file whole or not at all."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from lm_offload.errors import ConfigError, RequestError, StorageError

STANDARD_STREAM = Path("-")  # as other tools call standard input and output


class LineSink(Protocol):
    """Takes records."""

    def write(self, record: Mapping[str, Any]) -> None:
        """One record as a line, which an interruption does not lose."""


class StandardOutput:
    """Lines on standard output, in ASCII where its encoding is not UTF-8."""

    def write(self, record: Mapping[str, Any]) -> None:
        """See `LineSink.write`."""
        ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
        sys.stdout.write(json.dumps(record, ensure_ascii=ascii_only) + "\n")
        sys.stdout.flush()


class LineFile:
    """Appends to a file; of a line that does not fit on the disk nothing stays."""

    def __init__(self, path: Path, file: io.FileIO) -> None:
        self._path = path
        self._file = file

    def write(self, record: Mapping[str, Any]) -> None:
        """See `LineSink.write`; raises StorageError."""
        size_bytes = os.fstat(self._file.fileno()).st_size
        left = memoryview((json.dumps(record, ensure_ascii=False) + "\n").encode())
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            with suppress(OSError):  # a pipe has no size
                os.truncate(self._file.fileno(), size_bytes)
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> StorageError:
        way = "free some room" if error.errno == errno.ENOSPC else "check the disk"
        return StorageError(
            f"{self._path} cannot be written ({error.strerror}); its lines so far are whole: {way} "
            "and go on with the same command and --resume."
        )


@contextmanager
def line_sink(path: Path | None) -> Iterator[LineSink]:
    """A file that is appended to, standard output if none or `-`; raises ConfigError."""
    if path in (None, STANDARD_STREAM):
        yield StandardOutput()
        return
    assert path is not None
    try:
        is_cut = _is_cut(path)
        file = io.FileIO(path, "a")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror}); name another file in a writable folder."
        ) from error
    with file:
        if is_cut:
            file.write(b"\n")
        yield LineFile(path, file)


def _is_cut(path: Path) -> bool:
    """Whether the last line of a file has no end, as a killed process leaves it."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def check_apart(output: Path | None, source: Path) -> None:
    """Raise ConfigError where lines would be appended to the file that they are made of."""
    if output in (None, STANDARD_STREAM) or source == STANDARD_STREAM:
        return
    assert output is not None
    if output.exists() and source.exists() and output.samefile(source):
        raise ConfigError(f"{output} was given as input and as output; name another output.")


def name_of(file: Path) -> str:
    """A file for reading as errors name it."""
    return "Standard input" if file == STANDARD_STREAM else str(file)


def unreadable(name: str, error: OSError | UnicodeDecodeError) -> RequestError:
    """What is said of a file that is not there, or is no text."""
    if isinstance(error, OSError):
        return RequestError(f"{name} cannot be read as text ({error.strerror}); check the path.")
    line = error.object.count(b"\n", 0, error.start) + 1
    return RequestError(
        f"{name}:{line} cannot be read as text: byte {error.object[error.start]:#04x} is no UTF-8; "
        "save the file in that encoding."
    )


def text_lines(file: Path) -> Iterator[tuple[str, str]]:
    """The place and the text of each line that is not blank; raises RequestError.

    Only a line feed ends a line: text may hold form feeds and other separators.
    """
    standard = file == STANDARD_STREAM
    try:
        with open(0 if standard else file, encoding="utf-8-sig", closefd=not standard) as opened:
            lines = opened.read().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(name_of(file), error) from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{file.name}:{number}", line


def read_records(path: Path, kinds: Mapping[str, type]) -> list[dict[str, Any]]:
    """Records of a file that `LineFile` wrote, none if it is not there; each has these keys.

    A last line that a killed process left unfinished is cut off. Raises ConfigError for other
    lines that are no records.
    """
    try:
        content = path.read_bytes() if path.exists() else b""
        whole, newline, rest = content.rpartition(b"\n")
        if rest:
            os.truncate(path, len(whole) + len(newline))
        return [_record(line, kinds) for line in whole.split(b"\n") if line.strip()]
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be gone on with ({error}); name the file that was written before, or "
            "leave --resume out."
        ) from error


def _record(line: bytes, kinds: Mapping[str, type]) -> dict[str, Any]:
    record = json.loads(line)
    found = record if isinstance(record, dict) else {}
    if not all(isinstance(found.get(key), kind) for key, kind in kinds.items()):
        raise ValueError(f"{line[:40]!r} is no line of an output")
    return found
