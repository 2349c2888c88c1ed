"""The live view in the terminal: what it draws for every size, how it shares a terminal with others, and lines elsewhere."""

from __future__ import annotations

import io
import logging
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from steepest.checks import printable
from steepest.monitor import terminal as module
from steepest.monitor.marks import ASCII, UNICODE, Glyphs, gauge, glyphs, shortened, sparkline
from steepest.monitor.records import Event, Record, Run
from steepest.monitor.signs import levels
from steepest.monitor.terminal import SHARE, Terminal
from steepest.monitor.terminal.course import Course, Curve
from steepest.monitor.terminal.others import encodable, is_capable
from steepest.monitor.terminal.screen import Screen
from steepest.monitor.terminal.view import plain, view
from tests.monitor.screens import NAMES, Tty, facts, record, shown
from tests.needed import require_module

EVENTS = (
    Event(50, 50, "spike", "loss 8.1 is 3.2 times the mean before"),
    Event(300, 300, "skipped", "the step was skipped", ("head.weight", "embedding.weight")),
)


def course_of(records: list[Record], events: tuple[Event, ...] = ()) -> Course:
    made = Course(facts())
    made.add(Run.of(made.facts, records, events))
    return made


def suspicious() -> Course:
    records = [record(10 * i, facts(), loss=8 / i, clipped=0.25) for i in range(1, 30)]
    bad = record(
        300, facts(), loss=8 / 30, ratios={"blocks.1.mlp.weight": 0.05, "blocks.0.mlp.weight": 0.02}, clipped=0.25
    )
    return course_of([*records, bad], EVENTS)


def text(course: Course, width: int, height: int | None = None, drawn: Glyphs = UNICODE, **options: object) -> str:
    lines = view(course, width, height, drawn=drawn, **options)  # type: ignore[arg-type]  # view's own
    return "\n".join("".join(piece for piece, _ in line).rstrip() for line in lines) + "\n"


# ---- the picture


def test_a_picture_of_eighty_columns_has_the_suspicious_layers_on_top_and_the_latest_alarm_first() -> None:
    assert (
        text(suspicious(), 80, 24, source="runs/a")
        == """\
steepest · AdamW · 8 tensors · 1,568 parameters                           runs/a
step 300  loss 0.2667  lr 0.001  100 steps/s  optimizer 10 % of step  3 s
loss         █▇▆▅▅▄▄▄▃▃▃▃▂▂▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁▁     0.267   0.267 … 8
grad norm    ▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅       0.5   0.5 … 0.5
update ratio ▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅     0.001   0.001 … 0.001
   layer                          grad norm ratio -6    -3    0  weights clipped
!! blocks.1.mlp.weight                 0.25  -1.3 ····─────●···        4    25 %
 ! blocks.0.mlp.weight                 0.25  -1.7 ····─────●···        4    25 %
   embedding.weight                    0.25  -3.0 ····──●──····        4    25 %
   b.0.a.in_projection.weight          0.25  -3.0 ····──●──····        4    25 %
   b.0.a.in_projection.bias            0.25  -3.0 ····──●──····        4    25 %
   b.1.a.in_projection.weight          0.25  -3.0 ····──●──····        4    25 %
   b.1.a.in_projection.bias            0.25  -3.0 ····──●──····        4    25 %
   head.weight                         0.25  -3.0 ····──●──····        4    25 %
── alarms ──────────────────────────────────────────────────────────────────────
update ratio step 300  0.05: blocks.1.mlp.weight
skipped      step 300  the step was skipped: head.weight and 1 more
spike        step 50  loss 8.1 is 3.2 times the mean before
"""
    )


def test_a_wide_picture_says_why_a_layer_is_on_top() -> None:
    rows = text(suspicious(), 120).splitlines()
    assert rows[6] == (
        "!! blocks.1.mlp.weight                          0.25  -1.3 ····─────●···        4    25 %  update ratio 0.05"
    )
    assert rows[9].endswith("25 %")


def test_a_narrow_and_low_picture_in_ascii_keeps_names_ratios_and_the_latest_alarms() -> None:
    assert (
        text(suspicious(), 44, 14, ASCII, source="runs/a")
        == """\
steepest | AdamW | 8 tensors          runs/a
step 300  loss 0.2667  lr 0.001  100 steps/s
optimizer 10 % of step  3 s
loss         #=:..___     0.267   0.267 .. 8
grad norm    ========       0.5   0.5 .. 0.5
update ratio ========     0.001
   layer                     grad norm ratio
!! blocks.1.mlp.weight            0.25  -1.3
 ! blocks.0.mlp.weight            0.25  -1.7
   embedding.weight               0.25  -3.0
   .. 5 more
-- alarms ----------------------------------
update ratio step 300  0.05: b.1.mlp.weight
skipped      step 300  the step was skippe..
"""
    )


