"""Bad input to schedules: every message whole, since a message is an interface."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from steepest.schedules import (
    ReduceOnPlateau,
    constant,
    cosine,
    cyclic,
    exponential,
    from_json,
    inverse_sqrt,
    join,
    linear,
    multi_step,
    one_cycle,
    piecewise,
    polynomial,
    scale,
    step,
    warm_restarts,
    warmup,
    wsd,
)

Call = Callable[..., Any]

COUNTS_STEPS = "t is the number of steps taken so far, 0 at the first step."
INCREASE = "Boundaries must increase strictly."
FUNCTION = "A plain function can't be printed, compared or saved: use it alone, as the hyperparameter itself."


class Printed:
    """A function whose repr holds no address."""

    def __repr__(self) -> str:
        return "<function>"

    def __call__(self, t: int) -> float:
        return 0.1


function: Any = Printed()

VALUES: list[tuple[Call, str]] = [
    # one argument out of its range
    (lambda: constant(-1e-3), "constant: value must be >= 0, got -0.001."),
    (lambda: constant(math.inf), "constant: value must be a finite number >= 0, got inf."),
    (lambda: constant(np.float64("nan")), "constant: value must be a finite number >= 0, got nan."),
    (lambda: linear(-1, 0, 10), "linear: initial must be >= 0, got -1."),
    (lambda: linear(1, -1e-9, 10), "linear: final must be >= 0, got -1e-09."),
    (lambda: linear(1, 0, 0), "linear: steps must be a whole number >= 1, got 0."),
    (lambda: linear(1, 0, 2.5), "linear: steps must be a whole number >= 1, got 2.5."),  # type: ignore[arg-type]
    (lambda: polynomial(1, 0, 10, power=0), "polynomial: power must be > 0, got 0."),
    (lambda: step(1, 0), "step: step_size must be a whole number >= 1, got 0."),
    (lambda: step(1, 10, gamma=1.5), "step: gamma must be in (0, 1], got 1.5."),
    (lambda: exponential(0, gamma=0.5), "exponential: initial must be > 0, got 0."),
    (lambda: exponential(1, gamma=0), "exponential: gamma must be > 0, got 0."),
    (lambda: exponential(1, rate=-0.1), "exponential: rate must be >= 0, got -0.1."),
    (lambda: piecewise(1, [5], [-1]), "piecewise: factors[0] must be >= 0, got -1."),
    (lambda: multi_step(1, [0, 3]), "multi_step: boundaries[0] must be a whole number >= 1, got 0."),
    (lambda: inverse_sqrt(1, 0), "inverse_sqrt: warmup must be a whole number >= 1, got 0."),
    (lambda: cosine(-1e-3, 100), "cosine: peak must be >= 0, got -0.001."),
    (lambda: cosine(1e-3, 0), "cosine: steps must be a whole number >= 1, got 0."),
    (lambda: cosine(1e-3, 100, warmup=-1), "cosine: warmup must be a whole number >= 0, got -1."),
    (
        lambda: cosine(1e-3, 2**53 + 1),
        "cosine: steps must be at most 2**53 in size, got 9007199254740993. Larger floats skip whole numbers.",
    ),
    (
        lambda: cosine(1e-3, 1e300),  # type: ignore[arg-type]
        "cosine: steps must be at most 2**53 in size, got 1e+300. Larger floats skip whole numbers.",
    ),
    (lambda: wsd(1, 100, 10, 0), "wsd: decay must be a whole number >= 1, got 0."),
    (lambda: warm_restarts(1, T_0=0), "warm_restarts: T_0 must be a whole number >= 1, got 0."),
    (lambda: warm_restarts(1, 10, T_mult=0), "warm_restarts: T_mult must be a whole number >= 1, got 0."),
    (
        lambda: warm_restarts(1, 10, T_mult=1.5),  # type: ignore[arg-type]
        "warm_restarts: T_mult must be a whole number >= 1, got 1.5.",
    ),
    (lambda: warm_restarts(1, 10, gamma=0), "warm_restarts: gamma must be in (0, 1], got 0."),
    (lambda: cyclic(0.1, 1, step_size_down=0), "cyclic: step_size_down must be a whole number >= 1, got 0."),
    (lambda: one_cycle(1, 100, pct_start=30), "one_cycle: pct_start must be in [0, 1], got 30."),
    (lambda: one_cycle(1, 100, div_factor=0), "one_cycle: div_factor must be > 0, got 0."),
    (lambda: scale(constant(1), -0.5), "scale: factor must be >= 0, got -0.5."),
    (lambda: constant(1) * -0.5, "scale: factor must be >= 0, got -0.5."),
    (lambda: warmup(-5, constant(1)), "warmup: steps must be a whole number >= 0, got -5."),
    (lambda: join([1, -1], [5]), "join: schedules[1] must be >= 0, got -1."),
    (lambda: constant(1).values(0), "values: steps must be a whole number >= 1, got 0."),
    # a word that is not known
    (
        lambda: warmup(5, 1, shape="log"),  # type: ignore[arg-type]
        "warmup: shape must be one of 'linear', 'exponential', 'cosine', got 'log'.",
    ),
    (
        lambda: wsd(1, 100, 10, 20, shape="sqrt"),  # type: ignore[arg-type]
        "wsd: shape must be one of 'linear', 'cosine', '1-sqrt', got 'sqrt'.",
    ),
    (
        lambda: one_cycle(1, 100, shape="cos"),  # type: ignore[arg-type]
        "one_cycle: shape must be one of 'cosine', 'linear', got 'cos'.",
    ),
    (
        lambda: cyclic(0.1, 1, mode="square"),  # type: ignore[arg-type]
        "cyclic: mode must be one of 'triangular', 'triangular2', 'exp_range', got 'square'.",
    ),
    # arguments that don't fit each other
    (
        lambda: cosine(1e-3, steps=500, warmup=500),
        "cosine: warmup must be in [0, 499], got 500. steps includes the warm-up.",
    ),
    (
        lambda: cosine(1e-3, 10_000_000, warmup=10_000_001),
        "cosine: warmup must be in [0, 9999999], got 10000001. steps includes the warm-up.",
    ),
    (
        lambda: cosine(1e-3, 500, 10, initial=0.1),
        "cosine: initial must be in [0, 0.001], got 0.1. The rise ends at the peak.",
    ),
    (
        lambda: inverse_sqrt(0.1, 10, initial=1),
        "inverse_sqrt: initial must be in [0, 0.1], got 1.0. The rise ends at the peak.",
    ),
    (lambda: wsd(0.1, 100, 10, 10, 1), "wsd: initial must be in [0, 0.1], got 1.0. The rise ends at the peak."),
    (
        lambda: wsd(1, steps=100, warmup=60, decay=50),
        "wsd: decay must be in [1, 40], got 50. Warm-up and decay must fit into steps, 100.",
    ),
    (
        lambda: wsd(1, steps=100, warmup=100, decay=50),
        "wsd: warmup must be < 100, got 100. Warm-up and decay must fit into steps, 100.",
    ),
    (
        lambda: warm_restarts(0.1, 10, final=1),
        "warm_restarts: final must be in [0, 0.1], got 1.0. Each cycle falls from the peak towards it.",
    ),
    (
        lambda: cyclic(1, 0.1),
        "cyclic: initial must be in [0, 0.1], got 1.0. A cycle rises from it to the peak.",
    ),
    (
        lambda: one_cycle(1, 100, pct_start=0.6, three_phase=True),
        "one_cycle: pct_start must be in [0, 0.5], got 0.6. With three phases it is used twice.",
    ),
    (
        lambda: exponential(1, gamma=0.5, final=2),
        "exponential: final must be in [0, 1.0], got 2.0. The value falls towards it.",
    ),
    (
        lambda: exponential(1, gamma=2, final=0.5),
        "exponential: final must be >= 1.0, got 0.5. The value grows towards it.",
    ),
    (
        lambda: exponential(1, rate=1, final=2),
        "exponential: final must be in [0, 1.0], got 2.0. The value falls towards it.",
    ),
    (
        lambda: warmup(5, cosine(1e-3, 100), initial=0.1),
        "warmup: initial must be in [0, 0.001], got 0.1. The rise ends at the schedule's first value.",
    ),
    (
        lambda: warmup(5, 0.1, shape="exponential"),
        "warmup: initial must be in (0, 0.1], got 0.0. An exponential rise never leaves 0.",
    ),
    (
        lambda: join([1, 2], []),
        "join: len(boundaries) must be 1, got 0. The number of boundaries must be one less than the number of schedules.",
    ),
    (
        lambda: join([], []),
        "join: len(schedules) must be >= 1, got 0. For a value of 0 at every step, use constant(0).",
    ),
    (lambda: join([1, 2, 3], [5, 5]), f"join: boundaries[1] must be > 5, got 5. {INCREASE}"),
    (lambda: multi_step(1, [3, 1]), f"multi_step: boundaries[1] must be > 3, got 1. {INCREASE}"),
    (
        lambda: piecewise(1, [3, 3], [1, 1]),
        f"piecewise: boundaries[1] must be > 3, got 3. {INCREASE}",
    ),
    (
        lambda: piecewise(1, [3, 4], [1]),
        "piecewise: len(factors) must be 2, got 1. Give one factor for each boundary.",
    ),
    (
        lambda: constant(1).then(0.5, at=10).then(0.1, at=5),
        f"join: boundaries[1] must be > 10, got 5. {INCREASE}",
    ),
    # the step
    (lambda: cosine(1, 10)(-1), f"cosine: t must be in [0, 2**53], got -1. {COUNTS_STEPS}"),
    (lambda: cosine(1, 10)(2**53 + 1), f"cosine: t must be in [0, 2**53], got 9007199254740993. {COUNTS_STEPS}"),
    (lambda: cosine(1, 10)(math.nan), f"cosine: t must be in [0, 2**53], got nan. {COUNTS_STEPS}"),
    (
        lambda: constant(1)(np.array([3, -2, -5])),
        f"constant: t must be in [0, 2**53], got an array with -2. {COUNTS_STEPS}",
    ),
    (
        lambda: constant(1)(np.array([0.0, np.nan])),
        f"constant: t must be in [0, 2**53], got an array with nan. {COUNTS_STEPS}",
    ),
    # JSON
    (
        lambda: from_json('{"kind": "cosin", "peak": 1}'),
        "from_json: unknown kind 'cosin'. Did you mean 'cosine'? Known: constant, cosine, cyclic, exponential, "
        "inverse_sqrt, join, linear, multi_step, one_cycle, piecewise, polynomial, scale, step, warm_restarts, "
        "warmup, wsd.",
    ),
    (
        lambda: from_json({"peak": 1}),
        "from_json: source must have a 'kind', one of constant, linear, polynomial, step, exponential, "
        "piecewise, multi_step, inverse_sqrt, cosine, warmup, wsd, warm_restarts, cyclic, one_cycle, join, scale, got {'peak': 1}. "
        'Example: {"kind": "constant", "value": 0.1}.',
    ),
    (lambda: from_json('{"kind": "constant", "value": NaN}'), "constant: value must be a finite number >= 0, got nan."),
    # the stateful one
    (
        lambda: ReduceOnPlateau(0.1, factor=1.0),
        "ReduceOnPlateau: factor must be in [0, 1), got 1.0. At 1 nothing is ever reduced.",
    ),
    (lambda: ReduceOnPlateau(-0.1), "ReduceOnPlateau: lr must be >= 0, got -0.1."),
    (lambda: ReduceOnPlateau(0.1, patience=-1), "ReduceOnPlateau: patience must be a whole number >= 0, got -1."),
    (
        lambda: ReduceOnPlateau(0.1, "minimum"),  # type: ignore[arg-type]
        "ReduceOnPlateau: mode must be one of 'min', 'max', got 'minimum'.",
    ),
    (
        lambda: ReduceOnPlateau(0.1, threshold=1),
        "ReduceOnPlateau: threshold must be in [0, 1), got 1.0. At 1 a metric would have to fall below 0.",
    ),
]

TYPES: list[tuple[Call, str]] = [
    (lambda: cosine("1e-3", 10), "cosine: peak must be a finite number >= 0, got '1e-3'."),  # type: ignore[arg-type]
    (lambda: cosine(True, 10), "cosine: peak must be a finite number >= 0, got True."),
    (lambda: cosine(1e-3, None), "cosine: steps must be a whole number >= 1, got None."),  # type: ignore[arg-type]
    (lambda: cosine(function, 10), f"cosine: peak must be a finite number >= 0, got <function>. {FUNCTION}"),
    (lambda: cosine(1e-3), "cosine: steps is missing. Required: peak, steps."),  # type: ignore[call-arg]
    (
        lambda: cosine(1e-3, 10, warm_up=5),  # type: ignore[call-arg]
        "cosine: unknown argument 'warm_up'. Did you mean 'warmup'? Known: final, initial, peak, steps, warmup.",
    ),
    (
        lambda: cosine(1e-3, 10, peak=1e-2),  # type: ignore[misc]
        "cosine: peak is given twice, as 0.001 by position and as 0.01 by name.",
    ),
    (
        lambda: linear(1, 0, 10, 5),  # type: ignore[call-arg]
        "linear: got 4 positional arguments, but its arguments are: initial, final, steps.",
    ),
    (
        lambda: warmup(5, function),
        f"warmup: schedule must be a Schedule or a finite number >= 0, got <function>. {FUNCTION}",
    ),
    (
        lambda: constant(0.1) * function,
        f"scale: factor must be a Schedule or a finite number >= 0, got <function>. {FUNCTION}",
    ),
    (
        lambda: join([0.1, "0.2"], [5]),  # type: ignore[list-item]
        "join: schedules[1] must be a Schedule or a finite number >= 0, got '0.2'.",
    ),
    (lambda: join(constant(1), [5]), "join: schedules must be a list or a tuple, got constant(1.0)."),  # type: ignore[arg-type]
    (lambda: multi_step(1, 30), "multi_step: boundaries must be a list or a tuple, got 30."),  # type: ignore[arg-type]
    (
        lambda: cyclic(0.1, 1, step_size_down="5"),  # type: ignore[arg-type]
        "cyclic: step_size_down must be None or a whole number >= 1, got '5'.",
    ),
    (
        lambda: exponential(1),
        "exponential: exactly one of gamma and rate must be given, got gamma=None and rate=None. gamma is exp(-rate).",
    ),
    (
        lambda: exponential(1, 0.5, rate=0.1),
        "exponential: exactly one of gamma and rate must be given, got gamma=0.5 and rate=0.1. gamma is exp(-rate).",
    ),
    (
        lambda: exponential(1, 0.5, staircase=1),  # type: ignore[arg-type]
        "exponential: staircase must be True or False, got 1.",
    ),
    (lambda: constant(1)("5"), f"constant: t must be a number or a NumPy array, got '5'. {COUNTS_STEPS}"),  # type: ignore[call-overload]
    (lambda: constant(1)(True), f"constant: t must be a number or a NumPy array, got True. {COUNTS_STEPS}"),
    (
        lambda: constant(1)(np.array([True])),
        f"constant: t must be an array of numbers, got one of bool. {COUNTS_STEPS}",
    ),
    (
        lambda: from_json("[1, 2]"),
        "from_json: source must be an object with a 'kind', got '[1, 2]'. "
        'Example: {"kind": "constant", "value": 0.1}.',
    ),
    (
        lambda: from_json({"kind": "linear", "initial": 1, "final": 0}),
        "linear: steps is missing. Required: initial, final, steps.",
    ),
    (
        lambda: ReduceOnPlateau(0.1).step("0.5"),  # type: ignore[arg-type]
        "ReduceOnPlateau: metric must be a number, got '0.5'. nan counts as no improvement.",
    ),
    (
        lambda: ReduceOnPlateau(0.1).step(None),  # type: ignore[arg-type]
        "ReduceOnPlateau: metric must be a number, got None. nan counts as no improvement.",
    ),
]


@pytest.mark.parametrize("call, message", VALUES, ids=[message for _, message in VALUES])
def test_a_value_out_of_range_is_refused_with_its_name_the_rule_and_its_value(call: Call, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize("call, message", TYPES, ids=[message for _, message in TYPES])
def test_a_value_of_the_wrong_kind_is_refused_with_its_name_and_the_rule(call: Call, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        call()
    assert str(caught.value) == message


def test_text_that_is_not_json_gets_jsons_own_error_with_a_note() -> None:
    with pytest.raises(ValueError) as caught:
        from_json("cosine")
    assert str(caught.value) == "Expecting value: line 1 column 1 (char 0)"
    assert caught.value.__notes__ == [
        'from_json: source must be JSON text or a mapping, got \'cosine\'. Example: {"kind": "constant", "value": 0.1}.'
    ]


STATE = {"lr": 0.05, "best": 2.0, "num_bad_epochs": 1, "cooldown_counter": 0}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"lr": -1}, "lr must be >= 0, got -1."),
        ({"best": math.nan}, "best must be a number or an infinity, got nan. No metric improves on nan."),
        ({"num_bad_epochs": -1}, "num_bad_epochs must be a whole number >= 0, got -1."),
        ({"cooldown_counter": 0.5}, "cooldown_counter must be a whole number >= 0, got 0.5."),
        (
            {"patience": 3},
            "the state must have the keys ['best', 'cooldown_counter', 'lr', 'num_bad_epochs'], "
            "got ['best', 'cooldown_counter', 'lr', 'num_bad_epochs', 'patience'].",
        ),
    ],
)
def test_a_bad_state_is_refused_and_nothing_is_changed(change: dict[str, float], message: str) -> None:
    plateau = ReduceOnPlateau(0.1)
    plateau.step(3.0)
    before = plateau.state_dict()
    with pytest.raises(ValueError) as caught:
        plateau.load_state_dict(STATE | change)
    assert str(caught.value) == f"ReduceOnPlateau.load_state_dict: {message}"
    assert plateau.state_dict() == before
    plateau.load_state_dict(STATE)
    assert plateau.state_dict() == STATE
