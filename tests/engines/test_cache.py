"""The cache of compiled code: whose folder is used, what is loaded from it, and what happens to damaged files."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steepest.numpy as opt
from steepest.engines.numba import cache, kernels

POSIX = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="owners and permissions are those of POSIX")
ROOT = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
NOBODY = 65534

STEP = """if True:
    import warnings
    import numpy as np, steepest.numpy as opt
    from steepest.engines.numba import kernels
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        w = np.ones(4)
        optimizer = opt.SGD([w], lr=0.25, engine="cpu")
        for _ in range(3):
            optimizer.step([np.ones(4)])
    assert w.tolist() == [0.25] * 4
    (kernel,) = kernels._COMPILED.values()
    print(sum(kernel.function.stats.cache_hits.values()), *[str(c.message) for c in caught], sep="|")
"""


def stepped(folder: Path | str | None = None, **environment: str) -> tuple[int, str]:
    """In a new process: how many functions were loaded from the cache, and what was warned of."""
    given = {k: v for k, v in os.environ.items() if k not in ("STEEPEST_CACHE_DIR", "XDG_CACHE_HOME")}
    if folder is not None:
        given["STEEPEST_CACHE_DIR"] = str(folder)
    done = subprocess.run(
        [sys.executable, "-c", STEP], env={**given, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    hits, _, said = done.stdout.strip().partition("|")
    return int(hits), said


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private folder, which is the cache of this process."""
    made = tmp_path / "cache"
    made.mkdir(0o700)
    monkeypatch.setenv("STEEPEST_CACHE_DIR", str(made))
    monkeypatch.setattr(cache, "_warned", set())
    return made


# ---- where it is


@pytest.mark.parametrize("given", ["", "cache", "./cache", ".."])
@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the variable is one of other systems")
def test_a_relative_or_empty_variable_of_the_system_is_ignored(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STEEPEST_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / ".cache" / "steepest"
    monkeypatch.setenv("STEEPEST_CACHE_DIR", "")
    assert cache.cache_folder() == tmp_path / ".cache" / "steepest"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert cache.cache_folder() == tmp_path / "other" / "steepest"


@POSIX
def test_nothing_is_read_or_written_in_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hits, said = stepped("cache")
    assert hits == 0 and not list(tmp_path.iterdir())
    assert said == (
        "steepest: the cache folder isn't used, and steps are compiled again in every process: cache is a relative path, so "
        "each working directory has another. Set STEEPEST_CACHE_DIR to an absolute path."
    )


@POSIX
def test_without_a_home_folder_steps_are_compiled_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert stepped(HOME="here")[1].endswith("here is not a home folder. Set STEEPEST_CACHE_DIR to an absolute path.")
    assert not list(tmp_path.iterdir())


@POSIX
def test_the_folder_and_those_above_are_made_for_their_owner_only_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        os.environ["STEEPEST_CACHE_DIR"] = str(folder / "a" / "b")
        cache.write("code", b"content")
    finally:
        os.umask(before)
    for path, mode in ((folder / "a", 0o700), (folder / "a" / "b", 0o700), (folder / "a" / "b" / "code", 0o600)):
        assert path.stat().st_mode & 0o7777 == mode
    assert cache.read("code") == b"content"


def test_variables_of_numba_do_not_lead_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "numba").mkdir()
    assert stepped(tmp_path / "own", NUMBA_CACHE_DIR=str(tmp_path / "numba")) == (0, "")
    assert not list((tmp_path / "numba").iterdir())
    assert stepped(tmp_path / "own", NUMBA_CACHE_DIR=str(tmp_path / "numba")) == (1, "")


# ---- whose it is


def unusable(folder: Path, message: str) -> None:
    """Neither reads nor writes, and says why once."""
    before = sorted(folder.iterdir())
    with pytest.warns(RuntimeWarning, match="steepest: the cache folder isn't used") as caught:
        assert cache.read("code") is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.write("other", b"content")
        assert cache.read("code") is None
    assert message in str(caught[0].message) and sorted(folder.iterdir()) == before