@pytest.mark.parametrize("drawn", [UNICODE, ASCII])
def test_a_picture_fits_every_size_and_ascii_is_ascii(drawn: Glyphs) -> None:
    course = suspicious()
    for width in (*range(20, 60, 3), 79, 80, 100, 132, 200):
        for height in (*range(1, 31), 60, None):
            drawing = text(course, width, height, drawn, source="runs/2026-01-01-120000")
            assert max(map(len, drawing.splitlines())) <= width
            assert height is None or drawing.count("\n") <= height
            assert drawn is UNICODE or drawing.isascii()


def test_layers_are_scrolled_and_shown_in_the_models_order_on_demand() -> None:
    course = course_of([record(10, facts(), ratios={"head.weight": 0.02})])

    def rows(**options: object) -> list[str]:
        return [line.strip(" !").split("  ")[0] for line in text(course, 120, 6, **options).splitlines()[3:]]

    assert rows() == ["head.weight", NAMES[0], "… 6 more"]
    assert rows(by_suspicion=False) == [*NAMES[:2], "… 6 more, 1 of them worth a look"]
    assert rows(by_suspicion=False, skip=3) == [*NAMES[3:5], "… 3 more, 1 of them worth a look"]
    assert rows(by_suspicion=False, skip=6) == [*NAMES[6:8]]


def test_what_is_cut_off_below_is_counted_with_those_worth_a_look() -> None:
    bad = course_of([record(10, facts(), ratios=dict.fromkeys(NAMES, 0.02))])
    assert "   … 5 more, 3 of them worth a look\n" in text(bad, 100, 10)


def test_colours_say_how_far_a_matrix_is_from_healthy_and_leave_a_vector_grey() -> None:
    ratios = {"blocks.1.mlp.weight": 0.05, "blocks.0.mlp.weight": 0.02, "blocks.0.attention.in_projection.bias": 0.5}
    lines = view(course_of([record(10, facts(), ratios=ratios)]), 120)
    tones = {line[0][0].split()[-1]: next(style for piece, style in line if "●" in piece) for line in lines[6:14]}
    assert tones["blocks.1.mlp.weight"] == "bold red"
    assert tones["blocks.0.mlp.weight"] == "yellow"
    assert tones["head.weight"] == "green"
    assert tones["blocks.0.attention.in_projection.bias"] == "dim"


def test_a_run_without_records_losses_or_tensors_is_shown_as_what_it_has() -> None:
    course = Course(facts())
    assert text(course, 80, 24) == "steepest · AdamW · 8 tensors · 1,568 parameters\nwaiting for the first record\n"
    course.add(Run.of(course.facts, [Record(10, 10, 1.0, np.zeros(0), {"lr": 0.1, "lr[1]": 0.2, "accuracy": 0.5}, {})]))
    assert text(course, 80, 24).splitlines()[1:] == ["step 10  lr 0.1 … 0.2  10 steps/s  1 s  accuracy 0.5"]


def test_control_characters_of_names_and_messages_reach_no_terminal() -> None:
    course = Course(facts(["a\x1b[2Jb", "c\nd"]))
    course.add(Run.of(course.facts, [record(10, course.facts)], [Event(10, 10, "note", "x\x1b]0;title\x07\n\ty")]))
    assert "\x1b" not in (said := text(course, 80) + plain(course)) and "\x07" not in said
    assert printable("x\x1b]0;t\x07\n\ty") == r"x\x1b]0;t\x07 y"


# ---- what it is drawn with


