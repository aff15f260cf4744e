"""The text the demo model learns: Python's standard library, split by whole files."""

import hashlib
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SEPARATOR = "<|endoftext|>"
_HELD_OUT_PER_THOUSAND = 30
_SKIPPED_FOLDERS = {"site-packages", "dist-packages", "encodings", "pydoc_data", "__pycache__"}
_TEST_FOLDERS = {"test", "tests", "idle_test"}
# Tests that hold parser torture cases, tables or generated code: text, but not Python one reads.
_SKIPPED_FILES = {"test_unicodedata.py", "bad_coding.py", "bad_coding2.py", "keycodes.py"}


@dataclass(frozen=True)
class Corpus:
    """File texts in three parts; `held_out` is never trained on."""

    modules: list[str]
    tests: list[str]
    held_out: list[str]


def read_corpus(root: Path | None = None) -> Corpus:
    """Read the standard library below `root` (default: that of the running interpreter)."""
    root = root or Path(sysconfig.get_path("stdlib"))
    corpus = Corpus([], [], [])
    for name, text in _source_files(root):
        _part_for(corpus, name).append(text)
    return corpus


def write_held_out(corpus: Corpus, path: Path) -> None:
    """Keep the held-out texts, each preceded by the separator; an existing file stays.

    The file is a fixed yardstick, so a run under another interpreter must not replace it.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(SEPARATOR + text for text in corpus.held_out), encoding="utf-8")


def _part_for(corpus: Corpus, name: str) -> list[str]:
    if not _TEST_FOLDERS.isdisjoint(Path(name).parts):
        return corpus.tests
    return corpus.held_out if is_held_out(name) else corpus.modules


def is_held_out(name: str) -> bool:
    """Whether a module belongs to the held-out 3 %, by a hash of its path: stable everywhere."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:4], "big") % 1000 < _HELD_OUT_PER_THOUSAND


def _source_files(root: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if _SKIPPED_FOLDERS.isdisjoint(path.parts) and path.name not in _SKIPPED_FILES:
            text = _read_utf8(path)
            if text.strip() and SEPARATOR not in text:
                yield name, text


def _read_utf8(path: Path) -> str:
    # A few test files are in other encodings on purpose; they are worth nothing here.
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""
