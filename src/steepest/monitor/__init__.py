"""Monitoring: what happens inside the step, recorded, shown and judged.

`Monitor` measures; `Terminal`, `TensorBoard`, `Report`, `JsonLines`, `WeightsAndBiases` and `MLflow` show; ``steepest watch`` and
``steepest doctor`` read the record. `LightningCallback`, `TransformersCallback` and `SkorchCallback` are the monitor in a
trainer. All are loaded on first use.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steepest.monitor.adapters import MLflow, WeightsAndBiases
    from steepest.monitor.callbacks.lightning import LightningCallback
    from steepest.monitor.callbacks.skorch import SkorchCallback
    from steepest.monitor.callbacks.transformers import TransformersCallback
    from steepest.monitor.guard import Guard
    from steepest.monitor.jsonl import JsonLines
    from steepest.monitor.monitor import Monitor
    from steepest.monitor.recorder import Recorder
    from steepest.monitor.recorder.reader import read
    from steepest.monitor.report import Report
    from steepest.monitor.tensorboard import TensorBoard
    from steepest.monitor.terminal import Terminal

_HOMES = {
    "Guard": "guard",
    "JsonLines": "jsonl",
    "LightningCallback": "callbacks.lightning",
    "MLflow": "adapters",
    "Monitor": "monitor",
    "Report": "report",
    "SkorchCallback": "callbacks.skorch",
    "TensorBoard": "tensorboard",
    "Terminal": "terminal",
    "TransformersCallback": "callbacks.transformers",
    "WeightsAndBiases": "adapters",
    "Recorder": "recorder",
    "read": "recorder.reader",
}

__all__ = [
    "Guard", "JsonLines", "LightningCallback", "MLflow", "Monitor", "Recorder", "Report", "SkorchCallback", "TensorBoard",
    "Terminal", "TransformersCallback", "WeightsAndBiases", "read",
]  # fmt: skip


if not TYPE_CHECKING:  # a checker would take any name for one of the package's

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(importlib.import_module(f"steepest.monitor.{_HOMES[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])
