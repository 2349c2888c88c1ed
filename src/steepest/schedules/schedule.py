"""The value object: a kind, its arguments and the formula they make; and how schedules are composed.

A kind is one decorated function. Its parameters and their annotations say what is allowed, its body returns the formula
of ``t``. Calling it gives a `Schedule`: immutable, comparable, printable, savable. Composition (``join``, ``scale``) is
a kind like any other, and what the methods and operators of `Schedule` return.
Imports ``arguments`` and ``namespace``.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import operator
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, ParamSpec, TypeAlias, cast, overload

import numpy as np
from numpy.typing import NDArray

from steepest.schedules.arguments import (
    LAST,
    Amount,
    Steps,
    bind,
    check_increasing,
    check_size,
    checked,
    declared,
    is_number,
)
from steepest.schedules.namespace import ARRAYS, SCALARS, Formula, Namespace

__all__ = ["Schedule", "constant", "join", "kind", "lifted", "scale"]

P = ParamSpec("P")
Number: TypeAlias = int | float | np.integer[Any] | np.floating[Any]


@dataclass(frozen=True, slots=True, repr=False)
class Schedule:
    """A hyperparameter as a pure function of the number of steps taken so far, made by one of the functions beside it.

    ``schedule(t)`` is a float for a number and a float64 array for a NumPy array, the same to the last bit;
    t is 0 at the first step. Schedules are equal when they were made by the same function with equal arguments, print
    themselves as that call, and can be hashed, pickled and saved as JSON (`to_json`, `from_json`).

    Parameters
    ----------
    kind : the function that made it.
    arguments : its arguments, all of them, in declared order.
    formula : what they make, a function of t and a namespace of operations.
    turns : where the formula changes its direction or ends, as far as the arguments tell.

    Raises
    ------
    TypeError, ValueError
        When t is not a number, negative, nan or above 2**53.

    Examples
    --------
    >>> from steepest.schedules import cosine
    >>> schedule = cosine(1e-3, steps=10_000, warmup=500)
    >>> schedule, schedule(0), schedule(500), schedule(10_000)
    (cosine(0.001, steps=10000, warmup=500), 0.0, 0.001, 0.0)
    >>> (schedule * 0.5).values(3)
    array([0.e+00, 1.e-06, 2.e-06])
    """

    kind: Callable[..., Schedule]
    arguments: tuple[object, ...]
    formula: Formula = field(compare=False)
    turns: tuple[int, ...] = field(compare=False)

    __array_ufunc__: ClassVar[None] = None  # so that np.float64(0.5) * schedule is asked here, not made an object array

    @overload
    def __call__(self, t: Number) -> float: ...
    @overload
    def __call__(self, t: NDArray[Any]) -> NDArray[np.float64]: ...
    def __call__(self, t: Number | NDArray[Any]) -> float | NDArray[np.float64]:
        if type(t) is int and 0 <= t <= LAST:  # every training step comes this way
            return self.formula(t, SCALARS)  # type: ignore[no-any-return]  # a formula of scalars is a float
        if isinstance(t, np.ndarray):
            return self._over(t)
        if is_number(t):
            number = float(t) if isinstance(t, (float, np.floating)) else operator.index(t)
            if not 0 <= number <= LAST:
                raise ValueError(f"{self.kind.__name__}: t must be in [0, 2**53], got {number!r}. {_COUNTS_STEPS}")
            return self.formula(number, SCALARS)  # type: ignore[no-any-return]
        raise TypeError(f"{self.kind.__name__}: t must be a number or a NumPy array, got {t!r}. {_COUNTS_STEPS}")

    def _over(self, t: NDArray[Any]) -> NDArray[np.float64]:
        if t.dtype.kind not in "iuf":
            raise TypeError(
                f"{self.kind.__name__}: t must be an array of numbers, got one of {t.dtype}. {_COUNTS_STEPS}"
            )
        outside = t[~((t >= 0) & (t <= LAST))]
        if outside.size:
            first = outside[0].item()
            raise ValueError(
                f"{self.kind.__name__}: t must be in [0, 2**53], got an array with {first!r}. {_COUNTS_STEPS}"
            )
        with np.errstate(over="ignore", under="ignore"):  # as Python's own floats
            value = self.formula(t.astype(np.float64 if t.dtype.kind == "f" else np.int64), ARRAYS)
        return np.asarray(value, dtype=np.float64)

    def values(self, steps: int) -> NDArray[np.float64]:
        """The values at t = 0, 1, …, steps - 1: what ``steps`` steps of training use.

        >>> from steepest.schedules import linear
        >>> linear(1.0, 0.0, steps=4).values(6)
        array([1.  , 0.75, 0.5 , 0.25, 0.  , 0.  ])
        """
        return self(np.arange(cast("int", checked("values", "steps", steps, Steps))))

    def turning_points(self) -> list[tuple[int, float]]:
        """The start, each known turning point and the end, with the steps next to them and the values there.

        An end that is only approached has no step of its own and is not listed.

        >>> from steepest.schedules import linear
        >>> linear(1.0, 0.0, steps=4).turning_points()
        [(0, 1.0), (1, 0.75), (3, 0.25), (4, 0.0), (5, 0.0)]
        """
        near = {t + side for t in (0, *self.turns) for side in (-1, 0, 1)}
        return [(t, self(t)) for t in sorted(near) if 0 <= t <= LAST]

    def then(self, schedule: Schedule | float, at: int) -> Schedule:
        """This schedule for t < at, after that the other, whose own t counts from 0 there.

        >>> from steepest.schedules import constant, linear
        >>> constant(0.1).then(linear(0.1, 0.0, steps=10), at=100).then(0.01, at=105)
        join((constant(0.1), linear(0.1, final=0.0, steps=10), 0.01), boundaries=(100, 105))
        """
        if self.kind is join:
            schedules, boundaries = cast("tuple[tuple[Part, ...], tuple[int, ...]]", self.arguments)
            return join((*schedules, schedule), (*boundaries, at))
        return join((self, schedule), (at,))

    def __mul__(self, factor: Schedule | Number) -> Schedule:
        return scale(self, cast("Schedule | float", factor))

    __rmul__ = __mul__

    def to_json(self) -> str:
        """The schedule as JSON text, every argument spelled out; ``from_json`` gives an equal schedule back.

        >>> from steepest.schedules import linear
        >>> linear(1.0, 0.0, steps=4).to_json()
        '{"kind": "linear", "initial": 1.0, "final": 0.0, "steps": 4}'
        """
        return json.dumps(self, default=lambda schedule: {"kind": schedule.kind.__name__} | schedule._named())

    def _named(self) -> dict[str, object]:
        return dict(zip(declared(inspect.unwrap(self.kind))[1], self.arguments, strict=True))

    def __repr__(self) -> str:
        """The call that makes it: first argument and a schedule after it by place, others unless at their default."""
        name, parameters, _ = declared(inspect.unwrap(self.kind))
        shown: list[str] = []
        for place, (argument, value) in enumerate(self._named().items()):
            if place == 0 or (place == 1 and isinstance(value, Schedule)):
                shown.append(repr(value))
            elif value != parameters[argument].default:
                shown.append(f"{argument}={value!r}")
        return f"{name}({', '.join(shown)})"

    def __reduce__(self) -> tuple[Callable[..., Schedule], tuple[object, ...]]:
        # A formula is a closure: it is made again, and the arguments are checked again.
        return self.kind, self.arguments


Part: TypeAlias = Schedule | Amount
_COUNTS_STEPS = "t is the number of steps taken so far, 0 at the first step."


def kind(turns: Callable[[Any], Iterable[int]]) -> Callable[[Callable[P, Formula]], Callable[P, Schedule]]:
    """Make a constructor of schedules from a function that takes arguments and returns the formula.

    The arguments reach it checked against their annotations and in normal form; its body only checks what concerns
    several of them at once. ``turns`` gives the steps at which the formula turns or ends, from the arguments as attributes.
    """

    def decorate(define: Callable[P, Formula]) -> Callable[P, Schedule]:
        @functools.wraps(define)
        def construct(*args: P.args, **kwargs: P.kwargs) -> Schedule:
            arguments = bind(define, args, kwargs)
            formula = cast("Callable[..., Formula]", define)(**arguments)
            return Schedule(
                construct, tuple(arguments.values()), formula, tuple(turns(types.SimpleNamespace(**arguments)))
            )

        construct.__signature__ = inspect.signature(define).replace(return_annotation="Schedule")  # type: ignore[attr-defined]
        return construct

    return decorate


def lifted(part: Schedule | float) -> Schedule:
    """A part of a composition as a schedule: a number is a constant one."""
    return part if isinstance(part, Schedule) else constant(part)


@kind(lambda a: ())
def constant(value: Amount) -> Formula:
    """One value at every step: ``value``.

    Parameters
    ----------
    value : >= 0.

    Examples
    --------
    >>> constant(0.1)(1_000_000)
    0.1

    Source: ``optax.constant_schedule``.
    """

    def at(t: Any, xp: Namespace) -> Any:
        return value + 0.0 * t  # of t's shape

    return at


def _turns_of_join(a: Any) -> Iterable[int]:
    starts, ends = (0, *a.boundaries), (*a.boundaries, LAST)
    inside = [
        start + turn
        for part, start, end in zip(a.schedules, starts, ends, strict=True)
        for turn in lifted(part).turns
        if start + turn < end
    ]
    return *a.boundaries, *inside


def _turns_of_scale(a: Any) -> Iterable[int]:
    """Those of both factors, and steps between them: a product of two curves may turn where neither does."""
    both = sorted({0, *lifted(a.schedule).turns, *lifted(a.factor).turns})
    between = [t + (after - t) * part // 8 for t, after in itertools.pairwise(both) for part in range(1, 8)]
    return *both, *between


@kind(_turns_of_join)
def join(schedules: Sequence[Part], boundaries: Sequence[Steps]) -> Formula:
    """Schedules one after another: ``schedules[i](t - boundaries[i-1])`` for ``boundaries[i-1] <= t < boundaries[i]``.

    Each counts its own t from 0; the value at a boundary is the next schedule's first.

    Parameters
    ----------
    schedules : at least one; a number is a constant schedule.
    boundaries : where the next schedule begins, >= 1 and strictly increasing; one fewer than the schedules.

    Raises
    ------
    TypeError, ValueError
        When a part is neither schedule nor number (a plain function can't be saved), or the counts don't fit.

    Examples
    --------
    >>> from steepest.schedules import linear
    >>> join([1.0, linear(0.5, 0.0, steps=2)], boundaries=[2]).values(5)
    array([1.  , 1.  , 0.5 , 0.25, 0.  ])

    Source: ``optax.join_schedules``; PyTorch's SequentialLR, whose ``milestones`` are the boundaries.
    """
    if not schedules:
        raise ValueError("join: len(schedules) must be >= 1, got 0. For a value of 0 at every step, use constant(0).")
    reason = "The number of boundaries must be one less than the number of schedules."
    check_size("join", "boundaries", len(boundaries), len(schedules) - 1, reason)
    check_increasing("join", boundaries)
    formulas = [lifted(part).formula for part in schedules]
    spans = list(zip(formulas[1:], boundaries, (*boundaries[1:], None), strict=False))

    def at(t: Any, xp: Namespace) -> Any:
        value = formulas[0](xp.minimum(t, boundaries[0]) if boundaries else t, xp)
        for formula, start, end in spans:
            s = xp.maximum(t - start, 0)  # outside its span a schedule is asked for its nearest end: nothing overflows
            value = xp.where(t < start, value, formula(s if end is None else xp.minimum(s, end - start), xp))
        return value

    return at


@kind(_turns_of_scale)
def scale(schedule: Part, factor: Part) -> Formula:
    """A schedule times a number or another schedule: ``schedule(t) * factor(t)``; the same as ``schedule * factor``.

    Parameters
    ----------
    schedule : a schedule, or a number >= 0.
    factor : a schedule, or a number >= 0.

    Examples
    --------
    >>> constant(0.1) * 0.5
    scale(constant(0.1), factor=0.5)
    >>> scale(constant(0.5), constant(0.5))(7)
    0.25
    """
    first, second = lifted(schedule).formula, lifted(factor).formula

    def at(t: Any, xp: Namespace) -> Any:
        return first(t, xp) * second(t, xp)

    return at
