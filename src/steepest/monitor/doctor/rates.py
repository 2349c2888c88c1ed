"""Learning rates: too high, too low, without a warm-up, or with a schedule that does not fit the run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from steepest.monitor.doctor.cures import change
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
ROSE, NOISE = 1.5, 4.0
AT_ONCE = 5
"""Losses whose median stands for one, so that a single batch says nothing."""
FROM_ZERO = 0.1
GREW = 2.0
STAYED = 1.5
CERTAIN, FALLS = 4.0, 3.0
"""Standard errors by which a later median must lie above an earlier one, or below, that it is not by chance."""
STEADY, MOST = 0.5, 30.0
SHORT, FIRST = 0.3, 10
APART = 10.0


def too_high(run: Run) -> Iterator[Sign]:
    ratio, columns = values_of(run, "update_ratio"), _not_from_zero(run, matrix_columns(run))
    finite = np.flatnonzero(np.isfinite(run.losses))
    if ratio is None or not len(finite) or not len(columns):
        return
    start, early = float(run.losses[finite[0]]), max(20, len(run.losses) // 10)
    head = np.where(np.isnan(run.losses[:early]), -np.inf, run.losses[:early])
    rose = _rise(run, float(head.max()), early)
    records = slice(0, max(1, int(np.searchsorted(run.calls, early, side="right"))))
    peaks = np.nan_to_num(highest(ratio[records, columns].T), nan=0.0)
    guilty = columns[(peaks >= LARGE) & (peaks >= peaks.max(initial=0.0) / 3)]
    if rose < ROSE or not len(guilty):
        return
    everywhere = len(guilty) > len(columns) / 2
    where = "" if everywhere else f" of {listed(names_of(run, guilty))}"
    largest = float(peaks.max())
    call = int(run.loss_calls[int(head.argmax())])
    groups = () if everywhere else {run.facts.tensors[int(i)].group for i in guilty}
    grown = _growth(run, guilty)
    factor = next((f for f in (3.0, 10.0, 30.0) if largest / f <= 5 * USUAL), 100.0)
    yield Sign(
        f"The learning rate{where} is too high",
        min(0.98, sure(rose, ROSE, 5, 0.7, 0.95) + (0.03 if grown >= GREW else 0)),
        f"The loss rose from {number(start)} to {number(float(head.max()))} (batch {call}), while a step was up to "
        f"{number(largest)} times as long as the weights of {listed(names_of(run, guilty))}"
        + (f", which grew {number(grown)}-fold." if grown >= GREW else "."),
        (series(run, "update_ratio", guilty), series(run, "weight_norm", guilty), series(run, "loss")),
        f"Lower the rate{where} by a factor of about {number(factor)}, or find one: steepest lr-find. If only the first steps "
        "suffer, a warm-up does.",
        change(run, "lr", f"/= {number(factor)}", groups),
        0,
    )


def _rise(run: Run, peak: float, early: int) -> float:
    """How far the loss rose among the first batches, 1 where not at all: as a multiple of the first loss (of what was learned
    later, where that is more: losses may be below 0).

    A rise counts where it is several times what losses scatter later on, or where nine of ten lie as high later on. Where there is
    no later on, it counts as medians of a few losses, or at once where it ends in what is not finite.
    """
    finite = np.isfinite(run.losses)
    head, later = run.losses[:early][finite[:early]], run.losses[early:][finite[early:]]
    if not len(head):
        return 1.0  # before anything finite came
    start, scale = float(head[0]), max(abs(float(head[0])), float(head[0] - run.losses[finite].min()))
    if len(later) >= early:
        parts = np.array_split(later, len(later) // early)
        stays = np.quantile(later, 0.1) - np.median(head[:AT_ONCE]) >= (ROSE - 1) * scale
        if not stays and peak - start < NOISE * float(np.median([p.max() - np.median(p) for p in parts])):
            return 1.0
    elif not finite.all():
        peak = float(head[-AT_ONCE:].max())
    elif len(head) >= 2 * AT_ONCE:
        middles = np.median(np.lib.stride_tricks.sliding_window_view(head, AT_ONCE), axis=1)
        start, peak = float(middles[0]), float(middles.max())
        scale = max(scale, abs(start))
    return 1 + (peak - start) / scale if scale > 0 else 1.0


def _not_from_zero(run: Run, columns: NDArray[np.intp]) -> NDArray[np.intp]:
    """Those that did not start (almost) from 0, as LoRA's second factors do: relative to nothing any step is long. Of the usual
    initial weights the root mean square is a half to twice 1 / sqrt(inputs)."""
    weights = values_of(run, "weight_norm")
    if weights is None:
        return columns
    shapes = [run.facts.tensors[int(c)].shape for c in columns]
    outputs = np.array([shape[0] if shape else 1 for shape in shapes])
    kept: NDArray[np.intp] = columns[~(weights[0, columns] < FROM_ZERO * np.sqrt(outputs))]
    return kept


def uneven(run: Run) -> Iterator[Sign]:
    ratio, columns = values_of(run, "update_ratio"), _not_from_zero(run, matrix_columns(run))
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
        change(run, "lr", f"/= {number(times)}", [group]),
        0,
    )


def _growth(run: Run, columns: NDArray[np.intp]) -> float:
    """How many times as long the weights of a column became, at most; 0 where none had a length before."""
    weights = values_of(run, "weight_norm")
    if weights is None:
        return 0.0
    finite = np.where(np.isfinite(weights[:, columns]), weights[:, columns], np.nan)
    with np.errstate(all="ignore"):
        grown = highest((finite / finite[0]).T)
    return float(grown[np.isfinite(grown)].max(initial=0.0))


def rose_and_stayed(run: Run) -> Iterator[Sign]:
    finite = np.isfinite(run.losses)
    losses, calls = run.losses[finite], run.loss_calls[finite]
    if len(losses) < 50:
        return
    tenths = np.array_split(losses, 10)
    parts = [float(np.median(p)) for p in tenths]
    best = int(np.argmin(parts[:-1]))
    start, low, end = float(np.median(losses[:20])), parts[best], parts[-1]
    later = parts[best + 1 :]
    by_chance = CERTAIN * float(np.hypot(_error(tenths[best]), _error(tenths[-1])))
    if min(later) - low <= (STAYED - 1) * abs(low) or end - low < max(0.25 * abs(start - low), by_chance):
        return
    learned = start - low > max(
        by_chance, 0.1 * abs(low)
    )  # a loss that only ever rises may be meant to: an adversary's
    stayed = len(later) > 1 and end > 0.9 * max(later)  # it falls again: new data, or a recovery
    first = int(calls[(best + 1) * len(losses) // 10])
    yield Sign(
        "The loss rose in the middle of the run and stayed up",
        sure(1 + (end - low) / abs(low) if low else np.inf, STAYED, 10, 0.5, 0.8) if learned and stayed else 0.4,
        f"The median loss was {number(low)} in the {_tenth(best)} tenth of the run, and {number(end)} in the last.",
        (series(run, "loss"), series(run, "grad_norm")),
        "Lower the rate, or let it fall with a schedule; go back to weights from before the rise.",
        change(run, "lr", "*= 0.3"),
        first,
    )


def _error(losses: NDArray[np.float64]) -> float:
    """The standard error of the median of losses, by their median deviation; nan where there are none."""
    if not len(losses):
        return float("nan")
    deviation = 1.4826 * float(np.median(np.abs(losses - np.median(losses))))
    return 1.2533 * deviation / float(np.sqrt(len(losses)))


def _tenth(index: int) -> str:
    names = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "last")
    return names[index]


def too_low(run: Run) -> Iterator[Sign]:
    ratio, columns = values_of(run, "update_ratio"), matrix_columns(run)
    losses = run.losses[np.isfinite(run.losses)]
    if ratio is None or len(run) < 4 or len(losses) < 12:
        return
    usual = across(ratio[:, columns])
    usual = usual[np.isfinite(usual)]
    if not len(usual) or not (high := float(np.quantile(usual, 0.9))) > 0 or high >= SMALL:
        return
    tenth = len(losses) // 10 + 1
    begun, ended = float(np.median(losses[:tenth])), float(np.median(losses[-tenth:]))
    if ended <= 0 or ended < 0.5 * begun or not (found := _fall(losses))[0]:
        return  # it learns all the same; or it has converged, or a model is tuned that knows already
    steady = found[1]
    factor = float(min(MOST, 10 ** np.floor(np.log10(USUAL / high))))
    yield Sign(
        "The learning rate is too low",
        sure(high, SMALL, SMALL / 10, 0.6, 0.9) if steady else 0.4,
        f"In nine of ten records a step of the median layer was at most {number(high)} times as long as its weights; the loss "
        f"went from {number(begun)} to {number(ended)}"
        + (", and fell to the end as it did at the start." if steady else ", more slowly in the end."),
        (series(run, "update_ratio", columns), series(run, "loss")),
        f"Raise the rate about {number(factor)}-fold, or find one: steepest lr-find.",
        change(run, "lr", f"*= {number(factor)}"),
        0,
    )


def _fall(losses: NDArray[np.float64]) -> tuple[bool, bool]:
    """Whether a loss falls from its first third to its last, and to the end as it did at the start: from the second third to the
    last by half of what it fell from the first to the second, as far as noise can tell."""
    thirds = np.array_split(losses, 3)
    first, middle, last = (float(np.median(p)) for p in thirds)
    errors = np.array([_error(p) for p in thirds])
    falls = first - last > FALLS * float(np.hypot(errors[0], errors[2]))
    bend = (middle - last) - STEADY * (first - middle)
    slack = 1.5 * float(np.linalg.norm(errors * (STEADY, 1 + STEADY, 1)))
    return falls, bool(bend >= -slack and first - middle >= -slack)


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
    warm = max(10, int(run.steps[-1]) // 10)
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
        change(run, "lr", f"= steepest.schedules.warmup({warm}, {{old}})"),
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
        f"The loss rises to {ROSE} times its first value within the first tenth (20 batches at least), and by {NOISE:g} times as "
        f"much as losses scatter later in as many batches, or stays up (where none follow, medians of {AT_ONCE} do, or the last of "
        f"all), while a step in a matrix that does not start from 0 is {LARGE:g} times as long as its weights or longer. Named are "
        "the layers within a third of the longest.",
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
        f"The median loss of every later tenth of the run is over {STAYED} times its lowest, and the last by a quarter of what was "
        f"learned and {CERTAIN:g} standard errors. A remark where nothing was learned before, and where it falls again.",
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
        f"In nine of ten records the median matrix moves by less than {SMALL:g} of its length, and the loss, above 0, falls by "
        f"{FALLS:g} standard errors and does not halve. A remark where it falls more slowly in the end than at the start, by half.",
        f"{_RATIO}; a tenth of it is the library's own",
        (("update_ratio",),),
        too_low,
        lambda run: not (len(run.losses) and float(np.median(run.losses[-(len(run.losses) // 10 + 1) :])) <= 0),
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
