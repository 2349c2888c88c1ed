"""What the doctor does not cry about: runs that look like a sickness and are none, and cures that fit the optimizer."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from steepest.monitor.doctor import ALARM, RULES, Finding, diagnose, unjudged
from steepest.monitor.records import Run
from tests.monitor.test_doctor import (
    CALLS,
    RECORDS,
    REMARKS,
    SICK,
    at,
    healthy,
    losses,
    put,
    scalars,
    settings_of,
    values,
)  # fmt: skip


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


# ---- rates


def short_steps(run: Run, loss: np.ndarray) -> Run:
    """A run whose steps are a thousandth as long as usual."""
    return losses(values(run, update_norm=lambda u: u / 1000), lambda x: loss)


NOISE = 0.02 * np.random.default_rng(1).standard_normal(CALLS)


@pytest.mark.parametrize(
    "loss",
    [np.zeros(CALLS), 0.4 + NOISE, np.linspace(-1.0, -1.2, CALLS) + NOISE, np.full(CALLS, np.nan)],
    ids=["a hinge loss of 0", "a loss that noise hides", "a loss below 0", "no loss"],
)
def test_short_steps_are_no_fault_where_no_loss_shows_one(loss: np.ndarray) -> None:
    assert found(short_steps(healthy(), loss), "learning_rate_too_low") == []


def test_a_rate_too_low_is_not_looked_for_where_losses_are_below_zero() -> None:
    (rule,) = (one for one in RULES if one.cause == "learning_rate_too_low")
    below = losses(healthy(), lambda x: x - 4)
    assert rule.can_judge(healthy()) and not rule.can_judge(below)
    assert "learning_rate_too_low" not in dict(unjudged(below))  # no measurement would help


def test_short_steps_of_a_run_that_has_converged_are_a_remark() -> None:
    loss = 1.5 + np.exp(-np.arange(CALLS) / 60) + NOISE
    (one,) = found(short_steps(healthy(), loss), "learning_rate_too_low")
    assert one.confidence < ALARM


def test_a_rate_too_low_is_raised_thirtyfold_at_most_and_in_each_group_by_as_much() -> None:
    run = scalars(short_steps(healthy(), np.linspace(2.4, 2.2, CALLS) + NOISE), **{"lr[1]": 1e-4})
    (one,) = found(run, "learning_rate_too_low")
    assert one.confidence >= ALARM
    assert one.code == "for group in optimizer.param_groups: group['lr'] *= 30"


def long_steps(run: Run) -> Run:
    return values(run, update_norm=lambda u: u * 40)


def test_a_rate_too_high_everywhere_is_lowered_in_every_group() -> None:
    (one,) = found(losses(long_steps(healthy()), at(slice(3, 9), 2.5)), "learning_rate_too_high")
    assert one.title == "The learning rate is too high"
    assert one.code.startswith("for group in optimizer.param_groups: group['lr'] /= ")


def test_noise_is_no_rate_too_high() -> None:
    """A batch of 1: losses scatter as much later on, and the first one may be low by chance."""
    noises = np.random.default_rng(0).lognormal(0, 1, (50, CALLS))
    runs = [losses(long_steps(healthy()), lambda x, noise=noise: noise) for noise in noises]
    assert sum(bool(found(run, "learning_rate_too_high")) for run in runs) <= 1


def test_a_few_high_losses_at_the_start_of_a_quiet_run_are_a_rate_too_high() -> None:
    blown = losses(long_steps(healthy()), put(slice(2, 4), 6.0))
    assert alarms(blown) == ["learning_rate_too_high"]


def test_a_loss_that_is_wild_ever_after_is_a_rate_too_high() -> None:
    wild = np.random.default_rng(0).lognormal(4, 1, CALLS)
    assert alarms(losses(long_steps(healthy()), lambda x: np.where(np.arange(CALLS) < 5, 2.3, wild))) == [
        "learning_rate_too_high"
    ]


@pytest.mark.parametrize(("place", "is_sign"), [(9, True), (2, False)], ids=["its last", "one before"])
def test_one_high_loss_is_a_rate_too_high_where_nothing_finite_follows_it(place: int, is_sign: bool) -> None:
    loss = np.full(CALLS, np.nan)
    loss[:10] = put(place, 1e4)(np.full(10, 2.3))
    assert bool(found(losses(long_steps(healthy()), lambda x: loss), "learning_rate_too_high")) == is_sign


def test_steps_of_weights_that_start_from_zero_are_long_without_fault() -> None:
    """LoRA's second factor, at a rate of its own or not, in a run whose loss rises at first."""
    grown = 0.05 * np.arange(1, RECORDS + 1)[:, None] * np.ones(2)

    def from_zero(old: np.ndarray) -> np.ndarray:
        new = old.copy()
        new[:, [2, 3]] = grown
        return new

    run = losses(
        values(healthy(), weight_norm=from_zero, update_norm=put((slice(None), [2, 3]), 0.05)), at(slice(3, 9), 2.5)
    )
    assert found(run, "learning_rate_too_high") == []
    assert found(scalars(run, **{"lr[1]": 0.02}), "learning_rate_too_high") == []


