"""The doctor: each rule fires on data that show its cause, none on a healthy run, and symptoms stand behind their cause."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import steepest
import steepest.numpy as opt
from steepest.monitor.doctor import ALARM, FOLLOWS, RULES, Finding, diagnose, unjudged
from steepest.monitor.doctor.finding import sure
from steepest.monitor.doctor.look import at_records
from steepest.monitor.recorder import Recorder
from steepest.monitor.recorder.reader import read
from steepest.monitor.recorder.run_file import facts_of
from steepest.monitor.records import MEASUREMENTS, Event, Facts, Record, Run, TensorFacts, rows_of
from steepest.monitor.telemetry import STANDARD
from steepest.workbench.cli import main
from tests.needed import require_module

RECORDS, EVERY, DEPTH = 40, 10, 4
SHAPE = (32, 32)
CALLS = RECORDS * EVERY


def healthy(depth: int = DEPTH, dtype: str = "float32") -> Run:
    """An Adam run that goes well: matrices move by 2e-3 of their length, the loss falls from 2.3 with noise."""
    rng = np.random.default_rng(0)
    tensors: list[TensorFacts] = []
    for layer in range(depth):
        tensors += [
            TensorFacts(f"{layer}.weight", SHAPE, dtype, int(layer == 1)),
            TensorFacts(f"{layer}.bias", SHAPE[:1], dtype, int(layer == 1)),
        ]
    group = {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01}
    facts = Facts(
        0.0, "torch", "AdamW", ("scale_by_adam > add_decayed_weights > descend",) * 2, (group, dict(group)), tuple(tensors),
        {"exp_avg": "float32", "exp_avg_sq": "float32"}, EVERY, notes={"batch_size": 32},
    )  # fmt: skip
    usual = {
        "grad_norm": 0.5, "weight_norm": 10.0, "update_norm": 0.02, "spike": 0.9, "denominator": 0.015, "zero_grads": 0.2,
        "unmoved": 0.0, "nonfinite_grads": 0.0, "cosine": 0.3,
    }  # fmt: skip
    loss = 2.3 * np.exp(-np.arange(CALLS) / 100) + 0.1 + 0.02 * rng.standard_normal(CALLS)
    records = []
    for number in range(RECORDS):
        step = EVERY * (number + 1)
        values = {n: (v * rng.uniform(0.8, 1.2, 2 * depth)).astype(np.float32) for n, v in usual.items()}
        values["weight_norm"][:] = usual["weight_norm"]
        scalars = {"lr": 1e-3, "lr[1]": 1e-3, "grad_norm": 1.4, "step_seconds": 1e-2, "optimizer_seconds": 1e-3}
        records.append(Record(step, step, step * 0.01, loss[step - EVERY : step], scalars, values))
    return Run.of(facts, records, (), True)


def values(run: Run, **changed: Callable[[np.ndarray], np.ndarray]) -> Run:
    """The run with some measurements changed; the derived ratio follows."""
    tensors = {name: one.copy() for name, one in run.tensors.items()}
    for name, change in changed.items():
        tensors[name] = change(tensors[name]).astype(np.float32)
    with np.errstate(all="ignore"):
        tensors["update_ratio"] = tensors["update_norm"] / tensors["weight_norm"]
    return replace(run, tensors=tensors)


def at(where: Any, factor: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(old: np.ndarray) -> np.ndarray:
        new = old.copy()
        new[where] *= factor
        return new

    return change


def put(where: Any, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(old: np.ndarray) -> np.ndarray:
        new = old.copy()
        new[where] = value
        return new

    return change


def settings_of(run: Run, states: dict[str, str] | None = None, **changed: Any) -> Run:
    groups = tuple({**group, **changed} for group in run.facts.groups)
    return replace(run, facts=replace(run.facts, groups=groups, states=states or run.facts.states))


def losses(run: Run, change: Callable[[np.ndarray], np.ndarray]) -> Run:
    return replace(run, losses=change(run.losses.copy()))


def scalars(run: Run, **given: Any) -> Run:
    return replace(
        run, scalars=run.scalars | {n: np.broadcast_to(np.asarray(v, float), RECORDS) for n, v in given.items()}
    )


def happened(run: Run, *events: Event) -> Run:
    return replace(run, events=events)


def clipped(run: Run, factor: float) -> Run:
    facts = replace(run.facts, chains=("clip_by_global_norm > scale_by_adam > descend",) * 2)
    grads = run.tensors["grad_norm"]
    return replace(
        run, facts=facts, tensors=run.tensors | {"clipped": np.ones_like(grads), "clipped_norm": factor * grads}
    )


def by_depth(run: Run, factor: float) -> Run:
    """Gradients that change by a factor from matrix to matrix; SGD's steps follow."""
    scale = np.repeat(factor ** np.arange(DEPTH)[::-1], 2)
    return values(run, grad_norm=lambda g: g * scale, update_norm=lambda u: u * scale)


