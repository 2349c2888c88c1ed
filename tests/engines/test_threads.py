"""The threads of the cpu engine: they wait for each other where they must, and no failure is lost."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import steepest
from steepest.engines.numba import engine, threads
from steepest.engines.tensors import Tensor
from steepest.plan.planner import plan


def test_a_failure_of_a_helper_thread_is_raised_when_all_threads_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "number_of_threads", lambda: 3)
    caller, ended = threading.get_ident(), []

    def kernel(place: int) -> None:
        ended.append(place)
        if threading.get_ident() != caller:
            raise ArithmeticError("in a helper")

    kernel_of_any_type: Any = kernel
    with pytest.raises(ArithmeticError, match="in a helper"):
        threads._Pool().run(kernel_of_any_type, 7, 3)
    assert ended == [7, 7, 7]


def test_a_segment_waits_for_all_rows_of_the_segment_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "ROW", 4)
    own = plan(steepest.lamb(0.1))
    program = own.program(own.usual)
    (segments,) = program.stages
    states = {name: np.ones(8, dtype=np.float32) for name in program.buffers}
    bound = engine.CpuEngine().bind(program, [Tensor("w", 0, states)], [0])
    assert len(segments) == 2 and len(bound.rows) == 2
    bound.bind_gradients()
    bound.items[0] = np.array([(0, 1, 1, 2)])  # the second segment of the first row alone
    words = bound._words(0)
    running = threading.Thread(target=bound.kernel, args=(words.ctypes.data,), daemon=True)
    running.start()
    for rows_done in (0, 1):
        bound.progress[1] = rows_done
        running.join(0.1)
        assert running.is_alive()
    bound.progress[1] = 2
    running.join(30)
    assert not running.is_alive()
