"""A user's own code: their files and modules loaded, and what goes wrong in them told in one line that names the place.

Nothing here knows what a chain or a workload is.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import steepest
from steepest.checks import unknown_name

__all__ = ["line_in", "load_recipe", "module_of", "names_in", "place_of", "said_of", "telling"]


def load_recipe(path: str, name: str) -> Callable[..., Any]:
    """A user's recipe: a function in a file of theirs."""
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"{path}:{name}: there is no file {path}.")
    module = _loaded(path)
    if not callable(getattr(module, name, None)):
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise ValueError(unknown_name(path, "recipe", name, known))
    return getattr(module, name)  # type: ignore[no-any-return]


def names_in(name: str) -> dict[str, Any]:
    """The public names of a user's module or file. Raises as `module_of`."""
    if name.endswith(".py") and not Path(name).is_file():
        raise ValueError(f"{name}: there is no file {name}.")
    return {one: value for one, value in vars(_loaded(name)).items() if not one.startswith("_")}


def module_of(name: str, attribute: str) -> Any:
    """What ``attribute`` is in a user's module: ``package.module``, found from the working folder too, or ``file.py``.

    Raises ValueError, which names the line of their file, for whatever goes wrong in it.
    """
    if not name or not attribute:
        raise ValueError(
            f"{name}:{attribute} isn't the name of something in a module. Write module:name or file.py:name."
        )
    if name.endswith(".py") and not Path(name).is_file():
        raise ValueError(f"{name}:{attribute}: there is no file {name}.")
    module = _loaded(name)
    if not hasattr(module, attribute):
        raise ValueError(unknown_name(name, "name", attribute, [n for n in vars(module) if not n.startswith("_")]))
    return getattr(module, attribute)


def _loaded(name: str) -> ModuleType:
    """A user's module, by its file or its name; what it raises is told with their line."""
    file = Path(name)
    if name.endswith(".py"):
        try:
            return _module(file.resolve(), file.stat().st_mtime_ns)
        except (Exception, SystemExit) as error:
            place = place_of(error)
            if not place or place.startswith(f"{file.name}:"):  # else in what it imports
                place = f"{name}{line_in(error, file)}"
            raise ValueError(f"{place}: {said_of(error)}") from error
    sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise ValueError(f"{name}: there is no module {error.name}, here or among those installed.") from None
        raise ValueError(f"{place_of(error) or name}: {said_of(error)}") from error
    finally:
        sys.path.remove("")


@functools.lru_cache
def _module(file: Path, _changed: int) -> ModuleType:
    """The file, run once per version of it; what lies beside it can be imported, as by a script."""
    spec = importlib.util.spec_from_file_location(f"recipes of {file}", file)
    if spec is None or spec.loader is None:
        raise ImportError("it can't be read as a module")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    folder = str(file.parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module


def said_of(error: BaseException) -> str:
    """A mistake that the library explains stands by itself; any other is named."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg}"
    return str(error) if type(error) in (ValueError, TypeError) else _named(error)


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def place_of(error: BaseException) -> str:
    """Where in a user's own code something was raised, ``train.py:12``; empty where none of it took part.

    Neither this library is theirs, nor what they have installed, nor Python's own modules.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    foreign = (str(Path(steepest.__file__).parent), sysconfig.get_path("stdlib"), "<")
    found = [
        f"{Path(frame.filename).name}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(foreign)
        and not {"site-packages", "dist-packages"} & {*Path(frame.filename).parts}
    ]
    return found[-1] if found else ""


@contextmanager
def telling(workload: str) -> Iterator[None]:
    """What a user's own code raises becomes a ValueError of one line that says where in their file.

    The library's own mistakes pass as they are, and say themselves what they are about.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        place = place_of(error)
        if not place and (":" not in workload or str(error).startswith("workload ")):
            raise
        said = f"{place}: {_named(error)}" if place else said_of(error)
        raise ValueError(f"workload {workload}: {said}") from error


def line_in(error: BaseException, file: Path) -> str:
    if isinstance(error, SyntaxError) and Path(error.filename or "").name == file.name:
        return f":{error.lineno}"
    line, trace = "", error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).name == file.name:
            line = f":{trace.tb_lineno}"
        trace = trace.tb_next
    return line
