"""Optimizers for NumPy arrays, updated in place.

    import steepest.numpy as opt
    optimizer = opt.Adam([W, b], lr=1e-3)
    optimizer.step([dW, db])

The named classes take a recipe's arguments; `Optimizer` takes any chain. Parameters are a list, a dict of name to array, or a
list of groups ``{"params": …, "lr": …}`` with values of their own; gradients have the same structure, None where there is
none. ``optimizer.param_groups[0]["lr"] = …`` changes a value between steps without planning again.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from os import PathLike
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from steepest import rules
from steepest.checks import unknown_name
from steepest.collect import Arrays, check_gradients, listed_gradients, tensors_of
from steepest.engines.source import source
from steepest.engines.tensors import Tensor
from steepest.language.functions import norm
from steepest.language.rule import Chain, chain, measure, rule, zeros
from steepest.plan.plan import Plan
from steepest.plan.planner import plan
from steepest.saving import load_file, save_file
from steepest.schedules import ReduceOnPlateau, Schedule, from_json
from steepest.stepping import Stepper, start_states

__all__ = [
    "LAMB", "LARS", "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Lion", "Lookahead", "NAdam", "Optimizer",
    "Plans", "RAdam", "RMSprop", "adaptive_clip_grad_", "clip_grad_norm_", "clip_grad_value_",
]  # fmt: skip

Params: TypeAlias = Arrays | Sequence[Mapping[str, Any]]


class Plans(tuple[Plan, ...]):
    """The plans of an optimizer, one for each distinct chain among its parameters. ``print`` explains them."""

    def __str__(self) -> str:
        return "\n\n".join(map(str, self))

    def source(self, dtype: str = "float32") -> str:
        """The generated code of the usual step of each plan."""
        return "\n\n".join(source(p.program(p.usual), dtype, f"{p.trace.chain}") for p in self)

    def bytes_per_parameter(self, itemsize: int = 4) -> int:
        """Bytes of the usual step; the largest among the plans."""
        return max(p.bytes_per_parameter(itemsize) for p in self)


class Optimizer:
    """Runs a chain on NumPy arrays, in place.

    Parameters
    ----------
    params : list or dict of float32 or float64 arrays, or a list of groups with a ``"params"`` and a ``"chain"`` each.
    chain : what rules, recipes and `steepest.chain` return; the default for groups that give none.
    engine : ``"auto"``, ``"cpu"`` (compiled, by Numba) or ``"arrays"`` (plain NumPy, the reference).

    Raises
    ------
    TypeError, ValueError : before anything is changed; the message names the argument, its value and what is allowed.

    Examples
    --------
    >>> import numpy as np, steepest, steepest.numpy as opt
    >>> w = np.array([1.0, 2.0])
    >>> optimizer = opt.Optimizer([w], steepest.chain(steepest.clip_by_global_norm(1.0), steepest.sgd(0.1)))
    >>> optimizer.step([np.array([3.0, 4.0])])
    >>> w.round(4)
    array([0.94, 1.92])
    """

    def __init__(self, params: Params, chain: Chain | None = None, *, engine: str = "auto") -> None:
        self._set_up(_given_chain, params, {"chain": chain}, engine)

    def _set_up(self, recipe: Callable[..., Chain], params: Params, defaults: dict[str, Any], engine: str) -> None:
        what = type(self).__name__
        groups = _groups(what, params, defaults)
        tensors = tensors_of(what, [g["params"] for g in groups])
        self._recipe = recipe
        self._swapped = ""
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = [
            {**defaults, **group, "params": [t.param for t in row]} for group, row in zip(groups, tensors, strict=True)
        ]
        self._seen = self._values()
        self._stepper = Stepper(tensors, self._chains(), engine)

    def _values(self) -> list[dict[str, Any]]:
        """The groups' values as they are now, free of what could be changed in place without being seen."""
        return [{name: _frozen(v) for name, v in group.items() if name != "params"} for group in self.param_groups]

    def _chains(self) -> list[Chain]:
        return [self._recipe(**values) for values in self._values()]

    def _refresh(self) -> None:
        values = self._values()
        if _differ(values, self._seen):
            if len(values) != len(self._seen):
                raise ValueError(
                    f"{type(self).__name__}: param_groups has {len(values)} groups, allowed is {len(self._seen)}. Groups "
                    f"can't be added or removed; make a new optimizer."
                )
            for number, (new, old) in enumerate(zip(values, self._seen, strict=True)):
                for name in old:
                    if name not in new:
                        raise ValueError(f"{type(self).__name__}: param_groups[{number}] has no {name!r} any more.")
            self._stepper.set_chains(self._chains())
            self._seen = values

    def step(self, grads: Arrays | Sequence[NDArray[Any] | None] | Mapping[str, NDArray[Any] | None]) -> None:
        """Update the parameters in place. The gradients are not changed.

        Raises TypeError or ValueError for gradients that do not fit, FloatingPointError where a chain says
        ``on_nonfinite="error"``; in each case nothing has been changed.
        """
        what = f"{type(self).__name__}.step"
        self._refuse_while_swapped(what)
        self._refresh()
        stepper = self._stepper
        listed = listed_gradients(what, stepper.tensors, grads)
        addresses = stepper.gather(listed)
        if addresses is not None:
            stepper.step((), addresses)
        else:
            stepper.step(check_gradients(what, stepper.tensors, listed))

    def _refuse_while_swapped(self, what: str) -> None:
        if self._swapped:
            raise RuntimeError(f"{what}: the weights are swapped for {self._swapped!r}. Leave the with block first.")

    @property
    def plan(self) -> Plans:
        """What a step does: passes, bytes, values. Printable."""
        self._refresh()
        return Plans(self._stepper.plans)

    @property
    def measured(self) -> dict[str, Any]:
        """What `steepest.measure` read last: a number, or a number per parameter's name."""
        return self._stepper.measured

    @property
    def steps(self) -> int:
        """Steps taken so far; what schedules see at the next step. Skipped steps do not count."""
        return self._stepper.steps

    @property
    def state(self) -> dict[str, dict[str, Any]]:
        """Each parameter's states by name: arrays, and ``step``. Empty before its first step."""
        self._stepper.forget_layout()
        return {t.name: {**t.host, **_states(t)} for t in self._stepper.tensors if t.host}

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Swap a state (an EMA's ``"average"``, Lookahead's ``"slow"``) into the parameters, and out again at the end."""
        tensors = [t for t in self._stepper.tensors if name in t.buffers and name not in ("param", "grad")]
        if self._swapped:
            raise RuntimeError(f"using: the weights are swapped for {self._swapped!r} already.")
        if not tensors:
            known = sorted({n for p in self._stepper.plans for n in p.trace.starts})
            if not known:
                raise ValueError(f"using: there is no state {name!r}; these chains keep none.")
            if name in known:
                raise ValueError(f"using: {name!r} does not exist before the first step.")
            raise ValueError(unknown_name("using", "state", name, known))
        self._swapped = name
        try:
            _swap(tensors, name)
            try:
                yield
            finally:
                _swap(tensors, name)
        finally:
            self._swapped = ""

    # ---- state

    def state_dict(self) -> dict[str, Any]:
        """Everything a run continues from: states by parameter name, step counts, and the groups' values. Copies."""
        self._refuse_while_swapped(f"{type(self).__name__}.state_dict")
        state = {
            name: {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in states.items()}
            for name, states in self.state.items()
        }
        groups = [
            {**{k: _saved(v) for k, v in values.items()}, "params": [t.name for t in row]}
            for values, row in zip(self._values(), self._stepper.groups, strict=True)
        ]
        return {"state": state, "param_groups": groups, "steps": self._stepper.steps}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a `state_dict` of an optimizer of the same structure.

        Parameters are found by name. Raises ValueError, with nothing changed, where names, states, shapes or chains differ.
        """
        what = f"{type(self).__name__}.load_state_dict"
        self._refuse_while_swapped(what)
        groups = _checked_form(what, state_dict)
        steps = _whole(what, "steps", state_dict["steps"])
        if len(groups) != len(self.param_groups):
            raise ValueError(f"{what}: {len(groups)} groups were saved, allowed is {len(self.param_groups)}.")
        plateaus: list[tuple[ReduceOnPlateau, Mapping[str, float]]] = []
        values = [
            _restored(what, number, saved, current, plateaus)
            for number, (saved, current) in enumerate(zip(groups, self._values(), strict=True))
        ]
        chains = [self._recipe(**v) for v in values]
        states = self._checked_states(what, state_dict["state"], chains)
        for number, (group, row) in enumerate(zip(groups, self._stepper.groups, strict=True)):
            _check_names(what, number, group["params"], [t.name for t in row])
        self._stepper.set_chains(chains)
        self._stepper.forget_layout()
        for plateau, state in plateaus:
            plateau.load_state_dict(state)
        for group, new in zip(self.param_groups, values, strict=True):
            group.update(new)
        self._seen = self._values()
        for t in self._stepper.tensors:
            found = states.get(t.name, {})
            t.host = {k: float(v) for k, v in found.items() if not isinstance(v, np.ndarray)}
            t.buffers = {"param": t.param, **{k: v for k, v in found.items() if isinstance(v, np.ndarray)}}
        self._stepper.steps = steps

    def _checked_states(
        self, what: str, saved: Mapping[str, Any], chains: Sequence[Chain]
    ) -> dict[str, dict[str, Any]]:
        """Copies of the saved states, in the parameters' layout, after all of them have been checked."""
        stepper = self._stepper
        unknown = sorted(set(saved) - {t.name for t in stepper.tensors})
        if unknown:
            raise ValueError(f"{what}: state of {unknown[0]!r} was saved, which is no parameter here.")
        made: dict[str, dict[str, Any]] = {}
        for group, one in zip(stepper.groups, chains, strict=True):
            for t in group:
                if t.name not in saved:
                    continue
                fresh = Tensor(t.name, t.index, {"param": t.param})
                start_states(fresh, plan(one.for_parameter(t.name, t.param.shape)))
                expected = {**fresh.host, **_states(fresh)}
                if set(expected) != set(saved[t.name]):
                    raise ValueError(
                        f"{what}: {t.name!r} was saved with the states {', '.join(sorted(saved[t.name]))}; its chain here "
                        f"has {', '.join(sorted(expected))}. Load it into an optimizer of the same chain."
                    )
                made[t.name] = {k: _fitted(what, t.name, k, saved[t.name][k], v) for k, v in expected.items()}
        return made

    def save(self, path: str | PathLike[str]) -> None:
        """Write `state_dict` to one ``.npz`` or ``.safetensors`` file, without pickle."""
        saved = self.state_dict()
        arrays = {f"{n}/{k}": v for n, s in saved["state"].items() for k, v in s.items() if isinstance(v, np.ndarray)}
        numbers = {n: {k: v for k, v in s.items() if not isinstance(v, np.ndarray)} for n, s in saved["state"].items()}
        save_file(path, arrays, {"host": numbers, "param_groups": saved["param_groups"], "steps": saved["steps"]})

    def load(self, path: str | PathLike[str]) -> None:
        """Continue from a file that `save` has written; bit for bit as if the run had never stopped."""
        arrays, meta = load_file(path)
        host = meta.get("host", {})
        if not isinstance(host, dict) or not all(isinstance(numbers, dict) for numbers in host.values()):
            raise ValueError(f"load: {path} is no state file of steepest (host is {host!r}).")
        state: dict[str, dict[str, Any]] = {name: dict(numbers) for name, numbers in host.items()}
        for name, array in arrays.items():
            parameter, _, key = name.rpartition("/")
            state.setdefault(parameter, {})[key] = array
        self.load_state_dict({**meta, "state": state})

    def __repr__(self) -> str:
        count = sum(t.param.size for t in self._stepper.tensors)
        return f"{type(self).__name__}({len(self._stepper.tensors)} parameters of {count} elements, {self._stepper.chains[0]})"


