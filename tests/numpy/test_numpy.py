"""The NumPy front end: structures, groups, histories, measurements, swapping, state, copies, bad input, the cache."""

from __future__ import annotations

import copy
import os
import pickle
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import steepest as s
import steepest.numpy as opt
from steepest.engines.numba import cache
from steepest.plan.planner import plan

SHAPES = [(3, 4), (5,)]


def arrays(seed: int, dtype: type = np.float64) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) for shape in SHAPES]


def steps(optimizer: opt.Optimizer, start: int, stop: int, dtype: type = np.float64) -> None:
    for t in range(start, stop):
        optimizer.step(arrays(1000 + t, dtype))


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b, strict=True))


# ---- structures and values


def test_lists_dicts_and_groups_give_the_same_step() -> None:
    listed, named, grouped = arrays(0), arrays(0), arrays(0)
    a = opt.Adam(listed, lr=0.1)
    b = opt.Adam(dict(zip("wb", named, strict=True)), 0.1)
    c = opt.Adam([{"params": [grouped[0]]}, {"params": grouped[1]}], lr=0.1)
    for t in range(4):
        g = arrays(t)
        a.step(g)
        b.step(dict(zip("wb", g, strict=True)))
        c.step(g)
    assert same(listed, named) and same(listed, grouped)
    assert set(b.state) == {"w", "b"}


def test_a_group_has_values_of_its_own_and_a_change_of_value_plans_nothing_again() -> None:
    params, other = arrays(0), arrays(0)
    optimizer = opt.Adam([{"params": params[:1], "lr": 0.5}, {"params": params[1:]}], lr=0.1)
    first, second = opt.Adam(other[:1], lr=0.5), opt.Adam(other[1:], lr=0.1)
    steps(optimizer, 0, 3)
    programs = optimizer.plan[0].programs
    optimizer.param_groups[1]["lr"] = 0.01
    second_group = [arrays(1000 + t)[1:] for t in range(5)]
    first_group = [arrays(1000 + t)[:1] for t in range(5)]
    steps(optimizer, 3, 5)
    for t in range(5):
        if t == 3:
            second.param_groups[0]["lr"] = 0.01
        first.step(first_group[t])
        second.step(second_group[t])
    assert same(params, other)
    assert optimizer.plan[0].programs is programs


def test_momentum_that_leaves_zero_gets_its_buffer() -> None:
    params = arrays(0)
    optimizer = opt.SGD(params, lr=0.1)
    steps(optimizer, 0, 2)
    assert "momentum_buffer" not in optimizer.state["0"]
    optimizer.param_groups[0]["momentum"] = 0.9
    steps(optimizer, 2, 4)
    assert optimizer.state["0"]["momentum_buffer"].shape == (3, 4)


def test_any_hyperparameter_may_be_a_schedule() -> None:
    scheduled, set_by_hand = arrays(0), arrays(0)
    lr, beta = s.schedules.linear(0.1, 0.01, 6), s.schedules.linear(0.5, 0.9, 6)
    a = opt.AdamW(scheduled, lr, betas=(beta, 0.99))
    b = opt.AdamW(set_by_hand, 0.1, betas=(0.5, 0.99))
    for t in range(8):
        b.param_groups[0].update(lr=lr(t), betas=(beta(t), 0.99))
        a.step(arrays(t))
        b.step(arrays(t))
    assert same(scheduled, set_by_hand)


def test_parameters_without_a_gradient_keep_their_own_step_count_as_in_torch() -> None:
    params = arrays(0)
    tensors = [torch.nn.Parameter(torch.from_numpy(p.copy())) for p in params]
    optimizer, oracle = opt.Adam(params, lr=0.1), torch.optim.Adam(tensors, lr=0.1)
    for t in range(12):
        grads: list[Any] = list(arrays(t))
        if t % 3 == 1:
            grads[0] = None
        if t in (0, 5):
            grads[1] = None
        for tensor, g in zip(tensors, grads, strict=True):
            tensor.grad = None if g is None else torch.from_numpy(g.copy())
        optimizer.step(grads)
        oracle.step()
    for p, tensor in zip(params, tensors, strict=True):
        np.testing.assert_allclose(p, tensor.detach().numpy(), rtol=1e-12)
    assert [optimizer.state[n]["step"] for n in "01"] == [8, 10]


