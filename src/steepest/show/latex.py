r"""A chain's step as LaTeX, line by line, in the letters of the papers: what the documentation and notebooks show.

The lines are printed from the traced rules, like ``explain.equations``, so they can't drift from what runs. They follow the
rules' own statements: the values that a rule gives names, and those that one rule hands to the next, stand on lines of their
own where they are long. A number that is 0 or 1 in this chain is put in (``x + 0`` is ``x``); every other keeps its letter. A
schedule carries the index of the step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from steepest.language.chain import Chain
from steepest.language.expression import Expr, Rate, ancestors, is_reduction
from steepest.language.operations import OPERATIONS, REDUCTIONS
from steepest.language.trace import trace
from steepest.show.forms import (
    ATOM,
    POWER,
    PRODUCT,
    SUM,
    bias_corrected,
    form_of,
    is_tall,
    number,
    parenthesized,
    wrapped,
)
from steepest.show.letters import LOCALS, NUMBERS, RATIOS, STATES, TEMPORARIES, UPDATES, Symbol, upright, word
from steepest.show.simplified import Simple, names_in, simplified, value_of

__all__ = ["aligned", "equations_latex"]


_USED_ONCE, _USED_AGAIN, _UPDATE_USED_AGAIN = 7, 4, 3
"""From how many letters and numbers on a value stands on a line of its own."""


def equations_latex(chain: Chain) -> list[str]:
    r"""The lines of a step, each ``letter = value``, in the order in which the rules say them.

    A chain that never applies its update gives the update it would hand over.

    >>> import steepest
    >>> print(*equations_latex(steepest.sgd(0.1, momentum=0.9)), sep="\n")
    b_t = \begin{cases} g_t & t = 1 \\ \mu \, b_{t-1} + g_t & \text{otherwise} \end{cases}
    \theta_t = \theta_{t-1} - \eta \, b_t
    """
    with names_in(chain) as (locals_, returned):
        traced = trace(chain)
    return _Writer(simplified(traced), locals_, returned).lines()


def aligned(lines: list[str]) -> str:
    """The lines as one block, aligned at the equals sign behind each one's letter; what is said in words has none."""
    rows = [f"& {line}" if line.startswith(r"\text") else line.replace(" = ", " &= ", 1) for line in lines]
    return "\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}"