def test_sparklines_show_the_largest_of_each_share_and_mark_what_is_not_finite() -> None:
    assert sparkline(np.arange(1.0, 5.0), 8) == "▁▃▆█"
    assert sparkline(np.array([1.0, 2.0, 4.0, 8.0, 16.0]), 8) == "▁▃▅▇█"  # logarithmic
    assert sparkline(np.array([0.0, 0.0, 9.0, 0.0, 1.0, 1.0]), 3) == "▁█▁"
    assert sparkline(np.array([1.0, math.nan, 2.0, math.inf, 3.0, 3.0]), 6) == "▁×▅×██"
    assert sparkline(np.array([1.0, math.nan, 2.0, 2.0]), 2) == "×▅"
    assert sparkline(np.array([-1e308, 1e308]), 2, ASCII) == "_#"
    assert sparkline(np.array([math.nan, math.inf]), 4, ASCII) == "!!"
    assert sparkline(np.zeros(0), 8) == ""


def test_gauges_end_at_both_ends() -> None:
    drawn = [gauge(value, -6, 0, (-4, -2), ASCII) for value in (0.0, 1e-9, 1e-2, 5.0, math.inf, math.nan)]
    assert drawn == [
        "O...-----....", "O...-----....", "....----O....", "....-----...O", "....-----...O", "....-----....",
    ]  # fmt: skip


@given(st.lists(st.text("abcdef_0", min_size=1, max_size=12), min_size=1, max_size=6).map(".".join), st.integers(0, 40))
def test_shortened_names_fit_and_keep_their_ends(name: str, width: int) -> None:
    for drawn in (UNICODE, ASCII):
        short = shortened(name, width, drawn)
        assert len(short) <= width
        assert short == name or len(name) > width
        assert width < 8 or short[-1] == name[-1]


def test_layers_stay_apart_by_their_numbers_when_names_are_shortened() -> None:
    names = [f"transformer.blocks.{i}.attention.query_key_value.weight" for i in range(12)]
    assert len({shortened(name, 20) for name in names}) == 12


@pytest.mark.parametrize(
    ("encoding", "environment", "expected"),
    [
        ("utf-8", {}, UNICODE),
        ("UTF8", {"LANG": "de_DE.UTF-8"}, UNICODE),
        ("utf-8", {"LANG": "C"}, ASCII),
        ("utf-8", {"LANG": "C", "LC_CTYPE": "C.UTF-8"}, ASCII),  # as Python leaves LANG=C
        ("utf-8", {"LANG": "C", "LC_ALL": "C.UTF-8"}, UNICODE),
        ("utf-8", {"LANG": "de_DE.UTF-8", "LC_ALL": "POSIX"}, ASCII),
        ("iso8859-1", {"LANG": "de_DE"}, ASCII),
        ("cp437", {}, ASCII),
        ("ascii", {}, ASCII),
        (None, {}, ASCII),
    ],
)
def test_unicode_is_drawn_where_encoding_and_locale_have_it(
    encoding: str | None, environment: dict[str, str], expected: Glyphs
) -> None:
    assert glyphs(encoding, environment) is expected


# ---- the course of a run


@given(st.lists(st.floats(0, 9) | st.just(math.nan) | st.just(math.inf), max_size=300))
def test_a_curve_keeps_its_largest_value_and_every_trouble_in_bounded_memory(values: list[float]) -> None:
    curve = Curve(8)
    curve.extend(values)
    kept = curve.values
    assert len(kept) <= 8
    assert np.isnan(kept).any() == any(not math.isfinite(one) for one in values)
    if values and all(map(math.isfinite, values)):
        assert kept.max() == max(values)
    if len(values) < 8:
        assert [one for one in kept if math.isfinite(one)] == [one for one in values if math.isfinite(one)]


@given(st.lists(st.integers(1, 7), min_size=1, max_size=12))
def test_a_run_taken_in_parts_looks_like_the_whole(sizes: list[int]) -> None:
    count, of = sum(sizes), facts()
    records = [
        record(10 * i, of, loss=9 / i, ratios={"head.weight": 0.1 if i % 5 == 0 else 1e-3}) for i in range(1, count + 1)
    ]
    parts = Course(of)
    for size, end in zip(sizes, np.cumsum(sizes).tolist(), strict=True):
        parts.add(Run.of(of, records[end - size : end]))
    assert text(parts, 120) == text(course_of(records), 120)


def test_the_last_record_of_a_closed_monitor_has_only_losses_and_takes_nothing_away() -> None:
    course = suspicious()
    before = text(course, 120).splitlines()
    course.add(Run.of(course.facts, [Record(307, 307, 3.07, np.full(7, 0.2), {}, {})], finished=True))
    after = text(course, 120).splitlines()
    assert (after[1], after[3:]) == (
        "step 307  loss 0.2  lr 0.001  100 steps/s  optimizer 10 % of step  3 s",
        before[3:],
    )
    assert course.finished


