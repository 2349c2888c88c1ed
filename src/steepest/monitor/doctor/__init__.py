"""The doctor: what is wrong with a run, why, and the line to change.

Each rule is a row of `RULES`: a function of a `Run` that yields signs, with its thresholds and their source in words. Symptoms
do not count as causes: `FOLLOWS` says what follows from what, and a finding that began no earlier than its cause says so and
stands behind it. A rule sees nothing but the run's columns, so the doctor works while training goes on, and on any
machine. How often it is right is measured on trainings made sick on purpose: ``benchmarks/doctor.py``, docs/doctor.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from steepest.monitor.doctor import costs, gradients, limits, losses, precision, rates
from steepest.monitor.doctor.finding import ALARM, Finding, Rule, Series, Sign
from steepest.monitor.records import Run

__all__ = ["ALARM", "FOLLOWS", "RULES", "Finding", "Rule", "Series", "diagnose", "unjudged"]

RULES: tuple[Rule, ...] = (
    *precision.RULES,
    *gradients.RULES,
    *limits.RULES,
    *rates.RULES,
    *losses.RULES,
    *costs.RULES,
)
"""Every rule; of findings that are equally certain, that of the earlier rule comes first."""

_STALLED = ("loss_does_not_fall", "learning_rate_too_low", "layer_left_behind")
_UNSTABLE = ("loss_spikes", "bad_batch", "nonfinite", "steps_left_out", "loss_rises")
FOLLOWS = {
    "nonfinite": ("steps_left_out", "loss_spikes", "loss_rises", "loss_does_not_fall", "dead_units", "layer_does_not_move"),
    "updates_round_to_nothing": _STALLED,
    "eps_dominates": _STALLED,
    "exploding_gradients": (
        "learning_rate_too_high", "eps_dominates", "dead_units", "saturated_units", "vanishing_gradients", "layer_does_not_move",
        "warmup_missing", "clipping_too_tight", *_UNSTABLE, *_STALLED,
    ),
    "learning_rate_too_high": (
        "eps_dominates", "dead_units", "saturated_units", "vanishing_gradients", "layer_does_not_move", "warmup_missing",
        "clipping_too_tight", *_UNSTABLE, *_STALLED,
    ),
    "dead_units": ("eps_dominates", "vanishing_gradients", "layer_does_not_move", "warmup_missing", *_STALLED),
    "saturated_units": ("eps_dominates", "vanishing_gradients", *_STALLED),
    "vanishing_gradients": ("eps_dominates", "layer_does_not_move", "dead_units", "warmup_missing", *_STALLED),
    "clipping_too_tight": _STALLED,
    "decay_dominates": ("loss_rises", "dead_units", "vanishing_gradients", "learning_rate_too_high", *_STALLED),
    "warmup_missing": ("learning_rate_too_high", "vanishing_gradients", *_UNSTABLE, *_STALLED),
    "layer_does_not_move": _STALLED,
    "loss_rises": ("nonfinite", "loss_spikes"),
    "learning_rate_too_low": ("loss_does_not_fall",),
    "schedule_does_not_fit": ("layer_does_not_move",),
}  # fmt: skip
"""What may follow from a cause."""


def diagnose(run: Run) -> tuple[Finding, ...]:
    """What is wrong with a run, the most certain and most causal first; nothing where nothing was found.

    Findings that follow from another (`Finding.explained_by`) come last. Nothing is read but the run, and of it also the records
    that rewinds have undone (`Run.whole`): they show what led there.

    >>> import numpy as np, steepest
    >>> from steepest.monitor.records import Event, Facts, Run, TensorFacts
    >>> tensors = (TensorFacts("weight", (2, 2), "float32"),)
    >>> facts = Facts(0.0, "torch", "SGD", ("descend",), ({"lr": 0.1},), tensors, {}, every=10)
    >>> nan = Event(7, 7, "nonfinite", "not finite at step 7: gradient weight", ("weight",), {"gradients": 1.0})
    >>> [one.title for one in diagnose(Run.of(facts, [], [nan]))]
    ['Gradients of weight became nan or infinite at step 7']
    """
    run = run.whole
    with np.errstate(all="ignore"):
        found = [_finding(run, rule, sign) for rule in RULES for sign in rule.examine(run)]
    found = _once(sorted(found, key=lambda one: -one.confidence))
    standing: list[Finding] = []
    followed: list[Finding] = []
    for one in found:
        cause = next((c for c in found if _explains(c, one)), None)
        (standing if cause is None else followed).append(
            one if cause is None else replace(one, explained_by=cause.cause)
        )
    return (*standing, *followed)


def _finding(run: Run, rule: Rule, sign: Sign) -> Finding:
    """What a rule has seen, with those of its series that the run has."""
    drawn = tuple(one for one in sign.series if _is_recorded(run, one))
    tensors = tuple(dict.fromkeys(name for one in sign.series for name in one.tensors))
    return Finding(
        rule.cause, sign.title, sign.confidence, sign.evidence, drawn, rule.says, rule.source, sign.advice, sign.code,
        sign.onset, tensors,
    )  # fmt: skip


def _is_recorded(run: Run, one: Series) -> bool:
    if one.name == "loss":
        return len(run.losses) > 0
    return len(run) > 0 and one.name in (run.tensors if one.tensors else run.scalars)


def _once(found: Sequence[Finding]) -> list[Finding]:
    """Without findings whose cause and place a more certain one has named."""
    kept: list[Finding] = []
    for one in found:
        if not any(k.cause == one.cause and _at_one_place(k, one) for k in kept):
            kept.append(one)
    return kept


def _at_one_place(one: Finding, other: Finding) -> bool:
    """Whether two findings share a parameter; where neither names any, whether they say or advise the same."""
    if not one.tensors and not other.tensors:
        return one.title == other.title or one.code == other.code
    return not one.tensors or not other.tensors or bool({*one.tensors} & {*other.tensors})


def _explains(cause: Finding, effect: Finding) -> bool:
    """Whether a finding is certain enough, early enough and of the kind to lead to another.

    Where each could follow from the other, the earlier one leads, then the more certain one.
    """
    if cause is effect or cause.confidence < ALARM or effect.cause not in FOLLOWS.get(cause.cause, ()):
        return False
    if cause.cause not in FOLLOWS.get(effect.cause, ()) or effect.confidence < ALARM:
        return cause.onset <= effect.onset
    return (cause.onset, -cause.confidence) < (effect.onset, -effect.confidence)


def unjudged(run: Run) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The causes that could not be looked for, each with the measurements that its rule would need."""
    return tuple((rule.cause, rule.needs[0]) for rule in RULES if rule.concerns(run) and not rule.can_judge(run))
