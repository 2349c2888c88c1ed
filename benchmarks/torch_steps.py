"""How long a step of the torch front end takes, beside every peer and beside the time that its bytes alone need.

For each rule, ours and its peers run alternately in one process, float32, on as many threads as the process has cores. Each
has its own parameters and states, and gradients from a small pool of its own, assigned as ``p.grad = g`` before every step,
outside of the timed part. In each round everybody has one turn, and the order rotates; «best» and «median» are over rounds, and
a ratio is the median of the rounds' ratios. Three settings: 25 tensors of a million elements, where bytes count; 200 of 64
and 500 of 10,000, where calls count. A bar stands beside each figure that has one.

The limit (25x1M) moves the bytes that our plan must move, by plain streaming kernels on memory that torch allocated. NumPy
asks for huge pages and torch does not, so on NumPy's memory it would be another limit.

What has run just before matters: OpenMP, on which torch's kernels run, lets its threads spin for some milliseconds when they are
done, on the cores that another library's threads need. So there are two columns. «calm»: a pause before each timed step (before
each turn of several steps on small tensors) lets the spinning end; nobody is disturbed by whoever ran before, and nobody's
threads are awake. «after torch»: a matrix product on all threads stands directly before each timed step, as a backward pass
does; torch's threads are awake for torch's steps and in the way of others. Both sides are measured under the same condition in
both columns; the limit is measured calm. Setting OMP_WAIT_POLICY=PASSIVE for the process ends the spinning for all.

At the end, whole training steps of a small transformer: `torch_training.py`.

    python benchmarks/torch_steps.py [--only "adam;lamb"] [--rounds 15] [--settings 25x1M,200x64] [--peers "fused;optimi"]
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from limit import BUFFERS, SHAPE, TENSORS, limits_of, machine, seconds
from torch_peers import COMPILED, FUSED, MISSING, RULES, Make, Rule
from torch_training import end_to_end

from steepest.engines.numba.threads import number_of_threads

OURS = "steepest"
PAUSE = 0.01
"""Seconds after which torch's threads no longer spin: 3 to 6 ms here, with the libgomp that comes with torch."""
WORK = torch.randn(400, 400)


@dataclass(frozen=True, slots=True)
class Setting:
    """Tensors, and how a turn goes: a pause before each step (large), or one, an untimed step, then steps in a row."""

    count: int
    shape: tuple[int, ...]
    large: bool = False
    turns: int = 1
    at_most_ms: float = float("inf")
    times_fused: float = 0.0


SETTINGS = {
    "25x1M": Setting(TENSORS, SHAPE, large=True),
    "200x64": Setting(200, (64,), turns=4, at_most_ms=0.25, times_fused=6.0),
    "500x10k": Setting(500, (100, 100), turns=2, times_fused=1.5),
}
IN_A_ROW = 5
WARM_UP = 10
"""Untimed steps at the start, whole periods: rectified Adam takes its usual steps from the sixth on."""


@dataclass(slots=True)
class Contestant:
    """Somebody's step on parameters of its own."""

    step: Callable[[], Any]
    params: list[torch.nn.Parameter]
    pool: list[list[torch.Tensor]]
    calm: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    first: float = 0.0
    steps: int = 0

    def take_step(self, before: Callable[[], Any]) -> float:
        for p, g in zip(self.params, self.pool[self.steps % len(self.pool)], strict=True):
            p.grad = g
        self.steps += 1
        before()
        return seconds(self.step)


def contestant(make: Callable[[list[torch.nn.Parameter]], Callable[[], Any]], setting: Setting) -> Contestant:
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(setting.shape)) for _ in range(setting.count)]
    pool = [[1e-3 * torch.randn(setting.shape) for _ in params] for _ in range(2 if setting.large else 4)]
    return Contestant(make(params), params, pool)


# ---- turns


def pause() -> None:
    time.sleep(PAUSE)


def torch_works() -> None:
    torch.mm(WORK, WORK)


def nothing() -> None:
    pass


def turn(one: Contestant, setting: Setting, period: int) -> None:
    """Some steps calm, then as many after torch has worked; what is kept is the mean of each."""
    steps = period if setting.large else IN_A_ROW
    if not setting.large:
        pause()
        one.take_step(nothing)
    one.calm.append(sum(one.take_step(pause if setting.large else nothing) for _ in range(steps)) / steps)
    one.after.append(sum(one.take_step(torch_works) for _ in range(steps)) / steps)


def calm_seconds(function: Callable[[], Any]) -> float:
    pause()
    return seconds(function)


# ---- a rule in a setting