def test_float32_and_float64_live_in_one_optimizer_under_one_norm() -> None:
    params = [np.ones(4, dtype=np.float32), np.ones(9)]
    optimizer = opt.Optimizer(params, s.chain(s.clip_by_global_norm(1.0), s.sgd(1.0)))
    optimizer.step([np.full(4, 2.0, dtype=np.float32), np.full(9, 2.0)])
    np.testing.assert_allclose(params[0], 1 - 1 / np.sqrt(13), rtol=1e-6)
    np.testing.assert_allclose(params[1], 1 - 1 / np.sqrt(13), rtol=1e-6)


def test_only_and_exclude_choose_parameters_by_name_shape_and_predicate() -> None:
    params = {"a.weight": np.ones((2, 2)), "a.bias": np.ones(2), "head.weight": np.ones((2, 2))}
    chain = s.chain(
        s.exclude(s.add_decayed_weights(0.5), max_ndim=1),
        s.only(s.negate(), "head.*"),
        s.exclude(s.negate(), where=lambda name, shape: name != "a.bias"),
        s.descend(1.0),
    )
    optimizer = opt.Optimizer(params, chain)
    optimizer.step({n: np.zeros_like(p) + 0.25 for n, p in params.items()})
    assert [float(p.flat[0]) for p in params.values()] == [0.25, 1.25, 1.75]
    assert len(optimizer.plan) == 3


# ---- measuring and swapping


def test_measurements_are_read_on_their_steps_per_model_and_per_tensor() -> None:
    params = arrays(0)
    measured = s.measure(
        every=2, total=lambda update: s.norm(update, per="model"), each=lambda grad: s.max(abs(grad), per="tensor")
    )
    optimizer = opt.Optimizer(params, s.chain(measured, s.measure(rate=lambda step: step * 2), s.sgd(0.1)))
    grads = arrays(1)
    optimizer.step(grads)
    assert optimizer.measured == {"rate": 2.0}
    optimizer.step(grads)
    assert optimizer.measured["rate"] == 4.0
    np.testing.assert_allclose(optimizer.measured["total"], np.sqrt(sum(np.sum(g**2) for g in grads)))
    assert optimizer.measured["each"] == {str(i): float(np.abs(g).max()) for i, g in enumerate(grads)}


def test_averages_are_swapped_in_and_out_again_also_on_an_exception() -> None:
    params = arrays(0)
    optimizer = opt.Optimizer(params, s.chain(s.sgd(0.1), s.ema(0.5)))
    with pytest.raises(ValueError, match=re.escape("using: 'average' does not exist before the first step.")):
        optimizer.using("average").__enter__()
    steps(optimizer, 0, 3)
    before, average = [p.copy() for p in params], [optimizer.state[n]["average"].copy() for n in "01"]
    with pytest.raises(ZeroDivisionError), optimizer.using("average"):
        assert same(params, average)
        with pytest.raises(RuntimeError, match="Leave the with block first"):
            optimizer.step(arrays(0))
        with pytest.raises(RuntimeError, match="are swapped for 'average' already"):
            optimizer.using("average").__enter__()
        raise ZeroDivisionError
    assert same(params, before) and same([optimizer.state[n]["average"] for n in "01"], average)
    with pytest.raises(ValueError, match=re.escape("unknown state 'averag'. Did you mean 'average'?")):
        optimizer.using("averag").__enter__()


def test_the_wrapper_spelling_of_lookahead_is_the_chain() -> None:
    wrapped, chained = arrays(0), arrays(0)
    a = opt.Lookahead(opt.RAdam(wrapped, lr=0.1), k=2, alpha=0.8)
    b = opt.Optimizer(chained, s.chain(s.radam(0.1), s.lookahead(2, 0.8)))
    steps(a, 0, 7)
    steps(b, 0, 7)
    assert same(wrapped, chained)
    a.param_groups[0]["lr"] = 0.0
    assert str(a.plan[0].trace.chain) == "scale_by_radam > descend > lookahead"


# ---- clipping in place