def _given_chain(chain: object = None) -> Chain:
    if not isinstance(chain, Chain):
        name = getattr(chain, "__name__", "")
        hint = f" Call it: {name}(…)." if callable(chain) and name else ""
        raise TypeError(
            f"Optimizer: chain is {name or repr(chain)}, allowed is what a rule or recipe returns, or steepest.chain(…).{hint}"
        )
    return chain


def _groups(what: str, params: Params, defaults: Mapping[str, Any]) -> list[dict[str, Any]]:
    is_list = isinstance(params, Sequence) and not isinstance(params, (str, np.ndarray))
    if not (is_list and len(params) and all(isinstance(p, Mapping) for p in params)):
        return [{"params": params}]
    groups = []
    listed: Sequence[Mapping[str, Any]] = [group for group in params if isinstance(group, Mapping)]
    for number, group in enumerate(listed):
        if "params" not in group:
            raise ValueError(
                f"{what}: group {number} has no 'params'; it has {', '.join(map(repr, group)) or 'nothing'}."
            )
        for name in group:
            if name != "params" and name not in defaults:
                raise TypeError(unknown_name(f"{what}: group {number}", "value", name, defaults))
        given = group["params"]
        groups.append({**group, "params": [given] if isinstance(given, np.ndarray) else given})
    return groups


