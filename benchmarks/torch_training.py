"""A whole training step of a small transformer on the CPU: what the choice of an optimizer changes, and its share of the time.

Forward, backward, step and ``zero_grad``; each optimizer trains a model of its own, all in one process and in turn. The step
follows the backward pass at once, as it does in practice, with whatever threads that has left awake.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch_peers import FUSED, RULES, Make

VOCABULARY, WIDTH, LAYERS, LENGTH, BATCH = 1000, 256, 4, 64, 8
IN_A_ROW = 3


class Transformer(nn.Module):
    """A language model of 3.7 million parameters in 54 tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.places = nn.Parameter(0.02 * torch.randn(LENGTH, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY)
        self.mask = nn.Transformer.generate_square_subsequent_mask(LENGTH)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(
            self.norm(self.layers(self.embed(tokens) + self.places, self.mask, is_causal=True))
        )
        return found


@dataclass(slots=True)
class Training:
    """A model, its optimizer's step, and the seconds of its training steps and of their optimizer's part."""

    model: Transformer
    step: Callable[[], Any]
    batches: list[torch.Tensor]
    whole: list[float] = field(default_factory=list)
    part: list[float] = field(default_factory=list)

    def run(self, number: int) -> tuple[float, float]:
        tokens = self.batches[number % len(self.batches)]
        start = time.perf_counter()
        logits = self.model(tokens[:, :-1])
        nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        before = time.perf_counter()
        self.step()
        after = time.perf_counter()
        self.model.zero_grad()
        return time.perf_counter() - start, after - before


def made(make: Make) -> Training:
    torch.manual_seed(0)
    model = Transformer()
    batches = [torch.randint(VOCABULARY, (BATCH, LENGTH + 1)) for _ in range(4)]
    return Training(model, make(list(model.parameters())), batches)


def end_to_end(rounds: int) -> str:
    """The table, as text."""
    makers: dict[str, Make] = {}
    for name in ("adamw", "clip + adamw + ema"):
        rule = RULES[name]
        makers[f"{name}: steepest"] = lambda params, rule=rule: rule.ours(params).step  # type: ignore[misc]  # bound early by its default
        makers |= {f"{name}: {who}": rule.peers[who] for who in (FUSED, "torch foreach")}
    trainings = {name: made(make) for name, make in makers.items()}
    for one in trainings.values():
        for number in range(2):
            one.run(number)
    names = list(trainings)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            one = trainings[name]
            one.run(0)
            seen = [one.run(i) for i in range(1, IN_A_ROW + 1)]
            one.whole.append(sum(whole for whole, _ in seen) / IN_A_ROW)
            one.part.append(sum(part for _, part in seen) / IN_A_ROW)
    model = next(iter(trainings.values())).model
    size = sum(p.numel() for p in model.parameters())
    lines = [
        f"a training step of a transformer, {size / 1e6:.1f} M parameters in {len(list(model.parameters()))} tensors, "
        f"{BATCH * LENGTH} tokens; medians in ms",
        f"{'':36}{'whole':>9}{'optimizer':>11}{'share':>8}",
    ]
    for name, one in trainings.items():
        whole, part = statistics.median(one.whole), statistics.median(one.part)
        share = statistics.median(p / w for p, w in zip(one.part, one.whole, strict=True))
        lines.append(f"  {name:34}{whole * 1e3:9.2f}{part * 1e3:11.2f}{share:8.1%}")
    return "\n".join(lines)