def in_bfloat16(run: Run) -> Run:
    return replace(
        run, facts=replace(run.facts, tensors=tuple(replace(t, dtype="bfloat16") for t in run.facts.tensors))
    )


def ramp(length: int) -> np.ndarray:
    return 1e-3 * np.minimum(1, np.arange(1, RECORDS + 1) / length)


LAYER = (slice(None), [2, 3])
"""The columns of layer 1, whose parameters are a group of their own."""
ALL_ZERO = "not finite at step 57: all 8 gradients, while all parameters were finite: the loss of this batch"


def left_out(call: int) -> Event:
    """What a guard says of the batch after this call."""
    return Event(call, call, "nonfinite", "loss nan; batch left out", (), {"loss": math.nan})


SICK: dict[str, tuple[str, Callable[[Run], Run], str]] = {
    "a rate too high in one layer": (
        "learning_rate_too_high",
        lambda r: losses(values(r, update_norm=at(LAYER, 40), weight_norm=at((slice(5, None), [2, 3]), 5)), at(slice(3, 9), 2.5)),
        "1.weight",
    ),
    "a rate too high beside the others'": (
        "learning_rate_too_high",
        lambda r: scalars(values(r, update_norm=at(LAYER, 40)), **{"lr[1]": 0.04}),
        "1.weight",
    ),
    "a loss that rises and stays": ("loss_rises", lambda r: losses(r, put(slice(250, None), 1.5)), ""),
    "a rate too low": (
        "learning_rate_too_low",
        lambda r: losses(
            values(r, update_norm=lambda u: u / 1000), lambda x: np.linspace(2.4, 2.3, len(x)) + 0.01 * np.sin(x * 1e3)
        ),
        "",
    ),
    "a missing warm-up": ("warmup_missing", lambda r: values(r, spike=at(slice(0, 6), 0.1)), ""),
    "a schedule that ends early": (
        "schedule_does_not_fit",
        lambda r: scalars(r, lr=np.where(np.arange(RECORDS) < 25, 1e-3, 0.0)),
        "",
    ),
    "exploding gradients": ("exploding_gradients", lambda r: values(r, grad_norm=at((20, [0]), 1e6)), "0.weight"),
    "gradients that grow towards the input": ("exploding_gradients", lambda r: by_depth(r, 8.0), "0.weight"),
    "vanishing gradients": ("vanishing_gradients", lambda r: by_depth(r, 1e-3), ""),
    "a dead layer": (
        "dead_units",
        lambda r: values(r, grad_norm=put(LAYER, 0.0), update_norm=put(LAYER, 0.0)),
        "1.weight",
    ),
    "mostly dead units": ("dead_units", lambda r: values(r, zero_grads=put((slice(None), [3]), 0.95)), "1.bias"),
    "dead units that a probe counts": ("dead_units", lambda r: scalars(r, **{"activations_dead/relu": 0.97}), ""),
    "saturated units": ("saturated_units", lambda r: scalars(r, **{"activations_saturated/tanh": 0.97}), ""),
    "a layer whose rate is 0": (
        "layer_does_not_move",
        lambda r: scalars(values(r, update_norm=put(LAYER, 0.0)), **{"lr[1]": 0.0}),
        "1.weight",
    ),
    "a layer without gradients": (
        "layer_does_not_move",
        lambda r: values(r, **{n: put(LAYER, math.nan) for n in ("grad_norm", "update_norm", "weight_norm", "unmoved")}),
        "1.weight",
    ),
    "clipping of every step": ("clipping_too_tight", lambda r: clipped(r, 1e-3), ""),
    "decay that outweighs learning": (
        "decay_dominates",
        lambda r: losses(
            settings_of(values(r, weight_norm=at(slice(1, None), 0.2)), weight_decay=100.0), lambda x: 2 + 0.1 * x
        ),
        "",
    ),
    "steps too short for bfloat16": (
        "updates_round_to_nothing",
        lambda r: in_bfloat16(values(r, update_norm=lambda u: u / 10)),
        "0.weight",
    ),
    "steps that bfloat16 was seen to round away": (
        "updates_round_to_nothing",
        lambda r: in_bfloat16(values(r, unmoved=lambda u: u + 0.97, zero_grads=lambda z: 0 * z)),
        "0.weight",
    ),
    "an eps above the gradients": ("eps_dominates", lambda r: settings_of(r, eps=0.1), ""),
    "a parameter that became nan": (
        "nonfinite",
        lambda r: happened(r, Event(57, 57, "nonfinite", "not finite since step 57: …", ("2.weight",), {"parameters": 1.0})),
        "2.weight",
    ),
    "a batch whose loss is nan": (
        "nonfinite",
        lambda r: happened(r, Event(57, 57, "nonfinite", ALL_ZERO, r.names, {"parameters": 0.0, "gradients": 8.0, "batches": 1.0})),
        "",
    ),
    "gradients that are infinite, without an event": (
        "nonfinite",
        lambda r: values(r, grad_norm=put((20, [4]), np.inf)),
        "2.weight",
    ),
    "losses that are nan up to the end": (
        "nonfinite",
        lambda r: losses(replace(r, scalars={"lr": r.scalars["lr"]}), put(slice(370, None), math.nan)),
        "",
    ),
    "an infinite loss and nothing else": ("nonfinite", lambda r: losses(r, put(slice(100, 103), np.inf)), ""),
    "nan losses that a guard left out again and again": (
        "nonfinite",
        lambda r: happened(r, *(left_out(call) for call in range(100, 140))),
        "",
    ),
    "steps that a guard left out": (
        "steps_left_out",
        lambda r: happened(r, *(Event(s, s, "skipped", "a guard left this step out") for s in range(10, 110))),
        "",
    ),
    "one batch with wrong labels": ("bad_batch", lambda r: losses(r, put(150, 4.0)), ""),
    "spikes that the second moment announced": (
        "loss_spikes",
        lambda r: losses(values(r, spike=put((29, [4]), 5.0)), put(slice(301, 306), 2.5)),
        "2.weight",
    ),
}  # fmt: skip
REMARKS: dict[str, tuple[str, Callable[[Run], Run]]] = {
    "a nan loss and nothing else": ("nonfinite", lambda r: losses(r, put(slice(100, 103), np.nan))),
    "a nan loss that a guard left out": ("nonfinite", lambda r: losses(happened(r, left_out(57)), put(57, math.nan))),
    "a layer left behind": ("layer_left_behind", lambda r: values(r, update_norm=at((slice(None), [2]), 7e-4))),
    "a long warm-up": ("schedule_does_not_fit", lambda r: scalars(r, lr=ramp(15))),
    "half of the steps clipped a little": ("clipping_too_tight", lambda r: clipped(r, 0.7)),
    "a loss that does not fall": ("loss_does_not_fall", lambda r: losses(r, lambda x: 2.3 + 0.01 * np.sin(np.arange(len(x))))),
    "batches above the noise scale": ("batch_size_against_noise", lambda r: scalars(r, noise_scale=2.0)),
    "batches far below the noise scale": ("batch_size_against_noise", lambda r: scalars(r, noise_scale=2e4)),
    "time in the optimizer": ("optimizer_takes_time", lambda r: scalars(r, optimizer_seconds=6e-3)),
    "exploding gradients that are clipped": (
        "exploding_gradients",
        lambda r: values(clipped(values(r, grad_norm=at((20, [0]), 1e6)), 1.0), clipped=lambda c: 0 * c),
    ),
}  # fmt: skip


