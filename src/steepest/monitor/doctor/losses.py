"""What the losses say: single batches that are not like the others, spikes and what came before them, no progress at all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from steepest.monitor.doctor.finding import Rule, Series, Sign, sure
from steepest.monitor.doctor.look import Values, listed, names_of, number, series, span, values_of
from steepest.monitor.guard.spikes import FACTOR, Losses
from steepest.monitor.records import Run

__all__ = ["RULES"]

BACK, NOTED, UNDONE = 0.25, 0.1, 0.25
FOREWARNED, AHEAD = 2.3, 10
JUMP = 4.0
PROGRESS = 0.98


def _spikes(run: Run) -> list[tuple[int, int, float, float]]:
    """Stretches of losses above the limit: the places of the first and the last, the largest loss, the median before."""
    memory, found = Losses(FACTOR), []
    first = peak = before = None
    for place, loss in enumerate(map(float, run.losses)):
        if not np.isfinite(loss):
            continue
        if loss > memory.limit():
            if first is None:
                first, peak, before = place, loss, float(np.median(memory.past))
            peak = max(loss, peak or loss)
            continue
        if first is not None and before is not None and peak is not None:
            if loss - before > BACK * (peak - before):
                continue  # on its way down
            found.append((first, place - 1, peak, before))
            first = None
        memory.add(loss)
    if first is not None and before is not None and peak is not None:
        found.append((first, len(run.losses) - 1, peak, before))
    return found


def _undone(run: Run, peak: float, before: float) -> float:
    """How much of what had been learned a loss takes back: 1 where it is as large as at the start."""
    start = float(run.losses[np.isfinite(run.losses)][0])
    return (peak - before) / (start - before) if start > before else 0.0


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
    short = [s for s in _spikes(run) if s[1] - s[0] <= 1 and s[1] < len(run.losses) - 1]
    if not short or len(short) > max(3, len(run.losses) // 1000):
        return  # that many are no accident
    worst = max(short, key=lambda s: s[2] - s[3])
    call = int(run.loss_calls[worst[0]])
    said, drawn = _precursors(run, call - 1)
    if said:
        return
    undone = _undone(run, worst[2], worst[3])
    if undone < NOTED:
        return
    calls = listed([str(int(run.loss_calls[s[0]])) for s in short])
    yield Sign(
        f"Batch {calls} is not like the others: wrong labels or broken data",
        sure(undone, UNDONE, 4 * UNDONE, 0.5, 0.9) if undone >= UNDONE else 0.3,
        f"The loss of batch {call} is {number(worst[2])}, the median before {number(worst[3])}: {undone:.0%} of what had been "
        "learned. The next batches are as before, and no gradient had grown ahead of it.",
        (Series("loss", (), max(0, call - 30), call + 30), *drawn),
        "Look at this batch's examples and labels; leave such batches out while training.",
        "steepest.Guard(optimizer)",
        _step_of(run, call),
    )


def unstable(run: Run) -> Iterator[Sign]:
    spikes = _spikes(run)
    told = [(s, *_precursors(run, int(run.loss_calls[s[0]]) - 1)) for s in spikes]
    serious = [(s, said, drawn) for s, said, drawn in told if s[1] - s[0] > 1 or said]
    if not serious:
        return
    worst, said, drawn = max(serious, key=lambda one: one[0][2] - one[0][3])
    call = int(run.loss_calls[worst[0]])
    hard = _undone(run, worst[2], worst[3]) >= UNDONE
    yield Sign(
        "The loss has spikes",
        min(0.9, 0.5 + 0.1 * len(serious) + (0.15 if said else 0.0)) if hard else 0.4,
        f"{len(serious)} in {len(run.losses)} batches; the largest at batch {call}: {number(worst[2])}, the median before "
        f"{number(worst[3])}, over {worst[1] - worst[0] + 1} batches. {said}".rstrip(),
        (Series("loss", (), max(0, call - 50), call + 50), *drawn),
        "Lower beta2 to 0.95 or clip, so that steps stay short while the second moment lags; skip or rewind what has happened.",
        "steepest.adamw(lr, betas=(0.9, 0.95))",
        _step_of(run, call),
    )


def no_progress(run: Run) -> Iterator[Sign]:
    losses: Values = run.losses[np.isfinite(run.losses)]
    width = len(losses) // 10
    if width < 5:
        return
    first, best = float(np.median(losses[:width])), min(float(np.median(p)) for p in np.array_split(losses, 10)[1:])
    start = min(first, float(np.median(losses[:5])))
    if not start > 0 or best < PROGRESS * start:
        return
    yield Sign(
        "The loss does not fall",
        0.45,
        f"It began at {number(start)}; the best tenth of the run has {number(best)}.",
        (series(run, "loss"),),
        "Train on a single batch until its loss is 0: where that fails, look for a fault in model, loss or data.",
        "steepest lr-find",
        0,
    )


RULES = (
    Rule(
        "bad_batch",
        f"A loss lies {FACTOR:g} times as far above the median as the worst of the last hundred, is back within {BACK:g} of that "
        "two batches later, and neither gradients nor their second moment announced it; at most one in a thousand, or three. An "
        f"alarm where it takes back {UNDONE:.0%} of what had been learned, nothing below {NOTED:.0%}.",
        "Karpathy 2019, A Recipe for Training Neural Networks: look at the data of the largest losses; Chowdhery et al. 2022, "
        "arXiv:2204.02311, on batches skipped; own rule for what a spike is",
        (("losses",),),
        single_batch,
    ),
    Rule(
        "loss_spikes",
        f"The same, but for more than two batches, or announced within {AHEAD} steps: gradients over {FOREWARNED} times the root "
        f"of their second moment, or a gradient norm {JUMP:g} times its median. An alarm where it takes back "
        f"{UNDONE:.0%} of what had been learned.",
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
