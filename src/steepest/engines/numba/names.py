"""Names in generated text: what values are called in it, where reductions are kept, and how a buffer's elements are stored.

A value carries the name of its state or hyperparameter where it has one and the name is free, else a letter and its index.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from steepest.language.expression import Expr, Rate
from steepest.language.operations import functions_in
from steepest.plan.plan import ITEMSIZES, Program

__all__ = ["Names", "storage_of"]


class Names:
    """Identifiers: a buffer by its name, a hyperparameter by its, everything else by letter and index."""

    def __init__(self, program: Program, dtype: str, storage: Mapping[str, str]) -> None:
        self.program, self.dtype = program, dtype
        self.storage = {name: storage.get(name, dtype) for name in (*program.buffers, "param")}
        self.tensor_slots = _slots(program, Rate.MODEL, Rate.TENSOR)
        self.unit_slots = _slots(program, Rate.UNIT)
        inputs = [str(n.value) for n in program.graph.nodes if n.op == "input"]
        taken: set[str] = set()
        self.buffers, self.inputs = _identifiers(program.buffers, taken), _identifiers(inputs, taken)

    def buffer(self, name: str) -> str:
        """A buffer, or its piece."""
        return self.buffers[name]

    def widened(self, name: str, element: str) -> str:
        """What is in a buffer, in the type of computation."""
        kind = self.storage[name]
        return element if kind == self.dtype else f"from_{kind}({element})"

    def narrowed(self, name: str, said: str, value: Expr) -> str:
        """A value as a buffer holds it."""
        said = f"float32({said})" if value.kind == "wide" and self.dtype == "float32" else said
        kind = self.storage[name]
        return said if kind == self.dtype else f"to_{kind}({said})"

    def array(self, name: str, start: str) -> str:
        """The piece of a buffer from an element on."""
        column, kind = self.program.buffers.index(name), self.storage[name]
        address = "address" if kind == self.dtype else "address_uint16"
        return f"carray({address}(table[t, {column}] + {ITEMSIZES[kind]} * ({start})), (n,))"

    def slow(self, i: int) -> str:
        """A value that is known once per step, model, tensor or unit."""
        node = self.program.graph.nodes[i]
        if node.op == "input":
            return self.inputs[node.value]
        letter = {Rate.STEP: "s", Rate.MODEL: "m", Rate.TENSOR: "t", Rate.UNIT: "u"}[node.rate]
        return f"{letter}{i}"


def storage_of(dtype: np.dtype[Any]) -> str:
    """The type in which an array's elements are stored. NumPy has no bfloat16: arrays of ``uint16`` hold its bits.

    >>> storage_of(np.dtype("uint16"))
    'bfloat16'
    """
    return "bfloat16" if dtype == np.uint16 else str(dtype.name)


def _identifiers(names: Iterable[str], taken: set[str]) -> dict[str, str]:
    """Each name, with underscores behind it while Python, the text around it or another name has it already."""
    found: dict[str, str] = {}
    for name in names:
        made = name
        while made in taken or keyword.iskeyword(made) or hasattr(builtins, made) or _is_own(made):
            made += "_"
        found[name] = made
        taken.add(made)
    return found


def _slots(program: Program, *rates: Rate) -> dict[int, int]:
    nodes = program.graph.nodes
    found = [i for one in program.passes for i in one.reductions if nodes[i].rate in rates]
    return {i: slot for slot, i in enumerate(found)}


_OWN_NAMES = (
    "n|i|k|t|u|row|lo|hi|width|table|widths|rows|first_row|scalars|scalar_row|partials|units|first_unit|address|add|"
    "add_product|address_float64|address_int64|report|take_next|wait_for|carray|njit|words|place|"
    "float32|float64|inf|nan|OPTIONS|run|"
    "address_uint16|(from|to)_b?float16"
)


def _is_own(name: str) -> bool:
    """Whether generated text gives the name to a value or a function of its own."""
    return bool(_OWN.fullmatch(name) or functions_in(f"{name}("))


_OWN = re.compile(rf"{_OWN_NAMES}|(s|m|t|u|v|c|r|sum|pass_|segment_)\d+|.*(_i|_32|_holds)")
