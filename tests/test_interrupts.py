"""A step happens whole or not at all: interrupts, other threads, no memory and no threads to be had."""

from __future__ import annotations

import copy
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import steepest
import steepest.numpy as opt
from steepest.engines.numba.threads import _Pool
from steepest.interrupts import Turn, interrupts_held

torch = pytest.importorskip("torch")

import steepest.torch as torch_opt  # noqa: E402  # after the check that torch is there


def chain() -> steepest.Chain:
    """Several passes, a sum over the model, states of two links, a second group's program."""
    return steepest.chain(
        steepest.clip_by_global_norm(1.0), steepest.adamw(0.1), steepest.lookahead(2), steepest.ema(0.9)
    )


def numpy_run(engine: str) -> tuple[Any, Callable[[], None], Callable[[], list[Any]]]:
    params = [np.full((3, 2), 2.0), np.full(5, 1.0, dtype=np.float32)]
    groups = [{"params": [params[0]]}, {"params": [params[1]], "chain": steepest.sgd(0.1, momentum=0.9)}]
    optimizer = opt.Optimizer(groups, chain(), engine=engine)
    grads = [np.full_like(p, 0.5) for p in params]

    def seen() -> list[Any]:
        return [*params, *(v for states in optimizer.state.values() for v in states.values())]

    return optimizer, lambda: optimizer.step(grads), seen


def torch_run(engine: str) -> tuple[Any, Callable[[], None], Callable[[], list[Any]]]:
    params = [torch.nn.Parameter(torch.full((3, 2), 2.0, dtype=torch.float64)), torch.nn.Parameter(torch.ones(5))]
    groups = [{"params": [params[0]]}, {"params": [params[1]], "chain": steepest.sgd(0.1, momentum=0.9)}]
    optimizer = torch_opt.Optimizer(groups, chain(), engine=engine)
    for p in params:
        p.grad = torch.full_like(p, 0.5)

    def seen() -> list[Any]:
        states = [v.detach().numpy().copy() for p in params for v in optimizer.state[p].values()]
        return [*(p.detach().numpy() for p in params), *states]

    return optimizer, optimizer.step, seen


@pytest.mark.parametrize("engine", ["cpu", "arrays"])
@pytest.mark.parametrize("made", [numpy_run, torch_run])
def test_an_interrupt_at_any_line_leaves_a_step_done_and_counted_or_not_begun(made: Any, engine: str) -> None:
    reference, step, seen = made(engine)
    after = []
    for _ in range(4):
        step()
        after.append(copy.deepcopy(seen()))
    assert reference.steps == 4

    def interrupted_at(number: int) -> bool:
        """Whether the fourth step of a new run has a line of that number; Ctrl-C comes there."""
        optimizer, step, seen = made(engine)
        for _ in range(3):
            step()
        count = 0

        def trace(frame: Any, event: str, argument: object) -> Any:
            nonlocal count
            if event == "line" and "steepest" in frame.f_code.co_filename:
                count += 1
                if count == number:
                    sys.settrace(None)
                    signal.raise_signal(signal.SIGINT)
            return trace

        before = sys.gettrace()
        try:
            sys.settrace(trace)
            step()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        if count < number:
            return False
        assert optimizer.steps in (3, 4)
        for value, expected in zip(seen(), after[optimizer.steps - 1], strict=True):
            np.testing.assert_array_equal(value, expected)
        return True

    number = 1
    while interrupted_at(number):
        number += 1 if number < 40 else 23
    assert number > 100  # the step was not interrupted before its first line alone
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("made", [numpy_run, torch_run])
def test_an_interrupt_while_weights_are_swapped_restores_them(made: Any) -> None:
    optimizer, step, seen = made("cpu")
    for _ in range(3):
        step()
    before = copy.deepcopy(seen())
    for number in range(1, 60):
        count = 0

        def trace(frame: Any, event: str, argument: object, number: int = number) -> Any:
            nonlocal count
            if event == "line" and "steepest" in frame.f_code.co_filename:
                count += 1
                if count == number:
                    sys.settrace(None)
                    signal.raise_signal(signal.SIGINT)
            return trace

        try:
            sys.settrace(trace)
            with optimizer.using("average"):
                pass
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        for value, expected in zip(seen(), before, strict=True):
            np.testing.assert_array_equal(value, expected)
        with optimizer.using("average"):  # nothing is left swapped
            pass


