"""Jobs for the tests of the queue: functions that a worker finds by name, which write down that they ran."""

from __future__ import annotations

import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from steepest.workbench.workers import Report


def ran(log: str) -> list[int]:
    """Which jobs have been begun, in the order of their beginning."""
    path = Path(log)
    return [int(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []


def write(params: dict[str, Any]) -> None:
    with open(params["log"], "a") as log:  # one short line: written at once
        log.write(f"{params['i']} {os.getpid()}\n")


def meet(params: dict[str, Any]) -> None:
    """Wait until as many processes are at work as there should be: they start one after the other."""
    end = time.monotonic() + 30
    while len({line.split()[1] for line in Path(params["log"]).read_text().splitlines()}) < params["processes"]:
        assert time.monotonic() < end, "the other processes did not begin"
        time.sleep(0.01)


def average(params: dict[str, Any], report: Report) -> tuple[float, Any]:
    """A number that is the same bit for bit wherever it is computed; every seventh job fails."""
    write(params)
    values = np.random.default_rng(params["i"]).standard_normal(1000)
    if "processes" in params:
        meet(params)
    time.sleep(params.get("seconds", 0.0))
    cost = math.inf if params["i"] % 7 == 3 else float(values.mean())
    return cost, {"curve": values[:50].tolist(), "nan": math.nan, "seed": params["i"]}


def held(params: dict[str, Any], report: Report) -> tuple[float, Any]:
    """As `average`, but the first attempt at job 5 never ends."""
    marker = Path(params["log"] + ".held")
    if params["i"] == 5 and not marker.exists():
        write(params)
        marker.write_text(str(os.getpid()))
        time.sleep(300)
    return average(params, report)


def deadly(params: dict[str, Any], report: Report) -> tuple[float, Any]:
    """As `average`, but job 2 kills its process."""
    if params["i"] == 2:
        write(params)
        os.kill(os.getpid(), signal.SIGKILL)
    return average(params, report)


def mistaken(params: dict[str, Any], report: Report) -> tuple[float, Any]:
    """As `average`, but job 2 is refused until there is a file that says it has been mended."""
    if params["i"] == 2 and not Path(params["log"] + ".mended").exists():
        raise ValueError("circles: radius must be > 0, got -1.")
    return average(params, report)


def bowl(params: dict[str, Any], report: Report) -> tuple[float, Any]:
    """A bowl around lr = 0.01 with momentum, told in ten steps."""
    write({"i": 0, **params})
    cost = (math.log10(params["lr"]) + 2) ** 2 + (0.0 if params["momentum"] else 0.5)
    for step in range(1, 11):
        if report(step, cost + 1 / step):
            return cost + 1 / step, {"steps": step}
    return cost, {"steps": 10}
