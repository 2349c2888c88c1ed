"""The library's workloads: they learn, they repeat themselves bit by bit, and their data are the ones they say."""

from __future__ import annotations

import hashlib
import itertools
import json
import lzma
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import steepest
import steepest.numpy as opt
from steepest.workbench import digits
from steepest.workbench.digits import initial
from steepest.workbench.parse import parse
from steepest.workbench.training import train
from steepest.workbench.workload import BUILT_IN, ArrayTask, TorchTask, Workload, find, workload
from steepest.workbench.workloads import data, digits_mlp, quadratics, rnn_memory
from steepest.workbench.workloads.sampling import batches, split

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = {
    "sgd", "sgd(momentum", "adagrad", "rmsprop", "adadelta", "adamax", "nadam", "radam", "adamw", "adam", "lion", "lamb", "lars",
}  # fmt: skip

# By workload: a chain that suits it, steps enough to see it learn, the share of the initial metric it must fall below; the
# metric of whoever knows nothing but the average, and how near the initial one must be.
ROWS = {
    "digits-mlp": ("sgd(0.3)", 60, 0.5, math.log(10), 0.4),
    "quadratics": ("sgd(0.3)", 60, 0.1, 1.0, 1e-9),
    "quadratics-ill-conditioned": ("sgd(0.3)", 60, 0.3, 1.0, 1e-9),
    "quadratics-noisy": ("sgd(0.1)", 60, 0.3, 1.0, 1e-9),
    "mnist-cnn": ("adam(0.003)", 25, 0.9, math.log(10), 0.02),
    "mnist-cnn-large-batch": ("adam(0.01)", 8, 0.9, math.log(10), 0.02),
    "unicode-bow": ("adam(0.01)", 100, 0.6, math.log(22), 0.1),
    "unicode-bow-sparse": ("sgd(0.3)", 100, 0.7, math.log(22), 0.1),
    "rnn-memory": ("sgd(0.01)", 40, 0.2, 7 / 6, 0.1),
    "rnn-memory-order": ("clip_by_global_norm(1.0) | sgd(0.1)", 200, 1.1, math.log(4), 0.1),
    "char-gpt": ("adam(0.003)", 10, 0.9, math.log(62), 0.1),
    "char-gpt-post-norm": ("adam(0.003)", 8, 0.95, math.log(62), 0.1),
    "autoencoder": ("adam(0.003)", 30, 0.5, math.log(2), 0.01),
    "diamonds": ("adam(0.01)", 100, 0.4, 1.0146, 0.1),
    "diamonds-large-batch": ("adam(0.01)", 10, 0.7, 1.0146, 0.1),
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_every_workload_has_its_row_here() -> None:
    assert ROWS.keys() == BUILT_IN.keys()


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_workload_says_what_it_is(name: str) -> None:
    work = find(name)
    assert work.name == name and work.about and work.source and work.seconds
    assert set(work.rates) <= FAMILIES and {"sgd", "adam", "adamw"} & set(work.rates)
    assert work.target is not None and work.cost(work.target) < work.cost(work.failed * 0.99) < math.inf


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_workload_starts_where_guessing_is_and_learns(name: str) -> None:
    chain, steps, share, guessing, near = ROWS[name]
    work = find(name).with_steps(steps)
    before = work.start(0).evaluate("validation")[work.metric]
    run = train(work, parse(chain), seed=0)
    assert before == pytest.approx(guessing, abs=near)
    assert not run.failed and run.validation[work.metric] < share * before
    assert run.validation.keys() == run.test.keys() and len(run.curve) == min(steps, 50)


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_same_seed_gives_the_same_run_to_the_bit_and_another_seed_another(name: str) -> None:
    work, chain = find(name).with_steps(2), parse(ROWS[name][0])
    first, again, other = (train(work, chain, seed) for seed in (0, 0, 1))
    assert (first.curve, first.losses, first.test) == (again.curve, again.losses, again.test)
    assert first.losses != other.losses and first.validation != other.validation


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_batch_depends_on_seed_and_step_alone(name: str) -> None:
    task, again = find(name).start(3), find(name).start(3)
    later = task.gradients(2)[0]
    assert task.gradients(1)[0] == again.gradients(1)[0]
    assert later == again.gradients(2)[0]


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_workload_leaves_the_generators_of_the_process_alone(name: str) -> None:
    before, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()
    task = find(name).start(0)
    task.gradients(0)
    assert torch.equal(torch.get_rng_state(), before) and (np.random.get_state()[1] == numpys).all()


# ---- data


@pytest.mark.parametrize("name", data.FILES)
def test_a_packed_file_holds_what_it_should(name: str) -> None:
    assert data.unpacked(data.FOLDER / name)
    assert data.FILES[name].sha256 in (data.FOLDER / "README.md").read_text(encoding="utf-8")


CURE = "Install steepest again, or make the file again with tools/pack_data.py."


def test_another_content_is_refused(tmp_path: Path) -> None:
    content = b"In the beginning was the Word"
    path = tmp_path / "kjv_1m.xz"
    path.write_bytes(lzma.compress(content))
    with pytest.raises(ValueError) as caught:
        data.unpacked(path)
    found, allowed = hashlib.sha256(content).hexdigest(), data.FILES["kjv_1m.xz"].sha256
    assert str(caught.value) == f"kjv_1m.xz: SHA-256 must be {allowed}, got {found}. {CURE}"


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    content = bytearray((data.FOLDER / "diamonds.xz").read_bytes())
    if damage == "cut":
        content = content[:-1000]
    else:
        content[len(content) // 2] ^= 1
    path = tmp_path / "diamonds.xz"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"^diamonds\.xz: the file is damaged \(.+\)\. SHA-256 must be 37179f82.+pack_data\.py\.$"
    ):
        data.unpacked(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        data.unpacked(tmp_path / "mnist_5k.xz")
    assert str(caught.value) == f"mnist_5k.xz: the file is missing in {tmp_path}. {CURE}"


def test_other_unicode_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "UNICODE", data.File("0" * 64, "nowhere"))
    with pytest.raises(
        ValueError, match=r"^unicodedata\.ucd_3_2_0: SHA-256 of the names and categories must be 0+, got f20c13"
    ):
        data.unicode_names.__wrapped__()


def test_the_digits_are_those_of_scikit_learn_split_by_class() -> None:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    rest_x, test_x, rest_y, test_y = train_test_split(x, y, test_size=300, stratify=y, random_state=0)
    train_x, val_x, train_y, val_y = train_test_split(rest_x, rest_y, test_size=240, stratify=rest_y, random_state=0)
    expected = {"train": (train_x, train_y), "validation": (val_x, val_y), "test": (test_x, test_y)}
    found = digits.data()
    assert found.keys() == expected.keys()
    for part, arrays in expected.items():
        for ours, theirs in zip(found[part], arrays, strict=True):
            assert ours.dtype == theirs.dtype and ours.flags.c_contiguous and np.array_equal(ours, theirs)


def test_the_data_are_the_known_ones() -> None:
    images, digits = data.mnist()
    assert images.shape == (5000, 784) and np.bincount(digits).tolist() == [500] * 10
    assert len(np.unique(images, axis=0)) == 5000
    table = data.diamonds()
    assert {name: column[0] for name, column in table.items()} == {
        "carat": 0.23, "depth": 61.5, "table": 55, "price": 326, "x": 3.95, "y": 3.98, "z": 2.43,
        "cut": 4, "color": 5, "clarity": 1,
    }  # fmt: skip
    assert len(table["price"]) == 53_940 and table["price"].max() == 18_823 and table["carat"].max() == 5.01
    assert (
        data.kjv().startswith("In the beginning God created the heaven and the earth.\n") and len(set(data.kjv())) == 62
    )
    names, categories = data.unicode_names()
    assert len(names) == len(set(names)) == 11_721 and categories[names.index("LATIN SMALL LETTER A")] == "Ll"


@pytest.mark.parametrize("labels", [np.repeat(np.arange(10), 500), np.zeros(1003, dtype=int), np.arange(3000) % 7 % 3])
def test_parts_are_disjoint_and_complete_and_every_class_is_in_each(labels: np.ndarray) -> None:
    parts = split(labels, 0.1, 0.2)
    together = np.concatenate([*parts.values()])
    assert sorted(together) == list(range(len(labels)))
    for part, share in (("validation", 0.1), ("test", 0.2)):
        assert np.bincount(labels[parts[part]]) == pytest.approx(share * np.bincount(labels), abs=1)


def test_every_epoch_has_every_example_once_in_an_order_of_its_own() -> None:
    order = batches(103, 10, seed=5)
    epochs = [np.concatenate([order(11 * epoch + i) for i in range(11)]) for epoch in range(3)]
    assert all(sorted(epoch) == list(range(103)) for epoch in epochs)
    assert all((a != b).any() for a, b in itertools.combinations([*epochs, batches(103, 103, seed=6)(0)], 2))


def test_the_two_kinds_of_sequences_follow_their_rule() -> None:
    x, y = rnn_memory.marked_sum(np.random.default_rng(0), 500, 31)
    assert (x[:15, :, 1].sum(axis=0) == 1).all() and (x[15:, :, 1].sum(axis=0) == 1).all()
    assert y[:, 0] == pytest.approx((x[..., 0] * x[..., 1]).sum(axis=0))
    x, y = rnn_memory.ordered_pair(np.random.default_rng(0), 500, 30)
    for sequence, label in zip(x.argmax(axis=2).T, y, strict=True):
        first, second = (int(symbol) - 4 for symbol in sequence if symbol >= 4)
        assert label == 2 * first + second


# ---- gradients and formulas


def test_gradients_of_the_digits_network_are_the_differences_of_its_loss() -> None:
    rng = np.random.default_rng(0)
    params = {name: p.astype(np.float64) for name, p in initial(0).items()}
    x, y = rng.random((20, 64)), rng.integers(0, 10, 20)
    _, grads = digits_mlp.loss_and_gradients(params, x, y)
    for name, p in params.items():
        for at in [tuple(rng.integers(0, p.shape)) for _ in range(10)]:
            value, losses = p[at], []
            for p[at] in (value + 1e-6, value - 1e-6):
                losses.append(digits_mlp.loss_and_gradients(params, x, y)[0])
            p[at] = value
            assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(grads[name][at], abs=1e-7)


@pytest.mark.parametrize("name", ["quadratics", "quadratics-ill-conditioned", "quadratics-noisy"])
def test_gradients_of_a_quadratic_are_the_differences_of_its_value_up_to_the_noise(name: str) -> None:
    task = find(name).start(0)
    x = task.params["x"]
    grad = np.mean([task.gradients(step)[1]["x"] for step in range(400 if "noisy" in name else 1)], axis=0)
    for i in range(0, 100, 9):
        value, losses = x[i], []
        for x[i] in (value + 1e-4, value - 1e-4):
            losses.append(task.gradients(0)[0])
        x[i] = value
        assert (losses[0] - losses[1]) / 2e-4 == pytest.approx(grad[i], abs=0.025 if "noisy" in name else 1e-9)


@pytest.mark.parametrize("condition", [100.0, 1000.0])
def test_descent_contracts_at_the_exact_rates(condition: float) -> None:
    eigenvalues = np.geomspace(1 / condition, 1, 10)
    gradient_descent, heavy_ball, nesterov = (
        best(1 / condition, 1.0)
        for best in (quadratics.best_gradient_descent, quadratics.best_heavy_ball, quadratics.best_nesterov)
    )
    lr, momentum, rate = heavy_ball
    assert quadratics.gradient_descent_rate(gradient_descent[0], eigenvalues) == pytest.approx(gradient_descent[1])
    assert quadratics.heavy_ball_rate(lr, momentum, eigenvalues) == pytest.approx(rate, rel=1e-6)
    assert quadratics.nesterov_rate(*nesterov[:2], eigenvalues) == pytest.approx(nesterov[2], rel=1e-6)
    for chain, expected, grows in (
        (steepest.sgd(gradient_descent[0]), gradient_descent[1], False),
        (steepest.sgd(lr, momentum=momentum), rate, True),  # a double root: the distance is t times the power
        (steepest.sgd(nesterov[0], momentum=nesterov[1], nesterov=True), nesterov[2], True),
    ):
        assert _contraction(chain, eigenvalues, steps=4000) == pytest.approx(expected, abs=0.006 if grows else 1e-6)


def _contraction(chain: steepest.Chain, eigenvalues: np.ndarray, steps: int) -> float:
    """By which factor the distance shrinks in a step, over the last quarter. Rescaled on the way: it would underflow."""
    x = np.ones_like(eigenvalues)
    optimizer = opt.Optimizer([x], chain, engine="arrays")
    distances = []
    for _ in range(steps):
        optimizer.step([eigenvalues * x])
        distances.append(float(np.linalg.norm(x)))
    reached = [d for d in distances if d > 1e-250]
    quarter = len(reached) // 4
    return (reached[-1] / reached[-1 - quarter]) ** (1 / quarter)


@pytest.mark.parametrize(
    ("lr", "curvature", "momentum"), [(0.1, 1.0, 0.0), (0.1, 1.0, 0.9), (0.5, 2.0, 0.5), (0.2, 0.5, 0.9)]
)
def test_noise_keeps_sgd_at_the_stationary_variance(lr: float, curvature: float, momentum: float) -> None:
    x = _settled(steepest.sgd(lr, momentum=momentum), curvature, noise=1.5, steps=200)
    assert x.var() == pytest.approx(quadratics.stationary_variance(lr, curvature, 1.5, momentum), rel=0.03)


@pytest.mark.parametrize(("k", "alpha"), [(5, 0.5), (10, 0.8), (5, 1.0)])
def test_lookahead_has_the_smaller_variance_of_its_paper(k: int, alpha: float) -> None:
    chain = steepest.chain(steepest.sgd(0.2), steepest.lookahead(k=k, alpha=alpha))
    x = _settled(chain, 1.0, noise=1.0, steps=20 * k)
    expected = quadratics.lookahead_variance(0.2, 1.0, 1.0, k, alpha)
    assert x.var() == pytest.approx(expected, rel=0.03)
    assert (expected < quadratics.stationary_variance(0.2, 1.0, 1.0)) == (alpha < 1)


def test_lookahead_contracts_at_its_rate() -> None:
    x = np.ones(1)
    optimizer = opt.Optimizer(
        [x], steepest.chain(steepest.sgd(0.1), steepest.lookahead(k=5, alpha=0.5)), engine="arrays"
    )
    for _ in range(5):
        optimizer.step([x.copy()])
    assert x[0] == pytest.approx(quadratics.lookahead_rate(0.1, 5, 0.5, [1.0]))


def _settled(chain: steepest.Chain, curvature: float, noise: float, steps: int) -> np.ndarray:
    """100,000 coordinates of one curvature after so many steps with noise of their own."""
    rng = np.random.default_rng(0)
    x = np.zeros(100_000)
    optimizer = opt.Optimizer([x], chain, engine="arrays")
    for _ in range(steps):
        optimizer.step([curvature * x + noise * rng.normal(size=x.size)])
    return x


def test_sparse_gradients_train_as_dense_ones_do() -> None:
    dense, sparse = (
        train(find(name).with_steps(40), parse("sgd(0.3)"), 0) for name in ("unicode-bow", "unicode-bow-sparse")
    )
    assert sparse.losses == pytest.approx(dense.losses, rel=1e-5)
    task = find("unicode-bow-sparse").start(0)
    task.gradients(0)
    assert task.params["words.weight"].grad.is_sparse


# ---- one's own, and without PyTorch


def test_the_example_of_ones_own_workload_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    work = find("examples/own_workload.py:circles")
    assert work.name == "examples/own_workload.py:circles" and work.about.startswith("Inside or outside of a circle")
    run = train(work, parse("adam(0.01)"), seed=0)
    assert not run.failed and run.validation["loss"] < 0.2 < run.losses[0]


def test_a_loss_that_is_no_tensor_is_named_with_the_function_that_returned_it() -> None:
    def loss(step: int) -> float:
        return 0.5

    line = loss.__code__.co_firstlineno
    task = TorchTask(torch.nn.Linear(2, 1), loss, lambda part: {})
    with pytest.raises(TypeError) as caught:
        task.gradients(3)
    assert str(caught.value) == (
        f"TorchTask: loss (test_workloads.py:{line}) must return a tensor of one element, got 0.5 (float) for step 3. Return "
        "the loss itself, without .item() or float()."
    )


def test_the_steps_that_compile_are_left_out_of_the_time_of_a_step() -> None:
    work = find("quadratics")
    assert train(work.with_steps(2), parse("sgd(0.1)"), 0).step_microseconds == 0.0
    assert 0 < train(work.with_steps(3), parse("sgd(0.1)"), 0).step_microseconds < 1e5


def test_without_pytorch_one_line_says_so_and_the_numpy_workloads_run() -> None:
    code = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name=name)