@pytest.mark.parametrize("order", [1.0, 2.0, float("inf")])
def test_clip_grad_norm_is_torchs(order: float) -> None:
    grads = arrays(3)
    tensors = [torch.nn.Parameter(torch.zeros_like(torch.from_numpy(g))) for g in grads]
    for t, g in zip(tensors, grads, strict=True):
        t.grad = torch.from_numpy(g.copy())
    total = torch.nn.utils.clip_grad_norm_(tensors, 0.5, order)
    assert opt.clip_grad_norm_(grads, 0.5, order) == pytest.approx(float(total), rel=1e-12)
    for t, g in zip(tensors, grads, strict=True):
        np.testing.assert_allclose(g, t.grad.numpy(), rtol=1e-12)  # type: ignore[union-attr]
    with pytest.raises(FloatingPointError, match="Nothing was changed"):
        opt.clip_grad_norm_([np.array([np.nan, 1.0])], 1.0, error_if_nonfinite=True)


def test_the_other_clips_change_gradients_in_place_in_any_layout() -> None:
    g = np.asfortranarray(arrays(3)[0])
    expected = np.clip(g, -0.1, 0.3)
    opt.clip_grad_value_([g], -0.1, 0.3)
    np.testing.assert_array_equal(g, expected)
    w, g = np.ones((4, 6))[:, ::2], 10 * np.ones((4, 3))
    opt.adaptive_clip_grad_([w], [g], 0.01)
    np.testing.assert_allclose(g, 0.01)
    np.testing.assert_array_equal(w, 1.0)