def test_a_loss_that_is_nan_is_an_alarm_and_one_that_was_not_given_is_none() -> None:
    def alarms(*losses: list[float | None]) -> list[str]:
        records = [
            Record(
                i, 2 * i, float(i), np.array(one, dtype=float), {"lr": 0.1}, {}, np.array([v is not None for v in one])
            )
            for i, one in enumerate(losses, 1)
        ]
        return [f"{one.first} {one.message}" for one in course_of(records).alarms.values()]

    nan = math.nan
    assert alarms([1.0, 1.0], [1.0, nan]) == ["2 loss nan"]
    assert alarms([None, None], [None, None]) == []
    assert alarms([1.0, None], [None, 2.0]) == []  # a loss with every second batch
    assert alarms([1.0, None], [nan, None]) == ["2 loss nan"]


@pytest.mark.parametrize(
    ("measured", "healthy", "worth_a_look", "alarming"),
    [
        ("update_norm", 4e-3, 4 * 0.011, 4 * 0.04),
        ("nonfinite_grads", 0, None, 1),
        ("grad_norm", 1e-9, 0, math.inf),
        ("grad_norm", 1e9, None, math.nan),
        ("weight_norm", 9.0, None, math.inf),
        ("spike", 2.2, None, 2.4),
        ("unmoved", 0.4, 0.6, None),
        ("trust_ratio", 9, 11, None),
        ("trust_ratio", 0.02, 0.009, None),
    ],
)
def test_each_sign_tells_a_healthy_value_from_others(
    measured: str, healthy: float, worth_a_look: float | None, alarming: float | None
) -> None:
    for value, expected in ((healthy, 0), (worth_a_look, 1), (alarming, 2)):
        if value is not None:
            values = np.full(len(NAMES), math.nan if measured in ("unmoved", "trust_ratio") else healthy)
            values[3] = value
            run = Run.of(facts(), [record(500, facts(), **{measured: values})])
            worst = np.max([level[0] for _, level in levels(run)], axis=0)
            assert worst.tolist() == [0, 0, 0, expected, 0, 0, 0, 0]


def test_a_layer_that_moves_a_hundred_times_less_than_the_others_is_left_behind_and_a_slow_run_is_not() -> None:
    slow = course_of([record(10, facts(), ratios=dict.fromkeys(NAMES, 1e-6))])
    assert "!" not in text(slow, 120)
    behind = course_of([record(10, facts(), ratios={"head.weight": 1e-6})])
    assert " ! head.weight" in text(behind, 120) and "hardly moves, ratio 1e-06" in text(behind, 120)


def test_a_spike_of_the_first_steps_and_a_bias_that_starts_from_zero_are_no_alarms() -> None:
    first = record(10, facts(), spike=30.0, ratios={"blocks.0.attention.in_projection.bias": 3.0})
    assert course_of([first]).alarms == {}


def test_tensors_without_a_gradient_at_this_step_are_blank_and_not_suspicious() -> None:
    missing = np.array([math.nan, *[1.0] * 7])
    course = course_of([record(10, facts(), grad_norm=missing, weight_norm=missing, update_norm=1e-3 * missing)])
    assert text(course, 80).splitlines()[6].split() == ["embedding.weight", "····─────····"]


# ---- lines, where nothing can be drawn


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=made))
    return made


def train(terminal: Terminal, clock: Clock, records: list[Record], seconds: float) -> None:
    for one in records:
        clock.now += seconds
        terminal.record(one)


def test_a_pipe_gets_a_line_every_five_seconds_and_the_last_one(clock: Clock) -> None:
    out, of = io.StringIO(), facts()
    terminal = Terminal(file=out)
    terminal.start(of)
    train(terminal, clock, [record(10 * i, of, loss=1 / i) for i in range(1, 101)], 0.125)
    terminal.close()
    rest = "grad norm 0.5  100 steps/s  update ratio up to 0.001: embedding.weight\n"
    seen = "step 10  loss 1", "step 410  loss 0.02439", "step 810  loss 0.01235", "step 1000  loss 0.01"
    assert out.getvalue() == "".join(f"{one}  {rest}" for one in seen)


