"""Ranges, what they print and refuse, and the messages that every argument check shares."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from steepest.checks import (
    Axis,
    Count,
    Decay,
    Fraction,
    NonNegative,
    Order,
    Positive,
    Range,
    Real,
    check_arguments,
    check_number,
    check_value,
    range_of,
    unknown_name,
)

HUGE = 10**400
FORGETS = "At 1.0 the average never forgets its initial value."


def refused(kind: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    return str(caught.value)


@pytest.mark.parametrize(
    ("allowed", "text"),
    [
        (Range(), "a finite number"),
        (Range(0), ">= 0"),
        (Range(0, low_included=False), "> 0"),
        (Range(high=0.5), "<= 0.5"),
        (Range(high=0.5, high_included=False), "< 0.5"),
        (Range(0, 1), "in [0, 1]"),
        (Range(0, 1, high_included=False), "in [0, 1)"),
        (Range(1e-8, 0.125), "in [1e-08, 0.125]"),
        (Range(0, structure=True), ">= 0"),
        (Range(0, 12345678.5), "in [0, 12345678.5]"),
        (Range(whole=True), "a whole number"),
        (Range(1, whole=True), "a whole number >= 1"),
        (Range(0, low_included=False, whole=True), "a whole number > 0"),
        (Range(high=5, whole=True), "a whole number <= 5"),
        (Range(1, 1e6, whole=True), "a whole number in [1, 1000000]"),
    ],
)
def test_a_range_prints_as_the_rule_that_a_message_names(allowed: Range, text: str) -> None:
    assert str(allowed) == text


@pytest.mark.parametrize("bound", [1_234_567, 1_234_567.0, 2**53 - 1, 2**53 + 1, 10**18 + 1, HUGE], ids=str)
def test_a_large_whole_bound_keeps_every_digit(bound: float) -> None:
    assert str(Range(bound, whole=True)) == f"a whole number >= {int(bound)}"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, HUGE, -HUGE], ids=str)
@pytest.mark.parametrize("allowed", [Range(), Range(whole=True), Range(-1, 1), Range(0, whole=True)], ids=str)
def test_no_range_of_values_holds_what_is_not_a_finite_float(allowed: Range, value: float) -> None:
    assert value not in allowed


def test_a_range_holds_its_bounds_only_where_they_are_included() -> None:
    closed, half_open = Range(0, 1), Range(0, 1, low_included=False, high_included=False)
    assert [x in closed for x in (0, -0.0, 1, math.nextafter(1, 2), -5e-324)] == [True, True, True, False, False]
    assert [x in half_open for x in (0, -0.0, 5e-324, math.nextafter(1, 0), 1)] == [False, False, True, True, False]


def test_infinity_is_structure_where_it_is_not_a_whole_number() -> None:
    assert math.inf in Range(0, structure=True)
    assert -math.inf not in Range(structure=True)
    assert math.inf not in Range(0, 5, structure=True)
    assert math.inf not in Range(0, whole=True, structure=True)


OUT_OF_RANGE: list[tuple[Any, Any, str]] = [
    (Real, math.inf, "f: x must be a finite number, got inf."),
    (Real, math.nan, "f: x must be a finite number, got nan."),
    (Real, HUGE, "f: x must be a finite number, got a whole number beyond float64."),
    (Real, -(10**5000), "f: x must be a finite number, got a whole number beyond float64."),
    (NonNegative, -5e-324, "f: x must be >= 0, got -5e-324."),
    (NonNegative, HUGE, "f: x must be a finite number >= 0, got a whole number beyond float64."),
    (NonNegative, np.float32(-0.5), "f: x must be >= 0, got -0.5."),
    (NonNegative, np.array(-1), "f: x must be >= 0, got -1."),
    (Positive, 0, "f: x must be > 0, got 0."),
    (Positive, -0.0, "f: x must be > 0, got -0.0."),
    (Decay, 1.0, f"f: x must be in [0, 1), got 1.0. {FORGETS}"),
    (Decay, -0.1, f"f: x must be in [0, 1), got -0.1. {FORGETS}"),
    (Fraction, 1.5, "f: x must be in [0, 1], got 1.5."),
    (Count, 0, "f: x must be a whole number >= 1, got 0."),
    (Count, 2.5, "f: x must be a whole number >= 1, got 2.5."),
    (Count, math.inf, "f: x must be a whole number >= 1, got inf."),
    (Count, HUGE, "f: x must be a whole number >= 1, got a whole number beyond float64."),
    (Order, 0, "f: x must be > 0, got 0."),
    (Order, math.nan, "f: x must be a number > 0, got nan."),
    (Axis, 0.5, "f: x must be a whole number, got 0.5."),
    (Axis, math.inf, "f: x must be a whole number, got inf."),
]


@pytest.mark.parametrize(("annotation", "value", "message"), OUT_OF_RANGE, ids=[m[:60] for *_, m in OUT_OF_RANGE])
def test_a_number_outside_its_range_is_named_with_the_range(annotation: Any, value: Any, message: str) -> None:
    assert refused(ValueError, lambda: check_value("f", "x", value, annotation)) == message


@pytest.mark.parametrize("value", [True, np.True_, "0.5", None, [0.5], np.array([0.5]), 1j], ids=repr)
def test_what_is_not_a_number_is_refused_as_one(value: object) -> None:
    message = f"f: x must be a number in [0, 1] or a schedule, got {value!r}."
    assert refused(TypeError, lambda: check_value("f", "x", value, Fraction)) == message


@pytest.mark.parametrize("annotation", [Real, NonNegative, Positive, Decay, Fraction, Count])
def test_a_schedule_is_accepted_for_every_range_of_values(annotation: Any) -> None:
    check_value("f", "x", lambda step: 0.1, annotation)


@pytest.mark.parametrize(("annotation", "rule"), [(Order, "a number > 0"), (Axis, "a whole number")])
def test_a_schedule_is_refused_where_the_number_decides_the_structure(annotation: Any, rule: str) -> None:
    schedule = refused  # any function with a printable name
    message = f"f: x must be {rule}, got {schedule!r}."
    assert refused(TypeError, lambda: check_value("f", "x", schedule, annotation)) == message


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Real, -1e308),
        (NonNegative, 0),
        (Positive, 5e-324),
        (Decay, math.nextafter(1, 0)),
        (Fraction, np.float32(1)),
        (Count, 1.0),
        (Count, np.int64(3)),
        (Order, math.inf),
        (Order, np.array(2.0)),
        (Axis, -1),
        (Count | None, None),
        (Count | None, 2),
        (bool, False),
        (Literal["a", "b"], "b"),
        (tuple[Decay, Decay], (0.9, 0.999)),
        (tuple[Decay, Decay], [0.9, 0.999]),
        (tuple[Decay, Decay] | None, None),
        (str, 3),
        (Annotated[int, "no range"], "anything"),
    ],
)
def test_a_value_that_fits_its_annotation_passes(annotation: Any, value: Any) -> None:
    check_value("f", "x", value, annotation)


@pytest.mark.parametrize(
    ("annotation", "value", "kind", "message"),
    [
        (Count | None, 0, ValueError, "f: x must be a whole number >= 1, got 0."),
        (bool, 1, TypeError, "f: x must be True or False, got 1."),
        (bool, None, TypeError, "f: x must be True or False, got None."),
        (Literal["a", "b"], "c", ValueError, "f: x must be one of 'a', 'b', got 'c'."),
        (Literal["a", "b"], ["a"], ValueError, "f: x must be one of 'a', 'b', got ['a']."),
        (tuple[Decay, Decay], 0.9, TypeError, "f: x must be a tuple of 2 numbers, got 0.9."),
        (tuple[Decay, Decay], (0.9,), TypeError, "f: x must be a tuple of 2 numbers, got (0.9,)."),
        (tuple[Decay, Decay], (0.9, 1), ValueError, f"f: x[1] must be in [0, 1), got 1. {FORGETS}"),
        (tuple[Decay, Decay] | None, (-1, 0), ValueError, f"f: x[0] must be in [0, 1), got -1. {FORGETS}"),
    ],
)
def test_a_value_that_does_not_fit_its_annotation_is_refused(
    annotation: Any, value: Any, kind: type[Exception], message: str
) -> None:
    assert refused(kind, lambda: check_value("f", "x", value, annotation)) == message


def test_arguments_are_checked_by_the_annotations_of_their_function() -> None:
    def f(lr: Positive, name: str, free: Any = None) -> None: ...

    check_arguments("f", {"lr": 0.1, "name": 3, "free": [], "elsewhere": -1}, f)
    message = "f: lr must be > 0, got 0."
    assert refused(ValueError, lambda: check_arguments("f", {"name": "a", "lr": 0}, f)) == message


def test_a_number_is_checked_against_a_range_of_its_own() -> None:
    check_number("f", "x", 3, Range(1, 3, whole=True))
    message = "f: x must be a whole number in [1, 3], got 4."
    assert refused(ValueError, lambda: check_number("f", "x", 4, Range(1, 3, whole=True))) == message


def test_the_range_of_an_annotation_is_found_behind_none_too() -> None:
    assert range_of(Count) == range_of(Count | None) == Range(1, whole=True)
    assert range_of(int) is range_of(None) is range_of(int | None) is range_of(Annotated[int, "no range"]) is None


def test_a_name_that_resembles_none_gets_no_suggestion() -> None:
    assert unknown_name("f", "rule", "xyz", ["b", "a"]) == "f: unknown rule 'xyz'. Known: a, b."


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("rule", "scale_by_1x", "f: unknown rule 'scale_by_1x'. Did you mean 'scale_by_1'?"),
        ("rule", "clips", "f: unknown rule 'clips'. Similar names: clip_by_norm, clip_by_value."),
        (
            "rule",
            "?",
            "f: unknown rule '?'. Examples: clip_by_norm, clip_by_value, scale_by_0, scale_by_1, scale_by_10.",
        ),
        (
            "recipe",
            "clip",
            "f: unknown recipe 'clip'. Similar names: clip_by_norm, clip_by_value. Run 'steepest list' to see all 22.",
        ),
    ],
)
def test_of_many_known_names_only_the_nearest_are_shown(kind: str, name: str, message: str) -> None:
    known = [*(f"scale_by_{n}" for n in range(20)), "clip_by_norm", "clip_by_value"]
    assert unknown_name("f", kind, name, known) == message
