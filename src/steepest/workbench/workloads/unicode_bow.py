"""The names of Unicode's characters, word by word, and the category of the character: «LATIN SMALL LETTER A» is a Ll.

A few words are in thousands of names, half of them in one; so are the categories. The gradients of an embedding are rare for
rare words, which is what AdaGrad was made for (Duchi, Hazan and Singer, 2011). Both workloads train the same network; in
``unicode-bow-sparse`` the embedding's gradient is a sparse tensor that holds the rows of the batch's words alone.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import torch
from torch import nn

from steepest.workbench.workload import TorchTask, workload
from steepest.workbench.workloads import data
from steepest.workbench.workloads.rates import RATES
from steepest.workbench.workloads.sampling import SPLIT_SEED, split
from steepest.workbench.workloads.supervised import Parts, classification, seeded

__all__ = ["unicode_bow", "unicode_bow_sparse"]

BATCH = 64
RAREST = 10
"""A category with fewer characters is left out: the parts could not all have some."""


class BagOfWords(nn.Module):
    """The sum of the words' vectors, a linear layer; words are numbered from 1, and 0 fills up shorter names."""

    def __init__(self, words: int, classes: int, sparse: bool, width: int = 32) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(words + 1, width, mode="sum", padding_idx=0, sparse=sparse)
        self.head = nn.Linear(width, classes)
        nn.init.normal_(self.words.weight, std=0.1)
        nn.init.normal_(self.head.weight, std=width**-0.5)
        nn.init.zeros_(self.head.bias)

    def forward(self, names: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.words(names))
        return logits


@cache
def _examples() -> tuple[Parts, int, int]:
    """80, 10 and 10 per cent of every category; how many words and categories there are."""
    names, categories = data.unicode_names()
    counts = Counter(categories)
    labels = [category for category in sorted(counts) if counts[category] >= RAREST]
    kept = [(name.split(), labels.index(c)) for name, c in zip(names, categories, strict=True) if c in labels]
    words = {word: i for i, word in enumerate(sorted({w for name, _ in kept for w in name}), 1)}
    table = np.zeros((len(kept), max(len(name) for name, _ in kept)), dtype=np.int64)
    for row, (name, _) in zip(table, kept, strict=True):
        row[: len(name)] = [words[word] for word in name]
    y = np.array([label for _, label in kept])
    parts = {part: (torch.from_numpy(table[i]), torch.from_numpy(y[i])) for part, i in split(y, 0.1, 0.1).items()}
    return parts, len(words), len(labels)


def _task(seed: int, sparse: bool) -> TorchTask:
    parts, words, classes = _examples()
    with seeded(seed):
        model = BagOfWords(words, classes, sparse)
    return classification(model, parts, BATCH, seed)


@workload(
    steps=600,
    failed=4.64,
    source=data.UNICODE.source,
    data=data.UNICODE.sha256,
    split_seed=SPLIT_SEED,
    batch=BATCH,
    target=0.15,
    seconds=0.4,
    rates=RATES["unicode-bow"],
)
def unicode_bow(seed: int) -> TorchTask:
    """9,384 names of characters, bags of words; an embedding of 32 and a linear layer for 22 categories; batches of 64"""
    return _task(seed, sparse=False)


@workload(
    steps=600,
    failed=4.64,
    source=data.UNICODE.source,
    data=data.UNICODE.sha256,
    split_seed=SPLIT_SEED,
    batch=BATCH,
    target=0.15,
    seconds=0.4,
    rates=RATES["unicode-bow"],
)
def unicode_bow_sparse(seed: int) -> TorchTask:
    """Unicode-bow with sparse gradients of the embedding, which SGD without momentum and Adagrad take"""
    return _task(seed, sparse=True)
