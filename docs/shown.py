"""What the pages' code shares: one look for all pictures, and a rule's equations, plan and cost as the library prints them."""

from __future__ import annotations

import os
from typing import Any

import matplotlib

if "MPLBACKEND" not in os.environ:  # a notebook's kernel has chosen already: it shows each cell's figures
    matplotlib.use("Agg")
import matplotlib.pyplot as plt  # after its backend is chosen

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#332288")
"""Okabe and Ito's colours, which colour-blind readers tell apart, with a grey and an indigo."""

GREY = "#666666"
"""Of what is written in pictures; on a dark page site.css turns a picture's light and dark round."""

plt.rcParams.update(
    {
        "axes.prop_cycle": plt.cycler(color=COLOURS),
        "axes.edgecolor": GREY,
        "axes.labelcolor": GREY,
        "axes.titlecolor": GREY,
        "axes.grid": True,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        "figure.figsize": (7.0, 3.4),
        "figure.max_open_warning": 0,
        "figure.constrained_layout.use": True,
        "font.size": 10,
        "grid.color": "#88888844",
        "legend.frameon": False,
        "legend.labelcolor": GREY,
        "svg.fonttype": "none",
        "text.color": GREY,
        "xtick.color": GREY,
        "ytick.color": GREY,
    }
)
if "inline" in os.environ.get("MPLBACKEND", ""):
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("svg")


def cost_of(chain: Any) -> str:
    """What a step of a chain costs, as its plan says it."""
    from steepest.plan.planner import plan

    return str(plan(chain)).splitlines()[1]


def equation(chain: Any) -> None:
    """A chain's step in the letters of the papers: as mathematics in a notebook, as LaTeX where there is none."""
    from steepest.show.latex import aligned, equations_latex

    lines = equations_latex(chain)
    try:
        from IPython import get_ipython
        from IPython.display import Math, display
    except ModuleNotFoundError:
        get_ipython = None
    if get_ipython is not None and get_ipython() is not None:
        display(Math(aligned(lines)))
    else:
        print("\n".join(lines))


class Drawing:
    """An SVG that notebooks show."""

    def __init__(self, svg: str) -> None:
        self.svg = svg

    def _repr_svg_(self) -> str:
        return self.svg


LABELS, BOX, WAIT, ROW = 70, 19, 30, 16  # the labels' width; heights of a line of boxes, a barrier, a line of text


def draw_plan(chain: Any) -> Drawing:
    """A chain's step as a picture: buffers in memory as columns, passes as rows, bytes read and written, and what is waited for.

    Narrow enough for a phone. What it shows is read from the plan; reductions and the other outcomes of conditions are the lines
    of the printed plan.
    """
    import re
    from html import escape
    from textwrap import wrap

    from steepest.language.expression import Rate
    from steepest.plan.planner import plan

    made = plan(chain)
    program = made.program(made.usual)
    text = str(made)
    sections = re.split(r"^(?:pass \d+.*|where .*)$", text, flags=re.MULTILINE)[1 : len(program.passes) + 1]
    sums = [re.findall(r"^  (r\d+ = .*?) per ", section, flags=re.MULTILINE) for section in sections]
    buffers = sorted(program.buffers, key=lambda name: (name == "param", name != "grad", name))
    column = max(74, *(8 + round(6.7 * len(name)) for name in buffers))
    end = LABELS + column * len(buffers)
    width = end + 4
    parts: list[str] = []

    def write(x: float, y: float, said: str, kind: str = "", anchor: str = "start") -> None:
        parts.append(f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(said)}</text>')

    def box(x: float, y: float, wide: float, kind: str, high: float = BOX - 1) -> None:
        parts.append(f'<rect x="{x:g}" y="{y:g}" width="{wide:g}" height="{high:g}" rx="3" class="{kind}"/>')

    y = 4
    for line in wrap(text.splitlines()[1], width // 7):
        y += ROW
        write(4, y, line, "title")
    y += 26
    middles = {name: LABELS + column * (number + 0.5) for number, name in enumerate(buffers)}
    for name, middle in middles.items():
        write(middle, y, name, "code", "middle")
    y += 8
    warm: set[str] = set()
    for number, one in enumerate(program.passes):
        high = 2 * BOX + 8
        box(LABELS - 2, y, end - LABELS + 4, "pass", high)
        write(4, y + 17, f"pass {number + 1}")
        count = 4 * (len(set(one.loads) - warm) + len(one.stores))
        write(4, y + 17 + BOX, f"{count} bytes", "title")
        for name, middle in middles.items():
            x, wide = middle - column / 2 + 4, column - 8
            if name in one.loads:
                cached = name in warm
                box(x, y + 4, wide, "cached" if cached else "reads")
                write(middle, y + 17, "cached" if cached else "reads 4", "seen" if cached else "said", "middle")
            if name in one.stores:
                box(x, y + 5 + BOX, wide, "writes")
                write(middle, y + 18 + BOX, "writes 4", "said", "middle")
        y += high
        for said in sums[number]:
            y += ROW
            most = int((end - LABELS) / 6.7)
            write(LABELS, y, said if len(said) <= most else said[: most - 1] + "…", "code")
        if number + 1 < len(program.passes):
            middle = y + WAIT / 2 + 2
            write(4, middle + 4, "waits", "waits")
            write(end, middle + 4, f"per {one.barrier.word}", "waits", "end")
            parts.append(f'<path d="M{LABELS - 2} {middle:g}H{end - 72}" class="wait"/>')
            y += WAIT + 4
        warm = (warm | set(one.loads) | set(one.stores)) if one.barrier == Rate.UNIT else set()
    y += 8
    for note in (line for line in text.splitlines() if line.startswith("where ")):
        for line in wrap(note, int((width - 8) / 6.7), subsequent_indent="  "):
            y += ROW
            write(4, y, line, "code")
    height = y + 8
    blue, red = COLOURS[:2]
    style = (
        "text{font:12px system-ui,sans-serif;fill:#767676}.title{font-weight:600}"
        ".code{font:11px ui-monospace,Menlo,Consolas,monospace;white-space:pre}.said{fill:#fff;font-size:11px}.seen{font-size:11px}"
        f".waits{{fill:{red}}}.reads{{fill:{blue}}}.writes{{fill:{red}}}"
        ".cached{fill:#88888822;stroke:#888888;stroke-dasharray:3 2}"
        ".pass{fill:#88888818;stroke:#88888866}"
        f".wait{{stroke:{red};stroke-width:2;stroke-dasharray:5 4}}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}">'
    return Drawing(
        "\n".join(
            [head, f"<title>{escape(str(made.trace.chain))}</title>", f"<style>{style}</style>", *parts, "</svg>\n"]
        )
    )
