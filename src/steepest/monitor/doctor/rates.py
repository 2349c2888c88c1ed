"""Learning rates: too high, too low, without a warm-up, or with a schedule that does not fit the run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from steepest.monitor.doctor.finding import Rule, Sign, sure
from steepest.monitor.doctor.look import (
    across,
    at_records,
    down,
    highest,
    listed,
    matrix_columns,
    middle,
    names_of,
    number,
    rates,
    second_moment,
    series,
    values_of,
)
from steepest.monitor.records import Run

__all__ = ["RULES"]

USUAL = 1e-3
"""What the length of a step over that of the weights is in a training that goes well, roughly."""
LARGE, SMALL = 30 * USUAL, USUAL / 10
ROSE = 1.5
GREW = 2.0
STAYED = 1.5
SHORT, FIRST = 0.3, 10
APART = 10.0


def too_high(run: Run) -> Iterator[Sign]:
    ratio, columns = values_of(run, "update_ratio"), matrix_columns(run)
    finite = np.flatnonzero(np.isfinite(run.losses))
    if ratio is None or not len(finite):
        return
    start, early = float(run.losses[finite[0]]), max(20, len(run.losses) // 10)
    head = np.where(np.isnan(run.losses[:early]), -np.inf, run.losses[:early])
    rose = float(head.max() / start) if start > 0 else 0.0
    records = slice(0, max(1, int(np.searchsorted(run.calls, early, side="right"))))
    peaks = np.nan_to_num(highest(ratio[records, columns].T), nan=0.0)
    guilty = columns[(peaks >= LARGE) & (peaks >= peaks.max(initial=0.0) / 3)]
    if rose < ROSE or not len(guilty):
        return
    everywhere = len(guilty) > len(columns) / 2
    where = "" if everywhere else f" of {listed(names_of(run, guilty))}"
    largest = float(peaks.max())
    call = int(run.loss_calls[int(head.argmax())])
    grown = _growth(run, guilty)
    factor = next((f for f in (3.0, 10.0, 30.0) if largest / f <= 5 * USUAL), 100.0)
    group = run.facts.tensors[int(guilty[0])].group
    lr = rates(run, group)
    new = "*= 0.1" if lr is None or not lr.size else f"= {number(float(np.nanmax(lr)) / factor)}"
    yield Sign(
        f"The learning rate{where} is too high",
        min(0.98, sure(rose, ROSE, 5, 0.7, 0.95) + (0.03 if grown >= GREW else 0)),
        f"The loss rose from {number(start)} to {number(float(head.max()))} (batch {call}), while a step was up to "
        f"{number(largest)} times as long as the weights of {listed(names_of(run, guilty))}"
        + (f", which grew {number(grown)}-fold." if grown >= GREW else "."),
        (series(run, "update_ratio", guilty), series(run, "weight_norm", guilty), series(run, "loss")),
        f"Lower the rate{where} by a factor of about {number(factor)}, or find one: steepest lr-find. If only the first steps "
        "suffer, a warm-up does.",
        f"optimizer.param_groups[{group}]['lr'] {new}",
        0,
    )


def uneven(run: Run) -> Iterator[Sign]:
    ratio, columns = values_of(run, "update_ratio"), matrix_columns(run)
    if ratio is None or len(run.facts.groups) < 2 or len(columns) < 3:
        return
    of_group = np.array([run.facts.tensors[int(c)].group for c in columns])
    each = {}
    for group in map(int, np.unique(of_group)):
        lr = rates(run, group)
        each[group] = float(np.nanmax(lr)) if lr is not None and np.isfinite(lr).any() else float("nan")
    own = np.array([each[int(g)] for g in of_group])
    usual_rate = float(np.nanmedian(own))
    early = slice(0, max(1, len(run) // 10))
    longest = highest(ratio[early, columns].T)
    usual = middle(longest)
    guilty = columns[(own >= APART * usual_rate) & (longest >= LARGE) & (longest >= APART / 2 * usual)]
    if not usual_rate > 0 or not usual > 0 or not len(guilty) or len(guilty) > len(columns) / 2:
        return
    group = run.facts.tensors[int(guilty[0])].group
    times, largest = each[group] / usual_rate, float(np.nanmax(highest(ratio[early, guilty].T)))
    yield Sign(
        f"The learning rate of {listed(names_of(run, guilty))} is too high beside the others'",
        sure(times, APART, 10 * APART, 0.6, 0.85),
        f"The rate of group {group} is {number(times)} times the others'; in the first tenth of the run a step here was up to "
        f"{number(largest)} times as long as the weights, {number(usual)} times in the median layer.",
        (series(run, "update_ratio", guilty), series(run, "weight_norm", guilty)),
        "Give this group the others' rate.",
        f"optimizer.param_groups[{group}]['lr'] = {number(usual_rate)}",
        0,
    )


def _growth(run: Run, columns: NDArray[np.intp]) -> float:
    """How many times as long the weights of a column became, at most."""
    weights = values_of(run, "weight_norm")
    if weights is None:
        return 0.0
    finite = np.where(np.isfinite(weights[:, columns]), weights[:, columns], np.nan)
    first = finite[0]
    with np.errstate(all="ignore"):
        grown = highest((finite / first).T)
    return float(np.nan_to_num(grown, nan=0.0).max(initial=0.0))


def rose_and_stayed(run: Run) -> Iterator[Sign]:
    finite = np.isfinite(run.losses)
    losses, calls = run.losses[finite], run.loss_calls[finite]
    width = len(losses) // 10
    if width < 5:
        return
    parts = [float(np.median(p)) for p in np.array_split(losses, 10)]
    best = int(np.argmin(parts[:-1]))
    start, low, end = float(np.median(losses[: min(5, width)])), parts[best], parts[-1]
    risen = [p for p in parts[best + 1 :] if p > STAYED * low]
    if low <= 0 or len(risen) < len(parts) - best - 1 or end - low < 0.25 * abs(start - low):
        return
    first = int(calls[(best + 1) * len(losses) // 10])
    yield Sign(
        "The loss rose in the middle of the run and stayed up",
        sure(end / low, STAYED, 10, 0.5, 0.8),
        f"The median loss was {number(low)} in the {_tenth(best)} tenth of the run, and {number(end)} in the last.",
        (series(run, "loss"), series(run, "grad_norm")),
        "Lower the rate, or let it fall with a schedule; go back to weights from before the rise.",
        "steepest.adamw(steepest.schedules.cosine(lr, steps=total))",
        first,
    )


def _tenth(index: int) -> str:
    names = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "last")
    return names[index]


def too_low(run: Run) -> Iterator[Sign]:
    ratio, columns = values_of(run, "update_ratio"), matrix_columns(run)
    finite = run.losses[np.isfinite(run.losses)]
    if ratio is None or len(run) < 4:
        return
    usual = across(ratio[:, columns])
    usual = usual[np.isfinite(usual)]
    if not len(usual) or not (high := float(np.quantile(usual, 0.9))) > 0 or high >= SMALL:
        return
    tenth = len(finite) // 10 + 1
    first, last = (float(np.median(p)) if len(p) else 0.0 for p in (finite[:tenth], finite[-tenth:]))
    if len(finite) and last < 0.5 * first:
        return  # it learns all the same: fine-tuning, or a model that needs little
    lr = rates(run)
    factor = 10 ** np.floor(np.log10(USUAL / high))
    new = "*= 10" if lr is None or not lr.size else f"= {number(float(np.nanmax(lr)) * factor)}"
    yield Sign(
        "The learning rate is too low",
        sure(high, SMALL, SMALL / 10, 0.6, 0.9),
        f"In nine of ten records a step of the median layer was at most {number(high)} times as long as its weights; the loss "
        f"went from {number(first)} to {number(last)}.",
        (series(run, "update_ratio", columns), series(run, "loss")),
        f"Raise the rate about {number(factor)}-fold, or find one: steepest lr-find.",
        f"for group in optimizer.param_groups: group['lr'] {new}",
        0,
    )


def no_warmup(run: Run) -> Iterator[Sign]:
    spike, columns, lr = values_of(run, "spike"), matrix_columns(run), rates(run)
    if spike is None or second_moment(run) is None or not len(run) or run.steps[0] > FIRST:
        return
    early = int(np.argmax(np.append(run.steps, 3 * FIRST + 1) > 3 * FIRST))
    seen = across(spike[:early, columns])
    known = None if lr is None else lr[np.isfinite(lr)]
    if known is not None and len(known) and known[0] < 0.9 * known.max():
        return  # it rises
    if len(seen) < 2 or not np.isfinite(seen).all() or not (seen < SHORT).all():
        return
    losses = at_records(run)
    if np.isfinite(losses).sum() > 4 and not np.nanmin(losses[early:], initial=np.inf) < losses[0]:
        return  # it does not learn later either: that is more than a missing warm-up
    first, times = float(seen[0]), 1 / max(float(np.median(seen)), 1e-9)
    rate = "lr" if known is None or not len(known) else number(float(known.max()))
    yield Sign(
        "A warm-up is missing",
        sure(first, SHORT, SHORT / 5, 0.6, 0.9),
        f"Already at step {int(run.steps[0])} the gradients of the median layer were {number(times)} times smaller than what the "
        f"second moment remembers: the very first steps had gradients that the following ones, up to step "
        f"{int(run.steps[early - 1])}, have no more, and every step since is that much shorter.",
        (
            series(run, "spike", columns, 0, early - 1),
            series(run, "grad_norm", columns),
            series(run, "lr"),
        ),
        "Let the rate rise over the first steps (a tenth of the run at most), or use RAdam.",
        f"steepest.adamw(steepest.schedules.warmup({max(10, int(run.steps[-1]) // 10)}, {rate}))",
        0,
    )


def schedule(run: Run) -> Iterator[Sign]:
    lr = rates(run)
    if not run.finished or lr is None or len(run) < 10 or not np.isfinite(lr).any():
        return
    peak = float(np.nanmax(lr))
    top = int(np.nanargmax(lr))
    share = float(run.steps[top] / run.steps.max())
    ended_in_it = top == len(lr) - 1  # a short try, or a range test
    if lr[0] < 0.9 * peak and share > 0.1 and not ended_in_it:
        yield Sign(
            "The warm-up is long",
            sure(share, 0.1, 1.0, 0.2, 0.45),
            f"The rate rose until step {int(run.steps[top])} of {int(run.steps[-1])}.",
            (series(run, "lr"),),
            "Shorten the rise to a tenth of the run, or train longer.",
            f"steepest.schedules.warmup({int(run.steps[-1]) // 10}, {number(peak)})",
            0,
        )
    over = len(lr) - int(np.flatnonzero(lr > 1e-6 * peak)[-1]) - 1 if peak > 0 else 0
    if over > 0.1 * len(lr):
        yield Sign(
            "The schedule ended before the run did",
            sure(over / len(lr), 0.1, 0.5, 0.6, 0.9),
            f"From step {int(run.steps[-over])} to {int(run.steps[-1])} the rate was 0.",
            (series(run, "lr"),),
            "Give the schedule the number of steps that are trained.",
            f"steepest.schedules.cosine({number(peak)}, steps={int(run.steps[-1])})",
            int(run.steps[-over]),
        )


def left_behind(run: Run) -> Iterator[Sign]:
    ratio, columns = values_of(run, "update_ratio"), matrix_columns(run)
    if ratio is None or len(columns) < 3:
        return
    each = down(ratio[:, columns])
    usual = middle(each)
    slow = columns[(each > 0) & (each < usual / 1000)]
    if usual < SMALL or not len(slow):
        return
    worst = float(down(ratio[:, slow]).min())
    yield Sign(
        f"{listed(names_of(run, slow))}: the rate is too low here",
        sure(worst, usual / 1000, usual / 1e5, 0.4, 0.7),
        f"Steps are {number(worst)} times as long as the weights, {number(usual)} times in the median layer.",
        (series(run, "update_ratio", slow),),
        "Give these parameters a group with a higher rate, or a rule that scales each layer (LAMB, LARS).",
        "steepest.lamb(lr)",
        0,
    )


_RATIO = "Karpathy, Zero to Hero 4, and CS231n: updates near 1e-3 of the weights"
RULES = (
    Rule(
        "learning_rate_too_high",
        f"The loss rises to {ROSE} times its first value within the first tenth (20 batches at least), while a step in a matrix "
        f"is {LARGE:g} times as long as its weights or longer. Named are the layers within a third of the longest.",
        f"{_RATIO}; Godbole et al. 2023, Deep Learning Tuning Playbook, on instability; the factors are the library's own",
        (("update_ratio",),),
        too_high,
    ),
    Rule(
        "learning_rate_too_high",
        f"A group's rate is {APART:g} times the others' or more, and in the first tenth of the run a step in one of its matrices "
        f"is {LARGE:g} times as long as its weights and {APART / 2:g} times the median matrix's, relative to the weights.",
        f"{_RATIO}; own factors",
        (("update_ratio", "lr"),),
        uneven,
    ),
    Rule(
        "loss_rises",
        f"The median loss of every later tenth of the run is over {STAYED} times its lowest, by a quarter of what was learned.",
        "Godbole et al. 2023, Deep Learning Tuning Playbook: loss that goes up during periods of training; own factors",
        (("losses",),),
        rose_and_stayed,
    ),
    Rule(
        "warmup_missing",
        f"From the first record (step {FIRST} at the latest) to step {3 * FIRST} the gradients of the median matrix are below "
        f"{SHORT} of the root of their second moment, the rate does not rise, and the loss falls later.",
        "Liu et al. 2020, arXiv:1908.03265, figure 2: without a warm-up gradients are distorted within 10 updates; Xiong et al. "
        "2020, arXiv:2002.04745; own threshold",
        (("spike",),),
        no_warmup,
        lambda run: second_moment(run) is not None,
    ),
    Rule(
        "learning_rate_too_low",
        f"In nine of ten records the median matrix moves by less than {SMALL:g} of its length, and the loss does not halve.",
        f"{_RATIO}; a tenth of it is the library's own",
        (("update_ratio",),),
        too_low,
    ),
    Rule(
        "layer_left_behind",
        "A matrix's median step, relative to its weights, is below a thousandth of the median matrix's.",
        f"{_RATIO}; own factor",
        (("update_ratio",),),
        left_behind,
    ),
    Rule(
        "schedule_does_not_fit",
        "In a finished run the rate is 0 for more than the last tenth, or rises for more than a tenth and then stays or falls (a "
        "remark).",
        "Godbole et al. 2023, Deep Learning Tuning Playbook: a warm-up of at most 10 % of the steps",
        (("lr",),),
        schedule,
    ),
)  # fmt: skip