def test_nothing_is_found_in_a_healthy_run() -> None:
    assert diagnose(healthy()) == ()


@pytest.mark.parametrize("what", SICK)
def test_the_cause_is_found_first_and_nothing_else_is_an_alarm_beside_it(what: str) -> None:
    cause, change, place = SICK[what]
    found = diagnose(change(healthy()))
    standing = [one.cause for one in found if one.confidence >= ALARM and not one.explained_by]
    assert standing == [cause]
    assert not place or place in found[0].tensors


@pytest.mark.parametrize("what", REMARKS)
def test_a_remark_is_below_the_alarm(what: str) -> None:
    cause, change = REMARKS[what]
    found = diagnose(change(healthy()))
    assert [one.cause for one in found] == [cause]
    assert found[0].confidence < ALARM


STANDARD_ONLY = "with the standard measurements"


@pytest.mark.parametrize("measured", ["with all measurements", STANDARD_ONLY])
@pytest.mark.parametrize("what", [*SICK, *REMARKS])
def test_a_finding_has_numbers_a_picture_a_source_and_a_line_of_code(what: str, measured: str) -> None:
    change = SICK[what][1] if what in SICK else REMARKS[what][1]
    run = change(healthy())
    if measured == STANDARD_ONLY:
        run = replace(run, tensors={n: v for n, v in run.tensors.items() if n in STANDARD})
    for one in diagnose(run):
        assert any(character.isdigit() for character in one.evidence)
        assert 0 < one.confidence < 1 and one.rule and one.source and one.advice and one.code
        assert one.series and {*one.tensors} <= {*run.names}
        assert all(0 <= s.first <= s.last for s in one.series)
        assert all(s.name == "loss" or s.name in (run.tensors if s.tensors else run.scalars) for s in one.series)
        assert one.cause == "nonfinite" or "nan" not in one.evidence


