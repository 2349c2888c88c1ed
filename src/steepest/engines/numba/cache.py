"""Compiled code on disk, so that a second process starts warm, in a folder that nobody else can write to.

Whoever can write to the cache can run code, since compiled code is loaded from it. So `read` and `write` use the folder only
if it belongs to this user and nobody else can exchange it or what is in it. The folder follows the platform's convention;
``STEEPEST_CACHE_DIR`` overrides it. Names are hashes of all that code was compiled with, and each file starts with a
checksum: machine code with a flipped bit would end the process. A folder that can't be used costs only speed, with one warning.
"""

from __future__ import annotations

import errno
import hashlib
import linecache
import os
import stat
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import ModuleType

from steepest.files import whole

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["alone", "cache_folder", "module_of", "read", "write"]

_MOST_LINKS = 40
_PATIENCE = 60.0
"""Seconds to wait for another process that compiles."""


def module_of(name: str, text: str, salt: str) -> ModuleType:
    """The module that a text defines, under a name that is a hash of the text and of what it will be compiled with."""
    digest = hashlib.sha256("\0".join((text, salt, sys.version)).encode()).hexdigest()[:32]
    module = ModuleType(f"steepest_generated_{name}_{digest}")
    module.__file__ = f"<{module.__name__}>"
    # Numba finds globals of a function through its module's name, tracebacks find its lines through its file's.
    sys.modules[module.__name__] = module
    linecache.cache[module.__file__] = len(text), None, text.splitlines(keepends=True), module.__file__
    exec(compile(text, module.__file__, "exec"), module.__dict__)
    return module


def read(name: str) -> bytes | None:
    """The content of a file of the cache; None where there is none to be trusted, and for a damaged one."""
    try:
        with open(_trusted(cache_folder()) / name, "rb") as file:
            found = os.fstat(file.fileno())
            if _is_others(found) or not stat.S_ISREG(found.st_mode):
                return None
            checksum, content = file.read(hashlib.sha256().digest_size), file.read()
    except FileNotFoundError:
        return None
    except (OSError, _UnusableError) as error:
        _warn_once(error)
        return None
    return content if checksum == _checksum(name, content) else None


def write(name: str, content: bytes) -> None:
    """Keep content under a name, where the folder can be used."""
    try:
        path = _made() / name
        path.unlink(missing_ok=True)  # what `read` refused; `whole` would keep its owner and follow a link
        with whole(path) as file:
            if hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), 0o600)
            file.write(_checksum(name, content) + content)
    except (OSError, _UnusableError) as error:
        _warn_once(error)


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Let one process at a time compile the code of a name. The others wait for it, and then read its code from the cache.

    The processes of a distributed run compile the same code at the same time. No process waits for more than a minute, and none
    waits if the folder can't be used or the system has no `fcntl`.
    """
    with ExitStack() as held:
        with suppress(OSError, _UnusableError):  # which `write` warns of
            # One of few files, since no process may delete a file that another one waits for.
            file = held.enter_context(open(_made() / f"lock-{_checksum(name, b'')[0] % 16:x}", "ab"))
            deadline = time.monotonic() + _PATIENCE
            while not _locked(file.fileno()) and time.monotonic() < deadline:
                time.sleep(0.02)
        yield


def _locked(descriptor: int) -> bool:
    """Lock a file until it is closed, or return False if another process has locked it."""
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _made() -> Path:
    """The folder, without symbolic links, made if it is missing."""
    given = cache_folder()
    with suppress(FileNotFoundError):
        _trusted(given)  # or the part of it that is there, before anything is made
    for folder in (*reversed(given.parents), given):
        if not folder.exists():
            folder.mkdir(0o700, exist_ok=True)
    return _trusted(given)


def _checksum(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + content).digest()


# ---- the folder


class _UnusableError(Exception):
    """Why a folder isn't used, and what to do."""


