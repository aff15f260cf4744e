"""What docs, comments and docstrings name in backticks is there: files, classes and members."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
HISTORY = {"CHANGELOG.md", "log.md"}  # which may name what is gone
TEXTS = [path for path in (*PAGES, *SOURCES) if path.name not in HISTORY]
ELSEWHERE = {  # FlexGen's, the CPU's, the system's, lm-eval's
    *("compression.py", "cost_model.py", "general_copy", "compress"),
    *("tdpbssd", "tdpbusd", "vpdpbusd", "vpdpwssd", "arch_prctl"),
    "hf",
}
FILE = re.compile(r"`([\w./-]+\.(?:py|h|cpp|toml))`")
NAME = re.compile(r"`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\([^`]*\))?`")


@cache
def tree() -> str:
    """The path of every file of the project, each between two spaces."""
    folders = ("src", "tests", "benchmarks", "csrc", "scripts")
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.*"))
    return "".join(f" /{path.relative_to(ROOT)} " for path in (*found, ROOT / "pyproject.toml"))


class Scan:
    """Words of all code, of strings in it that are no docstrings, and what classes define."""

    def __init__(self) -> None:
        self.words = {path.stem for path in SOURCES} | {path.parent.name for path in SOURCES}
        self._own: dict[str, set[str]] = {}
        self._bases: dict[str, set[str]] = {}
        for path in SOURCES:  # one tree at a time: half a million nodes would slow down the GC
            self._add(ast.parse(path.read_text()))
        others = (path for it in ("csrc", "benchmarks") for path in (ROOT / it).rglob("*.*"))
        for path in others:
            if path.suffix in (".py", ".h", ".cpp"):
                self.words.update(re.findall(r"\w+", path.read_text()))

    def _add(self, module: ast.Module) -> None:
        for node in ast.walk(module):
            self.words.update(_words_of(node))
            if isinstance(node, ast.ClassDef):
                self._own.setdefault(node.name, set()).update(_defined_in(node))
                bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
                self._bases.setdefault(node.name, set()).update(bases)

    def is_class(self, name: str) -> bool:
        """Whether there is a class of this name."""
        return name in self._own

    def members(self, name: str) -> set[str]:
        """What the body of a class and of its bases define, and what methods assign to `self`."""
        found = self._own.get(name, set())
        return found.union(*(self.members(base) for base in self._bases.get(name, ())))


scan = cache(Scan)


def _defined_in(kind: ast.ClassDef) -> Iterator[str]:
    for node in ast.walk(kind):
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr


def _words_of(node: ast.AST) -> Iterator[str]:
    for field in ("name", "id", "attr", "arg", "module"):
        if isinstance(value := getattr(node, field, None), str):
            yield from value.split(".")
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 60:
        yield from re.findall(r"\w+", node.value)


def missing_from(text: str) -> set[str]:
    """What `text` names and the tree lacks."""
    files = set(FILE.findall(text)) - ELSEWHERE
    names = {name for name in NAME.findall(text) if not name.isupper()} - ELSEWHERE - files
    pairs = {name: name.split(".")[:2] for name in names if scan().is_class(name.split(".")[0])}
    return {
        *(name for name in files if f"/{name} " not in tree()),
        *(name for name in names if not scan().words.issuperset(name.split("."))),
        *(name for name, (kind, *it) in pairs.items() if not scan().members(kind).issuperset(it)),
    }


def test_what_is_named_is_there() -> None:
    found = {path.relative_to(ROOT): missing_from(path.read_text()) for path in TEXTS}
    assert {path: names for path, names in found.items() if names} == {}


def test_what_is_gone_is_found() -> None:
    assert missing_from("see `planner/gone.py` and `planner/choose/search.py`") == {
        "planner/gone.py"
    }
    assert missing_from("`Plan.gone`, `Plan.used_bytes`, `gone_s`") == {"Plan.gone", "gone_s"}
