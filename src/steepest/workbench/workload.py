"""A workload: a piece of real work that optimizers are compared on, the library's own or a user's.

A workload is what stays the same for every optimizer: the data and their split, the initial weights and the order of the
batches for each seed, the number of steps, how good a result is and when a run has failed. It is a function of a seed that
returns a `Task`, with a few facts beside it:

    import torch, steepest.workbench as wb

    @wb.workload(steps=300, metric="loss")
    def circles(seed):
        model = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
        def loss(step):
            x, y = batch(seed, step)
            return torch.nn.functional.mse_loss(model(x), y)
        def evaluate(part):
            x, y = parts[part]
            return {"loss": float(torch.nn.functional.mse_loss(model(x), y))}
        return wb.TorchTask(model, loss, evaluate)

``steepest compare --workload my_project.train:circles`` runs it. Knows no protocol and no optimizer.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

from steepest.checks import Count, check_value, unknown_name
from steepest.workbench.words import described

__all__ = ["ArrayTask", "Task", "TorchTask", "Workload", "find", "workload"]

PARTS = ("validation", "test")


class Task(Protocol):
    """One run's model and data, made for a seed; the optimizer steps ``params``."""

    params: Mapping[str, Any]

    def gradients(self, step: int) -> tuple[float, Mapping[str, Any] | None]:
        """Compute the gradients of step ``step`` (from 0) on its batch: the loss, and the gradients by name, or None where
        they lie in the parameters (torch)."""

    def evaluate(self, part: str) -> Mapping[str, float]:
        """Measures on the ``"validation"`` or ``"test"`` part, the workload's metric among them."""


@dataclass(slots=True)
class ArrayTask:
    """A task on NumPy arrays: ``loss_and_gradients(step)`` returns the loss and a gradient for every parameter by name."""

    params: Mapping[str, Any]
    loss_and_gradients: Callable[[int], tuple[float, Mapping[str, Any]]]
    evaluation: Callable[[str], Mapping[str, float]]

    def gradients(self, step: int) -> tuple[float, Mapping[str, Any]]:
        made: Any = self.loss_and_gradients(step)
        is_pair = isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], Mapping)
        if not is_pair or not hasattr(made[0], "__float__"):
            raise TypeError(
                f"ArrayTask: {_written(self.loss_and_gradients)} must return the loss and a dict of gradients by parameter, "
                f"got {described(made)} for step {step}."
            )
        return made[0], made[1]

    def evaluate(self, part: str) -> Mapping[str, float]:
        return self.evaluation(part)


class TorchTask:
    """A task on a torch model: ``loss(step)`` returns the loss of the step's batch, a tensor to call ``backward`` on."""

    def __init__(self, model: Any, loss: Callable[[int], Any], evaluate: Callable[[str], Mapping[str, float]]) -> None:
        self.model, self.loss, self.evaluation = model, loss, evaluate
        self.params: Mapping[str, Any] = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def gradients(self, step: int) -> tuple[float, None]:
        self.model.train()
        for p in self.params.values():
            p.grad = None
        loss = self.loss(step)
        if not callable(getattr(loss, "backward", None)):
            raise TypeError(
                f"TorchTask: {_written(self.loss)} must return a tensor of one element, got {described(loss)} for step {step}. "
                f"Return the loss itself, without .item() or float()."
            )
        loss.backward()
        return float(loss.detach()), None

    def evaluate(self, part: str) -> Mapping[str, float]:
        import torch

        self.model.eval()
        with torch.no_grad():
            return self.evaluation(part)


@dataclass(frozen=True)
class Workload:
    """A piece of work, and what a comparison must know of it.

    Attributes
    ----------
    name : how the command line calls it.
    start : makes the task of a seed: the same weights and batches for every optimizer.
    steps : the budget of a run, >= 1.
    metric : the measure that decides, among those that ``evaluate`` returns.
    higher_is_better : whether a larger value of it is better.
    failed : a value of the metric from which on a run has failed; a run whose loss is not finite has failed anyway.
    target : a value worth reaching; None where there is none.
    rates : the learning rate from which a search starts, by optimizer, where it is known from experience.
    about : one line on data, model and batch size.
    source : where the data come from, with their licence.
    data, split_seed : the SHA-256 of the data, and the seed by which they are split; empty and None where there is none.
    batch : examples of a step; None where there are none.
    seconds : how long a run takes on one core, roughly; None where it is not known.
    """

    name: str
    start: Callable[[int], Task]
    steps: int
    metric: str = "loss"
    higher_is_better: bool = False
    failed: float = math.inf
    target: float | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    about: str = ""
    source: str = ""
    seconds: float | None = None
    batch: int | None = None
    data: str = ""
    split_seed: int | None = None

    def __post_init__(self) -> None:
        check_value(f"workload {self.name}", "steps", self.steps, Count)

    def task(self, seed: int) -> Task:
        """The task of a seed. Raises TypeError where ``start`` returns anything else."""
        made = self.start(seed)
        if not all(hasattr(made, name) for name in ("params", "gradients", "evaluate")):
            raise TypeError(
                f"workload {self.name}: {_written(self.start)} must return a TorchTask or an ArrayTask, got {described(made)}. "
                "End it with return TorchTask(model, loss, evaluate)."
            )
        return made

    def with_steps(self, steps: int) -> Workload:
        """The same work with another budget."""
        return replace(self, steps=steps)

    @property
    def digest(self) -> str:
        """What the work is, as 16 hexadecimal digits: another budget, split, batch size, target or data make others.

        Of the library's own it holds what is said of it here; of a user's the file that defines it, too.
        """
        said = [
            self.about, self.data, self.split_seed, self.batch, self.steps, self.metric, self.higher_is_better, self.failed,
            self.target,
        ]  # fmt: skip
        code = b"" if self.name in BUILT_IN else _code(self.start)
        return hashlib.sha256(json.dumps(said).encode() + code).hexdigest()[:16]

    def cost(self, value: float) -> float:
        """The metric turned so that lower is better; infinite where it is not a number or says that the run has failed."""
        turned, limit = (-value, -self.failed) if self.higher_is_better else (value, self.failed)
        if not math.isfinite(value) or (math.isfinite(self.failed) and turned >= limit):
            return math.inf
        return turned


