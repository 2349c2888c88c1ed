"""Any chain as a `torch.optim.Optimizer`.

A step looks at the groups, the parameters and their gradients as they are now, gives the addresses of what has changed to
the `Stepper`, and lets it run. What torch shows to the world (``param_groups``, ``state``, hooks, state dicts) is torch's
own; ``state`` is brought up to date when somebody looks at it, and looked at again before the next step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.graph import increment_version

from steepest.engines.choice import check_engine
from steepest.engines.tensors import Engine
from steepest.language.chain import Chain
from steepest.language.trace import check_order
from steepest.stepping import Inspector, Plans, Stepper, Watch
from steepest.torch import state as states
from steepest.torch.arrays import ForeachEngine
from steepest.torch.gradients import Regular, looked_at, sparse_rows
from steepest.torch.graphs import outside_of_graphs
from steepest.torch.groups import Recipe, chains_of, check_values, forms_of, recipe_of_chain
from steepest.torch.held import Held, check_apart, check_complex, held_in, holding
from steepest.torch.sharding import share
from steepest.torch.unchanged import Parameters

if TYPE_CHECKING:
    from steepest.torch.release import Released

__all__ = ["Optimizer"]

_FOREACH = ForeachEngine()


class Optimizer(torch.optim.Optimizer):
    """Runs a chain on torch parameters, in place, as a `torch.optim.Optimizer`.

    Every hyperparameter of the chain stands in ``param_groups`` under the name that the plan gives it (``lr``,
    ``max_norm``, ``beta1`` …), so torch's schedulers and a group's own values work on any chain.

    Parameters
    ----------
    params : parameters, named parameters, or groups, as for every torch optimizer. A group may have a ``"chain"`` of its own.
    chain : what rules, recipes and `steepest.chain` return.
    engine : ``"auto"``, ``"cpu"`` (compiled, by Numba) or ``"arrays"`` (``torch._foreach_`` calls, any device).

    Raises
    ------
    TypeError, ValueError : before anything is changed; the message names the argument, its value and what is allowed.

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
    def __init__(self, params: Any, chain: Chain | None = None, *, engine: str = "auto") -> None:
        self._begin(engine)
        recipe = None if chain is None else recipe_of_chain(type(self).__name__, chain)
        self._set_up(params, recipe, {} if recipe is None else dict(recipe.defaults))

    # ---- construction

    def _begin(self, engine: str) -> None:
        """Everything that torch's constructor, which adds the groups, must find."""
        check_engine(engine)
        self._engine = engine
        self._recipe: Recipe | None = None
        self._given: list[Recipe] = []
        self._recipes: list[Recipe] = []
        self._state: defaultdict[torch.Tensor, Any] = defaultdict(dict)
        self._stepper: Stepper | None = None
        self._held: list[Held] = []
        self._params = Parameters()
        self._forms: list[list[Any]] = []
        self._regular: Regular | None = None
        self._shown = False
        self._steps = 0
        self._swapped = ""
        self._released: Released | None = None
        self._watch: Watch | None = None
        self._inspector: Inspector | None = None
        self.seconds = 0.0
        """Time spent inside steps so far: on a GPU the time to start their work."""

    def _set_up(
        self, params: Any, recipe: Recipe | None, defaults: dict[str, Any], recipes: Sequence[Recipe] = ()
    ) -> None:
        """Check the defaults, let torch add the groups, and look at all parameters. The first groups may have recipes of
        their own."""
        self._recipe, self._given = recipe, list(recipes)
        if recipe is not None:
            check_values(type(self).__name__, defaults)
            recipe(defaults)
        super().__init__(params, defaults)
        self._build()

    @outside_of_graphs
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, with values of its own; their states start at their first step.

        Raises what torch raises, and TypeError or ValueError for values out of range, for parameters that share memory, and
        for those that can't be stepped in place; nothing is added then.
        """
        what = f"{type(self).__name__}: group {len(self.param_groups)}"
        recipe = self._given.pop(0) if self._given else self._recipe
        if "chain" in param_group:
            recipe = recipe_of_chain(what, param_group["chain"])
            param_group = {**recipe.defaults, **{k: v for k, v in param_group.items() if k != "chain"}}
        if recipe is None:
            raise TypeError(
                f"{what} has no chain, and there is none for all groups. Give chain=…, or one to each group."
            )
        super().add_param_group(param_group)
        self._recipes.append(recipe)
        try:
            group = self.param_groups[-1]
            check_values(type(self).__name__, group)
            check_order(recipe(group))
            if self._released is not None:
                self._released.check(recipe(group))
            if self._stepper is not None:
                self._build()
        except BaseException:
            self.param_groups.pop()
            self._recipes.pop()
            raise

    @torch.no_grad()
    def _build(self) -> None:
        """A new stepper for the groups as they are now; what is known of a parameter stays."""
        what = type(self).__name__
        if len(self._recipes) != len(self.param_groups):
            raise ValueError(
                f"{what}: param_groups has {len(self.param_groups)} groups, {len(self._recipes)} were added. Add groups by "
                f"add_param_group; to take one out, empty it: group['params'] = []."
            )
        if self._stepper is not None:
            _ = self.state  # brought up to date before the layout is given up
            self._stepper.forget_layout()
        groups = held_in(what, self.param_groups, self._held)
        held = [one for row in groups for one in row]
        chains = chains_of(self, self._recipes)
        for index, one in enumerate(held):
            one.tensor.index = index
        joined = share if any(one.tensor.cuts for one in held) else None
        tensors = [[one.tensor for one in row] for row in groups]
        stepper = Stepper(tensors, chains, self._engine, _FOREACH, joined, _cpu_engine, self._watch)
        stepper.steps = self.steps
        for one, own in zip(held, stepper.own_plans, strict=True):
            check_complex(what, one, own)
        self._stepper, self._held = stepper, held
        self._params = Parameters([[one.param for one in row] for row in groups])
        self._forms = forms_of(self.param_groups, self._recipes)
        self._regular, self._shown = None, True
        if self._released is not None:
            self._released.attach(stepper, held)

    # ---- a step

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Run the closure, if there is one, with gradients enabled; then update all parameters that have a gradient.

        Gradients are not changed. Raises TypeError or ValueError for gradients that do not fit, FloatingPointError where a
        chain says ``on_nonfinite="error"``; in each case nothing has been changed.
        """
        self._refuse_while_swapped("step")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._released is None:
            self._step()
        else:
            self._released.finish()
        return loss

    def _refuse_while_swapped(self, what: str) -> None:
        if self._swapped:
            raise RuntimeError(f"{what}: the weights are swapped for {self._swapped!r}. Leave the with block first.")

    @outside_of_graphs
    def _step(self) -> None:
        began = perf_counter()
        stepper = self._ready()
        params = self._params.all
        grads = [p.grad for p in params]
        if self._inspector is not None:
            self._inspector.before(grads)
        addresses = None if self._regular is None else self._regular(grads)
        happened = self._closer(stepper, grads) if addresses is None else stepper.step((), addresses)
        if happened:
            if self._regular is None or self._regular.absent:
                params = [p for p, g in zip(params, grads, strict=True) if g is not None]
            increment_version(params)
        if self._inspector is not None:
            self._inspector.after(grads, stepper)
        self.seconds += perf_counter() - began

    @torch.no_grad()
    def _closer(self, stepper: Stepper, grads: Sequence[torch.Tensor | None]) -> bool:
        """A step on gradients that are not all as at the last one."""
        what = f"{type(self).__name__}.step"
        buffers, sparse = looked_at(what, self._held, grads, self._densifies, stepper.own_plans)
        if sparse:
            self._regular = None
            with sparse_rows(what, stepper, self._held, buffers, sparse):
                return stepper.step(buffers)
        happened = stepper.step(buffers)
        absent = tuple(i for i, g in enumerate(grads) if g is None)
        self._regular = Regular(self._held, absent) if happened and stepper.needs_only_addresses(absent) else None
        return happened

    _densifies = False
    """Whether a sparse gradient is made dense, where torch's own rule keeps sparse states that amount to the same."""

    def _ready(self) -> Stepper:
        """The stepper for the groups, parameters and states as they are now."""
        if self._stepper is None or not self._params.are_those_of(self.param_groups):
            self._build()
        assert self._stepper is not None
        stepper = self._stepper
        if self._shown:
            self._take_over(stepper)
        if not self._params.lie_as_before():
            what = type(self).__name__
            stepper.forget_layout()
            for held in self._held:
                held.see_param(what)
            check_apart(what, self._held)
            self._params.look()
            self._regular = None
        forms = forms_of(self.param_groups, self._recipes)
        if forms != self._forms:
            stepper.set_chains(chains_of(self, self._recipes))
            self._forms = forms
            self._regular = None
        return stepper

    def _take_over(self, stepper: Stepper) -> None:
        """Whatever has been changed in ``state`` since it was shown."""
        rows = zip(self._held, stepper.own_plans, strict=True)
        changed = [(h, own) for h, own in rows if states.differs(h, self._state.get(h.param) or {})]
        if changed:
            stepper.forget_layout()
            self._regular = None
        for held, own in changed:
            states.take(f"{type(self).__name__}.state", held, self._state.get(held.param) or {}, own)
        self._shown = False

    # ---- what is shown

    @property
    @outside_of_graphs
    def state(self) -> defaultdict[torch.Tensor, Any]:
        """Each parameter's states, as every torch optimizer shows them; empty before its first step.

        What is changed in it is used at the next step. Look again after a step: an entry kept from before says an old step
        count, and what is exchanged in it then is not seen.
        """
        if self._stepper is not None and not self._shown:
            self._stepper.write_back()
            for held in self._held:
                states.show(held, self._state)
            self._shown = True
        return self._state

    @state.setter
    def state(self, value: Mapping[torch.Tensor, Any]) -> None:
        self._state = value if isinstance(value, defaultdict) else defaultdict(dict, value)
        self._shown = True

    @property
    @outside_of_graphs
    def plan(self) -> Plans:
        """What a step does: passes, bytes, values. Printable."""
        return self._ready().plans

    @property
    def measured(self) -> dict[str, Any]:
        """What `steepest.measure` read last: a number, or a number per parameter's name."""
        return {} if self._stepper is None else self._stepper.readings.named()

    @outside_of_graphs
    def watch(self, watch: Watch | None, inspector: Inspector | None = None) -> None:
        """Let ``watch`` put measurements into every group's chain, and ``inspector`` look at gradients; None ends it."""
        self._ready().watched_by(watch)
        self._watch, self._inspector, self._regular = watch, inspector, None

    @property
    @outside_of_graphs
    def stepper(self) -> Stepper:
        """What runs the steps, for groups and parameters as they are now: tensors, chains, plans, measurements."""
        return self._ready()

    @property
    def steps(self) -> int:
        """Steps taken so far; what schedules see at the next step. Skipped steps do not count."""
        return self._steps if self._stepper is None else self._stepper.steps

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Evaluate with a state (an EMA's ``"average"``, Lookahead's ``"slow"``) in place of the weights.

        The weights are put back at the end, also after an error; whatever was done to them inside is lost.
        """
        if self._swapped:
            raise RuntimeError(f"using: the weights are swapped for {self._swapped!r} already.")
        with torch.no_grad():
            stepper = self._ready()
            chosen = [h for h in self._held if name in h.states]
            if not chosen:
                raise stepper.no_state(name)
            self._swapped = name
            try:
                with holding(chosen, name):
                    yield
            finally:
                self._swapped = ""

    # ---- saved and loaded

    @outside_of_graphs
    def state_dict(self) -> dict[str, Any]:
        """Everything a run continues from, in torch's form; each group also has the number of steps taken.

        With `named_parameters` it holds the names by which `load_state_dict` finds each parameter's state again.
        """
        self._refuse_while_swapped("state_dict")
        return states.dictionary(super().state_dict(), self._recipes, self.steps)

    @outside_of_graphs
    def load_state_dict(  # type: ignore[override]  # torch's returns None
        self, state_dict: Mapping[str, Any], strict: bool = True
    ) -> states.Incompatible:
        """Continue from a `state_dict` of this class, or of torch's class of the same rule.

        Where both were made with named parameters, state is found by name, whatever the order and the groups; otherwise by
        position. Names that are missing or not expected raise ValueError, or are returned with ``strict=False``. Nothing is
        changed if anything does not fit.
        """
        self._refuse_while_swapped("load_state_dict")
        states.check_mapping(f"{type(self).__name__}.load_state_dict", state_dict)
        given: Any = dict(state_dict)
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            changed = before(self, given)
            given = given if changed is None else changed
        with torch.no_grad():
            stepper = self._ready()
            loaded = states.load(type(self).__name__, given, self.param_groups, self._recipes, self._held, strict)
            stepper.forget_layout()
            loaded.apply(self.param_groups, self._held)
            stepper.steps = loaded.steps
            self._state.clear()
            self._shown = False
            self._regular = None
            if self._released is not None:
                self._released.begin()
            self._forms = []
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)
        return loaded.incompatible

    def __getstate__(self) -> dict[str, Any]:
        """Parameters, states and values; plans and kernels are found again."""
        kept = ("_engine", "_recipe", "_recipes")
        return {**super().__getstate__(), **{n: vars(self)[n] for n in kept}, "_steps": self.steps}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if self.__dict__.get("_recipes") is None:
            self._begin("auto")
        super().__setstate__(state)
        self.state = state.get("state", self._state)
        self.__dict__.pop("state", None)


def _cpu_engine() -> Engine:
    from steepest.torch.threads import engine

    return engine()
