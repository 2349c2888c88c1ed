"""Optimizer state to one file and back, without pickle: numbered arrays, and a JSON text for everything else.

Both formats are read by NumPy (``.npz``) and by the safetensors package (``.safetensors``); writing and reading need NumPy only.
The text has the format's version and each array's name, type, shape and CRC-32. So a name may be any text, a file says what it
holds before its data is read, and damage is found. Files of format 1 (arrays by their names, no checksums) are still read.
"""

from __future__ import annotations

import errno
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from steepest.files import whole

__all__ = ["Stored", "open_file", "save_file"]

FORMAT = 2
_META = "steepest"
_CHECKSUM = "crc32"
_KINDS = {
    "BOOL": "bool", "I8": "int8", "U8": "uint8", "I16": "int16", "U16": "uint16", "I32": "int32", "U32": "uint32",
    "I64": "int64", "U64": "uint64", "F16": "float16", "F32": "float32", "F64": "float64",
}  # fmt: skip
"""The types of NumPy by their names in safetensors."""

_Read: TypeAlias = Callable[[str], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Stored:
    """An array in an open file: its type and shape are known before ``read`` fetches it and verifies its checksum."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    read: Callable[[], NDArray[Any]]


def save_file(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
    """Write arrays and a JSON-able mapping to ``path`` (.npz or .safetensors)."""
    path = _checked(path)
    # The largest elements first: so each array in the file is aligned.
    named = sorted(arrays.items(), key=lambda item: -item[1].itemsize)
    values = [np.asarray(array, order="C") for _, array in named]
    listed = [[name, a.dtype.name, a.shape, zlib.crc32(_raw(a))] for (name, _), a in zip(named, values, strict=True)]
    text = json.dumps({"format": FORMAT, "arrays": listed, **meta})
    with whole(path) as file:
        (_write_npz if path.suffix == ".npz" else _write_safetensors)(file, text, values)


@contextmanager
def open_file(path: str | os.PathLike[str]) -> Iterator[tuple[dict[str, Stored], dict[str, Any]]]:
    """The arrays and the JSON mapping of a file that `save_file` has written; the arrays can be read inside the block.

    Raises ValueError for a damaged file and for one that is not a state file, here or when an array is read.
    """
    path = _checked(path)
    with open(path, "rb") as file:
        with _refusing(path):
            text, members, read = (_open_npz if path.suffix == ".npz" else _open_safetensors)(file)
            meta = json.loads(text)
            if not isinstance(meta, dict):
                raise TypeError(f"its description is {type(meta).__name__}")
            version = meta.pop("format", 1)
            newer = isinstance(version, int) and version > FORMAT
        if newer:
            raise ValueError(
                f"load: {path} has format {version}, and this version of steepest reads formats up to {FORMAT}. "
                f"Update steepest: pip install -U steepest."
            )
        with _refusing(path):
            if version == FORMAT:
                listed = meta.pop("arrays")
                if sorted(members) != sorted(map(str, range(len(listed)))):
                    raise ValueError(f"it has {len(members)} arrays, {len(listed)} are listed")
                arrays = {
                    name: Stored(np.dtype(kind), tuple(shape), _reader(path, read, str(number), kind, shape, checksum))
                    for number, (name, kind, shape, checksum) in enumerate(listed)
                }
            elif version == 1:
                known = {name: read(name) for name in members}
                arrays = {name: Stored(a.dtype, a.shape, lambda a=a: a) for name, a in known.items()}  # type: ignore[misc]  # bound
            else:
                raise ValueError(f"its format is {version!r}")
        yield arrays, meta


def _reader(
    path: Path, read: _Read, member: str, kind: str, shape: list[int], checksum: int
) -> Callable[[], NDArray[Any]]:
    """What reads one array and verifies it."""

    def verified() -> NDArray[Any]:
        with _refusing(path):
            array = read(member)
            if array.dtype != kind or list(array.shape) != shape or zlib.crc32(_raw(array)) != checksum:
                raise ValueError(f"array {member} is damaged")
        return array

    return verified


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """ValueError with the path for whatever a damaged or foreign file leads to; errors of the disk stay OSError."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (
            None,
            errno.EINVAL,
        ):  # EINVAL: a place before the file's start
            raise
        raise ValueError(
            f"load: {path} isn't a state file of steepest ({type(error).__name__}: {error}), or it is damaged. "
            f"Load a file that `save` wrote."
        ) from None


