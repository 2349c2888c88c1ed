"""Write a file whole or not at all, whatever ends the process that writes it.

Use `whole` for every file that replaces an older one. The new content goes to a temporary file in the same folder, is forced
to the disk, and only then gets the file's name. A process that is killed leaves its temporary file; the next `whole` in that
folder removes it. A living process holds a lock on its temporary file, so several may save into one folder.
"""

from __future__ import annotations

import errno
import os
import platform
import stat
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows: nobody knows there whether a temporary file is in use, so all of them stay
    fcntl = None  # type: ignore[assignment]

__all__ = ["remove_abandoned", "whole"]

_PREFIX = ".steepest-"
_HOST = f"{zlib.crc32(platform.node().encode()):08x}"
_DAY = 86_400.0


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write to that becomes ``path`` at the end of the block; after an exception ``path`` is as it was.

    A symbolic link stays one: the file that it leads to is replaced. An existing file keeps its permissions and, where the
    system allows it, its owner.
    """
    target = Path(os.path.realpath(path))
    before = _status(target)
    remove_abandoned(target.parent)
    temporary, file = _opened(target)
    try:
        with file:
            if before is not None:
                _permit(file, temporary, before)
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()  # Windows gives no new name to a file that is open
            os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(target.parent)


def _status(target: Path) -> os.stat_result | None:
    """What is known of the file that will be replaced; raises for what is not a file, such as a folder or a device."""
    try:
        found = os.lstat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if not stat.S_ISREG(found.st_mode):
        code = errno.ELOOP if stat.S_ISLNK(found.st_mode) else errno.EINVAL
        raise OSError(code, os.strerror(code), str(target))
    return found


def _opened(target: Path) -> tuple[Path, IO[bytes]]:
    """A new temporary file, locked. Its name is short, since the target's may be as long as the file system allows."""
    while True:
        temporary = target.with_name(f"{_PREFIX}{_HOST}-{uuid.uuid4().hex}.tmp")
        try:
            file = open(temporary, "x+b")  # noqa: SIM115  # not by tempfile, whose files only their owner may read
        except OSError as error:
            error.filename = str(target)
            raise
        try:
            if _lock(file) and _is_named(file, temporary):
                return temporary, file
        except OSError:  # a file system without locks: nobody else gets one either, so nobody removes the file
            return temporary, file
        file.close()  # another process took it for abandoned, in the moment before it was locked


def _permit(file: IO[bytes], temporary: Path, before: os.stat_result) -> None:
    """Give the file the owner and the permissions of the one before, while it is still empty."""
    if hasattr(os, "fchown"):
        with suppress(OSError):  # only root may give files away; group and permissions are worth keeping alone
            os.fchown(file.fileno(), -1, before.st_gid)
            os.fchown(file.fileno(), before.st_uid, -1)
    mode = stat.S_IMODE(before.st_mode)
    if os.fstat(file.fileno()).st_gid != before.st_gid:
        mode = mode & ~0o070 | (mode & 0o007) << 3  # another group may do no more than everybody
    os.chmod(temporary, mode)


def _lock(file: IO[bytes]) -> bool:
    """Lock a file for as long as it is open; whether nobody else had. Raises OSError where there are no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_named(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.lstat(path))
    except FileNotFoundError:
        return False


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of processes that were killed: those that nobody holds a lock on.

    Not every file system shares its locks between hosts, so another host's file stays for a day.
    """
    if fcntl is None:
        return
    found: list[Path] = []
    with suppress(OSError):
        found = list(folder.glob(f"{_PREFIX}*.tmp"))
    for left in found:
        with suppress(OSError):
            foreign = not left.name.startswith(f"{_PREFIX}{_HOST}-")
            if (foreign and time.time() - left.lstat().st_mtime < _DAY) or not stat.S_ISREG(left.lstat().st_mode):
                continue
            with open(left, "r+b") as file:
                if _lock(file) and _is_named(file, left):
                    left.unlink()


def _sync_folder(folder: Path) -> None:
    """Force a folder's names to the disk. Not every file system can."""
    if hasattr(os, "O_DIRECTORY"):
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
