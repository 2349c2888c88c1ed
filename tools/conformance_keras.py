"""Keras' golden numbers: the weights that its own tests expect, and the calls of ours that give them.

Each test of Keras starts ten weights at 1, takes one step on gradients of 0.01, then four steps on 0.1, 0.2, …, 1.0, and lists the
weights after each step to four digits. Keras itself doesn't run here. The figures are in docs/keras_golden.json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import steepest as s
import steepest.numpy

__all__ = ["CASES", "TOLERANCE", "Case", "agrees", "chain_of", "difference", "golden", "gradients", "section"]

GOLDEN = Path(__file__).parents[1] / "docs" / "keras_golden.json"
TOLERANCE = 5e-4
"""Keras' own, relative and absolute."""


@dataclass(frozen=True)
class Case:
    """A call of Keras and the text of ours that gives its numbers, after ``prelude``.

    ``plain`` is the call that one would write first, where that gives other numbers, and ``convention`` says why.
    """

    name: str
    theirs: str
    ours: str
    plain: str = ""
    prelude: str = ""
    convention: str = ""


_ADAM = """
@steepest.rule(m=steepest.zeros, v=steepest.zeros)
def scale_by_keras_adam(
    update, state, step, *, beta1: steepest.Decay = 0.9, beta2: steepest.Decay = 0.999, eps: steepest.Positive = 1e-7
):
    state.m = beta1 * state.m + (1 - beta1) * update
    state.v = beta2 * state.v + (1 - beta2) * update**2
    return state.m * steepest.sqrt(1 - beta2**step) / (1 - beta1**step) / (steepest.sqrt(state.v) + eps)
"""

CASES = [
    Case("sgd", "SGD(nesterov=True)", "steepest.sgd(0.01)"),
    Case("adam", "Adam(amsgrad=True)", "steepest.adam(0.001, eps=1e-7, amsgrad=True)"),
    Case(
        "adamw", "AdamW(1.0, weight_decay=0.5, epsilon=2)",
        "steepest.chain(\n    scale_by_keras_adam(eps=2.0),\n    steepest.add_decayed_weights(0.5),\n    steepest.descend(1.0),\n)",
        "steepest.adamw(1.0, eps=2.0, weight_decay=0.5)", _ADAM,
        "eps is added to the root of the uncorrected second moment. With the usual small eps the two differ only in the first "
        "steps.",
    ),
    Case("adamax", "Adamax(0.2, 0.85, 0.95, epsilon=1e-6)", "steepest.adamax(0.2, (0.85, 0.95), eps=1e-6)"),
    Case(
        "nadam", "Nadam(0.5, 0.5, 0.67, epsilon=1e-5)", "steepest.nadam(0.5, (0.5, 0.67), eps=1e-5, momentum_decay=1.0)",
        "steepest.nadam(0.5, (0.5, 0.67), eps=1e-5)",
        convention="the momentum decay is 1. torch and this library use 0.004 by default.",
    ),
    Case("rmsprop", "RMSprop(centered=True)", "steepest.rmsprop(0.001, 0.9, eps=1e-7, centered=True)"),
    Case(
        "adagrad", "Adagrad(0.2, initial_accumulator_value=0.3, epsilon=1e-6)",
        "steepest.adagrad(0.2, initial_accumulator_value=0.3, eps=1e-6)",
    ),
    Case("adadelta", "Adadelta(1.0, rho=0.8, epsilon=1e-6)", "steepest.adadelta(1.0, 0.8, eps=1e-6)"),
    Case("lion", "Lion()", "steepest.lion(0.001, (0.9, 0.99))"),
    Case("lamb", "Lamb()", "steepest.lamb(0.001, eps=1e-7)"),
]  # fmt: skip


def golden(name: str) -> NDArray[np.float64]:
    """The weights after each of the five steps."""
    return np.array(json.loads(GOLDEN.read_text(encoding="utf-8"))["golden"][name])


def gradients() -> list[NDArray[np.float32]]:
    """The gradients of the five steps."""
    return [np.full(10, 0.01, np.float32), *[np.arange(0.1, 1.1, 0.1).astype(np.float32)] * 4]


def chain_of(text: str, prelude: str = "") -> Any:
    """The chain that a text of a case gives."""
    space: dict[str, Any] = {"steepest": s}
    exec(prelude, space)
    return eval(text, space)


def difference(case: Case, text: str) -> float:
    """The largest difference of any weight at any step between a call of ours and the golden numbers."""
    weights = np.ones(10)
    optimizer = steepest.numpy.Optimizer([weights], chain_of(text, case.prelude), engine="arrays")
    found = []
    for grad in gradients():
        optimizer.step([grad.astype(np.float64)])
        found.append(weights.copy())
    return float(np.abs(np.array(found) - golden(case.name)).max())


def agrees(found: Any, expected: Any) -> bool:
    """Whether weights are the golden ones by Keras' own measure."""
    return np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


def section() -> list[str]:
    """The part of the page about Keras."""
    lines = [
        "## Keras",
        "",
        "Keras was not run. Its tests list the weights that they expect after each of five steps, to four digits "
        "(`keras/src/optimizers/*_test.py`; the figures are in `docs/keras_golden.json`). Our calls ran on the same gradients. The "
        "table shows the largest difference of any weight. Keras allows 5e-4, relative and absolute. Rounding to four digits "
        "explains 5e-5. For Adam and LAMB Keras lists one figure for ten weights that differ slightly.",
        "",
        "| Keras' call | ours | difference |",
        "| --- | --- | ---: |",
    ]
    for case in CASES:
        text = case.plain or case.ours
        lines.append(f"| `{case.theirs}` | `{text}` | {_number(difference(case, text))} |")
    for case in CASES:
        if case.convention:
            parts = ["import steepest", *([case.prelude.strip()] if case.prelude else []), f"chain = {case.ours}"]
            lines += [
                "",
                f"**Keras**: {case.convention}",
                "",
                "```python",
                ("\n\n\n" if case.prelude else "\n\n").join(parts),
            ]
            lines += ["```", "", f"Difference from `{case.theirs}`: {_number(difference(case, case.ours))}."]
    return lines


def _number(value: float) -> str:
    return "rounding" if value < 1e-6 else f"{value:.0e}"
