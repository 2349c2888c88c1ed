"""A small language model, character by character, on the King James Bible: a decoder of the GPT kind.

Where the layer norms stand decides how hard it is to train: before each branch (pre-norm) it forgives nearly everything; after
each sum (post-norm, as in the first Transformer) gradients near the output are large at the start, and Adam needs a warm-up or
RAdam (Xiong et al., 2020; Liu et al., 2020).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from steepest.workbench.workload import TorchTask, workload
from steepest.workbench.workloads import data
from steepest.workbench.workloads.rates import RATES
from steepest.workbench.workloads.supervised import seeded

__all__ = ["char_gpt", "char_gpt_post_norm"]

BATCH, CONTEXT, WIDTH, HEADS = 32, 64, 64, 4
WINDOWS = 256
"""How many stretches of a held-out part are measured, at even distances."""


class Block(nn.Module):
    """Causal self-attention and a layer of four times the width, each added to what came in."""

    def __init__(self, pre_norm: bool) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        attended: torch.Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return attended

    def expand(self, x: torch.Tensor) -> torch.Tensor:
        expanded: torch.Tensor = self.narrow(functional.gelu(self.wide(x)))
        return expanded

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.pre_norm:
            x = x + self.attend(self.norm1(x))
            x = x + self.expand(self.norm2(x))
        else:
            x = self.norm1(x + self.attend(x))
            x = self.norm2(x + self.expand(x))
        return x


class Decoder(nn.Module):
    """Embeddings of characters and places, blocks, a linear layer. Linear weights start with variance 1/fan-in."""

    def __init__(self, characters: int, layers: int, pre_norm: bool) -> None:
        super().__init__()
        self.character, self.place = nn.Embedding(characters, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block(pre_norm) for _ in range(layers)))
        self.norm = nn.LayerNorm(WIDTH) if pre_norm else nn.Identity()
        self.head = nn.Linear(WIDTH, characters)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
                nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.Embedding):
                nn.init.normal_(layer.weight, std=0.1)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        x = self.character(text) + self.place.weight[: text.shape[1]]
        logits: torch.Tensor = self.head(self.norm(self.blocks(x)))
        return logits


@cache
def _parts() -> tuple[dict[str, torch.Tensor], int]:
    """The text as numbers: its first 90 per cent, the next five, the last five; how many characters there are."""
    text = data.kjv()
    known = {character: i for i, character in enumerate(sorted(set(text)))}
    numbers = torch.tensor([known[character] for character in text])
    first, second = int(0.90 * len(numbers)), int(0.95 * len(numbers))
    return {"train": numbers[:first], "validation": numbers[first:second], "test": numbers[second:]}, len(known)


def _loss(model: nn.Module, text: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the next character at every place of the stretches that begin here."""
    stretches = text[starts[:, None] + torch.arange(CONTEXT + 1)]
    return functional.cross_entropy(model(stretches[:, :-1]).flatten(0, 1), stretches[:, 1:].flatten())


def _task(seed: int, layers: int, pre_norm: bool) -> TorchTask:
    parts, characters = _parts()
    with seeded(seed):
        model = Decoder(characters, layers, pre_norm)

    def loss(step: int) -> torch.Tensor:
        starts = np.random.default_rng([seed, 1, step]).integers(0, len(parts["train"]) - CONTEXT, BATCH)
        return _loss(model, parts["train"], torch.from_numpy(starts))

    def evaluate(part: str) -> dict[str, float]:
        starts = torch.linspace(0, len(parts[part]) - CONTEXT - 1, WINDOWS).long()
        return {"loss": float(_loss(model, parts[part], starts))}

    return TorchTask(model, loss, evaluate)


@workload(
    steps=1500,
    failed=6.2,
    source=data.FILES["kjv_1m.xz"].source,
    data=data.FILES["kjv_1m.xz"].sha256,
    batch=BATCH,
    target=1.35,
    seconds=40.0,
    rates=RATES["char-gpt"],
)
def char_gpt(seed: int) -> TorchTask:
    """King James Bible by characters; pre-norm decoder, 2 layers, width 64, 4 heads, context 64; batches of 32"""
    return _task(seed, 2, pre_norm=True)


@workload(
    steps=1000,
    failed=6.2,
    source=data.FILES["kjv_1m.xz"].source,
    data=data.FILES["kjv_1m.xz"].sha256,
    batch=BATCH,
    target=1.45,
    seconds=55.0,
    rates=RATES["char-gpt-post-norm"],
)
def char_gpt_post_norm(seed: int) -> TorchTask:
    """King James Bible by characters; post-norm decoder, 4 layers, width 64, 4 heads, context 64; batches of 32"""
    return _task(seed, 4, pre_norm=False)
