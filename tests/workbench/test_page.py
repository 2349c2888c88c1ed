"""The page of a comparison: what stands on it, that it needs nothing else, and that a browser draws it and reacts."""

from __future__ import annotations

import importlib
import io
import json
import math
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from steepest.pages import sheet
from steepest.workbench.page import page, write
from steepest.workbench.results import Result
from steepest.workbench.tables import table
from tests.browser import assert_loads_nothing, browse, text_of
from tests.workbench.made_results import QUALITIES, made_entry, made_result, made_workload

HOSTILE = "</script><script>document.title='broken'</script>&\"'"
MANY = {**QUALITIES, **{f"opt{i}(momentum=0.9)": 0.3 + 0.01 * i for i in range(16)}}


@pytest.fixture(scope="module")
def result() -> Result:
    return made_result([made_workload(target=0.3)])


def test_the_answer_comes_first_and_all_parts_follow(result: Result) -> None:
    said = text_of(page(result))
    order = [
        "Use adamw (tuned) for digits-mlp: median loss 0.1999", "How sure", "What it costs", "steepest.chain(&#39;adamw&#39;)",
        "Learning curves.", "Learning-rate sensitivity.", "What tuning buys.", "All trials along each hyperparameter", "beta1",
        "nesterov", "All results", "learning rate searched", "its defaults",
        "On the validation part, and what it took", "best moment", "rate area", "0.844 over 4.0",
        "What was searched and what was not", "log-uniform in",
        "How it was done", "Not tuned:", "steepest compare --workload digits-mlp", "2 cores, x86_64", "numpy 2.4.6",
        "took 7 min 1 s with 2 processes of 1 thread", "1000, 1001",
        "The work", "batch size", "5a5a5a5a5a5a5a5a c0ffee",
    ]  # fmt: skip
    positions = [said.find(part) for part in order]
    assert -1 not in positions, [part for part, at in zip(order, positions, strict=True) if at < 0]
    assert positions[:4] == sorted(positions[:4]) and positions[4:8] == sorted(positions[4:8])
    assert "Performance profiles" not in said
    assert "lion (lr)" in said  # the warning of an edge


def test_four_workloads_get_profiles_and_an_answer_each(result: Result) -> None:
    said = text_of(
        page(made_result([made_workload(f"work{i}", accuracy=i == 1) for i in range(4)], trials=2, seeds=range(5)))
    )
    assert "Over 4 workloads adamw comes closest to the best" in said and "Performance profiles." in said
    assert all(re.search(f"(Use adamw .* for|Undecided on) work{i}[:.]", said) for i in range(4))


def test_four_workloads_with_targets_get_a_table_of_who_is_quicker() -> None:
    works = [made_workload(f"work{i}", accuracy=i == 1, target=0.9 if i == 1 else 0.3) for i in range(4)]
    result = made_result(works, seeds=range(5))
    said = text_of(page(result))
    # of the 20 runs of sgd 15 miss the target, on all workloads but that with an accuracy
    assert "Times as quick as adamw." in said and "sgd(momentum=0.9) at most 0.664 (0.658 to 0.67) 15 0 0 20" in said
    assert "adamw is the reference" in said
    assert "Times as quick" not in text_of(page(replace(result, workloads=result.workloads[:3])))
    shown = Console(width=120, file=io.StringIO())
    shown.print(*table(result))
    assert "times as quick to the targets as adamw, in steps" in shown.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert "at most 0.664 (0.658 to 0.67)" in shown.file.getvalue()  # type: ignore[attr-defined]  # a StringIO


def test_a_run_costs_what_it_took_and_times_the_quickest_workload() -> None:
    works = [made_workload("quick"), made_workload("slow"), made_workload("slowest")]
    made = made_result(works, seeds=range(3), trials=2)
    seconds = {"quick": 1.0, "slow": 2.5, "slowest": 130.0}
    slower = tuple(
        replace(e, runs=tuple(replace(run, seconds=seconds[e.workload]) for run in e.runs)) for e in made.entries
    )
    said = text_of(page(replace(made, entries=slower)))
    assert (
        "quick 32 500 1 0 5a5a" in said
        and "slow 32 500 2.5 2.5 0 5a5a" in said
        and "slowest 32 500 130 130 0 5a5a" in said
    )


def test_results_of_an_older_version_are_read_and_shown(result: Result) -> None:
    data = json.loads(result.to_json())
    del data["facts"]["threads"]
    for facts in data["workloads"]:
        for name in ("batch", "data", "split_seed", "digest"):
            del facts[name]
    older = Result.from_json(json.dumps(data))
    assert (older.facts.threads, older.workloads[0].batch, older.workloads[0].digest) == (None, None, "")
    assert older.entries == result.entries
    said = text_of(page(older))
    assert "took 7 min 1 s with 2 processes search seeds" in said and "digits-mlp 500 0.3 1 The hash is" in said


