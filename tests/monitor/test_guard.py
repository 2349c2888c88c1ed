"""`Guard`: batches left out and trainings put back, bit for bit what somebody with foresight would have done."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import steepest as s
import steepest.numpy as opt
import steepest.torch as torch_opt
from tests.monitor.guarded import BATCHES, TRAININGS, OnArrays, OnTorch, assert_same, guarded, without

KINDS = pytest.mark.parametrize("kind", TRAININGS)


def left_out(guard: s.Guard) -> set[int]:
    """The batches that a guard's events say were left out."""
    found: set[int] = set()
    for event in guard.events:
        found |= set(range(event.call - int(event.values.get("batches", 1)) + 1, event.call + 1))
    return found


# ---- batches left out


@KINDS
def test_single_bad_batches_are_left_out_as_if_one_had_known(kind: str) -> None:
    one = TRAININGS[kind]()
    guard = s.Guard(one.optimizer, one.model, also=one.also)
    scales = {5: math.nan, 6: math.inf, 30: 100.0, 31: math.nan}
    guarded(one, guard, scales)
    assert [(e.call, e.kind) for e in guard.events] == [
        (5, "nonfinite"), (6, "nonfinite"), (30, "spike"), (31, "nonfinite"),
    ]  # fmt: skip
    assert one.optimizer.steps == BATCHES - 4
    assert_same(one.everything(), without(kind, {5, 6, 30, 31}, scales))


@KINDS
def test_a_healthy_training_is_not_touched(kind: str) -> None:
    one = TRAININGS[kind]()
    guard = s.Guard(one.optimizer, one.model, rewind=7, also=one.also)
    guarded(one, guard, {})
    assert not guard.events
    assert_same(one.everything(), without(kind, ()))


# ---- rewinds


@KINDS
@pytest.mark.parametrize("on_disk", [False, True])
def test_after_a_rewind_training_goes_on_as_if_all_batches_since_the_snapshot_had_been_left_out(
    kind: str, on_disk: bool, tmp_path: Path
) -> None:
    one = TRAININGS[kind]()
    folder = tmp_path / "snapshots" if on_disk else None
    guard = s.Guard(one.optimizer, one.model, rewind=7, skip=3, also=one.also, folder=folder)
    scales = {9: math.nan, **dict.fromkeys(range(33, 37), 100.0), **dict.fromkeys(range(50, 54), math.nan)}
    guarded(one, guard, scales)
    assert guard.rewinds == 2
    # Snapshots were taken after 0, 7, 15 (9 was left out), 22 and 29 batches; then after 36 + 7, for the second row.
    rewound = [(e.call, e.values["batches"]) for e in guard.events if e.kind == "rewound"]
    assert rewound == [(36, 7.0), (53, 10.0)]
    assert left_out(guard) == {9, *range(30, 37), *range(44, 54)}
    assert_same(one.everything(), without(kind, left_out(guard), scales))


@KINDS
def test_weights_that_went_bad_are_put_back_further_where_the_newest_snapshot_holds_them_already(kind: str) -> None:
    one = TRAININGS[kind]()
    guard = s.Guard(one.optimizer, one.model, rewind=10, skip=1, also=one.also, spike=1.5)
    guarded(one, guard, {}, 40)
    # The newest snapshot (30 batches) is spoilt as if it had been taken a moment too late.
    snapshots = guard._snapshots
    spoilt = [name for name in snapshots._held[30].arrays if name.startswith("params.")][-1]
    snapshots._held[30].arrays[spoilt][...] = 100.0
    guarded(one, guard, {41: math.nan, 42: math.nan})
    rewound = [(e.call, e.values["batches"]) for e in guard.events if e.kind == "rewound"]
    assert rewound[0] == (42, 12.0) and rewound[1] == (44, 24.0) and len(rewound) == 2
    assert_same(one.everything(), without(kind, range(21, 45), {41: math.nan, 42: math.nan}))


