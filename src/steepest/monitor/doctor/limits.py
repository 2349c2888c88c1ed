"""What holds the weights back: clips that cut every step, and decay that outweighs learning."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from steepest.monitor.doctor.cures import change
from steepest.monitor.doctor.finding import Rule, Sign, sure
from steepest.monitor.doctor.look import (
    Values,
    down,
    highest,
    matrix_columns,
    middle,
    number,
    rates,
    series,
    setting,
    values_of,
)
from steepest.monitor.records import Run

__all__ = ["RULES"]

OFTEN, HARD = 0.5, 0.1
START = 20
"""Losses whose median is where training started."""
DOMINATES, SHRUNK, LEFT = 2.0, 0.7, 0.5
STANDS_STILL = 100.0


def clipping(run: Run) -> Iterator[Sign]:
    clipped, after, grads = (values_of(run, name) for name in ("clipped", "clipped_norm", "grad_norm"))
    judged = [i for i, tensor in enumerate(run.facts.tensors) if _clips_first(_chain(run, tensor.group))]
    if after is None or grads is None or not judged:
        return  # what a clip further back was given has another length than the gradient
    after, grads = after[:, judged], grads[:, judged]
    clipped = None if clipped is None else clipped[:, judged]
    with np.errstate(all="ignore"):
        kept = np.where(grads > 0, after / grads, np.nan)
    cut = highest(clipped) > 0 if clipped is not None else _lowest(kept) < 1 - 1e-3
    known = np.isfinite(highest(kept))
    share = float(cut[known].mean()) if known.any() else 0.0
    if share <= OFTEN:
        return
    left = middle(kept[known & cut])
    norms = run.scalars.get("grad_norm", highest(grads))
    norms = norms[np.isfinite(norms)]
    usual = float(np.quantile(norms, 0.9)) if len(norms) else float("nan")
    groups = {run.facts.tensors[i].group for i in judged}
    limit = setting(run, min(groups), "max_norm", "threshold", "clipping")
    by_all = all(
        "clip_by_global_norm" in _chain(run, group) and "max_norm" in run.facts.groups[group] for group in groups
    )
    said = "" if limit is None else f" The limit is {number(limit)}."
    hard = left < HARD
    yield Sign(
        "Clipping is far too tight" if hard else "Most steps are clipped",
        sure(left, HARD, HARD / 30, 0.7, 0.95) if hard else 0.35,
        f"{share:.0%} of the recorded steps were clipped, in the median to {number(left)} of their length.{said} Nine of ten "
        f"gradients are shorter than {number(usual)}.",
        (series(run, "clipped_norm", judged), series(run, "grad_norm")),
        "Set the limit near the 90th percentile of the gradients' norm; where steps are too long, lower the rate instead.",
        change(run, "max_norm", f"= {number(usual)}", groups)
        if by_all
        else f"steepest.clip_by_global_norm({number(usual)})",
        0,
    )


def _lowest(values: Values) -> Values:
    return -highest(-values)


def _clips_first(chain: str) -> bool:
    """Whether a chain begins with its clips, so that their work can be measured against the gradient."""
    clips = [i for i, link in enumerate(_links(chain)) if "clip" in link]
    return bool(clips) and clips == list(range(len(clips)))


def _loss_left(run: Run) -> float:
    """The median loss of the run's last tenth over that of its first losses; nan where losses are not above 0."""
    losses = run.losses[np.isfinite(run.losses)]
    if len(losses) < 2 * START or not (start := float(np.median(losses[:START]))) > 0:
        return float("nan")
    return float(np.median(losses[-max(START // 2, len(losses) // 10) :])) / start


def decay(run: Run) -> Iterator[Sign]:
    """At rest decay and gradient balance: coupled decay is as long as the gradient, decoupled decay any number of times as long
    as the whole step. So its length alone is no fault; that little was learned has to come with it."""
    weights, moves, grads = (values_of(run, name) for name in ("weight_norm", "update_norm", "grad_norm"))
    if weights is None or moves is None or len(run) < 4:
        return
    late = slice(len(run) // 2, None)
    chosen, shares = [], []
    for column in map(int, matrix_columns(run)):
        group = run.facts.tensors[column].group
        strength, lr = setting(run, group, "weight_decay"), rates(run, group)
        if not strength or lr is None or "ratio" in _chain(run, group):
            continue  # where each layer's step is given a length, the decay's own length says nothing
        with np.errstate(all="ignore"):
            if _is_decoupled(run, group):
                share = lr[late] * strength * weights[late, column] / moves[late, column]
            elif grads is not None and "scale_by" not in _chain(run, group):
                share = strength * weights[late, column] / grads[late, column]
            else:
                continue
        chosen.append(column)
        shares.append(middle(share))
    if not chosen:
        return
    columns, each = np.array(chosen), np.array(shares)
    fell = down(weights[late, columns]) / weights[0, columns]
    guilty = columns[(each >= DOMINATES) & (fell <= SHRUNK)]
    still_to_learn = _loss_left(run)
    if len(guilty) < len(columns) / 2 or not still_to_learn >= LEFT or not np.median(each) <= STANDS_STILL:
        return
    typical, left = float(np.median(each)), float(np.median(fell))
    groups = {run.facts.tensors[int(i)].group for i in guilty}
    yield Sign(
        "Weight decay outweighs learning",
        sure(typical, DOMINATES, 5 * DOMINATES, 0.7, 0.95),
        f"In the second half of the run the decay alone is {number(typical)} times as long as the whole step in the median matrix; "
        f"its weights are {left:.0%} as long as at the start, and {still_to_learn:.0%} of the first losses are left.",
        (series(run, "weight_norm", guilty), series(run, "update_norm", guilty), series(run, "loss")),
        "Lower the decay until it is a small part of a step (lr x weight_decay x length of the weights against the step's length).",
        change(run, "weight_decay", f"/= {number(20 * typical)}", groups),
        0,
    )


def _chain(run: Run, group: int) -> str:
    return run.facts.chains[min(group, len(run.facts.chains) - 1)] if run.facts.chains else ""


def _links(chain: str) -> list[str]:
    return re.split(r"\s*>\s*", chain)


def _is_decoupled(run: Run, group: int) -> bool:
    """Whether the decay joins the update behind the rule that scales it."""
    links = _links(_chain(run, group))
    decays = [i for i, link in enumerate(links) if link.startswith("add_decayed_weights")]
    scales = [i for i, link in enumerate(links) if link.startswith(("scale_by_", "adam"))]
    return bool(decays and scales) and max(decays) > min(scales)


RULES = (
    Rule(
        "clipping_too_tight",
        f"More than {OFTEN:.0%} of the recorded steps are clipped (a remark), and the median clipped one to less than {HARD:g} of "
        "its length (an alarm). Only where the clips stand first in the chain.",
        "Godbole et al. 2023, Deep Learning Tuning Playbook: over 50 % is extreme, take the 90th percentile; Pascanu et al. "
        "2013, arXiv:1211.5063: a limit of 0.5 to 10 times the average norm",
        (("clipped_norm", "grad_norm"),),
        clipping,
        lambda run: any(map(_clips_first, run.facts.chains)),
    ),
    Rule(
        "decay_dominates",
        f"In the second half of the run lr x weight_decay x weight norm is {DOMINATES:g} to {STANDS_STILL:g} times the whole step "
        f"in most matrices (coupled decay: weight_decay x weight norm against the gradient), they have shrunk to {SHRUNK:.0%} or "
        f"less, and {LEFT:.0%} of the first {START} losses are left.",
        "Loshchilov and Hutter 2019, arXiv:1711.05101; Kosson et al. 2023, arXiv:2305.17212, on the equilibrium; own thresholds",
        (("weight_norm", "update_norm"),),
        decay,
    ),
)  # fmt: skip