def _raw(array: NDArray[Any]) -> memoryview:
    return np.asarray(array, order="C").reshape(-1).view(np.uint8).data


def _checked(path: str | os.PathLike[str]) -> Path:
    made = Path(path)
    if made.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"path must end in .npz or .safetensors, got {str(path)!r}.")
    return made


# ---- .npz


def _write_npz(file: IO[bytes], text: str, values: list[NDArray[Any]]) -> None:
    entries: dict[str, Any] = {str(number): value for number, value in enumerate(values)}
    entries[_META] = np.frombuffer(text.encode(), dtype=np.uint8)
    np.savez(file, **entries)


def _open_npz(file: IO[bytes]) -> tuple[str, list[str], _Read]:
    """Nothing in a state file is compressed, so reading it takes no more memory than the file has bytes."""
    archive = zipfile.ZipFile(file)
    sizes = {}
    for entry in archive.infolist():
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ValueError(f"{entry.filename!r} is compressed")
        if entry.filename in sizes:
            raise ValueError(f"{entry.filename!r} is in it twice")
        sizes[entry.filename] = entry.file_size
    if sum(sizes.values()) > os.fstat(file.fileno()).st_size:
        raise ValueError("its parts are larger than the file")

    def read(name: str) -> NDArray[Any]:
        return _array(archive.read(f"{name}.npy"))  # which verifies the zip file's own checksum

    members = [name.removesuffix(".npy") for name in sizes]
    members.remove(_META)
    return read(_META).tobytes().decode(), members, read


def _array(content: bytes) -> NDArray[Any]:
    """NumPy's own format, from memory: a length that lies can't make it take more."""
    file = BytesIO(content)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, is_fortran, dtype = readers[np.lib.format.read_magic(file)](file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    flat = np.frombuffer(content, dtype, offset=file.tell())
    return flat.reshape(shape, order="F" if is_fortran else "C")


# ---- .safetensors: a length, a JSON header of that length, the data


def _write_safetensors(file: IO[bytes], text: str, values: list[NDArray[Any]]) -> None:
    kinds = {name: kind for kind, name in _KINDS.items()}
    header: dict[str, Any] = {"__metadata__": {_META: text, _CHECKSUM: f"{zlib.crc32(text.encode()):08x}"}}
    end = 0
    for number, value in enumerate(values):
        begin, end = end, end + value.nbytes
        header[str(number)] = {
            "dtype": kinds[value.dtype.name], "shape": value.shape, "data_offsets": [begin, end]
        }  # fmt: skip
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    file.write(len(head).to_bytes(8, "little") + head)
    for value in values:
        file.write(_raw(value))


def _open_safetensors(file: IO[bytes]) -> tuple[str, list[str], _Read]:
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    start = 8 + length
    if not 8 < start <= size:
        raise ValueError(f"its header has {length} bytes, the file has {size}")
    header = json.loads(file.read(length))
    facts = header.pop("__metadata__")
    text, checksum = facts[_META], facts.get(_CHECKSUM)
    if (checksum is None and '"format"' in text) or checksum not in (None, f"{zlib.crc32(text.encode()):08x}"):
        raise ValueError("its description is damaged")
    if max((one["data_offsets"][1] for one in header.values()), default=0) != size - start:
        raise ValueError("its data does not end where the file does")

    def read(name: str) -> NDArray[Any]:
        one = header[name]
        begin, end = one["data_offsets"]
        dtype = np.dtype(_KINDS[one["dtype"]])
        if not 0 <= begin <= end <= size - start:
            raise ValueError(f"array {name} lies outside of the file")
        file.seek(start + begin)
        return np.frombuffer(file.read(end - begin), dtype).reshape(one["shape"])

    return text, list(header), read
