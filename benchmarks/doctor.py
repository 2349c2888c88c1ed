"""How often the doctor is right: trainings made sick on purpose, and healthy ones, on seeds that no threshold was set on.

Judged are three suites of ``trainings.py``: sick and healthy trainings, the same sicknesses on other workloads, and healthy
trainings that look like sick ones. A sick training is recognised where the first finding is an alarm of the right cause that
names the right parameter; a healthy one where there is no alarm. Each run is judged twice, with all measurements and with only
those that a `Monitor` makes by default. `USED` are the seeds that are no evidence any more.

    python benchmarks/doctor.py [--seeds 30,31,32] [--only decay,eps] [--write docs/doctor.md]
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from trainings import HEALTHY, OTHER_HEALTHY, OTHER_KINDS, OTHER_SICK, SICK, Case

import steepest
from steepest.monitor.doctor import ALARM, FOLLOWS, RULES, Finding, diagnose
from steepest.monitor.records import Run
from steepest.monitor.telemetry import STANDARD
from steepest.workbench.provenance import machine

SUITES = {
    "The first suite": (*SICK, *HEALTHY),
    "The second suite: the same on other workloads": (*OTHER_SICK, *OTHER_HEALTHY),
    "The third suite: healthy trainings of other kinds": OTHER_KINDS,
}
USED = frozenset((0, 1, 2, 10, 11, 12, 20, 21, 22))
"""Seeds on which thresholds were set, or whose judgement has changed a rule."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the doctor said of one training with one seed, with all measurements and with the standard ones; and the median
    losses of its first, best and last tenth."""

    case: Case
    seed: int
    findings: tuple[Finding, ...]
    standard: tuple[Finding, ...]
    losses: tuple[float, float, float]


def standard(run: Run) -> Run:
    """The run as a `Monitor` records it by default."""
    return replace(run, tensors={n: v for n, v in run.tensors.items() if n in STANDARD})


def course(run: Run) -> tuple[float, float, float]:
    tenths = [float(np.median(part)) for part in np.array_split(run.losses[np.isfinite(run.losses)], 10) if len(part)]
    return tenths[0], min(tenths), tenths[-1]


def first(findings: Sequence[Finding]) -> str:
    """The cause that stands first, if it is an alarm."""
    return findings[0].cause if findings and findings[0].confidence >= ALARM else ""


def is_right(case: Case, findings: Sequence[Finding]) -> bool:
    if not case.expected:
        return not any(one.confidence >= ALARM for one in findings)
    return first(findings) == case.expected and (not case.place or case.place in findings[0].tensors)


def judge(seeds: Sequence[int], only: Sequence[str]) -> Iterator[tuple[str, Judged, float]]:
    for suite, cases in SUITES.items():
        for case in cases:
            for seed in seeds if not only or case.name in only else ():
                begun = time.perf_counter()
                run = case.train(seed)
                judged = Judged(case, seed, diagnose(run), diagnose(standard(run)), course(run))
                yield suite, judged, time.perf_counter() - begun


# ---- the page


def page(results: dict[str, list[Judged]], seeds: Sequence[int], seconds: float) -> Iterator[str]:
    yield HEAD.format(
        seeds=", ".join(map(str, seeds)),
        given=",".join(map(str, seeds)),
        used=_ranges(sorted(USED)),
        code=f"steepest {steepest.__version__} of commit {commit()}, torch {torch.__version__}",
        machine=f"{machine()}, one thread",
        seconds=round(seconds),
        total="\n".join(_summary([one for judged in results.values() for one in judged])).rstrip(),
    )
    for suite, judged in results.items():
        yield f"## {suite}\n"
        yield from _summary(judged)
        yield from _sick(judged, seeds)
        yield from _healthy(judged, seeds)
        yield from _confusion(judged)
    yield from _rules()


def commit() -> str:
    """What the working tree is, as git has it."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True
        ).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "../src", ".")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else "")


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers in order as text.

    >>> _ranges([0, 1, 2, 5, 7, 8])
    '0 to 2, 5, 7 to 8'
    """
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return ", ".join(f"{a} to {b}" if b > a else str(a) for a, b in zip(starts, ends, strict=True))


def _summary(judged: Sequence[Judged]) -> Iterator[str]:
    for said, choose in (("all", lambda j: j.findings), ("only the standard", lambda j: j.standard)):
        sick = [is_right(j.case, choose(j)) for j in judged if j.case.expected]
        well = [is_right(j.case, choose(j)) for j in judged if not j.case.expected]
        parts = [f"recognised {sum(sick)} of {len(sick)} sick trainings, cause and place first"] if sick else []
        parts += [f"no alarm in {sum(well)} of {len(well)} healthy ones"] if well else []
        yield f"- With {said} measurements: {'; '.join(parts)}."
    yield ""


def _said(judged: Judged) -> str:
    """What was found first, and whether that is right; in brackets where the standard measurements say something else."""
    mark = "" if is_right(judged.case, judged.findings) else "**wrong**: "
    found = judged.findings[0] if first(judged.findings) else None
    text = "no alarm" if found is None else f"{found.cause} {found.confidence:.2f}"
    if is_right(judged.case, judged.standard) != is_right(judged.case, judged.findings):
        text += f" (standard: {first(judged.standard) or 'no alarm'})"
    return mark + text


def _rows(judged: Sequence[Judged]) -> Iterator[tuple[Case, list[Judged]]]:
    for case in dict.fromkeys(j.case for j in judged):
        yield case, [j for j in judged if j.case is case]


def _sick(judged: Sequence[Judged], seeds: Sequence[int]) -> Iterator[str]:
    sick = [j for j in judged if j.case.expected]
    if not sick:
        return
    yield f"| sick training | what was done | cause | {' | '.join(f'seed {s}' for s in seeds)} |"
    yield "|" + "---|" * (3 + len(seeds))
    for case, row in _rows(sick):
        place = f" in {case.place}" if case.place else ""
        yield f"| {case.name} | {case.about} | {case.expected}{place} | {' | '.join(map(_said, row))} |"
    yield ""


def _healthy(judged: Sequence[Judged], seeds: Sequence[int]) -> Iterator[str]:
    healthy = [j for j in judged if not j.case.expected]
    if not healthy:
        return
    yield f"| healthy training | optimizer | loss | {' | '.join(f'seed {s}' for s in seeds)} |"
    yield "|" + "---|" * (3 + len(seeds))
    for case, row in _rows(healthy):
        losses = "; ".join(_course(one.losses) for one in row)
        yield f"| {case.name} | {case.about} | {losses} | {' | '.join(map(_said, row))} |"
    yield ""


def _course(losses: tuple[float, float, float]) -> str:
    """The first, the best and the last tenth's median; the best only where the last is half as far again above it."""
    start, best, end = losses
    back = end - best > abs(best) / 2 and end - best > 0.1 * (start - best)
    return " → ".join(f"{value:.2g}" for value in ((start, best, end) if back else (start, end)))


