"""The few instructions that the generated loops need and Numba does not offer.

Kept apart from the generated text so that it stays readable. Imports Numba; imported by generated code and by the engine.
"""

from __future__ import annotations

import sys
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "add",
    "add_product",
    "address_float32",
    "address_float64",
    "address_int32",
    "address_int64",
    "report",
    "take_next",
    "wait_for",
]


def _address(element: Any, llvm: Any) -> Any:
    @intrinsic
    def address(typing_context: Any, number: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], llvm.as_pointer())

        pointer = types.CPointer(element)  # type: ignore[no-untyped-call]  # Numba's own
        return pointer(types.int64), generate

    return address


address_float32 = _address(types.float32, ir.FloatType())
address_float64 = _address(types.float64, ir.DoubleType())
address_int32 = _address(types.int32, ir.IntType(32))
address_int64 = _address(types.int64, ir.IntType(64))


def _counted(amount_given: bool) -> Any:
    """An atomic addition at an address: of 1, giving the number before, or of an amount."""
    word = ir.IntType(64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        amount = args[1] if amount_given else ir.Constant(word, 1)
        return builder.atomic_rmw("add", builder.inttoptr(args[0], word.as_pointer()), amount, "acq_rel")

    if amount_given:

        @intrinsic
        def report(typing_context: Any, place: Any, amount: Any) -> Any:
            return types.int64(types.int64, types.int64), generate

        return report

    @intrinsic
    def take_next(typing_context: Any, counter: Any) -> Any:
        return types.int64(types.int64), generate

    return take_next


take_next = _counted(amount_given=False)
"""The number at an address, which is then one larger; no two threads get the same."""
report = _counted(amount_given=True)
"""Add to the number at an address; what was written before is seen by whoever waits for it."""


@intrinsic
def _seen(typing_context: Any, place: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        return builder.load_atomic(builder.inttoptr(args[0], word.as_pointer()), "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def _let_others_run(typing_context: Any) -> Any:
    """Give the core away for a moment: the thread that is waited for may have none."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
        kind = ir.FunctionType(ir.IntType(32), [])
        function = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]  # Numba's
        return builder.call(function, [])

    return types.int32(), generate


SPINS = 2_000
"""Looks before a waiting thread gives its core away: some microseconds, as long as a row usually takes to end."""


@njit(nogil=True)
def wait_for(place: int, target: int) -> None:
    """Return when the number at an address has reached the target."""
    looks = 0
    while _seen(place) < target:  # type: ignore[call-arg]  # an intrinsic's first argument is Numba's
        looks += 1
        if looks > SPINS:
            _let_others_run()


@njit(fastmath={"reassoc"})
def add(a: float, b: float) -> float:
    """An addition that may be reordered inside one loop, so that a sum vectorises; the order is fixed when it is compiled."""
    return a + b


@njit(fastmath={"reassoc", "contract"})
def add_product(sum: float, a: float, b: float) -> float:
    """The same for a sum of products, which may be rounded once instead of twice."""
    return sum + a * b
