"""Runs as a monitor would leave them, made up from a seed: layers whose norms fall and differ, losses, events."""

from __future__ import annotations

import numpy as np

from steepest.monitor.records import DERIVED, MEASUREMENTS, Event, Facts, Record, Run, TensorFacts

MEASURED = tuple(name for name in MEASUREMENTS if name not in DERIVED)
SHARES = ("clipped", "zero_grads", "unmoved")


def made_facts(layers: int = 6, every: int = 10, **of: object) -> Facts:
    names = [f"blocks.{i // 2}.linear.{('weight', 'bias')[i % 2]}" for i in range(layers)]
    tensors = tuple(TensorFacts(n, (64, 32) if n.endswith("weight") else (64,), "float32") for n in names)
    facts = {
        "started": 1.7e9, "framework": "torch", "optimizer": "AdamW", "every": every,
        "plan": "pass 1: reads grad\npass 2: writes param", "chains": ("clip_by_global_norm > scale_by_adam > descend",),
        "groups": ({"max_norm": 2.0, "lr": 1e-3, "betas": [0.9, 0.999]},),
        "states": {"exp_avg": "float32"}, "versions": {"steepest": "0.1.0"}, "notes": {"batch_size": 32},
    }  # fmt: skip
    return Facts(tensors=tensors, **(facts | of))  # type: ignore[arg-type]  # of the right types by name


def made_records(
    facts: Facts, records: int = 200, measured: tuple[str, ...] = MEASURED, seed: int = 0, **scalars: float
) -> list[Record]:
    """A record at every step that ``every`` divides, a loss for each step between."""
    rng = np.random.default_rng(seed)
    layers, made = len(facts.tensors), []
    level = 10.0 ** rng.uniform(-2, 0, layers)
    for i in range(1, records + 1):
        fall = 0.1 + 0.9 * np.exp(-3 * i / records)
        noise = np.exp(0.3 * rng.standard_normal((len(measured), layers)))
        tensors = {}
        for row, name in enumerate(measured):
            size = {"weight_norm": 5.0, "update_norm": 5e-3}.get(name, 1.0)
            values = noise[row] * (1.0 if name == "trust_ratio" else level * fall * size)
            tensors[name] = (np.clip(values, 0, 1) if name in SHARES else values).astype(np.float32)
        if "cosine" in tensors:
            tensors["cosine"] = rng.uniform(-1, 1, layers).astype(np.float32)
        if "nonfinite_grads" in tensors:
            tensors["nonfinite_grads"] = np.zeros(layers, dtype=np.float32)
        step = i * facts.every
        losses = 2.3 * fall * np.exp(0.1 * rng.standard_normal(facts.every))
        values = {"lr": 1e-3 * fall, "step_seconds": 0.01, "optimizer_seconds": 0.001}
        values["grad_norm"] = float(np.linalg.norm(tensors["grad_norm"]))
        made.append(Record(step, step, step * 0.01, losses, values | scalars, tensors))
    return made


def made_run(layers: int = 6, records: int = 200, *, events: tuple[Event, ...] = (), **options: object) -> Run:
    facts = made_facts(layers)
    return Run.of(facts, made_records(facts, records, **options), events, True)  # type: ignore[arg-type]  # by name