@pytest.mark.parametrize("made", ["by its name", "of a chain", "of NumPy's chain"])
@pytest.mark.parametrize("what", [*SICK, *REMARKS])
def test_the_line_of_code_can_be_pasted(what: str, made: str) -> None:
    change = SICK[what][1] if what in SICK else REMARKS[what][1]
    run = healthy()
    if made != "by its name":
        numpys = "NumPy" in made
        groups = tuple(group | ({"chain": "adamw"} if numpys else {}) for group in run.facts.groups)
        facts = replace(run.facts, optimizer="Optimizer", framework="numpy" if numpys else "torch", groups=groups)
        run = replace(run, facts=facts)
    for one in diagnose(change(run)):
        assert one.code.startswith("$ ") or compile(one.code, "a cure", "exec")


@pytest.mark.parametrize(("size", "eps", "cure"), [(1.0, 0.1, "1e-08"), (1e-8, 1e-8, "1e-12")])
def test_an_eps_is_lowered_below_what_the_gradients_are(size: float, eps: float, cure: str) -> None:
    sick = settings_of(values(healthy(), denominator=lambda d: size * d, grad_norm=lambda g: size * g), eps=eps)
    finding = next(one for one in diagnose(sick) if one.cause == "eps_dominates")
    assert finding.code == f"for group in optimizer.param_groups: group['eps'] = {cure}"
    assert finding.advice.startswith(f"Lower eps to {cure}, ")


def test_a_group_whose_rate_is_0_gets_the_others() -> None:
    sick = SICK["a layer whose rate is 0"][1](healthy())
    assert diagnose(sick)[0].code == "optimizer.param_groups[1]['lr'] = 0.001"


def test_a_layer_that_stands_still_at_the_others_rate_is_looked_for_in_the_plan() -> None:
    finding, *_ = diagnose(values(healthy(), update_norm=put(LAYER, 0.0)))
    assert (finding.cause, finding.code) == ("layer_does_not_move", "print(optimizer.plan)")


def test_every_rule_is_shown_to_fire() -> None:
    assert {rule.cause for rule in RULES} == {row[0] for row in [*SICK.values(), *REMARKS.values()]}


def test_what_follows_is_made_of_causes_that_rules_have() -> None:
    causes = {rule.cause for rule in RULES}
    assert {*FOLLOWS} <= causes
    assert {effect for effects in FOLLOWS.values() for effect in effects} <= causes


def causes(found: tuple[Finding, ...]) -> list[tuple[str, str]]:
    return [(one.cause, one.explained_by) for one in found if one.confidence >= ALARM]


def test_a_rate_too_high_explains_dead_units_and_nan_that_come_later() -> None:
    sick = SICK["a rate too high in one layer"][1](healthy())
    dying = put((slice(6, None), [0, 1, 2, 3]), 0.0)
    sick = values(sick, grad_norm=dying, update_norm=dying)
    nan = Event(300, 300, "nonfinite", "not finite since step 300: …", ("2.weight",), {"parameters": 1.0})
    assert causes(diagnose(happened(sick, nan))) == [
        ("learning_rate_too_high", ""),
        ("nonfinite", "learning_rate_too_high"),
        ("dead_units", "learning_rate_too_high"),
    ]


def test_nan_does_not_explain_what_was_there_before() -> None:
    sick = values(healthy(), grad_norm=put(LAYER, 0.0), update_norm=put(LAYER, 0.0))
    nan = Event(300, 300, "nonfinite", "not finite since step 300: …", ("2.weight",), {"parameters": 1.0})
    assert causes(diagnose(happened(sick, nan))) == [("nonfinite", ""), ("dead_units", "")]


