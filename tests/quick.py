"""A plugin for `make quick`: tests without torch, a browser or other processes.

Files that import torch or subprocess, or helpers that do, are left out. Other tests that ask for torch skip.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

_NEEDS = re.compile(
    r"^(import|from) (subprocess|torch|steepest\.torch|tests\.(browser|oracles|strategies)|tests\.torch)\b",
    re.MULTILINE,
)


def pytest_configure(config: pytest.Config) -> None:
    sys.modules["torch"] = None  # type: ignore[assignment]  # so that an import fails


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return (
        True if collection_path.suffix == ".py" and _NEEDS.search(collection_path.read_text(encoding="utf-8")) else None
    )
