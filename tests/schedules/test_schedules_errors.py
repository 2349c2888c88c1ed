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

COUNTS_STEPS = "It counts the steps taken so far: 0 at the first."
INCREASE = "Boundaries increase strictly."
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
    (lambda: constant(-1e-3), "constant: value is -0.001, allowed is [0, inf)."),
    (lambda: constant(math.inf), "constant: value is inf, allowed is [0, inf)."),
    (lambda: constant(np.float64("nan")), "constant: value is nan, allowed is [0, inf)."),
    (lambda: linear(-1, 0, 10), "linear: initial is -1, allowed is [0, inf)."),
    (lambda: linear(1, -1e-9, 10), "linear: final is -1e-09, allowed is [0, inf)."),
    (lambda: linear(1, 0, 0), "linear: steps is 0, allowed is a whole number >= 1."),
    (lambda: linear(1, 0, 2.5), "linear: steps is 2.5, allowed is a whole number >= 1."),  # type: ignore[arg-type]
    (lambda: polynomial(1, 0, 10, power=0), "polynomial: power is 0, allowed is (0, inf)."),
    (lambda: step(1, 0), "step: step_size is 0, allowed is a whole number >= 1."),
    (lambda: step(1, 10, gamma=1.5), "step: gamma is 1.5, allowed is (0, 1]."),
    (lambda: exponential(0, gamma=0.5), "exponential: initial is 0, allowed is (0, inf)."),
    (lambda: exponential(1, gamma=0), "exponential: gamma is 0, allowed is (0, inf)."),
    (lambda: exponential(1, rate=-0.1), "exponential: rate is -0.1, allowed is [0, inf)."),
    (lambda: piecewise(1, [5], [-1]), "piecewise: factors[0] is -1, allowed is [0, inf)."),
    (lambda: multi_step(1, [0, 3]), "multi_step: boundaries[0] is 0, allowed is a whole number >= 1."),
    (lambda: inverse_sqrt(1, 0), "inverse_sqrt: warmup is 0, allowed is a whole number >= 1."),
    (lambda: cosine(-1e-3, 100), "cosine: peak is -0.001, allowed is [0, inf)."),
    (lambda: cosine(1e-3, 0), "cosine: steps is 0, allowed is a whole number >= 1."),
    (lambda: cosine(1e-3, 100, warmup=-1), "cosine: warmup is -1, allowed is a whole number >= 0."),
    (
        lambda: cosine(1e-3, 2**53 + 1),
        "cosine: steps is 9007199254740993, allowed is at most 2**53 in size. Beyond it floats skip whole numbers.",
    ),
    (
        lambda: cosine(1e-3, 1e300),  # type: ignore[arg-type]
        "cosine: steps is 1e+300, allowed is at most 2**53 in size. Beyond it floats skip whole numbers.",
    ),
    (lambda: wsd(1, 100, 10, 0), "wsd: decay is 0, allowed is a whole number >= 1."),
    (lambda: warm_restarts(1, T_0=0), "warm_restarts: T_0 is 0, allowed is a whole number >= 1."),
    (lambda: warm_restarts(1, 10, T_mult=0), "warm_restarts: T_mult is 0, allowed is a whole number >= 1."),
    (
        lambda: warm_restarts(1, 10, T_mult=1.5),  # type: ignore[arg-type]
        "warm_restarts: T_mult is 1.5, allowed is a whole number >= 1.",
    ),
    (lambda: warm_restarts(1, 10, gamma=0), "warm_restarts: gamma is 0, allowed is (0, 1]."),
    (lambda: cyclic(0.1, 1, step_size_down=0), "cyclic: step_size_down is 0, allowed is a whole number >= 1."),
    (lambda: one_cycle(1, 100, pct_start=30), "one_cycle: pct_start is 30, allowed is [0, 1]."),
    (lambda: one_cycle(1, 100, div_factor=0), "one_cycle: div_factor is 0, allowed is (0, inf)."),
    (lambda: scale(constant(1), -0.5), "scale: factor is -0.5, allowed is [0, inf)."),
    (lambda: constant(1) * -0.5, "scale: factor is -0.5, allowed is [0, inf)."),
    (lambda: warmup(-5, constant(1)), "warmup: steps is -5, allowed is a whole number >= 0."),
    (lambda: join([1, -1], [5]), "join: schedules[1] is -1, allowed is [0, inf)."),
    (lambda: constant(1).values(0), "values: steps is 0, allowed is a whole number >= 1."),
    # a word that is not known
    (
        lambda: warmup(5, 1, shape="log"),  # type: ignore[arg-type]
        "warmup: shape is 'log', allowed is one of 'linear', 'exponential', 'cosine'.",
    ),
    (
        lambda: wsd(1, 100, 10, 20, shape="sqrt"),  # type: ignore[arg-type]
        "wsd: shape is 'sqrt', allowed is one of 'linear', 'cosine', '1-sqrt'.",
    ),
    (
        lambda: one_cycle(1, 100, shape="cos"),  # type: ignore[arg-type]
        "one_cycle: shape is 'cos', allowed is one of 'cosine', 'linear'.",
    ),
    (
        lambda: cyclic(0.1, 1, mode="square"),  # type: ignore[arg-type]
        "cyclic: mode is 'square', allowed is one of 'triangular', 'triangular2', 'exp_range'.",
    ),
    # arguments that don't fit each other
    (
        lambda: cosine(1e-3, steps=500, warmup=500),
        "cosine: warmup is 500, allowed is a whole number in [0, 499]. steps include the warm-up.",
    ),
    (
        lambda: cosine(1e-3, 10_000_000, warmup=10_000_001),
        "cosine: warmup is 10000001, allowed is a whole number in [0, 9999999]. steps include the warm-up.",
    ),
    (
        lambda: cosine(1e-3, 500, 10, initial=0.1),
        "cosine: initial is 0.1, allowed is [0, 0.001]. The rise ends at the peak.",
    ),
    (
        lambda: inverse_sqrt(0.1, 10, initial=1),
        "inverse_sqrt: initial is 1.0, allowed is [0, 0.1]. The rise ends at the peak.",
    ),
    (lambda: wsd(0.1, 100, 10, 10, 1), "wsd: initial is 1.0, allowed is [0, 0.1]. The rise ends at the peak."),
    (
        lambda: wsd(1, steps=100, warmup=60, decay=50),
        "wsd: decay is 50, allowed is a whole number in [1, 40]. Warm-up and decay fit into steps, 100.",
    ),
    (
        lambda: wsd(1, steps=100, warmup=100, decay=50),
        "wsd: warmup is 100, allowed is a whole number < 100. Warm-up and decay fit into steps, 100.",
    ),
    (
        lambda: warm_restarts(0.1, 10, final=1),
        "warm_restarts: final is 1.0, allowed is [0, 0.1]. Each cycle falls from the peak towards it.",
    ),
    (
        lambda: cyclic(1, 0.1),
        "cyclic: initial is 1.0, allowed is [0, 0.1]. A cycle rises from it to the peak.",
    ),
    (
        lambda: one_cycle(1, 100, pct_start=0.6, three_phase=True),
        "one_cycle: pct_start is 0.6, allowed is [0, 0.5]. With three phases it is spent twice.",
    ),
    (
        lambda: exponential(1, gamma=0.5, final=2),
        "exponential: final is 2.0, allowed is [0, 1.0]. The value falls towards it.",
    ),
    (
        lambda: exponential(1, gamma=2, final=0.5),
        "exponential: final is 0.5, allowed is [1.0, inf). The value grows towards it.",
    ),
    (
        lambda: exponential(1, rate=1, final=2),
        "exponential: final is 2.0, allowed is [0, 1.0]. The value falls towards it.",
    ),
    (
        lambda: warmup(5, cosine(1e-3, 100), initial=0.1),
        "warmup: initial is 0.1, allowed is [0, 0.001]. The rise ends at the schedule's first value.",
    ),
    (
        lambda: warmup(5, 0.1, shape="exponential"),
        "warmup: initial is 0.0, allowed is (0, 0.1]. An exponential rise never leaves 0.",
    ),
    (
        lambda: join([1, 2], []),
        "join: len(boundaries) is 0, allowed is 1. One boundary stands between two schedules, and 2 are given.",
    ),
    (
        lambda: join([], []),
        "join: len(schedules) is 0, allowed is at least 1. Use constant(0) for no schedule at all.",
    ),
    (lambda: join([1, 2, 3], [5, 5]), f"join: boundaries[1] is 5, allowed is a whole number > 5. {INCREASE}"),
    (lambda: multi_step(1, [3, 1]), f"multi_step: boundaries[1] is 1, allowed is a whole number > 3. {INCREASE}"),
    (
        lambda: piecewise(1, [3, 3], [1, 1]),
        f"piecewise: boundaries[1] is 3, allowed is a whole number > 3. {INCREASE}",
    ),
    (
        lambda: piecewise(1, [3, 4], [1]),
        "piecewise: len(factors) is 1, allowed is 2. Each boundary has one factor.",
    ),
    (
        lambda: constant(1).then(0.5, at=10).then(0.1, at=5),
        f"join: boundaries[1] is 5, allowed is a whole number > 10. {INCREASE}",
    ),
    # the step
    (lambda: cosine(1, 10)(-1), f"cosine: t is -1, allowed is [0, 2**53]. {COUNTS_STEPS}"),
    (lambda: cosine(1, 10)(2**53 + 1), f"cosine: t is 9007199254740993, allowed is [0, 2**53]. {COUNTS_STEPS}"),
    (lambda: cosine(1, 10)(math.nan), f"cosine: t is nan, allowed is [0, 2**53]. {COUNTS_STEPS}"),
    (lambda: constant(1)(np.array([3, -2, -5])), f"constant: t contains -2, allowed is [0, 2**53]. {COUNTS_STEPS}"),
    (lambda: constant(1)(np.array([0.0, np.nan])), f"constant: t contains nan, allowed is [0, 2**53]. {COUNTS_STEPS}"),
    # JSON
    (
        lambda: from_json('{"kind": "cosin", "peak": 1}'),
        "from_json: unknown kind 'cosin'. Did you mean 'cosine'? Known: constant, cosine, cyclic, exponential, "
        "inverse_sqrt, join, linear, multi_step, one_cycle, piecewise, polynomial, scale, step, warm_restarts, "
        "warmup, wsd.",
    ),
    (
        lambda: from_json({"peak": 1}),
        "from_json: kind is missing in {'peak': 1}, allowed is one of constant, linear, polynomial, step, exponential, "
        "piecewise, multi_step, inverse_sqrt, cosine, warmup, wsd, warm_restarts, cyclic, one_cycle, join, scale. "
        'For example {"kind": "constant", "value": 0.1}.',
    ),
    (lambda: from_json('{"kind": "constant", "value": NaN}'), "constant: value is nan, allowed is [0, inf)."),
    # the stateful one
    (
        lambda: ReduceOnPlateau(0.1, factor=1.0),
        "ReduceOnPlateau: factor is 1.0, allowed is [0, 1). At 1 nothing is ever reduced.",
    ),
    (lambda: ReduceOnPlateau(-0.1), "ReduceOnPlateau: lr is -0.1, allowed is [0, inf)."),
    (lambda: ReduceOnPlateau(0.1, patience=-1), "ReduceOnPlateau: patience is -1, allowed is a whole number >= 0."),
    (
        lambda: ReduceOnPlateau(0.1, "minimum"),  # type: ignore[arg-type]
        "ReduceOnPlateau: mode is 'minimum', allowed is one of 'min', 'max'.",
    ),
    (
        lambda: ReduceOnPlateau(0.1, threshold=1),
        "ReduceOnPlateau: threshold is 1.0, allowed is [0, 1). At 1 a metric would have to fall below 0.",
    ),
]

