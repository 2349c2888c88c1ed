"""Files written whole or not at all: permissions, links, long names, processes that are killed, processes side by side."""

from __future__ import annotations

import os
import random
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from steepest import files
from steepest.files import remove_abandoned, whole

POSIX = pytest.mark.skipif(os.name == "nt", reason="permissions, links and locks are those of POSIX")


def write(path: Path, content: bytes) -> None:
    with whole(path) as file:
        file.write(content)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_exception_in_the_block_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    write(tmp_path / "a", b"old")
    with pytest.raises(ZeroDivisionError), whole(tmp_path / "a") as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert (tmp_path / "a").read_bytes() == b"old" and names(tmp_path) == ["a"]


@POSIX
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_an_existing_file_keeps_its_permissions_and_never_shows_more_while_it_is_written(
    mode: int, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    write(path, b"old")
    path.chmod(mode)
    with whole(path) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == mode
        file.write(b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode and path.read_bytes() == b"new"


@POSIX
def test_a_new_file_has_the_permissions_that_any_new_file_has(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write(tmp_path / "a", b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give files away")
def test_a_file_that_root_replaces_keeps_its_owner_and_group(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, b"old")
    os.chown(path, 1234, 4321)
    path.chmod(0o660)
    write(path, b"new")
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 4321, 0o660)


@POSIX
def test_a_group_that_cannot_be_kept_leaves_no_permissions_to_another_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    write(path, b"old")
    path.chmod(0o660)
    before = path.stat()

    def refuses(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "fchown", refuses)
    monkeypatch.setattr(
        files,
        "_status",
        lambda _: os.stat_result((before.st_mode, 0, 0, 1, before.st_uid, before.st_gid + 1, *[0] * 4)),
    )
    write(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@POSIX
@pytest.mark.parametrize("target", ["real", "../elsewhere/real", "missing"])
def test_a_symbolic_link_stays_one_and_what_it_leads_to_is_written(target: str, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "here" / "link"
    link.symlink_to(target)
    place = (tmp_path / "here" / target).resolve()
    if target != "missing":
        place.write_bytes(b"old")
        place.chmod(0o600)
    write(link, b"new")
    assert link.is_symlink() and os.readlink(link) == target and place.read_bytes() == b"new"
    assert target == "missing" or stat.S_IMODE(place.stat().st_mode) == 0o600
    assert names(tmp_path / "here") == sorted({"link", *({place.name} if place.parent == link.parent else ())})


@POSIX
def test_what_is_not_a_file_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "loop", "pipe"):
        with pytest.raises(OSError, match=name), whole(tmp_path / name):
            pytest.fail("the block runs")
    with pytest.raises(FileNotFoundError, match="none/a"), whole(tmp_path / "none" / "a"):
        pytest.fail("the block runs")
    assert names(tmp_path) == ["folder", "loop", "pipe"]


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    for name in ("n" * 255, "ü" * 127):
        write(tmp_path / name, b"content")
        assert (tmp_path / name).read_bytes() == b"content"


def test_content_is_on_the_disk_before_the_file_has_its_name_and_then_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else f"{os.fstat(handle).st_size} bytes")
        fsync(handle)

    def replaced(old: Path, new: Path) -> None:
        done.append("name")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write(tmp_path / "a", b"12345")
    assert done == ["5 bytes", "name", "folder"][: 3 if hasattr(os, "O_DIRECTORY") else 2]


# ---- killed


SAVER = """if True:
    import sys
    from steepest.files import whole
    number = 0
    while True:
        number += 1
        with whole(sys.argv[1]) as file:
            print(number, flush=True)
            for _ in range(40):
                file.write(bytes([number % 251]) * 50_000)
"""


@POSIX
def test_a_killed_process_leaves_a_whole_file_and_the_next_one_removes_its_temporary_file(tmp_path: Path) -> None:
    path, wait, left = tmp_path / "a", random.Random(0), 0
    for _ in range(8):
        with subprocess.Popen([sys.executable, "-c", SAVER, str(path)], stdout=subprocess.PIPE) as saver:
            assert saver.stdout is not None
            for _ in range(3):
                saver.stdout.readline()
            time.sleep(wait.random() * 0.02)
            saver.kill()
        content = path.read_bytes()
        assert len(content) == 2_000_000 and len(set(content)) == 1
        assert len(names(tmp_path)) <= 2
        left += len(names(tmp_path)) - 1
    assert left  # some were killed while they wrote
    write(path, b"last")
    assert names(tmp_path) == ["a"]


WAITER = """if True:
    import sys
    from steepest.files import whole
    with whole(sys.argv[1]) as file:
        file.write(b"waited")
        print("writing", flush=True)
        sys.stdin.read()
"""


@POSIX
def test_the_temporary_file_of_a_living_process_is_never_removed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITER, str(tmp_path / "a")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as waiting:
        assert waiting.stdin is not None and waiting.stdout is not None
        waiting.stdout.readline()
        (held,) = names(tmp_path)
        with whole(tmp_path / "b") as file:  # this process's own stays, too
            file.write(b"content")
            write(tmp_path / "c", b"content")
            assert held in names(tmp_path)
        waiting.stdin.close()
    assert waiting.returncode == 0 and names(tmp_path) == ["a", "b", "c"]
    assert (tmp_path / "a").read_bytes() == b"waited" and (tmp_path / "b").read_bytes() == b"content"


@POSIX
def test_processes_that_save_one_file_at_once_all_succeed(tmp_path: Path) -> None:
    saver = SAVER.replace("while True", "for _ in range(30)")
    running = [
        subprocess.Popen([sys.executable, "-c", saver, str(tmp_path / "a")], stdout=subprocess.DEVNULL)
        for _ in range(3)
    ]
    assert [one.wait() for one in running] == [0, 0, 0]
    assert names(tmp_path) == ["a"] and len(set((tmp_path / "a").read_bytes())) == 1


@POSIX
def test_another_hosts_temporary_file_stays_for_a_day_and_other_names_stay(tmp_path: Path) -> None:
    others = tmp_path / ".steepest-00000000-1.tmp"
    for path in (others, tmp_path / "mine.tmp", tmp_path / ".steepest-notes"):
        path.touch()
    remove_abandoned(tmp_path)
    assert len(names(tmp_path)) == 3
    os.utime(others, (time.time() - 90_000,) * 2)
    remove_abandoned(tmp_path)
    assert names(tmp_path) == [".steepest-notes", "mine.tmp"]
