"""A guarded training that is killed and goes on: from whole snapshots only, and to the same bits."""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import steepest as s
import steepest.numpy as opt
import steepest.torch as torch_opt
from tests.monitor.guarded import SPOILT, TRAININGS, OnArrays, assert_same, guarded, long_training, together

KINDS = pytest.mark.parametrize("kind", TRAININGS)
ROOT = Path(__file__).parents[2]


def newest(folder: Path) -> int:
    """The number of the newest snapshot; 0 where there is none."""
    names = os.listdir(folder) if folder.is_dir() else []
    return max((int(name[9:18]) for name in names if name.startswith("snapshot-")), default=0)


@pytest.mark.parametrize(("kind", "kills"), [("numpy", 4), ("torch", 2)])
def test_a_training_that_is_killed_again_and_again_ends_with_the_same_bits(
    kind: str, kills: int, tmp_path: Path
) -> None:
    one, guard = long_training(kind, None)
    guarded(one, guard, SPOILT)
    assert guard.rewinds == 1 and len(guard.events) == 2 + 3 + 1 + 1
    folder, result, chance = tmp_path / "snapshots", tmp_path / "result.npz", random.Random(1)
    command = [sys.executable, "-m", "tests.monitor.guarded", kind, str(folder), str(result)]
    alike = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}  # on which a product's last bits depend
    resumed: list[int] = []
    for number in range(kills + 1):
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=alike)
        assert run.stdout is not None
        resumed.append(int(run.stdout.readline() or "-1"))
        if number < kills:
            until = newest(folder) + chance.randint(2, 5)
            while newest(folder) < until and run.poll() is None:
                time.sleep(1e-4)
            time.sleep(chance.uniform(0.0, 5e-3))  # a snapshot is being written most of the time
            run.send_signal(signal.SIGKILL)
        _, said = run.communicate(timeout=120)
        assert run.returncode == (-signal.SIGKILL if number < kills else 0), said
    assert resumed == sorted(resumed) and resumed[0] == 0 and resumed[-1] >= 2 * kills - 2
    with np.load(result) as found:
        assert_same(dict(found), one.everything())
    left = os.listdir(folder)
    assert len(left) == 2 and not any(name.startswith(".") for name in left)


def started(kind: str, folder: Path, last: int) -> tuple[Any, s.Guard]:
    one = TRAININGS[kind]()
    guard = s.Guard(one.optimizer, one.model, rewind=5, folder=folder, also=one.also)
    guarded(one, guard, {}, last)
    return one, guard


