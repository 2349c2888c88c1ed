"""The commands of ``steepest`` and their arguments; what each does stands in `steepest.workbench.cli`.

Imports nothing heavy: ``--help`` and completion need this alone.
"""

from __future__ import annotations

import argparse
from typing import NoReturn

import steepest
from steepest.checks import printable

__all__ = ["parser"]

EPILOG = (
    "Exit status: 0 done, 1 doctor --fail-on has found something, 2 a mistake (one line says which), 130 interrupted."
)


def parser() -> argparse.ArgumentParser:
    """All commands and their arguments."""
    made = _Parser(
        prog="steepest", description="Every optimizer, in one pass. Choose among them honestly.", epilog=EPILOG
    )
    made.add_argument("--version", action="version", version=f"steepest {steepest.__version__}")
    commands = made.add_subparsers(dest="command", required=True, metavar="command", parser_class=_Parser)

    def add(name: str, said: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=said, description=f"{said[:1].upper()}{said[1:]}.")

    compare = add("compare", "train with several optimizers on real work and say which to use")
    compare.add_argument(
        "--workload", default="digits-mlp", help="names, separated by commas, or my_module:name (digits-mlp)"
    )
    compare.add_argument(
        "--optimizers",
        help='chains, separated by commas: "adam,clip_by_global_norm(1) | sgd,my_rules.py:name"; "all" for all of the '
        "library's; the usual ones if left out",
    )
    compare.add_argument(
        "--track", default="default,rate", help="default, rate, tuned: what is searched (default,rate)"
    )
    compare.add_argument("--trials", type=_whole, default=20, help="configurations on the tuned track (20)")
    compare.add_argument("--space", default="", help='narrow the tuned track: "lr=1e-4:1e-2; schedule=cosine"')
    _shared(compare)

    tune = add("tune", "search the hyperparameters of one optimizer")
    tune.add_argument("optimizer", help="a chain; what it leaves open is searched")
    tune.add_argument("--workload", default="digits-mlp", help="a name or my_module:name (digits-mlp)")
    tune.add_argument("--trials", type=_whole, default=40, help="configurations to try (40)")
    tune.add_argument("--space", default="", help='narrow what is searched: "lr=1e-4:1e-2; schedule=cosine"')
    _shared(tune)

    find = add("lr-find", "a learning rate, by a range test and by short honest runs")
    find.add_argument("--workload", default="digits-mlp", help="a name or my_module:name (digits-mlp)")
    find.add_argument("--optimizer", default="adamw", help="a chain that leaves the learning rate open (adamw)")
    find.add_argument("--steps", type=_whole, default=200, help="of each run (200)")
    find.add_argument("--seeds", type=_whole, default=3, help="runs for each rate (3)")
    find.add_argument("--jobs", type=_whole, default=None, help="processes (one per core)")
    find.add_argument("--output", default=None, help="folder for lr-find.html and lr-find.json")

    again = add("reproduce", "published claims, small, each with a computed verdict")
    again.add_argument("claims", nargs="*", help="names; the list of all if left out")
    again.add_argument("--all", action="store_true", help="every claim, the long ones too")
    again.add_argument("--quick", action="store_true", help="those that fit ten minutes together")
    again.add_argument("--jobs", type=_whole, default=None, help="processes (one per core)")
    again.add_argument("--json", action="store_true", help="print the outcomes as JSON")

    report = add("report", "the page of a comparison or of a monitored run again, from its folder")
    report.add_argument("folder", help="of a comparison, or the flight recorder's of a run")

    watch = add("watch", "a monitored run, live while it trains: losses, gradients, every layer's step")
    watch.add_argument("folder", nargs="?", help="of the run (the newest under runs/)")
    watch.add_argument("--once", action="store_true", help="print the present state and end")
    watch.add_argument("--json", action="store_true", help="print the last record as JSON and end")

    doctor = add("doctor", "what is wrong with a monitored run, why, and the line to change")
    doctor.add_argument("folder", nargs="?", help="of the run (the newest under runs/)")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.add_argument(
        "--fail-on", type=_confidence, default=None, metavar="CONFIDENCE",
        help="exit status 1 where a finding is at least that certain, 0 to 1",
    )  # fmt: skip

    listing = add("list", "every rule with its equation, defaults and source")
    what = listing.add_mutually_exclusive_group()
    what.add_argument("--search", action="store_true", help="what a search draws hyperparameters from")
    what.add_argument("--workloads", action="store_true", help="the workloads, with their data and licences")

    plan = add("plan", 'the passes of a chain: "clip_by_global_norm(1.0) | adamw(lr=1e-3)"')
    plan.add_argument("chain", help="rules and recipes joined by |")
    plan.add_argument("--source", action="store_true", help="print the generated code too")

    completion = add("completion", 'shell completion: eval "$(steepest completion bash)"')
    completion.add_argument("shell", choices=["bash", "zsh", "tcsh"])
    return made


class _Parser(argparse.ArgumentParser):
    """argparse, with one line for a mistake."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {printable(message)}. See {self.prog} --help.\n")


def _shared(command: argparse.ArgumentParser) -> None:
    """What compare and tune have in common."""
    command.add_argument("--steps", type=_whole, default=None, help="of each run (the workload's own)")
    command.add_argument("--seeds", type=_whole, default=5, help="runs to judge by (5)")
    command.add_argument("--jobs", type=_whole, default=None, help="processes (one per core)")
    command.add_argument(
        "--storage", default=None, help="keep runs for good, or share them with other machines: journal:FILE, sqlite:///FILE, "
        "postgresql://… (a file in the folder, until all is done)",
    )  # fmt: skip
    command.add_argument("--output", default=None, help="folder for report.html and results.json (runs/<time>)")
    command.add_argument("--json", action="store_true", help="print the results as JSON")


def _whole(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got {text!r}")
    return int(text)


def _confidence(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number in [0, 1], got {text!r}")
    return value
