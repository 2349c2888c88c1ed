"""Schedules: hyperparameters that change from step to step, as pure functions of the step.

``schedule(t)`` is the value to use when t steps have been taken: t is 0 at the first step, where a rule's own ``step``
is 1 (the library converts, in one place). A schedule goes wherever a number goes:
``adamw(lr=cosine(1e-3, steps=10_000, warmup=500))``. It is a value: it prints as the call that makes it, compares,
hashes, pickles, and survives JSON exactly. `warmup`, `join` (or ``a.then(b, at=n)``) and `scale` (or ``a * 0.5``) put
schedules together; ``schedule.values(n)`` is an array for a plot. A schedule that ends is held at its end, and all are
exact at their boundaries, however far the run goes. ``initial`` is always the value at t = 0, ``peak`` the value at the
top, ``final`` the one at the end, ``steps`` a length and ``gamma`` a factor per period. What is scheduled is a learning
rate, or anything else that is not negative.
"""

from steepest.schedules.cycles import cyclic, one_cycle, warm_restarts
from steepest.schedules.decays import exponential, inverse_sqrt, linear, multi_step, piecewise, polynomial, step
from steepest.schedules.phases import cosine, warmup, wsd
from steepest.schedules.plateau import ReduceOnPlateau
from steepest.schedules.saved import from_json
from steepest.schedules.schedule import Schedule, constant, join, scale

__all__ = [
    "ReduceOnPlateau",
    "Schedule",
    "constant",
    "cosine",
    "cyclic",
    "exponential",
    "from_json",
    "inverse_sqrt",
    "join",
    "linear",
    "multi_step",
    "one_cycle",
    "piecewise",
    "polynomial",
    "scale",
    "step",
    "warm_restarts",
    "warmup",
    "wsd",
]
