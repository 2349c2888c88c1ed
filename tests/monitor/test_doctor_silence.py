"""What the doctor does not cry about: runs that look like a sickness and are none, and cures that fit the optimizer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from steepest.monitor.doctor import ALARM, Finding, diagnose
from steepest.monitor.records import Run
from tests.monitor.test_doctor import RECORDS, at, healthy, losses, put, scalars, settings_of, values


def alarms(run: Run) -> list[str]:
    return [one.cause for one in diagnose(run) if one.confidence >= ALARM and not one.explained_by]


def found(run: Run, cause: str) -> list[Finding]:
    return [one for one in diagnose(run) if one.cause == cause]


# ---- schedules


@pytest.mark.parametrize(
    "rate",
    [np.linspace(1e-6, 1e-4, RECORDS), np.geomspace(1e-7, 1.0, RECORDS)],
    ids=["a short try inside a warm-up", "a range test"],
)
def test_a_rate_that_rises_until_the_run_ends_is_no_long_warm_up(rate: np.ndarray) -> None:
    assert diagnose(scalars(healthy(), lr=rate)) == ()


def test_a_cycle_whose_peak_comes_late_is_a_remark() -> None:
    late = 1e-3 * np.concatenate([np.linspace(0.1, 1, 36), [0.8, 0.6, 0.4, 0.2]])
    (one,) = found(scalars(healthy(), lr=late), "schedule_does_not_fit")
    assert one.title == "The warm-up is long" and one.confidence < ALARM


def test_a_schedule_with_two_faults_has_two_findings() -> None:
    rate = 1e-3 * np.concatenate([np.linspace(0.05, 1, 12), np.ones(8), np.zeros(20)])
    titles = [one.title for one in found(scalars(healthy(), lr=rate), "schedule_does_not_fit")]
    assert titles == ["The schedule ended before the run did", "The warm-up is long"]


# ---- clips


def behind(run: Run, chain: str, factor: float) -> Run:
    """The run with a chain whose clip leaves ``factor`` of the gradient's length."""
    grads = run.tensors["grad_norm"]
    measured = {"clipped": np.ones_like(grads), "clipped_norm": factor * grads}
    return replace(run, facts=replace(run.facts, chains=(chain,) * 2), tensors=run.tensors | measured)


@pytest.mark.parametrize(
    "chain",
    [
        "scale_by_adam > clip_by_norm > descend",
        "accumulate_momentum > clip_by_value > descend",
        "add_decayed_weights > clip_by_norm",
    ],
)
def test_a_clip_behind_another_rule_is_not_measured_against_the_gradient(chain: str) -> None:
    assert found(behind(healthy(), chain, 1e-3), "clipping_too_tight") == []


def test_of_two_groups_only_that_which_clips_first_is_judged() -> None:
    run = behind(healthy(), "scale_by_adam > clip_by_norm > descend", 1e-3)
    run = replace(run, facts=replace(run.facts, chains=("clip_by_norm > clip_by_value > descend", run.facts.chains[0])))
    (one,) = found(run, "clipping_too_tight")
    assert set(one.tensors) == {t.name for t in run.facts.tensors if t.group == 0}


def test_the_cure_of_a_tight_clip_is_set_where_the_optimizer_has_it() -> None:
    run = behind(healthy(), "clip_by_global_norm > scale_by_adam > descend", 1e-3)
    groups = tuple(group | {"max_norm": 1e-3} for group in run.facts.groups)
    (one,) = found(replace(run, facts=replace(run.facts, groups=groups)), "clipping_too_tight")
    assert one.code == "for group in optimizer.param_groups: group['max_norm'] = 1.4"


# ---- decay


def shrunk(share: float, **groups: object) -> Run:
    """Weights that fell to a fifth, and a decay ``share`` times as long as the step, or, coupled, as the gradient."""
    run = values(healthy(), weight_norm=at(slice(1, None), 0.2), update_norm=put(slice(None), 2e-3 / share))
    run = values(run, grad_norm=put(slice(None), 2.0 / share))
    return settings_of(run, weight_decay=1.0, **groups)


def coupled(run: Run) -> Run:
    return replace(
        run, facts=replace(run.facts, optimizer="SGD", chains=("add_decayed_weights > descend",) * 2, states={})
    )


@pytest.mark.parametrize("share", [5.0, 1e4])
def test_decay_that_balances_the_gradient_of_what_is_learned_is_fine(share: float) -> None:
    assert found(shrunk(share), "decay_dominates") == []


def test_decay_at_rest_is_no_alarm_though_noise_leaves_half_of_the_loss() -> None:
    assert (
        found(coupled(losses(shrunk(1.0), lambda x: 2 + 0.1 * x)), "decay_dominates") == []
    )  # as long as the gradient
    assert found(losses(shrunk(1e4), lambda x: 2 + 0.1 * x), "decay_dominates") == []  # where nothing moves any more


def test_decay_that_keeps_the_loss_up_is_lowered_in_the_optimizer_that_has_it() -> None:
    (one,) = found(coupled(losses(shrunk(5.0), lambda x: 2 + 0.1 * x)), "decay_dominates")
    assert one.confidence >= ALARM
    assert one.code == "for group in optimizer.param_groups: group['weight_decay'] /= 100"
