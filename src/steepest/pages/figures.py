"""How pictures look on a page, whatever they show: colours, an empty plot, names below it, a value under the pointer.

Text and grid are a grey that can be read on white and on black, and nothing has a ground of its own, so that a page may change
between light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from bokeh.models import HoverTool, Line, PlainText
from bokeh.models.annotations import Legend, LegendItem
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure

__all__ = ["COLOURS", "FIRST_SHOWN", "GREY", "Look", "Picture", "brief", "hover", "legend", "looks_of", "new_plot"]

Array: TypeAlias = npt.NDArray[np.float64]

FIRST_SHOWN = 6
"""Lines that are seen before a click on another's name; more can't be told apart."""
GREY = "#7a7a7a"
# Okabe and Ito's colours without black and yellow, which are lost on one of the two grounds. Seven colours, five dashes and six
# markers: neighbours differ in all three.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c")
DASHES = ("solid", "dashed", "dotted", "dashdot", "dotdash")
MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "plus")


@dataclass(frozen=True, slots=True)
class Look:
    """How one of several things is drawn, the same in all pictures of a page."""

    colour: str
    dash: str
    marker: str

    def line(self, y: str = "y", width: float = 2) -> Line:
        return Line(x="x", y=y, line_color=self.colour, line_dash=self.dash, line_width=width)


@dataclass(frozen=True, slots=True)
class Picture:
    """What a picture shows, what is to be known of it, and the Bokeh model."""

    title: str
    note: str
    plot: Any


def looks_of(names: Iterable[str]) -> dict[str, Look]:
    """A look for each name."""
    return {
        name: Look(COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)])
        for i, name in enumerate(names)
    }


def new_plot(x: str, y: str, x_scale: Any, y_scale: Any, height: int = 290) -> Any:
    """An empty plot, as wide as its place on the page. Names of axes are plain text: a name with ``$$`` is no formula."""
    plot = figure(
        height=height, min_width=240, sizing_mode="stretch_width", x_axis_type=x_scale, y_axis_type=y_scale,
        x_axis_label=PlainText(text=x), y_axis_label=PlainText(text=y), tools="box_zoom,reset,save", active_drag=None,
        toolbar_location="above", background_fill_color=None, border_fill_color=None, outline_line_color=None,
    )  # fmt: skip
    plot.toolbar.update(logo=None, autohide=True)
    for grid in plot.grid:
        grid.update(grid_line_color=GREY, grid_line_alpha=0.25)
    for axis in plot.axis:
        axis.update(
            axis_label_text_color=GREY, major_label_text_color=GREY, axis_line_color=GREY, major_tick_line_color=GREY,
            minor_tick_line_color=None, axis_label_text_font_style="normal", axis_label_text_font_size="12px",
        )  # fmt: skip
    return plot


def legend(
    plot: Any, items: Sequence[tuple[str, Sequence[GlyphRenderer[Any]]]], first_shown: int = FIRST_SHOWN
) -> None:
    """Names below the picture, as many side by side as a phone has room for; a click hides or shows what belongs to one."""
    for _, renderers in items[first_shown:]:
        for renderer in renderers:
            renderer.visible = False
    longest = max(len(name) for name, _ in items)
    columns = max(1, min(4, 345 // (7 * longest + 32)))
    plot.height += 20 * math.ceil(len(items) / columns)  # the names get room of their own
    made = Legend(
        items=[LegendItem(label={"value": name}, renderers=list(renderers)) for name, renderers in items],
        click_policy="hide", orientation="horizontal", ncols=columns, location="left", label_text_color=GREY,
        label_text_font_size="12px", background_fill_color=None, border_line_color=None, inactive_fill_color=GREY,
        inactive_fill_alpha=0.35, spacing=4, margin=0,
    )  # fmt: skip
    plot.add_layout(made, "below")


def hover(
    plot: Any, renderers: Sequence[GlyphRenderer[Any]], tooltips: Sequence[tuple[str, str]], **options: Any
) -> None:
    """Values under the pointer."""
    plot.add_tools(HoverTool(renderers=list(renderers), tooltips=list(tooltips), visible=False, **options))


def brief(values: Sequence[float] | npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """As float32 with 12 bits of mantissa, a part in 4,000: no eye sees more, and the page's compressed data halve."""
    with np.errstate(over="ignore"):  # a run that diverges goes beyond float32
        single = np.asarray(values, dtype=np.float32)
    single = np.where(np.isfinite(single), single, np.float32("nan"))
    mantissa, exponent = np.frexp(single)
    return np.ldexp(np.round(mantissa * 4096) / 4096, exponent).astype(np.float32)
