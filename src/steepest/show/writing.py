"""Values as text over the values that have a name, of a length that grows with their number, however often they are used.

A `Writer` gives a name of its own to every part that would make a line long, and puts the line of that part first.
"""

from __future__ import annotations

from collections.abc import Sequence

from steepest.language.expression import Expr, Rate, is_reduction
from steepest.language.operations import OPERATIONS

__all__ = ["LETTERS", "Writer"]

LETTERS = {Rate.STEP: "s", Rate.MODEL: "m", Rate.TENSOR: "t", Rate.UNIT: "u", Rate.ELEMENT: "v"}
LONGEST = 240
"""Characters from which on a part of a line gets a line of its own."""


class Writer:
    """Writes values of a graph. ``names`` holds the names given so far; ``lines`` what must stand before the next line."""

    def __init__(self, nodes: Sequence[Expr]) -> None:
        self.nodes = nodes
        self.names: dict[int, str] = {}
        self.lines: list[tuple[str, str]] = []
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    def give(self, index: int, name: str) -> str:
        """Call a value by a name from now on."""
        self.names[index] = name
        self._taken.add(name)
        return name

    def give_new(self, index: int, letter: str) -> str:
        """Call a value by a letter and the first number that is free."""
        number = self._next.get(letter, 0)
        while f"{letter}{number}" in self._taken:
            number += 1
        self._next[letter] = number + 1
        return self.give(index, f"{letter}{number}")

    def text(self, root: int, own_name: bool = True) -> str:
        """A value as text; with ``own_name=False`` written out, although it has a name."""
        if own_name and root in self.names:
            return self.names[root]
        found: dict[int, tuple[str, int]] = {}
        todo = [root]
        while todo:
            node = self.nodes[todo[-1]]
            named = node.index in self.names and node.index != root
            missing = [] if named else [a.index for a in node.args if a.index not in found]
            if missing:
                todo += missing
                continue
            todo.pop()
            if named:
                found[node.index] = self.names[node.index], 100
            elif node.index not in found:
                written = self._written(node, found)
                if len(written[0]) > LONGEST and node.index != root and node.op != "wide":
                    name = self.give_new(node.index, LETTERS[node.rate])
                    self.lines.append((name, written[0]))
                    written = name, 100
                found[node.index] = written
        return found[root][0]

    def _written(self, node: Expr, texts: dict[int, tuple[str, int]]) -> tuple[str, int]:
        """A value's text with its precedence, over those of its arguments."""
        if node.op == "const":
            return f"{node.value:.12g}", 100 if node.value >= 0 else 6
        if not node.args:
            return str(node.value), 100
        if is_reduction(node):
            return f"{node.op}({texts[node.args[0].index][0]}) per {node.rate.word}", 100
        if node.op == "wide":
            return texts[node.args[0].index]
        return self._operation(node, texts)

    def _operation(self, node: Expr, texts: dict[int, tuple[str, int]]) -> tuple[str, int]:
        row, args = OPERATIONS[node.op], node.args
        if node.op == "mul" and args[0] is args[1]:
            text, precedence = texts[args[0].index]
            return (f"({text})" if precedence < 8 else text) + "**2", 7
        factor = args[-1]
        if node.op == "mul" and factor.op == "div" and factor.args[0].value == 1.0 and factor.index not in self.names:
            row, args = OPERATIONS["div"], (args[0], factor.args[1])  # the planner's own x * (1 / slow)
        parts = [texts[a.index] for a in args]
        if not row.infix:
            return f"{row.name}({', '.join(text for text, _ in parts)})", 100
        written = []
        for position, (text, precedence) in enumerate(parts):
            same = precedence == row.precedence and not row.boolean
            first = same and position == 0 and row.name != "pow"
            regrouped = same and row.name in ("add", "mul") and args[position].op != "mod"
            compared = row.name in ("and", "or") and precedence == 3
            tight = precedence > row.precedence and not compared
            written.append(text if tight or first or regrouped else f"({text})")
        return row.infix.format(*written), row.precedence
