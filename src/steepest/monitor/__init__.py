"""Monitoring: what happens inside the step, recorded, shown and judged.

`Monitor` measures; `Terminal`, `TensorBoard`, `Report`, `JsonLines`, `WeightsAndBiases` and `MLflow` show; ``steepest watch`` and
``steepest doctor`` read the record. `LightningCallback`, `TransformersCallback` and `SkorchCallback` are the monitor in a
trainer. All are loaded on first use.
"""

import importlib
from typing import Any

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

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"steepest.monitor.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'steepest.monitor' has no attribute {name!r}")