def test_the_page_asks_the_network_for_nothing(result: Result) -> None:
    library = sheet.library()
    ours = page(result).replace(library, "")
    assert len(ours) < len(library)
    assert re.findall(r"(?:src|href)=[\"']?(?!#)[^ >]*", ours) == []
    assert "http://" not in ours and "https://" not in ours and "@import" not in ours and "url(" not in ours
    assert_loads_nothing(page(result))


def test_a_browser_draws_every_picture_without_an_error_and_a_click_on_a_name_hides_its_line(
    result: Result, tmp_path: Path
) -> None:
    script = """
      const boxes = deep(document, ".bk-Figure").map((e) => e.getBoundingClientRect());
      const lines = () => roots()[0].renderers.filter((r) => r.name == "adam").map((r) => r.visible);
      const item = deep(document, ".bk-item").find((e) => e.textContent == "adam");
      const click = () => item.dispatchEvent(new PointerEvent("pointerdown"));
      const before = lines();
      click();
      const hidden = lines();
      click();
      return {pictures: roots().length, drawn: boxes.filter((b) => b.width > 200 && b.height > 150).length,
              beyond: document.documentElement.scrollWidth - document.documentElement.clientWidth, before, hidden, after: lines()};
    """
    drawn = browse(page(result), tmp_path, script)
    assert drawn.console == []
    clicked = {"before": [True], "hidden": [False], "after": [True]}
    assert drawn.said() == {"pictures": 6, "drawn": 6, "beyond": 0, **clicked}


def test_pictures_that_are_drawn_before_printing_fit_on_half_a_page(tmp_path: Path) -> None:
    works = [made_workload(f"work{i}", target=0.3) for i in range(4)]
    script = """
      const wide = (where) => deep(document.querySelector(where), "canvas").map((e) => e.getBoundingClientRect().width);
      const rules = [...document.styleSheets].flatMap((s) => [...s.cssRules]).filter((r) => r.media?.mediaText == "print");
      const zoom = [...rules[0].cssRules].find((r) => r.selectorText?.startsWith("figure")).style.zoom;
      return {one: Math.max(...wide(".plots")), both: Math.max(...wide(".both")), zoom};
    """
    for width in (640, 800, 1280):
        said = browse(page(made_result(works, seeds=range(5), trials=2)), tmp_path, script, width)
        found = {name: float(value) for name, value in said.said().items()}  # type: ignore[arg-type]  # numbers
        across = (210 - 2 * 12) / 25.4 * 96  # pixels between the margins of a page of A4
        assert 200 < found["one"] * found["zoom"] < across / 2
        assert 200 < found["both"] * found["zoom"] < across


@pytest.mark.parametrize(("workloads", "pictures"), [(1, 6), (4, 25)])
def test_a_phone_of_390_pixels_is_wide_enough(workloads: int, pictures: int, tmp_path: Path) -> None:
    works = [made_workload(f"work{i}", target=0.3) for i in range(workloads)]
    (tmp_path / "inner.html").write_text(page(made_result(works, seeds=range(5))), encoding="utf-8")
    outer = "<body><iframe src='inner.html' style='border:0;width:390px;height:4000px'></iframe></body>"
    script = """
      const inner = document.querySelector("iframe").contentDocument;
      const boxes = deep(inner, ".bk-Figure").map((e) => e.getBoundingClientRect());
      return {width: inner.documentElement.clientWidth, drawn: boxes.filter((b) => b.width > 300 && b.right <= 390).length,
              beyond: inner.documentElement.scrollWidth - inner.documentElement.clientWidth};
    """
    assert browse(outer, tmp_path, script, width=500).said() == {"width": 390, "drawn": pictures, "beyond": 0}


def test_names_are_escaped_in_the_words_and_in_the_pictures(tmp_path: Path) -> None:
    hostile = replace(made_workload(HOSTILE), about=HOSTILE, source=HOSTILE, metric="loss")
    html = page(made_result([hostile], {HOSTILE: 0.2, "adam": 0.3}, unfinished=(HOSTILE,)))
    assert HOSTILE not in html
    drawn = browse(
        html, tmp_path, "return {title: document.title, names: deep(document, '.bk-item').map((e) => e.textContent)}"
    )
    assert drawn.console == []
    said = drawn.said()
    assert said["title"] == "steepest compare"
    assert HOSTILE in said["names"]  # type: ignore[operator]  # a list