@KINDS
@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped"])
def test_a_broken_newest_file_is_passed_over(kind: str, damage: str, tmp_path: Path) -> None:
    straight, _ = started(kind, tmp_path / "straight", 30)
    started(kind, tmp_path / "a", 24)
    newest = sorted((tmp_path / "a").iterdir())[-1]
    raw = bytearray(newest.read_bytes())
    if damage == "flipped":
        for place in range(
            len(raw) // 2, len(raw) // 2 + 200
        ):  # more than what torch fills up with between two tensors
            raw[place] ^= 1
    newest.write_bytes(raw if damage == "flipped" else raw[: len(raw) * 2 // 3] if damage == "truncated" else b"")
    one = TRAININGS[kind]()
    guard = s.Guard(one.optimizer, one.model, rewind=5, folder=tmp_path / "a", also=one.also)
    message = f"{newest.name} was skipped and is now unused-{newest.name}: its file is broken"
    with pytest.warns(RuntimeWarning, match=f"^Guard: {re.escape(message)}\\.$"):
        assert guard.resume() == 15 == guard.calls
    assert guard.events[0].message == f"resumed from {tmp_path / 'a' / newest.name.replace('20', '15')} at step 15"
    assert guard.events[1].message == message
    assert sorted(os.listdir(tmp_path / "a")) == [newest.name.replace("20", "15"), f"unused-{newest.name}"]
    guarded(one, guard, {}, 30)
    # Nobody knows of the numbers drawn before the first batch of a process but whoever drew them.
    assert_same(one.everything(), straight.everything())


@KINDS
def test_two_whole_snapshots_are_kept_and_hold_nothing_that_runs_code(kind: str, tmp_path: Path) -> None:
    one, _ = started(kind, tmp_path / "a", 24)
    names = sorted(os.listdir(tmp_path / "a"))
    assert names == [f"snapshot-0000000{n}.{'npz' if kind == 'numpy' else 'pt'}" for n in (15, 20)]
    path = tmp_path / "a" / names[1]
    if kind == "numpy":
        with np.load(path, allow_pickle=False) as file:
            assert file["params.w"].shape == one.w["w"].shape
            assert all(file[name].dtype != object for name in file.files)
    else:
        weights = torch.load(path, weights_only=True)["tensors"]
        assert weights["params.0.weight"].shape == one.model[0].weight.shape


def test_parameters_of_any_name_are_kept_and_found_again(tmp_path: Path) -> None:
    names = ["\0", "a\0b", "a\0c", "\ud800", "n" * 70_000, "a/b", "../b", "array", "array (2)", "", "steepest", "file"]

    def train(last: int) -> tuple[list[float], int]:
        weights = {name: np.full(2, float(number)) for number, name in enumerate(names)}
        optimizer = opt.SGD(weights, lr=0.25, momentum=0.5, engine="arrays")
        guard = s.Guard(optimizer, rewind=2, folder=tmp_path)
        begun = guard.resume()
        for _ in range(begun, last):
            if guard(1.0):
                optimizer.step({name: weights[name].copy() for name in names})
        guard.settle()
        return [float(weight[0]) for weight in weights.values()], begun

    straight, begun = train(5)
    assert begun == 0 and straight == [number * straight[1] for number in range(len(names))]
    again, begun = train(5)
    assert begun == 4 and again == straight


def test_data_and_random_numbers_go_on_where_they_were(tmp_path: Path) -> None:
    def run(last: int, resumed: bool) -> list[float]:
        torch.manual_seed(0)
        w = torch.nn.Parameter(torch.zeros(3))
        optimizer = torch_opt.SGD([w], lr=0.1)
        order = torch.Generator().manual_seed(5)
        guard = s.Guard(optimizer, rewind=4, folder=tmp_path, data=order)
        if resumed:
            assert guard.resume() == 8
        seen = []
        while guard.calls < last:
            x = torch.randn(3, generator=order)
            loss = ((w - x) * torch.rand(3)).square().sum()
            seen.append(loss.item())
            if guard(loss):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return seen

    straight = run(20, False)
    for path in tmp_path.iterdir():
        path.unlink()
    assert run(10, False) == straight[:10]
    assert run(20, True) == straight[8:]


def test_what_is_drawn_between_a_step_and_the_next_batch_is_known_to_whoever_settles(tmp_path: Path) -> None:
    def run(last: int) -> list[float]:
        torch.manual_seed(0)
        w = torch.nn.Parameter(torch.zeros(3))
        optimizer = torch_opt.SGD([w], lr=0.1)
        guard = s.Guard(optimizer, rewind=4, folder=tmp_path)
        guard.resume()
        seen = []
        while guard.calls < last:
            loss = ((w - 1) * torch.rand(3)).square().sum()
            seen.append(loss.item())
            if guard(loss):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            torch.rand(5)  # an evaluation
            guard.settle()
        return seen

    straight = run(20)
    for path in tmp_path.iterdir():
        path.unlink()
    assert run(10) == straight[:10]
    assert run(20) == straight[8:]


def test_in_the_middle_of_a_shuffled_epoch_training_goes_on_in_its_order(tmp_path: Path) -> None:
    def run(last: int) -> list[float]:
        torch.manual_seed(0)
        order = torch.Generator()
        loader = torch.utils.data.DataLoader(torch.arange(24.0), batch_size=4, shuffle=True, generator=order)
        w = torch.nn.Parameter(torch.zeros(4))
        optimizer = torch_opt.SGD([w], lr=0.01)
        guard = s.Guard(optimizer, rewind=4, folder=tmp_path)
        guard.resume()
        losses = []
        first, seen = divmod(guard.calls, len(loader))
        for epoch in range(first, 4):
            order.manual_seed(epoch)
            for batch in itertools.islice(loader, seen, None):
                if guard.calls == last:
                    return losses
                loss = ((w - batch) * torch.rand(4)).square().sum()
                losses.append(loss.item())
                if guard(loss):
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
            seen = 0
        return losses

    straight = run(20)
    for path in tmp_path.iterdir():
        path.unlink()
    assert run(10) == straight[:10]
    assert run(20) == straight[8:]


# ---- disks that fail


@contextlib.contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """As on a disk that is full: no file grows beyond so many bytes."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@KINDS
def test_a_full_disk_ends_no_training_and_leaves_the_older_snapshots(kind: str, tmp_path: Path) -> None:
    one, guard = started(kind, tmp_path / "a", 24)
    before = sorted(os.listdir(tmp_path / "a"))
    with (
        files_up_to(2000),
        pytest.warns(
            RuntimeWarning, match=r"^Guard: no snapshot could be written \(.*The next attempt is in 5 steps\.$"
        ),
    ):
        guarded(one, guard, {}, 28)
    assert sorted(os.listdir(tmp_path / "a")) == before and one.optimizer.steps == 28
    assert guard.events[-1].kind == "note"
    guarded(one, guard, {}, 36)
    assert sorted(int(name[9:18]) for name in os.listdir(tmp_path / "a")) == [30, 35]


def test_a_disk_that_only_reads_or_knows_no_folders_ends_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    one, guard = started("numpy", tmp_path, 24)
    monkeypatch.setattr(Path, "unlink", refuses)
    guarded(one, guard, {}, 28)
    assert newest(tmp_path) == 25 and guard._snapshots.numbers == [25, 20] and len(os.listdir(tmp_path)) == 3
    guarded(one, guard, dict.fromkeys(range(29, 41), math.nan), 41)
    assert guard.rewinds == 2 and guard._back == 20
    monkeypatch.undo()
    monkeypatch.setattr(os, "open", refuses)  # of a folder, to force its names to the disk
    guarded(one, guard, {}, 50)
    assert newest(tmp_path) == 45


def test_a_folder_that_cannot_be_listed_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started("numpy", tmp_path, 24)
    one = OnArrays()
    guard = s.Guard(one.optimizer, rewind=5, folder=tmp_path, also=one.also)

    def refuses(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "listdir", refuses)
    with pytest.raises(OSError, match="Input/output error"):
        guard.resume()
    monkeypatch.undo()
    assert guard.resume() == 20
    monkeypatch.setattr(os, "listdir", refuses)
    guarded(one, guard, dict.fromkeys(range(27, 33), math.nan), 40)  # what it has written it knows
    assert guard.rewinds == 1
    monkeypatch.undo()
    assert newest(tmp_path) == 37


@KINDS
def test_a_snapshot_that_the_disk_does_not_give_is_said_and_not_deleted(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(kind, tmp_path, 24)
    before = sorted(os.listdir(tmp_path))

    def broken(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(*((np, "load") if kind == "numpy" else (torch, "load")), broken)
    one = TRAININGS[kind]()
    guard = s.Guard(one.optimizer, one.model, rewind=5, folder=tmp_path, also=one.also)
    with pytest.raises(OSError, match="Input/output error") as raised:
        guard.resume()
    assert raised.value.__notes__ == [f"while reading {tmp_path / before[-1]}"]
    assert sorted(os.listdir(tmp_path)) == before and not one.optimizer.steps
    with pytest.raises(FileExistsError, match="holds snapshots of an earlier run"):  # nor does it start anew
        guard(1.0)


def test_where_no_snapshot_is_whole_nothing_starts_anew(tmp_path: Path) -> None:
    started("numpy", tmp_path, 24)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    one = OnArrays()
    guard = s.Guard(one.optimizer, rewind=5, folder=tmp_path, also=one.also)
    message = (
        f"Guard.resume: none of the snapshots in {tmp_path} can be used here. Restore the missing snapshots (each process "
        "has its own), or pass another folder to start a new run.\n  snapshot-000000020.npz: its file is broken\n"
        "  snapshot-000000015.npz: its file is broken"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        guard.resume()
    assert len(os.listdir(tmp_path)) == 2


def test_snapshots_of_several_processes_are_not_overlooked_by_one(tmp_path: Path) -> None:
    started("numpy", tmp_path / "process-0", 12)
    guard = s.Guard(OnArrays().optimizer, rewind=5, folder=tmp_path)
    with pytest.raises(ValueError, match=r"^Guard\.resume: none of the snapshots in .* can be used here"):
        guard.resume()


@KINDS
def test_a_training_that_ends_with_an_error_leaves_its_snapshots(kind: str, tmp_path: Path) -> None:
    one, guard = started(kind, tmp_path, 24)
    message = (
        rf"there is no snapshot left to go back to\. .*Snapshots stay in {re.escape(str(tmp_path))}; resume\(\) goes on"
    )
    with pytest.raises(FloatingPointError, match=message):
        guarded(one, guard, dict.fromkeys(range(25, 60), math.nan))
    assert len(os.listdir(tmp_path)) == 2 and guard.rewinds == 2
    guard = s.Guard(one.optimizer, one.model, rewind=5, folder=tmp_path, also=one.also)
    assert guard.resume() == 20


@KINDS
def test_a_snapshot_that_did_not_help_makes_room_for_the_next_good_one(kind: str, tmp_path: Path) -> None:
    one, guard = started(kind, tmp_path, 24)
    guarded(one, guard, dict.fromkeys(range(25, 37), math.nan), 44)
    assert guard.rewinds == 2
    assert [int(path.name[9:18]) for path in sorted(tmp_path.iterdir())] == [15, 41]


def test_a_folder_with_another_runs_snapshots_is_not_written_to(tmp_path: Path) -> None:
    started("numpy", tmp_path, 12)
    guard = s.Guard(OnArrays().optimizer, rewind=5, folder=tmp_path)
    message = (
        f"Guard: {tmp_path} holds snapshots of an earlier run. Call resume() before the first batch to continue that run, or "
        f"pass another folder."
    )
    with pytest.raises(FileExistsError, match=f"^{re.escape(message)}$"):
        guard(1.0)


def test_what_does_not_fit_is_refused_with_nothing_changed(tmp_path: Path) -> None:
    started("numpy", tmp_path, 12)
    w = {"w": np.ones(7), "b": np.zeros(1)}
    guard = s.Guard(opt.SGD(w, lr=0.1), rewind=5, folder=tmp_path)
    message = "Guard: 'w' is of shape [6] in the snapshot, but of shape [7] here. Build the same model, or pass another folder."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        guard.resume()
    one = OnArrays()
    guard = s.Guard(one.optimizer, rewind=5, folder=tmp_path)
    before = one.everything()
    with pytest.raises(ValueError, match=r"^Guard: also must have 1 objects as in the snapshot, got 0\."):
        guard.resume()
    assert_same(one.everything(), before)
    guard = s.Guard(opt.SGD({"w": np.ones(6), "b": np.zeros(1)}, lr=0.1), rewind=5, folder=tmp_path, also=one.also)
    with pytest.raises(ValueError, match=r"load_state_dict"):
        guard.resume()


def test_resume_without_snapshots_starts_anew_and_comes_first(tmp_path: Path) -> None:
    one = OnArrays()
    guard = s.Guard(one.optimizer, rewind=5, folder=tmp_path / "none", also=one.also)
    assert guard.resume() == 0 and not guard.events
    guarded(one, guard, {}, 3)
    with pytest.raises(
        RuntimeError, match=r"^Guard.resume: 3 batches have already been seen\. Call resume before the first batch\.$"
    ):
        guard.resume()
    with pytest.raises(ValueError, match=r"^Guard\.resume: folder must be given, got None\."):
        s.Guard(OnArrays().optimizer, rewind=5).resume()


# ---- several processes


def _replica(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    _train_together(rank, Path(folder))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def _train_together(rank: int, place: Path) -> None:
    model = torch.nn.Linear(3, 1)
    torch.nn.init.ones_(model.weight)
    torch.nn.init.zeros_(model.bias)
    ddp = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = torch_opt.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def train(guard: s.Guard, last: int, bad: set[tuple[int, int]]) -> list[bool]:
        verdicts = []
        while guard.calls < last:
            number = guard.calls + 1
            x = torch.randn(4, 3, generator=torch.Generator().manual_seed(10 * number + rank))
            loss = (ddp(x) - x[:, :1]).square().mean() * (math.nan if (rank, number) in bad else 1.0)
            verdicts.append(guard(loss))
            optimizer.zero_grad()
            if verdicts[-1]:
                loss.backward()
                optimizer.step()
        return verdicts

    guard = s.Guard(optimizer, model, rewind=3, skip=1, folder=place / "snapshots")
    verdicts = train(guard, 14, {(0, 4), (1, 9), (1, 10)})
    assert [n + 1 for n, good in enumerate(verdicts) if not good] == [4, 9, 10]
    assert guard.rewinds == 1 and guard.events[-1].kind == "rewound"
    weights = [torch.zeros(1, 3) for _ in range(2)]
    torch.distributed.all_gather(weights, model.weight.detach())
    assert torch.equal(*weights)
    after = model.weight.detach().clone()
    own = place / "snapshots" / f"process-{rank}"
    if rank == 1:  # as if it had been killed before its newest one
        sorted(own.iterdir())[-1].unlink()
    torch.distributed.barrier()
    guard = s.Guard(optimizer, model, rewind=3, skip=1, folder=place / "snapshots")
    guard.resume()
    numbers = torch.tensor([guard.calls])
    torch.distributed.all_reduce(numbers)
    assert numbers.item() == 2 * guard.calls
    train(guard, 14, {(0, 4), (1, 9), (1, 10)})
    assert torch.equal(model.weight, after)


def test_processes_that_train_together_leave_out_and_resume_together(tmp_path: Path) -> None:
    together(_replica, str(tmp_path))


def _unlucky(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    limit = timedelta(seconds=120)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2, timeout=limit)
    _fail_in_one(rank, Path(folder) / "snapshots")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def _fail_in_one(rank: int, folder: Path) -> None:
    w = torch.nn.Parameter(torch.ones(3))
    optimizer = torch_opt.SGD([w], lr=0.05, momentum=0.9)
    own = folder / f"process-{rank}"

    def train(guard: s.Guard, last: int, bad: int, missed: int = 0) -> list[str]:
        """What was said. Both have the same gradients; a batch is bad in the first process, a step is missed in the second."""
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            while guard.calls < last:
                number = guard.calls + 1
                if guard(math.nan if (rank, number) == (0, bad) else 1.0) and (rank, number) != (1, missed):
                    w.grad = w.detach() * math.sin(number)
                    optimizer.step()
        return [str(one.message) for one in said]

    def same(weights: torch.Tensor, steps: int) -> bool:
        found = [torch.zeros(4) for _ in range(2)]
        torch.distributed.all_gather(found, torch.cat([weights.detach(), torch.tensor([float(steps)])]))
        return torch.equal(*found)

    guard = s.Guard(optimizer, rewind=3, skip=0, folder=folder)
    keep = guard._snapshots.keep

    def unlucky(number: int, snapshot: Any) -> None:
        if (rank, number) == (1, 6):
            raise OSError(errno.ENOSPC, "No space left on device")
        keep(number, snapshot)

    guard._snapshots.keep = unlucky  # type: ignore[method-assign]  # on purpose
    said = train(guard, 8, bad=8)
    assert optimizer.steps == 3 and same(w, optimizer.steps) and guard.rewinds == 1
    why = "[Errno 28] No space left on device" if rank else "by another process"
    assert said == [f"Guard: no snapshot could be written ({why}). Training continues. The next attempt is in 3 steps."]

    said = train(guard, 14, bad=0)
    assert not said and newest(own) == 11
    if rank == 1:  # the disk loses what it had taken
        (own / "snapshot-000000011.pt").write_bytes(b"")
    said = train(guard, 15, bad=15)
    assert optimizer.steps == 3 and same(w, optimizer.steps) and guard.rewinds == 2
    why = "its file is broken" if rank else "another process can't use it"
    assert said == [f"Guard: the snapshot of batch 11 was skipped: {why}."]

    said = train(guard, 23, bad=0)
    files = sorted(os.listdir(own))
    torch.distributed.barrier()
    if rank == 1:
        own.rename(folder / "lost")
    torch.distributed.barrier()
    guard = s.Guard(optimizer, rewind=3, skip=0, folder=folder)
    with pytest.raises(ValueError, match=r"^Guard\.resume: none of the snapshots"):
        guard.resume()
    torch.distributed.barrier()
    if rank == 1:
        (folder / "lost").rename(own)
        (own / files[-1]).unlink()
    else:
        assert sorted(os.listdir(own)) == files
    torch.distributed.barrier()
    guard = s.Guard(optimizer, rewind=3, skip=0, folder=folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        guard.resume()
    assert same(w, optimizer.steps) and guard.calls == int(files[0][9:18])
    assert sorted(os.listdir(own)) == [files[0], *([f"unused-{files[1]}"] if rank == 0 else [])]

    guard = s.Guard(optimizer, most_skipped=0)
    with pytest.raises(FloatingPointError, match="the optimizer left out 1 steps in a row"):
        train(guard, 5, bad=0, missed=3)
    assert guard.calls == 4 and "some processes have taken 1 steps and others 0" in guard.events[0].message


def test_processes_go_back_and_resume_together_where_a_disk_fails_for_one_of_them(tmp_path: Path) -> None:
    together(_unlucky, str(tmp_path))
