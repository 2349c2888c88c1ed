"""Where a search of the learning rate starts: for each workload and family of optimizers, its best in a search with one seed.

Constant rates, other hyperparameters at their defaults (SGD's momentum 0.9, Nesterov's form), factors of √10 until the best was
not at an edge. On the recurrent networks behind ``clip_by_global_norm(1.0)``. A rate after ~ was not measured: it follows
from Adam's by the usual ratios.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["RATES"]

_FAMILIES = (
    "sgd", "sgd(momentum", "adagrad", "rmsprop", "adam", "adamw", "radam", "nadam", "adamax", "adadelta", "lion", "lamb", "lars"
)  # fmt: skip
_TABLE = """
digits-mlp                  1     0.03  0.03   3e-3   0.01  3e-3   0.01   0.01   0.01   3    3e-4   3e-3   1
quadratics                  1     1     0.3    0.01   0.1   0.1    0.3    0.01   0.3    1    0.01   3e-3   0.3
quadratics-ill-conditioned  1     1     0.3    3e-3   0.1   0.1    0.1    0.01   0.3    1    3e-3   0.03   0.3
quadratics-noisy            0.03  3e-3  0.1    3e-3   3e-3  3e-3   0.01   3e-3   0.01   1    1e-3   1e-3   0.3
mnist-cnn                   0.1   0.03  ~0.03  ~3e-3  0.03  ~0.01  ~0.01  ~0.01  ~0.03  ~3   ~3e-4  ~0.01  ~1
mnist-cnn-large-batch       ~0.1  0.03  ~0.03  ~1e-3  3e-3  ~3e-3  ~0.01  ~3e-3  ~0.01  ~3   ~1e-3  0.01   10
unicode-bow                 3     0.3   0.1    3e-3   0.01  0.01   0.01   0.01   0.03   10   1e-3   3e-3   1
rnn-memory                  0.1   0.03  ~3e-3  1e-3   1e-3  ~1e-3  ~1e-3  ~1e-3  ~3e-3  ~1   ~1e-4  ~1e-3  ~1
rnn-memory-order            0.1   0.03  3e-3   1e-3   3e-3  ~3e-3  ~3e-3  ~3e-3  ~0.01  ~1   1e-4   1e-3   3
char-gpt                    ~0.3  0.1   ~0.03  ~3e-3  3e-3  ~3e-3  ~3e-3  ~3e-3  ~0.01  ~3   ~3e-4  ~0.01  ~1
char-gpt-post-norm          ~0.3  0.1   ~0.03  ~3e-4  1e-3  ~1e-3  ~1e-3  ~1e-3  ~3e-3  ~1   ~1e-4  ~3e-3  ~1
autoencoder                 10    3     0.01   1e-3   1e-3  1e-3   3e-3   3e-3   0.01   30   3e-5   1e-3   1
diamonds                    0.1   0.01  0.01   3e-4   0.01  0.01   0.03   1e-3   0.03   0.3  1e-3   3e-3   1
diamonds-large-batch        0.01  0.01  0.01   1e-3   0.01  0.01   0.03   3e-3   0.01   0.3  3e-3   0.01   1
"""


def _read(table: str) -> dict[str, Mapping[str, float]]:
    rows = (line.split() for line in table.strip().splitlines())
    return {
        name: {family: float(rate.removeprefix("~")) for family, rate in zip(_FAMILIES, rates, strict=True)}
        for name, *rates in rows
    }


RATES = _read(_TABLE)
"""By workload and by family, as `Workload.rates` takes them."""
