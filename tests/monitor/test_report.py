"""The page of a monitored run: what stands on it, that it needs nothing else, and that a browser draws it and reacts."""

from __future__ import annotations

import errno
import math
import os
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steepest.numpy as numpy_optimizers
from steepest import chain, clip_by_global_norm, sgd
from steepest.monitor import report as module
from steepest.monitor.doctor.finding import Finding, Series
from steepest.monitor.monitor import Monitor
from steepest.monitor.records import Event, Record, Run
from steepest.monitor.report import Report
from steepest.monitor.report.axis import Axis, bounds_of, steps_of_losses
from steepest.monitor.report.heat import LEVELS, heat_of
from steepest.monitor.report.memory import Memory, extremes
from steepest.monitor.report.page import page_of
from steepest.monitor.report.table import table_of
from steepest.pages import sheet
from steepest.workbench.cli import main
from tests.browser import assert_loads_nothing, browse, text_of
from tests.monitor.made_runs import MEASURED, made_facts, made_records, made_run

HOSTILE = "</script><script>document.title='broken'</script>&\"'"
EVENTS = (
    Event(300, 300, "spike", "loss 3.1 is 4 times its mean"),
    Event(900, 900, "spike", "loss 2.9 is 3 times its mean"),
    Event(950, 950, "rewound", "back to step 800"),
)
FINDING = Finding(
    "learning_rate_too_high", "The learning rate is too high", 0.8, "From step 500 on the loss rose from 0.3 to 2.1.",
    (Series("grad_norm", ("blocks.1.linear.bias",), 500, 600),), "", "Smith 2017", "Take a third of it.",
    "steepest.adamw(lr=3e-4)", 500,
)  # fmt: skip


@pytest.fixture(scope="module")
def run() -> Run:
    return made_run(6, 200, events=EVENTS, accuracy=0.9)


# ---- what stands on it


def test_what_matters_comes_first_and_everything_else_follows(run: Run) -> None:
    said = text_of(page_of(run, [FINDING]))
    order = [
        "AdamW: 2,000 steps in 20 s; the loss went from 2.2", "clip_by_global_norm &gt; scale_by_adam &gt; descend",
        "mean of the last 40 calls", "10.0 % in the optimizer",
        "The learning rate is too high", "From step 500 on", "Take a third of it.", "steepest.adamw(lr=3e-4)",
        "80 % sure, from step 500.",
        "Smith 2017",
        "Not looked for, as nothing was measured that would show it: dead units (activations_dead)",
        "spike : 2 times, first at step 300, last at 900. loss 2.9 is 3 times its mean", "rewound : at step 950.",
        "Over the steps", "Loss.", "Gradient norm.", "clipped beyond 2", "Learning rate", "Gradient norm by layer.",
        "Update-to-weight ratio.", "Weight norm.", "Distance from the first weights.", "Clipped elements.", "Trust ratio.",
        "Layer by layer", "update ratio : update_norm / weight_norm .", "All layers",
        "Time and other numbers", "Time of a step. The optimizer takes 10.0 % of it.", "accuracy",
        "Layers at step 2,000", "weight 64×32 0.",
        "What it was set to", "max_norm 2, lr 0.001, betas 0.9, 0.999", "6,336 in 6 tensors, float32", "exp_avg (float32)",
        "every 10 steps", "batch_size 32", "pass 2: writes param",
    ]  # fmt: skip
    positions = [said.find(part) for part in order]
    assert -1 not in positions, [part for part, at in zip(order, positions, strict=True) if at < 0]
    assert positions == sorted(positions)
    assert "Nothing found" not in said


def test_a_healthy_run_says_so_and_a_remark_is_no_alarm(run: Run) -> None:
    assert "Nothing found The doctor looked at 6 layers and found nothing to change." in text_of(page_of(run))
    remark = text_of(page_of(run, [replace(FINDING, confidence=0.3)]))
    assert "Nothing alarming. 1 remark: The learning rate is too high" in remark and "Nothing found" not in remark


