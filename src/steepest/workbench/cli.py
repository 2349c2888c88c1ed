"""The command line: compare, tune, lr-find, reproduce, report, watch, doctor, list, plan, completion.

A user's mistake ends with one line and exit status 2; an interrupt with what has finished and 130, and with what to write to go
on: without a ``--storage`` the runs are kept in the output folder until the command has come to its end. Everything heavy is
imported by the command that needs it.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NoReturn

import steepest

__all__ = ["main"]

OPTIONAL = ("bokeh", "jinja2", "optuna", "rich", "scipy", "shtab", "sqlalchemy", "threadpoolctl", "torch")
EXTRAS = {"doctor": "monitor", "watch": "monitor"}
"""What to install for a command, where it isn't ``compare``."""
UNFINISHED = "unfinished.log"
"""The study file in the output folder; nothing else has this name, for it is removed at the end."""
KEPT = "what has finished is kept."
"""How a line begins that says how to go on."""
EPILOG = (
    "Exit status: 0 done, 1 doctor --fail-on has found something, 2 a mistake (one line says which), 130 interrupted."
)


class _Parser(argparse.ArgumentParser):
    """argparse, with one line for a mistake."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())}. See {self.prog} --help.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        given = parser().parse_args(argv)
    except SystemExit as end:
        return int(end.code or 0)
    try:
        status = int(given.run(given))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # `steepest list | head`; what is left to flush at exit has nowhere to go either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in OPTIONAL:
            raise
        extra = "torch" if name == "torch" else EXTRAS.get(given.command, "compare")
        said = f"{name} is missing. Install it: pip install 'steepest[{extra}]'." if name != "torch" else str(error)
        print(f"steepest {given.command}: {said}", file=sys.stderr)
        return 2
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        return _refused(given.command, str(error), error)
    except Exception as error:
        from steepest.workbench.users import place_of

        if not (place := place_of(error)):
            raise
        return _refused(given.command, f"{place}: {type(error).__name__}: {error}", error)
    except KeyboardInterrupt as stop:
        return _refused(given.command, "interrupted", stop, 130)


def _refused(command: str, said: str, error: BaseException, status: int = 2) -> int:
    """Say in one line why a command has ended, and in another what is kept of it."""
    kept = [note for note in getattr(error, "__notes__", ()) if note.startswith(KEPT)]
    print("\n".join([f"steepest {command}: {' '.join(said.split())}", *kept]), file=sys.stderr)
    return status


def parser() -> argparse.ArgumentParser:
    """All commands and their arguments."""
    made = _Parser(
        prog="steepest", description="Every optimizer, in one pass. Choose among them honestly.", epilog=EPILOG
    )
    made.add_argument("--version", action="version", version=f"steepest {steepest.__version__}")
    commands = made.add_subparsers(dest="command", required=True, metavar="command", parser_class=_Parser)

    compare = commands.add_parser("compare", help="train with several optimizers on real work and say which to use")
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
    compare.set_defaults(run=_compare)

    tune = commands.add_parser("tune", help="search the hyperparameters of one optimizer")
    tune.add_argument("optimizer", help="a chain; what it leaves open is searched")
    tune.add_argument("--workload", default="digits-mlp", help="a name or my_module:name (digits-mlp)")
    tune.add_argument("--trials", type=_whole, default=40, help="configurations to try (40)")
    tune.add_argument("--space", default="", help='narrow what is searched: "lr=1e-4:1e-2; schedule=cosine"')
    _shared(tune)
    tune.set_defaults(run=_tune)

    find = commands.add_parser("lr-find", help="a learning rate, by a range test and by short honest runs")
    find.add_argument("--workload", default="digits-mlp", help="a name or my_module:name (digits-mlp)")
    find.add_argument("--optimizer", default="adamw", help="a chain that leaves the learning rate open (adamw)")
    find.add_argument("--steps", type=_whole, default=200, help="of each run (200)")
    find.add_argument("--seeds", type=_whole, default=3, help="runs for each rate (3)")
    find.add_argument("--jobs", type=_whole, default=None, help="processes (one per core)")
    find.add_argument("--output", default=None, help="folder for lr-find.html and lr-find.json")
    find.set_defaults(run=_lr_find)

    again = commands.add_parser("reproduce", help="published claims, small, each with a computed verdict")
    again.add_argument("claims", nargs="*", help="names; the list of all if left out")
    again.add_argument("--all", action="store_true", help="every claim, the long ones too")
    again.add_argument("--quick", action="store_true", help="those that fit ten minutes together")
    again.add_argument("--jobs", type=_whole, default=None, help="processes (one per core)")
    again.add_argument("--json", action="store_true", help="print the outcomes as JSON")
    again.set_defaults(run=_reproduce)

    report = commands.add_parser("report", help="the page of a comparison or of a monitored run again, from its folder")
    report.add_argument("folder", help="of a comparison, or the flight recorder's of a run")
    report.set_defaults(run=_report)

    watch = commands.add_parser(
        "watch", help="a monitored run, live while it trains: losses, gradients, every layer's step"
    )
    watch.add_argument("folder", nargs="?", help="of the run (the newest under runs/)")
    watch.add_argument("--once", action="store_true", help="print the present state and end")
    watch.add_argument("--json", action="store_true", help="print the last record as JSON and end")
    watch.set_defaults(run=_watch)

    doctor = commands.add_parser("doctor", help="what is wrong with a monitored run, why, and the line to change")
    doctor.add_argument("folder", nargs="?", help="of the run (the newest under runs/)")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.add_argument(
        "--fail-on", type=_confidence, default=None, metavar="CONFIDENCE",
        help="exit status 1 where a finding is at least that certain, 0 to 1",
    )  # fmt: skip
    doctor.set_defaults(run=_doctor)

    listing = commands.add_parser("list", help="every rule with its equation, defaults and source")
    what = listing.add_mutually_exclusive_group()
    what.add_argument("--search", action="store_true", help="what a search draws hyperparameters from")
    what.add_argument("--workloads", action="store_true", help="the workloads, with their data and licences")
    listing.set_defaults(run=_list)

    plan = commands.add_parser("plan", help='the passes of a chain: "clip_by_global_norm(1.0) | adamw(lr=1e-3)"')
    plan.add_argument("chain", help="rules and recipes joined by |")
    plan.add_argument("--source", action="store_true", help="print the generated code too")
    plan.set_defaults(run=_plan)

    completion = commands.add_parser("completion", help='shell completion: eval "$(steepest completion bash)"')
    completion.add_argument("shell", choices=["bash", "zsh", "tcsh"])
    completion.set_defaults(run=_completion)
    return made


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
        raise argparse.ArgumentTypeError(f"{text!r}, allowed is a whole number >= 1")
    return int(text)


def _confidence(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}, allowed is a number from 0 to 1")
    return value


# ---- comparing


def _compare(given: argparse.Namespace) -> int:
    from steepest.workbench.campaign import DEFAULT, EVERYTHING, compare
    from steepest.workbench.parse import split_list
    from steepest.workbench.protocol import Budget

    named = {None: DEFAULT, "all": EVERYTHING}.get(given.optimizers)
    optimizers = named if named is not None else tuple(split_list(given.optimizers))
    budget = Budget(given.steps, given.trials, seeds=tuple(range(given.seeds)))
    with _folder(given.output) as folder, _kept(given, folder) as storage:
        with _progress(given.command) as progress:
            result = compare(
                split_list(given.workload), optimizers, tracks=split_list(given.track), budget=budget, jobs=given.jobs,
                storage=storage, space=given.space, progress=_ahead(progress),
            )  # fmt: skip
        return _shown(result, folder, given)


def _tune(given: argparse.Namespace) -> int:
    from steepest.workbench.protocol import Budget
    from steepest.workbench.tune import tune

    budget = Budget(given.steps, given.trials, seeds=tuple(range(given.seeds)))
    with _folder(given.output) as folder, _kept(given, folder) as storage:
        with _progress(given.command) as progress:
            result = tune(
                given.optimizer, given.workload, trials=given.trials, budget=budget, space=given.space, jobs=given.jobs,
                storage=storage, progress=_ahead(progress),
            )  # fmt: skip
        return _shown(result, folder, given)


def _ahead(progress: Callable[[int, int, str], None]) -> Callable[[int, int, str], None]:
    """As ``progress``; the first call loads what is shown at the end, while the workers are busy and nobody waits for it."""

    from steepest.workbench.processes import interrupts_held

    @functools.cache
    def load() -> None:
        with interrupts_held():  # a module that was interrupted can't be loaded again
            for name in ("page", "recommendation", "tables"):
                importlib.import_module(f"steepest.workbench.{name}")

    def told(done: int, total: int, what: str) -> None:
        progress(done, total, what)
        load()

    return told


def _shown(result: Any, folder: Path, given: argparse.Namespace) -> int:
    from steepest.workbench.page import write

    report, data = write(result, folder)
    if given.json:
        print(result.to_json())
    else:
        from steepest.workbench.recommendation import recommend
        from steepest.workbench.tables import table

        if result.entries:
            _print(*table(result))
            print()
        print(f"{recommend(result)}\n\nreport   {report}\nresults  {data}")
    if result.unfinished:
        print(f"interrupted; {_go_on(given, folder)}", file=sys.stderr)
        return 130
    if not given.storage:
        (folder / UNFINISHED).unlink(missing_ok=True)
    return 0


def _report(given: argparse.Namespace) -> int:
    from steepest.monitor.recorder.run_file import files_of

    folder = Path(given.folder)
    if (folder / "results.json").is_file():
        report = _comparison_again(folder / "results.json")
    elif files_of(folder):
        from steepest.monitor.recorder.reader import read
        from steepest.monitor.report import write

        report = write(read(folder), folder / "report.html")
    else:
        raise ValueError(
            f"{given.folder}: there is neither a results.json nor a run in it. Name the folder that compare or a monitor has "
            "written."
        )
    print(f"report   {report}")
    return 0


def _comparison_again(path: Path) -> Path:
    from steepest.workbench.page import write
    from steepest.workbench.results import Result

    try:
        result = Result.from_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return write(result, path.parent)[0]


def _watch(given: argparse.Namespace) -> int:
    from steepest.workbench.watch import watch

    watch(given.folder, once=given.once, as_json=given.json)
    return 0


def _lr_find(given: argparse.Namespace) -> int:
    from steepest.workbench.lr_find import run, summary

    with _folder(given.output) as folder, _progress(given.command) as progress:
        found = run(
            given.workload, given.optimizer, steps=given.steps, seeds=given.seeds, jobs=given.jobs, output=folder,
            progress=progress,
        )  # fmt: skip
    print(summary(found))
    print(f"\nreport   {folder / 'lr-find.html'}\nresults  {folder / 'lr-find.json'}")
    return 0


def _reproduce(given: argparse.Namespace) -> int:
    from steepest.workbench import reproduce

    names = reproduce.chosen(given.claims, everything=given.all, quick=given.quick)
    if not names:
        print(reproduce.listing())
        return 0
    print(reproduce.announcement(names), file=sys.stderr)

    def tell(claim: Any, outcome: Any) -> None:
        print(reproduce.line(claim, outcome), file=sys.stderr if given.json else sys.stdout, flush=True)

    results = reproduce.run_claims(names, given.jobs, tell)
    if given.json:
        print(reproduce.to_json(results))
    return 0


def _doctor(given: argparse.Namespace) -> int:
    from steepest.workbench.doctor import doctor

    findings = doctor(given.folder, as_json=given.json)
    return int(given.fail_on is not None and any(one.confidence >= given.fail_on for one in findings))


# ---- looking things up


def _list(given: argparse.Namespace) -> int:
    from steepest.workbench.catalogue import listing, spaces, workloads

    lines = spaces() if given.search else workloads() if given.workloads else listing()
    print("\n".join(lines).lstrip("\n"), flush=True)
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


def _completion(given: argparse.Namespace) -> int:
    import shtab

    print(shtab.complete(parser(), given.shell))
    return 0


# ---- terminal and files


@contextmanager
def _folder(output: str | None) -> Iterator[Path]:
    """Where a command writes, found writable before minutes of training, not after them; gone again where nothing came."""
    folder = Path(output) if output else Path("runs") / datetime.now().strftime("%Y-%m-%d-%H%M%S")
    made = [one for one in (folder, *folder.parents) if not os.path.exists(one)]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise ValueError(
                f"output is {str(folder)!r}, allowed is a folder that can be written: {error.strerror}."
            ) from error
        yield folder
    except BaseException:
        for one in made:
            with suppress(OSError):  # not empty, or not made
                one.rmdir()
        raise


@contextmanager
def _kept(given: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Where runs are kept: the storage that was named, or a study file in the folder, until the command has come to its end.

    After an error the file stays where anything in it has been finished, and a note says how to go on.
    """
    url = given.storage or f"journal:{folder / UNFINISHED}"
    there = (folder / UNFINISHED).exists()
    try:
        yield url
    except BaseException as error:
        if not given.storage:
            if _worth_keeping(folder / UNFINISHED):
                error.add_note(_go_on(given, folder))
            elif not there:
                (folder / UNFINISHED).unlink(missing_ok=True)
        raise