def test_a_rewind_does_not_put_data_back() -> None:
    one = OnArrays()
    order = np.random.default_rng(9)
    guard = s.Guard(one.optimizer, rewind=5, skip=0, also=one.also, data=order)
    seen = []
    for number in range(1, 16):
        seen.append(order.random())
        if guard(one.forward(number, math.nan if number == 8 else 1.0)):
            one.learn()
    assert guard.rewinds == 1
    assert seen == list(np.random.default_rng(9).random(15))


def test_weights_that_the_optimizer_does_not_step_go_back_too() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    average = torch.optim.swa_utils.AveragedModel(model)
    optimizer = torch_opt.SGD(model[1].parameters(), lr=0.1)
    guard = s.Guard(optimizer, model, rewind=1, skip=0, also=average)
    frozen = model[0].weight.detach().clone()
    assert guard(1.0)
    with torch.no_grad():
        model[0].weight.add_(1.0)
    average.update_parameters(model)
    assert not guard(math.nan)
    assert torch.equal(model[0].weight, frozen) and average.n_averaged == 0


# ---- what the optimizer leaves out


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_steps_that_the_chain_leaves_out_are_counted_and_bounded(kind: str) -> None:
    one = TRAININGS[kind]()
    guard = s.Guard(one.optimizer, one.model, most_skipped=3, also=one.also)
    nan = np.full(6, np.nan) if kind == "numpy" else None

    def step_on_nan() -> None:
        if kind == "numpy":
            one.optimizer.step({"w": nan, "b": np.zeros(1)})
        else:
            for p in one.model.parameters():
                p.grad = torch.full_like(p, math.nan)
            one.optimizer.step()

    guarded(one, guard, {}, 10)
    before = one.everything()
    for number in range(11, 15):
        assert guard(one.forward(number))
        step_on_nan()
    message = (
        "Guard: the optimizer left out 4 steps in a row (most_skipped=3), and there are no snapshots to go back to (rewind=None). "
        "Lower the learning rate, clip the gradients, or look at these batches. What happened last:"
        + "".join(f"\n  batch {n}, after step 10: skipped: the optimizer left this step out" for n in range(11, 15))
    )
    with pytest.raises(FloatingPointError, match=f"^{re.escape(message)}$"):
        guard(one.forward(15))
    after = one.everything()
    for name in ("w", "w.average") if kind == "numpy" else ("0.weight", "0.weight.exp_avg"):
        np.testing.assert_array_equal(after[name], before[name])


def test_a_step_that_happens_ends_the_row() -> None:
    one = OnArrays()
    guard = s.Guard(one.optimizer, most_skipped=1, also=one.also)
    for number in range(1, 30):
        assert guard(one.forward(number))
        one.optimizer.step({"w": np.full(6, np.nan), "b": np.zeros(1)}) if number % 2 else one.learn()
    assert one.optimizer.steps == 14 and {e.kind for e in guard.events} == {"skipped"}


def test_training_is_rewound_where_the_optimizer_leaves_out_too_much() -> None:
    one = OnArrays()
    guard = s.Guard(one.optimizer, rewind=4, most_skipped=2, also=one.also)
    bad = range(11, 14)
    for number in range(1, BATCHES + 1):
        if guard(one.forward(number)):
            one.optimizer.step({"w": np.full(6, np.nan), "b": np.zeros(1)}) if number in bad else one.learn()
    assert [(e.kind, e.call) for e in guard.events] == [*(("skipped", n) for n in bad), ("rewound", 14)]
    assert_same(one.everything(), without("numpy", range(9, 15)))


# ---- bounds


def test_without_snapshots_it_raises_after_so_many_bad_batches_in_a_row() -> None:
    one = OnTorch()
    guard = s.Guard(one.optimizer, one.model, skip=2)
    guarded(one, guard, {}, 30)
    before = one.everything()
    message = (
        "Guard: 3 bad batches in a row (skip=2), and there are no snapshots to go back to (rewind=None). Lower the learning "
        "rate, clip the gradients, or look at these batches. What happened last:\n"
        "  batch 31, after step 30: nonfinite: loss nan; batch left out\n"
    )
    with pytest.raises(
        RuntimeError, match=f"^{re.escape(message)}  batch 32, after step 30: spike: loss .* left out\n.*33"
    ):
        guarded(one, guard, {31: math.nan, 32: 100.0, 33: 100.0})
    after = one.everything()
    del before["random"], after["random"]
    assert_same(after, before)


