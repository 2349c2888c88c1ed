"""Where snapshots are kept: in memory, or in a folder from which another process goes on.

Each is written to a file of its own, forced to the disk, and only then given its name; the second last stays. So whatever
kills a training leaves at least one whole snapshot. A file is read without pickle's freedom (``torch.load(weights_only=True)``,
or ``.npz`` for runs on NumPy) and only if the checksums of all its parts are right.
"""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np

from steepest.monitor.guard.packing import Packed, copied

__all__ = ["KEPT", "Snapshots"]

KEPT = 2
_TEXT = "steepest"

_Write: TypeAlias = Callable[[IO[bytes], Packed], None]
_Read: TypeAlias = Callable[[Path], Packed]


class Snapshots:
    """The last two snapshots, by the number of batches that had been seen.

    ``suffix`` is ``".pt"`` or ``".npz"``. Without a folder they are kept in memory.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, suffix: str) -> None:
        self.folder = None if folder is None else Path(folder)
        self.suffix = suffix
        self._held: dict[int, Packed] = {}

    @property
    def numbers(self) -> list[int]:
        """Of those that there are, the newest first; a file may turn out not to be whole."""
        if self.folder is None:
            return sorted(self._held, reverse=True)
        pattern = re.compile(rf"snapshot-(\d+){re.escape(self.suffix)}")
        found = [pattern.fullmatch(name) for name in (os.listdir(self.folder) if self.folder.is_dir() else ())]
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def path(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"snapshot-{number:09d}{self.suffix}"

    def keep(self, number: int, snapshot: Packed) -> None:
        """Keep one, and of those before it the newest. Raises OSError where it can't be written; the old ones stay then."""
        if self.folder is None:
            self._held[number] = snapshot
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write_whole(self.path(number), snapshot, _FORMS[self.suffix][0])
        for old in self.numbers[KEPT:]:
            self.drop(old)

    def drop(self, number: int) -> None:
        """Forget one."""
        if self.folder is None:
            del self._held[number]
        else:
            self.path(number).unlink(missing_ok=True)

    def read(self, number: int) -> Packed | None:
        """One of them, to do with as one likes; None if its file is not whole."""
        if self.folder is None:
            held = self._held[number]
            return Packed(held.text, {name: copied(array) for name, array in held.arrays.items()})
        path = self.path(number)
        try:
            with zipfile.ZipFile(path) as parts:
                # torch.load does not look at the checksums that torch.save writes.
                if parts.testzip() is not None:
                    return None
            return _FORMS[self.suffix][1](path)
        except (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, pickle.UnpicklingError):
            return None

    def tidy(self) -> None:
        """Remove what a process that was killed while it wrote has left."""
        if self.folder is not None and self.folder.is_dir():
            for left in self.folder.glob(f".snapshot-*{self.suffix}.*"):
                left.unlink(missing_ok=True)


def _write_whole(path: Path, snapshot: Packed, write: _Write) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            write(file, snapshot)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):  # so that the name, too, is on the disk
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write_npz(file: IO[bytes], snapshot: Packed) -> None:
    entries: dict[str, Any] = {_TEXT: np.frombuffer(snapshot.text.encode(), dtype=np.uint8), **snapshot.arrays}
    np.savez(file, **entries)


def _read_npz(path: Path) -> Packed:
    with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return Packed(arrays.pop(_TEXT).tobytes().decode(), arrays)


def _write_torch(file: IO[bytes], snapshot: Packed) -> None:
    """NumPy's arrays (of random numbers, of a loader) as their bytes, which needs no permission to read."""
    import torch

    tensors = {name: _alone(a) for name, a in snapshot.arrays.items() if isinstance(a, torch.Tensor)}
    arrays = {
        name: (a.dtype.str, a.shape, torch.from_numpy(np.frombuffer(a.tobytes(), np.uint8).copy()))
        for name, a in snapshot.arrays.items()
        if name not in tensors
    }
    torch.save({_TEXT: snapshot.text, "tensors": tensors, "arrays": arrays}, file)


def _alone(tensor: Any) -> Any:
    """Of a part of a larger memory torch.save would write the whole."""
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _read_torch(path: Path) -> Packed:
    import torch

    held = torch.load(path, map_location="cpu", weights_only=True)
    arrays = {n: raw.numpy().view(dtype).reshape(shape) for n, (dtype, shape, raw) in held["arrays"].items()}
    return Packed(held[_TEXT], {**held["tensors"], **arrays})


_FORMS: dict[str, tuple[_Write, _Read]] = {".npz": (_write_npz, _read_npz), ".pt": (_write_torch, _read_torch)}
