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
