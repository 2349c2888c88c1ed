"""Surfaces of two variables, rules that walk down them at many rates at once, and the picture of their ways.

A picture is an HTML fragment with two SVG drawings in step: the ways over the surface, and the height over the steps. It moves by
CSS alone. Whoever prints it, or has asked for less motion, sees the whole ways at rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from contourpy import contour_generator
from shown import COLOURS

import steepest.numpy as opt

WITHIN = 1e-3
"""How little above its minimum a point counts as arrived."""
AWAY = 1e30
WAYS = 20
"""Starts of a rule at a rate: the first half chooses the rate, the second is judged."""


@dataclass(frozen=True)
class Surface:
    """A height and its gradient, of points that are rows; ``noise`` is the deviation of what is added to the gradient."""

    name: str
    height: Callable[[np.ndarray, np.ndarray], np.ndarray]
    gradient: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    minima: Sequence[tuple[float, float]]
    start: tuple[float, float]
    x: tuple[float, float]
    y: tuple[float, float]
    noise: float = 0.0

    def above(self, points: np.ndarray) -> np.ndarray:
        """How far points are above the minimum; what has left for good is as far as `AWAY`."""
        with np.errstate(all="ignore"):
            height = self.height(points[..., 0], points[..., 1]) - self.height(*np.array(self.minima[0]))
        return np.where(np.isfinite(height), np.minimum(height, AWAY), AWAY)


VALLEY = Surface(
    "ill-conditioned valley", lambda x, y: (x**2 + 100 * y**2) / 2, lambda x, y: (x, 100 * y),
    [(0, 0)], (-2, 0.6), (-2.4, 1.0), (-0.8, 0.8),
)  # fmt: skip
ROSENBROCK = Surface(
    "Rosenbrock", lambda x, y: (1 - x) ** 2 + 100 * (y - x**2) ** 2,
    lambda x, y: (2 * (x - 1) - 400 * x * (y - x**2), 200 * (y - x**2)),
    [(1, 1)], (-1.2, 1.0), (-1.9, 1.9), (-0.7, 2.5),
)  # fmt: skip
BEALE = Surface(
    "Beale", lambda x, y: sum((c - x + x * y**k) ** 2 for k, c in enumerate((1.5, 2.25, 2.625), 1)),
    lambda x, y: (
        sum(2 * (c - x + x * y**k) * (y**k - 1) for k, c in enumerate((1.5, 2.25, 2.625), 1)),
        sum(2 * (c - x + x * y**k) * (x * k * y ** (k - 1)) for k, c in enumerate((1.5, 2.25, 2.625), 1)),
    ),
    [(3, 0.5)], (1.0, 1.5), (-0.5, 4.5), (-1.2, 2.0),
)  # fmt: skip
SADDLE = Surface(
    "saddle", lambda x, y: x**2 / 2 + y**4 / 4 - y**2 / 2, lambda x, y: (x, y**3 - y),
    [(0, 1), (0, -1)], (-1.5, 0.001), (-1.8, 1.0), (-1.5, 1.5),
)  # fmt: skip
NOISY = Surface(
    "noisy bowl", lambda x, y: (x**2 + 4 * y**2) / 2, lambda x, y: (x, 4 * y),
    [(0, 0)], (-2, 1.2), (-2.4, 1.0), (-1.0, 1.6), noise=1.0,
)  # fmt: skip


def walk(surface: Surface, recipe: Callable[[float], Any], rates: Sequence[float], steps: int) -> np.ndarray:
    """All ways, their starts included: step, rate, start, coordinate. A tensor for each way, a group for each rate."""
    rng = np.random.default_rng(0)
    starts = np.array(surface.start) * (1 + 0.1 * rng.normal(size=(WAYS, 2)))
    starts[WAYS // 2] = surface.start  # the one that is drawn
    points = np.tile(starts, (len(rates), 1, 1))
    groups = [{"params": list(own), "chain": recipe(lr)} for own, lr in zip(points, rates, strict=True)]
    optimizer = opt.Optimizer(groups)
    path = [points.copy()]
    with np.errstate(all="ignore"):
        for _ in range(steps):
            noise = rng.normal(0, surface.noise, (WAYS, 2))
            slope = np.stack(surface.gradient(points[..., 0], points[..., 1]), axis=-1) + noise
            optimizer.step([gradient for own in slope for gradient in own])
            path.append(points.copy())
    return np.array(path)


def arrival(surface: Surface, paths: np.ndarray) -> np.ndarray:
    """The step from which on each way is within reach of the minimum, infinite where it isn't at the end.

    With noise nothing stays: there it is the first step within reach.
    """
    there = surface.above(paths) <= WITHIN
    if surface.noise:
        return np.where(there.any(axis=0), there.argmax(axis=0), np.inf)
    away = len(there) - there[::-1].argmin(axis=0)  # one beyond the last step out of reach
    return np.where(there[-1], np.where(there.all(axis=0), 0, away), np.inf)


def compared(
    surface: Surface, recipes: Mapping[str, Callable[[float], Any]], rates: Sequence[float], steps: int
) -> dict[str, Any]:
    """The way of each rule from the start at its own best rate; the table is printed.

    The best rate arrives soonest; of equals, and where none arrives, the one that ends lowest, all by the median.
    """
    ways = {}
    print("rule       rate  steps  height at the end")
    for name, recipe in recipes.items():
        paths = walk(surface, recipe, rates, steps)
        at, end = arrival(surface, paths), surface.above(paths[-steps // 5 :]).mean(axis=0)
        choosing = [np.median(one[:, : WAYS // 2], axis=1) for one in (end, at)]
        best = np.lexsort(choosing)[0]
        took, left = (np.median(one[best, WAYS // 2 :]) for one in (at, end))
        said = f"{took:.0f}" if np.isfinite(took) else "–"
        print(f"{name:9}{rates[best]:6.2g} {said:>6}  {left or 0:.0e}")
        ways[name] = paths[:, best, WAYS // 2]
    return ways


# ---- the picture

WIDE, HIGH, LEFT, FOOT = 360, 270, 34, 24
MARKS = ("M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", "M-4-4h8v8h-8z", "M0-5L5 4H-5z", "M0-5.5L5.5 0 0 5.5-5.5 0z", "M0 5L5-4H-5z",
         "M-4-1.5h2.5V-4h3v2.5H4v3H1.5V4h-3V1.5H-4z")  # fmt: skip
FRAMES = 90
"""Moments of the animation at most."""
SECONDS, HELD = 9, 0.2
"""The length of one round, and the share of it in which the whole ways are seen."""

STYLE = """
.ways{margin:1rem 0;font:13px system-ui,sans-serif;color:var(--color-foreground-secondary,#666)}
.ways .panels{display:flex;flex-wrap:wrap;gap:4px}
.ways svg{flex:1 1 300px;min-width:0;max-width:420px;height:auto}
.ways text{font:11px system-ui,sans-serif;fill:var(--color-foreground-secondary,#666)}
.ways .lines{fill:none;stroke:#888;stroke-width:.7;opacity:.5}
.ways .axis{fill:none;stroke:#888;stroke-width:1;opacity:.6}
.ways .way{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-dasharray:1 2}
.ways .goal{fill:none;stroke:#888;stroke-width:1.6}
.ways .legend{display:flex;flex-wrap:wrap;gap:2px 14px;align-items:center;margin:2px 0}
.ways .legend svg{flex:none;width:12px;height:12px;vertical-align:-1px;margin-right:4px}
.ways .pause:checked~.panels *{animation-play-state:paused}
@media print{.ways .pause,.ways .pause+label{display:none}}
@media print,(prefers-reduced-motion:reduce){.ways .panels *{animation:none!important}}
"""


class Moving:
    """An HTML fragment that notebooks show."""

    def __init__(self, html: str) -> None:
        self.html = html

    def _repr_html_(self) -> str:
        return self.html


def draw(surface: Surface, paths: Mapping[str, np.ndarray]) -> Moving:
    """Ways by name, each a row for every step, all of the same length, moving together."""
    name = "ways-" + surface.name.replace(" ", "-")
    steps = len(next(iter(paths.values()))) - 1
    shown = np.unique(np.linspace(0, steps, min(steps, FRAMES) + 1).round().astype(int))
    top, bottom = max(float(surface.above(np.array(surface.start))), WITHIN) * 2, WITHIN / 3
    # Pixels of both panels.
    to_x = _scale(surface.x, (4, WIDE - 4))
    to_y = _scale(surface.y, (HIGH - 4, 4))
    to_t = _scale((0, steps), (LEFT, WIDE - 8))
    to_h = _scale((math.log10(bottom), math.log10(top)), (HIGH - FOOT, 8))
    left, right, rules = [_contours(surface, to_x, to_y)], [_axes(steps, bottom, top, to_t, to_h)], []
    for x, y in surface.minima:
        left.append(f'<path class="goal" d="M{to_x(x) - 5:.1f} {to_y(y):.1f}h10m-5-5v10"/>')
    for i, path in enumerate(paths.values()):
        with np.errstate(all="ignore"):
            reach = np.array([surface.x, surface.y])
            inside = np.clip(path, reach[:, 0] - 9, reach[:, 1] + 9)
            height = np.log10(np.clip(surface.above(path), bottom, top * 10))
        for panel, x, y in (
            (left, to_x(inside[:, 0]), to_y(inside[:, 1])),
            (right, to_t(np.arange(steps + 1.0)), to_h(height)),
        ):
            key = f"{name}-{'lr'[panel is right]}{i}"
            panel.append(_way(x, y, key, i))
            rules.append(_moves(x, y, shown, key))
    legend = "".join(
        f'<span><svg aria-hidden="true" viewBox="-6 -6 12 12"><path d="{MARKS[i]}" fill="{COLOURS[i]}"/></svg>{one}</span>'
        for i, one in enumerate(paths)
    )
    clip = f'<clipPath id="{name}-clip"><rect width="{WIDE}" height="{HIGH}"/></clipPath>'
    box = f'viewBox="0 0 {WIDE} {HIGH}" role="img" clip-path="url(#{name}-clip)"'
    return Moving(
        f'<div class="ways" id="{name}"><style>{STYLE}{"".join(rules)}</style><div class="legend">{legend}</div>'
        f'<input type="checkbox" class="pause" id="{name}-pause"><label for="{name}-pause"> pause</label><div class="panels">'
        f'<svg {box} aria-label="ways over the surface {surface.name}">{clip}{"".join(left)}</svg>'
        f'<svg {box} aria-label="height above the minimum over the steps">{"".join(right)}</svg></div></div>'
    )


def _scale(values: tuple[float, float], pixels: tuple[float, float]) -> Callable[[Any], Any]:
    (a, b), (low, high) = values, pixels
    return lambda value: low + (value - a) / (b - a) * (high - low)


def _points(x: Sequence[float], y: Sequence[float]) -> str:
    pairs = [f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True)]
    return "M" + "L".join(one for i, one in enumerate(pairs) if i == 0 or one != pairs[i - 1])


def _contours(surface: Surface, to_x: Callable[[Any], Any], to_y: Callable[[Any], Any]) -> str:
    """Lines of equal height, each lower one at a fixed share of the one above: dense where the surface is low."""
    x, y = np.linspace(*surface.x, 90), np.linspace(*surface.y, 70)
    grid = np.meshgrid(x, y)
    height = surface.height(*grid) - surface.height(*np.array(surface.minima[0]))
    lines = contour_generator(x, y, height)
    found = [line for level in height.max() * 0.45 ** np.arange(1, 9) for line in lines.lines(level)]
    return f'<path class="lines" d="{"".join(_points(to_x(line[:, 0]), to_y(line[:, 1])) for line in found)}"/>'


def _axes(steps: int, bottom: float, top: float, to_t: Callable[[Any], Any], to_h: Callable[[Any], Any]) -> str:
    parts = [f'<path class="axis" d="M{LEFT} 8V{HIGH - FOOT}H{WIDE - 8}"/>']
    for power in range(math.ceil(math.log10(bottom)), math.floor(math.log10(top)) + 1):
        y = to_h(power)
        parts.append(
            f'<path class="axis" d="M{LEFT - 3} {y:.1f}h3"/><text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">'
        )
        parts.append(f'10<tspan dy="-4" font-size="8">{power}</tspan></text>')
    for t in (0, steps // 2, steps):
        anchor = "end" if t == steps else "middle"
        parts.append(
            f'<text x="{to_t(t):.1f}" y="{HIGH - 8}" text-anchor="{anchor}">{"step " * (t == steps)}{t}</text>'
        )
    y = to_h(math.log10(WITHIN))
    parts.append(f'<path class="axis" d="M{LEFT} {y:.1f}H{WIDE - 8}" stroke-dasharray="4 4"/>')
    parts.append(f'<text x="{WIDE - 10}" y="18" text-anchor="end">height above the minimum</text>')
    return "".join(parts)


def _way(x: np.ndarray, y: np.ndarray, key: str, i: int) -> str:
    at = f"translate({x[-1]:.1f}px,{y[-1]:.1f}px)"
    return (
        f'<path class="way" id="{key}" stroke="{COLOURS[i]}" pathLength="1" d="{_points(x, y)}"/>'
        f'<path id="{key}m" fill="{COLOURS[i]}" d="{MARKS[i]}" style="transform:{at}"/>'
    )


def _moves(x: np.ndarray, y: np.ndarray, shown: np.ndarray, key: str) -> str:
    """The mark from point to point, and as much of the line as lies behind it."""
    long = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    share = long / long[-1] if long[-1] else long
    time = 100 * (1 - HELD) * np.arange(len(shown)) / (len(shown) - 1)
    marks = "".join(
        f"{at:.1f}%{{transform:translate({x[t]:.1f}px,{y[t]:.1f}px)}}" for at, t in zip(time, shown, strict=True)
    )
    lines = "".join(f"{at:.1f}%{{stroke-dashoffset:{1 - share[t]:.4g}}}" for at, t in zip(time, shown, strict=True))
    held = f"100%{{transform:translate({x[-1]:.1f}px,{y[-1]:.1f}px)}}"
    return (
        f"@keyframes {key}m{{{marks}{held}}}@keyframes {key}{{{lines}100%{{stroke-dashoffset:0}}}}"
        f"#{key}m{{animation:{key}m {SECONDS}s linear infinite}}#{key}{{animation:{key} {SECONDS}s linear infinite}}"
    )
