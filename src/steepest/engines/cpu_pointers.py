"""The four instructions that the generated loops need and Numba does not offer.

Kept apart from the generated text so that it stays readable. Imports Numba; imported by generated code and by the engine.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

__all__ = ["add", "address_float32", "address_float64", "address_int32", "address_int64", "take_next"]


def _address(element: Any, llvm: Any) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def address(typing_context: Any, number: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], llvm.as_pointer())

        return types.CPointer(element)(types.int64), generate

    return address


address_float32 = _address(types.float32, ir.FloatType())
address_float64 = _address(types.float64, ir.DoubleType())
address_int32 = _address(types.int32, ir.IntType(32))
address_int64 = _address(types.int64, ir.IntType(64))


@intrinsic  # type: ignore[untyped-decorator]
def take_next(typing_context: Any, counter: Any) -> Any:
    """The number at an address, which is then one larger; no two threads get the same."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        return builder.atomic_rmw("add", builder.inttoptr(args[0], word.as_pointer()), ir.Constant(word, 1), "monotonic")

    return types.int64(types.int64), generate


@njit(fastmath={"reassoc"})  # type: ignore[untyped-decorator]
def add(a: float, b: float) -> float:
    """An addition that may be reordered inside one loop, so that a sum vectorises; the order is fixed when it is compiled."""
    return a + b