def test_a_loss_below_zero_can_rise_at_first_too() -> None:
    run = losses(long_steps(healthy()), lambda x: x - 4)
    assert found(run, "learning_rate_too_high") == []
    assert alarms(losses(run, put(slice(3, 9), 6.0))) == ["learning_rate_too_high"]


def test_growth_from_nothing_is_not_told_in_numbers() -> None:
    run = losses(long_steps(healthy()), at(slice(3, 9), 2.5))
    run = values(run, weight_norm=put((0, 0), 0.0))
    assert not any("e+308" in one.evidence or "inf" in one.evidence for one in diagnose(run))


# ---- losses

TIME = np.arange(CALLS) / CALLS
NOISY: dict[str, tuple[float, Callable[[np.random.Generator], np.ndarray]]] = {
    "a batch of 1": (0, lambda r: r.lognormal(0, 1, CALLS) * (1 - 0.2 * TIME)),
    "heavy tails": (0.02, lambda r: 2 - 0.5 * TIME + 0.2 * r.standard_t(3, CALLS)),
    "temporal differences": (0, lambda r: r.lognormal(0, 0.7, CALLS) * (0.2 + np.sin(np.pi * TIME))),
    "an adversary's": (0, lambda r: 0.7 + 1.3 * (1 - np.exp(-TIME * 7)) + 0.1 * r.standard_normal(CALLS)),
    "new data halfway": (
        0,
        lambda r: np.where(TIME < 0.5, 2.3 * np.exp(-TIME * 10) + 0.5, 1.2 - 0.3 * TIME) + 0.05 * r.standard_normal(CALLS),
    ),
    "little left to learn": (0, lambda r: 2 - 0.1 * TIME + 0.3 * r.standard_normal(CALLS)),
}  # fmt: skip


@pytest.mark.parametrize("what", NOISY)
def test_noise_is_no_spike_and_no_loss_of_what_was_learned(what: str) -> None:
    """A loss eight times as far out as any other is so rare that one run in a hundred may have it."""
    allowed, draw = NOISY[what]
    told = [alarms(losses(healthy(), lambda x, seed=seed: draw(np.random.default_rng(seed)))) for seed in range(50)]
    assert sum(map(bool, told)) <= allowed * 50


def test_a_bad_batch_is_seen_in_noise_too() -> None:
    noise = 0.2 * np.random.default_rng(0).standard_normal(CALLS)
    assert alarms(losses(healthy(), lambda x: put(150, 9.0)(2 - 0.5 * TIME + noise))) == ["bad_batch"]


def test_a_loss_that_rises_and_falls_again_is_a_remark() -> None:
    loss = np.where(TIME < 0.5, 2.3 * np.exp(-TIME * 10) + 0.1, 1.5 - 0.8 * TIME) + NOISE
    (one,) = found(losses(healthy(), lambda x: loss), "loss_rises")
    assert one.confidence < ALARM


# ---- cures


def of_sgd(run: Run) -> Run:
    facts = replace(
        run.facts, optimizer="SGD", chains=("accumulate_momentum > descend",) * 2, states={"momentum_buffer": "float32"},
        groups=({"lr": 0.1, "momentum": 0.9},) * 2,
    )  # fmt: skip
    return replace(run, facts=facts)


def of_numpy(run: Run) -> Run:
    groups = tuple({"chain": "…", "lr": 0.1, "beta2": 0.999} for _ in run.facts.groups)
    return replace(run, facts=replace(run.facts, framework="numpy", optimizer="Optimizer", groups=groups))


SPIKES = "spikes that the second moment announced"


@pytest.mark.parametrize(
    ("what", "made_by", "code"),
    [
        (SPIKES, lambda r: r, "for group in optimizer.param_groups: group['betas'] = (group['betas'][0], 0.95)"),
        (SPIKES, of_numpy, "beta2 = 0.95  # where the chain is made"),
        (
            SPIKES,
            of_sgd,
            "steepest.torch.Optimizer(model.named_parameters(), steepest.chain(steepest.clip_by_global_norm(1.4), "
            "steepest.sgd(lr=0.1, momentum=0.9)))  # the first group's; the others' likewise",
        ),
        ("a loss that rises and stays", of_sgd, "for group in optimizer.param_groups: group['lr'] *= 0.3"),
        ("a loss that rises and stays", of_numpy, "lr *= 0.3  # where the chain is made"),
        (
            "a missing warm-up",
            lambda r: r,
            "for group in optimizer.param_groups: group['lr'] = steepest.schedules.warmup(40, group['lr'])",
        ),
        ("a loss that does not fall", of_sgd, "$ steepest lr-find"),
    ],
)
def test_a_cure_is_for_the_optimizer_that_ran(what: str, made_by: Callable[[Run], Run], code: str) -> None:
    change = (SICK | REMARKS)[what][1]
    first = diagnose(made_by(change(healthy())))[0]
    assert first.code == code


@pytest.mark.parametrize("what", [*SICK, *REMARKS])
def test_a_cure_is_python_or_a_command_of_the_shell(what: str) -> None:
    for one in diagnose((SICK | REMARKS)[what][1](healthy())):
        assert one.code.startswith("$ ") or ast.parse(one.code) is not None