def test_alarms_become_lines_at_once_and_then_as_often_as_they_have_doubled(clock: Clock) -> None:
    out, of = io.StringIO(), facts()
    terminal = Terminal(file=out)
    terminal.start(of)
    for i in range(1, 101):
        terminal.event(Event(i, i, "skipped", "the step was skipped"))
        train(terminal, clock, [record(i, of)], 2.0)
    lines = [line for line in out.getvalue().splitlines() if line.startswith("skipped")]
    assert lines == [f"skipped      {steps}  the step was skipped" for steps in (
        "step 1", "1-4 x4", "1-10 x10", "1-22 x22", "1-46 x46", "1-94 x94"
    )]  # fmt: skip


@pytest.mark.parametrize("refresh", [0.5, 60])
def test_refresh_is_the_time_between_two_lines(refresh: float, clock: Clock) -> None:
    out, of = io.StringIO(), facts()
    terminal = Terminal(file=out, refresh=refresh)
    terminal.start(of)
    train(terminal, clock, [record(10 * i, of) for i in range(1, 241)], 0.25)
    assert out.getvalue().count("\n") == 240 * 0.25 / refresh


def test_a_name_that_the_stream_cannot_encode_is_written_with_a_question_mark() -> None:
    raw = io.BytesIO()
    out, of = io.TextIOWrapper(raw, encoding="ascii"), facts(["schicht_ü.weight"])
    terminal = Terminal(file=out)
    terminal.start(of)
    terminal.record(record(10, of))
    assert raw.getvalue().endswith(b"up to 0.001: schicht_?.weight\n")
    assert encodable("ü", Tty()) == "ü"


def test_processes_after_the_first_show_nothing() -> None:
    out = io.StringIO()
    terminal = Terminal(file=out)
    terminal.start(facts(process=1))
    terminal.record(record(10, facts()))
    terminal.event(EVENTS[0])
    terminal.close()
    assert out.getvalue() == ""


def test_close_may_come_alone_and_twice_and_a_terminal_serves_a_second_run() -> None:
    out, of = io.StringIO(), facts()
    terminal = Terminal(file=out)
    terminal.close()
    for _ in range(2):
        terminal.start(of)
        terminal.record(record(10, of))
        terminal.close()
        terminal.close()
    assert out.getvalue().count("step 10 ") == 2


def test_mistakes_are_named() -> None:
    with pytest.raises(TypeError, match=r"^Terminal: live must be True, False or None, got 'yes'\.$"):
        Terminal(live="yes")  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TypeError, match=r"^Terminal: live must be True, False or None, got 0\.$"):
        Terminal(live=0)  # type: ignore[arg-type]  # equal to False, and not False
    with pytest.raises(ValueError, match=r"^Terminal: refresh must be > 0, got 0\.$"):
        Terminal(refresh=0)


def test_terminals_that_cannot_move_their_cursor_get_lines() -> None:
    assert is_capable(Tty(), {"TERM": "xterm"})
    assert not is_capable(Tty(), {"TERM": "dumb"})
    assert not is_capable(io.StringIO(), {"TERM": "xterm", "FORCE_COLOR": "1"})


# ---- a picture that shares its terminal


@pytest.fixture
def tty(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tty]:
    """A terminal of 60 columns and 20 lines."""
    made = Tty()
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "60", "LINES": "20"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "SHARE", math.inf)  # each record is shown, however slow the machine
    for name in ("NO_COLOR", "LC_ALL", "LANG"):
        monkeypatch.delenv(name, raising=False)
    yield made
    assert "write" not in vars(made)  # nobody listens any more


@contextmanager
def standard(tty: Tty) -> Iterator[None]:
    """The terminal as sys.stdout and sys.stderr. No fixture: pytest changes both between a fixture and its test."""
    with redirect_stdout(tty), redirect_stderr(tty):
        yield


def run_on(
    tty: Tty, between: Callable[[int], None], *, pause: float = 0.06, count: int = 6, **options: object
) -> list[str]:
    """What is on the terminal after a training in which something happens between records."""
    of, terminal = facts(), Terminal(refresh=0.001, **options)  # type: ignore[arg-type]  # Terminal's own
    with standard(tty):
        terminal.start(of)
        for i in range(1, count + 1):
            terminal.record(record(10 * i, of))
            time.sleep(pause)
            between(i)
        terminal.close()
    return shown(tty.getvalue(), columns=int(os.environ["COLUMNS"]))


