"""The workbench: choose among optimizers by an honest protocol. An application over the public names of the package."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steepest.workbench.campaign import compare
    from steepest.workbench.lr_find import lr_find
    from steepest.workbench.parse import parse
    from steepest.workbench.protocol import Budget
    from steepest.workbench.recommendation import recommend
    from steepest.workbench.results import Result
    from steepest.workbench.tune import tune
    from steepest.workbench.workload import ArrayTask, TorchTask, Workload, workload

_HOMES = {
    "compare": "campaign", "lr_find": "lr_find", "parse": "parse", "Budget": "protocol", "recommend": "recommendation",
    "Result": "results", "tune": "tune", "ArrayTask": "workload", "TorchTask": "workload", "Workload": "workload",
    "workload": "workload",
}  # fmt: skip

__all__ = [
    "ArrayTask", "Budget", "Result", "TorchTask", "Workload", "compare", "lr_find", "parse", "recommend", "tune", "workload",
]  # fmt: skip


class _Package(ModuleType):
    """Four modules have the name of what they are for, and it is the function that stands here, whoever imports the module."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


if not TYPE_CHECKING:  # a checker would take any name for one of the package's

    def __getattr__(name: str) -> Any:
        """Loaded on first use: a worker that trains needs no plots, and the help of the command line nothing at all."""
        if name in _HOMES:
            return getattr(importlib.import_module(f"steepest.workbench.{_HOMES[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])
