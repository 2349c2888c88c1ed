"""Values as strict JSON, which every reader understands: the facts of a run, its events, `JsonLines`.

JSON has no word for what is not finite. nan is written as ``null``, infinities as ``"Infinity"`` and ``"-Infinity"``, which
``float`` reads. Imports nothing of the package.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["number_of", "to_json"]


def to_json(value: Any) -> str:
    """One line of strict JSON; what JSON doesn't know is written as its text.

    >>> to_json({"loss": float("nan"), "grad_norm": float("inf"), "shape": (2, 3)})
    '{"loss":null,"grad_norm":"Infinity","shape":[2,3]}'
    >>> to_json({(1, 2): 3})
    '{"(1, 2)":3}'
    """
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"), default=_strict)
    except (ValueError, TypeError):  # not finite, or a key is no text; looking for it costs several times as much
        return json.dumps(_strict(value), allow_nan=False, separators=(",", ":"))


def number_of(value: Any) -> float:
    """A number that `to_json` wrote."""
    return math.nan if value is None else float(value)


def _strict(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, float):
        value = float(value)  # NumPy's float64 is a float whose repr is none
        return value if math.isfinite(value) else None if math.isnan(value) else str(value).replace("inf", "Infinity")
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Mapping):
        return {str(name): _strict(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(one) for one in value]
    if hasattr(value, "tolist"):  # an array or a scalar of NumPy
        return _strict(value.tolist())
    return str(value)
