"""The workbench: choose among optimizers by an honest protocol. An application over the public names of the package."""

from steepest.workbench.compare import Comparison, Contender, Run, compare
from steepest.workbench.lr_find import lr_find
from steepest.workbench.parse import parse

__all__ = ["Comparison", "Contender", "Run", "compare", "lr_find", "parse"]
