"""One page for a recipe, written from the code: its equation, values, cost, plan, oracles, calls, figures, search range.

What the code can't know (who defines a rule how, which learning rate to try first) stands in conventions.toml.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from docstrings import Docstring, entries, markdown, parsed

import steepest
from steepest.checks import Range, Value, range_of
from steepest.language.rule import entry_of
from steepest.plan.planner import plan
from steepest.show.explain import equations
from steepest.show.latex import aligned, equations_latex

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
FIRST = {"momentum": 0.9}
"""Values that a page tries first where a number of 0 leaves an option out."""
HELPERS = {
    "clipped_by_torch(each_clipped, 0.1)": "torch.nn.utils.clip_grad_norm_ for each tensor",
    "clipped_by_torch(agc, 0.1)": "timm.utils.agc.adaptive_clip_grad",
    "averaged_by_torch": "torch.optim.swa_utils.AveragedModel",
    "averaged_by_optax": "optax.ema",
}
"""What the oracles' own helpers stand for."""


@cache
def conventions() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "conventions.toml").read_text(encoding="utf-8"))


@cache
def figures() -> dict[str, Any]:
    return _json("figures.json")


@cache
def agreement() -> dict[str, dict[str, float]]:
    return _json("agreement.json")


def _json(name: str) -> dict[str, Any]:
    path = DOCS / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


class Recipe:
    """A recipe with what its signature, docstring and plan say; ``values`` are those it can't do without."""

    def __init__(self, name: str, make: Callable[..., Any]) -> None:
        self.name, self.make = name, make
        self.function = getattr(make, "function", None) or inspect.unwrap(make)
        self.parameters = dict(inspect.signature(make).parameters)
        self.hints = get_type_hints(self.function, include_extras=True)
        self.doc: Docstring = parsed(self.function)
        needed = [n for n, p in self.parameters.items() if p.default is p.empty]
        self.values = dict(zip(needed, _needed([self.hints[n] for n in needed]), strict=True))
        self.chain: steepest.Chain = make(**self.values)
        self.kind = entry_of(make).kind

    @property
    def descends(self) -> bool:
        return any(link.changes == "param" and "update" in link.reads for link in self.chain)

    def runnable(self, chain: steepest.Chain) -> steepest.Chain:
        """A chain whose plan says what this one adds to a step: clips stand before plain descent, wrappers after it."""
        if self.descends:
            return chain
        plain = steepest.sgd(0.1)
        return steepest.chain(chain, plain) if self.kind == "clip" else steepest.chain(plain, chain)


def _needed(hints: list[Any]) -> list[float]:
    """Numbers for arguments without a default, rising, so that a lower bound is below an upper one."""
    found = []
    for position, hint in enumerate(hints):
        allowed = range_of(hint) or Range()
        found.append(-0.5 if allowed.low < 0 and position == 0 else 0.5 * (position or 1))
    return found


def call(name: str, values: dict[str, Any], prefix: str = "steepest.") -> str:
    return f"{prefix}{name}({', '.join(f'{n}={v!r}' for n, v in values.items())})"


# ---- what stands first


def title(recipe: Recipe) -> str:
    """The name that the paper gives it, where it has a class of that name."""
    return entry_of(recipe.make).class_name or recipe.name


def costs(recipe: Recipe) -> dict[str, Any]:
    chain = recipe.runnable(recipe.chain)
    planned = plan(chain)
    usual = planned.program(planned.usual)
    states = [name for name, (start, _) in planned.trace.starts.items() if not start.on_host]
    memory = sum(one.barrier.name != "UNIT" for one in usual.passes)
    return {
        "passes": memory,
        "sweeps": len(usual.passes) - memory,
        "bytes": usual.bytes_per_parameter(),
        "states": {name: start for name, (start, _) in planned.trace.starts.items()},
        "state_bytes": 4 * len(states),
    }


def one_line(recipe: Recipe) -> str:
    text = markdown(recipe.doc.summary)
    return re.split(r"(?<=\.)\s(?=[A-Z])", text)[0]


def table(header: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(header), line(["---"] * len(header)), *map(line, rows)])


def fence(kind: str, text: str) -> str:
    return f"```{kind}\n{text.rstrip()}\n```"


# ---- the sections


