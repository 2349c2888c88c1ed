"""Small pictures of schedules, each under the call that makes it: as many in a row as the page is wide."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import ClassVar

import numpy as np
from shown import COLOURS

from steepest import schedules

STEPS = 100
WIDE, HIGH = 220, 76

STYLE = f"""
.kinds{{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,225px),1fr));gap:14px 18px;margin:1rem 0}}
.kinds figure{{margin:0;min-width:0}}
.kinds figcaption{{font:12px/1.35 ui-monospace,Menlo,Consolas,monospace;text-align:left;overflow-wrap:anywhere;min-height:2.7em}}
.kinds svg{{width:100%;height:auto;display:block}}
.kinds text{{font:9px system-ui,sans-serif;fill:var(--color-foreground-secondary,#666)}}
.kinds .axis{{fill:none;stroke:#888;stroke-width:1;opacity:.6}}
.kinds .value{{fill:none;stroke:{COLOURS[0]};stroke-width:1.8;stroke-linejoin:round}}
"""


class Gallery:
    """Calls as text, or values by the text that stands above them. A notebook shows it."""

    drawn: ClassVar[set[str]] = set()
    """The names of all functions that any gallery has called."""

    def __init__(self, *calls: str, **values: Sequence[float]) -> None:
        known = {name: getattr(schedules, name) for name in schedules.__all__}
        made = {call: eval(call, known).values(STEPS) for call in calls}
        figures = [
            f"<figure>{_picture(np.asarray(own), call)}<figcaption>{escape(call)}</figcaption></figure>"
            for call, own in {**made, **values}.items()
        ]
        self.html = f'<div class="kinds"><style>{STYLE}</style>{"".join(figures)}</div>'
        Gallery.drawn |= {name for call in (*made, *values) for name in re.findall(r"\w+", call)}

    def _repr_html_(self) -> str:
        return self.html


def _picture(values: np.ndarray, call: str) -> str:
    """The values over the steps; 0 and the largest value are written."""
    top = float(values.max())
    x = 30 + (WIDE - 34) * np.arange(len(values)) / STEPS
    y = HIGH - 14 - (HIGH - 22) * values / top
    moved = np.abs(np.diff(y, prepend=y[0], append=y[-1]))
    jumps = (moved > HIGH / 30) & (
        moved > 3 * np.maximum(np.roll(moved, 1), np.roll(moved, -1))
    )  # vertical, not a steep line
    line = f"M{x[0]:.1f} {y[0]:.1f}" + "".join(
        f"H{a:.1f}V{b:.1f}" if jump else f"L{a:.1f} {b:.1f}"
        for a, b, jump in zip(x[1:], y[1:], jumps[1:-1], strict=True)
    )
    return (
        f'<svg viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{escape(call)} over {STEPS} steps">'
        f'<path class="axis" d="M30 6V{HIGH - 14}H{WIDE - 4}"/><path class="value" d="{line}"/>'
        f'<text x="26" y="12" text-anchor="end">{top:.3g}</text><text x="26" y="{HIGH - 11}" text-anchor="end">0</text>'
        f'<text x="{WIDE - 4}" y="{HIGH - 3}" text-anchor="end">step {STEPS}</text></svg>'
    )
