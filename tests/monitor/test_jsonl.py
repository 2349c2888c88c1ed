"""Lines of JSON: strict, whole, continued."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steepest.monitor.jsonl import JsonLines
from steepest.monitor.records import Event, Record
from tests.monitor.made import curve, facts, record


def lines(path: Path) -> list[dict[str, Any]]:
    def refused(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return [json.loads(line, parse_constant=refused) for line in path.read_text(encoding="utf-8").splitlines()]


def test_facts_records_and_events_are_a_line_each(tmp_path: Path) -> None:
    output = JsonLines(tmp_path / "runs" / "a.jsonl")
    output.start(facts(2))
    output.event(Event(7, 7, "spike", "a jump", ("layers.1.weight",), {"loss": float("inf")}))
    output.record(record(10, tensors=2))
    assert len(lines(output.path)) == 3  # written at once, not at the end
    output.close()
    output.close()
    begin, event, one = lines(output.path)
    assert (begin["type"], begin["optimizer"], begin["notes"]) == ("facts", "AdamW", {"batch_size": 32})
    assert begin["tensors"][1] == {
        "name": "layers.1.weight",
        "shape": [4, 2],
        "dtype": "float32",
        "group": 1,
        "frozen": False,
    }
    assert event == {
        "type": "event", "step": 7, "call": 7, "kind": "spike", "message": "a jump",
        "tensors": ["layers.1.weight"], "values": {"loss": "Infinity"},
    }  # fmt: skip
    assert (one["type"], one["step"], one["call"], one["seconds"]) == ("record", 10, 10, 5.0)
    assert one["losses"] == [curve(call) for call in range(1, 11)]
    assert one["scalars"] == {"lr": 0.001, "grad_norm": 10.0, "step_seconds": 0.25}
    assert one["tensors"]["grad_norm"] == {"layers.0.weight": 10.0, "layers.1.weight": 11.0}
    ratio = np.float32([10, 12]) / np.float32([10, 13])
    assert one["tensors"]["update_ratio"] == dict(
        zip(["layers.0.weight", "layers.1.weight"], ratio.tolist(), strict=True)
    )


def test_what_is_not_finite_is_strict_json(tmp_path: Path) -> None:
    output = JsonLines(tmp_path / "a.jsonl")
    output.start(facts(2))
    nan, inf = float("nan"), float("inf")
    output.record(Record(1, 1, 0.1, np.array([nan, -inf]), {"lr": inf}, {"grad_norm": np.float32([nan, 2])}))
    output.close()
    one = lines(output.path)[1]
    assert one["losses"] == [None, "-Infinity"]
    assert one["scalars"] == {"lr": "Infinity"}
    assert one["tensors"] == {"grad_norm": {"layers.0.weight": None, "layers.1.weight": 2.0}}


def test_which_calls_gave_a_loss_is_said_where_not_all_did(tmp_path: Path) -> None:
    output = JsonLines(tmp_path / "a.jsonl")
    output.start(facts(2))
    output.record(Record(2, 2, 0.1, np.array([float("nan"), 1.0]), {}, {}, np.array([False, True])))
    output.record(Record(4, 4, 0.1, np.array([float("nan"), 1.0]), {}, {}))
    output.close()
    _, some, every = lines(output.path)
    assert (some["losses"], some["given"]) == ([None, 1.0], [False, True])
    assert every["losses"] == [None, 1.0] and "given" not in every


def test_a_file_is_continued_and_a_line_that_was_cut_off_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for cut in ("", '{"type":"record","st'):
        output = JsonLines(path)
        output.start(facts())
        output.record(record(10))
        output.close()
        with open(path, "a", encoding="utf-8") as file:
            file.write(cut)
    output = JsonLines(path)
    output.start(facts())
    output.close()
    assert [one["type"] for one in lines(path)] == ["facts", "record"] * 2 + ["facts"]


def test_half_a_line_of_a_million_characters_is_found_in_a_few_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    for _ in range(2):
        output = JsonLines(path)
        output.start(facts())
        output.close()
    whole = path.read_bytes()
    with open(path, "ab") as file:
        file.write(b'{"type":"record","losses":[' + 200_000 * b"0.25," + b"0")
    seeks: list[int] = []

    class Counted(io.FileIO):
        def seek(self, place: int, whence: int = 0, /) -> int:
            seeks.append(place)
            return super().seek(place, whence)

    monkeypatch.setattr("builtins.open", lambda name, mode, buffering=-1: Counted(name, mode))
    output = JsonLines(path)
    output.start(facts())
    output.close()
    monkeypatch.undo()
    assert len(seeks) < 50
    assert path.read_bytes()[: len(whole)] == whole
    assert [one["type"] for one in lines(path)] == ["facts"] * 3


def test_notes_whose_keys_are_no_texts_are_kept_as_texts(tmp_path: Path) -> None:
    output = JsonLines(tmp_path / "a.jsonl")
    output.start(replace(facts(), notes={"sizes": {(1, 2): 3, None: float("inf")}}))
    output.close()
    assert lines(output.path)[0]["notes"] == {"sizes": {"(1, 2)": 3, "None": "Infinity"}}


@pytest.mark.parametrize("text", ["# notes", "[1, 2]\n", '{"type": "other"}\n', "\n"])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.md"
    path.write_text(text)
    message = rf"^JsonLines: path must be new or a file of JsonLines, got '{re.escape(str(path))}'\. Pass another path, or move"
    with pytest.raises(ValueError, match=message):
        JsonLines(path).start(facts())
    assert path.read_text() == text


def test_only_the_first_process_writes_and_close_may_come_without_start(tmp_path: Path) -> None:
    output = JsonLines(tmp_path / "a.jsonl")
    output.start(facts(process=1, processes=2))
    output.record(record(10))
    output.event(Event(1, 1, "note", "unheard"))
    output.close()
    JsonLines(tmp_path / "b.jsonl").close()
    assert list(tmp_path.iterdir()) == []
