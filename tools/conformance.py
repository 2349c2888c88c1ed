"""Who defines a rule how, measured: each library's optimizer beside ours on the same parameters and gradients.

A row names a call of another library, the call of ours that a reader would write first, and the one that gives the same numbers.
Both are run here for `STEPS` steps in float64, and what is written into docs/conformance.md is what came out. Libraries that
are not installed leave their rows as they were measured before, with the version they had then.

    python tools/conformance.py            # prints the page
    python tools/conformance.py --write    # writes docs/conformance.md and docs/conformance.json
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import types
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import steepest as s
import steepest.numpy

sys.path.insert(0, str(Path(__file__).parent))
import conformance_keras as keras  # beside this file
from conformance_rows import ROWS, Row

DOCS = Path(__file__).parents[1] / "docs"
STEPS = 12
SHAPES = ((4, 3), (5,), (2, 3, 2, 2), (4, 3, 5), (40, 30))
"""A matrix, a vector, kernels of convolutions in two dimensions and in one, and weights longer than 10."""
SAME = 1e-12
PACKAGES = {
    "torch": "torch",
    "optax": "optax",
    "timm": "timm",
    "pytorch_optimizer": "pytorch_optimizer",
    "optimi": "torch-optimi",
}
_FORMS = ("torch", "timm", "pytorch_optimizer", "optimi")
"""Libraries in the form of ``torch.optim``; Optax has its own."""


@dataclass(frozen=True)
class Measured:
    """What came out: the relative difference of the plain call and of the agreeing one, and with which version."""

    version: str
    plain: float
    same: float


def problem() -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    """Parameters, and gradients for each step, some of them small."""
    rng = np.random.default_rng(7)
    params = [rng.normal(size=shape) for shape in SHAPES]
    grads = [[rng.normal(size=shape) * 10.0 ** rng.integers(-4, 1) for shape in SHAPES] for _ in range(STEPS)]
    return params, grads


def ours(text: str, prelude: str = "") -> list[np.ndarray]:
    params, grads = problem()
    space: dict[str, Any] = {"steepest": s}
    exec(prelude, space)
    optimizer = steepest.numpy.Optimizer(params, eval(text, space), engine="arrays")
    for one in grads:
        optimizer.step(one)
    return params


def theirs(row: Row) -> list[np.ndarray]:
    return _by_torch(row) if row.library in _FORMS else _by_optax(row)


def _by_torch(row: Row) -> list[np.ndarray]:
    import torch

    params, grads = problem()
    held = [torch.nn.Parameter(torch.from_numpy(p.copy())) for p in params]
    names = {"torch": torch, "timm": _Timm(), "params": held}
    if row.library not in ("torch", "timm"):
        names[row.library] = importlib.import_module(row.library)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # some keep scalars in the default type
    try:
        optimizer = eval(row.theirs, names)
        for one in grads:
            for t, g in zip(held, one, strict=True):
                t.grad = torch.from_numpy(g.copy())
            if row.before:
                eval(row.before, names)
            optimizer.step()
    finally:
        torch.set_default_dtype(before)
    return [t.detach().numpy() for t in held]


class _Timm:
    """timm's modules without its packages' ``__init__``, which need torchvision."""

    def __getattr__(self, name: str) -> Any:
        if "timm" not in sys.modules:
            found = find_spec("timm")
            assert found is not None and found.submodule_search_locations
            root = Path(next(iter(found.submodule_search_locations)))
            for package in ("timm", "timm.optim", "timm.utils"):
                stub = types.ModuleType(package)
                stub.__path__ = [str(root.joinpath(*package.split(".")[1:]))]
                sys.modules[package] = stub
        home = {"Lamb": "optim.lamb", "Lars": "optim.lars", "Lion": "optim.lion", "Lookahead": "optim.lookahead",
                "NAdamW": "optim.nadamw", "Adafactor": "optim.adafactor", "adaptive_clip_grad": "utils.agc"}  # fmt: skip
        return getattr(importlib.import_module(f"timm.{home[name]}"), name)


def _by_optax(row: Row) -> list[np.ndarray]:
    import jax
    import optax

    jax.config.update("jax_enable_x64", True)
    params, grads = problem()
    transform = eval(row.theirs, {"optax": optax})
    held: Any = [jax.numpy.asarray(p) for p in params]
    if "lookahead" in row.theirs:
        held = optax.LookaheadParams.init_synced(held)
    state = transform.init(held)
    for one in grads:
        updates, state = transform.update([jax.numpy.asarray(g) for g in one], state, held)
        held = optax.apply_updates(held, updates)
    return [np.asarray(p) for p in (held.fast if "lookahead" in row.theirs else held)]


def difference(a: Sequence[np.ndarray], b: Sequence[np.ndarray], which: Sequence[int] = range(len(SHAPES))) -> float:
    """The largest difference, relative to how far the parameters have moved altogether; they are ``which`` of the problem's."""
    params, _ = problem()
    start = [params[i] for i in which]
    moved = max(float(np.abs(x - p).max()) for x, p in zip(b, start, strict=True))
    return max(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True)) / max(moved, 1e-300)