def _confusion(judged: Sequence[Judged]) -> Iterator[str]:
    """Rows: what was done. Columns: what was found first."""
    pairs = Counter((j.case.expected or "healthy", first(j.findings) or "no alarm") for j in judged)
    found = list(dict.fromkeys(f for _, f in pairs))
    yield "Confusion: what was done (rows), and what was found first (columns), in runs.\n"
    yield f"| | {' | '.join(found)} |"
    yield "|---|" + "---|" * len(found)
    for expected in dict.fromkeys(e for e, _ in pairs):
        yield f"| {expected} | {' | '.join(str(pairs[expected, f] or '') for f in found)} |"
    yield ""


def _rules() -> Iterator[str]:
    yield "## The rules\n\nIn the order of the table in the code; of equally certain findings the earlier one comes first.\n"
    yield "| cause | it is found where | source | needs |\n|---|---|---|---|"
    for rule in RULES:
        needs = " or ".join(", ".join(one) for one in rule.needs if one) or "losses, events or facts"
        yield f"| {rule.cause} | {rule.says} | {rule.source} | {needs} |"
    yield "\n## What follows from what\n\nA finding on the right that began no earlier stands behind the one on the left.\n"
    yield "| cause | explains |\n|---|---|"
    for cause, effects in FOLLOWS.items():
        yield f"| {cause} | {', '.join(effects)} |"
    yield ""