sys.meta_path.insert(0, Missing())
from steepest.workbench.workload import find
for name in ("digits-mlp", "quadratics"):
    find(name).start(0).gradients(0)
try:
    find("char-gpt")
except ModuleNotFoundError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == (
        "workload char-gpt: it needs PyTorch. Install steepest[torch], or compare on digits-mlp or quadratics, "
        "which need no framework.\n"
    )


def constant(gap: Any, loss: Any = 1.0) -> Workload:
    def start(seed: int) -> ArrayTask:
        x = np.ones(3)
        return ArrayTask({"x": x}, lambda step: (loss, {"x": x.copy()}), lambda part: {"gap": gap})

    return Workload("constant", start, steps=3, metric="gap")


@pytest.mark.parametrize("gap", [np.float32(0.5), np.array(0.5), torch.tensor(0.5)])
def test_measures_of_numpy_and_torch_are_kept_as_numbers(gap: object) -> None:
    made = train(constant(gap, np.float32(1)), steepest.sgd(0.1), 0)
    assert (made.cost, made.test) == (0.5, {"gap": 0.5})
    json.dumps(made.to_json())


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (constant("low"), "workload constant: evaluate must return numbers, got 'low' (str) as 'gap' for 'validation'."),
        (constant([1, 2]), "workload constant: evaluate must return numbers, got [1, 2] (list) as 'gap' for 'validation'."),
        (constant(1.0, "high"), "ArrayTask: <lambda> (test_workloads.py:"),
    ],
)  # fmt: skip
def test_what_is_no_number_is_refused_with_who_returned_it(work: Workload, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        train(work, steepest.sgd(0.1), 0)
    assert str(caught.value).startswith(message)


def test_a_function_that_is_no_workload_says_what_is_missing() -> None:
    def start(seed: int) -> Any: ...

    def seedless() -> Any: ...

    for given, facts, message in (
        (start, {"step": 3}, "workload start: unknown argument 'step'. Did you mean 'steps'?"),
        (start, {}, "workload start: steps, the length of a run, is missing. Write @workload(steps=300)."),
        (
            seedless,
            {"steps": 3},
            "workload seedless: the function must take only the seed, got the signature () -> 'Any'.",
        ),
    ):
        with pytest.raises(TypeError) as caught:
            workload(**facts)(given)  # type: ignore[arg-type]  # that is the mistake
        assert str(caught.value).startswith(message)
    with pytest.raises(
        TypeError, match=r"^workload: arguments must be given by name, got .* Write @workload\(steps=300\)\.$"
    ):
        workload(start)