def test_a_finding_that_follows_from_another_names_it(run: Run) -> None:
    after = replace(FINDING, cause="loss_does_not_fall", title="The loss rises", explained_by=FINDING.cause)
    assert "It may follow from «The learning rate is too high»." in text_of(page_of(run, [FINDING, after]))


def test_a_layer_that_stands_out_comes_first_in_the_table_with_the_reason(run: Run) -> None:
    tensors = run.tensors | {"nonfinite_grads": run.tensors["nonfinite_grads"].copy()}
    tensors["nonfinite_grads"][-1, 3] = 7
    said = text_of(page_of(replace(run, tensors=tensors)))
    assert "Those that stand out come first." in said
    first = said[said.index("Layers at step 2,000") :]
    assert "blocks.1.linear.bias 64 7 gradients nan or infinite" in first
    assert first.index("blocks.1.linear.bias") < first.index("blocks.0.linear.weight")


def test_a_tensor_of_one_number_is_a_scalar_in_the_table_and_in_the_heat_map(run: Run) -> None:
    first, *rest = run.facts.tensors
    scalar = replace(run, facts=replace(run.facts, tensors=(replace(first, shape=()), *rest)))
    assert table_of(scalar).rows[0].shape == "scalar"
    heat = heat_of(scalar, Axis(scalar))
    assert heat is not None and heat.about["names"][0] == f"{first.name} scalar"


def test_a_page_of_a_run_that_goes_on_says_so(run: Run) -> None:
    said = text_of(page_of(replace(run, finished=False)))
    assert "while training went on; or it ended without closing the monitor." in said
    assert "went on" not in text_of(page_of(run))


def test_the_page_asks_the_network_for_nothing(run: Run) -> None:
    library = sheet.library()
    ours = page_of(run, [FINDING]).replace(library, "")
    assert len(ours) < len(library)
    assert re.findall(r"(?:src|href)=[\"']?(?!#)[^ >]*", ours) == []
    assert "http://" not in ours and "https://" not in ours and "@import" not in ours and "url(" not in ours
    assert_loads_nothing(page_of(run, [FINDING]))


def test_a_browser_loads_nothing_for_names_that_look_like_formulas_or_tags(tmp_path: Path) -> None:
    formula = "$$x^2$$<img src='http://127.0.0.1:9/a.png'>"
    made = made_run(6, 200, **{formula: 0.9})
    named = tuple(replace(one, name=f"{formula}{number}") for number, one in enumerate(made.facts.tensors))
    html = page_of(replace(made, facts=replace(made.facts, tensors=named, notes={formula: formula})))
    script = """
      for (const root of roots()) for (const axis of [...(root.below || []), ...(root.left || [])])
        if (axis.axis_label) labels.push(axis.axis_label.text ?? axis.axis_label);
      return {requests: performance.getEntriesByType("resource").map((one) => one.name), labels,
              scripts: [...document.scripts].map((one) => one.src).filter(Boolean),
              images: document.images.length, drawn: deep(document, ".bk-Figure").length};
    """
    drawn = browse(html, tmp_path, f"const labels = []; {script}")
    said: dict[str, Any] = drawn.said()
    assert (said["requests"], said["scripts"], said["images"], drawn.console) == ([], [], 0, [])
    assert said["drawn"] > 8
    assert any(label.startswith("$$x^2$$") for label in said["labels"])


# ---- in a browser

LOOK = """
  const heat = () => Bokeh.documents[0].get_model_by_name("heat cells");
  const axis = () => Bokeh.documents[0].get_model_by_name("heat axis");
  const course = () => Array.from(Bokeh.documents[0].get_model_by_name("heat course").data_source.data.y);
  const canvas = () => {  // the colours of the heat map, in the middle of its cells
    const view = Bokeh.index.query_one((v) => v.model === heat());
    const one = view.parent.canvas_view.primary, at = view.parent.frame.bbox;
    const box = [at.left, at.top, at.width, at.height].map((v) => v * one.pixel_ratio);
    const part = one.ctx.getImageData(...box).data;
    let sum = 0;
    for (let i = 0; i < part.length; i += 4) sum += part[i] * 3 + part[i + 1] * 5 + part[i + 2] * 7;
    return sum;
  };
"""


