"""``python -m steepest.workbench.reproduce --all --json docs/reproduced.json --markdown docs/reproduced.md``: run claims, write
their figures and the page of them; ``--update`` keeps the figures of claims that are not run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from steepest.workbench.reproduce.catalogue import announcement, chosen, listing
from steepest.workbench.reproduce.report import line, markdown
from steepest.workbench.reproduce.run import from_json, run_claims, to_json, updated


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 where all ran, whatever their verdicts; 2 for a wrong argument."""
    parser = argparse.ArgumentParser(prog="python -m steepest.workbench.reproduce", description=__doc__)
    parser.add_argument("names", nargs="*", help="claims; the list of all where none is named")
    parser.add_argument("--quick", action="store_true", help="those that fit into ten minutes together")
    parser.add_argument("--all", action="store_true", help="every claim, the long ones too")
    parser.add_argument("--jobs", type=int, help="processes; one per core")
    parser.add_argument("--markdown", type=Path, help="write the page here")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--update", action="store_true", help="keep what the file of --json holds on other claims")
    given = parser.parse_args(arguments)
    try:
        names = chosen(given.names, everything=given.all, quick=given.quick)
        if not names and not given.update:
            print(listing())
            return 0
        if given.update and not given.json:
            raise ValueError("reproduce: --json must be given with --update. It is the file whose figures are kept.")
        stored = from_json(given.json.read_text(encoding="utf-8")) if given.update else []
        results = []
        if names:
            print(announcement(names), file=sys.stderr)
            results = run_claims(names, given.jobs, lambda claim, outcome: print(line(claim, outcome), flush=True))
        if given.update:
            results = updated(stored, results)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path, text in ((given.markdown, markdown), (given.json, to_json)):
        if path:
            path.write_text(text(results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
