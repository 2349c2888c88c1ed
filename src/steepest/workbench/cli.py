"""The command line: compare, tune, lr-find, reproduce, report, watch, doctor, list, plan, completion.

A user's mistake ends with one line and exit status 2; an interrupt with what has finished and 130, and with what to write to go
on: without a ``--storage`` the runs are kept in the output folder until the command has come to its end. Everything heavy is
imported by the command that needs it.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from steepest.checks import printable
from steepest.workbench.arguments import parser
from steepest.workbench.folder import KEPT, ended, go_on, kept, output_folder

__all__ = ["main"]

OPTIONAL = ("bokeh", "jinja2", "optuna", "rich", "scipy", "shtab", "sqlalchemy", "threadpoolctl", "torch")
EXTRAS = {"doctor": "monitor", "watch": "monitor"}
"""What to install for a command, where it isn't ``compare``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        given = parser().parse_args(argv)
    except SystemExit as end:
        return int(end.code or 0)
    try:
        status = int(COMMANDS[given.command](given))
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
    said_too = [note for note in getattr(error, "__notes__", ()) if note.startswith(KEPT)]
    said = printable(said).removeprefix(f"{command}: ")  # as the function of that name begins
    print("\n".join([f"steepest {command}: {said}", *map(printable, said_too)]), file=sys.stderr)
    return status


def _say(text: str) -> None:
    """Print lines, in which names are the user's or those of a file that somebody else has written."""
    print(printable(text, lines=True), flush=True)


def _compare(given: Namespace) -> int:
    from steepest.workbench.campaign import DEFAULT, EVERYTHING, compare
    from steepest.workbench.parse import split_list
    from steepest.workbench.progress import progress_of
    from steepest.workbench.protocol import Budget

    named = {None: DEFAULT, "all": EVERYTHING}.get(given.optimizers)
    optimizers = named if named is not None else tuple(split_list(given.optimizers))
    budget = Budget(given.steps, given.trials, seeds=tuple(range(given.seeds)))
    with output_folder(given.output) as folder, kept(folder, given.storage, given.output) as storage:
        with progress_of(given.command) as progress:
            result = compare(
                split_list(given.workload), optimizers, tracks=split_list(given.track), budget=budget, jobs=given.jobs,
                storage=storage, space=given.space, progress=_ahead(progress),
            )  # fmt: skip
        return _shown(result, folder, given)


def _tune(given: Namespace) -> int:
    from steepest.workbench.progress import progress_of
    from steepest.workbench.protocol import Budget
    from steepest.workbench.tune import tune

    budget = Budget(given.steps, given.trials, seeds=tuple(range(given.seeds)))
    with output_folder(given.output) as folder, kept(folder, given.storage, given.output) as storage:
        with progress_of(given.command) as progress:
            result = tune(
                given.optimizer, given.workload, trials=given.trials, budget=budget, space=given.space, jobs=given.jobs,
                storage=storage, progress=_ahead(progress),
            )  # fmt: skip
        return _shown(result, folder, given)


def _ahead(progress: Callable[[int, int, str], None]) -> Callable[[int, int, str], None]:
    """As ``progress``; the first call loads what is shown at the end, while the workers are busy and nobody waits for it."""
    from steepest.interrupts import interrupts_held

    @functools.cache
    def load() -> None:
        with interrupts_held():  # a module that was interrupted can't be loaded again
            for name in ("page", "recommendation", "tables"):
                importlib.import_module(f"steepest.workbench.{name}")

    def told(done: int, total: int, what: str) -> None:
        progress(done, total, what)
        load()

    return told


def _shown(result: Any, folder: Path, given: Namespace) -> int:
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
        _say(f"{recommend(result)}\n\nreport   {report}\nresults  {data}")
    if result.unfinished:
        print(printable(f"interrupted; {go_on(folder, given.storage, given.output)}"), file=sys.stderr)
        return 130
    if not given.storage:
        ended(folder)
    return 0


def _report(given: Namespace) -> int:
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
            f"{given.folder}: the folder must have a results.json or a run, got neither. Pass a folder that compare or a monitor "
            "wrote."
        )
    _say(f"report   {report}")
    return 0


def _comparison_again(path: Path) -> Path:
    from steepest.workbench.page import write
    from steepest.workbench.results import Result

    try:
        result = Result.from_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return write(result, path.parent)[0]


def _watch(given: Namespace) -> int:
    from steepest.workbench.watch import watch

    watch(given.folder, once=given.once, as_json=given.json)
    return 0


def _lr_find(given: Namespace) -> int:
    from steepest.workbench.lr_find import run, summary
    from steepest.workbench.progress import progress_of

    with output_folder(given.output) as folder, progress_of(given.command) as progress:
        found = run(
            given.workload, given.optimizer, steps=given.steps, seeds=given.seeds, jobs=given.jobs, output=folder,
            progress=progress,
        )  # fmt: skip
    _say(f"{summary(found)}\n\nreport   {folder / 'lr-find.html'}\nresults  {folder / 'lr-find.json'}")
    return 0


def _reproduce(given: Namespace) -> int:
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


def _doctor(given: Namespace) -> int:
    from steepest.workbench.doctor import doctor

    findings = doctor(given.folder, as_json=given.json)
    return int(given.fail_on is not None and any(one.confidence >= given.fail_on for one in findings))


def _list(given: Namespace) -> int:
    from steepest.workbench.catalogue import listing, spaces, workloads

    lines = spaces() if given.search else workloads() if given.workloads else listing()
    _say("\n".join(lines).lstrip("\n"))
    return 0


def _plan(given: Namespace) -> int:
    from steepest.engines.numba.frame import source
    from steepest.plan.planner import checked_plan
    from steepest.workbench.parse import parse

    made = checked_plan(parse(given.chain))
    _say(str(made))
    if given.source:
        _say("\n" + source(made.program(made.usual), "float32", str(made.trace.chain)))
    return 0


def _completion(given: Namespace) -> int:
    import shtab

    print(shtab.complete(parser(), given.shell))
    return 0


def _print(*renderables: Any) -> None:
    from rich.console import Console
    from rich.segment import Segment

    class Printable:
        """What rich has made of them, in which names are printable: rich lets an escape in a name through."""

        def __rich_console__(self, console: Console, options: Any) -> Any:
            for one in renderables:
                for text, style, control in console.render(one, options):
                    yield Segment(text if control else printable(text, lines=True), style, control)

    Console(width=None if sys.stdout.isatty() else 140).print(Printable())


COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "compare": _compare, "tune": _tune, "lr-find": _lr_find, "reproduce": _reproduce, "report": _report, "watch": _watch,
    "doctor": _doctor, "list": _list, "plan": _plan, "completion": _completion,
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