def test_a_browser_draws_every_picture_without_an_error_and_another_measurement_changes_the_heat_map(
    run: Run, tmp_path: Path
) -> None:
    script = (
        LOOK
        + """
      const boxes = deep(document, ".bk-Figure").map((e) => e.getBoundingClientRect());
      const select = document.getElementById("heat-measurement");
      const now = () => ({field: heat().glyph.image.field, labels: [...axis().major_label_overrides.values()], course: course()});
      const before = now(), sum = canvas();
      select.value = "grad_norm";
      select.dispatchEvent(new Event("change"));
      const after = now();
      return {pictures: roots().length, drawn: boxes.filter((b) => b.width > 200 && b.height > 150).length,
              beyond: document.documentElement.scrollWidth - document.documentElement.clientWidth,
              fields: [before.field, after.field], labels: before.labels.join() != after.labels.join(),
              courses: before.course.join() != after.course.join(), colours: sum > 0,
              title: [...document.querySelectorAll(".heat-title")].map((e) => e.textContent),
              meaning: document.getElementById("heat-meaning").textContent, options: select.options.length};
    """
    )
    drawn = browse(page_of(run, [FINDING]), tmp_path, script)
    assert drawn.console == []
    assert drawn.said() == {
        "pictures": 13, "drawn": 13, "beyond": 0, "fields": ["update_ratio", "grad_norm"], "labels": True, "courses": True,
        "colours": True, "title": ["grad norm", "grad norm"], "options": len(MEASURED) + 2,
        "meaning": "length of the gradient as it arrives, before any clipping",
    }  # fmt: skip


def test_the_heat_map_is_redrawn_in_other_colours(run: Run, tmp_path: Path) -> None:
    def sum_of(html: str, chosen: str) -> object:
        change = f"""{LOOK} const select = document.getElementById("heat-measurement");
          select.value = "{chosen}"; select.dispatchEvent(new Event("change"));
          const now = Bokeh.index.query_one((v) => v.model === heat()).parent; now.paint(); return {{sum: canvas()}};"""
        return browse(html, tmp_path, change).said()["sum"]

    html = page_of(run)
    assert len({sum_of(html, name) for name in ("update_ratio", "cosine", "zero_grads")}) == 3


def test_a_click_on_a_layer_shows_its_course_and_a_findings_button_its_evidence(run: Run, tmp_path: Path) -> None:
    script = (
        LOOK
        + """
      const name = () => document.getElementById("heat-layer").textContent;
      const first = [name(), course()];
      const plot = Bokeh.index.query_one((v) => v.model === heat()).parent, at = plot.frame.bbox;
      const box = plot.canvas_view.events_el.getBoundingClientRect();
      const place = {clientX: box.left + at.left + at.width / 2, clientY: box.top + at.bottom - 3, bubbles: true};
      for (const kind of ["pointerdown", "pointerup"])
        plot.canvas_view.events_el.dispatchEvent(new PointerEvent(kind, {...place, pointerId: 1, isPrimary: true, buttons: 1}));
      await soon();
      const last = [name(), course()];
      const said = steepest.said(1000, 0.5);
      document.querySelector(".see").click();
      return {names: [first[0], last[0], name()], differ: first[1].join() != last[1].join(), said,
              measurement: document.getElementById("heat-measurement").value, field: heat().glyph.image.field};
    """
    )
    drawn = browse(page_of(run, [FINDING]), tmp_path, script)
    assert drawn.console == []
    said = drawn.said()
    assert said["names"] == ["blocks.0.linear.weight 64×32", "blocks.2.linear.bias 64", "blocks.1.linear.bias 64"]
    assert said["differ"] and (said["measurement"], said["field"]) == ("grad_norm", "grad_norm")
    value = float(run.tensors["update_ratio"][99, 5])
    found = re.fullmatch(r"blocks.2.linear.bias 64, step 1000: about ([\d.e-]+)", str(said["said"]))
    assert found is not None and float(found[1]) == pytest.approx(value, rel=0.1)


