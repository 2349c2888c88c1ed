"""steepest: every optimizer, schedule, clipping rule and wrapper written once, as mathematics, planned into one pass.

Recipes (`adamw`, `lamb` …), clips, wrappers and one's own rules are joined by `chain`; ``steepest.numpy`` runs a chain on
NumPy arrays, ``steepest.torch`` on torch parameters. Importing this package imports neither Numba nor any framework.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

from steepest import rules
from steepest.checks import Axis, Order
from steepest.language.chain import Chain, chain, copy_of_param, exclude, full, measure, only, scalar, zeros
from steepest.language.functions import (
    abs as abs,
    as_stored,
    cos,
    count,
    exp,
    floor,
    isfinite,
    log,
    max as max,
    maximum,
    mean,
    minimum,
    norm,
    rms,
    sign,
    sqrt,
    sum as sum,
    where,
    wide,
)
from steepest.language.rule import recipe, rule
from steepest.language.trace import require
from steepest.rules import *  # noqa: F403  # every rule and recipe, listed in rules.__all__

__version__ = "0.1.0"

if TYPE_CHECKING:
    from steepest import monitor as monitor, numpy as numpy, schedules, torch as torch, workbench as workbench
    from steepest.monitor import Guard, JsonLines, MLflow, Monitor, Report, TensorBoard, Terminal, WeightsAndBiases

    # Inside a rule a hyperparameter is a symbol that calculates like a number. A call of the rule may give a number, a schedule or
    # a function of the step. No one type says both, so checkers leave the values of your own rules to the check at run time.
    Count: TypeAlias = float | Any
    Decay: TypeAlias = float | Any
    Fraction: TypeAlias = float | Any
    NonNegative: TypeAlias = float | Any
    Positive: TypeAlias = float | Any
    Real: TypeAlias = float | Any
else:
    from steepest.checks import Count, Decay, Fraction, NonNegative, Positive, Real

_MODULES = ("monitor", "numpy", "schedules", "torch", "workbench")
_MONITORING = (
    "Guard", "JsonLines", "MLflow", "Monitor", "Report", "TensorBoard", "Terminal", "WeightsAndBiases",
)  # fmt: skip

# Neither Python's abs, max and sum nor the names of other libraries: `from steepest import *` leaves them as they are.
__all__ = [
    "Axis", "Chain", "Count", "Decay", "Fraction", "Guard", "JsonLines", "MLflow", "Monitor", "NonNegative", "Order", "Positive",
    "Real", "Report", "TensorBoard", "Terminal", "WeightsAndBiases", "as_stored", "chain", "copy_of_param", "cos", "count",
    "exclude", "exp", "floor", "full", "isfinite", "log", "maximum", "mean", "measure", "minimum", "norm", "only", "recipe",
    "require", "rms", "rule", "scalar", "schedules", "sign", "sqrt", "where", "wide", "zeros",
]  # fmt: skip
__all__ += rules.__all__


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES, "abs", "max", "sum", "__version__"})


if not TYPE_CHECKING:  # a checker would take any name for one of the package's

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return importlib.import_module(f"steepest.{name}")
        if name in _MONITORING:
            return getattr(importlib.import_module("steepest.monitor"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])
