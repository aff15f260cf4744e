"""Two result files or folders: what got slower than the noise of both, and how far they agree.

What is compared with what, and its noise, is in `benchmarks/changes.py`::

    python -m benchmarks.compare BASE NEW      # exit status 1 where something got slower
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.agreement import Pair, agreement
from benchmarks.changes import Change, compare, lost
from benchmarks.entry import parser_of, run
from benchmarks.part_file import read_result
from benchmarks.report.generic_table import flat
from benchmarks.report.result_files import Row
from lm_offload.errors import ConfigError


def file_pairs(base: Path, new: Path) -> Iterator[tuple[str, list[Row], list[Row]]]:
    """The rows of both, file by file; in a folder files are found by the name of the other one."""
    for path in (base, new):
        if not path.exists():
            raise ConfigError(f"{path} does not exist; give a result file or a folder of them.")
    if base.is_dir() and new.is_dir():
        names = sorted({path.name for path in base.glob("*.json")} & set(names_in(new)))
        files = [(base / name, new / name) for name in names]
    else:
        files = [(in_folder(base, new.name), in_folder(new, base.name))]
    for old_file, new_file in files:
        yield new_file.name, rows_in(old_file), rows_in(new_file)


def in_folder(path: Path, name: str) -> Path:
    """A file of this name where the path is a folder, else the path."""
    return path / name if path.is_dir() else path


def names_in(folder: Path) -> Iterator[str]:
    """Of its result files."""
    yield from (path.name for path in folder.glob("*.json"))


def rows_in(file: Path) -> list[Row]:
    """Measured rows of a result file, none of another one; nested records as `outer.inner`."""
    data = read_result(file)
    return [flat(row) for row in data.get("rows", [])] if "testbed" in data else []


@dataclass(frozen=True)
class Compared:
    """Two files of one name."""

    file: str
    changes: list[Change]
    broken: list[str]

    @property
    def worse(self) -> list[Change]:
        """What got slower than noise."""
        return [each for each in self.changes if each.is_slower]

    def lines(self) -> Iterator[str]:
        """Everything that got worse."""
        for each in self.worse:
            ratio = f"{each.ratio:.2f}x (noise {each.noise_frac:.0%})"
            yield f"{self.file}: {each.row}: {each.metric} is {ratio}"
        for name in self.broken:
            yield f"{self.file}: {name}: worked before, fails now"


def agreements(found: list[Compared]) -> Iterator[str]:
    """Of ratios that were taken in turns, and of all other figures, which a slower day changes."""
    for kind, in_turns in (("ratios taken in turns", True), ("single rates and times", False)):
        pairs = [
            Pair(f"{each.file}: {change.row}: {change.metric}", change.ratio)
            for each in found
            for change in each.changes
            if change.in_turns == in_turns
        ]
        yield from agreement(kind, pairs)


def print_all(lines: Iterable[str]) -> None:
    """A line each."""
    for line in lines:
        print(line)


def main() -> int:
    """The command line: a line for each figure that is slower; whether there is any."""
    parser = parser_of(__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("new", type=Path)
    args = parser.parse_args()
    found = [
        Compared(file, compare(base, new), lost(base, new))
        for file, base, new in file_pairs(args.base, args.new)
    ]
    for each in found:
        print_all(each.lines())
    print_all(agreements(found))
    compared = sum(len(each.changes) for each in found)
    slower = sum(len(each.worse) + len(each.broken) for each in found)
    print(f"{compared} figures compared, {slower} slower than noise")
    if not compared:
        print("nothing in common: give two result files or folders of the same benchmarks")
    return 1 if slower or not compared else 0


if __name__ == "__main__":
    run(main)