def test_a_batch_beyond_the_noise_is_cut_to_twice_its_scale_for_half_again_as_many_steps_at_most() -> None:
    """Steps are 1 + noise / batch times the fewest (McCandlish et al. 2018, equation 2.11)."""
    (remark,) = diagnose(REMARKS["batches above the noise scale"][1](healthy()))
    assert remark.code == "batch_size = 4" and "up to half again as many steps" in remark.advice


def test_batches_are_not_looked_at_where_their_size_is_not_known() -> None:
    run = REMARKS["batches above the noise scale"][1](healthy())
    run = replace(run, facts=replace(run.facts, notes={}))
    assert dict(unjudged(run))["batch_size_against_noise"] == ("noise_scale", "batch_size")


def test_a_share_that_a_probe_gives_layer_by_layer_is_looked_at() -> None:
    assert "saturated_units" not in dict(unjudged(SICK["saturated units"][1](healthy())))


def test_parts_that_take_turns_are_not_dead() -> None:
    turns = np.arange(RECORDS) % 8 > 0
    (remark,) = diagnose(values(healthy(), grad_norm=put((np.ix_(turns, [2, 3])), 0.0)))
    assert (remark.cause, remark.title) == ("dead_units", "1.weight, 1.bias: used in 12% of the records")
    assert remark.confidence < ALARM


def test_biases_that_stay_0_are_dead_too() -> None:
    silence = put(LAYER, 0.0)
    finding, *_ = diagnose(
        values(healthy(), grad_norm=silence, update_norm=silence, weight_norm=put((slice(None), [3]), 0.0))
    )
    assert (finding.cause, finding.tensors) == ("dead_units", ("1.weight", "1.bias")) and finding.confidence > ALARM


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_part_whose_turn_never_falls_on_a_record_is_not_dead(momentum: float) -> None:
    w, kept = {"own": np.full((3, 3), 2.0), "shared": np.full((3, 3), 3.0)}, Kept()
    optimizer = opt.SGD(w, lr=1e-3, momentum=momentum)
    with steepest.Monitor(optimizer, every=10, folder=None, to=kept) as monitor:
        for batch in range(1, 401):
            turn = float(batch % 2 == 1)
            optimizer.step({"own": turn * w["own"], "shared": w["shared"].copy()})
            monitor(float(w["shared"].sum()))
    assert not kept.run.tensors["grad_norm"][:, 0].any()
    found = [one for one in diagnose(kept.run) if one.cause == "dead_units"]
    assert [(one.tensors, one.confidence) for one in found] == [(("own",), 0.3)]


def test_dead_units_are_dead_from_the_last_record_on_in_which_they_were_not() -> None:
    silence = put(np.ix_(np.arange(RECORDS) != 5, [2, 3]), 0.0)
    finding, *_ = diagnose(values(healthy(), grad_norm=silence, update_norm=silence))
    assert finding.cause == "dead_units" and finding.confidence > ALARM
    assert finding.evidence.startswith("From step 70 on ") and finding.onset == 70


def test_dead_units_are_counted_where_only_zeros_are_measured() -> None:
    sick = SICK["mostly dead units"][1](healthy())
    assert [one.cause for one in diagnose(replace(sick, tensors={"zero_grads": sick.tensors["zero_grads"]}))] == [
        "dead_units"
    ]


WITHOUT = ("grad_norm", "update_norm", "weight_norm", "unmoved")


def test_what_the_user_froze_is_a_remark_and_what_gets_no_gradient_beside_it_an_alarm() -> None:
    run = healthy()
    tensors = tuple(replace(one, frozen=one.group == 1) for one in run.facts.tensors)
    run = replace(values(run, **{n: put(LAYER, math.nan) for n in WITHOUT}), facts=replace(run.facts, tensors=tensors))
    (remark,) = diagnose(run)
    assert (remark.title, remark.tensors) == ("1.weight, 1.bias are frozen", ("1.weight", "1.bias"))
    assert remark.confidence < ALARM
    alarm, *_ = diagnose(values(run, **{n: put((slice(None), [6]), math.nan) for n in WITHOUT}))
    assert (alarm.cause, alarm.tensors) == ("layer_does_not_move", ("3.weight",)) and alarm.confidence > ALARM


def test_a_frozen_parameter_is_known_from_the_run_and_its_file(tmp_path: Path) -> None:
    torch = require_module("torch")
    from steepest.torch import AdamW

    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    model[0].requires_grad_(False)
    optimizer = AdamW(model.parameters())
    with steepest.Monitor(optimizer, model, every=1, folder=tmp_path) as monitor:
        for _ in range(20):
            optimizer.zero_grad()
            loss = model(torch.ones(1, 2)).square().sum()
            loss.backward()
            optimizer.step()
            monitor(loss)
    run = read(tmp_path)
    assert [one.frozen for one in run.facts.tensors] == [True, True, False, False]
    assert [one.confidence for one in diagnose(run) if one.cause == "layer_does_not_move"] == [0.2]