TYPES: list[tuple[Call, str]] = [
    (lambda: cosine("1e-3", 10), "cosine: peak is '1e-3', allowed is [0, inf)."),  # type: ignore[arg-type]
    (lambda: cosine(True, 10), "cosine: peak is True, allowed is [0, inf)."),
    (lambda: cosine(1e-3, None), "cosine: steps is None, allowed is a whole number >= 1."),  # type: ignore[arg-type]
    (lambda: cosine(function, 10), f"cosine: peak is <function>, allowed is [0, inf). {FUNCTION}"),
    (lambda: cosine(1e-3), "cosine: steps is missing. Required: peak, steps."),  # type: ignore[call-arg]
    (
        lambda: cosine(1e-3, 10, warm_up=5),  # type: ignore[call-arg]
        "cosine: unknown argument 'warm_up'. Did you mean 'warmup'? Known: final, initial, peak, steps, warmup.",
    ),
    (
        lambda: cosine(1e-3, 10, peak=1e-2),  # type: ignore[misc]
        "cosine: peak is given twice, as 0.001 by place and as 0.01 by name.",
    ),
    (
        lambda: linear(1, 0, 10, 5),  # type: ignore[call-arg]
        "linear: 4 arguments are given, allowed are 3: initial, final, steps.",
    ),
    (
        lambda: warmup(5, function),
        f"warmup: schedule is <function>, allowed is a Schedule, or a number in [0, inf). {FUNCTION}",
    ),
    (
        lambda: constant(0.1) * function,
        f"scale: factor is <function>, allowed is a Schedule, or a number in [0, inf). {FUNCTION}",
    ),
    (
        lambda: join([0.1, "0.2"], [5]),  # type: ignore[list-item]
        "join: schedules[1] is '0.2', allowed is a Schedule, or a number in [0, inf).",
    ),
    (lambda: join(constant(1), [5]), "join: schedules is constant(1.0), allowed is a list or a tuple."),  # type: ignore[arg-type]
    (lambda: multi_step(1, 30), "multi_step: boundaries is 30, allowed is a list or a tuple."),  # type: ignore[arg-type]
    (
        lambda: cyclic(0.1, 1, step_size_down="5"),  # type: ignore[arg-type]
        "cyclic: step_size_down is '5', allowed is None, or a whole number >= 1.",
    ),
    (
        lambda: exponential(1),
        "exponential: gamma is None and rate is None, allowed is exactly one of them. gamma is exp(-rate).",
    ),
    (
        lambda: exponential(1, 0.5, rate=0.1),
        "exponential: gamma is 0.5 and rate is 0.1, allowed is exactly one of them. gamma is exp(-rate).",
    ),
    (
        lambda: exponential(1, 0.5, staircase=1),  # type: ignore[arg-type]
        "exponential: staircase is 1, allowed is True or False.",
    ),
    (lambda: constant(1)("5"), f"constant: t is '5', allowed is a number or a NumPy array. {COUNTS_STEPS}"),  # type: ignore[call-overload]
    (lambda: constant(1)(True), f"constant: t is True, allowed is a number or a NumPy array. {COUNTS_STEPS}"),
    (lambda: constant(1)(np.array([True])), f"constant: t is an array of bool, allowed are numbers. {COUNTS_STEPS}"),
    (
        lambda: from_json("[1, 2]"),
        "from_json: source is '[1, 2]', allowed is an object with a 'kind'. "
        'For example {"kind": "constant", "value": 0.1}.',
    ),
    (
        lambda: from_json({"kind": "linear", "initial": 1, "final": 0}),
        "linear: steps is missing. Required: initial, final, steps.",
    ),
    (
        lambda: ReduceOnPlateau(0.1).step("0.5"),  # type: ignore[arg-type]
        "ReduceOnPlateau: metric is '0.5', allowed is a number. nan counts as no improvement.",
    ),
    (
        lambda: ReduceOnPlateau(0.1).step(None),  # type: ignore[arg-type]
        "ReduceOnPlateau: metric is None, allowed is a number. nan counts as no improvement.",
    ),
]


