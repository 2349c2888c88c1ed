"""The optimizer for NumPy arrays: any chain, run in place on what the user passes.

Checks what it is given, turns the groups' values into chains and leaves the step to `steepest.step.stepper`; takes states out and
puts them back. What a group's values are, and how they are saved, is the same for all front ends: `steepest.step.groups`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from os import PathLike
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from steepest.engines.tensors import Tensor
from steepest.interrupts import Turn, between
from steepest.language.chain import Chain, check_patterns
from steepest.numpy.arrays import Arrays, check_gradients, listed_gradients, tensors_of
from steepest.numpy.states import fitted, states_of
from steepest.plan.planner import plan
from steepest.step.buckets import start_states
from steepest.step.groups import (
    Loading,
    check_mapping,
    check_names,
    checked_form,
    frozen,
    groups_of,
    saved,
    saved_schedules,
    whole,
)  # fmt: skip
from steepest.step.recipes import LiveGroups, Recipe, checked_chain
from steepest.step.saving import open_file, save_file
from steepest.step.scheduled import numbers_of
from steepest.step.stepper import Inspector, Plans, Stepper, Watch

if TYPE_CHECKING:
    from steepest.numpy.gather import Gatherer

__all__ = ["Gradients", "Optimizer", "Params", "Plans"]

Params: TypeAlias = Arrays | Sequence[Mapping[str, Any]]
Gradients: TypeAlias = Sequence[NDArray[Any] | None] | Mapping[str, NDArray[Any] | None]


class Optimizer:
    """Runs a chain on NumPy arrays, in place.

    Parameters
    ----------
    params : list or dict of float32 or float64 arrays, or a list of groups with a ``"params"`` and a ``"chain"`` each.
    chain : what rules, recipes and `steepest.chain` return; the default for groups that give none.
    engine : ``"auto"``, ``"cpu"`` (compiled, by Numba) or ``"arrays"`` (plain NumPy, the reference).

    Raises
    ------
    TypeError, ValueError : for a wrong argument, before anything is changed.

    Examples
    --------
    >>> import numpy as np, steepest, steepest.numpy as opt
    >>> w = np.array([1.0, 2.0])
    >>> optimizer = opt.Optimizer([w], steepest.chain(steepest.clip_by_global_norm(1.0), steepest.sgd(0.1)))
    >>> optimizer.step([np.array([3.0, 4.0])])
    >>> w.round(4)
    array([0.94, 1.92])
    """

    _inspector: Inspector | None = None
    _gatherer: Gatherer | None = None
    _outer: Optimizer | None = None
    """The Lookahead that shares the groups."""
    seconds = 0.0
    """Time spent inside steps so far."""

    def __init__(self, params: Params, chain: Chain | None = None, *, engine: str = "auto") -> None:
        self._set_up(Recipe(partial(checked_chain, "Optimizer"), {"chain": chain}), params, engine)

    def _set_up(self, recipe: Recipe, params: Params, engine: str) -> None:
        what, defaults = type(self).__name__, recipe.defaults
        groups = groups_of(what, params, defaults, np.ndarray)
        tensors = tensors_of(what, [g["params"] for g in groups])
        self._begin(recipe, [
            {**defaults, **group, "params": [t.param for t in row]} for group, row in zip(groups, tensors, strict=True)
        ], tensors, engine)  # fmt: skip

    def _begin(
        self, recipe: Recipe, groups: list[dict[str, Any]], tensors: Sequence[list[Tensor]], engine: str
    ) -> None:
        what = type(self).__name__
        self._turn = Turn()
        self._swapped = ""
        self._names = {"params", "initial_lr", *recipe.defaults}
        self._live = live = LiveGroups(what)
        live.rows = groups
        live.settle([recipe] * len(groups))
        self.defaults = numbers_of(recipe.defaults)
        live.take_schedules(0)
        chains = live.chains()
        check_patterns(what, chains, [[t.name for t in row] for row in tensors])
        self._stepper = Stepper(tensors, chains, engine)
        live.look()

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Each group's parameters and values. A value that a schedule gives is the number that the next step uses."""
        if self._outer is not None:
            return self._outer.param_groups
        live = self._live
        live.take_schedules(self.steps)
        live.schedules.sync(live.rows, self.steps)
        return live.rows

    @property
    def schedules(self) -> list[dict[str, Any]]:
        """For each group the schedules behind its numbers, by name."""
        groups, live = self.param_groups, (self._outer or self)._live
        return [live.schedules.in_force(number, group) for number, group in enumerate(groups)]

    def _refresh(self) -> None:
        """Use what has been written to the groups since the last look."""
        live = self._live
        if live.schedules:
            live.schedules.sync(live.rows, self.steps, strict=True)
        if len(live.rows) != len(live.recipes):
            raise ValueError(
                f"{live.what}: len(param_groups) must be {len(live.recipes)}, got {len(live.rows)}. Groups can't be added or "
                f"removed. Make a new optimizer."
            )
        for number, (group, recipe) in enumerate(zip(live.rows, live.recipes, strict=True)):
            if not group.keys() <= self._names:
                recipe.make(**{name: value for name, value in group.items() if name not in ("params", "initial_lr")})
            if not group.keys() >= recipe.defaults.keys():
                missing = [name for name in recipe.defaults if name not in group]
                raise ValueError(f"{live.what}: param_groups[{number}] must keep {missing[0]!r}, which was removed.")
        live.rechain(self.steps, self._stepper.set_chains)

    def step(self, grads: Gradients) -> None:
        """Update the parameters in place. The gradients are not changed.

        Raises TypeError or ValueError for gradients that do not fit, FloatingPointError where a chain says
        ``on_nonfinite="error"``; in each case nothing has been changed.
        """
        with self._turn.step(type(self).__name__):
            self._step(grads)

    def _step(self, grads: Gradients) -> None:
        began = perf_counter()
        what = f"{type(self).__name__}.step"
        self._refuse_while_swapped(what)
        self._refresh()
        live, stepper = self._live, self._stepper
        if live.scheduled:
            live.schedules.warn(live.rows)
        listed = listed_gradients(what, stepper.tensors, grads)
        if self._inspector is not None:
            self._inspector.before(listed)
        addresses = self._addresses(listed) if stepper.needs_only_addresses() else None
        if addresses is not None:
            stepper.step((), addresses)
        else:
            stepper.step(check_gradients(what, stepper.tensors, listed))
        if live.scheduled:
            live.schedules.sync(live.rows, self.steps)
        if self._inspector is not None:
            self._inspector.after(listed, stepper)
        self.seconds += perf_counter() - began

    def _addresses(self, grads: Sequence[NDArray[Any] | None]) -> NDArray[np.int64] | None:
        """The addresses of all gradients; None if any needs a closer look."""
        if self._gatherer is None:
            from steepest.numpy.gather import Gatherer  # which imports Numba

            self._gatherer = Gatherer(self._stepper.tensors)
        return self._gatherer(grads)

    def _refuse_while_swapped(self, what: str) -> None:
        if self._swapped:
            raise RuntimeError(f"{what}: the weights are swapped for {self._swapped!r}. Leave the with block first.")

    def __getstate__(self) -> dict[str, Any]:
        """Without what holds addresses, and without the inspector: nobody watches a copy."""
        with self._turn.wait():
            return {name: value for name, value in vars(self).items() if name not in ("_inspector", "_gatherer")}

    @property
    def plan(self) -> Plans:
        """What a step does: passes, bytes, values. Printable."""
        return self.stepper.plans

    @property
    def measured(self) -> dict[str, Any]:
        """What `steepest.measure` read last: a number, or a number per parameter's name."""
        return self._stepper.readings.named()

    def watch(self, watch: Watch | None, inspector: Inspector | None = None) -> None:
        """Let ``watch`` put measurements into every group's chain, and ``inspector`` look at gradients; None ends it."""
        with self._turn.wait():
            self._refresh()
            self._stepper.watched_by(watch)
            self._inspector = inspector

    @property
    def stepper(self) -> Stepper:
        """What runs the steps, for the groups' values as they are now: tensors, chains, plans, measurements."""
        with self._turn.wait():
            self._refresh()
            return self._stepper

    @property
    def steps(self) -> int:
        """Steps taken so far; what schedules see at the next step. Skipped steps do not count."""
        return self._stepper.steps

    @property
    def state(self) -> dict[str, dict[str, Any]]:
        """Each parameter's states by name: arrays, and ``step``. Empty before its first step."""
        with self._turn.wait():
            self._stepper.forget_layout()
            return {t.name: {**t.host, **states_of(t)} for t in self._stepper.tensors if t.host}

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Evaluate with a state (an EMA's ``"average"``, Lookahead's ``"slow"``) in place of the weights.

        The weights are restored at the end, also after an error. Whatever is written to them inside is lost.
        """
        weights: list[tuple[NDArray[Any], NDArray[Any]]] = []
        with between(lambda: self._swap(name, weights), lambda: self._restore(weights)):
            yield

    def _swap(self, name: str, weights: list[tuple[NDArray[Any], NDArray[Any]]]) -> None:
        """Write a state to the parameters; add each parameter, with a copy of its weights, to ``weights``."""
        with self._turn.wait():
            tensors = [t for t in self._stepper.tensors if name in t.buffers and name not in ("param", "grad")]
            if self._swapped:
                raise RuntimeError(f"using: the weights are swapped for {self._swapped!r} already.")
            if not tensors:
                raise self._stepper.no_state(name)
            weights += [(t.param, t.param.copy()) for t in tensors]
            self._swapped = name
            for t in tensors:
                t.param[...] = t.buffers[name]

    def _restore(self, weights: list[tuple[NDArray[Any], NDArray[Any]]]) -> None:
        """Write these weights back, once."""
        with self._turn.wait():
            if weights:
                for param, before in weights:
                    param[...] = before
                weights.clear()
                self._swapped = ""

    # ---- state

    def state_dict(self) -> dict[str, Any]:
        """Everything a run continues from: states by parameter name, step counts, and the groups' values. Copies.

        A group has numbers, and its schedules beside them as one text of JSON.
        """
        self._refuse_while_swapped(f"{type(self).__name__}.state_dict")
        state = {
            name: {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in states.items()}
            for name, states in self.state.items()
        }
        groups = [
            {
                **{name: saved(frozen(group[name])) for name in recipe.defaults},
                **saved_schedules(schedules),
                "params": [t.name for t in row],
            }
            for group, recipe, schedules, row in zip(
                self._live.rows, self._live.recipes, self.schedules, self._stepper.groups, strict=True
            )
        ]
        return {"state": state, "param_groups": groups, "steps": self._stepper.steps}

    def load_state_dict(self, state_dict: Mapping[str, Any], schedules: Literal["saved", "own"] | None = None) -> None:
        """Continue from a `state_dict` of an optimizer of the same structure.

        Parameters are found by name. Raises ValueError, with nothing changed, where names, states, shapes or chains differ.

        Parameters
        ----------
        schedules : "saved", "own" or None, default None
            Which schedules to use if the saved ones and this optimizer's own differ. None uses the saved ones and warns.
        """
        with self._turn.wait():
            self._load(f"{type(self).__name__}.load_state_dict", state_dict, schedules)

    def _load(self, what: str, state_dict: Mapping[str, Any], schedules: object) -> None:
        self._refuse_while_swapped(what)
        groups = checked_form(what, state_dict, "steps")
        steps = whole(what, "steps", state_dict["steps"])
        live = self._live
        if len(groups) != len(live.rows):
            raise ValueError(f"{what}: the number of saved groups must be {len(live.rows)}, got {len(groups)}.")
        loading = Loading(what, steps, schedules)
        values, chains = [], []
        for number, (stored, group, recipe) in enumerate(zip(groups, self.param_groups, live.recipes, strict=True)):
            whole_group = live.schedules.whole(number, group)
            current = {name: frozen(whole_group[name]) for name in recipe.defaults}
            own = {name: value for name, value in stored.items() if name != "params"}
            loading.check_names(number, own, current)
            values.append(loading.group(number, own, current))
            chains.append(recipe.make(**values[-1]))
        states = self._checked_states(what, state_dict["state"], chains)
        for number, (stored, row) in enumerate(zip(groups, self._stepper.groups, strict=True)):
            check_names(what, number, stored["params"], [t.name for t in row])
        loading.warn()
        self._stepper.forget_layout()
        for plateau, state in loading.plateaus:
            plateau.load_state_dict(state)
        for number, new in enumerate(values):
            live.schedules.forget(number, new)
            live.rows[number].update(new)
        for t in self._stepper.tensors:
            found = states.get(t.name, {})
            t.host = {k: float(v) for k, v in found.items() if not isinstance(v, np.ndarray)}
            t.buffers = {"param": t.param, **{k: v for k, v in found.items() if isinstance(v, np.ndarray)}}
        self._stepper.steps = steps
        live.take_schedules(steps)
        self._stepper.set_chains(live.chains())
        live.look()

    def _checked_states(
        self, what: str, saved: Mapping[str, Any], chains: Sequence[Chain]
    ) -> dict[str, dict[str, Any]]:
        """Copies of the saved states, in the parameters' layout, after all of them have been checked."""
        stepper = self._stepper
        for name, entry in saved.items():
            check_mapping(what, f"state[{name!r}]", entry)
        unknown = sorted(set(saved) - {t.name for t in stepper.tensors})
        if unknown:
            raise ValueError(f"{what}: the state has {unknown[0]!r}, which isn't a parameter of this optimizer.")
        made: dict[str, dict[str, Any]] = {}
        for group, one in zip(stepper.groups, chains, strict=True):
            for t in group:
                if t.name not in saved:
                    continue
                fresh = Tensor(t.name, t.index, {"param": t.param})
                start_states(fresh, plan(one.for_parameter(t.name, t.param.shape)), [])
                expected = {**fresh.host, **states_of(fresh)}
                if set(expected) != set(saved[t.name]):
                    raise ValueError(
                        f"{what}: {t.name!r} was saved with the states {', '.join(sorted(saved[t.name]))}, but its "
                        f"chain here has {', '.join(sorted(expected))}. Load it into an optimizer of the same chain."
                    )
                made[t.name] = {k: fitted(what, t.name, k, saved[t.name][k], v) for k, v in expected.items()}
        return made

    def save(self, path: str | PathLike[str]) -> None:
        """Write `state_dict` to one ``.npz`` or ``.safetensors`` file, without pickle."""
        whole_state = self.state_dict()
        state = whole_state.pop("state")
        arrays = {f"{n}/{k}": v for n, s in state.items() for k, v in s.items() if isinstance(v, np.ndarray)}
        numbers = {n: {k: v for k, v in s.items() if not isinstance(v, np.ndarray)} for n, s in state.items()}
        save_file(path, arrays, {"host": numbers, **whole_state})

    def load(self, path: str | PathLike[str], schedules: Literal["saved", "own"] | None = None) -> None:
        """Continue from a file that `save` has written; bit for bit as if the run had never stopped.

        ``schedules`` is that of `load_state_dict`.
        """
        with open_file(path) as (arrays, meta):
            host = meta.get("host", {})
            if not isinstance(host, dict) or not all(isinstance(numbers, dict) for numbers in host.values()):
                raise ValueError(f"load: {path} isn't a state file of steepest (host is {host!r}).")
            state: dict[str, dict[str, Any]] = {name: dict(numbers) for name, numbers in host.items()}
            for name, array in arrays.items():
                parameter, _, key = name.rpartition("/")
                state.setdefault(parameter, {})[key] = array
            try:
                self.load_state_dict({**meta, "state": state}, schedules)
            except (TypeError, ValueError) as error:
                error.add_note(f"while loading {path}")
                raise

    def __repr__(self) -> str:
        tensors, chain = self._stepper.tensors, self._stepper.chains[0].brief
        count = sum(t.param.size for t in tensors)
        return f"{type(self).__name__}({len(tensors)} parameters of {count} elements, {chain})"
