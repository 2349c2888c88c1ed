"""Facts and records as a monitor would make them, for the tests of everything that keeps or shows a run."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from steepest.monitor.recorder import Recorder
from steepest.monitor.records import Facts, Record, TensorFacts

MEASURED = ("grad_norm", "update_norm", "weight_norm", "clipped")


def facts(tensors: int = 3, **changed: Any) -> Facts:
    """A run of ``tensors`` tensors, recorded at every tenth step."""
    names = tuple(TensorFacts(f"layers.{n}.weight", (4, n + 1), "float32", n % 2) for n in range(tensors))
    made = Facts(
        started=1000.0,
        framework="torch",
        optimizer="AdamW",
        chains=("adamw(0.001)", "sgd(0.1)"),
        groups=({"lr": 0.001, "betas": [0.9, 0.999], "amsgrad": False}, {"lr": 0.1}),
        tensors=names,
        states={"exp_avg": "float32"},
        every=10,
        plan="1 pass, 28 bytes",
        versions={"steepest": "0.1.0"},
        notes={"batch_size": 32},
    )
    return replace(made, **changed)


def curve(call: float) -> float:
    """The loss at a call: it falls, with a wave."""
    return 2.0 * math.exp(-call / 5000) + 0.1 * math.sin(call / 700)


def record(step: int, *, tensors: int = 3, calls: int = 10, call: int | None = None, add: float = 0.0) -> Record:
    """The record at one step; everything in it follows from the step, the call and ``add``."""
    call = step if call is None else call
    return Record(
        step,
        call,
        step * 0.5,
        np.array([curve(one) + add for one in range(call - calls + 1, call + 1)]),
        {"lr": 0.001, "grad_norm": float(step) + add, "step_seconds": 0.25 + add},
        {
            name: np.arange(tensors, dtype=np.float32) * (place + 1) + np.float32(step)
            for place, name in enumerate(MEASURED)
        },
    )


def recorded(folder: Path, steps: range, *, what: Facts | None = None, close: bool = True, **of: Any) -> Recorder:
    """A session of a recorder in ``folder``, with a record at each of ``steps``."""
    recorder, what = Recorder(folder), what or facts()
    recorder.start(what)
    for step in steps:
        recorder.record(record(step, tensors=len(what.tensors), **of))
    if close:
        recorder.close()
    return recorder
