"""The NumPy front end where it could go wrong unseen: failed steps, changed values, files and state of another kind."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import re
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import steepest as s
import steepest.numpy as opt
from steepest.schedules import ReduceOnPlateau, cosine
from steepest.step.stepper import Stepper

Array = np.ndarray[Any, Any]


def snapshot(optimizer: opt.Optimizer) -> list[Any]:
    """Parameters, states, step counts and plateaus, as bytes."""
    saved = optimizer.state_dict()
    params = [p.tobytes() for group in optimizer.param_groups for p in group["params"]]
    states = {
        name: {k: v.tobytes() if isinstance(v, np.ndarray) else v for k, v in states.items()}
        for name, states in saved["state"].items()
    }
    return [params, states, repr(saved["param_groups"]), saved["steps"]]


def trained(optimizer: opt.Optimizer, count: int, seed: int = 0) -> opt.Optimizer:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        params = [p for group in optimizer.param_groups for p in group["params"]]
        optimizer.step([np.asarray(rng.normal(size=p.shape)).astype(p.dtype) for p in params])
    return optimizer


# ---- values that change between steps


@pytest.mark.parametrize("engine", ["cpu", "arrays"])
def test_a_new_learning_rate_at_every_step_keeps_plan_and_layout_and_gives_torchs_numbers(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    w, p = np.ones(4), torch.ones(4, dtype=torch.float64, requires_grad=True)
    ours, theirs = opt.Adam([w], engine=engine), torch.optim.Adam([p])
    rng = np.random.default_rng(0)
    sorts = []
    sort = Stepper._sort
    monkeypatch.setattr(Stepper, "_sort", lambda self, absent: (sorts.append(absent), sort(self, absent))[1])
    for t in range(8):
        for group in (ours.param_groups[0], theirs.param_groups[0]):
            group["lr"], group["betas"] = 0.1 / (t + 1), (0.5 + t / 20, 0.9)
        g = rng.normal(size=4)
        ours.step([g])
        p.grad = torch.tensor(g)
        theirs.step()
    np.testing.assert_allclose(w, p.detach().numpy(), rtol=1e-12)
    assert sorts == [()]


def test_tensors_of_one_group_whose_links_differ_only_in_value_keep_their_own_values_also_after_a_change() -> None:
    def made(first: float, second: float) -> s.Chain:
        return s.chain(
            s.only(s.add_decayed_weights(first), "a"), s.only(s.add_decayed_weights(second), "b"), s.sgd(1.0)
        )

    a, b = np.ones(2), np.ones(2)
    optimizer = opt.Optimizer({"a": a, "b": b}, made(0.25, 0.25))
    optimizer.step([np.zeros(2), np.zeros(2)])
    np.testing.assert_array_equal([a, b], np.full((2, 2), 0.75))
    optimizer.param_groups[0]["chain"] = made(0.5, 0.0)
    optimizer.step([np.zeros(2), np.zeros(2)])
    np.testing.assert_array_equal([a, b], [[0.375] * 2, [0.75] * 2])


def test_betas_and_learning_rates_changed_in_place_are_seen() -> None:
    rate, w = np.array(0.5), np.zeros(2)
    optimizer = opt.SGD([w], lr=rate)
    optimizer.step([np.ones(2)])
    rate *= 0
    optimizer.step([np.ones(2)])
    np.testing.assert_array_equal(w, [-0.5, -0.5])
    other = opt.Adam([np.ones(2)], betas=[0.9, 0.999])  # type: ignore[arg-type]
    trained(other, 1)
    other.param_groups[0]["betas"][0] = 2.0
    before = copy.deepcopy(other.param_groups[0]["params"])
    with pytest.raises(ValueError, match=re.escape("adam: betas[0] must be in [0, 1), got 2.0.")):
        other.step([np.ones(2)])
    np.testing.assert_array_equal(other.param_groups[0]["params"], before)
    other.param_groups[0]["betas"] = (0.9, 0.999)
    other.step([np.ones(2)])
    assert other.steps == 2


def test_schedules_see_the_optimizers_steps_and_rules_the_tensors_own() -> None:
    a, b = np.zeros(1), np.zeros(1)
    optimizer = opt.Adam([a, b], lr=lambda t: float(t + 1), betas=(0.5, 0.5), eps=0.0)
    optimizer.step([np.ones(1), None])
    optimizer.step([None, np.ones(1)])
    # Adam's first step of a tensor is the learning rate itself: 1 at the first step of all, 2 at the second.
    np.testing.assert_array_equal([a, b], [[-1.0], [-2.0]])
    assert [optimizer.state[n]["step"] for n in "01"] == [1.0, 1.0] and optimizer.steps == 2


def test_groups_cannot_be_added_behind_the_optimizers_back() -> None:
    optimizer = trained(opt.SGD([np.ones(2)]), 1)
    before = snapshot(optimizer)
    optimizer.param_groups.append({"params": [np.ones(3)], "lr": 1.0})
    message = "SGD: len(param_groups) must be 1, got 2. Groups can't be added or removed. Make a new optimizer."
    with pytest.raises(ValueError, match=re.escape(message)):
        optimizer.step([np.ones(2)])
    del optimizer.param_groups[1]
    assert snapshot(optimizer) == before


CHANGES: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda group: group.pop("lr"), "SGD: param_groups[0] must keep 'lr', which was removed."),
    (lambda group: group.update(lr=-0.5), "sgd: lr must be >= 0, got -0.5."),
    (lambda group: group.update(lr=np.ones(2)), "sgd: lr must be a finite number >= 0 or a schedule, got array([1., 1.])."),
    (lambda group: group.update(rate=1), "sgd: unknown argument 'rate'. Known: dampening, lr,"),
    (lambda group: group.update(lr=lambda t: "x"), "lr must be a finite number >= 0, got 'x' at step 1."),
    (lambda group: group.update(lr=lambda t: np.ones(2)), "lr must be a finite number >= 0, got array([1., 1.]) at step 1."),
    (lambda group: group.update(lr=lambda t: np.nan), "lr must be a finite number >= 0, got nan at step 1."),
    (lambda group: group.update(nesterov=True, momentum=0), "sgd: nesterov must be False unless momentum > 0 and "
     "dampening = 0, got nesterov=True"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), CHANGES, ids=[m[:40] for _, m in CHANGES])
def test_a_bad_value_in_a_group_stops_every_step_until_it_is_mended(
    change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    optimizer = trained(opt.SGD([np.ones(2)], lr=0.5, momentum=0.9, engine="arrays"), 1)
    before, good = snapshot(optimizer), dict(optimizer.param_groups[0])
    change(optimizer.param_groups[0])
    for _ in range(2):
        with pytest.raises((ValueError, TypeError), match=re.escape(message)):
            optimizer.step([np.ones(2)])
    optimizer.param_groups[0].clear()
    optimizer.param_groups[0].update(good)
    assert snapshot(optimizer) == before
    optimizer.step([np.ones(2)])
    assert optimizer.steps == 2


# ---- gradients


class Lazy(Sequence[Array]):
    """Makes every gradient when it is asked for, and keeps none."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: Any) -> Any:
        if index > 1:
            raise IndexError(index)
        return np.full(1000, index + 1.0)