def test_rewinds_are_bounded_in_all_and_by_the_snapshots_that_there_are() -> None:
    one = OnArrays()
    guard = s.Guard(one.optimizer, rewind=3, skip=0, most_rewinds=2, also=one.also)
    with pytest.raises(FloatingPointError, match=r"training has been rewound 2 times \(most_rewinds=2\)"):
        guarded(one, guard, dict.fromkeys((10, 20, 30), math.nan))
    assert guard.calls == 30
    one = OnArrays()
    guard = s.Guard(one.optimizer, rewind=3, skip=0, also=one.also)
    with pytest.raises(FloatingPointError, match="there is no snapshot left to go back to"):
        guarded(one, guard, dict.fromkeys((10, 11, 12), math.nan))
    assert guard.calls == 12 and guard.rewinds == 2
    guard = s.Guard(OnArrays().optimizer, rewind=3, skip=0)
    with pytest.raises(FloatingPointError, match="there is no snapshot left to go back to"):
        guard(math.nan)


def test_a_snapshot_that_cannot_be_written_does_not_end_training(tmp_path: Path) -> None:
    one = OnArrays()
    place = tmp_path / "file"
    place.write_text("in the way")
    guard = s.Guard(one.optimizer, rewind=20, folder=place, also=one.also)
    with pytest.warns(RuntimeWarning, match="^Guard: no snapshot could be written .*The next attempt is in 20 steps"):
        guarded(one, guard, {}, 25)
    assert one.optimizer.steps == 25


# ---- a new level


def unharmed(guard: s.Guard, losses: Any) -> list[int]:
    """The batches that are left out of a training whose losses do not hang on its weights."""
    found = []
    for number, loss in enumerate(losses):
        if guard(float(loss)):
            guard.optimizer.step([np.ones(2)])
        else:
            found.append(number)
    return found


@pytest.mark.parametrize("skip", [1, 2, 5])
def test_a_lasting_change_of_level_is_learnt_and_not_fought(skip: int, rng: np.random.Generator) -> None:
    losses = np.r_[0.2 + rng.normal(0, 0.01, 300), 1.5 + rng.normal(0, 0.05, 300)]
    losses[500] = 9.0
    guard = s.Guard(opt.SGD([np.ones(2)], lr=0.1), rewind=10, skip=skip)
    with pytest.warns(RuntimeWarning, match=r"^Guard: the loss has a new level, 1\.\d+ instead of 0\.2") as said:
        gone = unharmed(guard, losses)
    assert len(said) == 1 and gone == [*range(300, gone[-2] + 1), 500] and len(gone) <= 12
    assert guard.rewinds == (2 if skip == 1 else 1)
    assert [e.kind for e in guard.events][-2:] == ["note", "spike"]


def test_levels_may_change_more_often_than_training_may_be_rewound(rng: np.random.Generator) -> None:
    losses = np.concatenate([3.0**level * (1 + rng.normal(0, 0.02, 60)) for level in range(8)])
    guard = s.Guard(opt.SGD([np.ones(2)], lr=0.1), rewind=10, most_rewinds=2)
    with pytest.warns(RuntimeWarning, match="new level") as said:
        unharmed(guard, losses)
    assert len(said) == 7 == guard.rewinds


def test_losses_that_differ_after_a_rewind_are_no_new_level() -> None:
    losses = [*np.linspace(1.0, 0.9, 50), *[9.0] * 6, *[5.0] * 6, *[7.0] * 6]
    guard = s.Guard(opt.SGD([np.ones(2)], lr=0.1), rewind=10)
    with pytest.raises(RuntimeError, match="there is no snapshot left to go back to"):
        unharmed(guard, losses)