def measured(row: Row) -> Measured:
    """Run all three."""
    reference = theirs(row)
    plain = difference(ours(row.ours), reference)
    same = agreement(row, reference) if row.same else plain
    return Measured(version(PACKAGES[row.library]), plain, same)


def agreement(row: Row, reference: Sequence[np.ndarray]) -> float:
    """The difference of the agreeing call, without the tensors that the row sets apart."""
    found = ours(row.same, row.prelude)
    kept = [i for i, one in enumerate(found) if one.ndim != row.apart]
    return difference([found[i] for i in kept], [reference[i] for i in kept], kept)


def installed(library: str) -> bool:
    try:
        version(PACKAGES[library])
    except PackageNotFoundError:
        return False
    return True


def page(found: dict[str, Measured]) -> str:
    """The page, from the rows and what was measured."""
    versions = {row.library: found[row.key].version for row in ROWS}
    lines = [
        "# Who defines it how",
        "",
        "The same name is not always the same rule. Each line below was measured: the other library's call and ours ran on the "
        f"same parameters and gradients for {STEPS} steps in float64, and the difference is the largest of any element, relative "
        "to the longest way that an element went. Below 1e-12 it is rounding. Where the call that one would write first differs, "
        "the convention that explains it is named, and the line that gives the same numbers stands below.",
        "",
        f"Measured by `python tools/conformance.py` with {', '.join(f'{PACKAGES[n]} {v}' for n, v in versions.items())}. Keras "
        "has a section of its own at the end. Its source also applies LAMB's decay outside of the norm. DeepSpeed was not "
        "measured. Its source takes the norm of LAMB's uncorrected moments and clamps the ratio to [0.01, 10].",
        "",
    ]
    for rule in dict.fromkeys(row.rule for row in ROWS):
        lines += [f"## {rule}", ""]
        rows = [row for row in ROWS if row.rule == rule]
        lines += ["| library's call | ours | difference |", "| --- | --- | ---: |"]
        for row in rows:
            call = f"`{row.theirs}`" + (f" after `{row.before}`" if row.before else "")
            lines.append(f"| {call} | `{row.ours}` | {_number(found[row.key].plain)} |")
        lines.append("")
        for row in rows:
            if row.convention:
                lines += [f"**{PACKAGES[row.library]}**: {row.convention}", ""]
            if row.same:
                parts = ["import steepest", *([row.prelude.strip()] if row.prelude else []), f"chain = {row.same}"]
                code = ("\n\n\n" if row.prelude else "\n\n").join(parts)
                lines += [
                    "```python",
                    code,
                    "```",
                    "",
                    f"Difference from `{row.theirs}`: {_number(found[row.key].same)}{_apart(row)}.",
                    "",
                ]
    return "\n".join([*lines, *keras.section()]).rstrip() + "\n"


def _apart(row: Row) -> str:
    return f", without the tensor of {row.apart} dimensions" if row.apart else ""


def _number(value: float) -> str:
    return "0" if value == 0 else "rounding" if value <= SAME else f"{value:.1e}"


def known() -> dict[str, Measured]:
    """What was measured last."""
    path = DOCS / "conformance.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {key: Measured(**one) for key, one in found.items()}


def all_measured() -> dict[str, Measured]:
    """Every row: measured now where its library is installed, else as it was measured before."""
    before = known()
    return {row.key: measured(row) if installed(row.library) else before[row.key] for row in ROWS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    found = all_measured()
    if given.write:
        (DOCS / "conformance.md").write_text(page(found), encoding="utf-8")
        data = {key: asdict(one) for key, one in found.items()}
        (DOCS / "conformance.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    for row in ROWS:
        one = found[row.key]
        flag = "" if one.same <= SAME else "   <-- no agreeing call"
        print(f"{row.rule:12} {row.theirs:78} {one.plain:9.1e} {one.same:9.1e}{flag}")


if __name__ == "__main__":
    main()
