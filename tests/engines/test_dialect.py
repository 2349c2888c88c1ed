"""A dialect is all that an engine needs to write the mathematics of a pass: here one of array operations, run by `exec`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import steepest
from steepest.engines.arrays import ArrayEngine
from steepest.engines.dialect import body
from steepest.engines.names import Names
from steepest.engines.tensors import Tensor
from steepest.language.expression import Expr
from steepest.language.operations import OPERATIONS, REDUCTIONS
from steepest.plan.planner import plan


class ArrayDialect:
    """Text that works on whole NumPy arrays."""

    def constant(self, value: float, double: bool) -> tuple[str, bool]:
        return f"np.{'float64' if double else 'float32'}({value!r})", True

    def operation(self, node: Expr, args: Sequence[str], double: bool) -> str:
        return f"{node.op}_(np, {', '.join(args)})"

    def condition(self, scalar: str) -> str:
        return f"{scalar} != 0"

    def narrowed(self, scalar: str) -> str:
        return f"np.float32({scalar})"

    def widened(self, text: str) -> str:
        return f"np.float64({text})"

    def loaded(self, buffer: str) -> str:
        return f"{buffer}.copy()"

    def stored(self, buffer: str, text: str) -> str:
        return f"{buffer}[...] = {text}"

    def decoded(self, text: str, storage: str) -> str:
        return f"np.float32({text})"

    def encoded(self, text: str, storage: str, wide: bool) -> str:
        return f"np.{storage}({text})"


@pytest.mark.parametrize(("dtype", "storage"), [("float32", "float32"), ("float32", "float16"), ("float64", "float64")])
@pytest.mark.parametrize("recipe", [steepest.adamw, steepest.radam, steepest.lion, steepest.rmsprop])
def test_a_pass_in_another_dialect_computes_what_the_array_engine_does(
    recipe: type, dtype: str, storage: str, rng: np.random.Generator
) -> None:
    own = plan(recipe(0.1))
    program = own.program(own.usual)
    scalars = rng.uniform(0.1, 0.9, size=(1, len(program.scalars)))
    held = {name: storage if name in ("param", "grad") else dtype for name in program.buffers}
    buffers = {name: rng.uniform(0.5, 1.5, size=7).astype(kind) for name, kind in held.items()}
    expected = Tensor("w", 0, {name: buffer.astype(dtype) for name, buffer in buffers.items()})
    ArrayEngine().bind(program, [expected], [0]).run(0, scalars)

    names = Names(program, dtype, held)
    (made,) = (body(program, number, names, ArrayDialect()) for number in range(len(program.passes)))
    lines = [f"{name} = {text}" for name, text in made.before.items()] + made.inside + made.stores
    space = {"np": np, **{f"{row.name}_": row.array for row in OPERATIONS.values()}}
    space |= {names.buffer(name): buffer for name, buffer in buffers.items()}
    space |= {names.slow(i): float(value) for i, value in zip(program.scalars, scalars[0], strict=True)}
    exec("\n".join(lines), space)
    for name, buffer in buffers.items():
        np.testing.assert_array_equal(buffer, expected.buffers[name].astype(held[name]), err_msg=name)


def test_reductions_give_the_texts_that_they_take_in() -> None:
    own = plan(steepest.clip_by_global_norm(1.0) | steepest.descend(0.1))
    program = own.program(own.usual)
    names = Names(program, "float32", {})
    ((index, (first, second)),) = body(program, 0, names, ArrayDialect()).reduced.items()
    assert REDUCTIONS[program.graph.nodes[index].op].product and first == second