@pytest.mark.parametrize("call, message", VALUES, ids=[message.partition(", allowed")[0] for _, message in VALUES])
def test_a_value_out_of_range_is_refused_with_its_name_its_value_and_what_is_allowed(call: Call, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize("call, message", TYPES, ids=[message.partition(", allowed")[0] for _, message in TYPES])
def test_a_value_of_the_wrong_kind_is_refused_with_its_name_and_what_is_allowed(call: Call, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        call()
    assert str(caught.value) == message


def test_text_that_is_not_json_gets_jsons_own_error_with_a_note() -> None:
    with pytest.raises(ValueError) as caught:
        from_json("cosine")
    assert str(caught.value) == "Expecting value: line 1 column 1 (char 0)"
    assert caught.value.__notes__ == [
        "from_json: source is 'cosine', allowed is JSON text or a mapping. "
        'For example {"kind": "constant", "value": 0.1}.'
    ]


STATE = {"lr": 0.05, "best": 2.0, "num_bad_epochs": 1, "cooldown_counter": 0}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"lr": -1}, "lr is -1, allowed is [0, inf)."),
        ({"best": math.nan}, "best is nan, allowed is a number or an infinity. Nothing improves on nan."),
        ({"num_bad_epochs": -1}, "num_bad_epochs is -1, allowed is a whole number >= 0."),
        ({"cooldown_counter": 0.5}, "cooldown_counter is 0.5, allowed is a whole number >= 0."),
        (
            {"patience": 3},
            "state has ['best', 'cooldown_counter', 'lr', 'num_bad_epochs', 'patience'], "
            "allowed is exactly ['best', 'cooldown_counter', 'lr', 'num_bad_epochs'].",
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
