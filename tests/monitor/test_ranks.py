"""Which of several processes a monitor takes itself for, under each launcher: one file each, one process that sends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import steepest as s
import steepest.numpy as opt
from steepest.monitor import read
from steepest.monitor.ranks import is_open, launched_as, rank_and_size
from tests.monitor.guarded import together

NAMES = (
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "SLURM_PROCID", "SLURM_NTASKS",
    "SLURM_STEP_NUM_TASKS", "SLURM_JOB_ID", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE",
)  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, (1, 2)),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, (0, 2)),
        ({"RANK": "", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, (1, 2)),
        ({"RANK": "3"}, (0, 1)),  # of a program that means something else by it
        ({"RANK": "x", "WORLD_SIZE": "2"}, (0, 1)),
        ({"RANK": "4", "WORLD_SIZE": "4"}, (0, 1)),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, (3, 4)),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "2"}, (1, 2)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, (0, 1)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2", "RANK": "5", "WORLD_SIZE": "16"}, (5, 16)),  # torchrun on each node
        ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "3"}, (2, 3)),
        ({"PMI_RANK": "2", "PMI_SIZE": "3"}, (2, 3)),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2"}, (1, 2)),
        ({"LOCAL_RANK": "1", "NODE_RANK": "", "WORLD_SIZE": "2"}, (1, 2)),
        ({"LOCAL_RANK": "1", "NODE_RANK": "2", "WORLD_SIZE": "12", "LOCAL_WORLD_SIZE": "4"}, (9, 12)),
        ({"LOCAL_RANK": "1"}, (0, 1)),
    ],
)
def test_each_launcher_gives_its_rank_and_empty_values_count_as_missing(
    environment: dict[str, str], expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert rank_and_size() == expected
    assert (launched_as() is None) == (expected == (0, 1) and environment.get("SLURM_NTASKS") != "1")


def test_ranks_of_nodes_of_unknown_size_differ_and_only_one_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    found = []
    for node in "01":
        for local in "01":
            monkeypatch.setenv("NODE_RANK", node)
            monkeypatch.setenv("LOCAL_RANK", local)
            found.append(rank_and_size()[0])
    assert len(set(found)) == 4 and found.count(0) == 1


# ---- what two processes leave behind


def recorded(folder: Path, rank: int, late: Any = None) -> None:
    """Four steps, each with a loss of 10 + rank in the second process and rank's own number in the first."""
    w = np.array([1.0, 2.0])
    optimizer = opt.SGD({"w": w}, lr=0.1)
    to = [s.JsonLines(folder / "lines.jsonl"), s.TensorBoard(folder / "board")]
    monitor = s.Monitor(optimizer, every=1, folder=folder / "run", to=to)
    if late is not None:
        late()
    for _ in range(4):
        optimizer.step([w.copy()])
        monitor(float(10 * rank))
    monitor.close()


def assert_one_run_of_two(folder: Path) -> None:
    assert sorted(path.name for path in (folder / "run").glob("*.sqlite")) == ["steepest-0.sqlite", "steepest-1.sqlite"]
    assert read(folder / "run").losses.tolist() == [5.0] * 4  # the mean of both
    lines = [json.loads(line) for line in (folder / "lines.jsonl").read_text().splitlines()]
    assert [one["type"] for one in lines] == ["facts"] + ["record"] * 4
    assert (lines[0]["process"], lines[0]["processes"]) == (0, 2)
    assert lines[1]["losses"] == [0.0]
    assert len(list((folder / "board").glob("*tfevents*"))) == 1


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "{}", "WORLD_SIZE": "2"},
        {"SLURM_PROCID": "{}", "SLURM_NTASKS": "2"},
        {"OMPI_COMM_WORLD_RANK": "{}", "OMPI_COMM_WORLD_SIZE": "2"},
        {"LOCAL_RANK": "{}", "NODE_RANK": "0", "WORLD_SIZE": "2", "RANK": ""},
    ],
)
def test_two_launched_processes_leave_one_run(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rank in (1, 0):
        for name, value in environment.items():
            monkeypatch.setenv(name, value.format(rank))
        recorded(tmp_path, rank)
    assert_one_run_of_two(tmp_path)


def test_slurm_names_the_folder_of_processes_that_have_not_met(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_JOB_ID": "77"}.items():
        monkeypatch.setenv(name, value)
    with s.Monitor(opt.SGD([np.ones(2)], lr=0.1)) as monitor:
        assert monitor.folder == Path("runs/slurm-77")


def _spawned(rank: int, folder: str, meets: str) -> None:
    def meet() -> None:
        torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)

    if meets == "before":
        meet()
    assert is_open() == (meets == "after")
    recorded(Path(folder), rank, meet if meets == "after" else None)
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("meets", ["before", "after"])
def test_spawned_processes_leave_one_run_also_where_the_monitor_is_made_before_they_meet(
    meets: str, tmp_path: Path
) -> None:
    together(_spawned, str(tmp_path), meets)
    assert_one_run_of_two(tmp_path)


def test_a_child_process_without_others_records_its_run() -> None:
    assert not is_open()
    assert rank_and_size() == (0, 1)


LIGHTNING = """
import os, sys, torch, lightning, steepest.torch, steepest
from steepest.monitor import LightningCallback

class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Linear(4, 1)
        self.seen = []
    def training_step(self, batch, batch_idx):
        loss = torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])
        self.seen.append(float(loss))
        return loss
    def configure_optimizers(self):
        return steepest.torch.AdamW(self.named_parameters(), lr=0.01)

if __name__ == "__main__":
    folder = sys.argv[1]
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8)
    to = [steepest.JsonLines(folder + "/lines.jsonl"), steepest.TensorBoard(folder + "/board")]
    module = Module()
    lightning.Trainer(
        max_epochs=1, accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
        callbacks=[LightningCallback(every=1, folder=folder + "/run", to=to)],
    ).fit(module, data)
    rank = torch.distributed.get_rank()
    torch.save(module.seen, f"{folder}/seen-{rank}.pt")
"""


def test_two_processes_of_lightnings_ddp_leave_one_run(tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.write_text(LIGHTNING)
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, str(program), str(tmp_path)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    seen = np.array([torch.load(tmp_path / f"seen-{rank}.pt") for rank in (0, 1)])
    assert sorted(path.name for path in (tmp_path / "run").glob("*.sqlite")) == [
        "steepest-0.sqlite",
        "steepest-1.sqlite",
    ]
    np.testing.assert_allclose(read(tmp_path / "run").losses, seen.mean(axis=0), rtol=1e-6)
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert [one["type"] for one in lines] == ["facts"] + ["record"] * 4
    np.testing.assert_allclose([one["losses"][0] for one in lines[1:]], seen[0], rtol=1e-6)
    assert len(list((tmp_path / "board").glob("*tfevents*"))) == 1
