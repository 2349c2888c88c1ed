"""The few instructions that the generated loops need and Numba does not offer.

Kept apart from the generated text so that it stays readable. Imports Numba; imported by generated code and by the engine.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

__all__ = [
    "add",
    "add_product",
    "address_float32",
    "address_float64",
    "address_int32",
    "address_int64",
    "address_uint16",
    "from_bfloat16",
    "from_float16",
    "report",
    "take_next",
    "to_bfloat16",
    "to_float16",
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
address_uint16 = _address(types.uint16, ir.IntType(16))


# ---- float32 from and to the bits of 16-bit types; rounding is to nearest, ties to even


def _converted(result: Any, argument: Any, build: Callable[[Any, Any], Any]) -> Any:
    @intrinsic
    def convert(typing_context: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return build(builder, args[0])

        return result(argument), generate

    return convert


_SHORT, _WORD, _HALF, _SINGLE = ir.IntType(16), ir.IntType(32), ir.HalfType(), ir.FloatType()


def _widen_bfloat16(builder: Any, bits: Any) -> Any:
    return builder.bitcast(builder.shl(builder.zext(bits, _WORD), _WORD(16)), _SINGLE)


def _round_to_bfloat16(builder: Any, value: Any) -> Any:
    """By integers: the processors' own instruction takes subnormal numbers for zero."""
    bits = builder.bitcast(value, _WORD)
    upper = builder.lshr(bits, _WORD(16))
    half = builder.add(_WORD(0x7FFF), builder.and_(upper, _WORD(1)))
    rounded = builder.lshr(builder.add(bits, half), _WORD(16))
    quiet = builder.or_(upper, _WORD(0x40))
    return builder.trunc(builder.select(builder.fcmp_unordered("uno", value, value), quiet, rounded), _SHORT)


def _widen_float16(builder: Any, bits: Any) -> Any:
    return builder.fpext(builder.bitcast(bits, _HALF), _SINGLE)


def _round_to_float16(builder: Any, value: Any) -> Any:
    return builder.bitcast(builder.fptrunc(value, _HALF), _SHORT)


_bits = _converted(types.uint32, types.float32, lambda builder, value: builder.bitcast(value, _WORD))
_single = _converted(types.float32, types.uint32, lambda builder, bits: builder.bitcast(bits, _SINGLE))
_UP, _DOWN, _BACK = np.float32(2.0**112), np.float32(2.0**-112), np.float32(2.0**-110)


@njit(nogil=True)
def _widen_float16_by_bits(bits: int) -> float:
    """Without the processor's instruction. M. Dukhan, FP16, ``fp16_ieee_to_fp32_value``."""
    doubled = (np.int64(bits) << 17) & 0xFFFFFFFF
    normal = _single((doubled >> 4) + (0xE0 << 23)) * _DOWN
    subnormal = _single((doubled >> 17) | (126 << 23)) - np.float32(0.5)
    magnitude = subnormal if doubled < 1 << 27 else normal
    return _single(_bits(magnitude) | ((bits & 0x8000) << 16))  # type: ignore[no-any-return]  # an intrinsic's


@njit(nogil=True)
def _round_to_float16_by_bits(value: float) -> np.uint16:
    """The way back: ``fp16_ieee_from_fp32_value``. Adding a power of two rounds where a half ends."""
    bits = np.int64(_bits(value))
    doubled = (bits << 1) & 0xFFFFFFFF
    scaled = abs(value) * _UP * _BACK
    exponent = doubled & 0xFF000000 if doubled > 0x71000000 else 0x71000000
    rounded = _bits(_single((exponent >> 1) + 0x07800000) + scaled)
    magnitude = ((rounded >> 13) & 0x7C00) + (rounded & 0xFFF)
    if doubled > 0xFF000000:
        magnitude = 0x7E00
    return np.uint16(((bits >> 16) & 0x8000) | magnitude)


def _converts_halves() -> bool:
    """Whether the processor that Numba compiles for has the instructions; LLVM would call functions that are not there."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return "+f16c" in features or platform.machine().lower() in ("arm64", "aarch64")


from_bfloat16 = _converted(types.float32, types.uint16, _widen_bfloat16)
to_bfloat16 = _converted(types.uint16, types.float32, _round_to_bfloat16)
from_float16 = _converted(types.float32, types.uint16, _widen_float16) if _converts_halves() else _widen_float16_by_bits
to_float16 = (
    _converted(types.uint16, types.float32, _round_to_float16) if _converts_halves() else _round_to_float16_by_bits
)


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