def test_ten_thousand_trials_stay_below_two_megabytes_and_are_thinned_aloud(
    record_property: pytest.RecordProperty, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("lr", "beta1", "beta2", "eps", "weight_decay", "nesterov")
    many = made_result(trials=2500, names=names)
    assert sum(len(e.trials) for e in many.entries) > 10_000
    begun = time.perf_counter()
    html = page(many)
    seconds = time.perf_counter() - begun
    with capsys.disabled():
        print(f" {seconds:.1f} s, {len(html.encode()):,} bytes", end=" ")
    assert len(html.encode()) < 2_000_000
    assert "600 of 10,000 trials are drawn, the best of each optimizer among them." in text_of(html)
    assert seconds < 60  # a sanity check: it takes 2 s on an idle machine


def test_what_does_not_fit_is_left_out_aloud_and_the_table_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("steepest.workbench.page"), "LIMIT", 1_400_000)
    html = page(made_result([made_workload(f"work{i}") for i in range(2)], MANY, seeds=range(5), trials=4))
    assert len(html.encode()) < 1_400_000
    said = text_of(html)
    assert "Left out to keep this page below 2 MB, but in results.json: the curves of work1; " in said
    assert "what was searched on work0, work1; the trials of work0, work1." in said
    assert said.count("opt15(momentum=0.9)") >= 6
    assert "Drawn are the 10 best of 20; the table has all." in said


def test_failures_stay_on_the_page() -> None:
    facts = made_workload()
    failing = dict.fromkeys(range(6), math.nan)
    entries = [made_entry(facts, name, "default", failing) for name in ("sgd", "lion")]
    whole = replace(made_result([facts], seeds=range(6)), entries=tuple(entries))
    said = text_of(page(whole))
    reason = "The first, lion with seed 0: step 250: the training loss is nan."
    assert f"Nothing to recommend for digits-mlp. All 12 runs failed. {reason}" in said
    assert said.count("failed failed 6 of 6") == 2  # median and mean, without an interval


def test_a_search_names_its_command_and_counts_what_it_stopped_early(result: Result) -> None:
    tuned = result.entries[2]
    stopped = tuple(replace(trial, stopped=i > 2) for i, trial in enumerate(tuned.trials))
    facts = replace(result.facts, tool="tune", earlier=7)
    html = page(replace(result, facts=facts, entries=(result.entries[0], replace(tuned, trials=stopped))))
    assert "<title>steepest tune</title>" in html
    said = text_of(html)
    assert "steepest tune · 1 workload, 1 optimizer, 10 seeds" in said
    assert "17 of 20 trials fell behind and were stopped early: they are not drawn. All others are drawn." in said
    assert "Trials that were stopped early count as worse than all others." in said
    assert "20 (17 stopped early" in said
    assert "took 7 min 1 s (this last command alone; 7 runs were there from earlier ones) with 2 processes" in said


@pytest.mark.parametrize("tracks", [("default",), ("rate",), ("tuned",)])
def test_one_track_alone_makes_a_page(tracks: tuple[str, ...]) -> None:
    said = text_of(page(made_result(tracks=tracks, seeds=(0,), trials=2)))  # type: ignore[arg-type]  # of literals
    assert "Too few seeds to tell optimizers apart on digits-mlp." in said


def test_an_interrupted_comparison_without_a_run_makes_a_page() -> None:
    nothing = replace(made_result(), entries=(), unfinished=("adam", "sgd"))
    said = text_of(page(nothing))
    assert "Interrupted, not finished: adam, sgd." in said and "No optimizer has been judged yet." in said


def test_write_leaves_the_page_and_results_that_can_be_read_again(result: Result, tmp_path: Path) -> None:
    report, data = write(result, tmp_path / "out" / "here")
    assert (report.name, data.name) == ("report.html", "results.json")
    assert "<h2>Use adamw" in report.read_text(encoding="utf-8")
    again = Result.from_json(data.read_text(encoding="utf-8"))
    assert again.workloads == result.workloads and again.entries[-1].trials == result.entries[-1].trials


def test_the_table_calls_the_range_of_few_seeds_a_range() -> None:
    def heading(result: Result) -> str:
        shown = Console(width=160, file=io.StringIO())
        shown.print(*table(result))
        return shown.file.getvalue()  # type: ignore[attr-defined,no-any-return]  # a StringIO

    few, many = (heading(made_result(seeds=range(n), trials=2)) for n in (5, 6))
    assert "range" in few and "95 % interval" not in few
    assert "95 % interval" in many and "range" not in many
    whole = made_result(seeds=range(6), trials=2)
    begun = replace(whole, entries=(replace(whole.entries[0], runs=whole.entries[0].runs[:2]), *whole.entries[1:]))
    mixed = heading(begun)
    assert "95 % interval or range" in mixed and mixed.count("range: ") == 1
