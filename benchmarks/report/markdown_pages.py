"""The README and docs/results.md with the tables and pictures of the committed results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.report.html_page import page
from benchmarks.report.pictures import PICTURES, Picture
from benchmarks.report.result_files import Results
from benchmarks.report.sections import FOLDER, file_link, sections
from benchmarks.report.short_table import short_table
from benchmarks.report.style import standalone

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
README, RESULTS_PAGE = ROOT / "README.md", ROOT / "docs" / "results.md"
REPORT_PAGE, PICTURES_DIR = ROOT / "docs" / "report.html", ROOT / "docs" / "pictures"
README_PICTURES = ("budget", "batch")


def generated(results: Results) -> Iterator[tuple[Path, str]]:
    """Every file that is written from the results, with its text."""
    drawn = {picture.name: picture.draw(results) for picture in PICTURES}
    files = {name: picture_files(name, svgs) for name, svgs in drawn.items()}
    for name, svgs in drawn.items():
        for file, svg in zip(files[name], svgs, strict=True):
            yield PICTURES_DIR / file, standalone(svg)
    few = [image(name, file) for name in README_PICTURES for file in files[name][:1]]
    every = [part for picture in PICTURES for part in gallery(picture, files, results)]
    yield README, replaced(README, [*few, short_table(results)])
    text = replaced(RESULTS_PAGE, [*sections(results), *every])
    in_docs = text.replace("](benchmarks/", "](../benchmarks/").replace("](docs/", "](")
    yield RESULTS_PAGE, in_docs
    yield REPORT_PAGE, page(results, f"../{FOLDER}")


def gallery(picture: Picture, files: dict[str, list[str]], results: Results) -> Iterator[str]:
    """The drawings of a picture and the result files that they are made from."""
    if members := files[picture.name]:
        yield from (image(picture.name, file) for file in members)
        yield f"{picture.title}: {', '.join(map(file_link, picture.sources(results)))}\n"


def picture_files(name: str, svgs: list[str]) -> list[str]:
    """A file name for each drawing of a picture."""
    if len(svgs) == 1:
        return [f"{name}.svg"]
    return [f"{name}-{index}.svg" for index in range(1, len(svgs) + 1)]


def image(name: str, file: str) -> str:
    """A picture in Markdown."""
    title = next(picture.title for picture in PICTURES if picture.name == name)
    return f"![{title}](docs/pictures/{file})\n"


def replaced(path: Path, parts: list[str]) -> str:
    """The page with other text between its marks."""
    before, rest = path.read_text().split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n" + "\n".join(parts) + f"\n{END}{after}"