def test_facts_of_a_file_that_does_not_say_what_was_frozen_are_read() -> None:
    known = asdict(healthy().facts)
    for one in known["tensors"]:
        del one["frozen"]
    assert facts_of(json.dumps(known)) == healthy().facts


def test_a_parameter_without_gradients_in_a_few_records_is_a_remark() -> None:
    few = rows_of(SICK["a layer without gradients"][1](healthy()), slice(0, 5))
    (remark,) = [one for one in diagnose(few) if one.cause == "layer_does_not_move"]
    assert remark.confidence < ALARM


def test_a_network_that_interpolates_its_data_has_no_exploding_gradients() -> None:
    """A squared loss falls with the square of its gradient: their ratio grows without bound."""
    fallen = np.geomspace(1.0, 1e-14, CALLS)
    run = losses(
        values(healthy(), grad_norm=lambda g: g * np.sqrt(fallen[EVERY - 1 :: EVERY])[:, None]), lambda x: fallen
    )
    assert "exploding_gradients" not in [one.cause for one in diagnose(run)]


def test_gradients_that_explode_are_clipped_at_what_nine_of_ten_stay_below() -> None:
    norms = np.linspace(1.0, 2.0, RECORDS)
    sick = scalars(SICK["exploding gradients"][1](healthy()), grad_norm=norms)
    assert diagnose(sick)[0].code == (
        "steepest.torch.Optimizer(model.named_parameters(), steepest.chain(steepest.clip_by_global_norm(1.9), "
        "steepest.adamw(lr=0.001)))  # the first group's; the others' likewise"
    )