class _Writer:
    """Gives letters to the values that deserve a line, and writes each line over them."""

    def __init__(self, simple: Simple, locals_: dict[int, str], returned: dict[int, str]) -> None:
        self.traced, self.nodes, self.at = simple.traced, simple.graph.nodes, simple.at
        self.locals = {self.at[i].index: name for i, name in reversed(locals_.items())}
        self.returned = {self.at[i].index: what for i, what in reversed(returned.items())}
        self.taken: set[str] = {"g_t", "t"}
        self.symbols = self._symbols()
        self.kinds = [form_of(node) for node in self.nodes]
        self.stores = self._stores()
        self.names: dict[int, str] = {}
        self._give_names()
        self.texts = self._texts()

    def lines(self) -> list[str]:
        said = []
        plain = self._texts_without_own_name()
        for i in sorted(self.names):
            said.append(f"{self.names[i]} = {plain[i]}")
        for name, value in self.stores:
            symbol = self._state(name).at("t") if name != "update" else UPDATES[0].at("t")
            if self.names.get(value.index) != symbol and not (name == "update" and value.args):
                said.append(f"{symbol} = {self.texts[value.index][0]}")
        for measure in self.traced.measures:
            said.append(f"{upright(measure.name)} = {self.texts[self.at[measure.value.index].index][0]}")
        for guard in self.traced.guards:
            text = self.texts[self.at[guard.condition.index].index][0]
            what = "left out" if guard.otherwise == "skip" else "refused"
            said.append(rf"\text{{the step is {what} unless }} {text}")
        return said

    def _stores(self) -> list[tuple[str, Expr]]:
        """What gets a new value; where nothing moves the parameters, the update stands in their place."""
        traced = self.traced
        stores = {**traced.host_stores, **traced.stores}
        found = [(n, self.at[e.index]) for n, e in stores.items() if n != "param"]
        found = [(n, e) for n, e in found if not (e.op in ("load", "input") and e.value == n)]
        param = self.at[traced.stores["param"].index]
        if param.op != "load":
            found.append(("param", param))
        elif any(link.changes == "update" for link in traced.chain):
            last = [i for i, what in self.returned.items() if what == "update"]
            if last:
                found.append(("update", self.nodes[max(last)]))
        return found

    def _symbols(self) -> dict[str, Symbol]:
        """A letter for each number of the chain; two share one only where they are the same number of the same name."""
        symbols: dict[str, Symbol] = {}
        traced, used = self.traced, {str(n.value) for n in self.nodes if n.op == "input"}
        for name in traced.starts:
            self._claim(self._state(name).at("t"))
        for symbol, (_, name) in traced.inputs.items():
            if symbol not in used:
                continue
            value = value_of(traced, symbol)
            same = [s for s in symbols if traced.inputs[s][1] == name and value_of(traced, s) is value]
            same += [s for s in symbols if traced.inputs[s][1] == name and value_of(traced, s) == value]
            if same:
                symbols[symbol] = symbols[same[0]]
                continue
            known = NUMBERS.get(name, word(name))
            number = symbol.removeprefix(name).lstrip("_")
            known = replace(known, below=",".join(filter(None, [known.below, number])))
            time = "t" if callable(value) else ""
            symbols[symbol] = known if known.at(time) not in self.taken else Symbol(upright(symbol))
            self._claim(symbols[symbol].at(time))
        return symbols

    def _state(self, name: str) -> Symbol:
        if name in STATES or name not in self.traced.starts:
            return STATES.get(name, word(name))
        position = self.traced.starts[name][1]
        declared = [n for n, _ in self.traced.chain.links[position].state]
        own = [n for n, (_, at) in self.traced.starts.items() if at == position]
        plain = declared[own.index(name)]
        known = STATES.get(plain, word(plain))
        number = name.removeprefix(plain).lstrip("_")
        return replace(known, above=f"({number})") if number else known

    def _claim(self, text: str) -> str:
        self.taken.add(text)
        return text

    def _parts(self, node: Expr) -> tuple[Expr, ...]:
        """What a value is written over, each once."""
        if (kind := self.kinds[node.index]) is not None:
            return (kind[1],) if kind[0] != "count" else ()
        if node.op == "mul" and node.args[0] is node.args[1]:
            return node.args[:1]
        return node.args

    # Who gets a line

    def _give_names(self) -> None:
        traced = self.traced
        roots = [e for _, e in self.stores]
        roots += [self.at[m.value.index] for m in traced.measures] + [self.at[g.condition.index] for g in traced.guards]
        live: set[int] = set()
        uses: dict[int, int] = {}
        todo = list(roots)
        while todo:
            node = todo.pop()
            if node.index in live:
                continue
            live.add(node.index)
            for part in self._parts(node):
                uses[part.index] = uses.get(part.index, 0) + 1
                todo.append(part)
        for name, value in self.stores:
            if value.args and value.index not in self.names and name != "update":
                self.names[value.index] = self._claim(self._state(name).at("t"))
        size: dict[int, int] = {}
        owners = {value.index: name for name, value in reversed(self.stores)}
        for node in self.nodes:
            if node.index not in live:
                continue
            leaves = sum(size[p.index] for p in self._parts(node)) or 1
            size[node.index] = leaves
            if node.args and node.index not in self.names:
                name = self._line_name(node, leaves, uses.get(node.index, 0), owners)
                if name:
                    self.names[node.index] = self._claim(name)
            if node.index in self.names:
                size[node.index] = 1
        if self.stores and self.stores[-1][0] == "update":
            value = self.stores[-1][1]
            if value.args:
                self.names.setdefault(value.index, self._temporary(value))

    def _line_name(self, node: Expr, leaves: int, uses: int, owners: dict[int, str]) -> str:
        if (corrected := bias_corrected(node)) is not None and corrected.index in owners:
            return replace(self._state(owners[corrected.index]), accent="hat").at("t")
        if (
            node.kind == "bool"
            or self.kinds[node.index] is not None
            or is_reduction(node)
            or node.op in ("wide", "neg")
        ):
            return ""
        if node.op == "where" and Rate.STEP < node.rate < Rate.ELEMENT:
            return self._free(RATIOS)
        again = _UPDATE_USED_AGAIN if node.rate == Rate.ELEMENT else _USED_AGAIN
        own = self.locals.get(node.index)
        if own is not None and (leaves >= _USED_ONCE or (uses > 1 and leaves >= again)):
            symbol = LOCALS.get(own, word(own))
            text = symbol.at("t" if self._varies(node) else "")
            return text if text not in self.taken else replace(symbol, above=r"\ast").at("t")
        if uses > 1 and leaves >= again:
            return self._temporary(node)
        return ""

    def _temporary(self, node: Expr) -> str:
        if self.returned.get(node.index) == "param":
            return self._free([Symbol(r"\theta", above=r"\prime"), Symbol(r"\theta", above=r"\prime\prime")])
        if node.rate < Rate.ELEMENT:
            return self._free(RATIOS)
        return self._free([*UPDATES, *TEMPORARIES] if not self._reads_state(node) else TEMPORARIES)

    def _free(self, symbols: list[Symbol]) -> str:
        for symbol in symbols:
            if symbol.at("t") not in self.taken:
                return symbol.at("t")
        number = 1
        while f"x_{{{number},t}}" in self.taken:
            number += 1
        return f"x_{{{number},t}}"

    def _leaves(self, node: Expr) -> set[tuple[str, Any]]:
        return {(one.op, one.value) for one in ancestors([node]).values() if not one.args and one.op != "const"}

    def _varies(self, node: Expr) -> bool:
        links = self.traced.chain.links
        for op, name in self._leaves(node):
            if op == "load" or name in ("step", "steps") or name not in self.traced.inputs:
                return True
            position, plain = self.traced.inputs[name]
            if callable(dict(links[position].values).get(plain)):
                return True
        return False

    def _reads_state(self, node: Expr) -> bool:
        return any(name in self.traced.starts for _, name in self._leaves(node))

    # Text

    def _texts_without_own_name(self) -> dict[int, str]:
        return {i: self._written(self.nodes[i], self.texts)[0] for i in self.names}

    def _texts(self) -> list[tuple[str, int]]:
        texts: list[tuple[str, int]] = []
        for node in self.nodes:
            if node.index in self.names:
                name = self.names[node.index]
                texts.append((name, 8 if "^" in name else ATOM))
            else:
                texts.append(self._written(node, texts))
        return texts

    def _written(self, node: Expr, texts: list[tuple[str, int]]) -> tuple[str, int]:
        if (kind := self.kinds[node.index]) is not None:
            said, what, index = kind
            inside = texts[what.index][0]
            if said == "count":
                return (f"n{index}", ATOM)
            if said == "norm":
                return (rf"\left\| {inside} \right\|{index}", ATOM)
            return (rf"\operatorname{{{said}}}{index}{parenthesized(inside)}", ATOM)
        if node.op == "const":
            return number(node.value)
        if node.op == "load":
            return ("g_t", ATOM) if node.value == "grad" else (self._state(str(node.value)).at("t-1"), 8)
        if node.op == "input":
            return self._input(str(node.value)), ATOM
        if node.op in ("wide", "as_stored"):
            return texts[node.args[0].index]
        if is_reduction(node):
            sign = REDUCTIONS[node.op].latex or rf"\operatorname{{{node.op}}}"
            return (rf"{sign}_{{\text{{{node.rate.word}}}}} {wrapped(texts[node.args[0].index], SUM)}", PRODUCT)
        return self._operation(node, texts)

    def _input(self, name: str) -> str:
        if name in ("step", "steps"):
            return "t"
        if name not in self.traced.inputs:
            return self._state(name).at("t-1")
        position, plain = self.traced.inputs[name]
        scheduled = callable(dict(self.traced.chain.links[position].values).get(plain))
        return self.symbols[name].at("t" if scheduled else "")

    def _operation(self, node: Expr, texts: list[tuple[str, int]]) -> tuple[str, int]:
        args = node.args
        if node.op == "mul":
            return self._product(node, texts)
        if node.op == "where":
            return self._cases(node, texts), PRODUCT
        parts = [texts[a.index] for a in args]
        row = OPERATIONS[node.op]
        if node.op in ("div", "sqrt"):
            return row.latex.format(*(text for text, _ in parts)), PRODUCT if node.op == "div" else 8
        if node.op == "pow":
            power = row.latex.format(wrapped(parts[0], 8), parts[1][0])
            return power.replace(f"^{{{parts[1][0]}}}", f"^{parts[1][0]}") if len(parts[1][0]) == 1 else power, POWER
        if node.op == "neg":
            return "-" + wrapped(parts[0], SUM), SUM
        if not row.infix:
            text = ", ".join(text for text, _ in parts)
            written = row.latex.format(*(t for t, _ in parts)) if row.latex else rf"\operatorname{{{node.op}}}({text})"
            if is_tall(text):
                written = written.replace("(", r"\left(", 1)[: -1 if written.endswith(")") else None]
                written += r"\right)" if row.latex.endswith(")") or not row.latex else ""
            return written, ATOM
        first = wrapped(parts[0], row.precedence - 1)
        rest = [wrapped(p, row.precedence - (node.op not in ("sub", "mod"))) for p in parts[1:]]
        return (row.latex or row.infix).format(first, *rest), SUM - 1 if node.op == "mod" else row.precedence

    def _product(self, node: Expr, texts: list[tuple[str, int]]) -> tuple[str, int]:
        """Numbers first, then what is known once per step, then the rest, as one writes it."""
        if node.args[0] is node.args[1]:
            return wrapped(texts[node.args[0].index], 8) + "^2", POWER
        factors, todo = [], [*reversed(node.args)]
        while todo:
            one = todo.pop()
            if one.op == "mul" and one.index not in self.names and one.args[0] is not one.args[1]:
                todo += reversed(one.args)
            else:
                factors.append(one)
        factors.sort(key=lambda f: (f.op != "const", f.rate, f.op == "where"))
        said = ""
        for factor in factors:
            text = wrapped(texts[factor.index], PRODUCT - 1)
            between = "" if not said else r" \cdot " if text[:1].isdigit() else r" \, "
            if said.endswith(")") or text.startswith(("(", r"\left(")):
                between = " " if said else ""
            said += between + text
        return said, PRODUCT

    def _cases(self, node: Expr, texts: list[tuple[str, int]]) -> str:
        rows, rest = [], node
        while True:
            rows.append(f"{texts[rest.args[1].index][0]} & {texts[rest.args[0].index][0]}")
            rest = rest.args[2]
            if rest.op != "where" or rest.index in self.names or self.kinds[rest.index] is not None:
                break
        rows.append(rf"{texts[rest.index][0]} & \text{{otherwise}}")
        return r"\begin{cases} " + r" \\ ".join(rows) + r" \end{cases}"
