"""What the doctor does not cry about: runs that look like a sickness and are none, and cures that fit the optimizer."""

from __future__ import annotations

import numpy as np
import pytest

from steepest.monitor.doctor import ALARM, Finding, diagnose
from steepest.monitor.records import Run
from tests.monitor.test_doctor import RECORDS, healthy, scalars


def alarms(run: Run) -> list[str]:
    return [one.cause for one in diagnose(run) if one.confidence >= ALARM and not one.explained_by]


def found(run: Run, cause: str) -> list[Finding]:
    return [one for one in diagnose(run) if one.cause == cause]


# ---- schedules


@pytest.mark.parametrize(
    "rate",
    [np.linspace(1e-6, 1e-4, RECORDS), np.geomspace(1e-7, 1.0, RECORDS)],
    ids=["a short try inside a warm-up", "a range test"],
)
def test_a_rate_that_rises_until_the_run_ends_is_no_long_warm_up(rate: np.ndarray) -> None:
    assert diagnose(scalars(healthy(), lr=rate)) == ()


def test_a_cycle_whose_peak_comes_late_is_a_remark() -> None:
    late = 1e-3 * np.concatenate([np.linspace(0.1, 1, 36), [0.8, 0.6, 0.4, 0.2]])
    (one,) = found(scalars(healthy(), lr=late), "schedule_does_not_fit")
    assert one.title == "The warm-up is long" and one.confidence < ALARM


def test_a_schedule_with_two_faults_has_two_findings() -> None:
    rate = 1e-3 * np.concatenate([np.linspace(0.05, 1, 12), np.ones(8), np.zeros(20)])
    titles = [one.title for one in found(scalars(healthy(), lr=rate), "schedule_does_not_fit")]
    assert titles == ["The schedule ended before the run did", "The warm-up is long"]
