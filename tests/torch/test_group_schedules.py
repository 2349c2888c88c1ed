"""What groups show for schedules, to whoever reads them, and what happens when somebody else writes there."""

from __future__ import annotations

import copy
import io
import json
import pickle
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.optim import lr_scheduler, swa_utils

import steepest as s
import steepest.numpy as numpy_opt
import steepest.torch as opt
from steepest import schedules

STEPS = 8
COSINE = schedules.cosine(0.1, steps=10)


class OnTorch:
    """One weight under an optimizer of the torch front end."""

    def __init__(self, name: str = "SGD", **values: Any) -> None:
        self.weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
        self.optimizer: Any = getattr(opt, name)([self.weight], **values)

    def step(self) -> float:
        """How far a step on a gradient of 1 moves the weight: the rate of SGD."""
        before = self.weight.item()
        self.weight.grad = torch.ones_like(self.weight)
        self.optimizer.step()
        return before - self.weight.item()

    @property
    def group(self) -> dict[str, Any]:
        return self.optimizer.param_groups[0]


class OnNumPy(OnTorch):
    """The same on NumPy."""

    def __init__(self, name: str = "SGD", **values: Any) -> None:
        self.array = np.ones(1)
        self.optimizer = getattr(numpy_opt, name)([self.array], **values)

    def step(self) -> float:
        before = float(self.array[0])
        self.optimizer.step([np.ones(1)])
        return before - float(self.array[0])


FRONT_ENDS = pytest.mark.parametrize("front_end", [OnTorch, OnNumPy])


