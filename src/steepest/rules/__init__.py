"""The mathematics: a file per family, each rule once, each recipe a short chain with its paper's defaults.

``RECIPES`` is everything that gives a chain when called, by name: what the command line may name and lists. It is read from the
families: every public rule and recipe that a file of ``FAMILIES`` defines, under the kind that it declares. ``__init__.pyi`` shows
the same names to editors and type checkers; ``tools/stubs.py`` writes it.
"""

from collections.abc import Callable, Iterator
from importlib import import_module

from steepest.language.chain import Chain
from steepest.language.rule import Kind, entry_of

FAMILIES = ("descent", "adaptive", "adam", "layerwise", "clipping", "averaging", "guarding")


def _recipes() -> Iterator[tuple[str, Callable[..., Chain]]]:
    for family in FAMILIES:
        module = import_module(f"steepest.rules.{family}")
        for name, found in vars(module).items():
            home = getattr(found, "function", found).__module__ if hasattr(found, "entry") else None
            if home == module.__name__ and not name.startswith("_"):
                yield name, found


def _of_kind(kind: Kind) -> dict[str, Callable[..., Chain]]:
    return {name: found for name, found in _recipes() if entry_of(found).kind == kind}


OPTIMIZERS = _of_kind("optimizer")
CLIPS = _of_kind("clip")
WRAPPERS = _of_kind("wrapper")
PARTS = _of_kind("part")
RECIPES = {**OPTIMIZERS, **CLIPS, **WRAPPERS, **PARTS}
globals().update(RECIPES)

TABLES = ("CLIPS", "OPTIMIZERS", "PARTS", "RECIPES", "WRAPPERS")
__all__ = [*TABLES, *sorted(RECIPES)]