def measured(
    name: str, rule: Rule, label: str, rounds: int, pool: list[list[np.ndarray]], peers: dict[str, Make]
) -> None:
    setting = SETTINGS[label]
    optimizers: list[Any] = []

    def ours(params: list[torch.nn.Parameter]) -> Callable[[], Any]:
        optimizers.append(rule.ours(params))
        return optimizers[0].step  # type: ignore[no-any-return]  # peers without types

    everybody: dict[str, Contestant] = {}
    said = []
    for who, make in {OURS: ours, **peers}.items():
        try:
            one = contestant(make, setting)
            one.first = one.take_step(nothing)
            for _ in range(WARM_UP - 1):
                one.take_step(nothing)
            everybody[who] = one
        except Exception as error:
            if who != COMPILED:
                raise
            said.append(f"{'':26}{who} is left out: {type(error).__name__}: {str(error).strip().splitlines()[0][:90]}")
    bound: list[float] = []
    limits: list[Callable[[], None]] = []
    size = 0.0
    if setting.large:
        limits, size = limits_of(optimizers[0].plan[0], pool, rule.period)
        for limit in limits:
            limit()
    order: list[str | None] = [*everybody, *([None] if limits else [])]
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds * setting.turns):
            first = number % len(order)
            for who in order[first:] + order[:first]:
                if who is None:
                    bound.append(sum(calm_seconds(limit) for limit in limits) / len(limits))
                else:
                    turn(everybody[who], setting, rule.period)
    finally:
        gc.enable()
    if bound:
        speed = size * setting.count * everybody[OURS].params[0].numel() / min(bound) / 1e9
        said.insert(
            0, f"{name:26}limit {min(bound) * 1e3:.2f} ms best, {size:.4g} bytes per parameter, {speed:.1f} GB/s"
        )
    else:
        said.insert(0, name)
    for who, one in everybody.items():
        said.append(line(who, one, everybody[OURS], bound, rule, setting))
    print("\n".join(said), flush=True)


def line(who: str, one: Contestant, ours: Contestant, bound: list[float], rule: Rule, setting: Setting) -> str:
    digits = 2 if setting.large else 3
    text = f"  {who:34}{min(one.calm) * 1e3:9.{digits}f}{statistics.median(one.calm) * 1e3:9.{digits}f}"
    best = min(one.calm) / min(bound) if bound else 0.0
    if bound:
        text += f"{best:8.2f}{median_ratio(one.calm, bound):8.2f}"
    calm, after = 1.0, 1.0
    if one is ours:
        text += f"{'':18}"
    elif setting.large:
        calm, after = median_ratio(ours.calm, one.calm), median_ratio(ours.after, one.after)
        text += f"{calm:7.2f}{after:11.2f}"
    else:
        calm, after = median_ratio(one.calm, ours.calm), median_ratio(one.after, ours.after)
        text += f"{calm:7.1f}{after:11.1f}"
    bar = ""
    if one is ours and bound:
        bar = f"limit x {rule.bar}: {met(best <= rule.bar)}"
    elif one is ours and setting.at_most_ms < float("inf"):
        bar = f"{setting.at_most_ms} ms: {met(statistics.median(one.calm) * 1e3 < setting.at_most_ms)}"
    elif who == FUSED and setting.large and rule.as_fast_as_fused:
        bar = f"ours/peer 1.0: {met(calm <= 1.0)}, after torch {met(after <= 1.0)}"
    elif who == FUSED and setting.times_fused:
        bar = f"{setting.times_fused:g} times: {met(calm >= setting.times_fused)}"
    compiled = f"   (first step {one.first:.1f} s)" if who == COMPILED else ""
    return f"{text}   {bar}{compiled}".rstrip()


def median_ratio(a: list[float], b: list[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def met(holds: bool) -> str:
    return "yes" if holds else "NO"


def header(label: str) -> str:
    setting = SETTINGS[label]
    text = f"\n{label}: {setting.count} tensors of {' x '.join(map(str, setting.shape))} float32; times in ms, calm\n"
    text += f"{'':36}{'best':>9}{'median':>9}"
    if setting.large:
        return f"{text}{'/limit':>8}{'median':>8}{'ours/peer: calm, after torch':>30}   bar"
    return f"{text}{'peer/ours: calm, after torch':>30}   bar"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="names of rules, separated by ';'")
    parser.add_argument("--settings", default=",".join(SETTINGS), help="separated by ','")
    parser.add_argument("--peers", default="", help="parts of the names of peers, separated by ';'; all if left out")
    parser.add_argument("--compile", action="store_true", help="torch.compile'd steps too, with the time of the first")
    parser.add_argument(
        "--end-to-end", action=argparse.BooleanOptionalAction, default=None, help="whole training steps"
    )
    given = parser.parse_args()
    torch.set_num_threads(number_of_threads())
    wanted = [n.strip() for n in given.only.split(";") if n.strip()] or list(RULES)
    labels = [n.strip() for n in given.settings.split(",") if n.strip()]
    for n in [*(n for n in wanted if n not in RULES), *(n for n in labels if n not in SETTINGS)]:
        parser.error(f"{n!r} is not known; rules are {'; '.join(RULES)}, settings {', '.join(SETTINGS)}")
    print(f"{machine()}, torch {torch.__version__}")
    print("".join(f"{package} is not installed: its rows are missing\n" for package in MISSING), end="")
    parts = [n.strip() for n in given.peers.split(";") if n.strip()]
    pool = [[np.ones(0)]]
    if any(SETTINGS[label].large for label in labels):
        pool = [[torch.ones(SHAPE).reshape(-1).numpy() for _ in range(BUFFERS)] for _ in range(TENSORS)]
    for label in labels:
        print(header(label))
        for name in wanted:
            peers = {
                who: make
                for who, make in RULES[name].peers.items()
                if (who != COMPILED or given.compile) and (not parts or any(part in who for part in parts))
            }
            measured(name, RULES[name], label, given.rounds, pool, peers)
            gc.collect()
    del pool
    if given.end_to_end or (given.end_to_end is None and not given.only):
        print(f"\n{end_to_end(given.rounds)}")


if __name__ == "__main__":
    main()
