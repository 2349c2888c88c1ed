"""What a run spends: batches against the noise of their gradients, and time inside the optimizer. Remarks, not alarms."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from steepest.monitor.doctor.finding import Rule, Sign, sure
from steepest.monitor.doctor.look import middle, number, series
from steepest.monitor.records import Run

__all__ = ["RULES"]

WASTED, NOISY = 4.0, 30.0
SHARE = 0.3


def batch_size(run: Run) -> Iterator[Sign]:
    name = next((n for n in run.scalars if n.split("/")[0] == "noise_scale"), None)
    batch = run.facts.notes.get("batch_size")
    if name is None or not isinstance(batch, (int, float)) or batch <= 0:
        return
    scale = middle(run.scalars[name][len(run) // 2 :].astype(np.float64))
    if not scale > 0:
        return
    if batch > WASTED * scale:
        yield Sign(
            "The batch is larger than its gradient's noise asks for",
            sure(batch / scale, WASTED, 100, 0.3, 0.45),
            f"The noise scale is {number(scale)} examples in the second half of the run, the batch {number(batch)}.",
            (series(run, name),),
            "A batch of twice the noise scale takes up to half again as many steps, each cheaper.",
            f"batch_size = {max(1, round(2 * scale))}",
            0,
        )
    elif batch < scale / NOISY:
        yield Sign(
            "The batch is small against its gradient's noise",
            sure(scale / batch, NOISY, 1000, 0.3, 0.45),
            f"The noise scale is {number(scale)} examples in the second half of the run, the batch {number(batch)}.",
            (series(run, name),),
            "Larger batches, or gradients added up over several, take proportionally fewer steps.",
            f"batch_size = {round(scale / 10)}",
            0,
        )


def time_share(run: Run) -> Iterator[Sign]:
    inside, whole = run.scalars.get("optimizer_seconds"), run.scalars.get("step_seconds")
    if inside is None or whole is None:
        return
    with np.errstate(all="ignore"):
        share, seconds = middle(inside / whole), middle(whole)
    if share > SHARE:
        yield Sign(
            "The optimizer takes a large part of the time",
            sure(share, SHARE, 0.9, 0.2, 0.45),
            f"{share:.0%} of the median step's {number(1e3 * seconds)} ms.",
            (series(run, "optimizer_seconds"), series(run, "step_seconds")),
            "Record less often (every=100), or measure fewer values; print(optimizer.plan) shows what a step reads and writes.",
            "steepest.Monitor(optimizer, every=100)",
            0,
        )


RULES = (
    Rule(
        "batch_size_against_noise",
        f"The batch is over {WASTED:g} times the gradient noise scale, or below a {NOISY:g}th of it.",
        "McCandlish et al. 2018, arXiv:1812.06162: steps are 1 + noise scale / batch times the fewest; own factors",
        (("noise_scale", "batch_size"),),
        batch_size,
    ),
    Rule(
        "optimizer_takes_time",
        f"Over {SHARE:.0%} of the median step is spent in the optimizer.",
        "the library's own",
        (("optimizer_seconds", "step_seconds"),),
        time_share,
    ),
)  # fmt: skip
