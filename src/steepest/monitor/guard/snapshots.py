"""Where snapshots are kept: in memory, or in a folder from which another process goes on.

Each is written to a file of its own, forced to the disk, and only then given its name; the second last stays. So whatever
kills a training leaves at least one whole snapshot. What turns out to be of no use is set aside under another name, for its owner
to judge; only older ones make room for newer ones. A file is read without pickle's freedom (``torch.load(weights_only=True)``,
or ``.npz`` for runs on NumPy) and only if the checksums of all its parts are right.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np

from steepest.files import remove_abandoned, whole
from steepest.monitor.guard.packing import Packed, copied

__all__ = ["KEPT", "Snapshots", "any_in"]

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
        self._known: set[int] = set()
        self._gone: set[int] = set()

    @property
    def numbers(self) -> list[int]:
        """Of those that there are, the newest first; a file may turn out not to be whole.

        Where the folder can't be listed, those that are known; raises OSError where there are none.
        """
        if self.folder is None:
            return sorted(self._held, reverse=True)
        pattern = re.compile(rf"snapshot-(\d+){re.escape(self.suffix)}")
        try:
            found = [pattern.fullmatch(name) for name in (os.listdir(self.folder) if self.folder.is_dir() else ())]
            self._known = {int(match[1]) for match in found if match}
        except OSError:
            if not self._known:
                raise
        return sorted(self._known - self._gone, reverse=True)

    def path(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"snapshot-{number:09d}{self.suffix}"

    def keep(self, number: int, snapshot: Packed) -> None:
        """Keep one more. Raises OSError where it can't be written."""
        if self.folder is None:
            self._held[number] = snapshot
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            with whole(self.path(number)) as file:
                _FORMS[self.suffix][0](file, snapshot)
            self._known.add(number)
            self._gone.discard(number)

    def trim(self) -> None:
        """Forget all but the newest two."""
        for old in self.numbers[KEPT:]:
            self.drop(old)

    def drop(self, number: int) -> None:
        """Forget one; also where the disk will not be written to."""
        if self.folder is None:
            del self._held[number]
        else:
            self._gone.add(number)
            with contextlib.suppress(OSError):
                self.path(number).unlink(missing_ok=True)

    def set_aside(self, number: int) -> None:
        """Give the file of one another name, by which nobody takes it for a snapshot."""
        path = self.path(number)
        self._gone.add(number)
        with contextlib.suppress(OSError):
            os.replace(path, path.with_name(f"unused-{path.name}"))

    def read(self, number: int) -> Packed | None:
        """One of them, to do with as one likes; None if its file is broken.

        Where it can't be read otherwise, by the fault of the disk or of the form, raises what says so, with the path as a note.
        """
        if self.folder is None:
            held = self._held[number]
            return Packed(held.text, {name: copied(array) for name, array in held.arrays.items()})
        path = self.path(number)
        try:
            return _FORMS[self.suffix][1](path) if _whole(path) else None
        except Exception as error:
            error.add_note(f"while reading {path}")
            raise

    def tidy(self) -> None:
        """Remove what a process that was killed while it wrote has left."""
        if self.folder is not None:
            remove_abandoned(self.folder)


def any_in(folder: str | os.PathLike[str] | None) -> bool:
    """Whether a folder holds snapshots of whatever form, of one process or of several."""
    return folder is not None and any(next(Path(folder).glob(p), None) for p in ("snapshot-*", "process-*/snapshot-*"))


def _whole(path: Path) -> bool:
    """By the checksums of all parts: torch.load does not look at those that torch.save writes."""
    try:
        with zipfile.ZipFile(path) as parts:
            return parts.testzip() is None
    except (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, struct.error, zlib.error):  # by a damaged directory
        return False


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
    try:
        torch.save({_TEXT: snapshot.text, "tensors": tensors, "arrays": arrays}, file)
    except RuntimeError as error:  # so torch calls whatever its file could not write
        raise OSError(str(error)) from error


def _alone(tensor: Any) -> Any:
    """Of a part of a larger memory torch.save would write the whole."""
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _read_torch(path: Path) -> Packed:
    import torch

    held = torch.load(path, map_location="cpu", weights_only=True)
    arrays = {n: raw.numpy().view(dtype).reshape(shape) for n, (dtype, shape, raw) in held["arrays"].items()}
    return Packed(held[_TEXT], {**held["tensors"], **arrays})


_FORMS: dict[str, tuple[_Write, _Read]] = {".npz": (_write_npz, _read_npz), ".pt": (_write_torch, _read_torch)}
