"""One page for a family of schedules (a module of steepest.schedules): each with its formula, picture, values and source."""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any, get_type_hints

import numpy as np
from docstrings import entries, markdown, parsed
from rule_page import allowed, fence, ran, table

from steepest import schedules

STEPS = 100
SHOWN: dict[str, Any] = {
    "boundaries": [30, 60, 80],
    "decay": 30,
    "factors": [0.5, 0.4, 0.5],
    "final": 0.1,
    "initial": 1.0,
    "peak": 1.0,
    "step_size": 25,
    "steps": STEPS,
    "value": 1.0,
    "warmup": 10,
}
"""What a picture takes for an argument that has no default."""
CALLS = {
    "cosine": "cosine(1.0, steps=100, warmup=10)",
    "cyclic": "cyclic(0.1, 1.0, step_size_up=15)",
    "exponential": "exponential(1.0, gamma=0.5, steps=25)",
    "join": "join([constant(0.5), cosine(1.0, steps=60)], boundaries=[40])",
    "linear": "linear(0.1, 1.0, steps=80)",
    "scale": "scale(cosine(1.0, steps=100), 0.5)",
    "warm_restarts": "warm_restarts(1.0, T_0=14, T_mult=2)",
    "warmup": "warmup(20, cosine(1.0, steps=80))",
}
"""Calls that show more than the values above would; what is in neither has no picture."""


def families() -> dict[ModuleType, list[str]]:
    """The modules that the public schedules live in, with their names in the order of the source."""
    found: dict[ModuleType, list[str]] = {}
    for name in schedules.__all__:
        thing = getattr(schedules, name)
        module = inspect.getmodule(thing)
        if module is not None and name not in ("Schedule", "from_json"):
            found.setdefault(module, []).append(name)
    for names in found.values():
        names.sort(key=lambda n: inspect.getsourcelines(getattr(schedules, n))[1])
    return found


def file_of(module: ModuleType) -> str:
    return f"schedules_{module.__name__.rpartition('.')[2]}"


def one_line(module: ModuleType) -> str:
    return markdown(parsed(module).summary)


def pages() -> dict[str, str]:
    """File names with their contents: a page per family, a picture per schedule."""
    files: dict[str, str] = {}
    for module, names in families().items():
        short = module.__name__.rpartition(".")[2]
        parts = [f"({file_of(module)})=\n# Schedules: {short}", *map(markdown, _paragraphs(module))]
        for name in names:
            text, picture = section(name)
            parts.append(text)
            if picture:
                files[f"{file_of(module)}_{name}.svg"] = picture
        files[f"{file_of(module)}.md"] = "\n\n".join(parts) + "\n"
    return files


def _paragraphs(module: ModuleType) -> list[str]:
    doc = parsed(module)
    return [re.sub(r"\s*Imports [^.]*\.", "", text) for text in (doc.summary, *doc.paragraphs)]


def section(name: str) -> tuple[str, str]:
    make = getattr(schedules, name)
    doc = parsed(make)
    parts = [f"({name})=\n## {name}", markdown(doc.summary), *map(markdown, doc.paragraphs)]
    made, call = example(name, make)
    picture = ""
    if made is not None:
        picture = drawn(made)
        module = inspect.getmodule(make)
        assert module is not None
        parts.append(f"![{call} over {STEPS} steps]({file_of(module)}_{name}.svg)")
        used = [n for n in schedules.__all__ if re.search(rf"\b{n}\(", call)]
        code = f"from steepest.schedules import {', '.join(used)}\n\nschedule = {call}\n"
        code += "print(*(f'{schedule(t):.4g}' for t in (0, 25, 50, 75, 99)))"
        parts += [fence("python", code), fence("text", ran(code))]
    elif "Examples" in doc.sections:
        parts.append(fence("pycon", "\n".join(doc.sections["Examples"]).strip()))
    texts = entries(doc.sections.get("Parameters", []))
    hints = get_type_hints(make.__init__ if inspect.isclass(make) else make, include_extras=True)
    rows = [
        [
            f"`{n}`",
            allowed(hints.get(n)),
            "" if p.default is p.empty else f"`{p.default!r}`",
            markdown(texts.get(n, "")),
        ]
        for n, p in inspect.signature(make).parameters.items()
    ]
    parts.append(table(["name", "allowed", "default", "meaning"], rows))
    if doc.source:
        parts.append(f"Source: {markdown(doc.source)}")
    return "\n\n".join(parts), picture


def example(name: str, make: Callable[..., Any]) -> tuple[Any, str]:
    """A schedule to draw, with the call that makes it; none where an argument is nothing that this page knows."""
    needed = [n for n, p in inspect.signature(make).parameters.items() if p.default is p.empty]
    if name not in CALLS and not set(needed) <= set(SHOWN):
        return None, ""
    call = CALLS.get(name) or f"{name}({', '.join(f'{n}={SHOWN[n]!r}' for n in needed)})"
    try:
        made = eval(call, {n: getattr(schedules, n) for n in schedules.__all__})
    except (TypeError, ValueError):
        return None, ""
    return (made, call) if isinstance(made, schedules.Schedule) else (None, "")


def drawn(schedule: Any) -> str:
    """The values over the steps, as an SVG that is the same at every build."""
    import matplotlib.pyplot as plt
    import shown  # noqa: F401  # the look of all pictures

    figure, axes = plt.subplots(figsize=(6.0, 2.0))
    t = np.arange(STEPS)
    axes.step(t, schedule.values(STEPS), where="post", linewidth=1.6)
    axes.set_xlabel("step")
    axes.set_ylim(bottom=0)
    out = io.StringIO()
    with plt.rc_context({"svg.hashsalt": "steepest"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    plt.close(figure)
    return out.getvalue()
