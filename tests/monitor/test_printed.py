"""Names and messages that control a terminal reach none: whoever wrote them, a model, a file of a run, or an argument."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steepest as s
import steepest.numpy as opt
from steepest.checks import printable
from steepest.workbench.cli import main

EVIL = "\x1b]0;owned\x07\x9b31m\u202e\u200b\u2066\ufeff\x7f"
"""Sets a terminal's title, colours in C1, turns the direction, and has no width."""
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff]")


def assert_harmless(text: str) -> None:
    assert text and CONTROL.search(text) is None


@pytest.mark.parametrize("text", ["plain.weight", "重み.0", "größe", "ℝ² → ∞", "e\u0301", "👩🏽", "\u3000a", "a  b"])
def test_what_is_written_in_any_language_stays(text: str) -> None:
    assert printable(text, lines=True) == text
    assert printable(text) == " ".join(text.split())


def test_every_control_is_written_as_its_escape() -> None:
    assert printable(EVIL) == r"\x1b]0;owned\x07\x9b31m\u202e\u200b\u2066\ufeff\x7f"
    assert printable("a\n\tb\r") == "a b" and printable("a\nb\r", lines=True) == "a\nb\\r"
    assert printable("\udc80") == r"\udc80"
    assert_harmless(printable("".join(map(chr, range(0x3000))), lines=True))


def trained(folder: Path | None, **options: Any) -> s.Monitor:
    weights = {f"layer{EVIL}.weight": np.full((4, 4), 3.0)}
    optimizer = opt.Optimizer(weights, s.sgd(0.1))
    monitor = s.Monitor(optimizer, every=1, folder=folder, notes={f"note{EVIL}": EVIL}, **options)
    for step in range(60):
        gradient = np.full((4, 4), 1.0 if step < 50 else float("nan"))
        optimizer.step(dict.fromkeys(weights, gradient))
        monitor(1.0, **{f"metric{EVIL}": 1.0})
    monitor.event("note", f"a message {EVIL}")
    monitor.close()
    return monitor


@pytest.mark.filterwarnings("ignore:Monitor")
@pytest.mark.parametrize("command", [["doctor"], ["watch", "--once"], ["report"]])
def test_commands_print_the_names_of_a_run_without_their_controls(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tmp_path / "run")
    main([*command, str(tmp_path / "run")])
    printed = capsys.readouterr()
    assert_harmless(printed.out)
    assert "owned" in printed.out or command == ["report"]
    assert printed.err == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", f"sgd({EVIL}"], ["plan", f"sgd(.1) | {EVIL}"], ["plan", EVIL], ["plan", "sgd(.1)", EVIL],
        ["plan", f"exclude(add_decayed_weights(.1), '{EVIL}')"], [EVIL],
        ["doctor", f"runs/{EVIL}"], ["watch", "--once", f"runs/{EVIL}"], ["report", f"runs/{EVIL}"],
        ["compare", "--workload", f"{EVIL}.py:f"], ["tune", "--workload", EVIL, "sgd(.1)"], ["list", f"--{EVIL}"],
        ["reproduce", EVIL], ["lr-find", "--workload", EVIL, "sgd"],
    ],
)  # fmt: skip
def test_commands_repeat_their_arguments_without_their_controls(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(arguments)
    printed = capsys.readouterr()
    assert_harmless(printed.out + printed.err)


@pytest.mark.parametrize("part", ["chain", "parse"])
def test_mistakes_in_a_chain_name_a_control_by_its_escape(part: str) -> None:
    from steepest.workbench.parse import parse

    with pytest.raises(ValueError, match=r"the \\x1b at character 5") as raised:
        parse("sgd(\x1b.1)")
    assert_harmless(str(raised.value))


def failing(method: str) -> Any:
    class Failing:
        def start(self, facts: Any) -> None: ...
        def record(self, record: Any) -> None: ...
        def event(self, event: Any) -> None: ...
        def close(self) -> None: ...

    def fails(self: Any, *_: Any) -> None:
        raise RuntimeError(f"no {EVIL}")

    setattr(Failing, method, fails)
    return Failing()


class Probe:
    name, every = f"probe{EVIL}", 1

    def start(self, subject: Any) -> None: ...
    def before(self, step: int) -> None: ...
    def measure(self, step: int) -> Any:
        raise RuntimeError(EVIL)

    def close(self) -> None: ...


@pytest.fixture
def said() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield found


@pytest.mark.parametrize(
    "options", [{"to": failing(m)} for m in ("start", "record", "event", "close")] + [{"probes": [Probe()]}]
)
def test_warnings_of_a_monitor_repeat_what_was_raised_without_its_controls(options: Any, said: Any) -> None:
    trained(None, **options)
    assert len(said) == 1
    assert_harmless(str(said[0].message))


def test_a_guards_report_and_a_monitors_metric_are_harmless(said: Any) -> None:
    class Odd:
        def __repr__(self) -> str:
            return EVIL

    optimizer = opt.Optimizer({"w": np.ones(2)}, s.sgd(0.1))
    monitor = s.Monitor(optimizer, every=1, folder=None)
    monitor(1.0, metric=Odd())
    guard = s.Guard(optimizer, monitor=monitor)
    guard._told.warn(1, f"a snapshot of {EVIL}")
    assert len(said) == 2
    assert_harmless("".join(str(one.message) for one in said) + guard._told.report().replace("\n", ""))
