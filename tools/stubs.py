"""Write the stubs that editors and type checkers read in place of the modules whose names are made when they are imported.

    python tools/stubs.py

`steepest.rules` collects what its families declare. `steepest.numpy.named` and `steepest.torch.named` make a class of each recipe
that declares one. Run this script whenever a rule or recipe, its arguments, their ranges or its documentation has changed.
`tests/typing/test_stubs.py` fails until then.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import steepest.numpy.named
import steepest.torch.named
from steepest import checks, rules
from steepest.language.rule import Rule

PACKAGE = Path(steepest.__file__).parent
HEAD = f"""\
# Written by tools/stubs.py from what the rules and recipes declare. Don't edit this file, run the script again.
from collections.abc import Callable
from typing import Literal, ParamSpec
from steepest.checks import {", ".join(checks.__all__)}
from steepest.language.chain import Chain
from steepest.language.rule import Rule
"""
CLASSES = """\
from {front}.lookahead import Lookahead as Lookahead
from {front}.optimizer import Optimizer
"""
RULES = """
_P = ParamSpec("_P")

class _Rule(Rule[_P]):
    # The library's own rules also take their values by position.
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> Chain: ...  # type: ignore[override]

def _rule(function: Callable[_P, Chain], /) -> _Rule[_P]: ...

"""


def stubs() -> dict[Path, str]:
    """The text of every stub, by its path."""
    numpy, torch = _classes(steepest.numpy.named), _classes(steepest.torch.named)
    # As in torch.optim, a number may also be a tensor of one element.
    ranges = rf"\b({'|'.join(checks.__all__)})\b"
    torch = re.sub(r": '[^']+'", lambda annotation: re.sub(ranges, r"\1 | Tensor", annotation[0]), torch)
    texts = {
        PACKAGE / "rules" / "__init__.pyi": _rules(),
        PACKAGE / "numpy" / "named.pyi": "from steepest.numpy.optimizer import Params\n" + numpy,
        PACKAGE / "torch" / "named.pyi": "from torch import Tensor\nfrom torch.optim.optimizer import ParamsT\n"
        + torch,
    }
    return {path: _formatted(HEAD + text) for path, text in texts.items()}


def _classes(module: ModuleType) -> str:
    classes = [
        made for name, made in sorted(vars(module).items()) if name in module.__all__ and hasattr(made, "recipe")
    ]
    text = CLASSES.format(front=module.__name__.rpartition(".")[0]) + f"__all__ = {module.__all__}\n"
    for made in classes:
        arguments = _arguments(inspect.signature(made)).replace("(", "(self, ", 1)
        text += f"class {made.__name__}(Optimizer):\n{_docstring(made)}    def __init__{arguments} -> None: ...\n"
    return text


def _rules() -> str:
    text = f"__all__ = {rules.__all__}\n" + RULES
    text += "".join(f"{name}: dict[str, Callable[..., Chain]]\n" for name in rules.TABLES)
    for name, made in rules.RECIPES.items():
        if isinstance(made, Rule):
            text += f"@_rule\ndef {name}{_arguments(inspect.signature(made))} -> Chain:\n{_docstring(made.function)}"
        else:  # its own file says all
            text = f"from {made.__module__} import {name} as {name}\n" + text
    return text


def _arguments(signature: inspect.Signature) -> str:
    return str(signature.replace(return_annotation=signature.empty))


def _docstring(thing: Any) -> str:
    lines = (inspect.getdoc(thing) or "").split("\n")
    raw = "r" if any("\\" in line for line in lines) else ""
    first, *rest = [f"    {line}".rstrip() for line in lines]
    end = "\n    " if rest else ""
    return "\n".join([f'    {raw}"""{first.strip()}', *rest]) + f'{end}"""\n'


def _formatted(text: str) -> str:
    """The text as ruff leaves it: without imports that it doesn't need, and annotations without quotes."""
    for command in (["check", "--quiet", "--fix-only", "--select=F401,I,UP037"], ["format", "--quiet"]):
        options = [f"--config={Path(__file__).parents[1] / 'pyproject.toml'}", "--stdin-filename=stub.pyi", "-"]
        command = [sys.executable, "-m", "ruff", *command, *options]
        text = subprocess.run(command, input=text, capture_output=True, encoding="utf-8", check=True).stdout
    return text


if __name__ == "__main__":
    for path, text in stubs().items():
        path.write_text(text, encoding="utf-8")
