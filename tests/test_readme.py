"""The README's Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest


def test_the_readmes_examples_run_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the monitor keeps a record
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    space: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        exec(block, space)
    assert space["optimizer"].steps == 1  # type: ignore[attr-defined]
    assert (tmp_path / "runs" / "a.html").stat().st_size > 10_000
    assert (tmp_path / "runs" / "a").is_dir()
