"""Where results come from: the code, the command, the versions and the machine, as a result and a queue keep them."""

from __future__ import annotations

import hashlib
import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import steepest
from steepest.workbench.parse import is_file, split_list
from steepest.workbench.processes import cores
from steepest.workbench.words import counted

__all__ = ["code_of", "command", "machine", "versions"]


def code_of(workload: str, optimizer: str) -> str:
    """A hash of the user's files that are named, not of what they import; empty where there are none. Changed code is run anew."""
    files = [part.rpartition(":")[0] for part in split_list(optimizer, "|") if is_file(part)]
    module, colon, _ = workload.rpartition(":")
    if colon:
        found = sys.modules.get(module)
        files.append(module if module.endswith(".py") else getattr(found, "__file__", "") or "")
    texts = [Path(name).read_bytes() for name in files if name]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:16] if texts else ""


def command(name: str) -> str:
    """The command line that runs, to be given again; in a program of the user's, the function's name."""
    ours = Path(sys.argv[0]).stem == "steepest" or Path(sys.argv[0]) == Path(__file__).with_name("cli.py")
    return shlex.join(["steepest", *sys.argv[1:]]) if ours else f"{name}(…)"


def versions() -> dict[str, str]:
    found = {"steepest": steepest.__version__, "python": platform.python_version()}
    for package in ("numpy", "numba", "torch", "optuna"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> str:
    info = Path("/proc/cpuinfo")
    names = []
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {counted(cores(), 'core')}, {platform.system()}"
