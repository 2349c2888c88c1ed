"""What TensorBoard shows, read back with TensorBoard's own reader."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from steepest.monitor import tensorboard
from steepest.monitor.records import Event, Record
from steepest.monitor.tags import losses_by_step
from steepest.monitor.tensorboard import TensorBoard
from tests.monitor.made import MEASURED, curve, facts, record
from tests.needed import require_module

require_module("tensorboard")


def shown(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(one.step, one.value) for one in shown(folder).Scalars(tag)]


def written(folder: Path, steps: range, add: float = 0.0, **of: Any) -> None:
    output = TensorBoard(folder)
    output.start(facts())
    for step in steps:
        output.record(record(step, add=add, **of))
    output.close()


def test_scalars_come_at_their_steps_and_the_loss_at_each(tmp_path: Path) -> None:
    written(tmp_path / "a", range(10, 31, 10))
    tags = shown(tmp_path / "a").Tags()["scalars"]
    names = [f"layers.{n}.weight" for n in range(3)]
    assert sorted(tags) == sorted(
        ["loss", "lr", "grad_norm", "step_seconds"]
        + [f"{measured}/{name}" for measured in (*MEASURED, "update_ratio", "effective_lr") for name in names]
    )
    loss = points(tmp_path / "a", "loss")
    assert [step for step, _ in loss] == list(range(1, 31))
    np.testing.assert_allclose([value for _, value in loss], [curve(call) for call in range(1, 31)], rtol=1e-6)
    assert points(tmp_path / "a", "grad_norm") == [(10, 10.0), (20, 20.0), (30, 30.0)]
    assert points(tmp_path / "a", "clipped/layers.1.weight") == [(10, 14.0), (20, 24.0), (30, 34.0)]
    ratios = [value for _, value in points(tmp_path / "a", "update_ratio/layers.1.weight")]
    np.testing.assert_allclose(ratios, [12 / 13, 22 / 23, 32 / 33], rtol=1e-6)


def test_a_tensor_that_was_not_measured_has_no_point_and_a_loss_that_is_nan_has_one(tmp_path: Path) -> None:
    output = TensorBoard(tmp_path)
    output.start(facts(2))
    output.record(Record(1, 1, 0.1, np.array([np.nan]), {"lr": np.inf}, {"grad_norm": np.float32([np.nan, 3])}))
    output.close()
    assert sorted(shown(tmp_path).Tags()["scalars"]) == ["grad_norm/layers.1.weight", "loss", "lr"]
    assert np.isnan(points(tmp_path, "loss")[0][1]) and points(tmp_path, "lr") == [(1, np.inf)]


@pytest.mark.parametrize(
    ("record_step", "calls", "before", "steps"),
    [
        (10, 10, None, list(range(1, 11))),
        (20, 10, (10, 10), list(range(11, 21))),
        (20, 40, (10, 40), list(range(11, 21))),
        (20, 11, (10, 10), list(range(11, 21))),
        (20, 5, (10, 5), [12, 14, 16, 18, 20]),
        (503, 3, (500, 500), [501, 502, 503]),
        (510, 10, None, list(range(501, 511))),
        (1, 4, None, [1]),
        (20, 0, (10, 10), []),
        (10, 3, (10, 10), [8, 9, 10]),
        (1010, 40, None, list(range(1001, 1011))),
    ],
)
def test_losses_have_the_steps_that_they_belong_to(
    record_step: int, calls: int, before: tuple[int, int] | None, steps: list[int]
) -> None:
    losses = np.arange(calls, dtype=np.float64)
    found, means = losses_by_step(Record(record_step, 100, 0.0, losses, {}, {}), before, 10)
    assert found.tolist() == steps
    if calls == 4 * len(steps):
        assert means.tolist() == losses.reshape(-1, 4).mean(axis=1).tolist()
    elif calls == len(steps):
        assert means.tolist() == losses.tolist()


def test_a_step_whose_calls_gave_no_loss_has_no_point(tmp_path: Path) -> None:
    output = TensorBoard(tmp_path)
    output.start(facts(2))
    losses, given = np.array([np.nan, 4.0, np.nan, np.nan]), np.array([False, True, False, True])
    output.record(Record(4, 4, 0.1, losses, {}, {}, given))
    output.close()
    np.testing.assert_array_equal(points(tmp_path, "loss"), [(2, 4.0), (4, np.nan)])


def test_events_and_the_chains_are_texts(tmp_path: Path) -> None:
    output = TensorBoard(tmp_path)
    output.start(facts())
    output.event(Event(3, 3, "skipped", "no finite gradient", ("layers.0.weight", "layers.2.weight")))
    output.close()
    reader = shown(tmp_path)
    assert set(reader.PluginTagToContent("text")) == {"events/skipped", "steepest/chains"}
    (event,) = reader.Tensors("events/skipped")
    assert event.step == 3
    assert event.tensor_proto.string_val[0].decode() == "no finite gradient (layers.0.weight, layers.2.weight)"
    text = reader.Tensors("steepest/chains")[0].tensor_proto.string_val[0].decode()
    assert "adamw(0.001)" in text and "1 pass, 28 bytes" in text


def test_steps_that_are_taken_again_replace_those_of_before(tmp_path: Path) -> None:
    written(tmp_path, range(10, 101, 10))
    written(tmp_path, range(60, 81, 10), add=1.0)
    assert points(tmp_path, "lr") == [(step, pytest.approx(0.001)) for step in range(10, 81, 10)]
    values = [value for _, value in points(tmp_path, "grad_norm")]
    assert values == [10, 20, 30, 40, 50, 61, 71, 81]
    assert [step for step, _ in points(tmp_path, "loss")] == list(range(1, 81))
    written(tmp_path, range(10, 21, 10), add=2.0)
    assert points(tmp_path, "grad_norm") == [(10, 12.0), (20, 22.0)]


@pytest.mark.parametrize("later", [0, -3600])
def test_files_are_read_in_the_order_in_which_they_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: int
) -> None:
    monkeypatch.setattr(tensorboard, "_FILES", count(9))  # whose name sorts after that of file 10
    monkeypatch.setattr(tensorboard, "time", SimpleNamespace(time=lambda: 1_700_000_000.0))
    written(tmp_path, range(10, 101, 10))
    monkeypatch.setattr(tensorboard, "time", SimpleNamespace(time=lambda: 1_700_000_000.0 + later))
    written(tmp_path, range(60, 81, 10), add=1.0)
    assert [value for _, value in points(tmp_path, "grad_norm")] == [10, 20, 30, 40, 50, 61, 71, 81]


def test_the_points_of_another_writer_in_the_folder_stay(tmp_path: Path) -> None:
    writer = require_module("torch.utils.tensorboard").SummaryWriter(str(tmp_path))
    for step in range(1, 101):
        writer.add_scalar("validation", step, step)
    writer.close()
    written(tmp_path, range(10, 101, 10))
    written(tmp_path, range(60, 81, 10))
    assert [step for step, _ in points(tmp_path, "validation")] == list(range(1, 101))


def test_only_the_first_process_writes_and_close_may_come_without_start(tmp_path: Path) -> None:
    output = TensorBoard(tmp_path / "a")
    output.start(facts(process=1, processes=2))
    output.record(record(10))
    output.event(Event(1, 1, "note", "unheard"))
    output.close()
    TensorBoard(tmp_path / "b").close()
    assert list(tmp_path.iterdir()) == []


def test_torch_is_not_needed(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["torch"] = None
from pathlib import Path
from tests.monitor.test_tensorboard import written
written(Path(sys.argv[1]), range(10, 21, 10))
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=Path(__file__).parents[2])
    assert [step for step, _ in points(tmp_path, "lr")] == [10, 20]


def test_a_missing_package_is_one_line_that_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ModuleNotFoundError,
        match=r"^TensorBoard: the package tensorboard is missing\. pip install 'steepest\[monitor\]'$",
    ):
        TensorBoard("runs/a")


def test_a_model_of_very_many_tensors_has_curves_of_their_quantiles(tmp_path: Path) -> None:
    for most, expected in ((600, 600), (500, 5)):
        folder = tmp_path / str(most)
        output = TensorBoard(folder, tensors=most)
        output.start(facts(600))
        values = np.arange(600, dtype=np.float32)
        output.record(Record(10, 10, 1.0, np.ones(10), {"lr": 0.1}, {"grad_norm": values}))
        output.close()
        tags = {tag for tag in shown(folder).Tags()["scalars"] if tag.startswith("grad_norm/")}
        assert len(tags) == expected
    found = {tag: points(folder, tag)[0][1] for tag in tags}
    assert found["grad_norm/lowest"] == 0.0 and found["grad_norm/highest"] == 599.0
    assert sum(path.stat().st_size for path in folder.iterdir()) < 20_000
