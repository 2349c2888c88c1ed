"""`steepest watch`: a run's folder seen live from another process, once, as JSON, and what is said where there is none."""

from __future__ import annotations

import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import steepest
from steepest.monitor.recorder import Recorder
from steepest.monitor.records import Event, Facts, Record
from steepest.workbench import watch as module
from steepest.workbench.cli import main
from steepest.workbench.watch import newest
from tests.monitor.screens import facts, record, shown

SOURCES = Path(steepest.__file__).parents[1]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recorded(folder: str, steps: int = 5, *, finished: bool = True, of: Facts | None = None) -> Recorder:
    """A run of so many records in a folder; one that isn't finished is to be closed."""
    of, recorder = of or facts(), Recorder(folder)
    recorder.start(of)
    for i in range(1, steps + 1):
        recorder.record(record(10 * i, of, loss=1 / i))
    if finished:
        recorder.close()
    return recorder


def test_a_finished_run_is_printed_with_all_its_layers_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    recorded("runs/a")
    assert main(["watch", "runs/a"]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0].split("  ")[0] == "steepest · AdamW · 8 tensors · 1,568 parameters"
    assert lines[0].endswith(" runs/a, finished")
    assert lines[1] == "step 50  loss 0.2  lr 0.001  100 steps/s  optimizer 10 % of step  0 s"
    assert len(lines) == 2 + 3 + 1 + 8
    assert said.err == "" and "\x1b" not in said.out