def test_gradients_that_a_sequence_makes_on_demand_live_until_the_step_is_done() -> None:
    a, b = np.zeros(1000), np.zeros(1000)
    optimizer = opt.SGD([a, b], lr=1.0)
    for _ in range(5):
        optimizer.step(Lazy())
    np.testing.assert_array_equal([a, b], [[-5.0] * 1000, [-10.0] * 1000])


# ---- a step that fails


FIRST_STEPS: list[tuple[Callable[[], s.Chain], type[Exception] | None]] = [
    (lambda: s.chain(s.clip_by_global_norm(1.0, on_nonfinite="skip"), s.nadam(0.1), s.lookahead()), None),
    (lambda: s.chain(s.clip_by_global_norm(1.0, on_nonfinite="error"), s.nadam(0.1)), FloatingPointError),
    (lambda: s.chain(s.nadam(lambda t: -1.0), s.ema()), ValueError),
]


@pytest.mark.parametrize("engine", ["cpu", "arrays"])
@pytest.mark.parametrize(("made", "error"), FIRST_STEPS, ids=["skip", "error", "schedule"])
def test_a_first_step_that_fails_leaves_no_states_behind(
    made: Callable[[], s.Chain], error: type[Exception] | None, engine: str
) -> None:
    w, b = np.ones(3), np.ones(2)
    optimizer = opt.Optimizer([w, b], made(), engine=engine)
    before = snapshot(optimizer)
    grads = [np.full(3, np.nan), np.ones(2)]
    if error is None:
        optimizer.step(grads)
    else:
        with pytest.raises(error):
            optimizer.step(grads)
    assert snapshot(optimizer) == before and optimizer.state == {} and optimizer.steps == 0