def test_batches_that_are_left_out_again_and_again_are_told_of_once(rng: np.random.Generator) -> None:
    losses = 0.2 + rng.normal(0, 0.01, 600)
    losses[300::5] = 1.5
    guard = s.Guard(opt.SGD([np.ones(2)], lr=0.1), rewind=10)
    message = (
        "Guard: 10 of the last 100 batches were left out as spikes. If their losses are legitimate (one task of several, a rare "
        "class), the model doesn't learn from them: pass a larger spike=…, or spike=None."
    )
    with pytest.warns(RuntimeWarning, match=f"^{re.escape(message)}$") as said:
        assert unharmed(guard, losses) == [*range(300, 600, 5)]
    assert len(said) == 1


# ---- groups that are added, scalers


def test_parameters_that_join_later_bring_a_new_snapshot() -> None:
    a, b = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    optimizer = torch_opt.SGD([a], lr=0.1, momentum=0.9)
    guard = s.Guard(optimizer, rewind=100, skip=0)

    def train(loss: float) -> bool:
        good = guard(loss)
        if good:
            a.grad, b.grad = torch.ones(1), torch.ones(1)
            optimizer.step()
        return good

    assert all(train(1.0) for _ in range(3))
    optimizer.add_param_group({"params": [b]})
    assert train(1.0)
    held = a.item(), b.item()
    assert all(train(1.0) for _ in range(3))
    assert not train(math.nan)
    assert (a.item(), b.item()) == held and optimizer.steps == 4 and guard.rewinds == 1


def test_snapshots_from_before_parameters_joined_are_passed_over() -> None:
    a, b = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    optimizer = torch_opt.SGD([a], lr=0.1)
    guard = s.Guard(optimizer, rewind=100, skip=0)
    assert guard(1.0)
    optimizer.add_param_group({"params": [b]})
    message = "Guard: the snapshot of batch 0 was skipped: ValueError: Guard: "
    with (
        pytest.warns(RuntimeWarning, match=f"^{message}"),
        pytest.raises(FloatingPointError, match="there is no snapshot left to go back to"),
    ):
        guard(math.nan)


@pytest.mark.parametrize("before", [True, False])
def test_a_gradient_scaler_unscales_after_the_guard_or_is_updated_where_it_says_no(before: bool) -> None:
    model = torch.nn.Linear(1, 1)
    optimizer = torch_opt.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    guard = s.Guard(optimizer, model, also=scaler, rewind=10)
    for number in range(6):
        loss = model(torch.ones(1)).square().sum()
        optimizer.zero_grad()
        if before and not guard(loss * (math.nan if number == 3 else 1.0)):
            continue
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        if not before and not guard(loss * (math.nan if number == 3 else 1.0)):
            scaler.update()
            continue
        scaler.step(optimizer)
        scaler.update()
    assert optimizer.steps == 5


# ---- what is said


class Told:
    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, float]]] = []

    def event(self, kind: str, message: str, tensors: tuple[str, ...] = (), values: Any = None) -> None:
        self.events.append((kind, message, values))


def test_a_monitor_is_told_of_what_it_cannot_see() -> None:
    one, told = OnArrays(), Told()
    guard = s.Guard(one.optimizer, rewind=5, skip=1, also=one.also, monitor=told)
    guarded(one, guard, {8: math.nan, 9: math.nan}, 12)
    assert told.events[0][:2] == ("nonfinite", "loss nan; batch left out")
    assert told.events[2][:2] == ("rewound", "back to step 5, 4 batches left out: 2 bad batches in a row (skip=1)")
    assert told.events[2][2] == {"batches": 4.0}
    assert [e.kind for e in guard.events] == [kind for kind, _, _ in told.events]


def test_a_real_monitor_shows_its_events(tmp_path: Path) -> None:
    one = OnTorch()
    seen: list[Any] = []

    class Output:
        start = record = staticmethod(lambda what: None)
        event = staticmethod(seen.append)
        close = staticmethod(lambda: None)

    with s.Monitor(one.optimizer, one.model, folder=None, to=Output()) as monitor:
        guard = s.Guard(one.optimizer, one.model, rewind=5, skip=0, also=one.also, monitor=monitor)
        for number in range(1, 20):
            loss = one.forward(number, math.nan if number == 12 else 1.0)
            one.optimizer.zero_grad()
            if guard(loss):
                one.learn()
                monitor(loss)
    assert [(e.kind, e.message) for e in seen] == [
        ("nonfinite", "loss nan; batch left out"),
        ("rewound", "back to step 10, 2 batches left out: 1 bad batches in a row (skip=0)"),
    ]