def page(recipe: Recipe) -> str:
    """The whole page, section by section; a section without content is left out."""
    parts = [f"({recipe.name})=\n# {title(recipe)}", *_introduction(recipe)]
    for heading, section in (
        ("Equation", equation_section),
        ("Call", call_section),
        ("Hyperparameters", parameters_section),
        ("Options that change the step", options_section),
        ("State and cost", cost_section),
        ("Chain, pseudo-code and plan", plan_section),
        ("How fast", speed_section),
        ("Tested against", oracle_section),
        ("Who defines it how", variants_section),
        ("The first learning rate to try", learning_rate_section),
        ("What a search draws from", search_section),
        ("Source", source_section),
    ):
        text = "\n\n".join(filter(None, section(recipe)))
        if text:
            parts.append(f"## {heading}\n\n{text}")
    return "\n\n".join(parts) + "\n"


def _introduction(recipe: Recipe) -> list[str]:
    return [markdown(recipe.doc.summary), *(markdown(p) for p in recipe.doc.paragraphs)]


def equation_section(recipe: Recipe) -> Iterator[str]:
    yield fence("{math}", aligned(equations_latex(recipe.chain)))
    yield f"{_letters(recipe)} Printed from the rules of `{call(recipe.name, recipe.values, '')}`."


def _letters(recipe: Recipe) -> str:
    """Which letter stands for which hyperparameter and state, read off the same tables as the equation."""
    from steepest.show.letters import NUMBERS, STATES, word

    said = [r"$\theta$ the parameter, $g$ its gradient, $t$ the step from 1 on"]
    written = " ".join(equations_latex(recipe.chain))
    for link in recipe.chain:
        for name, _ in link.values:
            letter = NUMBERS.get(name, word(name)).at("")
            if letter in written and "mathrm" not in letter:
                said.append(f"${letter}$ `{name}`")
        for name, _ in link.state:
            letter = STATES.get(name, word(name)).at("")
            if "mathrm" not in letter:
                said.append(f"${letter}$ `{name}`")
    return ", ".join(dict.fromkeys(said)) + "."


def call_section(recipe: Recipe) -> Iterator[str]:
    for code in (numpy_code(recipe), torch_code(recipe)):
        yield fence("python", code)
        yield fence("text", ran(code))


def _call_values(recipe: Recipe) -> dict[str, Any]:
    return {**({"lr": 0.1} if "lr" in recipe.parameters else {}), **recipe.values}


def numpy_code(recipe: Recipe) -> str:
    values = _call_values(recipe)
    made = call(recipe.name, values)
    if not recipe.descends:
        order = (made, "steepest.sgd(lr=0.1)") if recipe.kind == "clip" else ("steepest.sgd(lr=0.1)", made)
        made = f"steepest.chain({', '.join(order)})"
    return (
        "import numpy as np\nimport steepest\nimport steepest.numpy as opt\n\n"
        "w = np.array([[3.0, -2.0], [1.0, 0.5]])\n"
        f"optimizer = opt.Optimizer([w], {made})\n"
        "for _ in range(10):\n    optimizer.step([2 * w])  # the gradient of the sum of squares\n"
        "print(w.round(4))"
    )


def torch_code(recipe: Recipe) -> str:
    import steepest.torch

    values = _call_values(recipe)
    named = title(recipe)
    if recipe.kind == "optimizer" and named in steepest.torch.__all__:
        imports = "import steepest.torch as opt"
        made = f"opt.{named}(model.parameters(), {', '.join(f'{n}={v!r}' for n, v in values.items())})"
    else:
        imports = "import steepest\nimport steepest.torch as opt"
        inner = call(recipe.name, values)
        order = (inner, "steepest.adamw(lr=0.01)") if recipe.kind == "clip" else ("steepest.adamw(lr=0.01)", inner)
        chain = inner if recipe.descends else f"steepest.chain({', '.join(order)})"
        made = f"opt.Optimizer(model.named_parameters(), {chain})"
    return (
        f"import torch\n{imports}\n\n"
        "torch.manual_seed(0)\nmodel = torch.nn.Linear(4, 1)\n"
        f"optimizer = {made}\n"
        "x = torch.randn(32, 4)\n"
        "for _ in range(10):\n"
        "    loss = (model(x) - x.sum(1, keepdim=True)).square().mean()\n"
        "    loss.backward()\n    optimizer.step()\n    optimizer.zero_grad()\n"
        'print(f"{loss.item():.4f}")'
    )