def test_slow_weights_start_at_the_weights_of_the_first_step_that_happens() -> None:
    w = np.ones(2)
    optimizer = opt.Optimizer([w], s.chain(s.clip_by_global_norm(1.0, on_nonfinite="skip"), s.sgd(0.0), s.lookahead()))
    optimizer.step([np.array([np.inf, 0.0])])
    w[:] = 5.0
    optimizer.step([np.ones(2)])
    np.testing.assert_array_equal(optimizer.state["0"]["slow"], [5.0, 5.0])


def test_a_failed_step_of_a_new_parameter_keeps_the_histories_of_the_others() -> None:
    a, b = np.ones(2), np.ones(2)
    optimizer = opt.Optimizer([a, b], s.chain(s.clip_by_global_norm(1.0, on_nonfinite="error"), s.adam(0.1)))
    optimizer.step([np.ones(2), None])
    before = snapshot(optimizer)
    with pytest.raises(FloatingPointError):
        optimizer.step([np.ones(2), np.full(2, np.nan)])
    assert snapshot(optimizer) == before
    optimizer.step([np.ones(2), np.ones(2)])
    assert [optimizer.state[n]["step"] for n in "01"] == [2.0, 1.0]


# ---- weights swapped


def test_state_is_neither_taken_nor_given_while_weights_are_swapped(tmp_path: Path) -> None:
    optimizer = trained(opt.Optimizer([np.ones(2)], s.chain(s.sgd(0.1), s.ema(0.5))), 2)
    before, saved = snapshot(optimizer), optimizer.state_dict()
    with optimizer.using("average"):
        for call in (
            optimizer.state_dict,
            lambda: optimizer.load_state_dict(saved),
            lambda: optimizer.save(tmp_path / "state.npz"),
            lambda: optimizer.step([np.ones(2)]),
        ):
            with pytest.raises(
                RuntimeError, match=r"the weights are swapped for 'average'\. Leave the with block first\."
            ):
                call()
    assert snapshot(optimizer) == before and not any(tmp_path.iterdir())


# ---- state of another kind


