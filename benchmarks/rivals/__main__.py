"""`python -m benchmarks.rivals`."""

import argparse
import sys
import time
from pathlib import Path

from benchmarks.rivals.grid import Results, cells, fill
from benchmarks.rivals.methods import METHODS
from benchmarks.rivals.place import state_folder
from benchmarks.rivals.report import ABOUT, Report
from benchmarks.table import Benchmark, CannotMeasure, progress


def main() -> int:
    """Fill cells as asked, then print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rivals", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--state", type=Path, help="where cells, baselines and images are kept")
    parser.add_argument("--only", action="append", help="cells whose names contain this text; may be repeated")
    parser.add_argument("--method", action="append", choices=sorted(METHODS), help="only these; may be repeated")
    parser.add_argument("--minutes", type=float, help="stop after the cell in which this time is up")
    parser.add_argument("--redo", action="store_true", help="forget the chosen cells first")
    parser.add_argument("--threads", type=int, default=1, help="of the trainings")
    parser.add_argument("--table", action="store_true", help="print the table only")
    parser.add_argument("--json", action="store_true", help="the same as rows of JSON")
    options = parser.parse_args()
    state = options.state or state_folder()
    results = Results(state / "cells")
    wanted = [
        cell
        for cell in cells([name for name in METHODS if not options.method or name in options.method])
        if not options.only or any(text in cell.name for text in options.only)
    ]
    if not options.table:
        from benchmarks.rivals.runner import Runner

        def say(text: str) -> None:
            progress(f"{time.strftime('%H:%M:%S')} {text}")

        if options.redo:
            for cell in wanted:
                results.forget(cell)
        try:
            fill(
                wanted,
                results,
                Runner(state, threads=options.threads, say=say),
                minutes=options.minutes,
                clock=time.monotonic,
            )
        except CannotMeasure as error:
            sys.stderr.write(f"benchmarks.rivals: {error}\n")
            return 1
    report = Report(results, state)
    if options.json:
        benchmark = Benchmark(name="rivals", about=ABOUT, measure=lambda _: report.rows())
        sys.stdout.write(benchmark.as_json(report.rows()))
    else:
        sys.stdout.write(report.text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
