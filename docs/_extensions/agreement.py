"""How far each row of tests/oracles.py is from its oracle: written to docs/agreement.json, which the rules' pages read.

Not at every build, since the oracles bring jax, and it takes a minute. What a page needs without it, the rows themselves, it
reads from the tests' text; a row that has not been measured yet says so.

    python docs/_extensions/agreement.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docs" / "agreement.json"
STEPS = 23
"""As in tests/rules/test_rules.py."""


def measured() -> dict[str, dict[str, float]]:
    """By row: the largest relative difference after the steps, in both types, on the numbers that the tests take."""
    sys.path.insert(0, str(ROOT))
    import numpy as np

    import steepest.numpy as opt
    from tests.oracles import ROWS

    found: dict[str, dict[str, float]] = {}
    for row in ROWS:
        found[row.name] = {}
        for dtype in ("float64", "float32"):
            rng = np.random.default_rng(7)
            drawn = [
                [np.asarray(np.asarray(rng.normal(size=s), dtype=np.float32), dtype=dtype) for s in row.shapes]
                for _ in range(STEPS + 1)
            ]
            theirs = row.oracle(drawn[0], drawn[1:])
            params = [p.copy() for p in drawn[0]]
            optimizer = opt.Optimizer(params, row.chain)
            for grads in drawn[1:]:
                optimizer.step(grads)
            ours = params
            if row.compares != "param":
                ours = [optimizer.state[str(i)][row.compares] for i in range(len(params))]
            worst = 0.0
            for a, b in zip(ours, theirs, strict=True):
                x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
                scale = np.maximum(np.abs(y), np.sqrt(np.mean(y**2)))
                worst = max(worst, float(np.max(np.abs(x - y) / np.where(scale > 0, scale, 1.0))))
            found[row.name][dtype] = float(f"{worst:.1e}")
    return found


if __name__ == "__main__":
    FILE.write_text(json.dumps(measured(), indent=1) + "\n", encoding="utf-8")