# ---- state


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_run_continued_from_a_file_in_a_new_process_is_bit_identical(suffix: str, tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys
        import numpy as np, steepest, steepest.numpy as opt
        folder, suffix, start, stop = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
        rng = np.random.default_rng(0)
        params = {"w": rng.normal(size=(3, 4)), "b": rng.normal(size=5)}
        chain = steepest.chain(steepest.clip_by_global_norm(1.0), steepest.nadam(steepest.schedules.cosine(0.1, 50)),
                               steepest.lookahead(3), steepest.ema(0.9, 2, True))
        optimizer = opt.Optimizer(params, chain)
        if start:
            optimizer.load(f"{folder}/state{suffix}")
            with np.load(f"{folder}/params.npz") as file:
                for name, p in params.items():
                    p[...] = file[name]
        for t in range(start, stop):
            r = np.random.default_rng(t)
            grads = {"w": r.normal(size=(3, 4)), "b": None if t == 2 else r.normal(size=5)}
            optimizer.step(grads)
        optimizer.save(f"{folder}/state{suffix}")
        np.savez(f"{folder}/params.npz", **params)
    """)

    def run(folder: Path, start: int, stop: int) -> None:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-W", "error", "-c", script, str(folder), suffix, str(start), str(stop)]
        subprocess.run(command, check=True)

    run(tmp_path / "once", 0, 9)
    run(tmp_path / "twice", 0, 5)
    run(tmp_path / "twice", 5, 9)
    with np.load(tmp_path / "once/params.npz") as a, np.load(tmp_path / "twice/params.npz") as b:
        assert set(a.files) == {"w", "b"} and all(np.array_equal(a[n], b[n]) for n in a.files)


def test_a_state_dict_has_torchs_names_and_restores_schedules_and_plateaus() -> None:
    def made(params: list[np.ndarray]) -> tuple[opt.Optimizer, Any]:
        plateau = s.schedules.ReduceOnPlateau(0.1, patience=0)
        return opt.Adam(params, lr=plateau, betas=(s.schedules.linear(0.5, 0.9, 9), 0.99)), plateau

    params = arrays(0)
    optimizer, plateau = made(params)
    for metric in (1.0, 2.0, 3.0):
        steps(optimizer, 0, 1)
        plateau.step(metric)
    saved = optimizer.state_dict()
    assert set(saved["state"]["0"]) == {"step", "exp_avg", "exp_avg_sq"}
    other = [p.copy() for p in params]
    restored, fresh = made(other)
    restored.load_state_dict(saved)
    assert fresh(0) == plateau(0) < 0.1
    steps(optimizer, 5, 8)
    steps(restored, 5, 8)
    assert same(params, other)


def test_saved_state_is_a_copy() -> None:
    params = arrays(0)
    optimizer = opt.Adam(params)
    steps(optimizer, 0, 1)
    saved = optimizer.state_dict()
    held = saved["state"]["0"]["exp_avg"].copy()
    steps(optimizer, 1, 2)
    np.testing.assert_array_equal(saved["state"]["0"]["exp_avg"], held)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"])
def test_a_copy_continues_on_its_own_arrays(how: Callable[[opt.Optimizer], opt.Optimizer]) -> None:
    params, other = arrays(0), arrays(0)
    optimizer = opt.Lookahead(opt.NAdam(params, lr=0.1), k=3)
    reference = opt.Lookahead(opt.NAdam(other, lr=0.1), k=3)
    steps(optimizer, 0, 4)
    steps(reference, 0, 7)
    made = how(optimizer)
    before = [p.copy() for p in params]
    steps(made, 4, 7)
    assert same(params, before)
    assert same([p for g in made.param_groups for p in g["params"]], other)


# ---- bad input changes nothing

BAD_STEPS: list[tuple[Callable[[], Any], str]] = [
    (lambda: [np.ones((3, 4))], "grads must have one array for each of 2 parameters, got 1."),
    (lambda: [np.ones((3, 4)), np.ones(4)], "the gradient of '1' must have the parameter's shape, (5,), got (4,)."),
    (
        lambda: [np.ones((3, 4)), np.ones(5, dtype=np.float32)],
        "the gradient of '1' must have the parameter's dtype, float64, got float32",
    ),
    (lambda: [np.ones((3, 4)), [1.0] * 5], "the gradient of '1' must be a NumPy array or None, got list."),
    (lambda: np.ones(5), "grads must be a list or a dict of arrays, like params, got ndarray."),
    (lambda: {"0": np.ones((3, 4))}, "grads has no '1'. Pass None for a parameter without a gradient."),
]


@pytest.mark.parametrize(("grads", "message"), BAD_STEPS, ids=[m[:30] for _, m in BAD_STEPS])
def test_a_bad_gradient_is_named_and_nothing_changes(grads: Callable[[], Any], message: str) -> None:
    params = arrays(0)
    optimizer = opt.Adam(params)
    steps(optimizer, 0, 3)
    before, saved = [p.copy() for p in params], optimizer.state_dict()
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        optimizer.step(grads())
    assert same(params, before)
    after = optimizer.state_dict()
    assert after["steps"] == saved["steps"]
    for name, states in saved["state"].items():
        for key, value in states.items():
            np.testing.assert_array_equal(after["state"][name][key], value)


READ_ONLY = np.ones(3)
READ_ONLY.flags.writeable = False
SHARED = np.ones(4)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ([], "Adam: params must have at least one array, got none."),
        (np.ones(3), "Adam: params must be a list or a dict of arrays, got ndarray. Write [array] for one."),
        ([np.ones(3, dtype=int)], "Adam: parameter '0' must have dtype float32 or float64, got int64."),
        ([READ_ONLY], "Adam: parameter '0' must be writable, got a read-only array"),
        ([np.broadcast_to(np.ones(1), 3).view()], "Adam: parameter '0' must be writable, got a read-only array"),
        ([SHARED, SHARED], "Adam: parameters '0' and '1' are the same array. Pass it once."),
        ([SHARED, SHARED[1:]], "share memory. Pass the whole array, or copy one of them."),
        ([[1.0, 2.0]], "Adam: parameter '0' must be a NumPy array, which is changed in place, got list."),
        ([{"params": [np.ones(3)], "lt": 1}], "Adam: group 0: unknown value 'lt'"),
        ([{"param": [np.ones(3)]}], "Adam: group 0 must have 'params', got 'param'."),
    ],
)
def test_a_bad_parameter_is_named(params: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        opt.Adam(params)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: s.adamw(betas=(0.9, 1.0)), "adamw: betas[1] must be in [0, 1), got 1.0. At 1.0 the average never forgets "
         "its initial value."),
        (lambda: s.adam(lr=-1), "adam: lr must be >= 0, got -1."),
        (lambda: s.adam(eps=-1e-8), "adam: eps must be >= 0, got -1e-08."),
        (lambda: s.adam(lr=float("nan")), "adam: lr must be a finite number >= 0, got nan."),
        (lambda: s.adam(lr=True), "adam: lr must be a finite number >= 0 or a schedule, got True."),
        (lambda: s.adam(amsgrad=1), "adam: amsgrad must be True or False, got 1."),
        (lambda: s.lookahead(k=0), "lookahead: k must be a whole number >= 1, got 0."),
        (lambda: s.lookahead(alpha=1.5), "lookahead: alpha must be in [0, 1], got 1.5."),
        (lambda: s.clip_by_value(1, -1), "clip_by_value: low must be < high, got low=1 and high=-1."),
        (lambda: s.clip_by_global_norm(0), "clip_by_global_norm: max_norm must be > 0, got 0."),
        (lambda: s.adaptive_grad_clip(0), "adaptive_grad_clip: clipping must be > 0, got 0."),
        (lambda: s.sgd(0.1, nesterov=True), "sgd: nesterov must be False unless momentum > 0 and dampening = 0, got nesterov=True"),
        (lambda: s.lamb(clamp=(2.0, 1.0)), "lamb: clamp must be (low, high) with low < high, got (2.0, 1.0)."),
        (lambda: s.measure(every=0, x=lambda update: update), "measure: every must be a whole number >= 1, got 0."),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_named_with_its_range(make: Callable[[], Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        make()


def test_a_schedule_that_leaves_the_range_stops_the_step_before_any_change() -> None:
    params = arrays(0)
    optimizer = opt.SGD(params, lr=lambda t: 0.1 - 0.1 * t)
    steps(optimizer, 0, 2)
    before = [p.copy() for p in params]
    with pytest.raises(ValueError, match=re.escape("sgd: lr must be >= 0, got -0.1 at step 2.")):
        steps(optimizer, 2, 3)
    assert same(params, before) and optimizer.steps == 2


def test_state_of_another_structure_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    params = arrays(0)
    optimizer = opt.Adam(params)
    steps(optimizer, 0, 2)
    saved = optimizer.state_dict()
    for other, message in (
        (opt.SGD(arrays(0), momentum=0.9), "group 0 was saved with"),
        (opt.Adam(arrays(0)[:1]), "the state has '1', which isn't a parameter of this optimizer."),
        (opt.Adam([np.ones((3, 4)), np.ones(6)]), "exp_avg of '1' must be float64[6], got float64[5]."),
        (opt.Adam(arrays(0, np.float32)), "exp_avg of '0' must be float32[3, 4], got float64[3, 4]."),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            other.load_state_dict(saved)
        assert other.state == {}
    (tmp_path / "broken.npz").write_bytes(b"PK not really")
    with pytest.raises(ValueError, match=re.escape("broken.npz isn't a state file of steepest")):
        optimizer.load(tmp_path / "broken.npz")
    with pytest.raises(ValueError, match=re.escape("path must end in .npz or .safetensors")):
        optimizer.save(tmp_path / "state.pt")
    assert optimizer.state_dict()["steps"] == saved["steps"]


def test_a_chain_that_makes_no_sense_is_refused_with_its_cure() -> None:
    for chain, message in (
        (s.chain(s.lookahead(), s.adam()), "Move lookahead to the end of the chain."),
        (s.chain(s.adam(), s.clip_by_norm(1.0)), "chain: clip_by_norm changes the update, but adam before it has already "
         "applied it. "
         "Move clip_by_norm before adam."),
        (s.chain(s.adam(), s.sgd()), "A chain applies its update once: remove one of them."),
        (s.clip_by_norm(1.0), "computes an update but never applies it. End it with descend(lr)"),
        (s.chain(), "the chain is empty."),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=re.escape(message)):
            opt.Optimizer(arrays(0), chain)
    with pytest.raises(TypeError, match=re.escape("Optimizer: chain must be a chain, got adam. Call it: adam(…).")):
        opt.Optimizer(arrays(0), s.adam)  # type: ignore[arg-type]


# ---- processes, threads, the cache

ONE_STEP = """
import warnings
import numpy as np, steepest, steepest.numpy as opt
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    w = np.ones(3)
    optimizer = opt.Adam([w], lr=0.5)
    for _ in range(3):
        optimizer.step([np.ones(3)])
assert np.allclose(w, -0.5), w
print(len(caught), *[str(c.message) for c in caught])
"""


def in_process(script: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_second_process_adds_nothing_to_the_cache_and_compiles_nothing(tmp_path: Path) -> None:
    assert in_process(ONE_STEP, STEEPEST_CACHE_DIR=str(tmp_path)) == "0"
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert any(path.suffix == ".nbc" for path in files)
    assert in_process(ONE_STEP, STEEPEST_CACHE_DIR=str(tmp_path)) == "0"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == files


def test_a_cache_that_cannot_be_written_costs_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    said = in_process(ONE_STEP, STEEPEST_CACHE_DIR=str(tmp_path / "file" / "cache"))
    assert said == (
        f"1 steepest: the cache folder isn't used, and steps are compiled again in every process: {tmp_path}/file/cache can't be "
        f"written (Not a directory). Set STEEPEST_CACHE_DIR to a folder that can be written."
    )


COMPILED_AND_WARNED = f"""
from steepest.engines.numba import kernels
saved = []
save = kernels._Kept.save_overload
kernels._Kept.save_overload = lambda self, *compiled: (saved.append(self.stem), save(self, *compiled))
{ONE_STEP}
print(sum(stem.startswith("step") for stem in saved))
"""


def test_of_several_processes_with_an_empty_cache_one_compiles_and_the_others_wait_for_it(tmp_path: Path) -> None:
    environment = {**os.environ, "STEEPEST_CACHE_DIR": str(tmp_path)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", COMPILED_AND_WARNED], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    assert sorted(one.communicate()[0].split() for one in running) == [["0", "0"], ["0", "0"], ["0", "1"]]


def test_a_process_that_compiles_too_long_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEEPEST_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "_PATIENCE", 0.1)
    began = time.monotonic()
    with cache.alone("a"), cache.alone("a"):
        assert 0.1 <= time.monotonic() - began < 10


def test_without_numba_the_array_engine_runs_with_one_warning() -> None:
    said = in_process("import sys; sys.modules['numba'] = None\n" + ONE_STEP)
    assert said.startswith("1 steepest: the cpu engine is not available") and "pip install numba" in said


def test_a_forked_child_can_step_with_threads() -> None:
    script = """
import os
import numpy as np, steepest.numpy as opt
os.environ["STEEPEST_NUM_THREADS"] = "2"
w = np.ones(1_000_000, dtype=np.float32)
optimizer = opt.SGD([w], lr=1.0)
optimizer.step([np.ones_like(w)])
child = os.fork()
if child == 0:
    optimizer.step([np.ones_like(w)])
    os._exit(0 if np.all(w == -1) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert in_process(script) == "0"


def test_two_optimizers_step_in_two_threads_at_once() -> None:
    def run(seed: int, out: dict[int, list[np.ndarray]]) -> None:
        rng = np.random.default_rng(seed)
        params = [rng.normal(size=(300, 400)).astype(np.float32) for _ in range(3)]
        optimizer = opt.LAMB(params, lr=0.01)
        for _ in range(20):
            optimizer.step([rng.normal(size=(300, 400)).astype(np.float32) for _ in range(3)])
        out[seed] = params

    alone: dict[int, list[np.ndarray]] = {}
    together: dict[int, list[np.ndarray]] = {}
    for seed in (0, 1):
        run(seed, alone)
    threads = [threading.Thread(target=run, args=(seed, together)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same(alone[0], together[0]) and same(alone[1], together[1])


def test_the_named_classes_show_their_recipes_arguments_and_words() -> None:
    import inspect

    assert list(inspect.signature(opt.Adam).parameters)[:3] == ["params", "lr", "betas"]
    assert "Kingma & Ba" in (opt.Adam.__doc__ or "")
    assert "exp_avg" in opt.Adam(arrays(0)).plan.source()
    assert plan(s.adam()).bytes_per_parameter() == 28
    assert opt.Adam([np.ones(3, dtype=np.float32)]).plan.bytes_per_parameter() == 28
    assert opt.Adam(arrays(0)).plan.bytes_per_parameter() == 56
