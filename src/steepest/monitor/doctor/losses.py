"""What the losses say: single batches that are not like the others, spikes and what came before them, no progress at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from steepest.monitor.doctor.cures import behind, change
from steepest.monitor.doctor.finding import Rule, Series, Sign, sure
from steepest.monitor.doctor.look import (
    Values,
    listed,
    names_of,
    number,
    second_moment,
    series,
    setting,
    span,
    values_of,
)
from steepest.monitor.guard.spikes import FACTOR, WARMUP, WINDOW, Losses
from steepest.monitor.records import Run

__all__ = ["RULES"]

BACK, NOTED, UNDONE = 0.25, 0.1, 0.25
FOREWARNED, AHEAD = 2.3, 10
JUMP = 4.0
OUTLIER = 8.0
CALM = 0.95
PROGRESS = 0.98


@dataclass(frozen=True, slots=True)
class Spike:
    """A stretch of losses above the limit: the places of the first and the last, the largest loss; ``before`` and ``worst`` are
    the median and the worst of the last good losses."""

    first: int
    last: int
    peak: float
    before: float
    worst: float


def _spikes(run: Run) -> tuple[list[Spike], float]:
    """Where losses are spikes, and how far above the median before it another loss of the run lies at most."""
    memory, found, scatter = Losses(FACTOR), [], 0.0
    begun: Spike | None = None
    for place, loss in enumerate(map(float, run.losses)):
        if not np.isfinite(loss):
            continue
        if loss > memory.limit():
            begun = begun or Spike(place, place, loss, float(np.median(memory.past)), max(memory.past))
            begun = replace(begun, peak=max(loss, begun.peak))
        if begun is not None and loss - begun.before > BACK * (begun.peak - begun.before):
            if place - begun.first >= WINDOW:  # no spike: another level, as of new data
                memory, begun = Losses(FACTOR), None
            continue  # above, or on its way down
        if begun is not None:
            found.append(replace(begun, last=place - 1))
            begun = None
        if len(memory.past) >= WARMUP:
            scatter = max(scatter, loss - float(np.median(memory.past)))
        memory.add(loss)
    return found if begun is None else [*found, replace(begun, last=len(run.losses) - 1)], scatter


def _undone(run: Run, spike: Spike) -> float:
    """How much of what had been learned a loss takes back: 1 where it is as large as at the start. What is less than the
    scatter of the losses has not been learned."""
    start = float(np.median(run.losses[np.isfinite(run.losses)][:WARMUP]))
    learned = max(start - spike.before, spike.worst - spike.before)
    return (spike.peak - spike.before) / learned if learned > 0 else 0.0


def _stands_out(spike: Spike, scatter: float) -> bool:
    """Where losses have heavy tails, one in thirty runs has a loss three times as far out as any other, whatever its length;
    two in a thousand have one eight times as far."""
    return spike.peak - spike.before >= OUTLIER * scatter


def _precursors(run: Run, call: int) -> tuple[str, tuple[Series, ...]]:
    """What the records in the last steps before a batch show: where the second moment lagged, whether gradients jumped."""
    rows = np.flatnonzero((run.calls <= call) & (run.calls >= call - max(AHEAD, run.facts.every)))
    spike, said, drawn = values_of(run, "spike"), [], []
    if spike is not None and len(rows) and run.steps[rows[-1]] > 25:
        above = np.nan_to_num(spike[rows], nan=0.0).max(axis=0)
        high = np.flatnonzero(above > FOREWARNED)
        if len(high):
            worst = high[np.argsort(-above[high])]
            step = int(run.steps[rows[int(spike[rows, worst[0]].argmax())]])
            said.append(
                f"At step {step} the gradients of {listed(names_of(run, worst))} were up to {number(float(above.max()))} times "
                "what their second moment expects."
            )
            drawn.append(Series("spike", names_of(run, worst), *span(run, max(0, rows[0] - 5), rows[-1])))
    norms = run.scalars.get("grad_norm")
    if norms is not None and len(rows) and rows[-1] >= 3:
        earlier = norms[max(0, rows[-1] - 10) : rows[-1]]
        usual = float(np.nanmedian(earlier)) if np.isfinite(earlier).any() else float("nan")
        if norms[rows[-1]] > JUMP * usual:
            step = int(run.steps[rows[-1]])
            said.append(
                f"At step {step} the gradient's norm was {number(float(norms[rows[-1]]))}, before {number(usual)}."
            )
            drawn.append(Series("grad_norm", (), *span(run, max(0, rows[-1] - 10), rows[-1])))
    return " ".join(said), tuple(drawn)


def _step_of(run: Run, call: int) -> int:
    """The step that a batch belongs to, as near as the records tell."""
    row = int(np.searchsorted(run.calls, call))
    return int(run.steps[row] - (run.calls[row] - call)) if row < len(run) else call


def single_batch(run: Run) -> Iterator[Sign]:
    spikes, scatter = _spikes(run)
    short = [s for s in spikes if s.last - s.first <= 1 and s.last < len(run.losses) - 1]
    if not short or len(short) > max(3, len(run.losses) // 1000):
        return  # that many are no accident
    worst = max(short, key=lambda s: s.peak - s.before)
    call = int(run.loss_calls[worst.first])
    said, drawn = _precursors(run, call - 1)
    if said:
        return
    undone = _undone(run, worst)
    if undone < NOTED:
        return
    calls = listed([str(int(run.loss_calls[s.first])) for s in short])
    serious = undone >= UNDONE and _stands_out(worst, scatter)
    yield Sign(
        f"Batch {calls} is not like the others: wrong labels or broken data",
        sure(undone, UNDONE, 4 * UNDONE, 0.5, 0.9) if serious else 0.3,
        f"The loss of batch {call} is {number(worst.peak)}, the median before {number(worst.before)}: {undone:.0%} of what had "
        "been learned. The next batches are as before, and no gradient had grown ahead of it.",
        (Series("loss", (), max(0, call - 30), call + 30), *drawn),
        "Look at this batch's examples and labels; leave such batches out while training.",
        "steepest.Guard(optimizer)",
        _step_of(run, call),
    )


def unstable(run: Run) -> Iterator[Sign]:
    spikes, scatter = _spikes(run)
    told = [(s, *_precursors(run, int(run.loss_calls[s.first]) - 1)) for s in spikes]
    serious = [(s, said, drawn) for s, said, drawn in told if s.last - s.first > 1 or said]
    if not serious:
        return
    worst, said, drawn = max(serious, key=lambda one: one[0].peak - one[0].before)
    call = int(run.loss_calls[worst.first])
    hard = _undone(run, worst) >= UNDONE and _stands_out(worst, scatter)
    advice, code = _calmer(run)
    yield Sign(
        "The loss has spikes",
        min(0.9, 0.5 + 0.1 * len(serious) + (0.15 if said else 0.0)) if hard else 0.4,
        f"{len(serious)} in {len(run.losses)} batches; the largest at batch {call}: {number(worst.peak)}, the median before "
        f"{number(worst.before)}, over {worst.last - worst.first + 1} batches. {said}".rstrip(),
        (Series("loss", (), max(0, call - 50), call + 50), *drawn),
        f"{advice} Skip or rewind what has happened.",
        code,
        _step_of(run, call),
    )


def _calmer(run: Run) -> tuple[str, str]:
    """What makes steps shorter where the gradient jumps, with this optimizer."""
    beta2 = setting(run, 0, "betas.1", "beta2")
    if second_moment(run) is not None and beta2 is not None and beta2 > CALM:
        said = f"Lower beta2 to {CALM:g}, so that steps stay short while the second moment lags, or clip."
        if setting(run, 0, "betas.1") is not None:
            return said, change(run, "betas", f"= ({{old}}[0], {CALM:g})")
        return said, change(run, "beta2", f"= {CALM:g}")
    if any("clip" in chain for chain in run.facts.chains):
        return "Lower the rate, or the limit of the clip.", change(run, "lr", "*= 0.5")
    norms = run.scalars.get("grad_norm", np.zeros(0))
    norms = norms[np.isfinite(norms)]
    usual = number(float(np.quantile(norms, 0.9))) if len(norms) else "1.0"
    return "Clip near the 90th percentile of the gradients' norm.", behind(
        run, f"steepest.clip_by_global_norm({usual})"
    )


def no_progress(run: Run) -> Iterator[Sign]:
    losses: Values = run.losses[np.isfinite(run.losses)]
    width = len(losses) // 10
    if width < 5:
        return
    first, best = float(np.median(losses[:width])), min(float(np.median(p)) for p in np.array_split(losses, 10)[1:])
    start = min(first, float(np.median(losses[:5])))
    if start == 0 or best < start - (1 - PROGRESS) * abs(start):
        return
    yield Sign(
        "The loss does not fall",
        0.45,
        f"It began at {number(start)}; the best tenth of the run has {number(best)}.",
        (series(run, "loss"),),
        "Train on a single batch until its loss is 0: where that fails, look for a fault in model, loss or data.",
        "$ steepest lr-find",
        0,
    )


RULES = (
    Rule(
        "bad_batch",
        f"A loss lies {FACTOR:g} times as far above the median as the worst of the last hundred, is back within {BACK:g} of that "
        "two batches later, and neither gradients nor their second moment announced it; at most one in a thousand, or three. An "
        f"alarm where it takes back {UNDONE:.0%} of what had been learned, and lies {OUTLIER:g} times as far above the median as "
        f"any other loss of the run; nothing below {NOTED:.0%}.",
        "Karpathy 2019, A Recipe for Training Neural Networks: look at the data of the largest losses; Chowdhery et al. 2022, "
        "arXiv:2204.02311, on batches skipped; own rule for what a spike is",
        (("losses",),),
        single_batch,
    ),
    Rule(
        "loss_spikes",
        f"The same, but for more than two batches, or announced within {AHEAD} steps: gradients over {FOREWARNED} times the root "
        f"of their second moment, or a gradient norm {JUMP:g} times its median; no more than {WINDOW} batches. An alarm "
        f"as there.",
        "Wortsman et al. 2023, arXiv:2304.13013: spikes follow 1 to 8 steps after RMS over 2.3; own rule for what a spike is",
        (("losses",),),
        unstable,
    ),
    Rule(
        "loss_does_not_fall",
        f"No tenth of the run has a median loss below {PROGRESS:g} of the first losses.",
        "Amazon SageMaker Debugger, LossNotDecreasing; Karpathy 2019, A Recipe for Training Neural Networks",
        (("losses",),),
        no_progress,
    ),
)  # fmt: skip