def ran(code: str) -> str:
    """What a block prints, run as it stands."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "<page>", "exec"), {"__name__": "page"})
    return out.getvalue().rstrip()


def parameters_section(recipe: Recipe) -> Iterator[str]:
    texts = meanings(recipe.function)
    rows = []
    for name, parameter in recipe.parameters.items():
        default = "" if parameter.default is parameter.empty else f"`{parameter.default!r}`"
        rows.append([f"`{name}`", allowed(recipe.hints.get(name)), default, markdown(texts.get(name, ""))])
    if rows:
        yield table(["name", "allowed", "default", "meaning and origin of the default"], rows)


def meanings(function: Callable[..., Any]) -> dict[str, str]:
    """What a docstring says of each parameter."""
    return entries(parsed(function).sections.get("Parameters", []))


def allowed(hint: Any) -> str:
    if hint is None:
        return ""
    arguments = get_args(hint)
    if type(None) in arguments:
        return ", ".join([*(allowed(one) for one in arguments if one is not type(None)), "or `None`"])
    if hint is bool:
        return "`True`, `False`"
    if get_origin(hint) is Literal:
        return ", ".join(f"`{one!r}`" for one in arguments)
    if get_origin(hint) is tuple:
        each = [allowed(one) for one in arguments]
        if len(set(each)) == 1:
            return f"{len(each)}, each {each[0]}"
        return " and ".join(one.removesuffix(" or a schedule") for one in each)
    if get_origin(hint) is Annotated:
        found = range_of(hint)
        takes_schedules = found is not None and not found.structure and arguments[0] == Value
        return f"{found} or a schedule" if takes_schedules else str(found or "")
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(filter(None, map(allowed, arguments)))
    if get_origin(hint) in (Sequence, list):
        return f"a list, each {allowed(arguments[0])}" if allowed(arguments[0]) else "a list"
    return {"Schedule": "a schedule", "float": "a number", "int": "a whole number", "str": "a text"}.get(
        getattr(hint, "__name__", ""), ""
    )


def options_section(recipe: Recipe) -> Iterator[str]:
    """Every option that gives another equation or another cost than the defaults."""
    base = (equations_latex(recipe.chain), _cost(recipe, recipe.chain))
    seen = [base[0]]
    for name, parameter in recipe.parameters.items():
        tries = _others(name, parameter.default, recipe.hints.get(name)) if name != "maximize" else []
        for value in tries:
            # Alone, or with another one, as Nesterov's form needs a momentum.
            for values in ({name: value}, {"momentum": 0.9, name: value}, {"weight_decay": 0.1, name: value}):
                if not set(values) <= set(recipe.parameters):
                    continue
                try:
                    chain = recipe.make(**{**recipe.values, **values})
                except (TypeError, ValueError):
                    continue
                lines = equations_latex(chain)
                if lines in seen:
                    continue
                seen.append(lines)
                cost = _cost(recipe, chain)
                asked = ", ".join(f"{n}={v!r}" for n, v in values.items())
                yield f"`{asked}`" + ("" if cost == base[1] else f" ({cost})")
                yield fence("{math}", aligned(lines))
                break


def _others(name: str, default: Any, hint: Any) -> list[Any]:
    """Other values of an argument that may give another equation."""
    found = range_of(hint)
    pairs = [one for one in get_args(hint) if get_origin(one) is tuple]
    if isinstance(default, bool):
        return [not default]
    if isinstance(default, float) and default == 0.0:
        return [FIRST.get(name, 0.1)]
    if isinstance(default, int) and default == 1:
        return [2]
    if get_origin(hint) is Literal:
        return [one for one in get_args(hint) if one != default]
    if default is None and pairs:
        return [(0.1, 10.0)]
    return [1.0, float("inf")] if found is not None and found.structure and isinstance(default, float) else []


def _cost(recipe: Recipe, chain: steepest.Chain) -> str:
    return str(plan(recipe.runnable(chain))).splitlines()[1].partition(" (")[0]


def cost_section(recipe: Recipe) -> Iterator[str]:
    found = costs(recipe)
    rows = []
    for name, start in found["states"].items():
        held = "a copy of the parameter" if start.copy else f"`{start.value!r}`"
        size = "8 bytes per tensor, on the host" if start.on_host else "4 bytes per parameter in float32"
        rows.append([f"`{name}`", held, size])
    yield table(["state", "starts as", "size"], rows) if rows else "It keeps no state."
    with_ = {"clip": " in front of plain `sgd`", "wrapper": " after plain `sgd`"}.get(recipe.kind, "")
    passes = f"{found['passes']} pass{'es' * (found['passes'] > 1)} over memory"
    if found["sweeps"]:
        passes += f" ({found['passes'] + found['sweeps']} sweeps over each unit, which is in the cache after the first)"
    yield f"A step{with_} is {passes} and moves {found['bytes']} bytes per parameter in float32."


def plan_section(recipe: Recipe) -> Iterator[str]:
    chain = recipe.runnable(recipe.chain)
    yield f"`{chain}`"
    lines = equations(plan(chain))
    if lines:
        yield "A step, as the rules say it, without regard to passes:"
        yield fence("text", "\n".join(lines))
    yield "Its plan:"
    yield fence("text", str(plan(chain)))


def speed_section(recipe: Recipe) -> Iterator[str]:
    data = figures()
    own = {link.name for link in recipe.chain}
    exact = str(recipe.chain)
    rows = [
        r
        for r in data.get("rows", [])
        if r["chain"] == exact or (own <= set(r["chain"].split(" > ")) and own != {"descend"})
    ]
    if recipe.name == "sgd":
        rows = [r for r in data.get("rows", []) if r["chain"] in ("descend", "accumulate_momentum > descend")]
    if recipe.kind == "optimizer":
        wrapped = ("lookahead", "ema", "clip_by_global_norm", "adaptive_grad_clip")
        rows = [r for r in rows if not set(r["chain"].split(" > ")) & set(wrapped)]
    if not rows:
        return
    shown = [
        [
            f"`{r['chain']}`",
            f"{r['bytes']:g}",
            f"{r['best_ms']:.1f}",
            f"{r['best_ratio']:.2f} ({r['median_ratio']:.2f})",
            "" if r["by_hand_ms"] is None else f"{r['by_hand_ms']:.0f}",
        ]
        for r in rows
    ]
    yield table(["chain", "bytes per parameter", "ms", "× limit, best (median)", "NumPy by hand, ms"], shown)
    size = data["tensors"] * data["shape"][0] * data["shape"][1]
    yield (
        f"{size:,} parameters of {data['dtype']} in {data['tensors']} NumPy arrays, best of {data['rounds']} rounds; the limit "
        f"is a plain streaming kernel that moves as many bytes. {data['machine']}. "
        f"`python benchmarks/steps.py --json docs/figures.json` measures again."
    )


def oracle_section(recipe: Recipe) -> Iterator[str]:
    rows = [row for row in oracle_rows() if recipe.name in row["recipes"]]
    if not rows:
        return
    measured = agreement()
    shown = []
    for row in rows:
        found = measured.get(row["name"])
        numbers = [f"{found[t]:.0e}" for t in ("float64", "float32")] if found else ["not yet", "measured"]
        shown.append([f"`{row['chain']}`", f"`{row['oracle']}`", *numbers])
    yield table(["this", "that", "float64", "float32"], shown)
    limits = tolerances()
    yield (
        f"The largest relative difference after {limits['steps']} steps with random gradients; the tests allow "
        f"{limits['float64']:g} and {limits['float32']:g}."
    )


@cache
def tolerances() -> dict[str, float]:
    """From the tests' own text."""
    text = (ROOT / "tests" / "rules" / "test_rules.py").read_text(encoding="utf-8")
    found = {}
    for dtype in ("float64", "float32"):
        other = "theirs" if dtype == "float32" else f'oracle(row.name, "{dtype}")'
        match = re.search(rf"difference\(\w+, {re.escape(other)}\) <= ([\de.-]+)", text)
        found[dtype] = float(match[1]) if match else float("nan")
    steps = re.search(r"^STEPS = (\d+)", text, flags=re.MULTILINE)
    return {**found, "steps": int(steps[1]) if steps else 0}


