"""Modules and programs that tests need. If one is missing, the test is skipped; in CI it fails, since .ci/run installs them all."""

from __future__ import annotations

import os
import shutil
from importlib import import_module
from types import ModuleType
from typing import NoReturn

import pytest


def skip_or_fail(what: str, how: str) -> NoReturn:
    """Skip the test, or fail it in CI, with what is missing and how it is installed."""
    message = f"{what} is missing. Install it: {how}."
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message, allow_module_level=True)


def require_program(name: str) -> str:
    """The path of a program that Debian has as a package of the same name."""
    return shutil.which(name) or skip_or_fail(name, f"apt-get install {name}")


def require_module(name: str) -> ModuleType:
    """A module of a package that the extra `dev` installs."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        skip_or_fail(error.name or name, "pip install -e '.[dev]'")
