"""What monitoring costs: AdamW's step plain, watched on steps that record nothing, on steps that record, and torch's own way.

All run alternately in one process, float32, each with parameters and gradients of its own; a turn is ten steps, the tenth of
which records. «best» and «median» are over turns; a ratio is the median of the turns' ratios to the plain step of the same turn.
Torch's way is its fused AdamW, and on recording steps what a user adds to it for the same four numbers of every tensor: the
norms of gradients and weights by ``torch._foreach_norm``, a copy of the weights before the step and the norm of the difference
after it, read back at once. The monitor's own call is timed apart, with its flight recorder on.

At the end: what a record at every step costs with 5,000 tensors of 64 elements, on torch and on NumPy, by outputs. A plain step
and a monitored one alternate; the ratio is that of their best times and of their medians.

    python benchmarks/telemetry.py [--rounds 15] [--settings 25x1M,500x10k,500x64] [--tensors 5000]
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from limit import machine

import steepest
import steepest.numpy
import steepest.torch

EVERY = 10
SETTINGS = {"25x1M": (25, (1000, 1000)), "500x10k": (500, (100, 100)), "500x64": (500, (64,))}
BARS = {("25x1M", "watched, not recording"): 1.01, ("25x1M", "watched, recording"): 1.10,
        ("500x10k", "watched, recording"): 1.30, ("500x64", "watched, recording"): 1.30}  # fmt: skip


@dataclass(slots=True)
class Contestant:
    """An optimizer's step, what follows it, and how long each has taken: by turn, usual steps and the recording one apart."""

    usual: Callable[[], Any]
    recording: Callable[[], Any]
    follow: Callable[[], Any]
    params: list[torch.nn.Parameter]
    pool: list[list[torch.Tensor]]
    steps: list[float] = field(default_factory=list)
    records: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)
    taken: int = 0

    def turn(self) -> None:
        usual, calls = [], []
        for number in range(1, EVERY + 1):
            grads = self.pool[self.taken % len(self.pool)]
            for p, g in zip(self.params, grads, strict=True):
                p.grad = g
            self.taken += 1
            time.sleep(0.005)  # torch's threads no longer spin
            records = number == EVERY
            spent = seconds(self.recording if records else self.usual)
            calls.append(seconds(self.follow))
            if records:
                self.records.append(spent)
            else:
                usual.append(spent)
        self.steps.append(statistics.median(usual))
        self.calls.append(statistics.mean(calls))


def seconds(function: Callable[[], Any]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def nothing() -> None:
    pass


def made(count: int, shape: tuple[int, ...]) -> tuple[list[torch.nn.Parameter], list[list[torch.Tensor]]]:
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape)) for _ in range(count)]
    return params, [[1e-3 * torch.randn(shape) for _ in params] for _ in range(2)]


def contestants(count: int, shape: tuple[int, ...], folder: Path) -> dict[str, Contestant]:
    params, pool = made(count, shape)
    plain = steepest.torch.AdamW(params, lr=1e-3)
    found = {"plain": Contestant(plain.step, plain.step, nothing, params, pool)}

    params, pool = made(count, shape)
    watched = steepest.torch.AdamW(params, lr=1e-3)
    monitor = steepest.Monitor(watched, every=EVERY, folder=folder, notes={"benchmark": "telemetry"})
    loss = torch.tensor(1.0)
    found["watched"] = Contestant(watched.step, watched.step, lambda: monitor(loss), params, pool)

    params, pool = made(count, shape)
    fused = torch.optim.AdamW(params, lr=1e-3, fused=True)
    found["torch fused"] = Contestant(fused.step, with_norms(fused, params), nothing, params, pool)
    return found


def with_norms(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter]) -> Callable[[], Any]:
    """Torch's step with the norms of gradients, weights and updates of all tensors, read back at once."""

    @torch.no_grad()
    def step() -> list[float]:
        grads: list[Any] = [p.grad for p in params]
        before = [p.detach().clone() for p in params]
        norms = torch._foreach_norm(grads) + torch._foreach_norm(before)
        optimizer.step()
        norms += torch._foreach_norm(torch._foreach_sub([p.detach() for p in params], before))
        return torch.stack(norms).tolist()  # type: ignore[no-any-return]  # torch's own

    return step


