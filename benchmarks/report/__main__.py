"""Write everything that is made from result files: pages, pictures and the HTML report.

::

    python -m benchmarks.report                          # README, docs/results.md, docs/pictures
    python -m benchmarks.report --check                  # says what is stale, exit status 1
    python -m benchmarks.report --results .bench/quick --html report.html
"""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.entry import parser_of, run
from benchmarks.report.html_page import page
from benchmarks.report.markdown_pages import ROOT, generated
from benchmarks.report.result_files import load

COMMITTED = ROOT / "benchmarks" / "results"


def main() -> int:
    """The command line; the number of files that `--check` found to be out of date."""
    parser = parser_of(__doc__)
    parser.add_argument("--results", type=Path, default=COMMITTED, help="folder of result files")
    parser.add_argument("--html", type=Path, help="only write the HTML report, to this file")
    parser.add_argument("--check", action="store_true", help="write nothing, say what is stale")
    args = parser.parse_args()
    results = load(args.results)
    if args.html:
        folder = os.path.relpath(args.results, args.html.parent)
        args.html.write_text(page(results, folder))
        return 0
    stale = [
        (path, text)
        for path, text in generated(results)
        if not path.exists() or path.read_text() != text
    ]
    for path, text in stale:
        print(f"{'stale' if args.check else 'written'}: {path.relative_to(ROOT)}")
        if not args.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return len(stale) if args.check else 0


if __name__ == "__main__":
    run(main)