@POSIX
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o720, 0o702, 0o770])
def test_a_folder_that_others_can_write_to_is_not_used(mode: int, folder: Path) -> None:
    cache.write("code", b"content")
    folder.chmod(mode)
    unusable(
        folder,
        f"other users can write to {folder} (mode {mode:o}) and could put code there. Run `chmod go-w {folder}`, or set "
        f"STEEPEST_CACHE_DIR to another folder of your own.",
    )
    folder.chmod(0o755)
    assert cache.read("code") == b"content"


@ROOT
def test_a_folder_or_file_of_another_user_is_not_used(folder: Path) -> None:
    cache.write("code", b"content")
    os.chown(folder / "code", NOBODY, NOBODY)
    assert cache.read("code") is None
    os.chown(folder / "code", 0, 0)
    (folder / "code").chmod(0o666)
    assert cache.read("code") is None
    (folder / "code").chmod(0o600)
    assert cache.read("code") == b"content"
    os.chown(folder, NOBODY, NOBODY)
    unusable(
        folder,
        f"{folder} belongs to user {NOBODY}, who could put code there. Set STEEPEST_CACHE_DIR to a folder of your",
    )


@POSIX
def test_the_folder_of_another_user_is_not_used_by_whoever_may_read_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write("code", b"content")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    unusable(folder, f"belongs to user {os.getuid()}" if os.getuid() else f"{folder} belongs to user 0, who could")


@POSIX
def test_what_lies_under_a_folder_that_others_can_exchange_is_not_used(folder: Path) -> None:
    above = folder / "above"
    (above / "cache").mkdir(0o700, parents=True)
    above.chmod(0o777)
    os.environ["STEEPEST_CACHE_DIR"] = str(above / "cache")
    unusable(above / "cache", f"other users can write to {above} (mode 777)")
    os.environ["STEEPEST_CACHE_DIR"] = str(above / "new" / "cache")
    cache.write("code", b"content")
    assert not (above / "new").exists()
    os.environ["STEEPEST_CACHE_DIR"] = str(above / "cache")
    above.chmod(0o1777)  # as /tmp: only owners can exchange what is theirs
    cache.write("code", b"content")
    assert cache.read("code") == b"content"


@POSIX
def test_links_lead_to_the_folder_that_is_looked_at(folder: Path) -> None:
    for name in ("own", "open"):
        (folder / name / "cache").mkdir(0o700, parents=True)
    (folder / "open").chmod(0o777)
    (folder / "link").symlink_to("own/../own/cache")
    (folder / "first").symlink_to(folder / "link")
    os.environ["STEEPEST_CACHE_DIR"] = str(folder / "first")
    cache.write("code", b"content")
    assert (folder / "own" / "cache" / "code").exists() and cache.read("code") == b"content"
    (folder / "link").unlink()
    (folder / "link").symlink_to("open/cache")
    unusable(folder / "open" / "cache", f"other users can write to {folder / 'open'} (mode 777)")


@ROOT
def test_a_link_of_another_user_is_not_followed(folder: Path) -> None:
    (folder / "own").mkdir(0o700)
    (folder / "link").symlink_to("own")
    os.chown(folder / "link", NOBODY, NOBODY, follow_symlinks=False)
    os.environ["STEEPEST_CACHE_DIR"] = str(folder / "link")
    unusable(folder / "own", f"{folder / 'link'} belongs to user {NOBODY}")


def evil(proof: Path) -> Callable[[str], bytes]:
    """What an attacker who knows how files are made would write: valid checksum, a pickle that runs a command."""

    class Attack:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(proof),)

    attack = pickle.dumps(Attack())
    return lambda name: hashlib.sha256(name.encode() + attack).digest() + attack