def test_once_prints_the_present_state_of_a_run_that_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    recorder = recorded("runs/a", finished=False)
    assert main(["watch", "runs/a", "--once"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(" runs/a") and lines[1].startswith("step 50 ")
    recorder.close()


def test_json_is_the_last_record_in_strict_json(capsys: pytest.CaptureFixture[str]) -> None:
    of, recorder = facts(["head.weight"]), Recorder("runs/a")
    recorder.start(of)
    recorder.event(Event(10, 10, "spike", "the loss jumped", ("head.weight",), {"loss": math.inf}))
    recorder.record(record(10, of, loss=math.nan, grad_norm=[math.inf]))
    assert main(["watch", "runs/a", "--json"]) == 0
    text = capsys.readouterr().out
    assert text.count("\n") == 1
    made = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    ratio = made["tensors"]["head.weight"].pop("update_ratio")
    assert ratio == pytest.approx(1e-3)
    assert made["tensors"]["head.weight"].pop("effective_lr") == 0
    assert made["tensors"]["head.weight"].pop("update_norm") == pytest.approx(4e-3)
    assert made == {
        "folder": "runs/a", "finished": False, "step": 10, "call": 10, "seconds": 0.1, "loss": None,
        "scalars": {"lr": 1e-3, "grad_norm": 0.5, "step_seconds": 0.01, "optimizer_seconds": 0.001},
        "tensors": {"head.weight": {"grad_norm": "Infinity", "weight_norm": 4.0}},
        "events": [
            {"step": 10, "call": 10, "kind": "spike", "message": "the loss jumped", "tensors": ["head.weight"],
             "values": {"loss": "Infinity"}}
        ],
    }  # fmt: skip
    recorder.close()


def test_without_a_folder_the_run_that_was_written_last_is_watched(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for age, name in ((300, "runs/old"), (100, "runs/study/new"), (200, "runs/older")):
        path = recorded(name).path
        os.utime(path, (time.time() - age, time.time() - age))
    assert newest(here / "runs") == here / "runs" / "study" / "new"
    assert main(["watch", "--once"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith(" runs/study/new, finished")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [],
            "there is no run under 'runs': no file steepest-*.sqlite of a Monitor. Pass its folder: steepest watch FOLDER.\n",
        ),
        (["nowhere"], "read: folder must be the folder of a run, got 'nowhere', which doesn't exist."),
        (["empty"], "read: folder must be the folder of a run, got 'empty'. It has no file steepest-*.sqlite."),
        (["broken"], "read: 'broken/steepest-0.sqlite': it is another kind of file, or damaged."),
    ],
)
def test_where_there_is_no_run_one_line_says_so(
    arguments: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "empty").mkdir()
    (here / "broken").mkdir()
    (here / "broken" / "steepest-0.sqlite").write_text("no database, but long enough to be looked at " * 50)
    assert main(["watch", *arguments]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"steepest watch: {message}")
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_in_a_pipe_there_are_lines_until_the_run_is_finished(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of, recorder = facts(), recorded("runs/a", 2, finished=False)
    steps = iter((3, 4, None, 5))

    def pause(seconds: float) -> None:
        assert seconds == 5.0
        if (step := next(steps, "end")) == "end":
            recorder.close()
        elif step is not None:
            recorder.record(record(10 * int(step), of))

    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=pause))
    assert main(["watch", "runs/a"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["step 20", "step 30", "step 40", "step 50", "step 50"]


def test_interrupting_a_watch_in_a_pipe_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = recorded("runs/a", finished=False)

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=interrupt))
    assert main(["watch", "runs/a"]) == 0
    recorder.close()


def test_a_watched_run_that_grows_looks_like_the_whole_and_one_that_is_resumed_starts_anew() -> None:
    of, recorder = facts(), recorded("runs/a", 3, finished=False)
    watched = module._Watched(Path("runs/a"))
    first = watched.course
    assert not watched.look()
    recorder.event(Event(31, 31, "note", "here"))
    recorder.record(record(40, of))
    recorder.record(Record(43, 43, 0.43, np.ones(3), {}, {}))
    assert watched.look() and watched.course is first
    again = module._Watched(Path("runs/a")).course
    assert (first.step, first.alarms, first.scalars) == (43, again.alarms, again.scalars)
    for title, curve in first.curves.items():
        assert curve.values.tolist() == again.curves[title].values.tolist()
    recorder.close()
    recorded("runs/a", 1).close()  # begins again from step 10
    assert watched.look() and watched.course is not first
    assert (watched.course.step, watched.course.finished) == (10, True)


def test_a_run_that_nobody_writes_any_more_is_said_to_be_silent() -> None:
    recorder = recorded("runs/a", finished=False)
    watched = module._Watched(Path("runs/a"))
    assert watched.source == "runs/a"
    for file in Path("runs/a").iterdir():
        os.utime(file, (time.time() - 754, time.time() - 754))
    assert watched.source.startswith("runs/a, silent for 12 min 3")
    recorder.close()


def test_a_file_that_cannot_be_read_for_a_while_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = recorded("runs/a", 1, finished=False)
    watched = module._Watched(Path("runs/a"))
    now = [100.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with monkeypatch.context() as broken:
        broken.setattr(watched._follow, "look", lambda: (_ for _ in ()).throw(OSError("busy")))
        assert not watched.look()
    recorder.record(record(20, facts()))
    assert watched.look()
    monkeypatch.setattr(watched._follow, "look", lambda: (_ for _ in ()).throw(OSError("gone")))
    assert not watched.look()
    now[0] += 11
    with pytest.raises(OSError, match="gone"):
        watched.look()
    recorder.close()


# ---- in a terminal


class Watcher:
    """`steepest watch` in a pseudo-terminal of 80 columns and 24 lines."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
        self.terminal, self.other = pty.openpty()
        termios.tcsetwinsize(self.other, (24, 80))
        self.before = termios.tcgetattr(self.other)
        variables = {"TERM": "xterm", "PYTHONPATH": str(SOURCES), "PYTHONIOENCODING": "utf-8", **environment}
        kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "LANG", "LC_ALL")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "steepest.workbench.cli", "watch", *arguments],
            stdin=self.other, stdout=self.other, stderr=self.other, env=kept | variables, start_new_session=True,
            preexec_fn=lambda: _control(self.other),
        )  # fmt: skip
        self.written = b""

    @property
    def text(self) -> str:
        return self.written.decode("utf-8", "replace")

    def until(self, what: Callable[[list[str]], bool], seconds: float = 60.0) -> list[str]:
        """The screen as soon as it is so."""
        end = time.monotonic() + seconds
        while True:
            while select.select([self.terminal], [], [], 0.1)[
                0
            ]:  # a picture arrives in pieces, the next half a second later
                try:
                    self.written += os.read(self.terminal, 1 << 16)
                except OSError:  # Linux's way of saying that nobody holds the other end
                    break
            screen = shown(self.text.replace("\r\n", "\n"), rows=24, columns=80)
            if what(screen):
                return screen
            assert time.monotonic() < end, "\n".join(screen)

    def press(self, keys: str) -> None:
        os.write(self.terminal, keys.encode())

    def ended(self) -> list[str]:
        """The screen that is left behind; the terminal is as it was."""
        self.process.wait(60)
        screen = self.until(lambda screen: any(" runs/a" in line for line in screen))
        import termios

        assert termios.tcgetattr(self.other) == self.before
        assert self.text.count("\x1b[?1049h") == self.text.count("\x1b[?1049l") == 1
        assert self.text.rindex("\x1b[?25h") > self.text.rindex("\x1b[?25l")
        return screen


def _control(terminal: int) -> None:
    """Make it the process's controlling terminal, whose Ctrl-C interrupts it."""
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


@pytest.fixture
def watcher() -> Iterator[Callable[..., Watcher]]:
    made: list[Watcher] = []

    def make(*arguments: str, **environment: str) -> Watcher:
        made.append(Watcher(*arguments, **environment))
        return made[-1]

    yield make
    for one in made:
        one.process.kill()
        one.process.wait()
        os.close(one.terminal)
        os.close(one.other)


def has(text: str) -> Callable[[list[str]], bool]:
    return lambda screen: any(text in line for line in screen)


def test_a_terminal_shows_the_run_live_scrolls_and_ends_with_q(watcher: Callable[..., Watcher]) -> None:
    names = [f"layers.{i}.weight" for i in range(40)]
    of = facts(names)
    recorder = recorded("runs/a", 2, finished=False, of=of)
    view = watcher()
    screen = view.until(has("step 20 "))
    assert screen[0].split() == [
        "steepest",
        "·",
        "AdamW",
        "·",
        "40",
        "tensors",
        "·",
        "10.2",
        "k",
        "parameters",
        "runs/a",
    ]
    assert len(screen) == 23 and screen[-1] == "q end  j k scroll  s layers in the model's order"
    assert screen[6].startswith("   layers.0.weight ")
    recorder.event(Event(25, 25, "spike", "the loss jumped"))
    recorder.record(record(30, of, ratios={"layers.7.weight": 0.1}))
    screen = view.until(has("step 30 "))
    assert screen[6].startswith("!! layers.7.weight ")
    assert screen[-3:-1] == ["update ratio step 30  0.1: layers.7.weight", "spike        step 25  the loss jumped"]
    view.press("s")
    assert view.until(has("s suspicious layers first"))[6].startswith("   layers.0.weight ")
    view.press("jj")
    view.until(lambda screen: screen[6].startswith("   layers.2.weight "))
    view.press("\x1b[A")
    view.until(lambda screen: screen[6].startswith("   layers.1.weight "))
    view.press("q")
    assert view.ended()[1].startswith("step 30 ")
    assert view.process.returncode == 0
    recorder.close()


@pytest.mark.parametrize("end", ["ctrl-c", "finished", "terminated"])
def test_a_watch_gives_its_terminal_back_however_it_ends(end: str, watcher: Callable[..., Watcher]) -> None:
    recorder = recorded("runs/a", 2, finished=False)
    view = watcher("runs/a")
    view.until(has("step 20 "))
    if end == "ctrl-c":
        view.press("\x03")
    elif end == "finished":
        recorder.close()
    else:
        view.process.send_signal(signal.SIGTERM)
    screen = view.ended()
    assert view.process.returncode == 0
    assert screen[0].endswith(" runs/a, finished" if end == "finished" else " runs/a")
    recorder.close()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_a_watch_that_was_started_with_hangups_ignored_keeps_ignoring_them() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with module._full_screen():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert callable(signal.getsignal(signal.SIGTERM))
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_terminal_without_unicode_and_colour_is_shown_ascii_without_colour(watcher: Callable[..., Watcher]) -> None:
    recorded("runs/a", 3)
    view = watcher("runs/a", LANG="C", NO_COLOR="1")
    view.process.wait(60)
    screen = view.until(has("head.weight"))
    assert screen[0].startswith("steepest | AdamW") and screen[0].endswith("runs/a, finished")
    assert view.text.isascii() and "\x1b[3" not in view.text


def test_a_resized_terminal_is_filled_anew(watcher: Callable[..., Watcher]) -> None:
    recorder = recorded("runs/a", 2, finished=False)
    view = watcher("runs/a")
    view.until(has("step 20 "))
    import termios

    termios.tcsetwinsize(view.other, (12, 44))
    screen = view.until(lambda screen: screen[-1].startswith("q end") and len(screen) == 11)
    assert max(map(len, screen)) < 44
    view.press("q")
    view.ended()
    recorder.close()


def test_help_and_the_list_of_commands_name_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "--help"]) == 0
    assert "--once" in capsys.readouterr().out
    assert main(["--help"]) == 0
    assert "a monitored run, live while it trains" in " ".join(capsys.readouterr().out.split())