def test_a_click_on_a_column_sorts_the_table_by_it(run: Run, tmp_path: Path) -> None:
    script = """
      const heads = [...document.querySelectorAll("#layers th")], at = heads.findIndex((e) => e.textContent == "grad norm");
      const column = () => [...document.querySelectorAll("#layers tbody tr")].map((row) => parseFloat(row.cells[at].textContent));
      heads[at].querySelector("button").click();
      const down = column();
      heads[at].querySelector("button").click();
      return {down, up: column(), sorted: heads[at].getAttribute("aria-sort")};
    """
    said: dict[str, Any] = browse(page_of(run), tmp_path, script).said()
    assert said["down"] == sorted(said["down"], reverse=True) and said["up"] == said["down"][::-1]
    assert len(set(said["down"])) == 6 and said["sorted"] == "ascending"


def test_all_pictures_share_the_axis_of_steps(run: Run, tmp_path: Path) -> None:
    script = """
      const ranges = new Set(roots().map((plot) => plot.x_range));
      [...ranges][0].setv({start: 500, end: 600});
      return {ranges: ranges.size, starts: roots().map((plot) => plot.x_range.start)};
    """
    assert browse(page_of(run), tmp_path, script).said() == {"ranges": 1, "starts": [500] * 13}


def test_a_phone_of_390_pixels_is_wide_enough(tmp_path: Path) -> None:
    (tmp_path / "inner.html").write_text(page_of(made_run(40, 60, events=EVENTS), [FINDING]), encoding="utf-8")
    outer = "<body><iframe src='inner.html' style='border:0;width:390px;height:8000px'></iframe></body>"
    script = """
      const inner = document.querySelector("iframe").contentDocument;
      const boxes = deep(inner, ".bk-Figure").map((e) => e.getBoundingClientRect());
      return {width: inner.documentElement.clientWidth, drawn: boxes.filter((b) => b.width > 300 && b.right <= 390).length,
              beyond: inner.documentElement.scrollWidth - inner.documentElement.clientWidth};
    """
    assert browse(outer, tmp_path, script, width=500).said() == {"width": 390, "drawn": 12, "beyond": 0}


def test_pictures_that_are_drawn_before_printing_fit_on_a_page(run: Run, tmp_path: Path) -> None:
    script = """
      const wide = (where) => deep(document.querySelector(where), "canvas").map((e) => e.getBoundingClientRect().width);
      const print = [...document.styleSheets].flatMap((s) => [...s.cssRules]).filter((r) => r.media?.mediaText == "print")
        .flatMap((r) => [...r.cssRules]);
      const zoom = (start) => print.find((r) => r.selectorText?.startsWith(start) && r.style.zoom).style.zoom;
      return {one: Math.max(...wide(".plots")), broad: Math.max(...wide(".broad")), zoom: zoom("figure"),
              less: zoom(".broad figure")};
    """
    across = (210 - 2 * 12) / 25.4 * 96  # pixels between the margins of a page of A4
    for width in (640, 1280, 1920):
        said = {k: float(v) for k, v in browse(page_of(run), tmp_path, script, width).said().items()}  # type: ignore[arg-type]  # numbers
        assert 200 < said["one"] * said["zoom"] < across / 2
        assert 200 < said["broad"] * said["less"] < across