def edited(state: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    made = copy.deepcopy(state)
    *way, last = path.split(".")
    place: Any = made
    for key in way:
        place = place[int(key)] if isinstance(place, list) else place[key]
    place[last] = value
    return made


FIX = "Pass the result of state_dict()."
EDITS: list[tuple[str, Any, str]] = [
    ("steps", "x", "NAdam.load_state_dict: steps must be a whole number >= 0, got 'x'."),
    ("steps", -3, "NAdam.load_state_dict: steps must be a whole number >= 0, got -3."),
    ("steps", 3.5, "NAdam.load_state_dict: steps must be a whole number >= 0, got 3.5."),
    ("state", [], f"NAdam.load_state_dict: 'state' must be a mapping, got list. {FIX}"),
    ("state.w", None, f"NAdam.load_state_dict: state['w'] must be a mapping, got NoneType. {FIX}"),
    ("state.w.step", float("nan"), "NAdam.load_state_dict: step of 'w' must be a whole number >= 0, got nan."),
    ("state.w.mu_product", "x", "NAdam.load_state_dict: mu_product of 'w' must be a number, got str."),
    ("state.w.extra", 1.0, "'w' was saved with the states exp_avg, exp_avg_sq, extra, mu_product, step, but its chain here has"),
    ("state.q", {}, "NAdam.load_state_dict: the state has 'q', which isn't a parameter of this optimizer."),
    ("state.w.exp_avg", np.ones(3, np.float32), "exp_avg of 'w' must be float64[3], got float32[3]."),
    ("state.w.exp_avg", np.ones(4), "exp_avg of 'w' must be float64[3], got float64[4]."),
    ("steps", np.complex128(3), "NAdam.load_state_dict: steps must be a whole number >= 0, got np.complex128(3+0j)."),
    ("state.w.mu_product", np.complex128(1), "NAdam.load_state_dict: mu_product of 'w' must be a number, got complex128."),
    ("state.w.exp_avg", np.ones(3, complex), "exp_avg of 'w' must be float64[3], got complex128[3]."),
    ("state.w.exp_avg", np.array([None] * 3), "exp_avg of 'w' must be float64[3], got object[3]."),
    ("state.w.exp_avg", ["a", "b", "c"], "exp_avg of 'w' must be float64[3], got <U1[3]."),
    ("state.w.exp_avg", [[1.0], [1.0, 2.0], []], "NAdam.load_state_dict: exp_avg of 'w' must be an array, got list ("),
    ("param_groups", None, f"NAdam.load_state_dict: 'param_groups' must be a list of groups with 'params'. {FIX}"),
    ("param_groups", [], "NAdam.load_state_dict: the number of saved groups must be 1, got 0."),
    ("param_groups.0.params", ["w", "q"], "group 0 was saved with the parameter 'q', which it doesn't have here."),
    ("param_groups.0.params", ["w"], "group 0 was saved without the parameter 'b', which it has here."),
    ("param_groups.0.eps", -1, "nadam: eps must be >= 0, got -1."),
    ("param_groups.0.betas", {"tuple": [0.9]}, "nadam: betas must be a tuple of 2 numbers, got (0.9,)."),
    ("param_groups.0.lr", {"function": "f"}, "NAdam.load_state_dict: lr was saved as {'function': 'f'}, but it is Reduce"),
    ("param_groups.0.lr", {"plateau": {"lr": -1}}, "ReduceOnPlateau.load_state_dict: the state must have the keys ['best'"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), EDITS, ids=[f"{p} {str(v)[:12]}" for p, v, _ in EDITS])
def test_a_state_dict_of_another_structure_is_refused_in_words_and_nothing_changes(
    path: str, value: Any, message: str
) -> None:
    def made() -> opt.Optimizer:
        params = {"w": np.ones(3), "b": np.ones(2)}
        return opt.NAdam(params, lr=ReduceOnPlateau(0.1, patience=0), engine="arrays")

    saved = trained(made(), 3).state_dict()
    optimizer = trained(made(), 2, seed=1)
    before = snapshot(optimizer)
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        optimizer.load_state_dict(edited(saved, path, value))
    assert snapshot(optimizer) == before
    optimizer.load_state_dict(saved)
    assert optimizer.state_dict()["steps"] == 3


def test_a_state_dict_that_is_none_is_refused() -> None:
    message = f"Adam.load_state_dict: the state dict must be a mapping, got int. {FIX}"
    with pytest.raises(TypeError, match=re.escape(message)):
        opt.Adam([np.ones(2)]).load_state_dict(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("place", ["group", "tuple", "chain"])
def test_the_state_of_a_plateau_is_restored_wherever_it_stands(place: str, tmp_path: Path) -> None:
    def made() -> tuple[opt.Optimizer, ReduceOnPlateau, Array]:
        plateau, w = ReduceOnPlateau(0.5, patience=0), np.ones(2)
        if place == "group":
            return opt.SGD([w], lr=plateau, momentum=cosine(0.9, steps=9)), plateau, w
        if place == "tuple":
            return opt.Adam([w], lr=0.1, betas=(0.9, plateau)), plateau, w
        return opt.Optimizer([w], s.chain(s.clip_by_global_norm(1.0), s.sgd(plateau))), plateau, w

    optimizer, plateau, w = made()
    for metric in (1.0, 2.0, 0.5):
        trained(optimizer, 1)
        plateau.step(metric)
    optimizer.save(tmp_path / "state.npz")
    other, fresh, v = made()
    v[...] = w
    other.load(tmp_path / "state.npz")
    assert fresh.state_dict() == plateau.state_dict() != ReduceOnPlateau(0.5).state_dict()
    trained(optimizer, 3)
    trained(other, 3)
    np.testing.assert_array_equal(v, w)
    assert snapshot(other) == snapshot(optimizer)


def test_a_state_loaded_in_the_middle_of_a_run_replaces_all_of_it() -> None:
    w = np.ones(3)
    optimizer = trained(opt.Adam([w], lr=0.1), 3)
    saved, weights = optimizer.state_dict(), w.copy()
    trained(optimizer, 2, seed=1)
    once = snapshot(optimizer)
    w[...] = weights
    optimizer.load_state_dict(saved)
    trained(optimizer, 2, seed=1)
    assert snapshot(optimizer) == once


# ---- files


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_states_without_dimensions_or_elements_and_with_any_name_survive_a_file(suffix: str, tmp_path: Path) -> None:
    def made() -> dict[str, Array]:
        return {
            "a/b": np.array(1.0),
            "steepest": np.ones((0, 2)),
            "file": np.ones((2, 3)).T,
            "": np.ones(1, np.float32),
        }

    def grads() -> dict[str, Array]:
        return {name: np.full_like(p, 0.5) for name, p in made().items()}

    optimizer = opt.Adam(made(), lr=0.1)
    optimizer.step(grads())
    path = tmp_path / f"state{suffix}"
    optimizer.save(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    other = opt.Adam(made(), lr=0.7)
    other.load(path)
    assert snapshot(other)[1:] == snapshot(optimizer)[1:]


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_saved_file_may_be_read_by_those_who_may_read_other_files(suffix: str, tmp_path: Path) -> None:
    usual, path = tmp_path / "usual", tmp_path / f"state{suffix}"
    usual.touch()
    opt.SGD([np.ones(2)]).save(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == stat.S_IMODE(os.stat(usual).st_mode)


def broken(kind: str, path: Path) -> Path:
    path = path / f"state{'.safetensors' if kind == 'not safetensors' else '.npz'}"
    description = {"a list": b"[1]", "wrong host": b'{"host": [1]}', "not json": b"{"}
    if kind in description:
        np.savez(path, steepest=np.frombuffer(description[kind], np.uint8))
    elif kind == "one array":
        with open(path, "wb") as file:
            np.save(file, np.ones(3))
    elif kind == "truncated":
        trained(opt.Adam([np.ones(999)], engine="arrays"), 1).save(path)
        path.write_bytes(path.read_bytes()[:9000])
    else:
        path.write_bytes(b"" if kind == "empty" else b"no such format")
    return path


@pytest.mark.parametrize(
    "kind", ["a list", "wrong host", "not json", "one array", "truncated", "empty", "junk", "not safetensors"]
)
def test_a_broken_file_is_refused_by_its_name_and_nothing_changes(kind: str, tmp_path: Path) -> None:
    optimizer = trained(opt.Adam([np.ones(999)], engine="arrays"), 2)
    before = snapshot(optimizer)
    path = broken(kind, tmp_path)
    with pytest.raises(ValueError, match=re.escape(f"{path.name} isn't a state file of steepest (")):
        optimizer.load(path)
    assert snapshot(optimizer) == before


def test_a_missing_file_and_a_folder_are_said_to_be_that(tmp_path: Path) -> None:
    optimizer = opt.SGD([np.ones(2)])
    with pytest.raises(FileNotFoundError):
        optimizer.load(tmp_path / "none.npz")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises((IsADirectoryError, PermissionError)):
        optimizer.load(tmp_path / "folder.npz")


def test_a_save_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = trained(opt.SGD([np.ones(2)], momentum=0.9), 1)
    path = tmp_path / "state.npz"
    optimizer.save(path)
    held = path.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        optimizer.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["state.npz"] and path.read_bytes() == held


# ---- copies


def test_an_optimizer_of_a_rule_that_is_nowhere_at_home_can_be_copied_and_says_why_it_cannot_be_pickled() -> None:
    @s.rule
    def mine(update: Any) -> Any:
        return 2.0 * update

    plateau, w = ReduceOnPlateau(0.5, patience=0), np.ones(2)
    optimizer = trained(opt.Optimizer([w], s.chain(mine(), s.sgd(plateau, momentum=0.9)), engine="arrays"), 1)
    held, copied = copy.deepcopy((plateau, optimizer))
    held.step(1.0)
    held.step(2.0)
    assert (held(0), plateau(0)) == (0.05, 0.5)
    trained(copied, 1, seed=1)
    before = w.copy()
    trained(optimizer, 1, seed=1)
    np.testing.assert_allclose(10 * (copied.param_groups[0]["params"][0] - before), w - before, rtol=1e-12)
    with pytest.raises(
        pickle.PicklingError, match=re.escape("mine: the rule can't be pickled, because it isn't an attribute")
    ):
        pickle.dumps(optimizer)


def test_names_of_states_that_do_not_exist_are_told_apart() -> None:
    averaged = opt.Optimizer([np.ones(2)], s.chain(s.sgd(0.1), s.ema()))
    for optimizer, name, message in (
        (averaged, "average", "using: 'average' does not exist before the first step."),
        (averaged, "averag", "using: unknown state 'averag'. Did you mean 'average'? Known: average."),
        (
            opt.SGD([np.ones(2)]),
            "average",
            "using: unknown state 'average'. The chains of this optimizer have no states.",
        ),
        (opt.NAdam([np.ones(2)]), "mu_product", "using: unknown state 'mu_product'. Known: exp_avg, exp_avg_sq."),
    ):
        with pytest.raises(ValueError, match=re.escape(message)), optimizer.using(name):
            pass


@pytest.mark.parametrize("seed", range(3))
def test_a_run_interrupted_by_looks_saves_copies_and_swaps_gives_the_same_bits(seed: int, tmp_path: Path) -> None:
    def made() -> opt.Optimizer:
        rng = np.random.default_rng(3)
        params = [np.array(rng.normal(size=n)) for n in (999, (4, 3), 5, ())]
        params[1], params[2] = params[1].T, params[2].astype(np.float32)
        clip = s.clip_by_global_norm(1.0)
        first = s.chain(clip, s.nadam(0.1), s.lookahead(3), s.ema(0.9))
        second = s.chain(clip, s.sgd(cosine(0.1, steps=9), momentum=0.9))
        return opt.Optimizer([{"params": params[:2], "chain": first}, {"params": params[2:], "chain": second}])

    def average(optimizer: opt.Optimizer) -> opt.Optimizer:
        with pytest.raises(ZeroDivisionError), optimizer.using("average"):
            raise ZeroDivisionError
        return optimizer

    def file(optimizer: opt.Optimizer) -> opt.Optimizer:
        optimizer.save(tmp_path / "state.safetensors")
        optimizer.load(tmp_path / "state.safetensors")
        return optimizer

    def look(optimizer: opt.Optimizer) -> opt.Optimizer:
        assert optimizer.state and str(optimizer.plan)
        return optimizer

    interruptions = (look, file, average, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o)), lambda o: o)
    rng = np.random.default_rng(seed)
    plain = trained(made(), 1)
    other = trained(made(), 1)
    shapes = [(p.shape, p.dtype) for group in plain.param_groups for p in group["params"]]
    for _ in range(12):
        grads = [None if rng.random() < 0.15 else np.asarray(rng.normal(size=n)).astype(d) for n, d in shapes]
        plain.step(grads)
        other = interruptions[rng.integers(len(interruptions))](other)
        other.step([g if g is None or rng.random() < 0.5 else g.copy(order="C") for g in grads])
        assert snapshot(other) == snapshot(plain)


# ---- the classes


def test_lookahead_around_lookahead_is_refused() -> None:
    with pytest.raises(TypeError, match=re.escape("Lookahead: optimizer must not be a Lookahead.")):
        opt.Lookahead(opt.Lookahead(opt.SGD([np.ones(2)])))


def test_a_signature_shows_the_recipes_arguments_between_params_and_engine() -> None:
    parameters = inspect.signature(opt.LAMB).parameters
    assert list(parameters) == ["params", *inspect.signature(s.lamb).parameters, "engine"]
    assert parameters["engine"].default == "auto"


# ---- threads


def test_two_optimizers_of_one_plan_share_the_helpers_and_not_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEEPEST_NUM_THREADS", "3")
    size, count = 600_000, 12

    def run(start: float, found: list[Array]) -> None:
        w = np.full(size, start)
        optimizer = opt.SGD([w], lr=0.5)
        grad = np.full(size, start)
        for _ in range(count):
            optimizer.step([grad])
        found.append(w)

    results: list[list[Array]] = [[] for _ in range(4)]
    threads = [threading.Thread(target=run, args=(float(i), results[i])) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, found in enumerate(results):
        np.testing.assert_array_equal(found[0], np.full(size, i - 0.5 * i * count))
