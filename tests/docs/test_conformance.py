"""The conformance page says what comes out when the libraries run: of those that the tests install, each line again."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import steepest.numpy
import steepest.torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
conformance: Any = importlib.import_module("conformance")
keras: Any = importlib.import_module("conformance_keras")
sys.path.remove(str(ROOT / "tools"))
TESTED = ("torch", "optax", "timm")


# timm compiles its optimizers by what this PyTorch deprecates.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("row", [r for r in conformance.ROWS if r.library in TESTED], ids=lambda row: row.key)
def test_each_call_agrees_or_differs_as_the_page_says(row: Any) -> None:
    found, written = conformance.measured(row), conformance.known()[row.key]
    assert found.version == written.version, "measure again: python tools/conformance.py --write"
    assert found.same <= conformance.SAME
    assert found.plain == pytest.approx(written.plain, rel=1e-2, abs=1e-12)
    assert (found.plain > 1e-9) == bool(row.same), "a convention is named exactly where the plain call differs"
    assert bool(row.convention) == bool(row.same)


MUTATIONS = [
    ("optax: optax.adagrad(0.1)", "full(0.1)", "full(0.0)"),
    (
        "optax: optax.adagrad(0.1)",
        "steepest.sqrt(state.sum_of_squares + eps)",
        "(steepest.sqrt(state.sum_of_squares) + eps)",
    ),
    (
        "optax: optax.rmsprop(0.01, decay=0.99)",
        "steepest.sqrt(state.square_avg + eps)",
        "(steepest.sqrt(state.square_avg) + eps)",
    ),
    ("optax: optax.amsgrad(0.01)", "state.exp_avg_sq / (1 - beta2**step))\n", "state.exp_avg_sq)\n"),
    ("optax: optax.nadam(0.01)", "(1 - beta1 ** (step + 1))", "(1 - beta1**step)"),
    ("timm: timm.NAdamW(params, lr=0.01, weight_decay=0.0)", "/ (1 - beta1**step) /", "/ (1 - beta1 ** (step + 1)) /"),
    (
        "optax: optax.radam(0.01)",
        "steepest.sqrt(state.exp_avg_sq / (1 - beta2**step)) + eps",
        "steepest.sqrt(state.exp_avg_sq) + eps",
    ),
    ("timm: timm.Lamb(params, lr=0.01, weight_decay=0.1)", "max_norm)\n", "(max_norm + 1e-6))\n"),
    ("timm: timm.Lamb(params, lr=0.01, weight_decay=0.0)", "steepest.adam(", "steepest.lamb("),
    ("pytorch_optimizer: pytorch_optimizer.Lamb(params, lr=0.01, weight_decay=0.1)", ", 10.0)", ", 1e9)"),
    (
        "pytorch_optimizer: pytorch_optimizer.Lamb(params, lr=0.01, weight_decay=0.1)",
        "bias_correction=False",
        "bias_correction=True",
    ),
    ("pytorch_optimizer: pytorch_optimizer.Lamb(params, lr=0.01, weight_decay=0.1)", "norm(decayed", "norm(param"),
    (
        "pytorch_optimizer: pytorch_optimizer.RAdam(params, lr=0.01)",
        "0.0 * update",
        "state.exp_avg / (1 - beta1**step)",
    ),
    ("timm: timm.Lars(params, lr=1.0, momentum=0.9, weight_decay=0.1)", "eps=1e-8, ", ""),
    ("timm: timm.Lars(params, lr=1.0, momentum=0.9, weight_decay=0.1)", "norms_apart=True, ", ""),
    ("optax: optax.chain(optax.adaptive_grad_clip(0.05), optax.sgd(0.1))", "axis=-1", "axis=0"),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("key", "piece", "other"), MUTATIONS, ids=[f"{key} without {piece}" for key, piece, _ in MUTATIONS]
)
def test_a_named_convention_is_needed_for_the_agreement(key: str, piece: str, other: str) -> None:
    row = next(row for row in conformance.ROWS if row.key == key)
    if not conformance.installed(row.library):
        pytest.skip(f"{row.library} is not installed")
    assert (row.same + row.prelude).count(piece) >= 1
    mutant = replace(row, same=row.same.replace(piece, other), prelude=row.prelude.replace(piece, other))
    assert conformance.agreement(mutant, conformance.theirs(row)) > 3 * conformance.SAME


def test_tensors_that_are_set_apart_do_not_agree() -> None:
    apart = [row for row in conformance.ROWS if row.apart]
    assert apart
    for row in apart:
        assert conformance.agreement(replace(row, apart=0), conformance.theirs(row)) > 1e-3


def test_the_page_is_the_one_that_the_rows_and_figures_make() -> None:
    known = conformance.known()
    assert [row.key for row in conformance.ROWS] == list(known)
    assert (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8") == conformance.page(known)
    assert all(one.same <= conformance.SAME for one in known.values())


# ---- Keras' golden numbers


def steps_in_numpy(chain: Any, engine: str) -> Iterator[np.ndarray]:
    weights = np.ones(10, np.float32)
    optimizer = steepest.numpy.Optimizer([weights], chain, engine=engine)
    for grad in keras.gradients():
        optimizer.step([grad])
        yield weights


def steps_in_torch(chain: Any, engine: str) -> Iterator[np.ndarray]:
    weights = torch.nn.Parameter(torch.ones(10))
    optimizer = steepest.torch.Optimizer([weights], chain, engine=engine)
    for grad in keras.gradients():
        weights.grad = torch.from_numpy(grad.copy())
        optimizer.step()
        yield weights.detach().numpy()


@pytest.mark.parametrize("engine", ["cpu", "arrays"])
@pytest.mark.parametrize("steps", [steps_in_numpy, steps_in_torch])
@pytest.mark.parametrize("case", keras.CASES, ids=lambda case: case.theirs)
def test_weights_are_the_golden_numbers_of_keras(case: Any, steps: Any, engine: str) -> None:
    expected = keras.golden(case.name)
    assert expected.shape == (5, 10)
    for number, weights in enumerate(steps(keras.chain_of(case.ours, case.prelude), engine)):
        assert keras.agrees(weights, expected[number]), (number, weights - expected[number])


def test_the_plain_call_misses_the_golden_numbers_exactly_where_a_convention_of_keras_is_named() -> None:
    for case in keras.CASES:
        assert bool(case.plain) == bool(case.convention)
        if case.plain:
            assert keras.difference(case, case.plain) > 100 * keras.difference(case, case.ours)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (steepest.clip_by_norm(1.0), [2**0.5 / 2] * 2),
        (steepest.clip_by_global_norm(1.0), [2**0.5 / 2] * 2),
        (steepest.clip_by_value(-1.0, 1.0), [1.0, 1.0]),
    ],
    ids=str,
)
def test_clipping_gives_what_keras_expects_of_clipnorm_and_clipvalue(make: Any, expected: list[float]) -> None:
    weights = np.zeros(2)
    steepest.numpy.Optimizer([weights], steepest.chain(make, steepest.descend(1.0))).step([np.array([100.0, 100.0])])
    np.testing.assert_allclose(-weights, expected, rtol=1e-6)


def test_an_average_starts_at_the_first_weights_as_keras_has_it() -> None:
    weights = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    chain = steepest.chain(steepest.adam(1.0, eps=1e-7), steepest.ema(0.9))
    optimizer = steepest.torch.Optimizer([weights], chain)
    weights.grad = torch.tensor([0.1, 0.2])
    optimizer.step()
    first = weights.detach().clone()
    torch.testing.assert_close(optimizer.state[weights]["average"], first)
    optimizer.step()
    expected = 0.9 * first + 0.1 * weights.detach()
    torch.testing.assert_close(optimizer.state[weights]["average"], expected)
