"""The named optimizers: a class for each recipe that declares one, and Lookahead around any of them.

``named.pyi`` shows them to editors and type checkers; ``tools/stubs.py`` writes it.
"""

from steepest import rules
from steepest.torch.classes import class_of
from steepest.torch.lookahead import Lookahead as Lookahead

_CLASSES = {made.__name__: made for made in (class_of(recipe, __name__) for recipe in rules.OPTIMIZERS.values())}
globals().update(_CLASSES)

__all__ = sorted(["Lookahead", *_CLASSES])
