"""Processes that work through queues: started, watched, begun again when they die, stopped by Ctrl-C.

Every worker claims one job after another. What it loses when it dies is its running job, and that is found: by the parent at
once; by other processes of the machine when the parent is gone too; by other machines when it has been silent for long.
The same command on several machines shares the work, and each sees it through to the end.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, TypeAlias

from steepest.checks import Count, check_value
from steepest.interrupts import interrupts_held
from steepest.workbench.attempts import Finished
from steepest.workbench.processes import (
    Process,
    interrupts_blocked,
    one_thread,
    started,
    this_process,
)
from steepest.workbench.storage import open_storage
from steepest.workbench.store import Job, Queue

__all__ = ["Function", "Report", "run", "work"]

Report: TypeAlias = Callable[[int, float], bool]
"""``report(step, value)``: how it goes, lower is better; True says that the job should stop."""
Function: TypeAlias = Callable[[dict[str, Any], Report], tuple[float, Any]]
"""``function(params, report)``: the cost of a job, and its result as JSON."""

BEAT = 20.0
"""Seconds between signs of life while a job runs."""
AHEAD = 8
"""Among how many queues a worker looks for the one that fewest work on: a search learns more when it isn't done all at once."""
SWEEP = 5.0
"""Seconds after which the parent looks for what other machines have finished."""


def run(queues: Queue | Sequence[Queue], function: Function, jobs: int = 2) -> Iterator[Finished]:
    """Work through the queues with ``jobs`` processes and yield what gets finished from now on, by whatever machine.

    Parameters
    ----------
    queues : one, or several of one storage; their order is that of the work.
    function : computes a job; with more than one process it is found by its module and name, so not in ``__main__`` of a
        notebook. It must depend on the parameters alone, then the results do not depend on ``jobs``.
    jobs : processes, >= 1; one works here, without another process to fall back on when it dies.

    What ``function`` raises ends the run and is raised here, with a note that names the job, which the same command tries
    again. A job that kills its process three times counts as failed. An interrupt gives the running jobs back and passes.
    """
    check_value("run", "jobs", jobs, Count)
    queues = [queues] if isinstance(queues, Queue) else list(queues)
    for queue in queues:
        queue.spread()
    before = {text for queue in queues for text in queue.errors()}  # of jobs that nobody asks for any more
    seen: dict[str, set[int]] = {queue.name: {one.number for one in queue.finished()} for queue in queues}

    def news(some: Sequence[Queue]) -> Iterator[Finished]:
        for queue in some:
            for one in queue.finished(seen[queue.name]):
                seen[queue.name].add(one.number)
                yield one

    with one_thread():
        for number in work(queues, function) if jobs == 1 else _together(queues, function, jobs):
            yield from news(queues if number is None else [queues[number]])
    yield from news(queues)
    for queue in queues:
        for text in queue.errors():  # of other machines; one's own have been raised
            if text not in before:
                raise RuntimeError(f"study {queue.name}: {text}")


def work(
    queues: Sequence[Queue], function: Function, stop: Callable[[], bool] | None = None, parent: Process | None = None
) -> Iterator[int]:
    """Do jobs in this process until none is left or ``stop()`` says so; yields the queue's number after each.

    Waits for jobs in other hands, to take them over should their process die. What ``function`` raises passes, after the
    job has been marked; an interrupt gives it back.
    """
    owner = this_process((parent["pid"], parent["started"]) if parent else None)
    left = dict(enumerate(queues))
    pause = 0.05
    with _heart() as heart:
        while left and not (stop and stop()):
            claimed: tuple[Queue, Job] | None = None
            try:
                with interrupts_held():
                    number, claimed = _claimed(left, owner)
                if claimed is None:
                    left = {number: queue for number, queue in left.items() if queue.remaining()}
                    time.sleep(pause if left else 0)
                    pause = min(2 * pause, 1.0)
                    continue
                pause = 0.05
                heart.hold(claimed)
                _do(*claimed, function)
            except BaseException:
                if claimed:
                    with interrupts_held():
                        claimed[0].fail(claimed[1], "back")  # nothing, where the job has ended
                raise
            finally:
                heart.hold(None)
            yield number


def _claimed(left: dict[int, Queue], owner: Process) -> tuple[int, tuple[Queue, Job] | None]:
    numbers = list(left)
    if len(numbers) > 1:
        numbers[:AHEAD] = sorted(numbers[:AHEAD], key=lambda number: left[number].running())
    for number in numbers:
        if job := left[number].claim(owner):
            return number, (left[number], job)
    return -1, None