# ---- arguments

SGD = opt.SGD([np.ones(2)], lr=0.1)
MISTAKES = [
    ({"spike": 0}, ValueError, "Guard: spike must be > 0, got 0."),
    ({"spike": "high"}, TypeError, "Guard: spike must be a finite number > 0 or a schedule, got 'high'."),
    ({"rewind": 0}, ValueError, "Guard: rewind must be a whole number >= 1, got 0."),
    ({"rewind": 1.5}, ValueError, "Guard: rewind must be a whole number >= 1, got 1.5."),
    ({"skip": -1}, ValueError, "Guard: skip must be a whole number >= 0, got -1."),
    ({"most_skipped": None}, TypeError, "Guard: most_skipped must be a whole number >= 0, got None."),
    ({"most_rewinds": True}, TypeError, "Guard: most_rewinds must be a whole number >= 0, got True."),
    (
        {"folder": "x"}, ValueError,
        "Guard: rewind must be given with folder, got None. Without it there are no snapshots. Pass rewind=100.",
    ),
    (
        {"data": [1, 2]}, TypeError,
        "Guard: data[0] must have state_dict() and load_state_dict(), or be a generator of NumPy or torch, got int. "
        "To resume a loader without them, skip guard.calls batches.",
    ),
    (
        {"optimizer": torch.optim.SGD([torch.nn.Parameter(torch.ones(1))])}, TypeError,
        "Guard: optimizer must be one of steepest.torch or steepest.numpy, got torch.optim.sgd.SGD.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "kind", "message"), MISTAKES, ids=lambda v: next(iter(v)) if isinstance(v, dict) else ""
)
def test_mistakes_are_said_in_one_line(given: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        s.Guard(**{"optimizer": SGD, **given})


class WithFunction(torch.optim.swa_utils.SWALR):
    """As some versions of torch have it: with the function that it anneals by among its state."""

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "anneal_func": self._cosine_anneal}


@pytest.mark.parametrize("argument", ["also", "data"])
def test_a_state_that_could_not_be_read_again_is_refused_by_its_place_when_the_guard_is_made(argument: str) -> None:
    optimizer = torch_opt.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    scheduler = WithFunction(optimizer, swa_lr=0.05)
    message = (
        f"Guard: {argument}[1].anneal_func must be a number, string, array or tensor, or a list, tuple, set or dict of them, got "
        "builtins.function. To leave it out, override state_dict() in a subclass."
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        s.Guard(optimizer, rewind=1, **{argument: (np.random.default_rng(0), scheduler)})
    assert s.Guard(optimizer, also=scheduler)(1.0)  # without snapshots nobody asks for its state


def test_torchs_scheduler_of_averaged_weights_goes_back_with_them() -> None:
    class Plain(WithFunction):
        def state_dict(self) -> dict[str, Any]:
            return {name: value for name, value in super().state_dict().items() if name != "anneal_func"}

    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch_opt.SGD([weight], lr=0.1)
    scheduler = Plain(optimizer, swa_lr=0.05, anneal_epochs=10)
    guard = s.Guard(optimizer, rewind=3, skip=0, also=scheduler)
    rates = []
    for loss in (1.0, 1.0, 1.0, 1.0, 1.0, math.nan, 1.0):
        if guard(loss):
            weight.grad = torch.ones(1)
            optimizer.step()
            scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[5] == rates[2] and rates[6] == rates[3] and scheduler.last_epoch == 4


def test_a_state_that_changes_its_kind_is_refused_at_the_snapshot() -> None:
    class Odd:
        held: Any = 1

        def state_dict(self) -> dict[str, Any]:
            return {"deep": [self.held]}

        def load_state_dict(self, state: Any) -> None: ...

    odd = Odd()
    guard = s.Guard(SGD, rewind=1, also=odd)
    odd.held = object()
    with pytest.raises(TypeError, match=r"^Guard: also\.0\.deep\.0 must be .* of them, got builtins\.object\."):
        guard(1.0)