@contextmanager
def one_warning(*named: str) -> Iterator[None]:
    """Exactly one warning, which names these."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    messages = [str(one.message) for one in caught]
    assert len(messages) == 1, messages
    assert caught[0].filename == __file__
    for text in named:
        assert text in messages[0]


# ---- read

READERS: dict[str, Callable[[Any], float]] = {
    "float": float,
    "format": lambda value: float(f"{value:.17g}"),
    "JSON": lambda value: json.loads(json.dumps(value)),
    "tensor": lambda value: torch.tensor(value, dtype=torch.float64).item(),
    "array": lambda value: float(np.asarray(value)),
    "log": lambda value: {"lr": value, "scaled": value * 10}["scaled"] / 10,
}
KINDS: dict[str, Callable[[], Any]] = {
    "schedule": lambda: COSINE,
    "plateau": lambda: schedules.ReduceOnPlateau(0.1, warmup=4, initial=0.02),
    "plain function": lambda: lambda t: 0.1 / (t + 1),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@FRONT_ENDS
def test_every_reader_finds_the_number_that_the_next_step_uses(
    front_end: type[OnTorch], kind: Callable[[], Any], reader: Callable[[Any], float]
) -> None:
    lr = kind()
    run = front_end(lr=lr)
    held = run.group
    for t in range(5):
        assert run.group["lr"] == held["lr"] == pytest.approx(lr(t), rel=1e-15)
        assert reader(run.group["lr"]) == pytest.approx(lr(t), rel=1e-14)
        assert run.step() == pytest.approx(lr(t), rel=1e-12)
    assert run.optimizer.schedules == [{"lr": lr}]
    json.dumps({name: value for name, value in run.group.items() if name != "params"})
    assert run.optimizer.defaults["lr"] == lr(0)


@FRONT_ENDS
def test_the_number_follows_a_plateau_and_a_user_who_changes_what_a_function_returns(front_end: type[OnTorch]) -> None:
    plateau, current = schedules.ReduceOnPlateau(0.1, patience=0), {"momentum": 0.5}
    run = front_end(lr=plateau, momentum=lambda t: current["momentum"])
    plateau.step(1.0), plateau.step(1.0)
    current["momentum"] = 0.25
    assert (run.group["lr"], run.group["momentum"]) == (0.1 * 0.1, 0.25)
    assert run.step() == pytest.approx(0.01)


@FRONT_ENDS
def test_schedules_stand_in_tuples_and_behind_every_hyperparameter(front_end: type[OnTorch]) -> None:
    beta, decay = schedules.linear(0.5, 0.9, steps=4), schedules.linear(0.5, 0.0, steps=2)
    run = front_end("AdamW", lr=COSINE, betas=(beta, 0.99), weight_decay=decay)
    for t in range(4):
        assert run.group["betas"] == (beta(t), 0.99) and run.group["weight_decay"] == decay(t)
        run.step()
    assert run.optimizer.schedules == [{"lr": COSINE, "betas": (beta, 0.99), "weight_decay": decay}]


def test_a_number_that_a_schedule_brings_to_0_keeps_the_rules_states() -> None:
    falling, by_hand = OnTorch(lr=0.1, momentum=schedules.linear(0.8, 0.0, steps=2)), OnTorch(lr=0.1, momentum=0.8)
    for momentum in (0.8, 0.4, 0.0, 0.0):
        by_hand.group["momentum"] = momentum or 1e-300
        assert falling.step() == pytest.approx(by_hand.step(), rel=1e-12)


@FRONT_ENDS
def test_a_schedule_that_is_assigned_later_takes_effect_at_once(front_end: type[OnTorch]) -> None:
    run = front_end(lr=0.5)
    run.step()
    for lr in (COSINE, lambda t: 0.25, schedules.constant(0.125)):
        run.group["lr"] = lr
        assert run.group["lr"] == lr(run.optimizer.steps) == pytest.approx(run.step())
        assert run.optimizer.schedules == [{"lr": lr}]
    run.group["lr"] = schedules.constant(-0.0) if front_end is OnNumPy else 0.0
    assert run.step() == 0.0


@FRONT_ENDS
def test_an_assigned_schedule_that_leaves_the_range_is_refused_before_the_step(front_end: type[OnTorch]) -> None:
    run = front_end("Adam", lr=0.5)
    run.group["betas"] = (schedules.linear(0.5, 1.0, steps=9), 0.9)
    for _ in range(2):
        with pytest.raises(
            ValueError, match=re.escape("adam: betas[0] must be in [0, 1), got linear(0.5, final=1.0, steps=9)")
        ):
            run.step()
    run.group["betas"] = (schedules.linear(0.5, 0.9, steps=9), 0.9)
    run.step()


def test_a_group_that_is_added_has_schedules_of_its_own_or_the_common_ones() -> None:
    run, others = OnTorch(lr=COSINE), [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    run.step()
    run.optimizer.add_param_group({"params": [others[0]]})
    run.optimizer.add_param_group({"params": [others[1]], "lr": schedules.constant(0.5)})
    assert [group["lr"] for group in run.optimizer.param_groups] == [COSINE(1), COSINE(1), 0.5]
    leaving, adam = schedules.linear(0.5, 1.0, steps=9), OnTorch("Adam").optimizer
    with pytest.raises(
        ValueError, match=re.escape("adam: betas[0] must be in [0, 1), got linear(0.5, final=1.0, steps=9)")
    ):
        adam.add_param_group({"params": [others[1]], "betas": (leaving, 0.9)})
    assert len(adam.param_groups) == 1


def test_groups_that_are_moved_or_replaced_by_hand_keep_their_schedules() -> None:
    run = OnTorch(lr=COSINE)
    run.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": schedules.constant(0.5)})
    run.optimizer.param_groups.reverse()
    assert run.step() == pytest.approx(0.1)
    run.optimizer.param_groups[0] = dict(run.optimizer.param_groups[0])
    assert run.step() == pytest.approx(COSINE(1))
    assert [group["lr"] for group in run.optimizer.param_groups] == [0.5, COSINE(2)]
    del run.optimizer.param_groups[0]
    assert run.step() == pytest.approx(COSINE(2)) and run.group["lr"] == COSINE(3)


# ---- written by schedulers


def _chained(o: Any) -> Any:
    return lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.5, 3), lr_scheduler.ExponentialLR(o, 0.9)], optimizer=o
    )


def _sequential(o: Any) -> Any:
    parts = [lr_scheduler.LinearLR(o, 0.1, total_iters=3), lr_scheduler.CosineAnnealingLR(o, 6)]
    return lr_scheduler.SequentialLR(o, parts, [3])


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda t: 0.5**t),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda t: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 5]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.5, 4),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=5),
    "LinearLR to 0": lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=5),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.8),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 6),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 4),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, 12),
    "SequentialLR": _sequential,
    "ChainedScheduler": _chained,
    "SWALR": lambda o: swa_utils.SWALR(o, swa_lr=0.05, anneal_epochs=3),
}


def trained(run: Any, scheduler: Any) -> list[float]:
    """What each step has moved; the scheduler steps after the optimizer, as it should."""
    moved = []
    for _ in range(STEPS):
        moved.append(run.step())
        scheduler.step()
    return moved


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("make", SCHEDULERS.values(), ids=SCHEDULERS)
def test_a_scheduler_of_torch_replaces_a_schedule_and_one_warning_names_both(
    make: Callable[[Any], Any], kind: Callable[[], Any]
) -> None:
    lr = kind()
    run, plain = OnTorch(lr=lr, momentum=0.5), OnTorch(lr=lr(0), momentum=0.5)
    with one_warning("param_groups[0]['lr'] is ", f"instead of {lr!r}"):
        moved = trained(run, make(run.optimizer))
    assert moved == trained(plain, make(plain.optimizer))
    assert run.group["lr"] == plain.group["lr"] and run.optimizer.schedules == [{}]
    for reader in READERS.values():
        assert reader(run.group["lr"]) == pytest.approx(plain.group["lr"])


@pytest.mark.parametrize("make", SCHEDULERS.values(), ids=SCHEDULERS)
def test_on_numpy_the_numbers_of_any_scheduler_replace_a_schedule_and_one_warning_names_both(
    make: Callable[[Any], Any],
) -> None:
    run, plain, source = OnNumPy(lr=COSINE), OnNumPy(lr=0.1), OnTorch(lr=0.1, momentum=0.5)
    scheduler = make(source.optimizer)
    moved: list[list[float]] = [[], []]
    with one_warning("param_groups[0]['lr'] is ", f"instead of {COSINE!r}"):
        for _ in range(STEPS):
            for one, row in ((run, moved[0]), (plain, moved[1])):
                one.group["lr"] = source.group["lr"]
                row.append(one.step())
            source.step()
            scheduler.step()
    assert moved[0] == moved[1]


@pytest.mark.parametrize(
    ("name", "value", "scheduled", "plain"),
    [
        ("SGD", "momentum", schedules.constant(0.9), 0.9),
        ("Adam", "betas", (schedules.constant(0.9), 0.99), (0.9, 0.99)),
    ],
)
def test_cycled_momentum_and_betas_replace_their_schedules_also(
    name: str, value: str, scheduled: Any, plain: Any
) -> None:
    run, other = OnTorch(name, lr=COSINE, **{value: scheduled}), OnTorch(name, lr=0.1, **{value: plain})
    with one_warning("['lr'] is ", f"[{value!r}]", "instead of constant(0.9)"):
        moved = trained(run, lr_scheduler.OneCycleLR(run.optimizer, 0.1, 12))
    assert moved == trained(other, lr_scheduler.OneCycleLR(other.optimizer, 0.1, 12))


def test_a_scheduler_that_only_ever_lowers_the_rate_replaces_the_schedule_when_it_does() -> None:
    run = OnTorch(lr=COSINE)
    scheduler = lr_scheduler.ReduceLROnPlateau(run.optimizer, factor=0.5, patience=1)
    moved = []
    with one_warning("instead of cosine(0.1, steps=10)"):
        for _ in range(6):
            moved.append(run.step())
            scheduler.step(1.0)
    assert moved == pytest.approx(
        [COSINE(0), COSINE(1), COSINE(2), *[0.5 * COSINE(3)] * 2, 0.25 * COSINE(3)], rel=1e-12
    )


@FRONT_ENDS
def test_a_number_of_the_user_replaces_a_schedule_and_one_warning_names_both(front_end: type[OnTorch]) -> None:
    run = front_end(lr=COSINE, momentum=schedules.constant(0.0))
    run.step()
    run.group["lr"] = 0.05
    with one_warning("SGD: ", "param_groups[0]['lr'] is 0.05 instead of cosine(0.1, steps=10)"):
        assert [run.step() for _ in range(3)] == pytest.approx([0.05] * 3)
    assert run.group["lr"] == 0.05 and run.optimizer.schedules == [{"momentum": schedules.constant(0.0)}]
    assert "lr" not in json.loads(run.optimizer.state_dict()["param_groups"][0]["schedules"])
    run.group["lr"] = -1.0
    with pytest.raises(ValueError, match=re.escape("SGD: param_groups[0]['lr'] must be >= 0, got -1.0 at step 4.")):
        run.step()


def test_many_groups_give_one_warning() -> None:
    params = [torch.nn.Parameter(torch.ones(1)) for _ in range(6)]
    optimizer = opt.SGD([{"params": [p]} for p in params], lr=COSINE)
    lr_scheduler.LambdaLR(optimizer, lambda t: 0.5)
    with one_warning("param_groups[3]['lr'] is 0.05", "and 2 more"):
        optimizer.step()


# ---- borrowed and given back


@FRONT_ENDS
def test_the_number_that_was_read_restores_the_schedule_when_it_is_written_back(front_end: type[OnTorch]) -> None:
    run = front_end(lr=COSINE)
    run.step()
    read = run.group["lr"]
    run.group["lr"] = 0.0
    assert run.step() == 0.0 and run.group["lr"] == 0.0
    run.group["lr"] = read
    assert run.group["lr"] == COSINE(2)
    assert [run.step(), run.step()] == pytest.approx([COSINE(2), COSINE(3)])
    run.group["lr"] = 7.0
    run.group["lr"] = COSINE(4)
    assert run.step() == pytest.approx(COSINE(4)) and run.group["lr"] == COSINE(5)


@FRONT_ENDS
def test_a_range_test_by_hand_is_told_once_and_leaves_the_schedule_in_force(front_end: type[OnTorch]) -> None:
    run = front_end(lr=COSINE)
    read = run.group["lr"]
    with one_warning("param_groups[0]['lr'] is 0.001 instead of cosine(0.1, steps=10)"):
        for rate in (0.001, 0.002, 0.004):
            run.group["lr"] = rate
            assert run.step() == pytest.approx(rate)
    run.group["lr"] = read
    assert run.step() == pytest.approx(COSINE(3)) and run.optimizer.schedules == [{"lr": COSINE}]


@pytest.mark.parametrize("lr", [COSINE, schedules.cosine(0.1, steps=10, warmup=4)], ids=["cosine", "from 0"])
def test_distributed_checkpoints_leave_schedules_in_force(lr: schedules.Schedule) -> None:
    model = torch.nn.Linear(2, 1)
    optimizer = opt.AdamW(model.named_parameters(), lr=lr)
    before = model.weight.detach().clone()
    saved = get_optimizer_state_dict(model, optimizer)
    assert torch.equal(model.weight, before)
    assert optimizer.schedules == [{"lr": lr}] and optimizer.param_groups[0]["lr"] == lr(optimizer.steps)
    assert "cosine" in saved["param_groups"][0]["schedules"]
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step(), optimizer.step()
    assert optimizer.param_groups[0]["lr"] == lr(optimizer.steps)


# ---- saved and loaded


@FRONT_ENDS
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_state_dict_holds_plain_numbers_and_resumes_the_schedule(
    front_end: type[OnTorch], kind: Callable[[], Any]
) -> None:
    run, other = (front_end("Adam", lr=kind(), betas=(COSINE, 0.9)) for _ in range(2))
    for _ in range(3):
        run.step()
    (group,) = run.optimizer.state_dict()["param_groups"]
    assert (group["lr"], group["betas"]) == (run.group["lr"], (COSINE(3), 0.9)) and isinstance(group["schedules"], str)
    if front_end is OnTorch:
        file = io.BytesIO()
        torch.save(run.optimizer.state_dict(), file)
        file.seek(0)
        other.optimizer.load_state_dict(torch.load(file, weights_only=True))
    else:
        other.optimizer.load_state_dict(json_round_trip(run.optimizer.state_dict()))
    assert other.group["lr"] == run.group["lr"] and other.optimizer.steps == 3
    assert [other.step() for _ in range(3)] == pytest.approx([run.step() for _ in range(3)], rel=1e-9)
    assert other.group["lr"] == run.group["lr"]


def json_round_trip(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "param_groups": json.loads(json.dumps(state["param_groups"]))}


def test_torchs_own_optimizer_loads_the_state_dict_and_goes_on_with_the_number() -> None:
    run = OnTorch("AdamW", lr=COSINE)
    run.step()
    theirs = torch.optim.AdamW([run.weight], lr=1.0)
    theirs.load_state_dict(run.optimizer.state_dict())
    run.weight.grad = torch.ones_like(run.weight)
    before = run.weight.item()
    theirs.step()
    assert before - run.weight.item() == pytest.approx(COSINE(1) * (1 + 0.01 * before), rel=1e-6)


@FRONT_ENDS
@pytest.mark.parametrize("how", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"])
def test_copies_have_schedules_of_their_own(front_end: type[OnTorch], how: Callable[[Any], Any]) -> None:
    run = front_end(lr=schedules.ReduceOnPlateau(0.1, patience=0), momentum=COSINE)
    run.step()
    made = how(run.optimizer)
    (mine,), (its,) = run.optimizer.schedules, made.schedules
    its["lr"].step(1.0), its["lr"].step(1.0)
    assert made.param_groups[0]["lr"] == pytest.approx(0.01) and its["momentum"] == COSINE
    assert run.group["lr"] == 0.1 and mine["lr"] is not its["lr"]


LONGER = schedules.cosine(0.1, steps=40)


@FRONT_ENDS
def test_a_saved_schedule_that_differs_is_reported_and_the_caller_can_choose(front_end: type[OnTorch]) -> None:
    def made() -> Any:
        return front_end(lr=LONGER).optimizer

    run = front_end(lr=COSINE)
    run.step()
    saved = run.optimizer.state_dict()
    default, kept, taken, same = made(), made(), made(), front_end(lr=COSINE).optimizer
    text = "lr was saved as cosine(0.1, steps=10) and is cosine(0.1, steps=40) here. The saved one is used."
    with one_warning(f"SGD.load_state_dict: {text}", "schedules='saved'", "schedules='own'"):
        default.load_state_dict(saved)
    kept.load_state_dict(saved, schedules="own")
    taken.load_state_dict(saved, schedules="saved")
    same.load_state_dict(saved)
    assert [o.schedules[0]["lr"] for o in (default, kept, taken, same)] == [COSINE, LONGER, COSINE, COSINE]
    assert [o.param_groups[0]["lr"] for o in (default, kept)] == [COSINE(1), LONGER(1)]
    with pytest.raises(ValueError, match=re.escape("schedules must be 'saved', 'own' or None, got 'mine'")):
        made().load_state_dict(saved, schedules="mine")


@FRONT_ENDS
def test_a_saved_number_in_the_place_of_a_schedule_is_reported_unless_the_schedule_gives_it(
    front_end: type[OnTorch],
) -> None:
    number, fits = front_end(lr=0.05), front_end(lr=0.1)
    other, kept, silent = front_end(lr=COSINE), front_end(lr=COSINE), front_end(lr=COSINE)
    with one_warning("lr was saved as 0.05 and is cosine(0.1, steps=10) here. The saved one is used."):
        other.optimizer.load_state_dict(number.optimizer.state_dict())
    kept.optimizer.load_state_dict(number.optimizer.state_dict(), schedules="own")
    silent.optimizer.load_state_dict(fits.optimizer.state_dict())
    assert [run.step() for run in (other, kept, silent)] == pytest.approx([0.05, 0.1, 0.1])
    assert [run.optimizer.schedules for run in (other, kept, silent)] == [[{}], [{"lr": COSINE}], [{"lr": COSINE}]]


@FRONT_ENDS
def test_a_number_that_was_written_into_the_saved_state_replaces_its_schedule(front_end: type[OnTorch]) -> None:
    run, other = front_end(lr=COSINE), front_end(lr=COSINE)
    saved = run.optimizer.state_dict()
    saved["param_groups"][0]["lr"] = 0.02
    with one_warning("lr was saved as 0.02 beside cosine(0.1, steps=10). The number is used."):
        other.optimizer.load_state_dict(saved)
    assert other.step() == pytest.approx(0.02)


@FRONT_ENDS
def test_state_dicts_that_have_schedules_in_the_places_of_numbers_still_load(front_end: type[OnTorch]) -> None:
    run, other = front_end("Adam", lr=COSINE, betas=(LONGER, 0.9)), front_end("Adam", lr=0.5)
    run.step()
    saved = run.optimizer.state_dict()
    (group,) = saved["param_groups"]
    del group["schedules"]
    group["lr"] = {"schedule": COSINE.to_json()}
    group["betas"] = {"tuple": [{"schedule": LONGER.to_json()}, 0.9]}
    other.optimizer.load_state_dict(saved)
    assert other.optimizer.schedules == [{"lr": COSINE, "betas": (LONGER, 0.9)}] and other.group["lr"] == COSINE(1)


def test_the_schedules_in_a_numpy_chain_are_saved_and_compared_as_those_of_groups(tmp_path: Any) -> None:
    def made(lr: Any) -> numpy_opt.Optimizer:
        return numpy_opt.Optimizer([np.ones(1)], s.clip_by_global_norm(5.0) | s.sgd(lr))

    run, other, kept = made(COSINE), made(LONGER), made(LONGER)
    run.step([np.ones(1)])
    run.save(tmp_path / "state.npz")
    with one_warning(
        "lr of sgd was saved as cosine(0.1, steps=10) and is cosine(0.1, steps=40) here. The saved one is used."
    ):
        other.load(tmp_path / "state.npz")
    kept.load(tmp_path / "state.npz", schedules="own")
    other.step([np.ones(1)]), kept.step([np.ones(1)])
    w = [float(o.param_groups[0]["params"][0][0]) for o in (other, kept)]
    assert w == pytest.approx([1 - COSINE(1), 1 - LONGER(1)])


# ---- wrappers and other ways to step


@FRONT_ENDS
def test_lookahead_shares_the_groups_and_their_schedules(front_end: type[OnTorch]) -> None:
    run = front_end(lr=COSINE)
    inner = run.optimizer
    run.optimizer = (opt if front_end is OnTorch else numpy_opt).Lookahead(inner, k=2, alpha=0.5)
    assert inner.param_groups is run.optimizer.param_groups
    assert run.step() == pytest.approx(COSINE(0)) and inner.param_groups[0]["lr"] == COSINE(1)
    assert inner.schedules == run.optimizer.schedules == [{"lr": COSINE}]
    inner.param_groups[0]["lr"] = schedules.constant(0.5)
    assert inner.param_groups[0]["lr"] == 0.5 and run.step() == pytest.approx(0.5 - (0.5 + COSINE(0)) / 2)
    inner.param_groups[0].update(lr=schedules.constant(0.25), alpha=1.0)
    assert run.step() == pytest.approx(0.25) and run.group["alpha"] == 1.0


def test_released_gradients_follow_schedules_and_what_replaces_them() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer, moved = opt.SGD([weight], lr=COSINE), []

    def step() -> None:
        before = weight.item()
        weight.sum().backward()
        optimizer.step()
        moved.append(before - weight.item())

    with opt.release_gradients(optimizer):
        for t in range(3):
            step()
            assert optimizer.param_groups[0]["lr"] == COSINE(t + 1)
        optimizer.param_groups[0]["lr"] = 0.5
        with one_warning("is 0.5 instead of cosine(0.1, steps=10)"):
            step(), step()
    assert moved == pytest.approx([*COSINE.values(3), 0.5, 0.5], rel=1e-5)


def test_a_skipped_step_leaves_the_number_and_an_error_of_a_schedule_comes_before_the_step() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    chain = s.clip_by_global_norm(9.0, on_nonfinite="skip") | s.sgd(COSINE)
    optimizer = opt.Optimizer([weight], chain)
    weight.grad = torch.tensor([float("nan")])
    optimizer.step()
    assert optimizer.param_groups[0]["lr"] == 0.1 and optimizer.steps == 0

    def raises(t: int) -> float:
        if t > 1:
            raise RuntimeError("no rate any more")
        return 0.1

    run = OnTorch(lr=raises)
    run.step(), run.step()
    assert run.group["lr"] == 0.1
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no rate any more"):
            run.step()
    assert run.optimizer.steps == 2
    run.group["lr"] = COSINE
    assert run.step() == pytest.approx(COSINE(2))


# ---- chains show what named classes show


def test_a_ready_chain_shows_its_betas_where_tools_look_for_them() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    chain, named = opt.Optimizer([weight], s.adamw(0.1)), OnTorch("AdamW", lr=0.1)
    run = OnTorch("AdamW", lr=0.1)
    run.weight, run.optimizer = weight.double().detach().requires_grad_(), None
    run.optimizer = opt.Optimizer([run.weight], s.adamw(0.1))
    assert chain.defaults["betas"] == chain.param_groups[0]["betas"] == (0.9, 0.999) and "beta1" not in chain.defaults
    moved = [trained(one, lr_scheduler.OneCycleLR(one.optimizer, 0.1, total_steps=20)) for one in (run, named)]
    assert moved[0] == moved[1]
    run.group["betas"] = (0.5, 0.9)
    named.group["betas"] = (0.5, 0.9)
    assert run.step() == named.step()
    run.group["betas"] = (0.5,)
    with pytest.raises(TypeError, match=re.escape("betas must be a tuple of 2 numbers, got (0.5,)")):
        run.step()


def test_betas_of_several_links_and_groups_with_chains_of_their_own_are_told_apart() -> None:
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    several = opt.Optimizer(weights[:1], s.chain(s.scale_by_adam(0.8, 0.9), s.scale_by_lion(0.6, 0.7), s.descend(0.1)))
    assert (several.param_groups[0]["betas"], several.param_groups[0]["betas_2"]) == ((0.8, 0.9), (0.6, 0.7))
    own = opt.Optimizer([{"params": weights[:1], "chain": s.adamw(0.1)}, {"params": weights[1:], "chain": s.lion(0.2)}])
    assert own.defaults["betas"] == (0.9, 0.999) and [g["lr"] for g in own.param_groups] == [0.1, 0.2]
    lr_scheduler.OneCycleLR(own, 0.1, total_steps=9)
    assert [g["betas"] for g in own.param_groups] == [(0.95, 0.999), (0.95, 0.99)]


def test_state_dicts_that_have_the_betas_of_a_chain_one_by_one_still_load() -> None:
    def made(beta: Any) -> opt.Optimizer:
        return opt.Optimizer([torch.nn.Parameter(torch.ones(1))], s.adamw(0.1, betas=(beta, 0.999)))

    saved = made(0.5).state_dict()
    (group,) = saved["param_groups"]
    group["beta1"], group["beta2"] = group.pop("betas")
    optimizer = made(0.9)
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.999) and "beta1" not in optimizer.param_groups[0]
    group["beta1"] = {"schedule": COSINE.to_json()}
    optimizer = made(COSINE)
    optimizer.load_state_dict(saved)
    assert optimizer.schedules == [{"betas": (COSINE, 0.999)}]
