"""Any chain as a `torch.optim.Optimizer`.

What torch shows to the world (``param_groups``, ``state``, hooks, state dicts) is here and is torch's own. What runs the steps,
and everything that changes, is the optimizer's `Core`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Self

import torch
from torch.optim.optimizer import ParamsT

from steepest.language.chain import Chain
from steepest.language.trace import check_order
from steepest.step.groups import check_mapping
from steepest.step.recipes import Recipe, recipe_of_chain
from steepest.step.scheduled import numbers_of
from steepest.step.stepper import Inspector, Plans, Stepper, Watch
from steepest.torch import state as states
from steepest.torch.core import Core
from steepest.torch.graphs import outside_of_graphs
from steepest.torch.groups import check_values, recipes_of

__all__ = ["Optimizer"]


class Optimizer(torch.optim.Optimizer):
    """Runs a chain on torch parameters, in place, as a `torch.optim.Optimizer`.

    Every hyperparameter of the chain stands in ``param_groups`` under the name that the plan gives it (``lr``, ``max_norm`` …),
    so torch's schedulers and a group's own values work on any chain. Betas of one link are the tuple ``betas``. A value that a
    schedule gives is shown as the number that the next step uses; `schedules` has the schedule.

    Parameters
    ----------
    params : parameters, named parameters, or groups, as for every torch optimizer. A group may have a ``"chain"`` of its own.
    chain : what rules, recipes and `steepest.chain` return.
    engine : ``"auto"``, ``"cpu"`` (compiled, by Numba) or ``"arrays"`` (``torch._foreach_`` calls, any device).

    Raises
    ------
    TypeError, ValueError : for a wrong argument, before anything is changed.

    Examples
    --------
    >>> import torch, steepest, steepest.torch as opt
    >>> w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    >>> optimizer = opt.Optimizer([w], steepest.chain(steepest.clip_by_global_norm(1.0), steepest.sgd(0.1)))
    >>> w.grad = torch.tensor([3.0, 4.0])
    >>> optimizer.step()
    >>> w.data
    tensor([0.9400, 1.9200])
    >>> w.grad
    tensor([3., 4.])
    """

    @outside_of_graphs
    def __init__(self, params: ParamsT, chain: Chain | None = None, *, engine: str = "auto") -> None:
        self._begin(engine)
        recipe = None if chain is None else recipe_of_chain(type(self).__name__, chain)
        self._set_up(params, recipe, {} if recipe is None else dict(recipe.defaults))

    # ---- construction

    _densifies = False
    """Whether a sparse gradient is made dense, where torch's own rule keeps sparse states that amount to the same."""
    _foreach_takes_tensors = True
    """Whether torch's class of the same rule takes a tensor as a hyperparameter together with ``foreach=True``."""

    def _begin(self, engine: str) -> None:
        """Make the core, which torch's constructor needs to add the groups."""
        self._core = Core(type(self).__name__, engine, self._densifies)

    def _set_up(
        self, params: Any, recipe: Recipe | None, defaults: dict[str, Any], recipes: Sequence[Recipe] = ()
    ) -> None:
        """Check the defaults, let torch add the groups, and look at all parameters. The first groups may have recipes of
        their own."""
        core = self._core
        core.recipe, core.given = recipe, list(recipes)
        if recipe is not None:
            check_values(core.what, defaults, self._foreach_takes_tensors)
            recipe(defaults)
        super().__init__(params, numbers_of(defaults))
        core.build(added=True)
        known = core.live.recipes
        if recipe is None and known:  # tools look for what can be set in the defaults
            common = set.intersection(*({*one.defaults} for one in known))
            self.defaults.update(numbers_of({n: v for n, v in known[0].defaults.items() if n in common}))

    @outside_of_graphs
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, with values of its own; their states start at their first step.

        Raises what torch raises, and TypeError or ValueError for values out of range, for parameters that share memory, and
        for those that can't be stepped in place; nothing is added then.
        """
        with self._core.turn.wait():
            self._add(param_group)

    def _add(self, param_group: dict[str, Any]) -> None:
        core = self._core
        what = f"{core.what}: group {len(core.groups)}"
        recipe = core.given.pop(0) if core.given else core.recipe
        if "chain" in param_group:
            recipe = recipe_of_chain(what, param_group["chain"])
            param_group = {**recipe.defaults, **{k: v for k, v in param_group.items() if k != "chain"}}
        if recipe is None:
            raise TypeError(
                f"{what} has no chain, and no chain is given for all groups. Pass chain=…, or give each group a chain."
            )
        for name, value in recipe.defaults.items():
            if any(map(callable, value if isinstance(value, tuple) else (value,))):  # a number stands in the defaults
                param_group.setdefault(name, value)
        core.adding = True
        try:
            super().add_param_group(param_group)
        finally:
            core.adding = False
        group = core.groups[-1]
        core.live.recipes.append(recipe)
        core.live.added.append(group)
        try:
            check_values(core.what, group, self._foreach_takes_tensors)
            chain = recipe(group)
            check_order(chain)
            if core.released is not None:
                core.released.check(chain)
            if core.stepper is not None:
                core.look_at_added(chain)
        except BaseException:
            core.groups.pop()
            core.live.recipes.pop()
            core.live.added.pop()
            raise

    # ---- a step

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Run the closure, if there is one, with gradients enabled; then update all parameters that have a gradient.

        Gradients are not changed. Raises TypeError or ValueError for gradients that do not fit, FloatingPointError where a
        chain says ``on_nonfinite="error"``; in each case nothing has been changed. A first step in which every ``lr`` and every
        gradient is 0 only makes the states, with a step count of 0: so PyTorch's distributed checkpoints ask for them.
        """
        self._core.refuse_while_swapped("step")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._step()
        return loss

    @outside_of_graphs
    def _step(self) -> None:
        core = self._core
        if core.steps == 0 and core.makes_states(core.groups):
            return
        if core.released is None:
            core.step(core.live.rows)
        else:
            core.released.finish(core.groups)

    # ---- what is shown

    @property
    @outside_of_graphs
    def param_groups(self) -> list[dict[str, Any]]:
        """Each group's parameters and values. A value that a schedule gives is the number that the next step uses."""
        return self._core.show_numbers()

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self._core.groups = groups

    @property
    @outside_of_graphs
    def schedules(self) -> list[dict[str, Any]]:
        """For each group the schedules behind its numbers, by name."""
        groups, core = self.param_groups, self._core.outer or self._core
        return [core.live.schedules.in_force(number, group) for number, group in enumerate(groups)]

    @property
    @outside_of_graphs
    def state(self) -> defaultdict[torch.Tensor, Any]:
        """Each parameter's states, as every torch optimizer shows them; empty before its first step.

        What is changed in it is used at the next step. Look again after a step: an entry kept from before says an old step
        count, and what is exchanged in it then is not seen.
        """
        return self._core.show()

    @state.setter
    def state(self, value: Mapping[torch.Tensor, Any]) -> None:
        self._core.state = value if isinstance(value, defaultdict) else defaultdict(dict, value)
        self._core.shown = True

    @property
    @outside_of_graphs
    def plan(self) -> Plans:
        """What a step does: passes, bytes, values. Printable."""
        return self.stepper.plans

    @property
    def measured(self) -> dict[str, Any]:
        """What `steepest.measure` read last: a number, or a number per parameter's name."""
        return {} if self._core.stepper is None else self._core.stepper.readings.named()

    @outside_of_graphs
    def watch(self, watch: Watch | None, inspector: Inspector | None = None) -> None:
        """Let ``watch`` put measurements into every group's chain, and ``inspector`` look at gradients; None ends it."""
        core = self._core
        with core.turn.wait():
            core.ready(self.param_groups).watched_by(watch)
            core.watch, core.inspector = watch, inspector

    @property
    @outside_of_graphs
    def stepper(self) -> Stepper:
        """What runs the steps, for groups and parameters as they are now: tensors, chains, plans, measurements."""
        core = self._core
        with core.turn.wait():
            return core.ready(self.param_groups)

    @property
    def steps(self) -> int:
        """Steps taken so far; what schedules see at the next step. Skipped steps do not count."""
        return self._core.steps

    @property
    def seconds(self) -> float:
        """Seconds spent inside steps so far. On a GPU this is the time to start their work."""
        return self._core.seconds

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Evaluate with a state (an EMA's ``"average"``, Lookahead's ``"slow"``) in place of the weights.

        The weights are put back at the end, also after an error; whatever was done to them inside is lost.
        """
        with self._core.using(self.param_groups, name):
            yield

    # ---- saved and loaded

    @outside_of_graphs
    def state_dict(self) -> dict[str, Any]:
        """Everything a run continues from, in torch's form.

        Each group has numbers, its schedules beside them as one text of JSON, and the number of steps taken. With
        `named_parameters` it holds the names by which `load_state_dict` finds each parameter's state again. The state of a
        parameter that no group lists any more is left out.
        """
        core = self._core
        core.refuse_while_swapped("state_dict")
        recipes = recipes_of(core.live)
        with core.showing_only(core.groups):
            made = super().state_dict()
        return states.dictionary(made, recipes, self.steps, self.schedules)

    @outside_of_graphs
    def load_state_dict(  # type: ignore[override]  # torch's returns None
        self, state_dict: Mapping[str, Any], strict: bool = True, schedules: Literal["saved", "own"] | None = None
    ) -> states.Incompatible:
        """Continue from a `state_dict` of this class, or of torch's class of the same rule.

        Where both were made with named parameters, state is found by name, whatever the order and the groups; otherwise by
        position. An optimizer without names takes over saved ones, as torch's does. Names and states that are missing or not
        expected raise ValueError, or are returned with ``strict=False``. Nothing is changed if anything does not fit.

        ``schedules`` is which schedules to use if the saved ones and this optimizer's own differ: ``"saved"`` or ``"own"``. None,
        the default, uses the saved ones and warns.
        """
        core = self._core
        core.refuse_while_swapped("load_state_dict")
        check_mapping(f"{core.what}.load_state_dict", "the state dict", state_dict)
        given: Any = dict(state_dict)
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            changed = before(self, given)
            given = given if changed is None else changed
        with core.turn.wait():
            incompatible = core.load(self.param_groups, given, strict, schedules)
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)
        return incompatible

    # ---- copied

    def __copy__(self) -> Self:
        """Another handle on the same run: parameters, groups, states and steps are shared."""
        made = object.__new__(type(self))
        made._core = self._core
        torch.optim.Optimizer.__setstate__(made, {"defaults": self.defaults, "param_groups": self.param_groups})
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Parameters, states and values; plans and kernels are found again."""
        core = self._core
        return {
            **super().__getstate__(),
            **{f"_{name}": getattr(core, name) for name in _PICKLED},
            "_steps": core.steps,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        rest = dict(state)
        own = {name: rest.pop(f"_{name}") for name in _PICKLED if f"_{name}" in rest}
        if "_core" not in self.__dict__:
            self._begin(own.get("engine", "auto"))
        core = self._core
        for name, value in own.items():
            setattr(core, name, value)
        core.steps_before = rest.pop("_steps", core.steps_before)
        shown = rest.pop("state", core.state)
        core.groups = rest.pop("param_groups", core.groups)
        super().__setstate__(rest)
        self.state = shown


_PICKLED = ("engine", "densifies", "recipe", "live")
"""Attributes of the core that a copy of the optimizer needs."""