def measured(label: str, rounds: int) -> None:
    count, shape = SETTINGS[label]
    with tempfile.TemporaryDirectory() as folder:
        everybody = contestants(count, shape, Path(folder) / "run")
        for one in everybody.values():
            for _ in range(2):
                one.turn()
            one.steps, one.records, one.calls = [], [], []
        gc.collect()
        gc.disable()
        try:
            names = list(everybody)
            for number in range(rounds):
                first = number % len(names)
                for name in names[first:] + names[:first]:
                    everybody[name].turn()
        finally:
            gc.enable()
    plain = everybody["plain"].steps
    print(f"{label:46}  best ms  median ms   of plain: best  median")
    for name, one in everybody.items():
        for what, spent in (("", one.steps), (", recording", one.records)):
            said = {"watched": "watched, not recording"}.get(name, name) if not what else name + what
            if said == "plain, recording":
                continue
            ratio = statistics.median(a / b for a, b in zip(spent, plain, strict=True))
            bar = BARS.get((label, said))
            judged = "" if bar is None else f"   bar {bar:.2f}: {'met' if ratio <= bar else 'MISSED'}"
            best = min(spent) / min(plain)
            print(
                f"  {said:44}{min(spent) * 1e3:9.3f}{statistics.median(spent) * 1e3:11.3f}{best:17.3f}{ratio:8.3f}{judged}"
            )
    calls = [1e6 * c for c in everybody["watched"].calls]
    judged = "" if label != "25x1M" else f"   bar 50: {'met' if statistics.median(calls) <= 50 else 'MISSED'}"
    said = f"best {min(calls):.1f} µs, median {statistics.median(calls):.1f} µs{judged}"
    print(f"  the monitor's call, averaged over {EVERY}, recorder on: {said}\n", flush=True)


OUTPUTS: dict[str, Callable[[Path], list[Any]]] = {
    "no output": lambda folder: [],
    "the recorder": lambda folder: [steepest.monitor.Recorder(folder / "run")],
    "recorder, TensorBoard, Report": lambda folder: [
        steepest.monitor.Recorder(folder / "run"), steepest.TensorBoard(folder / "board"), steepest.Report(folder / "run.html"),
    ],
    "recorder, JsonLines": lambda folder: [
        steepest.monitor.Recorder(folder / "run"), steepest.JsonLines(folder / "run.jsonl"),
    ],
}  # fmt: skip
MOST = 10
"""Times a plain step that a step with a record may take, with the recorder, TensorBoard and Report."""


def on_torch(count: int) -> tuple[Any, Callable[[], Any]]:
    params, pool = made(count, (64,))
    optimizer = steepest.torch.AdamW([(f"layer{i}.weight", p) for i, p in enumerate(params)], lr=1e-3)
    for p, g in zip(params, pool[0], strict=True):
        p.grad = g
    return optimizer, optimizer.step


def on_arrays(count: int) -> tuple[Any, Callable[[], Any]]:
    rng = np.random.default_rng(0)
    params, grads = (
        {f"layer{i}.weight": rng.standard_normal(64, dtype=np.float32) for i in range(count)} for _ in range(2)
    )
    optimizer = steepest.numpy.AdamW(params, lr=1e-3)
    return optimizer, lambda: optimizer.step(grads)


def at_every_step(count: int, rounds: int) -> None:
    print(
        f"a record at every step, {count:,} tensors of 64    plain ms: best  median   monitored: best  median   ratio: best  median"
    )
    for kind, make in (("torch", on_torch), ("NumPy", on_arrays)):
        for name, outputs in OUTPUTS.items():
            with tempfile.TemporaryDirectory() as folder:
                (_, plain), (watched, step) = make(count), make(count)
                monitor = steepest.Monitor(watched, every=1, folder=None, to=outputs(Path(folder)))
                times: list[list[float]] = [[], []]
                for number in range(rounds + 3):
                    for place, called in enumerate((plain, lambda s=step, m=monitor: (s(), m(1.0)))):
                        spent = seconds(called)
                        if number >= 3:
                            times[place].append(1e3 * spent)
                monitor.close()
            (best, middle), (worst, usual) = ((min(one), statistics.median(one)) for one in times)
            judged = "" if "JsonLines" in name else f"   bar {MOST}: {'met' if worst / best <= MOST else 'MISSED'}"
            said = f"{kind}, {name}"
            print(
                f"  {said:42}{best:17.2f}{middle:8.2f}{worst:18.2f}{usual:8.2f}{worst / best:14.1f}{usual / middle:8.1f}{judged}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--settings", default=",".join(SETTINGS))
    parser.add_argument("--tensors", type=int, default=5000, help="of the last part; 0 leaves it out")
    given = parser.parse_args()
    print(machine())
    for label in filter(None, given.settings.split(",")):
        measured(label, given.rounds)
    if given.tensors:
        at_every_step(given.tensors, given.rounds)


if __name__ == "__main__":
    main()
