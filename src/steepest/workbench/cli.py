"""The command line: ``steepest compare``, ``steepest list``, ``steepest plan``.

A user's mistake ends with one line and exit status 2, an interrupt with what has finished and 130.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NoReturn

import steepest

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """argparse, with one line for a mistake."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. See {self.prog} --help.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        given = _arguments().parse_args(argv)
    except SystemExit as end:
        return int(end.code or 0)
    try:
        return int(given.run(given))
    except BrokenPipeError:  # `steepest list | head`; what is left to flush at exit has nowhere to go either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        if error.name not in ("rich", "sklearn", "threadpoolctl"):
            raise
        print(
            f"steepest {given.command}: {error.name} is missing. Install it: pip install 'steepest[compare]'.",
            file=sys.stderr,
        )
        return 2
    except (ValueError, TypeError, OSError, ImportError) as error:
        said = " ".join(str(error).split())
        print(f"steepest {given.command}: {said}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"steepest {given.command}: interrupted", file=sys.stderr)
        return 130


def _arguments() -> argparse.ArgumentParser:
    parser = _Parser(prog="steepest", description="Every optimizer, in one pass. Choose among them honestly.")
    parser.add_argument("--version", action="version", version=f"steepest {steepest.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command", parser_class=_Parser)
    compare = commands.add_parser(
        "compare", help="train with chosen or all optimizers on handwritten digits and rank them"
    )
    compare.add_argument(
        "--optimizers",
        help='chains, separated by commas: "adam,clip_by_global_norm(1) | sgd,my_rules.py:name"; all if left out',
    )
    compare.add_argument("--seeds", type=_whole, default=5, help="runs to judge by (5)")
    compare.add_argument("--epochs", type=_whole, default=20, help="passes over the training set (20)")
    compare.add_argument("--jobs", type=_whole, default=None, help="processes (one per core)")
    compare.add_argument("--output", default=None, help="folder for report.html and results.json (runs/<time>)")
    compare.set_defaults(run=_compare)
    listing = commands.add_parser("list", help="every rule with its equation, defaults and source")
    listing.set_defaults(run=_list)
    plan = commands.add_parser("plan", help='the passes of a chain: "clip_by_global_norm(1.0) | adamw(lr=1e-3)"')
    plan.add_argument("chain", help="rules and recipes joined by |")
    plan.add_argument("--source", action="store_true", help="print the generated code too")
    plan.set_defaults(run=_plan)
    return parser


def _whole(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}, allowed is a whole number >= 1")
    return int(text)


def _list(_: argparse.Namespace) -> int:
    from steepest.workbench.catalogue import listing

    print("\n".join(listing()).lstrip("\n"), flush=True)
    return 0


def _plan(given: argparse.Namespace) -> int:
    from steepest.engines.source import source
    from steepest.plan.planner import checked_plan
    from steepest.workbench.parse import parse

    made = checked_plan(parse(given.chain))
    print(made)
    if given.source:
        print("\n" + source(made.program(made.usual), "float32", str(made.trace.chain)))
    return 0


def _compare(given: argparse.Namespace) -> int:
    from steepest.workbench.compare import DEFAULT, check_chains, compare
    from steepest.workbench.parse import split_list
    from steepest.workbench.report import write

    names = DEFAULT if given.optimizers is None else tuple(split_list(given.optimizers))
    folder = Path(given.output) if given.output else Path("runs") / datetime.now().strftime("%Y-%m-%d-%H%M%S")
    names = tuple(check_chains(names, given.epochs))
    _check_writable(folder)
    with _Progress(len(names)) as advance:
        result = compare(names, given.seeds, given.epochs, given.jobs, advance)
    report, data = write(result, folder)
    _show(result)
    print(f"\nreport   {report}\nresults  {data}")
    if result.interrupted:
        print(f"interrupted; not finished: {', '.join(result.unfinished) or 'nothing'}", file=sys.stderr)
        return 130
    return 0


def _check_writable(folder: Path) -> None:
    """Before a minute of training, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"output is {str(folder)!r}, allowed is a folder that can be written: {error.strerror}."
        ) from error


class _Progress:
    """A bar while contenders finish, on a terminal; nothing elsewhere."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.task = self.bar.add_task("training", total=total)

    def __enter__(self) -> Any:
        self.bar.start()

        def advance(contender: Any) -> None:
            self.bar.update(self.task, advance=1, description=contender.name[:40])

        return advance

    def __exit__(self, *_: object) -> None:
        self.bar.stop()


def _show(result: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    from steepest.workbench.report import accuracy, loss, rate

    console = Console(width=None if sys.stdout.isatty() else 140)
    table = Table(title=f"handwritten digits, {result.seeds} seeds, {result.epochs} epochs", title_justify="left")
    table.add_column("")
    table.add_column("optimizer", overflow="fold")
    for heading in ("lr", "test loss", "lowest to highest", "accuracy %", "failed", "µs/step", "bytes"):
        table.add_column(heading, justify="right")
    for number, c in enumerate(result.contenders, 1):
        low, high = c.loss_range
        table.add_row(
            str(number), c.name, rate(c), loss(c.median_loss),
            f"{loss(low)} – {loss(high)}", accuracy(c.median_accuracy), str(c.failures), f"{c.step_microseconds:.0f}",
            str(c.bytes_per_parameter),
        )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
