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

plt.rcParams.update(
    {
        "axes.prop_cycle": plt.cycler(color=COLOURS),
        "axes.edgecolor": "#888888",
        "axes.labelcolor": "#888888",
        "axes.titlecolor": "#888888",
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
        "legend.labelcolor": "#888888",
        "svg.fonttype": "none",
        "text.color": "#888888",
        "xtick.color": "#888888",
        "ytick.color": "#888888",
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
    from steepest.plan.latex import aligned, equations_latex

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


LANE, PASS, WAIT, ROW = 28, 172, 58, 17  # heights and widths of a plan's picture


def draw_plan(chain: Any) -> Drawing:
    """A chain's step as a picture: buffers in memory as lanes, passes as columns, bytes read and written, and what is waited for.

    What it shows is read from the plan; reductions and the other outcomes of conditions are the lines of the printed plan.
    """
    import re
    from html import escape

    from steepest.language.expression import Rate
    from steepest.plan.planner import plan

    made = plan(chain)
    program = made.program(made.usual)
    text = str(made)
    sections = re.split(r"^(?:pass \d+.*|where .*)$", text, flags=re.MULTILINE)[1 : len(program.passes) + 1]
    sums = [re.findall(r"^  (r\d+ = .*?) per ", section, flags=re.MULTILINE) for section in sections]
    lanes = sorted(program.buffers, key=lambda name: (name == "param", name != "grad", name))
    left = 22 + round(6.7 * max(map(len, lanes)))
    top, deepest = 64, max(map(len, sums), default=0)
    floor = top + LANE * len(lanes) + 8
    notes = [line for line in text.splitlines() if line.startswith("where ")]
    end = left + PASS * len(program.passes) + WAIT * (len(program.passes) - 1) + 8
    width = max(end, *(16 + round(7.3 * len(said)) for said in (text.splitlines()[1], *notes)))
    height = floor + 26 + ROW * (deepest + len(notes)) + (10 if deepest or notes else 0)
    parts: list[str] = []

    def write(x: float, y: float, said: str, kind: str = "", anchor: str = "start") -> None:
        parts.append(f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(said)}</text>')

    def box(x: float, y: float, wide: float, kind: str, high: float = 18) -> None:
        parts.append(f'<rect x="{x:g}" y="{y:g}" width="{wide:g}" height="{high:g}" rx="3" class="{kind}"/>')

    write(8, 20, text.splitlines()[1], "title")
    for row, name in enumerate(lanes):
        y = top + LANE * row + LANE / 2
        write(left - 12, y + 4, name, "code", "end")
        parts.append(f'<path d="M{left - 6} {y:g}H{end}" class="lane"/>')
    warm: set[str] = set()
    for number, one in enumerate(program.passes):
        x = left + (PASS + WAIT) * number
        box(x, top - 4, PASS, "pass", LANE * len(lanes) + 8)
        write(x + PASS / 2, top - 12, f"pass {number + 1}", "", "middle")
        for row, name in enumerate(lanes):
            y = top + LANE * row + (LANE - 18) / 2
            if name in one.loads:
                cached = name in warm
                box(x + 10, y, 72, "cached" if cached else "reads")
                write(x + 46, y + 13, "in the cache" if cached else "reads 4", "seen" if cached else "said", "middle")
            if name in one.stores:
                box(x + 90, y, 72, "writes")
                write(x + 126, y + 13, "writes 4", "said", "middle")
        count = 4 * (len(set(one.loads) - warm) + len(one.stores))
        write(x + PASS / 2, floor + 14, f"{count} bytes", "title", "middle")
        for line, said in enumerate(sums[number]):
            write(x, floor + 36 + ROW * line, said if len(said) < 34 else said[:32] + "…", "code")
        if number + 1 < len(program.passes):
            middle = x + PASS + WAIT / 2
            parts.append(f'<path d="M{middle:g} {top - 4}V{floor}" class="wait"/>')
            write(middle, top - 24, "waits", "waits", "middle")
            write(middle, top - 10, f"per {one.barrier.word}", "waits", "middle")
        warm = (warm | set(one.loads) | set(one.stores)) if one.barrier == Rate.UNIT else set()
    for line, said in enumerate(notes):
        write(8, floor + 40 + ROW * (deepest + line), said, "code")
    blue, red = COLOURS[:2]
    style = (
        "text{font:12px system-ui,sans-serif;fill:#888}.title{font-weight:600}"
        ".code{font:11px ui-monospace,Menlo,Consolas,monospace}.said{fill:#fff;font-size:11px}.seen{font-size:11px}"
        f".waits{{fill:{red}}}.reads{{fill:{blue}}}.writes{{fill:{red}}}"
        ".cached{fill:#88888822;stroke:#888888;stroke-dasharray:3 2}"
        ".pass{fill:#88888818;stroke:#88888866}.lane{stroke:#88888866}"
        f".wait{{stroke:{red};stroke-width:2;stroke-dasharray:5 4}}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}">'
    return Drawing(
        "\n".join(
            [head, f"<title>{escape(str(made.trace.chain))}</title>", f"<style>{style}</style>", *parts, "</svg>\n"]
        )
    )