def picture(step: int = 60) -> list[str]:
    lines = text(course_of([record(10 * i, facts()) for i in range(1, step // 10 + 1)]), 59, 15).splitlines()
    return lines


def test_prints_logging_and_warnings_stand_above_the_picture_in_their_order(tty: Tty) -> None:
    handler = logging.StreamHandler(tty)  # made before, and for the stream itself: a proxy would miss it
    logger = logging.Logger("training")
    logger.addHandler(handler)

    def between(i: int) -> None:
        print("printed", i)
        logger.warning("logged %d", i)
        print("one", i, end="\ntwo\n", file=sys.stderr)

    expected = [line for i in range(1, 7) for line in (f"printed {i}", f"logged {i}", f"one {i}", "two")]
    assert run_on(tty, between) == [*expected, *picture(), ""]


def test_a_line_that_is_written_in_pieces_or_over_and_over_is_not_torn(tty: Tty) -> None:
    def between(i: int) -> None:
        if i < 4:
            print(f"\r{10 * i} %", end="", flush=True)
        elif i == 4:
            print("\r100 %")
        else:
            print("evaluating …" if i == 5 else " done", end="" if i == 5 else "\n")

    assert run_on(tty, between) == ["100 %", "evaluating … done", *picture(), ""]


def test_each_picture_is_written_once_and_no_screen_is_cleared_from_its_first_character(tty: Tty) -> None:
    run_on(tty, lambda i: print("printed") if i == 3 else None)
    written = tty.getvalue()
    assert written.count("steepest ·") == 6 + 1 + 1  # each record, after the print, and the last
    assert not re.search(r"\x1b\[\d+A\x1b\[J", written)  # tmux would keep it as history, once for each picture


def test_a_line_left_open_at_the_end_keeps_its_text(tty: Tty) -> None:
    assert run_on(tty, lambda i: print("open", end="") if i == 6 else None) == ["open", *picture(), ""]


def test_while_a_line_stays_open_for_long_there_are_lines_instead(tty: Tty, clock: Clock) -> None:
    of, terminal = facts(), Terminal()
    with standard(tty):
        terminal.start(of)
        print("no end of this", end="")
        train(terminal, clock, [record(10 * i, of) for i in range(1, 7)], 1.0)
        terminal.close()
    lines = shown(tty.getvalue())
    assert [line.split("  ")[0] for line in lines[:3]] == [
        "no end of this",
        "step 50",
        "steepest · AdamW · 8 tensors · 1,568 parameters",
    ]


def test_under_a_progress_bar_of_tqdm_there_are_lines_above_it(tty: Tty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    tqdm = require_module("tqdm").tqdm
    bar = tqdm(total=6, desc="training", file=tty, mininterval=0, bar_format="{desc} {n}")
    lines = run_on(tty, lambda i: bar.update())
    bar.close()
    assert [line.split("  ")[0] for line in lines] == [*(f"step {10 * i}" for i in range(1, 7)), "training 6"]


def test_between_bars_the_picture_is_back_and_no_bar_loses_a_line(tty: Tty) -> None:
    tqdm = require_module("tqdm").tqdm

    def between(i: int) -> None:
        for _ in tqdm(
            range(3), desc=f"validation {i}", file=tty, mininterval=0, bar_format="{desc} {n}", leave=i % 2 == 0
        ):
            pass

    expected = [f"validation {i} 3" for i in (2, 4, 6)]
    assert run_on(tty, between) == [*expected, *picture(), ""]


def test_under_a_live_display_of_rich_there_are_lines_above_it(tty: Tty) -> None:
    from rich.console import Console
    from rich.live import Live

    of, terminal = facts(), Terminal(refresh=0.001)
    with standard(tty), Live("a display", console=Console(file=tty, force_terminal=True), auto_refresh=False):
        terminal.start(of)
        terminal.record(record(10, of))
        terminal.close()
    written = tty.getvalue()
    assert "step 10  loss 1" in written and "steepest ·" not in written


def test_of_two_terminals_the_second_writes_lines_above_the_picture_of_the_first(tty: Tty) -> None:
    of, others = facts(), facts(["critic.weight"])
    first, second = Terminal(refresh=0.001), Terminal(refresh=0.001)
    with standard(tty):
        first.start(of)
        second.start(others)
        for i in range(1, 7):
            first.record(record(10 * i, of))
            second.record(record(10 * i, others, loss=2.0))
            time.sleep(0.06)
        print("an epoch")
        first.close()
        seen = shown(tty.getvalue(), columns=60)
        second.close()
    told = [one[:15] for one in seen[: seen.index("an epoch")] if one.startswith("step")]
    assert told == [f"step {10 * i}  loss 2" for i in range(1, 7)]
    assert seen[seen.index("an epoch") + 1 :] == [*picture(), ""]


def test_when_the_first_of_two_terminals_is_closed_the_second_has_the_picture(tty: Tty) -> None:
    of, others = facts(), facts(["critic.weight"])
    first, second = Terminal(refresh=0.001), Terminal(refresh=0.001)
    with standard(tty):
        first.start(of)
        second.start(others)
        first.close()
        second.record(record(10, others))
        second.close()
    assert shown(tty.getvalue(), columns=60)[0].startswith("steepest · AdamW · 1 tensor")


def test_no_color_draws_without_colours(tty: Tty, monkeypatch: pytest.MonkeyPatch) -> None:
    def codes() -> set[str]:
        return {code for part in re.findall(r"\x1b\[([\d;]*)m", tty.getvalue()) for code in part.split(";")}

    monkeypatch.setenv("NO_COLOR", "1")
    run_on(tty, lambda i: None)
    assert codes() == {"0", "1", "2"}  # bold and dim
    monkeypatch.delenv("NO_COLOR")
    run_on(tty, lambda i: None)
    assert codes() == {"0", "1", "2", "32", "36"}


def test_a_terminal_without_unicode_gets_ascii(tty: Tty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "C")
    assert run_on(tty, lambda i: None)[0] == "steepest | AdamW | 8 tensors | 1,568 parameters"
    assert tty.getvalue().isascii()


def test_a_picture_is_drawn_where_a_stream_denies_being_a_terminal_but_the_user_knows_better(tty: Tty) -> None:
    out, of = io.StringIO(), facts()
    terminal = Terminal(live=True, file=out)
    terminal.start(of)
    terminal.record(record(10, of))
    terminal.close()
    assert shown(out.getvalue())[0].startswith("steepest | AdamW")


def test_a_terminal_made_narrower_since_the_last_picture_is_cleared_of_its_wrapped_lines(tty: Tty) -> None:
    screen = Screen(tty)
    screen.draw([[("x" * 50, "")], [("y", "")]])
    screen.console.width = 30  # the terminal has wrapped the first line by now
    screen.draw([[("z", "")]])
    screen.close()
    assert "\r\x1b[3A" in tty.getvalue()


def test_a_child_process_writes_what_it_writes(tty: Tty) -> None:
    with standard(tty):
        screen = Screen(tty)
        screen.draw([[("picture", "")]])
        screen._process += 1  # as after a fork
        before = tty.getvalue()
        print("from a worker")
        assert tty.getvalue() == before + "from a worker\n"
        screen.close()


def test_pictures_take_no_thread_and_at_most_half_a_percent_of_the_time(
    tty: Tty, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(module, "SHARE", SHARE)
    draw, drawn = Screen.draw, []

    def slow(screen: Screen, lines: list[list[tuple[str, str]]]) -> None:
        drawn.append(clock.now)
        clock.now += 0.01
        draw(screen, lines)

    monkeypatch.setattr(Screen, "draw", slow)
    before, of, terminal = threading.active_count(), facts(), Terminal()
    with standard(tty):
        terminal.start(of)
        train(terminal, clock, [record(i, of) for i in range(1, 2001)], 0.01)
        assert threading.active_count() == before
        terminal.close()
    assert np.diff(drawn[:-1]).min() >= 2.0


def test_records_wait_for_a_picture_in_bounded_memory(clock: Clock) -> None:
    of, terminal = facts(), Terminal(file=io.StringIO())
    terminal.start(of)
    train(terminal, clock, [record(i, of) for i in range(1, 1001)], 0.0)
    assert len(terminal._records) < module.KEPT
    terminal.close()


def test_lines_need_no_rich() -> None:
    code = """
import sys
sys.modules["rich"] = None
sys.stdout.isatty = lambda: True
from steepest.monitor.terminal import SHARE, Terminal
from tests.monitor.screens import facts, record
terminal = Terminal()
terminal.start(facts())
terminal.record(record(10, facts()))
terminal.close()
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "200"},
    )
    assert (run.stdout, run.stderr) == (
        "step 10  loss 1  grad norm 0.5  100 steps/s  update ratio up to 0.001: embedding.weight\n", ""
    )  # fmt: skip