def test_names_are_escaped_in_the_words_in_the_pictures_and_under_the_pointer(tmp_path: Path) -> None:
    facts = made_facts(2, optimizer=HOSTILE, chains=(HOSTILE,), notes={HOSTILE: HOSTILE}, plan=HOSTILE)
    facts = replace(facts, tensors=tuple(replace(one, name=f"{i}{HOSTILE}") for i, one in enumerate(facts.tensors)))
    run = Run.of(facts, made_records(facts, 20, **{HOSTILE: 1.0}), [Event(5, 5, HOSTILE, HOSTILE)], True)
    html = page_of(run, [replace(FINDING, title=HOSTILE, evidence=HOSTILE, code=HOSTILE)])
    assert HOSTILE not in html
    script = """
      return {title: document.title.startsWith("<\\/script>"), under: steepest.said(100, 0.5),
              names: deep(document, '.bk-item').map((e) => e.textContent)}"""
    drawn = browse(html, tmp_path, script)
    assert drawn.console == []
    said: dict[str, Any] = drawn.said()
    assert said["title"] and said["under"].startswith(f"1{HOSTILE} 64, step 100")
    assert f"{HOSTILE} (1)" in said["names"]


# ---- whatever a run has


def test_a_run_without_a_record_makes_a_page(tmp_path: Path) -> None:
    html = page_of(Run.of(made_facts(), [], finished=True))
    said = text_of(html)
    assert "AdamW: no record yet." in said and "What it was set to" in said
    assert "Over the steps" not in said and "Layer by layer" not in said
    drawn = browse(html, tmp_path, "return {plots: deep(document, '.bk-Figure').length}")
    assert (drawn.console, drawn.said()) == ([], {"plots": 0})


def test_a_run_with_one_record_shows_its_values_as_points(tmp_path: Path) -> None:
    html = page_of(made_run(3, 1))
    assert "AdamW: 10 steps in 0 s" in text_of(html) and "Layers at step 10" in text_of(html)
    script = """
      const points = roots().flatMap((p) => p.renderers).filter((r) => r.glyph?.type == "Scatter").length;
      return {points: points > 8, plots: deep(document, ".bk-Figure").length}"""
    drawn = browse(html, tmp_path, script)
    assert (drawn.console, drawn.said()) == ([], {"points": True, "plots": 12})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_run_whose_values_are_all_not_finite_makes_a_page(value: float, tmp_path: Path) -> None:
    facts = made_facts(3)
    bad = [
        replace(
            one, losses=np.full(10, value), scalars=dict.fromkeys(one.scalars, value),
            tensors={n: np.full(3, value, dtype=np.float32) for n in one.tensors},
        )
        for one in made_records(facts, 30)
    ]  # fmt: skip
    html = page_of(Run.of(facts, bad, EVENTS, True))
    assert "AdamW: 300 steps in 3 s." in text_of(html)
    assert browse(html, tmp_path, "return {}").console == []


def test_a_loss_that_is_not_finite_is_a_cross_and_spikes_stay_on_a_thinned_curve(run: Run) -> None:
    losses = run.losses.copy()
    losses[777], losses[1234] = 50.0, math.nan
    picture = module_pictures(replace(run, losses=losses))["Loss"]
    data = [renderer.data_source.data for renderer in picture.renderers]
    assert max(np.nanmax(one["y"]) for one in data[:1]) == pytest.approx(50, rel=1e-3)
    crosses = [r for r in picture.renderers if getattr(r.glyph, "marker", None) == "x"]
    assert [list(one.data_source.data["x"]) for one in crosses] == [[1235.0]]


def module_pictures(run: Run) -> dict[str, Any]:
    from steepest.monitor.report.pictures import model_pictures

    return {one.title: one.plot for one in model_pictures(run, Axis(run))}


def test_losses_that_were_not_given_are_no_crosses(run: Run) -> None:
    memory = Memory(run.facts)
    for one in made_records(run.facts, 20):
        given = np.arange(len(one.losses)) % 4 == 3
        memory.add(replace(one, losses=np.where(given, one.losses, math.nan), given=given))
    remembered = memory.run(finished=True)
    assert len(remembered.losses) == 40 and np.isfinite(remembered.losses).all()
    picture = module_pictures(remembered)["Loss"]
    assert [r for r in picture.renderers if getattr(r.glyph, "marker", None) == "x"] == []


