"""Generated text becomes a module: written once into the user's cache folder, so that a second process starts warm.

The folder follows the platform's convention; the environment variable ``STEEPEST_CACHE_DIR`` overrides it. Names are hashes
of the text and of everything it was compiled with, files are moved into place whole, so several processes may share the
folder. A folder that can't be written costs only speed, with one warning.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from types import ModuleType

__all__ = ["cache_folder", "discard", "load"]


def cache_folder() -> Path:
    """Where generated code is kept."""
    given = os.environ.get("STEEPEST_CACHE_DIR")
    if given:
        return Path(given)
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "steepest" / "cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "steepest"
    return Path(os.environ.get("XDG_CACHE_HOME", home / ".cache")) / "steepest"


def load(name: str, text: str, salt: str, on_disk: bool = True) -> ModuleType:
    """The module that a text defines. Its global ``CACHE`` says whether compiled code may be kept beside it."""
    digest = hashlib.sha256("\0".join((text, salt, sys.version)).encode()).hexdigest()[:20]
    path = _write(f"{name}_{digest}.py", text) if on_disk else None
    module = ModuleType(f"steepest_generated_{name}_{digest}")
    module.__file__ = str(path or f"<steepest {name}>")
    module.__dict__["CACHE"] = path is not None
    # Numba finds globals of a function through its module's name.
    sys.modules[module.__name__] = module
    exec(compile(text, module.__file__, "exec"), module.__dict__)
    return module


def _write(filename: str, text: str) -> Path | None:
    folder = cache_folder()
    path = folder / filename
    try:
        if path.read_text(encoding="utf-8") == text and os.access(folder, os.W_OK):
            return path
    except (OSError, UnicodeDecodeError):
        pass
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return path
    except OSError as error:
        warn_once(folder, error)
        return None


def discard(module: ModuleType) -> None:
    """Remove the compiled code that is kept of a module, so that the next process writes it anew."""
    path = Path(module.__file__ or "")
    for kept in path.parent.glob(f"__pycache__/{path.stem}.*"):
        with suppress(OSError):
            kept.unlink()


_warned: set[str] = set()


def warn_once(folder: Path, error: OSError) -> None:
    """Say once per process that every start will compile again."""
    if "cache" not in _warned:
        _warned.add("cache")
        warnings.warn(
            f"steepest: the cache folder {folder} can't be written ({error.strerror or error}). Steps are compiled again "
            f"in every process. Set STEEPEST_CACHE_DIR to a folder that can be written.",
            RuntimeWarning,
            stacklevel=2,
        )
