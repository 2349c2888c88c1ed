"""The array engine on PyTorch against the one on NumPy: every rule, every operation, and tensors of every kind."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

import steepest
from steepest import Chain, chain, rule, zeros
from steepest.engines.tensors import Tensor
from steepest.language.operations import OPERATIONS
from steepest.step.stepper import Stepper
from steepest.torch import foreach
from steepest.torch.foreach import ForeachEngine
from tests.oracles import ROWS, SHAPES, Row
from tests.strategies import PER_MODEL, PER_TENSOR, PER_UNIT, SPECIAL, Array, values

Groups = Sequence[tuple[list[Any], Chain]]


def started(tensor: Tensor, name: str, copy: bool, value: float) -> Any:
    dtype = torch.float64 if tensor.param.dtype == torch.float64 else torch.float32
    return tensor.param.to(dtype, copy=True) if copy else torch.full_like(tensor.param, value, dtype=dtype)


def stepper(groups: Groups) -> Stepper:
    """Of PyTorch's tensors on the engine that is tested, of NumPy's arrays on theirs."""
    rows, number = [], 0
    for params, _ in groups:
        row = []
        for param in params:
            kind: dict[str, Any] = {"allocate": started} if isinstance(param, torch.Tensor) else {}
            row.append(Tensor(str(number), number, {"param": param}, **kind))
            number += 1
        rows.append(row)
    on_torch = isinstance(groups[0][0][0], torch.Tensor)
    return Stepper(rows, [made for _, made in groups], "arrays", ForeachEngine() if on_torch else None)


def after(params: list[Any], steps: Sequence[list[Any]], made: Chain) -> Stepper:
    taken = stepper([(params, made)])
    for grads in steps:
        taken.step(grads)
    return taken


def found(taken: Stepper) -> dict[str, Array]:
    return {f"{t.name} {n}": np.asarray(b) for t in taken.tensors for n, b in t.buffers.items()}


def assert_close(ours: Stepper, theirs: Stepper, within: float) -> None:
    a, b = found(ours), found(theirs)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=within, atol=within, err_msg=name, strict=True)
    assert ours.readings.named().keys() == theirs.readings.named().keys()
    for name, value in ours.readings.named().items():
        if isinstance(value, dict):
            assert value == pytest.approx(theirs.readings.named()[name], rel=within, nan_ok=True)
        else:
            np.testing.assert_allclose(value, theirs.readings.named()[name], rtol=within)


def both(
    shapes: Sequence[tuple[int, ...]],
    dtype: Any,
    made: Chain,
    lay_out: Callable[[torch.Tensor], torch.Tensor] = torch.clone,
    odd: float | None = None,
) -> tuple[Stepper, Stepper]:
    """Three steps on the same numbers; ``lay_out`` gives PyTorch's tensors their strides."""
    params = [values(i, shape, dtype) for i, shape in enumerate(shapes)]
    steps = [[values(10 * s + i, shape, dtype) for i, shape in enumerate(shapes)] for s in range(1, 4)]
    if odd is not None:
        steps[1][0].flat[1] = odd
    own = [lay_out(torch.from_numpy(p)) for p in params]
    on_torch = after(own, [[lay_out(torch.from_numpy(g)) for g in grads] for grads in steps], made)
    return on_torch, after([p.copy() for p in params], steps, made)


# ---- the rules


@pytest.mark.parametrize(("dtype", "within"), [(np.float32, 3e-6), (np.float64, 1e-13)])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_rule_gives_what_the_array_engine_of_numpy_gives(row: Row, dtype: Any, within: float) -> None:
    assert_close(*both([*row.shapes, (0,), (3, 0)], dtype, row.chain), within)


@pytest.mark.parametrize("number", range(len(PER_TENSOR) + len(PER_UNIT) + len(PER_MODEL)))
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e200])
def test_what_is_not_finite_reaches_the_same_places_through_every_reduction(number: int, odd: float) -> None:
    made = chain([*PER_TENSOR, *PER_UNIT, *PER_MODEL][number](), steepest.descend(0.1))
    if any(dict(link.structure).get("on_nonfinite") == "error" for link in made):
        with pytest.raises(FloatingPointError, match="Nothing was changed"):
            both([(4, 3), (5,), (), (0,)], np.float64, made, odd=odd)
        return
    assert_close(*both([(4, 3), (5,), (), (0,)], np.float64, made, odd=odd), 1e-12)


