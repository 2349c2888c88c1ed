"""Names in generated text: what values are called in it, where reductions are kept, and how a buffer's elements are stored.

A value carries the name of its state or hyperparameter where it has one and the name is free, else a letter and its index.
"""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from steepest.language.expression import Rate
from steepest.plan.plan import Program

__all__ = ["Names", "storage_of"]


class Names:
    """Identifiers: a buffer by its name, a hyperparameter by its, everything else by letter and index.

    ``is_own`` tells the names that the text around them needs for itself.
    """

    def __init__(
        self,
        program: Program,
        dtype: str,
        storage: Mapping[str, str],
        is_own: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self.program, self.dtype = program, dtype
        self.storage = {name: storage.get(name, dtype) for name in (*program.buffers, "param")}
        self.tensor_slots = _slots(program, Rate.MODEL, Rate.TENSOR)
        self.unit_slots = _slots(program, Rate.UNIT)
        inputs = [str(n.value) for n in program.graph.nodes if n.op == "input"]
        taken: set[str] = set()
        self.buffers, self.inputs = (_identifiers(given, taken, is_own) for given in (program.buffers, inputs))

    def buffer(self, name: str) -> str:
        """A buffer, or its piece."""
        return self.buffers[name]

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


def _identifiers(names: Iterable[str], taken: set[str], is_own: Callable[[str], bool]) -> dict[str, str]:
    """Each name, with underscores behind it while Python, the text around it or another name has it already."""
    found: dict[str, str] = {}
    for name in names:
        made = name
        while made in taken or keyword.iskeyword(made) or hasattr(builtins, made) or is_own(made):
            made += "_"
        found[name] = made
        taken.add(made)
    return found


def _slots(program: Program, *rates: Rate) -> dict[int, int]:
    nodes = program.graph.nodes
    found = [i for one in program.passes for i in one.reductions if nodes[i].rate in rates]
    return {i: slot for slot, i in enumerate(found)}
