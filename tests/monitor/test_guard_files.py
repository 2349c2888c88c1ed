"""A guarded training that is killed and goes on: from whole snapshots only, and to the same bits."""

from __future__ import annotations

import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp

import steepest as s
import steepest.numpy as opt
import steepest.torch as torch_opt
from tests.monitor.guarded import SPOILT, TRAININGS, OnArrays, assert_same, guarded, long_training

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
        raw[len(raw) // 2] ^= 1
    newest.write_bytes(raw if damage == "flipped" else raw[: len(raw) * 2 // 3] if damage == "truncated" else b"")
    one = TRAININGS[kind]()
    guard = s.Guard(one.optimizer, one.model, rewind=5, folder=tmp_path / "a", also=one.also)
    assert guard.resume() == 15 == guard.calls
    assert guard.events[0].message == f"resumed from {tmp_path / 'a' / newest.name.replace('20', '15')} at step 15"
    assert not newest.exists()
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


def test_a_folder_with_another_runs_snapshots_is_not_written_to(tmp_path: Path) -> None:
    started("numpy", tmp_path, 12)
    guard = s.Guard(OnArrays().optimizer, rewind=5, folder=tmp_path)
    message = (
        f"Guard: {tmp_path} holds snapshots of an earlier run. Call resume() before the first batch to go on with it, or give "
        f"another folder."
    )
    with pytest.raises(FileExistsError, match=f"^{re.escape(message)}$"):
        guard(1.0)


def test_what_does_not_fit_is_refused_with_nothing_changed(tmp_path: Path) -> None:
    started("numpy", tmp_path, 12)
    w = {"w": np.ones(7), "b": np.zeros(1)}
    guard = s.Guard(opt.SGD(w, lr=0.1), rewind=5, folder=tmp_path)
    message = (
        "Guard: 'w' is of shape [6] in the snapshot, of shape [7] here. Build the same model, or give another folder."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        guard.resume()
    one = OnArrays()
    guard = s.Guard(one.optimizer, rewind=5, folder=tmp_path)
    before = one.everything()
    with pytest.raises(ValueError, match=r"^Guard: the snapshot was taken with 1 objects in also, here are 0"):
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
        RuntimeError, match=r"^Guard.resume: 3 batches have been seen already. Resume before the first one\.$"
    ):
        guard.resume()
    with pytest.raises(ValueError, match=r"^Guard\.resume: folder is None"):
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
    mp.spawn(_replica, (str(tmp_path),), 2)