def _worth_keeping(file: Path) -> bool:
    from steepest.workbench.storage import open_storage
    from steepest.workbench.store import holds_results

    if not file.exists():
        return False
    try:
        return holds_results(open_storage(f"journal:{file}"))
    except (ValueError, OSError):  # perhaps what the command itself ends with; nothing is lost in doubt
        return True


def _go_on(given: argparse.Namespace, folder: Path) -> str:
    again = "" if given.storage or given.output else f" with --storage journal:{folder / UNFINISHED}"
    return f"{KEPT} Give the same command again{again} to go on."


@contextmanager
def _progress(command: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar with the time left on a terminal; elsewhere a line now and then."""
    import time

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        begun = last = time.monotonic()
        before: int | None = None

        def plain(done: int, total: int, what: str) -> None:
            nonlocal last, before
            if before is None:
                before = max(0, done - 1)  # what an earlier command has done took none of this one's time
            if (now := time.monotonic()) - last >= 30:
                last = now
                said = f"{done} of {total} runs"
                if done > before:
                    left = (total - done) * (now - begun) / (done - before)
                    said += f", about {_minutes(left)} left for these"
                print(f"steepest {command}: {said}; {what}", file=sys.stderr, flush=True)

        yield plain
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("training", total=None)

        def advance(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what[:40])

        yield advance


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _print(*renderables: Any) -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 140).print(*renderables)


if __name__ == "__main__":
    sys.exit(main())