def test_held_signals_are_all_delivered_at_the_end_in_their_order() -> None:
    came: list[int] = []

    def stop(number: int, frame: object) -> None:
        came.append(number)
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with pytest.raises(KeyboardInterrupt), interrupts_held():
            signal.raise_signal(signal.SIGALRM)
            signal.raise_signal(signal.SIGINT)
            assert came == []
    finally:
        signal.signal(signal.SIGALRM, before)
    assert came == [signal.SIGALRM]


class Blocking:
    """An inspector that keeps a step waiting until it is released."""

    def __init__(self) -> None:
        self.inside, self.release = threading.Event(), threading.Event()

    def before(self, grads: object) -> None:
        self.inside.set()
        assert self.release.wait(30)

    def after(self, grads: object, stepper: object) -> None:
        pass


@pytest.mark.parametrize("engine", ["cpu", "arrays"])
@pytest.mark.parametrize("made", [numpy_run, torch_run])
def test_a_second_thread_that_steps_is_refused_and_one_that_reads_waits(made: Any, engine: str) -> None:
    optimizer, step, _ = made(engine)
    step()
    blocking = Blocking()
    optimizer.watch(None, blocking)
    errors: list[BaseException] = []
    read: list[Any] = []

    def other() -> None:
        assert blocking.inside.wait(30)
        try:
            step()
        except RuntimeError as error:
            errors.append(error)
        reader.start()
        reader.join(0.2)
        assert not read
        blocking.release.set()

    thread, reader = (
        threading.Thread(target=other),
        threading.Thread(target=lambda: read.append(optimizer.state_dict())),
    )
    thread.start()
    step()
    thread.join()
    reader.join()
    (error,) = errors
    assert str(error) == (
        "Optimizer.step: another thread is using this optimizer. Step an optimizer from one thread at a time: use a lock, or an "
        "optimizer of its own for each thread."
    )
    assert optimizer.steps == 2
    steps = [float(s["step"]) for s in read[0]["state"].values()]
    assert steps == [2.0, 2.0]
    optimizer.watch(None)
    step()
    assert optimizer.steps == 3


def test_many_threads_with_one_optimizer_take_whole_steps_or_are_refused() -> None:
    param = np.zeros(200_000, dtype=np.float32)
    optimizer = opt.SGD([param], lr=1.0)
    grads = [np.full_like(param, -1.0)]
    taken = []

    def work() -> None:
        for _ in range(50):
            try:
                optimizer.step(grads)
            except RuntimeError:
                continue
            taken.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert optimizer.steps == len(taken)
    np.testing.assert_array_equal(param, np.full_like(param, len(taken)))


def test_a_turn_is_not_shared_with_a_copy() -> None:
    turn = Turn()
    with turn.step("SGD"):
        other = copy.deepcopy(turn)
        with other.step("SGD"):
            pass


def test_a_step_goes_on_alone_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEEPEST_NUM_THREADS", "4")
    pool, calls = _Pool(), []

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    pool.run(calls.append, 7, most=4)  # type: ignore[arg-type]  # a kernel that notes its place
    assert calls == [7]


def test_the_failure_of_a_helper_thread_is_raised_after_all_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEEPEST_NUM_THREADS", "3")
    pool, ended = _Pool(), []

    def kernel(place: int) -> None:
        if threading.current_thread() is threading.main_thread():
            return
        threading.Event().wait(0.05)
        ended.append(place)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pool.run(kernel, 1, most=3)  # type: ignore[arg-type]
    assert ended == [1, 1]


def test_a_first_step_without_memory_for_a_state_leaves_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    for optimizer, step, _ in (numpy_run("cpu"), torch_run("cpu")):
        tensor = optimizer.stepper.tensors[1]
        real = tensor.allocate

        def fail(*given: Any) -> Any:
            raise MemoryError

        tensor.allocate = fail
        with pytest.raises(MemoryError):
            step()
        assert optimizer.steps == 0
        assert all(not states for states in optimizer.state.values())
        saved = optimizer.state_dict()
        optimizer.load_state_dict(saved)
        tensor.allocate = real
        step()
        assert optimizer.steps == 1