class Kept:
    """An output that keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.events: list[Event] = []

    def start(self, facts: Facts) -> None:
        self.facts = facts

    def record(self, record: Record) -> None:
        self.records.append(record)

    def event(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.run = Run.of(self.facts, self.records, self.events, True)


def test_steps_behind_the_last_record_are_no_nan() -> None:
    w, kept = {"a": np.ones(3), "b": np.ones(2)}, Kept()
    optimizer = opt.SGD(w, lr=0.01)
    with steepest.Monitor(optimizer, every=10, folder=None, to=kept) as monitor:
        for _ in range(103):
            optimizer.step({name: one.copy() for name, one in w.items()})
            monitor(float(sum(one @ one for one in w.values())))
    assert kept.run.steps[-1] == 103 and np.isnan(kept.run.tensors["grad_norm"][-1]).all()
    assert "nonfinite" not in [one.cause for one in diagnose(kept.run)]


@pytest.mark.parametrize("which", ["grad_norm", "weight_norm"])
def test_a_parameter_without_a_gradient_in_some_records_is_no_nan(which: str) -> None:
    where = (slice(1, None, 3), [2, 3])
    sick = values(healthy(), **{n: put(where, math.nan) for n in ("grad_norm", "weight_norm", "update_norm")})
    assert diagnose(sick) == ()
    norms = np.where(np.arange(RECORDS) < 30, 1.4, math.nan)
    broken = values(scalars(sick, grad_norm=norms), **{which: put((slice(30, None), [1, 2, 3, 4]), math.nan)})
    found = diagnose(broken)[0]
    assert (found.cause, found.tensors, found.onset) == ("nonfinite", ("0.bias", "2.weight"), 310)


def test_a_batch_that_a_guard_left_out_is_named_and_no_gradient_is_blamed() -> None:
    w, kept = np.ones(2), Kept()
    optimizer = opt.SGD({"w": w}, lr=0.1)
    with steepest.Monitor(optimizer, every=5, folder=None, to=kept) as monitor:
        guard = steepest.Guard(optimizer, monitor=monitor)
        for batch in range(1, 101):
            loss = math.nan if batch == 51 else float(w @ w)
            if guard(loss):
                optimizer.step({"w": 2 * w})
            monitor(loss)
    found = [one for one in diagnose(kept.run) if one.cause == "nonfinite"]
    assert [(one.title, one.confidence) for one in found] == [
        ("The loss of batch 51 was nan and left out by the guard", 0.3)
    ]
    assert "1 of 100 batches" in found[0].evidence and "gradient" not in f"{found[0].title}{found[0].advice}"


def test_a_batch_is_known_by_a_number_of_its_event_not_by_its_words() -> None:
    _, change, _ = SICK["a batch whose loss is nan"]
    sick = change(healthy())
    reworded = happened(sick, replace(sick.events[0], message="…"))
    assert diagnose(reworded)[0].title == "Batch 57 made the loss nan or infinite at step 57"
    unknown = happened(sick, replace(sick.events[0], values={"parameters": 0.0, "gradients": 8.0}))
    assert diagnose(unknown)[0].title == "Gradients of all parameters became nan or infinite at step 57"


def test_a_batch_that_makes_every_gradient_nan_is_named_from_a_real_run() -> None:
    w, kept = {"a": np.ones(2), "b": np.ones(3)}, Kept()
    optimizer = opt.SGD(w, lr=0.01)
    with steepest.Monitor(optimizer, every=10, folder=None, to=kept) as monitor:
        for batch in range(1, 51):
            loss = math.nan if batch == 33 else 1.0
            optimizer.step({name: loss * one for name, one in w.items()})
            monitor(loss)
    assert diagnose(kept.run)[0].title == "Batch 33 made the loss nan or infinite at step 33"


def test_one_loss_that_is_nan_or_huge_changes_the_mean_of_its_own_record_alone() -> None:
    run = healthy()
    first, usual = int(run.calls[0]), at_records(run)
    for loss in (math.nan, 1e30):
        losses = run.losses.copy()
        losses[first] = loss
        np.testing.assert_array_equal(np.delete(at_records(replace(run, losses=losses)), 1), np.delete(usual, 1))
    few = replace(run, losses=run.losses[first:], loss_calls=run.loss_calls[first:])
    np.testing.assert_array_equal(at_records(few), [math.nan, *usual[1:]])


@pytest.mark.parametrize("given", [lambda batch: batch % 2, lambda batch: batch < 50], ids=["every second", "at first"])
def test_a_loss_that_was_not_given_is_no_nan(given: Callable[[int], bool]) -> None:
    w, kept = np.ones(2), Kept()
    optimizer = opt.SGD({"w": w}, lr=0.01)
    with steepest.Monitor(optimizer, every=10, folder=None, to=kept) as monitor:
        for batch in range(1, 105):
            optimizer.step({"w": 2 * w})
            monitor(float(w @ w) if given(batch) else None)
    assert [one.title for one in diagnose(kept.run) if one.confidence >= ALARM] == []


def test_a_training_that_stops_at_its_first_nan_loss_is_sick() -> None:
    sick = healthy()
    longer = replace(sick, losses=np.append(sick.losses, math.nan), loss_calls=np.append(sick.loss_calls, CALLS + 1))
    found = diagnose(longer)[0]
    assert (found.title, found.confidence) == (f"The loss of batch {CALLS + 1} is not finite", 0.95)


def test_what_is_not_measured_is_not_judged_and_said_so() -> None:
    run = healthy()
    kept = {n: v for n, v in run.tensors.items() if n not in ("spike", "denominator")}
    missing = dict(unjudged(replace(run, tensors=kept)))
    assert missing["warmup_missing"] == ("spike",)
    assert "clipping_too_tight" not in missing  # there is nothing to clip with
    assert "learning_rate_too_high" not in missing


def test_of_two_rules_for_one_cause_and_place_the_more_certain_speaks() -> None:
    sick = scalars(SICK["a rate too high in one layer"][1](healthy()), **{"lr[1]": 0.04})
    assert [one.cause for one in diagnose(sick)] == ["learning_rate_too_high"]


def test_confidence_grows_with_the_logarithm_and_stays_in_its_bounds() -> None:
    assert [sure(v, 10, 1000, 0.5, 0.9) for v in (1, 10, 100, 1000, 1e9, math.inf)] == [0.5, 0.5, 0.7, 0.9, 0.9, 0.9]
    assert [sure(v, 1e-3, 1e-5, 0.5, 0.9) for v in (1.0, 1e-3, 1e-4, 1e-5, 0.0)] == [0.5, 0.5, 0.7, 0.9, 0.9]


NUMBERS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(max_examples=60)
@given(data=st.data())
def test_no_run_is_too_odd(data: st.DataObject) -> None:
    """Any measurements, none, nan and infinities, no record, one tensor, no setting: findings or none, never an error."""
    records = data.draw(st.integers(0, 6))
    shapes = data.draw(st.lists(st.sampled_from([(), (3,), (3, 4), (1, 1), (0,)]), max_size=4))
    names = data.draw(st.sets(st.sampled_from(sorted(MEASUREMENTS))))
    group = data.draw(st.dictionaries(st.sampled_from(["lr", "betas", "eps", "weight_decay"]), NUMBERS))
    facts = Facts(
        0.0, "numpy", "Optimizer", ("clip_by_norm > scale_by_adam > add_decayed_weights",), (group,),
        tuple(TensorFacts(str(i), s, data.draw(st.sampled_from(["float32", "bfloat16"]))) for i, s in enumerate(shapes)),
        data.draw(st.sampled_from([{}, {"exp_avg_sq": "float16"}, {"square_avg": "float32"}])), 1,
        notes={"batch_size": data.draw(st.sampled_from([0, 32, "many"]))},
    )  # fmt: skip
    made = []
    for step in range(1, records + 1):
        measured = {
            n: np.array(data.draw(st.lists(NUMBERS, min_size=len(shapes), max_size=len(shapes))), "f") for n in names
        }
        said = {
            n: data.draw(NUMBERS)
            for n in ("lr", "noise_scale", "optimizer_seconds", "step_seconds", "activations_dead/a")
        }
        made.append(Record(step, step, 0.1 * step, np.array([data.draw(NUMBERS)]), said, measured))
    kinds = st.sampled_from(["nonfinite", "skipped", "note"])
    events = [Event(1, 1, data.draw(kinds), "…") for _ in range(data.draw(st.integers(0, 4)))]
    with np.errstate(all="ignore"):
        run = Run.of(facts, made, events, data.draw(st.booleans()))
    for one in diagnose(run):
        assert 0 <= one.confidence <= 1


# ---- the command


def recorded(folder: Path, run: Run) -> None:
    """The run as the flight recorder would have written it."""
    recorder = Recorder(folder)
    recorder.start(run.facts)
    for event in run.events:
        recorder.event(event)
    for row, step in enumerate(map(int, run.steps)):
        measured = {n: v[row] for n, v in run.tensors.items() if n != "update_ratio"}
        said = {n: float(v[row]) for n, v in run.scalars.items()}
        recorder.record(Record(step, step, 0.01 * step, run.losses[step - EVERY : step], said, measured))
    recorder.close()


@pytest.fixture
def sick(tmp_path: Path) -> Path:
    recorded(tmp_path / "sick", SICK["a rate too high in one layer"][1](healthy()))
    return tmp_path / "sick"


def test_the_command_says_what_is_wrong_why_and_what_to_do(sick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(sick)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    text = " ".join(said.out.split())
    assert text.startswith(
        f"{sick}: AdamW, 8 parameters, 40 records of steps 10 to 400 1. The learning rate of 1.weight is too high."
    )
    for part in (
        "The loss rose from",
        "optimizer.param_groups[1]['lr'] /= ",
        "Source: Karpathy",
        "Not looked for: saturated_units",
    ):
        assert part in text
    assert all(len(line) <= 100 for line in said.out.splitlines())


def test_nothing_found_says_what_was_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(tmp_path, healthy())
    assert main(["doctor", str(tmp_path), "--fail-on", "0.1"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Nothing found that looks wrong. Looked for" in text and "causes in grad_norm, weight_norm" in text


def test_nothing_recorded_is_too_early_to_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorder = Recorder(tmp_path)
    recorder.start(healthy().facts)
    assert main(["doctor", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.endswith("Too early to say: nothing has been recorded yet.\n") and "Nothing found" not in said
    assert main(["doctor", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["looked_for"] == []
    recorder.close()


def test_json_is_strict_and_fail_on_decides_the_exit_status(sick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(sick), "--json", "--fail-on", "0.99"]) == 0
    assert main(["doctor", str(sick), "--json", "--fail-on", "0.5"]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    said = json.loads(first, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert said["findings"][0]["cause"] == "learning_rate_too_high"
    assert said["findings"][0]["series"][0] == {
        "name": "update_ratio",
        "tensors": ["1.weight"],
        "first": 10,
        "last": 400,
    }
    assert {"cause": "saturated_units", "needs": ["activations_saturated"]} in said["not_looked_for"]


@pytest.mark.parametrize("arguments", [["nowhere"], ["--fail-on", "2"], []])
def test_a_mistake_is_one_line_and_exit_status_2(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and said.err.startswith("steepest doctor: ")


def test_the_newest_run_is_taken_where_no_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    recorded(tmp_path / "runs" / "a", healthy())
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.startswith("runs/a: AdamW")
