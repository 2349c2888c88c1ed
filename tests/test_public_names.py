"""What `import steepest` and `from steepest import *` give, and what they cost."""

from __future__ import annotations

import builtins
import importlib
import subprocess
import sys

import pytest

import steepest

BLOCKED = """
import sys

for name in ("torch", "numba"):
    sys.modules[name] = None  # an import of it fails, as if it weren't installed
from steepest import *

assert sum([1, 2]) == 3 and max(1, 2) == 2 and abs(-1) == 1
assert not {"numpy", "torch", "os", "annotations"} & set(globals())
print(chain(clip_by_global_norm(1.0), adamw(schedules.cosine(1e-3, steps=10))))
print(Monitor.__name__, Guard.__name__, TensorBoard.__name__, WeightsAndBiases.__name__)
"""


def test_a_star_import_works_without_torch_and_leaves_pythons_names_alone() -> None:
    run = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=False)
    shown = "clip_by_global_norm > scale_by_adam > add_decayed_weights > descend\nMonitor Guard TensorBoard WeightsAndBiases\n"
    assert (run.stdout, run.stderr) == (shown, "")


def test_a_star_import_shadows_no_builtin_and_no_library() -> None:
    assert {*steepest.__all__} & {*dir(builtins), "numpy", "torch"} == set()
    assert len(steepest.__all__) == len({*steepest.__all__})


def test_dir_lists_the_public_names_and_nothing_else() -> None:
    by_attribute = {"__version__", "abs", "max", "sum", "monitor", "numpy", "torch", "workbench"}
    assert dir(steepest) == sorted({*steepest.__all__, *by_attribute})
    assert all(getattr(steepest, name) is not None for name in dir(steepest))


@pytest.mark.parametrize("module", ["steepest", "steepest.monitor", "steepest.workbench", "steepest.monitor.probes"])
def test_a_name_that_is_loaded_on_first_use_is_there_and_any_other_is_an_error(module: str) -> None:
    package = importlib.import_module(module)
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match=f"^module '{module}' has no attribute 'adammmm'$"):
        package.adammmm  # noqa: B018  # reading it is what fails


def test_a_misspelt_name_is_an_error_with_the_nearest_name() -> None:
    code = "import steepest; steepest.adamww(1e-3)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stderr.endswith("module 'steepest' has no attribute 'adamww'. Did you mean: 'adamw'?\n")