def test_losses_of_several_calls_a_step_stand_at_their_steps() -> None:
    facts = made_facts(2)
    records = [replace(one, call=4 * one.step, losses=np.ones(40)) for one in made_records(facts, 3)]
    picture = module_pictures(Run.of(facts, records, (), True))["Loss"]
    x = picture.renderers[0].data_source.data["x"]
    assert (x[0], x[39], x[-1], len(x)) == (0.25, 10, 30, 120)


def test_losses_of_a_run_that_resumes_begin_where_it_does() -> None:
    facts = made_facts(2)
    records = [
        replace(one, step=1000 + one.step, call=4 * one.step, losses=np.ones(40)) for one in made_records(facts, 3)
    ]
    steps = steps_of_losses(Run.of(facts, records))
    assert (steps[0], steps[3], steps[39], steps[-1]) == (1000.25, 1001, 1010, 1030)


def test_many_layers_are_bands_and_the_ends_by_name_and_all_are_in_the_heat_map(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = made_run(500, 400)
    begun = time.perf_counter()
    html = page_of(many)
    seconds = time.perf_counter() - begun
    with capsys.disabled():
        print(f" {seconds:.1f} s, {len(html.encode()):,} bytes", end=" ")
    assert len(html.encode()) < 2_000_000
    assert seconds < 60  # a sanity check: it takes 1 s on an idle machine
    said = text_of(html)
    assert "Where there are many layers" in said and "before any clipping. 500 layers." in said
    assert said.count("blocks.249.linear.bias") >= 1 and "500 layers and found nothing" in said
    script = """
      const image = Bokeh.documents[0].get_model_by_name("heat cells").data_source.data;
      return {plots: deep(document, ".bk-Figure").length, images: Object.keys(image).length, rows: image.grad_norm[0].shape[0],
              named: roots().flatMap((p) => p.below).filter((l) => l.type == "Legend").map((l) => l.items.length)}"""
    drawn = browse(html, tmp_path, script)
    assert drawn.console == []
    assert drawn.said() == {"plots": 12, "images": 17, "rows": 500, "named": [2, 7, 7, 7, 7, 7, 7, 2]}


def test_a_run_of_a_million_losses_five_thousand_layers_and_long_texts_stays_below_two_megabytes() -> None:
    facts = made_facts(5000, plan="word " * 100_000, notes={"why": "x" * 100_000})
    run = Run.of(facts, made_records(facts, 20, ("grad_norm", "update_norm", "weight_norm")), EVENTS * 3000, True)
    calls = np.arange(1, 1_000_001)
    losses = 1 / np.sqrt(calls)
    html = page_of(replace(run, losses=losses, loss_calls=calls, calls=run.steps * 5000))
    assert len(html.encode()) < 2_000_000
    assert "1000 of 5000 are listed." in text_of(html)


def test_a_rate_that_decays_to_zero_has_a_linear_axis_and_one_that_rises_by_decades_a_logarithmic_one() -> None:
    share = np.linspace(0, 1, 101)
    assert bounds_of(1e-3 * (1 + np.cos(math.pi * share)), log=True, typical=True)[2] == "linear"
    low, high, scale = bounds_of(10 ** (-6 * share), log=True, typical=True)
    assert scale == "log" and low < 1e-6 and high > 1


def test_one_value_far_below_all_others_does_not_press_them_flat_and_one_far_above_is_shown() -> None:
    low, high, scale = bounds_of(np.append(np.geomspace(1, 100, 99), [1e-9, 1e5]), log=True)
    assert scale == "log" and 1e-3 < low < 1 and high > 1e5
    assert bounds_of(np.array([-1.0, 1.0, math.nan]), log=True) == (pytest.approx(-1.16), pytest.approx(1.16), "linear")
    assert bounds_of(np.full(3, math.inf), log=True) == (0.0, 1.0, "linear")


# ---- the heat map's cells


def test_cells_keep_what_is_not_known_apart_from_what_is_infinite_and_from_the_ends_of_the_scale() -> None:
    facts = made_facts(4, every=1)
    values = np.array([[1e-9, 1e-3, np.nan, np.inf], [1.0, 1e-3, np.nan, 1e-3]], dtype=np.float32)
    records = [Record(i + 1, i + 1, 1.0, np.ones(1), {"lr": 1.0}, {"update_ratio": values[i]}) for i in range(2)]
    run = Run.of(facts, records, (), True)
    heat = heat_of(run, Axis(run))
    assert heat is not None
    (image,) = heat.map.plot.renderers[0].data_source.data["update_ratio"]
    middle = image[2, 0]
    assert image.tolist() == [[LEVELS + 1, middle], [0, 0], [middle, middle], [1, LEVELS]]
    assert middle in (LEVELS // 2, LEVELS // 2 + 1)


def test_a_cell_of_several_records_is_their_mean_or_the_largest_spike() -> None:
    facts = made_facts(1, every=1)
    spikes = np.ones(1000, dtype=np.float32)
    spikes[501] = 50.0
    records = [
        Record(i + 1, i + 1, 1.0, np.ones(1), {}, {"spike": spikes[i : i + 1], "unmoved": np.float32([i % 2])})
        for i in range(1000)
    ]  # fmt: skip
    run = Run.of(facts, records, (), True)
    heat = heat_of(run, Axis(run))
    assert heat is not None
    data = heat.map.plot.renderers[0].data_source.data
    assert data["spike"][0].max() == LEVELS and data["spike"][0].shape == (1, 400)
    at = int(data["spike"][0][0].argmax())
    assert abs(at - 501 * 400 // 1000) <= 1 and (data["spike"][0] == LEVELS).sum() == 1
    assert set(np.unique(data["unmoved"][0])) <= set(
        range(20, 46)
    )  # a half, or a third where three records share a cell


def test_where_records_are_far_apart_one_stands_until_the_next() -> None:
    facts = made_facts(1, every=10)
    steps = [10, 20, 200, 210]
    records = [Record(s, s, 1.0, np.ones(1), {}, {"clipped": np.array([s / 400], dtype=np.float32)}) for s in steps]
    run = Run.of(facts, records, (), True)
    heat = heat_of(run, Axis(run))
    assert heat is not None
    ((row,),) = heat.map.plot.renderers[0].data_source.data["clipped"]
    assert len(row) == 4 and row[0] == row[1] == row[2] < row[3]


# ---- the memory


def test_memory_stays_bounded_keeps_both_ends_and_loses_no_spike() -> None:
    facts = made_facts(2, every=1)
    memory = Memory(facts, records=200, losses=2000)
    for step in range(1, 20_001):
        loss = 99.0 if step == 3333 else 1.0 + 1e-6 * step
        memory.add(
            Record(step, step, float(step), np.array([loss]), {"lr": 1.0}, {"grad_norm": np.ones(2, dtype=np.float32)})
        )
        memory.add_event(Event(step, step, "note", str(step)))
    run = memory.run(True)
    assert 100 <= len(run) <= 200 and (run.steps[0], run.steps[-1]) == (1, 20_000)
    assert (np.diff(run.steps)[-30:] == 1).all() and (np.diff(run.steps) > 0).all()
    assert 1000 <= len(run.losses) <= 2000 and run.losses.max() == 99.0
    assert run.loss_calls[run.losses.argmax()] == 3333 and (np.diff(run.loss_calls) > 0).all()
    assert len(run.events) == 1000 and (run.events[0].step, run.events[-1].step) == (1, 20_000)


def test_memory_of_many_layers_keeps_fewer_records() -> None:
    facts = made_facts(10_000, every=1)
    memory = Memory(facts)
    values = np.ones(10_000, dtype=np.float32)
    for step in range(1, 400):
        memory.add(
            Record(step, step, 1.0, np.ones(1), {}, {"grad_norm": values, "update_norm": values, "weight_norm": values})
        )
    assert len(memory.run(True)) <= 8_000_000 // 30_000


def test_extremes_are_the_lowest_and_the_highest_of_each_share() -> None:
    values = np.array([5.0, 4.0, 6.0, 1.0, 1.0, 1.0, np.inf, 3.0, 2.0])
    assert extremes(values, 3).tolist() == [1, 2, 3, 5, 6, 8]
    assert extremes(np.zeros(0), 3).tolist() == []


# ---- the output


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_a_page_comes_once_a_minute_and_at_the_end_and_never_costs_more_than_a_fiftieth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, written = Clock(), []

    def slowly(run: Run, path: Path) -> Path:
        clock.now += 2.0
        written.append((len(run), run.finished))
        return path

    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "write", slowly)
    facts = made_facts()
    report = Report(tmp_path / "run.html")
    report.start(facts)
    for number, record in enumerate(made_records(facts, 250)):
        clock.now = max(clock.now, float(number))
        report.record(record)
    assert written == [(61, False), (163, False)]  # the second one after 100 times the 2 s of the first
    report.close()
    report.close()
    assert written[2:] == [(250, True)]


def test_a_monitor_leaves_a_page_and_steepest_report_makes_one_of_the_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    weights = {"hidden.weight": rng.standard_normal((4, 3)), "hidden.bias": np.zeros(4)}
    optimizer = numpy_optimizers.Optimizer(weights, chain(clip_by_global_norm(1.0), sgd(0.1)))
    path = tmp_path / "runs" / "a.html"
    with Monitor(optimizer, every=2, to=Report(path), notes={"batch_size": 8}) as monitor:
        for _ in range(20):
            optimizer.step({name: 2 * value + 0.01 for name, value in weights.items()})
            monitor(sum(float(np.sum(value**2)) for value in weights.values()))
    said = text_of(path.read_text(encoding="utf-8"))
    assert (
        "20 steps in" in said
        and "clip_by_global_norm" in said
        and "hidden.weight 4×3" in said
        and "batch_size 8" in said
    )
    assert sorted(one.name for one in path.parent.iterdir()) == ["a", "a.html"]
    capsys.readouterr()
    assert main(["report", str(path.parent / "a")]) == 0
    assert capsys.readouterr().out == f"report   {path.parent / 'a' / 'report.html'}\n"
    again = text_of((path.parent / "a" / "report.html").read_text(encoding="utf-8"))
    assert "Layers at step 20" in again and again.split("What it was set to")[1] == said.split("What it was set to")[1]


def test_a_page_is_there_before_training_ends(tmp_path: Path) -> None:
    facts = made_facts()
    report = Report(tmp_path / "run.html", seconds=1e-9)
    report.start(facts)
    for record in made_records(facts, 1):
        report.record(record)
    assert "while training went on" in text_of(report.path.read_text(encoding="utf-8"))
    assert [one.name for one in tmp_path.iterdir()] == ["run.html"]
    report.close()
    assert "while training went on" not in text_of(report.path.read_text(encoding="utf-8"))


def test_a_disk_that_is_full_leaves_the_page_before_and_nothing_beside_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.html"
    module.write(made_run(2, 20), path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        module.write(run, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_only_the_first_process_writes_and_close_without_start_does_nothing(tmp_path: Path) -> None:
    other = Report(tmp_path / "a" / "run.html")
    other.start(made_facts(process=1, processes=2))
    other.record(made_records(made_facts(), 1)[0])
    other.event(EVENTS[0])
    other.close()
    Report(tmp_path / "b" / "run.html").close()
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_said_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^Report: path must end in \.html, got 'runs/a'\.$"):
        Report("runs/a")
    with pytest.raises(ValueError, match=r"^Report: seconds must be > 0, got 0\.$"):
        Report("runs/a.html", seconds=0)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ModuleNotFoundError, match=r"^Report: the package bokeh is missing\. pip install 'steepest\[monitor\]'$"
    ):
        Report("runs/a.html")
