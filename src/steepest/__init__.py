"""steepest: every optimizer, schedule, clipping rule and wrapper written once, as mathematics, planned into one pass.

Recipes (`adamw`, `lamb` …), clips, wrappers and one's own rules are joined by `chain`; ``steepest.numpy`` runs a chain on
NumPy arrays, ``steepest.torch`` on torch parameters. Importing this package imports neither Numba nor any framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from steepest.checks import Axis, Count, Decay, Fraction, NonNegative, Order, Positive, Real
from steepest.language.chain import Chain, chain, copy_of_param, exclude, full, measure, only, scalar, zeros
from steepest.language.functions import (
    abs,
    as_stored,
    cos,
    count,
    exp,
    floor,
    isfinite,
    log,
    max,
    maximum,
    mean,
    minimum,
    norm,
    rms,
    sign,
    sqrt,
    sum,
    where,
    wide,
)
from steepest.language.rule import recipe, rule
from steepest.language.trace import require
from steepest.rules import *  # noqa: F403  # the catalogue names itself in rules.__all__
from steepest.rules import __all__ as _catalogue

__version__ = "0.1.0"

if TYPE_CHECKING:
    import steepest.numpy as numpy
    import steepest.schedules as schedules
    import steepest.torch as torch

_LAZY = ("monitor", "numpy", "schedules", "torch", "workbench")
_MONITORING = (
    "Guard", "JsonLines", "MLflow", "Monitor", "Report", "TensorBoard", "Terminal", "WeightsAndBiases",
)  # fmt: skip

__all__ = [
    "Axis", "Chain", "Count", "Decay", "Fraction", "NonNegative", "Order", "Positive", "Real",
    "abs", "as_stored", "chain", "copy_of_param", "cos", "count", "exclude", "exp", "floor", "full", "isfinite", "log", "max",
    "maximum", "mean", "measure", "minimum", "norm", "numpy", "only", "recipe", "require", "rms", "rule", "scalar",
    "schedules", "sign", "sqrt", "sum", "torch", "where", "wide", "zeros", *_catalogue, *_MONITORING,
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"steepest.{name}")
    if name in _MONITORING:
        return getattr(importlib.import_module("steepest.monitor"), name)
    raise AttributeError(f"module 'steepest' has no attribute {name!r}")