def test_a_value_per_tensor_may_be_reduced_over_the_model_and_meets_units() -> None:
    @rule
    def mixed(update: Any, param: Any) -> Any:
        size = steepest.norm(update, per="tensor")
        unit = steepest.norm(param, per="unit") * size + 1 / size
        largest = steepest.max(size, per="model") + steepest.sum(2.0, per="model")
        of_units = steepest.sum(unit, per="tensor") + steepest.sum(2.0, per="unit")
        count = steepest.sum(param > 0, per="tensor") + steepest.max(param > 0, per="unit")
        return update / unit * largest + of_units / count + (update > unit) * size

    assert_close(*both(SHAPES, np.float64, chain(mixed(), steepest.descend(0.1))), 1e-12)
    assert_close(*both(SHAPES, np.float32, chain(mixed(), steepest.descend(0.1))), 1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_condition_counts_as_one_or_zero_in_arithmetic(dtype: Any) -> None:
    @rule
    def masked(update: Any, param: Any) -> Any:
        positive, finite = param > 0, steepest.isfinite(steepest.norm(param, per="tensor"))
        return (
            0.1 * (update > 0) + positive * 0.3 - update * positive - (update < 0) + finite / (1.5 + positive) - finite
        )

    assert_close(
        *both(SHAPES, dtype, chain(masked(), steepest.descend(0.1))), {np.float32: 1e-6, np.float64: 1e-14}[dtype]
    )


def test_the_maximum_over_a_unit_without_elements_is_minus_infinity() -> None:
    @rule
    def largest(update: Any) -> Any:
        return update - steepest.max(update, per="unit")

    taken, _ = both([(3, 0)], np.float64, chain(largest(), steepest.descend(0.1)))
    (value,) = next(iter(taken.layout.bound.values())).sets[0].reduced.values()  # type: ignore[attr-defined]
    assert value[0].tolist() == [[-math.inf]] * 3


def test_groups_share_a_global_norm_and_keep_their_numbers() -> None:
    numbers = [values(i, (4, 3)) for i in range(4)]
    made = [chain(steepest.clip_by_global_norm(0.5), steepest.adamw(lr, weight_decay=0.1)) for lr in (0.1, 0.01)]
    ours, theirs = (
        stepper([([place(p) for p in numbers[:2]], made[0]), ([place(p) for p in numbers[2:]], made[1])])
        for place in (torch.tensor, np.copy)
    )
    for s in range(3):
        grads = [values(10 * s + i, (4, 3)) for i in range(4)]
        ours.step([torch.from_numpy(g) for g in grads])
        theirs.step(grads)
    assert_close(ours, theirs, 1e-13)


# ---- the operations

NUMBERS = [*SPECIAL, *(sign * x for x in (0.5, 1.0, 2.0, 3.0, 7.25, 710.0, 1e300, 5e-324) for sign in (1, -1))]


def applied(name: str) -> Chain:
    """A rule that keeps what an operation gives for every pairing of rates and for every number that the host knows."""
    arity = len(inspect.signature(OPERATIONS[name].host).parameters)

    def result(a: Any, b: Any) -> Any:
        graph = (a if isinstance(a, steepest.language.expression.Expr) else b).graph
        args = {1: (a,), 2: (a, b), 3: (a, b, a)}[arity]
        if name in ("and", "or", "not"):
            args = tuple(graph.add("ne", x, 0.0) for x in args)
        if name == "where":
            args = (graph.add("lt", a, 1.0), *args[1:])
        made = graph.add(name, *args)
        return steepest.where(made, 1.0, 2.0) if OPERATIONS[name].boolean else made

    states = [f"r{i}" for i in range(10 + 2 * len(NUMBERS))]

    @rule(**dict.fromkeys(states, zeros))
    def keep(param: Any, update: Any, state: Any) -> Any:
        tensor, unit = steepest.max(param, per="tensor"), steepest.max(param, per="unit", axis=-1)
        wide = steepest.language.functions.wide(update)
        pairs = [(update, param), (param, update), (update, tensor), (tensor, update), (update, unit), (unit, update)]
        pairs += [(tensor, unit), (tensor, tensor), (wide, param), (unit, wide)]
        pairs += [p for x in NUMBERS for p in ((update, x), (x, update))]
        for n, (a, b) in zip(states, pairs, strict=True):
            setattr(state, n, result(a, b))
        return param

    return chain(keep())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_gives_the_same_for_all_pairs_of_special_numbers(name: str, dtype: Any) -> None:
    made = applied(name)
    with np.errstate(over="ignore"):
        update = np.array(NUMBERS, dtype=dtype).reshape(2, -1)
        params = [np.full_like(update, x) for x in NUMBERS]
    ours = found(after([torch.from_numpy(p.copy()) for p in params], [[torch.from_numpy(update)] * len(params)], made))
    theirs = found(after(params, [[update] * len(params)], made))
    # The last places of these four are the C library's. Where it has none of float32, NumPy computes in float64.
    within = {np.float32: 1e-6, np.float64: 1e-14}[dtype] if name in ("pow", "exp", "log", "cos") else 0.0
    smallest = float(np.finfo(dtype).smallest_subnormal) if within else 0.0
    for key, expected in theirs.items():
        np.testing.assert_allclose(ours[key], expected, rtol=within, atol=smallest, err_msg=key, strict=True)
        zero = expected == 0
        assert np.array_equal(np.signbit(ours[key][zero]), np.signbit(expected[zero])), f"{key}: the sign of a zero"


# ---- kinds of tensors


def spread(t: torch.Tensor) -> torch.Tensor:
    """The same numbers, every third place of a larger tensor, the first two dimensions exchanged."""
    turned = t.transpose(0, 1) if t.ndim > 1 else t
    made = t.new_zeros([*turned.shape, 3])[..., 1]
    made.copy_(turned)
    return made.transpose(0, 1) if t.ndim > 1 else made


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "transposed": lambda t: t.T.clone(memory_format=torch.contiguous_format).T if t.ndim == 2 else t.clone(),
    "channels last": lambda t: t.clone(memory_format=torch.channels_last) if t.ndim == 4 else t.clone(),
    "spread": spread,
    "parameter": lambda t: torch.nn.Parameter(t.clone()).detach(),
}
KINDS = [
    steepest.adamw(0.1),
    chain(steepest.clip_by_global_norm(0.5), steepest.adaptive_grad_clip(0.05, axis=1), steepest.lamb(0.1)),
]


