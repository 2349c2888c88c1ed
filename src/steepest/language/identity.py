"""Which links are the same rule, so that groups with different chains share its sums over the model, and no other rule's.

Two links are the same where all that they compute with is the same: the function, what it reads, its states, and its structure.
Only numbers and schedules may differ. A function that is made separately for each group (a lambda, a rule inside a function) is
the same where its code and every value that the code reads are; a name alone says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steepest.language.chain import Link

__all__ = ["as_key", "numbers_of", "same_rule"]


@dataclass(frozen=True, slots=True, eq=False)
class _Itself:
    """Stands for an object in a key: equal where the object is the same one. It keeps the object alive."""

    object: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.object is other.object

    def __hash__(self) -> int:
        return id(self.object)


def as_key(value: Any) -> Hashable:
    """A value as part of a key: a number is like an equal number, True is not like 1, -0.0 not like 0.0."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "number", value or str(float(value))
    if value is None or isinstance(value, (bool, str, bytes)):
        return type(value), value
    return tuple(map(as_key, value)) if isinstance(value, tuple) else _Itself(value)


def same_rule(link: Link) -> Hashable:
    """Equal for two links that are the same rule, whatever their numbers and the parameters that they apply to."""
    measures = tuple((name, _function_key(function)) for name, function in link.measures)
    structure = tuple((name, as_key(value)) for name, value in link.structure)
    names = tuple(name for name, _ in link.values)
    return link.name, _function_key(link.function), link.reads, link.state, structure, names, measures


def numbers_of(links: Iterable[Link]) -> list[tuple[Hashable, int]]:
    """Each link's rule, and which of the chain's links of that rule it is, from 1; also where the others have been left out."""
    found: list[tuple[Hashable, int]] = []
    seen: dict[Hashable, int] = {}
    for link in links:
        rule = same_rule(link)
        seen[rule] = link.number or seen.get(rule, 0) + 1
        found.append((rule, seen[rule]))
    return found


def _function_key(function: Callable[..., Any] | None) -> Hashable:
    if not isinstance(function, FunctionType):
        return function  # a callable object, which is equal to what it says; or none
    code, known = function.__code__, function.__globals__
    read = [(name, as_key(known[name])) for name in sorted(_names_in(code)) if name in known]
    cells = [as_key(_held(cell)) for cell in function.__closure__ or ()]
    defaults = [as_key(value) for value in function.__defaults__ or ()]
    named = [(name, as_key(value)) for name, value in (function.__kwdefaults__ or {}).items()]
    return code, tuple(read), tuple(cells), tuple(defaults), tuple(named)


def _names_in(code: CodeType) -> set[str]:
    """What the code, and the functions defined in it, may read by name."""
    found: set[str] = set()
    todo = [code]
    while todo:
        one = todo.pop()
        found.update(one.co_names)
        todo += [constant for constant in one.co_consts if isinstance(constant, CodeType)]
    return found


def _held(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it has not been given a value yet
        return None