@ROOT
def test_code_that_another_user_has_put_into_the_folder_is_not_run(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    assert stepped(tmp_path / "cache") == (0, "")
    forged = evil(proof)
    for path in (tmp_path / "cache").glob("*.nbc"):
        path.write_bytes(forged(path.name))
        os.chown(path, NOBODY, NOBODY)
    os.chown(tmp_path / "cache", NOBODY, NOBODY)
    hits, said = stepped(tmp_path / "cache")
    assert hits == 0 and f"belongs to user {NOBODY}" in said and not proof.exists()
    os.chown(tmp_path / "cache", 0, 0)  # whose folder it is now does not say who has put the files there
    assert stepped(tmp_path / "cache") == (0, "") and not proof.exists()
    assert stepped(tmp_path / "cache") == (1, "")


# ---- damage


def test_damaged_code_is_compiled_again_and_written_anew(tmp_path: Path) -> None:
    assert stepped(tmp_path) == (0, "")
    whole = {path: path.read_bytes() for path in tmp_path.glob("*.nbc")}
    for damage in (
        lambda content: b"broken",
        lambda content: content[:-1],
        lambda content: content[:5000] + bytes([content[5000] ^ 4]) + content[5001:],
    ):
        for path, content in whole.items():
            path.write_bytes(damage(content))
        assert stepped(tmp_path) == (0, "")
        assert {*tmp_path.glob("*.nbc")} == {*whole}
    assert stepped(tmp_path) == (1, "")


def test_every_damage_is_seen_before_anything_is_loaded(folder: Path) -> None:
    content = random.Random(0).randbytes(200)
    cache.write("code", content)
    path = folder / "code"
    held = path.read_bytes()
    damaged = [held[:n] for n in range(len(held))]
    damaged += [held[:i] + bytes([held[i] ^ 1 << bit]) + held[i + 1 :] for i in range(len(held)) for bit in range(8)]
    for one in damaged:
        path.write_bytes(one)
        assert cache.read("code") is None
    path.rename(folder / "other")
    (folder / "other").write_bytes(held)  # the code of another function
    assert cache.read("other") is None


@pytest.mark.parametrize(
    "content", [b"", b"no pickle", pickle.dumps(5), pickle.dumps((1, 2)), pickle.dumps([None] * 9)]
)
def test_a_whole_file_with_other_content_is_compiled_again(
    content: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step() -> int:
        monkeypatch.setattr(kernels, "_COMPILED", {})
        w = np.ones(3)
        opt.SGD([w], lr=0.5, weight_decay=0.125, engine="cpu").step([np.ones(3)])
        assert w.tolist() == [0.4375] * 3
        (kernel,) = kernels._COMPILED.values()
        return sum(kernel.function.stats.cache_hits.values())

    step()
    assert step() == 1
    names = [path.name for path in folder.glob("*.nbc")]
    for name in names:
        cache.write(name, content)
    assert step() == 0
    assert step() == 1


def test_the_c_function_of_a_kernel_is_that_of_the_cached_code(tmp_path: Path) -> None:
    script = """if True:
        import ctypes, sys
        from steepest.engines.numba.kernels import Kernel
        text = '''
from numba import njit, carray
from steepest.engines.numba.pointers import address_int64
@njit(nogil=True)
def run(place):
    carray(address_int64(place), (1,))[0] += 2
'''
        kernel, held = Kernel(text), ctypes.c_int64(40)
        ctypes.CFUNCTYPE(None, ctypes.c_int64)(kernel.address)(ctypes.addressof(held))
        assert held.value == 42
        kernel(ctypes.addressof(held))
        assert held.value == 44
        print(sum(kernel.function.stats.cache_hits.values()))
    """
    environment = {**os.environ, "STEEPEST_CACHE_DIR": str(tmp_path)}
    hits = [subprocess.check_output([sys.executable, "-c", script], env=environment, text=True) for _ in range(2)]
    assert hits == ["0\n", "1\n"]