@pytest.mark.parametrize("made", KINDS, ids=["adamw", "all rates"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_strides_give_the_same_numbers(layout: str, made: Chain) -> None:
    shapes = [(4, 3), (2, 3, 2, 2), (3, 1)]
    assert_close(*both(shapes, np.float64, made, LAYOUTS[layout]), 1e-12)


def test_a_parameter_keeps_its_strides_and_a_gradient_may_repeat_one_number() -> None:
    param = torch.zeros(6, 4).T
    other = torch.zeros(4, 6)
    grad = torch.tensor([1.0]).expand(4, 6)
    after([param, other], [[grad, grad.contiguous()]], KINDS[0])
    assert param.stride() == (1, 4)
    torch.testing.assert_close(param, other, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("made", KINDS, ids=["adamw", "all rates"])
def test_sixteen_bits_are_widened_where_they_are_loaded_and_rounded_where_they_are_stored(
    dtype: torch.dtype, made: Chain
) -> None:
    def rounded(seed: int) -> torch.Tensor:
        return torch.from_numpy(values(seed, (4, 3), np.float32)).to(dtype)

    ours, theirs = stepper([([rounded(1)], made)]), stepper([([rounded(1).float().numpy()], made)])
    for s in range(3):
        ours.step([rounded(10 + s)])
        theirs.step([rounded(10 + s).float().numpy()])
        param = theirs.tensors[0].param
        param[...] = torch.from_numpy(param).to(dtype).float().numpy()
    a, b = ours.tensors[0].buffers, theirs.tensors[0].buffers
    assert a["param"].dtype == dtype and {a[n].dtype for n in a if n != "param"} == {torch.float32}
    for name in a:
        np.testing.assert_allclose(a[name].float().numpy(), b[name], rtol=3e-6, atol=1e-7, err_msg=name)


def test_a_number_beyond_the_type_becomes_infinite() -> None:
    @rule(a=zeros, b=zeros)
    def fill(param: Any, update: Any, state: Any) -> Any:
        state.a, state.b = update * 1e300, steepest.where(update > 0, 1e300, -1e300)
        return param

    for dtype in (torch.float32, torch.float16):
        t = after([torch.zeros(2, dtype=dtype)], [[torch.tensor([1.0, -1.0], dtype=dtype)]], chain(fill())).tensors[0]
        assert t.buffers["a"].tolist() == t.buffers["b"].tolist() == [math.inf, -math.inf]


@pytest.mark.parametrize("number", range(len(PER_TENSOR) + len(PER_UNIT)))
def test_nothing_slower_than_an_element_waits_for_the_device(number: int) -> None:
    made = chain([*PER_TENSOR, *PER_UNIT][number](), steepest.adamw(0.1), steepest.ema(0.9))
    params = [torch.zeros(shape, device="meta") for shape in [(4, 3), (), (0,)]]
    taken = after(params, [[torch.zeros_like(p) for p in params]] * 2, made)
    assert all(b.device.type == "meta" for t in taken.tensors for b in t.buffers.values())


def test_a_norm_over_meta_tensors_is_that_of_nothing() -> None:
    made = chain(
        steepest.measure(
            total=lambda update: steepest.norm(update, per="model"),
            largest=lambda update: steepest.max(update, per="model"),
            each=lambda update: steepest.norm(update, per="tensor"),
        ),
        steepest.sgd(0.1),
    )
    meta, real = torch.zeros(3, device="meta"), torch.zeros(2)
    taken = after([meta, real], [[torch.zeros_like(meta), torch.tensor([-3.0, -4.0])]], made)
    assert taken.readings.named() == {"total": 5.0, "largest": -3.0, "each": {"0": 0.0, "1": 5.0}}
    torch.testing.assert_close(real, torch.tensor([0.3, 0.4]))


class Named(torch.Tensor):
    """A subclass that PyTorch's own ``__torch_function__`` keeps."""


def test_a_tensor_subclass_is_stepped_in_place() -> None:
    for made in KINDS:
        own = torch.from_numpy(values(1, (4, 3))).as_subclass(Named)
        plain = torch.from_numpy(values(1, (4, 3)))
        grad = torch.from_numpy(values(2, (4, 3)))
        after([own], [[grad.as_subclass(Named)]], made)
        after([plain], [[grad]], made)
        torch.testing.assert_close(own.as_subclass(torch.Tensor), plain, rtol=1e-14, atol=0)


def test_a_tensor_around_other_tensors_is_stepped_through_them() -> None:
    two = pytest.importorskip("torch.testing._internal.two_tensor").TwoTensor
    for made in KINDS:
        own, plain, grad = (torch.from_numpy(values(seed, (4, 3))) for seed in (1, 1, 2))
        after([two(own, own.clone())], [[two(grad, grad)]], made)
        after([plain], [[grad]], made)
        torch.testing.assert_close(own, plain, rtol=1e-14, atol=0)


def test_no_graph_is_recorded() -> None:
    param, grad = torch.zeros(3), torch.ones(3, requires_grad=True)
    taken = after([param], [[grad]], KINDS[1])
    assert not any(b.requires_grad for b in taken.tensors[0].buffers.values())


def test_without_float64_on_a_device_float32_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreach, "_has_float64", lambda device: False)
    assert_close(*both([(4, 3), (5,), ()], np.float32, KINDS[1]), 1e-5)


# ---- sets and buffers


def test_a_large_model_is_stepped_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [(4, 3), (0,), (5,), (), (4, 4), (3, 2), (2,)]
    whole, _ = both(shapes, np.float64, KINDS[1])
    monkeypatch.setattr(foreach, "MOST_ON_CPU", 12)
    parts, expected = both(shapes, np.float64, KINDS[1])
    bound = next(iter(parts.layout.bound.values()))
    assert [one.positions for one in bound.sets] == [[0, 1], [2, 3], [4], [5, 6]]  # type: ignore[attr-defined]
    assert_close(parts, expected, 1e-13)
    assert_close(parts, whole, 1e-13)


def test_all_sums_over_the_model_are_read_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    to_list = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: reads.append(self.numel()) or to_list(self))
    made = chain(
        steepest.measure(largest=lambda update: steepest.max(update, per="model")),
        steepest.clip_by_global_norm(0.5),
        steepest.lamb(0.1),
    )
    groups = [([torch.ones(3), torch.ones(2)], made), ([torch.ones(4, dtype=torch.float64)], made)]
    taken = stepper(groups)
    taken.step([torch.ones(3), torch.ones(2), torch.ones(4, dtype=torch.float64)])
    assert reads == [2, 2]
    assert taken.readings.named() == {"largest": 1.0}


def test_states_may_take_each_others_values() -> None:
    @rule(a=zeros, b=zeros, c=zeros)
    def turn(param: Any, update: Any, state: Any) -> Any:
        wide = steepest.language.functions.wide
        state.a, state.b, state.c = wide(state.b), state.c, state.a + update
        return param

    for dtype in (np.float32, np.float64):
        ours, theirs = both([(3,), (2, 2)], dtype, chain(turn()))
        assert_close(ours, theirs, 0.0)


def test_one_value_may_be_stored_under_two_names_and_a_number_fills_a_state() -> None:
    @rule(a=zeros, b=zeros, c=zeros, d=zeros)
    def twice(param: Any, update: Any, state: Any) -> Any:
        state.a = state.b = update
        state.c, state.d = 3.0, steepest.norm(update, per="unit")
        return param

    ours, theirs = both([(3,), (2, 2), ()], np.float64, chain(twice()))
    assert_close(ours, theirs, 1e-14)
    buffers = ours.tensors[0].buffers
    buffers["a"].zero_()
    assert buffers["b"].abs().sum() > 0
