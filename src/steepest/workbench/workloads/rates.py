"""Where a search of the learning rate starts: for each workload and family of optimizers, its best in a search with one seed.

Constant rates, other hyperparameters at their defaults (SGD's momentum 0.9, Nesterov's form), factors of √10 until the best was
not at an edge. On the recurrent networks behind ``clip_by_global_norm(1.0)``. A rate in brackets was not measured: it follows
from Adam's by the usual ratios.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["RATES"]

_FAMILIES = (
    "sgd", "sgd(momentum", "adagrad", "rmsprop", "adam", "adamw", "radam", "nadam", "adamax", "adadelta", "lion", "lamb", "lars"
)  # fmt: skip
_TABLE = """
digits-mlp                   1     0.03   0.03   0.003   0.005  0.003   0.01    0.01    0.01    3    0.0003   0.003  1
quadratics                   1     1      0.3    0.01    0.1    0.1     0.3     0.01    0.3     1    0.01     0.003  0.3
quadratics-ill-conditioned   1     1      0.3    0.003   0.1    0.1     0.1     0.01    0.3     1    0.003    0.03   0.3
quadratics-noisy             0.03  0.003  0.1    0.003   0.003  0.003   0.01    0.003   0.01    1    0.001    0.001  0.3
mnist-cnn                    0.1   0.03   (0.03) (0.003) 0.01   (0.01)  (0.01)  (0.01)  (0.03)  (3)  (0.0003) (0.01) (1)
mnist-cnn-large-batch        0.1   0.03   (0.03) (0.003) 0.01   (0.01)  (0.01)  (0.01)  (0.03)  (3)  (0.001)  0.01   1
unicode-bow                  3     0.3    0.1    0.003   0.01   0.01    (0.01)  (0.01)  0.03    (3)  0.0003   0.003  1
rnn-memory                   0.1   0.03   (0.03) 0.001   0.001  (0.001) (0.001) (0.001) (0.003) (1)  (0.0003) (0.003) (1)
rnn-memory-order             0.1   0.03   (0.03) 0.001   0.003  (0.003) (0.003) (0.003) (0.01)  (1)  (0.0003) (0.003) (1)
char-gpt                     (0.3) 0.1    (0.03) (0.003) 0.003  (0.003) (0.003) (0.003) (0.01)  (3)  (0.0003) (0.01) (1)
char-gpt-post-norm           (0.3) 0.1    (0.03) (0.001) 0.001  (0.001) (0.001) (0.001) (0.003) (1)  (0.0001) (0.003) (1)
autoencoder                  10    3      0.01   0.001   0.001  (0.001) (0.003) (0.001) (0.003) (1)  0.00003  0.001  1
diamonds                     0.1   0.01   0.01   0.0003  0.01   0.01    0.03    0.001   0.03    (1)  0.001    0.003  1
diamonds-large-batch         0.01  0.01   0.01   0.001   0.01   (0.01)  (0.03)  (0.01)  (0.03)  (3)  0.003    0.01   1
"""


def _read(table: str) -> dict[str, Mapping[str, float]]:
    rows = (line.split() for line in table.strip().splitlines())
    return {
        name: {family: float(rate.strip("()")) for family, rate in zip(_FAMILIES, rates, strict=True)}
        for name, *rates in rows
    }


RATES = _read(_TABLE)
"""By workload and by family, as `Workload.rates` takes them."""