@cache
def oracle_rows() -> list[dict[str, Any]]:
    """The rows of tests/oracles.py, read as data: name, chain and oracle as their source says them."""
    tree = ast.parse((ROOT / "tests" / "oracles.py").read_text(encoding="utf-8"))
    table = next(n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "ROWS")
    found = []
    for element in table.elts:  # type: ignore[attr-defined]  # it is a list
        if isinstance(element, ast.Starred):
            loop = element.value.generators[0]  # type: ignore[attr-defined]  # a generator of rows
            for value in eval(ast.unparse(loop.iter), {"float": float}):
                found.append(_oracle_row(element.value.elt, ast.unparse(loop.target), value))  # type: ignore[attr-defined]
        else:
            found.append(_oracle_row(element, "", None))
    return found


def _oracle_row(row: ast.Call, variable: str, value: Any) -> dict[str, Any]:
    def text(node: ast.AST) -> str:
        said = ast.unparse(node)
        return re.sub(rf"\b{variable}\b", f"{value:g}", said) if variable else said

    name, chain, oracle = row.args[:3]
    called = [n.attr for n in ast.walk(chain) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "s"]
    joined = called[0] == "chain"
    recipes = [n for n in called if n not in ("chain", *(steepest.OPTIMIZERS if joined else ()))]
    helper = ast.unparse(oracle.func) if isinstance(oracle, ast.Call) else ""
    rest = ", ".join(ast.unparse(a) for a in getattr(oracle, "args", [])[1:])
    while isinstance(oracle, ast.Call) and any(isinstance(a, ast.Lambda) for a in oracle.args):
        oracle = next(a for a in oracle.args if isinstance(a, ast.Lambda)).body
    said = text(oracle)
    said = re.sub(r"timm_module\('([\w.]+)'\)", r"\1", said)
    said = re.sub(r"\bT\.", "torch.optim.", said)
    said = f"optax.lookahead({said}, {rest})" if helper == "by_optax_lookahead" else said
    for ours, theirs in HELPERS.items():
        said = said.replace(ours, theirs)
    return {
        "name": eval(ast.unparse(name), {variable: value} if variable else {}),
        "chain": text(chain).replace("s.", "", 1) if not joined else re.sub(r"\bs\.", "", text(chain)),
        "oracle": said,
        "recipes": recipes,
    }


