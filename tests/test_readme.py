"""The README's Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np


def test_the_readmes_examples_run_one_after_another() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    space: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        exec(block, space)
    optimizer = space["optimizer"]
    optimizer.step([np.ones((64, 10), dtype=np.float32), np.ones(10, dtype=np.float32)])  # type: ignore[attr-defined]
    assert optimizer.steps == 1  # type: ignore[attr-defined]