def cache_folder() -> Path:
    """Where compiled code is kept. Relative folders of the system's variables are ignored, as the XDG specification says."""
    given = os.environ.get("STEEPEST_CACHE_DIR")
    if given:
        if not os.path.isabs(given):
            raise _UnusableError(
                f"{given} is a relative path, so each working directory has another. Set STEEPEST_CACHE_DIR to an absolute path."
            )
        return Path(given)
    if sys.platform == "win32":
        return _base("LOCALAPPDATA", "AppData", "Local") / "steepest" / "cache"
    if sys.platform == "darwin":
        return _base("", "Library", "Caches") / "steepest"
    return _base("XDG_CACHE_HOME", ".cache") / "steepest"


def _base(variable: str, *usual: str) -> Path:
    given = os.environ.get(variable, "")
    if os.path.isabs(given):
        return Path(given)
    home = os.path.expanduser("~")
    if not os.path.isabs(home):
        raise _UnusableError(f"{home} is not a home folder. Set STEEPEST_CACHE_DIR to an absolute path.")
    return Path(home, *usual)


def _trusted(folder: Path) -> Path:
    """The folder without symbolic links. Raises unless it is this user's and only this user and root can exchange it.

    After that its path can be used: nobody else can change what the path leads to.
    """
    if not hasattr(os, "geteuid"):  # Windows: each user's profile is private by default
        return folder
    place = folder
    for place, found in _way(folder):
        if found.st_uid not in (0, os.geteuid()):
            raise _UnusableError(_owned(place, found))
        if _open_to_others(found) and not stat.S_ISLNK(found.st_mode) and not found.st_mode & stat.S_ISVTX:
            raise _UnusableError(_writable(place, found))
    found = place.lstat()
    if found.st_uid != os.geteuid():
        raise _UnusableError(_owned(place, found))
    if found.st_mode & 0o022:
        raise _UnusableError(_writable(place, found))
    return place


def _way(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Each folder and each symbolic link that the system passes on its way to a folder, from the root on."""
    place, names, links = Path(folder.anchor), [*reversed(folder.parts[1:])], 0
    yield place, place.lstat()
    while names:
        step = place / names.pop()
        if step.name == "..":
            place = place.parent
            continue
        found = step.lstat()
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(folder))
            target = Path(os.readlink(step))
            names += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            place = Path(target.anchor) if target.is_absolute() else place
        else:
            place = step
        yield step, found
    if place != step and not stat.S_ISDIR(place.lstat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))


def _open_to_others(found: os.stat_result) -> bool:
    """Whether others can write to a folder above. A group with the number of the user is taken for the user's own."""
    return bool(found.st_mode & 0o002 or (found.st_mode & 0o020 and found.st_gid != os.geteuid()))


def _is_others(found: os.stat_result) -> bool:
    return hasattr(os, "geteuid") and (found.st_uid != os.geteuid() or bool(found.st_mode & 0o022))


def _owned(place: Path, found: os.stat_result) -> str:
    return f"{place} belongs to user {found.st_uid}, who could put code there. Set STEEPEST_CACHE_DIR to a folder of your own."


def _writable(place: Path, found: os.stat_result) -> str:
    return (
        f"other users can write to {place} (mode {stat.S_IMODE(found.st_mode):o}) and could put code there. "
        f"Run `chmod go-w {place}`, or set STEEPEST_CACHE_DIR to another folder of your own."
    )


_warned: set[str] = set()


def _warn_once(error: OSError | _UnusableError) -> None:
    """Warn once per process that every start compiles again."""
    if "cache" in _warned:
        return
    _warned.add("cache")
    if isinstance(error, OSError):
        why = (
            f"{error.filename or cache_folder()} can't be written ({error.strerror or error}). "
            f"Set STEEPEST_CACHE_DIR to a folder that can be written."
        )
    else:
        why = str(error)
    warnings.warn(
        f"steepest: the cache folder isn't used, and steps are compiled again in every process: {why}",
        RuntimeWarning,
        stacklevel=2,
    )
