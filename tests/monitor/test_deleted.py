"""Files that are deleted, replaced or can't be written while training goes on: said once, and training goes on."""

from __future__ import annotations

import errno
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steepest as s
import steepest.numpy as opt
from steepest.monitor import read

OUTPUTS: dict[str, Callable[[Path], Any]] = {
    "Recorder": lambda folder: s.monitor.Recorder(folder),
    "JsonLines": lambda folder: s.JsonLines(folder / "run.jsonl"),
    "TensorBoard": lambda folder: s.TensorBoard(folder),
    "Report": lambda folder: s.Report(folder / "run.html"),
}


def trained(folder: Path, output: str, spoil: Callable[[], None], at: int = 6, steps: int = 12) -> list[str]:
    """A training in which something happens to the output's files before a step; the warnings."""
    weight = np.ones(3)
    optimizer = opt.SGD({"w": weight}, lr=0.1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        monitor = s.Monitor(optimizer, every=1, folder=None, to=OUTPUTS[output](folder))
        for step in range(steps):
            if step == at:
                spoil()
            optimizer.step({"w": weight.copy()})
            monitor(1.0)
        monitor.close()
    assert optimizer.steps == steps and monitor.last is not None and monitor.last.step == steps
    return [str(one.message) for one in said]


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("at", [6, 11])
def test_a_folder_that_is_deleted_while_it_is_written_is_one_warning(output: str, at: int, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (said,) = trained(folder, output, lambda: shutil.rmtree(folder), at)
    assert said.startswith(
        f"Monitor: {output} {'could not be closed' if output == 'Report' else 'failed and is closed'} ("
    )
    if output != "Report":
        assert "must stay while it is written, but somebody has deleted, moved or replaced it." in said
    assert not folder.exists()


@pytest.mark.parametrize("output", ["Recorder", "JsonLines", "TensorBoard"])
def test_a_folder_that_is_replaced_by_another_run_is_noticed_and_that_one_stays_whole(
    output: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"

    def replaced() -> None:
        shutil.move(folder, tmp_path / "moved")
        folder.mkdir()
        for path in (tmp_path / "moved").iterdir():
            (folder / path.name).write_bytes(b"another")

    (said,) = trained(folder, output, replaced)
    assert said.startswith(f"Monitor: {output} failed and is closed (FileNotFoundError")
    assert {path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"} == {b"another"}


@pytest.mark.parametrize("output", ["Recorder", "JsonLines", "TensorBoard"])
def test_files_that_go_after_the_last_record_are_said_at_the_end(output: str, tmp_path: Path) -> None:
    weight, folder = np.ones(3), tmp_path / "run"
    optimizer = opt.SGD({"w": weight}, lr=0.1)
    monitor = s.Monitor(optimizer, every=1, folder=None, to=OUTPUTS[output](folder))
    optimizer.step({"w": weight.copy()})
    monitor(1.0)
    shutil.rmtree(folder)
    with pytest.warns(RuntimeWarning, match=rf"^Monitor: {output} could not be closed \(FileNotFoundError"):
        monitor.close()


class Full:
    """A file on a disk that takes a part of each write, and then nothing."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> Full:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, data: Any) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = bytes(data)[: min(self.room, 100)]
        self.room -= len(part)
        return int(self.file.write(part))


def test_lines_that_a_disk_takes_in_parts_are_whole_and_a_full_disk_is_one_warning(tmp_path: Path) -> None:
    output = s.JsonLines(tmp_path / "run.jsonl")
    weight = np.ones(3)
    optimizer = opt.SGD({"w": weight}, lr=0.1)
    monitor = s.Monitor(optimizer, every=1, folder=None, to=output)
    output._file = Full(output._file, 2000)  # type: ignore[assignment]  # as good as one
    with pytest.warns(
        RuntimeWarning, match=r"^Monitor: JsonLines failed and is closed \(OSError.*No space left"
    ) as said:
        for _ in range(20):
            optimizer.step({"w": weight.copy()})
            monitor(1.0)
    monitor.close()
    assert len(said) == 1
    lines = output.path.read_text().splitlines()
    records = [json.loads(line) for line in lines[:-1]]
    assert [one["step"] for one in records[1:]] == list(range(1, len(records)))


def test_a_run_is_recorded_again_by_another_monitor_after_its_folder_was_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trained(folder, "Recorder", lambda: shutil.rmtree(folder))
    assert trained(folder, "Recorder", lambda: None) == []
    assert len(read(folder)) == 12
