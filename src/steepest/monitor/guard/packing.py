"""State dicts as a text and named arrays, and back: what a snapshot's file holds, readable without running anybody's code.

Numbers, texts, truth values, None, bytes, arrays, tensors and the usual containers are kept exactly, each as what it was. All
else is refused where it is packed, by its place, so that no snapshot is found to be unreadable when it is needed.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Packed", "copied", "packed", "unpacked"]

_PLAIN = (bool, int, float, str, type(None))
_SEQUENCES = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
_MAPPINGS: dict[str, Any] = {"dict": dict, "OrderedDict": OrderedDict, "Counter": Counter}
_NAMES = {kind: name for name, kind in (_SEQUENCES | _MAPPINGS).items()}


@dataclass(frozen=True, slots=True)
class Packed:
    """A JSON text, and the arrays and tensors that it names by their places."""

    text: str
    arrays: dict[str, Any]


def packed(what: str, tree: Mapping[str, Any], copy: bool = True) -> Packed:
    """A tree of state dicts, packed; with ``copy`` what happens to its arrays afterwards does not change it, and all is in the
    host's memory.

    >>> one = packed("snapshot", {"steps": 3, "moments": (np.ones(2), None)})
    >>> one.text
    '["dict", [["steps", 3], ["moments", ["tuple", [["array", "moments.0"], null]]]]]'
    >>> unpacked(one)
    {'steps': 3, 'moments': (array([1., 1.]), None)}
    """
    arrays: dict[str, Any] = {}
    text = json.dumps(_packed(what, tree, (), arrays))
    return Packed(text, {name: copied(array) for name, array in arrays.items()} if copy else arrays)


def unpacked(one: Packed) -> Any:
    """The tree; its arrays are those of ``one``."""
    return _unpacked(json.loads(one.text), one.arrays)


def _packed(what: str, value: Any, place: tuple[str, ...], arrays: dict[str, Any]) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind in _NAMES and _NAMES[kind] in _SEQUENCES:
        return [_NAMES[kind], [_packed(what, v, (*place, str(i)), arrays) for i, v in enumerate(value)]]
    if kind in _NAMES:
        return [_NAMES[kind], [_entry(what, k, v, place, arrays) for k, v in value.items()]]
    if kind is bytes:
        return ["bytes", value.hex()]
    if isinstance(value, np.generic) and value.dtype.kind in "biufc":
        return ["scalar", _kept(np.asarray(value), place, arrays)]
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return ["array", _kept(value, place, arrays)]
    if _is_tensor(value):
        return ["tensor", _kept(value.detach(), place, arrays)]
    raise TypeError(
        f"{what}: {'.'.join(place)} must be a number, string, array or tensor, or a list, tuple, set or dict of them, got "
        f"{kind.__module__}.{kind.__qualname__}. To leave it out, override state_dict() in a subclass."
    )


def _entry(what: str, key: Any, value: Any, place: tuple[str, ...], arrays: dict[str, Any]) -> list[Any]:
    return [_packed(what, key, (*place, repr(key)), arrays), _packed(what, value, (*place, str(key)), arrays)]


def _kept(array: Any, place: Iterable[str], arrays: dict[str, Any]) -> str:
    """Under its place, by which a reader of the file finds a weight; numbered where two places read the same.

    Not every text can name a part of a file: one that is long, or has a character that can't be printed, becomes "array".
    """
    name = taken = ".".join(place)
    if len(name) > 200 or not name.isprintable():
        name = taken = "array"
    number = 1
    while taken in arrays:
        number += 1
        taken = f"{name} ({number})"
    arrays[taken] = array
    return taken


def copied(array: Any) -> Any:
    """An array or tensor of one's own, in the host's memory."""
    return array.copy() if isinstance(array, np.ndarray) else array.to("cpu", copy=True)


def _unpacked(value: Any, arrays: Mapping[str, Any]) -> Any:
    if not isinstance(value, list):
        return value
    kind, content = value
    if kind in _SEQUENCES:
        return _SEQUENCES[kind](_unpacked(v, arrays) for v in content)
    if kind in _MAPPINGS:
        return _MAPPINGS[kind]({_unpacked(k, arrays): _unpacked(v, arrays) for k, v in content})
    if kind == "bytes":
        return bytes.fromhex(content)
    return arrays[content][()] if kind == "scalar" else arrays[content]


def _is_tensor(value: Any) -> bool:
    kind = type(value)
    return hasattr(value, "detach") and hasattr(value, "clone") and kind.__module__.split(".")[0] == "torch"