def _code(start: Callable[[int], Task]) -> bytes:
    """The file in which a function was written; nothing where it has none."""
    file = inspect.getsourcefile(start) if inspect.isroutine(start) else None
    return Path(file).read_bytes() if file and Path(file).is_file() else b""


def _written(function: Any) -> str:
    """A user's function, with where it stands: ``loss (train.py:12)``."""
    name, code = getattr(function, "__name__", type(function).__name__), getattr(function, "__code__", None)
    return f"{name} ({Path(code.co_filename).name}:{code.co_firstlineno})" if code else name


def workload(*given: Any, **facts: Any) -> Callable[[Callable[[int], Task]], Workload]:
    """Make a `Workload` of a function of a seed; its name and docstring are the workload's. Raises TypeError for anything else."""
    if given:
        raise TypeError(
            f"workload: arguments must be given by name, got {described(given[0])}. Write @workload(steps=300)."
        )

    def decorate(start: Callable[[int], Task]) -> Workload:
        known = {one.name for one in fields(Workload)} - {"start"}
        if unknown := [name for name in facts if name not in known]:
            raise TypeError(unknown_name(f"workload {start.__name__}", "argument", unknown[0], known))
        if "steps" not in facts:
            raise TypeError(
                f"workload {start.__name__}: steps, the length of a run, is missing. Write @workload(steps=300)."
            )
        try:
            inspect.signature(start).bind(0)
        except TypeError:
            raise TypeError(
                f"workload {start.__name__}: the function must take only the seed, got the signature {inspect.signature(start)}."
            ) from None
        said = (inspect.getdoc(start) or "").split("\n\n")[0]
        given = {"name": start.__name__.replace("_", "-"), "about": said, **facts}
        return Workload(start=start, **given)

    return decorate


BUILT_IN = {
    "digits-mlp": "digits_mlp:digits_mlp",
    "quadratics": "quadratics:quadratics",
    "quadratics-ill-conditioned": "quadratics:quadratics_ill_conditioned",
    "quadratics-noisy": "quadratics:quadratics_noisy",
    "mnist-cnn": "mnist_cnn:mnist_cnn",
    "mnist-cnn-large-batch": "mnist_cnn:mnist_cnn_large_batch",
    "unicode-bow": "unicode_bow:unicode_bow",
    "unicode-bow-sparse": "unicode_bow:unicode_bow_sparse",
    "rnn-memory": "rnn_memory:rnn_memory",
    "rnn-memory-order": "rnn_memory:rnn_memory_order",
    "char-gpt": "char_gpt:char_gpt",
    "char-gpt-post-norm": "char_gpt:char_gpt_post_norm",
    "autoencoder": "autoencoder:autoencoder",
    "diamonds": "diamonds:diamonds",
    "diamonds-large-batch": "diamonds:diamonds_large_batch",
}
"""The library's workloads: where in steepest.workbench.workloads each is defined. Imported when it is asked for."""


def find(name: str) -> Workload:
    """A workload by its name, or a user's by ``module:name`` or ``file.py:name``; a file that has changed is read again.

    Raises ValueError for an unknown name, and for what a user's module raises on import: it says where.
    """
    file = Path(name.rpartition(":")[0])
    return _found(name, file.stat().st_mtime_ns if file.suffix == ".py" and file.is_file() else 0)


@functools.cache
def _found(name: str, _changed: int) -> Workload:
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        try:
            found = getattr(importlib.import_module(f"steepest.workbench.workloads.{module}"), attribute)
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            cure = "Install steepest[torch], or compare on digits-mlp or quadratics, which need no framework."
            raise ModuleNotFoundError(f"workload {name}: it needs PyTorch. {cure}", name="torch") from None
        return _checked(name, found)
    module, colon, attribute = name.rpartition(":")
    from steepest.workbench.users import module_of, names_in

    if not colon and name.endswith(".py"):
        found = [one for one, value in names_in(name).items() if isinstance(value, Workload)]
        cure = f"Write {' or '.join(f'{name}:{one}' for one in found)}."
        if not found:
            cure = f"The file has no workload. Write a function of a seed under @workload(steps=…), then {name}:NAME."
        raise ValueError(f"workload: the name must be FILE:NAME, got the file {name!r}. {cure}")
    if not colon:
        raise ValueError(unknown_name("workload", "name", name, [*BUILT_IN, "module:name"]))
    return _checked(name, module_of(module, attribute))


def _checked(name: str, found: Any) -> Workload:
    made = found
    if callable(found) and all(p.default is not p.empty for p in inspect.signature(found).parameters.values()):
        made = found()  # a function that makes a workload
    if not isinstance(made, Workload):
        raise TypeError(
            f"workload {name}: it must be a function of a seed under @workload(steps=…), got {type(made).__name__}."
        )
    return made if name in BUILT_IN else replace(made, name=name)