def variants_section(recipe: Recipe) -> Iterator[str]:
    rows = [v for v in conventions()["variants"] if v["rule"] == recipe.name]
    if rows:
        shown = [[v["what"], v["ours"], v["others"], v["source"]] for v in rows]
        yield table(["what", "here", "elsewhere", "source"], shown)


def learning_rate_section(recipe: Recipe) -> Iterator[str]:
    said = conventions()["learning_rate"].get(recipe.name)
    if said:
        yield f"{said['text']} ({said['source']})"
    ratio = _beside_adamw(recipe.name)
    if ratio:
        yield ratio


def _beside_adamw(name: str) -> str:
    from steepest.workbench.spaces import DECLARED, Log

    mine, theirs = DECLARED.get(name, {}).get("lr"), DECLARED.get("adamw", {}).get("lr")
    if name == "adamw" or not isinstance(mine, Log) or not isinstance(theirs, Log) or mine == theirs:
        return ""
    factor = (mine.low * mine.high / (theirs.low * theirs.high)) ** 0.5
    said = f"{factor:.0f} times" if factor >= 1 else f"1/{1 / factor:.0f} of"
    return f"The middle of the range below, on a logarithmic scale, is {said} AdamW's."


def search_section(recipe: Recipe) -> Iterator[str]:
    from steepest.workbench.spaces import DECLARED, SCHEDULE

    space = DECLARED.get(recipe.name)
    if not space:
        return
    yield table(["name", "range"], [[f"`{name}`", str(dimension)] for name, dimension in space.items()])
    text = f"`steepest tune {recipe.name}` draws from these"
    if "lr" in space:
        text += f", and from {len(SCHEDULE['schedule'].values)} schedules with their warm-ups"  # type: ignore[union-attr]
    yield text + "; `--space` narrows them."


def source_section(recipe: Recipe) -> Iterator[str]:
    if recipe.doc.source:
        yield markdown(recipe.doc.source)
    else:
        module = inspect.getmodule(recipe.function)
        doc = parsed(module) if module else None
        yield markdown(doc.source) if doc and doc.source else _sources(module)
    home = Path(inspect.getsourcefile(recipe.function) or "").relative_to(Path(steepest.__file__).parents[1])
    yield f"The rule itself: `src/{home}`."


def _sources(module: Any) -> str:
    """The paragraph of a module that starts with "Sources:"."""
    for block in (inspect.getdoc(module) or "").split("\n\n"):
        if block.startswith("Sources:"):
            return markdown(block.removeprefix("Sources:"))
    return ""