def _states(tensor: Tensor) -> dict[str, NDArray[Any]]:
    return {name: array for name, array in tensor.buffers.items() if name not in ("param", "grad")}


def _swap(tensors: Sequence[Tensor], name: str) -> None:
    for t in tensors:
        held = t.param.copy()
        t.param[...] = t.buffers[name]
        t.buffers[name][...] = held


def _saved(value: Any) -> Any:
    """A group's value as JSON can hold it; a schedule by its own JSON, what has none by its text."""
    if isinstance(value, Schedule):
        return {"schedule": value.to_json()}
    if isinstance(value, ReduceOnPlateau):
        return {"plateau": value.state_dict()}
    if isinstance(value, Chain):
        return {"chain": str(value), "plateaus": [p.state_dict() for p in _plateaus(value)]}
    if callable(value):
        return {"function": getattr(value, "__qualname__", repr(value))}
    if isinstance(value, tuple):
        return {"tuple": [_saved(v) for v in value]}
    return value.item() if isinstance(value, np.generic) else value


def _frozen(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(map(_frozen, value))
    return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value


def _differ(values: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> bool:
    try:
        return values != others
    except ValueError:  # an array, of which the recipe will say that it is none of its values
        return True


def _plateaus(chain: Chain) -> list[ReduceOnPlateau]:
    return [value for link in chain for _, value in link.values if isinstance(value, ReduceOnPlateau)]


def _checked_form(what: str, state_dict: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The saved groups, after everything that holds something else is of the right kind."""
    allowed = "allowed is what state_dict() returns."
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"{what}: the state is {type(state_dict).__name__}, {allowed}")
    for key in ("state", "param_groups", "steps"):
        if key not in state_dict:
            raise ValueError(f"{what}: {key!r} is missing; {allowed}")
    state, groups = state_dict["state"], state_dict["param_groups"]
    if not isinstance(state, Mapping) or not all(isinstance(states, Mapping) for states in state.values()):
        raise TypeError(f"{what}: 'state' is no mapping of mappings, {allowed}")
    if not isinstance(groups, Sequence) or not all(
        isinstance(group, Mapping) and "params" in group for group in groups
    ):
        raise TypeError(f"{what}: 'param_groups' is no list of groups with 'params', {allowed}")
    return groups


def _check_names(what: str, number: int, saved: Sequence[str], here: Sequence[str]) -> None:
    for name in sorted({*saved} - {*here}):
        raise ValueError(f"{what}: group {number} was saved with the parameter {name!r}, which it does not have here.")
    for name in sorted({*here} - {*saved}):
        raise ValueError(f"{what}: group {number} was saved without the parameter {name!r}, which it has here.")


def _whole(what: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{what}: {name} is {value!r}, allowed is a whole number >= 0.")
    if not 0 <= value < 2**53 or value != int(value):
        raise ValueError(f"{what}: {name} is {value!r}, allowed is a whole number >= 0.")
    return int(value)


def _restored(
    what: str, number: int, saved: Mapping[str, Any], current: Mapping[str, Any], plateaus: list[Any]
) -> dict[str, Any]:
    """The values of a group from a state dict; what can't be saved (chains, functions) stays as it is here."""
    if set(saved) - {"params"} != set(current):
        raise ValueError(
            f"{what}: group {number} was saved with {', '.join(sorted(set(saved) - {'params'}))}; "
            f"it has {', '.join(sorted(current))} here."
        )
    return {name: _unsaved(what, name, saved[name], value, plateaus) for name, value in current.items()}


def _unsaved(what: str, name: str, saved: Any, current: Any, plateaus: list[Any]) -> Any:
    """One value; what a plateau here has to take over is added to ``plateaus``, checked but not taken over yet."""
    if not isinstance(saved, Mapping):
        return saved
    if "schedule" in saved:
        return from_json(saved["schedule"])
    if "tuple" in saved:
        fits = isinstance(current, tuple) and len(current) == len(saved["tuple"])
        held = current if fits else (None,) * len(saved["tuple"])
        return tuple(_unsaved(what, name, s, c, plateaus) for s, c in zip(saved["tuple"], held, strict=True))
    if "chain" in saved:
        here = _plateaus(current) if isinstance(current, Chain) else []
        states = saved.get("plateaus", ())
        if str(current) != saved["chain"] or len(states) != len(here):
            raise ValueError(
                f"{what}: the saved chain is {saved['chain']} with {len(states)} plateaus; here it is {current} with "
                f"{len(here)}. Build the same chain."
            )
        for plateau, state in zip(here, states, strict=True):
            copy.copy(plateau).load_state_dict(state)
            plateaus.append((plateau, state))
        return current
    if "plateau" in saved and isinstance(current, ReduceOnPlateau):
        copy.copy(current).load_state_dict(saved["plateau"])
        plateaus.append((current, saved["plateau"]))
        return current
    if isinstance(current, ReduceOnPlateau) or "plateau" in saved or not callable(current):
        raise ValueError(f"{what}: {name} was saved as {dict(saved)}; here it is {current!r}. Give the same schedule.")
    return current


def _fitted(what: str, parameter: str, name: str, saved: Any, expected: Any) -> Any:
    if not isinstance(expected, np.ndarray):
        if name == "step":
            return float(_whole(what, f"step of {parameter!r}", saved))
        if isinstance(saved, bool) or not isinstance(saved, (int, float, np.number)):
            raise ValueError(f"{what}: {name} of {parameter!r} is {type(saved).__name__}, allowed is a number.")
        return float(saved)
    saved = np.asarray(saved)
    if saved.shape != expected.shape or saved.dtype != expected.dtype:
        raise ValueError(
            f"{what}: {name} of {parameter!r} is {saved.dtype}{list(saved.shape)}, allowed is "
            f"{expected.dtype}{list(expected.shape)}."
        )
    expected[...] = saved
    return expected


# ---- the named optimizers


class _Named(Optimizer):
    """An optimizer whose groups hold the arguments of one recipe."""

    recipe: Callable[..., Chain]

    def __init__(self, params: Params, *positional: Any, engine: str = "auto", **named: Any) -> None:
        recipe = type(self).recipe
        signature = inspect.signature(recipe)
        recipe(*positional, **named)  # speaks with the recipe's own words where a value is wrong
        bound = signature.bind(*positional, **named)
        bound.apply_defaults()
        self._set_up(recipe, params, dict(bound.arguments), engine)


def _bind(name: str, recipe: Callable[..., Chain]) -> type[_Named]:
    doc = f"`steepest.{recipe.__name__}` on NumPy arrays.\n\n{inspect.getdoc(recipe)}"
    made = type(name, (_Named,), {"recipe": staticmethod(recipe), "__doc__": doc, "__module__": __name__})
    parameters = list(inspect.signature(recipe).parameters.values())
    first = inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    engine = inspect.Parameter("engine", inspect.Parameter.KEYWORD_ONLY, default="auto", annotation="str")
    made.__signature__ = inspect.Signature([first, *parameters, engine])  # type: ignore[attr-defined]
    return made


SGD = _bind("SGD", rules.sgd)
Adagrad = _bind("Adagrad", rules.adagrad)
RMSprop = _bind("RMSprop", rules.rmsprop)
Adadelta = _bind("Adadelta", rules.adadelta)
Adam = _bind("Adam", rules.adam)
AdamW = _bind("AdamW", rules.adamw)
Adamax = _bind("Adamax", rules.adamax)
NAdam = _bind("NAdam", rules.nadam)
RAdam = _bind("RAdam", rules.radam)
Lion = _bind("Lion", rules.lion)
LAMB = _bind("LAMB", rules.lamb)
LARS = _bind("LARS", rules.lars)


class Lookahead(Optimizer):
    """Lookahead around another optimizer: the same fused chain as ``chain(inner, lookahead(k, alpha))``.

    Takes over the inner optimizer's parameters and groups; use this one from now on. The slow weights start at the weights
    of the first step.

    >>> import numpy as np, steepest.numpy as opt
    >>> print(opt.Lookahead(opt.SGD([np.ones(3)], lr=0.1), k=5, alpha=0.5).plan[0].trace.chain)
    descend > lookahead
    """

    def __init__(self, optimizer: Optimizer, k: Any = 5, alpha: Any = 0.5) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"Lookahead: optimizer is {optimizer!r}, allowed is an optimizer of steepest.numpy.")
        if optimizer.steps:
            raise ValueError("Lookahead: the inner optimizer has taken steps already. Wrap it before the first one.")
        if isinstance(optimizer, Lookahead):
            raise TypeError(
                "Lookahead: optimizer is a Lookahead, allowed is one that is not wrapped. Use chain for two."
            )
        rules.lookahead(k, alpha)
        self._recipe = partial(_with_lookahead, optimizer._recipe)
        self._swapped = ""
        self.defaults = {**optimizer.defaults, "k": k, "alpha": alpha}
        self.param_groups = [{**group, "k": k, "alpha": alpha} for group in optimizer.param_groups]
        self._seen = self._values()
        self._stepper = Stepper(optimizer._stepper.groups, self._chains(), optimizer._stepper.engine)


def _with_lookahead(inner: Callable[..., Chain], k: Any, alpha: Any, **values: Any) -> Chain:
    return chain(inner(**values), rules.lookahead(k, alpha))


# ---- clipping in place, for those who want it apart from the step


@rule(clipped=zeros)
def _write_back(param: Any, update: Any, state: Any) -> Any:
    state.clipped = update
    return param


def _clip_in_place(what: str, params: Arrays, grads: Arrays, clip: Chain) -> dict[str, Any]:
    row = tensors_of(what, [params])[0]
    checked = listed_gradients(what, row, grads)
    for t, g in zip(row, tensors_of(what, [list(checked)])[0], strict=True):
        if g.param.shape != t.param.shape or g.param.dtype != t.param.dtype:
            raise ValueError(
                f"{what}: the gradient of {t.name!r} is {g.param.dtype}{list(g.param.shape)}, allowed is its parameter's "
                f"{t.param.dtype}{list(t.param.shape)}."
            )
        same = g.param.strides == t.param.strides
        t.buffers["clipped"] = g.param if same else np.empty_like(t.param)
    stepper = Stepper([row], [chain(clip, _write_back())], "auto")
    held = [g if g.strides == t.param.strides else _laid_out(g, t.param) for g, t in zip(checked, row, strict=True)]
    stepper.step(held)
    for g, t in zip(checked, row, strict=True):
        if t.buffers["clipped"] is not g:
            g[...] = t.buffers["clipped"]
    return stepper.measured


def _laid_out(array: NDArray[Any], like: NDArray[Any]) -> NDArray[Any]:
    made = np.empty_like(like)
    made[...] = array
    return made


def clip_grad_norm_(grads: Arrays, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False) -> float:
    """Scale gradients in place by ``min(1, max_norm / (total + 1e-6))``; return their total norm before.

    A chain with `steepest.clip_by_global_norm` does the same inside the step, without a pass of its own.

    >>> import numpy as np, steepest.numpy as opt
    >>> g = np.array([3.0, 4.0])
    >>> opt.clip_grad_norm_([g], 1.0)
    5.0
    >>> g.round(4)
    array([0.6, 0.8])
    """
    clip = rules.clip_by_global_norm(max_norm, norm_type, "error" if error_if_nonfinite else "propagate")
    total = measure(total=lambda update: norm(update, per="model", order=norm_type))
    return float(_clip_in_place("clip_grad_norm_", grads, grads, chain(total, clip))["total"])


def clip_grad_value_(grads: Arrays, low: float, high: float) -> None:
    """Clip every element of the gradients to [low, high], in place.

    >>> import numpy as np, steepest.numpy as opt
    >>> g = np.array([-3.0, 0.1])
    >>> opt.clip_grad_value_([g], -0.5, 0.5)
    >>> g
    array([-0.5,  0.1])
    """
    _clip_in_place("clip_grad_value_", grads, grads, rules.clip_by_value(low, high))


def adaptive_clip_grad_(
    params: Arrays, grads: Arrays, clipping: float = 0.01, eps: float = 1e-3, axis: int = 0
) -> None:
    """Adaptive gradient clipping in place: each unit at most ``clipping`` times as long as its weights."""
    _clip_in_place("adaptive_clip_grad_", params, grads, rules.adaptive_grad_clip(clipping, eps, axis))
