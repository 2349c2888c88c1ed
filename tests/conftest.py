"""What all tests share: hypothesis profiles, a seeded generator, signals, and a cache folder away from the user's."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import settings

from steepest.engines.numba import cache

# Compiling a plan takes seconds the first time and nothing after: a deadline per example would measure that.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# Read by type checkers, and not imported to look for examples: one of them is full of mistakes.
collect_ignore = ["typing/right.py", "typing/wrong.py"]

OF_ONE_RUN = "steepest-cache-"
# What rich and the library print depends on them.
PRINTING = ("COLUMNS", "FORCE_COLOR", "LANG", "LC_ALL", "LINES", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")

_own_cache = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled plans away from the user's, let signals end processes, and print as by default; children inherit it."""
    heed_signals()
    for name in PRINTING:
        os.environ.pop(name, None)
    if "STEEPEST_CACHE_DIR" not in os.environ:
        os.environ["STEEPEST_CACHE_DIR"] = config.stash[_own_cache] = kernels_of(config)


def kernels_of(config: pytest.Config) -> str:
    """Return a folder for compiled plans: pytest's cache, so that the next run starts warm, or one of this run alone.

    Names of files there are hashes of all that they depend on. A folder that others can write to would not be used.
    """
    provider = getattr(config, "cache", None)
    if provider is not None:
        folder = provider.mkdir("kernels")
        folder.chmod(0o700)
        with suppress(Exception):
            return str(cache._trusted(folder))
    return tempfile.mkdtemp(prefix=OF_ONE_RUN)


def heed_signals() -> None:
    """Give ignored signals their default action: a shell starts `make test &` without SIGINT, and nohup without SIGHUP."""
    actions = {"SIGINT": signal.default_int_handler, "SIGTERM": signal.SIG_DFL, "SIGHUP": signal.SIG_DFL}
    for name, action in actions.items():
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, action)


def pytest_unconfigure(config: pytest.Config) -> None:
    if folder := config.stash.get(_own_cache, None):
        del os.environ["STEEPEST_CACHE_DIR"]
        if os.path.basename(folder).startswith(OF_ONE_RUN):
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def rng() -> np.random.Generator:
    """The same random numbers in every run of a test."""
    return np.random.default_rng(20250117)