def _do(queue: Queue, job: Job, function: Function) -> None:
    stopped = False

    def report(step: int, value: float) -> bool:
        nonlocal stopped
        stopped = stopped or queue.report(job, step, value)
        return stopped

    try:
        cost, result = function(dict(job.params), report)
        with interrupts_held():
            queue.complete(job, cost, result, stopped)
    except Exception as error:
        queue.fail(job, "error", f"the job {job.params} failed: {type(error).__name__}: {error}")
        error.add_note(f"study {queue.name}, job {job.params}")
        raise


@dataclass(slots=True)
class _Heart:
    """Signs of life for the job that is held, from a thread; it also ends a worker whose parent is gone."""

    held: tuple[Queue, Job] | None = None
    since: float = 0.0
    ended: threading.Event = field(default_factory=threading.Event)

    def hold(self, held: tuple[Queue, Job] | None) -> None:
        self.held, self.since = held, time.monotonic()

    def run(self) -> None:
        parent = multiprocessing.parent_process()
        while not self.ended.wait(0.5):
            if parent is not None and not parent.is_alive():
                os._exit(1)  # nobody is left to hand results to; whoever gives the command again does the job
            held = self.held
            if held and time.monotonic() - self.since > BEAT:
                self.since = time.monotonic()
                try:
                    held[0].beat(held[1])
                except ValueError:  # the storage is away for a moment; the job's end will tell
                    continue


@contextmanager
def _heart() -> Iterator[_Heart]:
    heart = _Heart()
    thread = threading.Thread(target=heart.run, daemon=True)
    thread.start()
    try:
        yield heart
    finally:
        heart.ended.set()
        thread.join()


@dataclass(frozen=True, slots=True)
class _Child:
    process: Any
    pipe: Connection
    started: int


def _together(queues: Sequence[Queue], function: Function, jobs: int) -> Iterator[int | None]:
    """Yields the number of the queue in which something has been finished, or None for: look at all."""
    task = pickle.dumps(
        (queues[0].storage.url, [(q.name, q.facts, q.search) for q in queues], function, this_process())
    )
    idle_deaths = 0
    children: list[_Child] = []
    try:
        for _ in range(min(jobs, sum(queue.remaining() for queue in queues))):
            with interrupts_held():  # between its start and its place in the list, nobody would end it
                children.append(_start(task))
        swept = time.monotonic()
        while children:
            ready = set(wait([end for child in children for end in (child.pipe, child.process.sentinel)], SWEEP))
            for child in [child for child in children if ready & {child.pipe, child.process.sentinel}]:
                ended = child.process.sentinel in ready
                for number in _messages(child):
                    idle_deaths = 0
                    yield number
                if not ended:
                    continue
                children.remove(child)
                child.process.join()
                child.pipe.close()
                if child.process.exitcode:
                    text = _death(child.process.exitcode)
                    busy = [queue.died(child.process.pid, child.started, text) for queue in queues]
                    idle_deaths += not any(busy)
                    if idle_deaths >= max(3, jobs):
                        raise RuntimeError(f"run: the processes end before they start a job, {text}. See their output.")
                    yield None  # perhaps it was the third time
                    with interrupts_held():
                        children.append(_start(task))
            if time.monotonic() - swept > SWEEP:
                swept = time.monotonic()
                yield None
    finally:
        _end(children, queues)


def _messages(child: _Child) -> Iterator[int]:
    while child.pipe.poll():
        try:
            said = child.pipe.recv()
        except EOFError:
            return
        if isinstance(said, BaseException):
            raise said
        yield said


def _start(task: bytes) -> _Child:
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    with interrupts_blocked():  # from the first moment of the child, which inherits it
        process = spawn.Process(target=_child, args=(task, there))
        process.start()
    there.close()
    return _Child(process, here, started(process.pid or 0) or 0)


def _child(task: bytes, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's
    try:
        url, made, function, parent = pickle.loads(task)
        storage = open_storage(url)
        for number in work([Queue(storage, *one) for one in made], function, parent=parent):
            pipe.send(number)
    except Exception as error:
        pipe.send(_portable(error))


def _portable(error: Exception) -> BaseException:
    """The error as the parent can raise it, with where it happened as a note."""
    where = "".join(traceback.format_exception(error)[-6:]).rstrip()
    error.add_note(f"in a worker:\n{where}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _death(status: int) -> str:
    return f"by signal {signal.Signals(-status).name}" if status < 0 else f"with exit status {status}"


def _end(children: Sequence[_Child], queues: Sequence[Queue]) -> None:
    """End the workers and give back what they were doing."""
    with interrupts_held():
        for child in children:
            child.process.terminate()
        for child in children:
            child.process.join(5)
            if child.process.is_alive():
                child.process.kill()
                child.process.join()
            child.pipe.close()
            for queue in queues:
                queue.died(child.process.pid, child.started, "")
