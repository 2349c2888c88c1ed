"""Empty stand-ins for the trainers, so that autodoc can import the callbacks: `make docs` doesn't install any trainer.

The reference is then the same whether a trainer is installed or not. Pages run their code in other processes, which see the
installed packages. `autodoc_mock_imports` isn't used: a class under a mocked one gets the signature ``(*args, **kwargs)``.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

TRAINERS = ("lightning", "skorch", "transformers")


class _StandIn(ModuleType):
    """A module in which every name is an empty class."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (), {"__module__": self.__name__})
        setattr(self, name, made)
        return made


class _Importer(MetaPathFinder, Loader):
    """Finds a stand-in for each trainer and for every module in it."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in TRAINERS else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: names are made when they are asked for."""


def setup(app: Any) -> dict[str, Any]:
    sys.meta_path.insert(0, _Importer())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
