"""Optimizer state to one file and back, without pickle: arrays by name, and a JSON text for everything else.

``.npz`` needs NumPy only; ``.safetensors`` needs that package. A file is moved into place whole: a crash while saving leaves
the old one.
"""

from __future__ import annotations

import json
import os
import stat
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["load_file", "save_file", "whole"]

_META = "steepest"


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """The place of a new file beside ``path``, whose name it gets at the end. Where that is not reached all is as it was."""
    # Not by tempfile, whose files only their owner may read.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def save_file(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
    """Write arrays and a JSON-able mapping to ``path`` (.npz or .safetensors)."""
    path = _checked(path)
    text = json.dumps(meta)
    with whole(path) as temporary:
        if path.suffix == ".npz":
            with open(temporary, "wb") as file:
                entries: dict[str, Any] = {_META: np.frombuffer(text.encode(), dtype=np.uint8), **arrays}
                np.savez(file, **entries)
        else:
            from safetensors.numpy import save_file as save

            with open(temporary, "xb") as file:
                usual = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            save({k: np.asarray(v, order="C") for k, v in arrays.items()}, temporary, metadata={_META: text})
            os.chmod(temporary, usual)  # safetensors makes the file anew, for its owner only


def load_file(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays and the JSON mapping of a file that `save_file` has written."""
    path = _checked(path)
    try:
        if path.suffix == ".npz":
            # Opened here: np.load leaves a broken file open.
            with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            text = arrays.pop(_META).tobytes().decode()
        else:
            from safetensors import safe_open

            with safe_open(str(path), framework="numpy") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
                text = file.metadata()[_META]
        meta = json.loads(text)
        if not isinstance(meta, dict):
            raise TypeError(f"its description is {meta!r}")
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except Exception as error:
        raise ValueError(f"load: {path.name} is no state file of steepest ({type(error).__name__}: {error}).") from None
    return arrays, meta


def _checked(path: str | os.PathLike[str]) -> Path:
    made = Path(path)
    if made.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"path is {str(path)!r}, allowed is a name that ends in .npz or .safetensors.")
    return made