HEAD = """# The doctor

`steepest doctor runs/a` reads what a `Monitor` has recorded and says what is wrong, how certain that is, on what evidence, and
which line to change; `steepest doctor runs/a --fail-on 0.5` fails a build. In Python:

```python
from steepest.monitor import read
from steepest.monitor.doctor import diagnose

for finding in diagnose(read("runs/a")):
    print(finding.confidence, finding.title, finding.evidence, finding.code)
```

A finding from a confidence of 0.5 on is an alarm; below, it is a remark that a healthy run may deserve too. What follows from
another finding says so and stands behind it.

## How it was judged

This page is written by `python benchmarks/doctor.py --seeds {given} --write docs/doctor.md`. A sick training is recognised where
the first finding is an alarm of the right cause and names the parameter in question; a healthy one where nothing is an alarm.

Thresholds were set on seeds 0 to 2 of the first and the third suite. The second suite has the same sicknesses on other networks,
data and optimizers; of it seeds 0 to 2 have been looked at, to see that its trainings are sick and that changed rules still know
them, and one rule was changed because of one of them.
The third suite are healthy trainings that look like sick ones. Seeds {used} are no evidence: thresholds were
set on them, or rules were changed after they had been judged. The command refuses to write of them, and of a part of the suites.

All trainings are small, and sick in one way at a time. A confidence is a rule's, not a frequency. What a healthy training's loss
did stands beside it, as medians of its first and last tenth, and of its best one in between where the loss rose again from there.
The network that explodes is recorded at every step; all others at every fifth. States of 16 bits are not looked for: steepest keeps
them in float32 whatever the parameters are, and a `Monitor` takes no optimizer but steepest's.

Run by {code}, on {machine}; {seconds} seconds.
Over all suites, on seeds {seeds}:

{total}
"""


def main() -> None:
    given = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    given.add_argument("--seeds", default="30,31,32", help="numbers, separated by commas (30,31,32)")
    given.add_argument("--only", default="", help="names of trainings, separated by commas (all)")
    given.add_argument("--write", type=Path, default=None, metavar="FILE", help="write the page")
    arguments = given.parse_args()
    torch.set_num_threads(1)
    seeds, only = [int(s) for s in arguments.seeds.split(",")], [n for n in arguments.only.split(",") if n]
    if arguments.write and only:
        given.error("--write with --only: a page is of all trainings. Leave --only out.")
    if arguments.write and USED.intersection(seeds):
        given.error(
            f"--write: --seeds must be none of {_ranges(sorted(USED))}, got {arguments.seeds}. They made the rules."
        )
    results: dict[str, list[Judged]] = {}
    total = 0.0
    for suite, one, seconds in judge(seeds, only):
        results.setdefault(suite, []).append(one)
        total += seconds
        right = "right" if is_right(one.case, one.findings) else "WRONG"
        said = "; ".join(
            f"{f.cause} {f.confidence:.2f}" + (f" < {f.explained_by}" if f.explained_by else "") for f in one.findings
        )
        print(f"{right} {one.case.name:26} seed {one.seed:2} {seconds:5.1f} s  {said}", flush=True)
    if arguments.write:
        arguments.write.write_text("\n".join(page(results, seeds, total)), encoding="utf-8")
    else:
        print(
            "\n".join(_summary([one for judged in results.values() for one in judged])), f"{total:.0f} seconds", sep=""
        )


if __name__ == "__main__":
    main()
