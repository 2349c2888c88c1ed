"""The language: values and their graph, the table of operations, rules, recipes and chains, and every refusal whole."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
import pickle
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import steepest as s
from steepest.language.chain import Chain, Start
from steepest.language.expression import Expr, Graph, Rate
from steepest.language.operations import OPERATIONS, Operation
from steepest.language.trace import Trace, check_order, structure_of, trace

# Values and their graph


def test_equal_expressions_are_one_value() -> None:
    graph = Graph()
    g, p, lr = graph.load("grad"), graph.load("param"), graph.input("lr")
    first = p - lr * (g + 1)
    count = len(graph.nodes)
    assert first is graph.load("param") - graph.input("lr") * (graph.load("grad") + 1.0)
    assert len(graph.nodes) == count
    assert graph.reduce("sum", g, Rate.TENSOR) is graph.reduce("sum", g, Rate.TENSOR)


def test_the_order_of_arguments_the_rate_and_the_axis_tell_values_apart() -> None:
    graph = Graph()
    g, p = graph.load("grad"), graph.load("param")
    assert g + p is not p + g
    made = [graph.reduce("sum", g, rate) for rate in (Rate.MODEL, Rate.TENSOR, Rate.UNIT)]
    made += [
        graph.reduce("sum", g, Rate.UNIT, 1),
        graph.reduce("max", g, Rate.TENSOR),
        graph.load("lr"),
        graph.input("lr"),
    ]
    assert len({value.index for value in made}) == len(made)


def test_zero_and_minus_zero_are_two_values() -> None:
    graph = Graph()
    plus, minus = graph.const(0.0), graph.const(-0.0)
    assert plus is not minus
    assert math.copysign(1, plus.value) == 1 and math.copysign(1, minus.value) == -1
    assert graph.const(0) is plus and graph.const(False) is plus


def test_every_nan_is_the_same_value() -> None:
    graph = Graph()
    assert graph.const(math.nan) is graph.const(-math.nan) is graph.const(np.float32("nan"))


def test_arguments_stand_before_what_is_computed_from_them() -> None:
    for value in trace(s.chain(s.clip_by_global_norm(1.0), s.lamb(), s.lookahead())).graph.nodes:
        assert all(argument.index < value.index for argument in value.args)


def test_a_value_has_no_hash_since_comparing_it_builds_an_expression() -> None:
    g = Graph().load("grad")
    assert isinstance(g == g, Expr)
    with pytest.raises(TypeError, match=r"^unhashable type: 'Expr'$"):
        hash(g)


def leaves(graph: Graph) -> dict[Rate, Expr]:
    g = graph.load("grad")
    slow = {rate: graph.reduce("sum", g, rate) for rate in (Rate.MODEL, Rate.TENSOR, Rate.UNIT)}
    return {Rate.STEP: graph.input("lr"), **slow, Rate.ELEMENT: g}


@pytest.mark.parametrize("one", list(Rate), ids=lambda rate: rate.word)
@pytest.mark.parametrize("other", list(Rate), ids=lambda rate: rate.word)
def test_the_rate_of_an_operation_is_the_highest_of_its_arguments(one: Rate, other: Rate) -> None:
    graph = Graph()
    a, b = leaves(graph)[one], leaves(graph)[other]
    assert (a + b).rate == (a > b).rate == graph.add("where", a > 0, b, 0.0).rate == max(one, other)


@pytest.mark.parametrize("function", [s.sum, s.max, s.norm, s.mean, s.rms, s.count])
@pytest.mark.parametrize("per", ["model", "tensor", "unit"])
def test_a_reduction_lowers_the_rate_to_what_was_asked(function: Callable[..., Expr], per: str) -> None:
    assert function(Graph().load("grad"), per=per).rate == Rate[per.upper()]


def test_numbers_are_known_once_per_step_and_folded() -> None:
    graph = Graph()
    folded = s.sqrt(graph.const(4.0)) + 1
    assert (folded.op, folded.value, folded.rate) == ("const", 3.0, Rate.STEP)


def test_only_a_square_is_written_as_a_product() -> None:
    g = Graph().load("grad")
    assert (g**2).op == "mul" and (g**2).args == (g, g)
    assert (g**3).op == (g**0.5).op == (g**1).op == "pow"


def test_no_algebra_is_done_that_would_hide_a_nan() -> None:
    g = Graph().load("grad")
    assert [(g * 0).op, (g + 0).op, (g - g).op, (g / g).op, (g * 1).op] == ["mul", "add", "sub", "div", "mul"]


def test_where_is_folded_if_its_sides_are_one_value_or_its_condition_is_a_number() -> None:
    graph = Graph()
    g, p = graph.load("grad"), graph.load("param")
    assert s.where(g > 0, p, p) is p
    assert graph.add("where", True, g, p) is g and graph.add("where", 0.0, g, p) is p
    assert s.where(g > 0, 0.0, graph.const(-0.0)).op == "where"


def test_wide_values_stay_wide_until_they_are_reduced() -> None:
    g = Graph().load("grad")
    wide = s.wide(g)
    assert [wide.kind, (wide**2 + g).kind, (wide > 0).kind] == ["wide", "wide", "bool"]
    assert s.sum(wide**2, per="tensor").kind == (g + 1).kind == "float"


def test_operators_on_either_side_build_the_same_operation() -> None:
    graph = Graph()
    g, two = graph.load("grad"), graph.const(2.0)
    for op, made, args in [
        ("add", 2 + g, (two, g)),
        ("sub", 2 - g, (two, g)),
        ("mul", 2 * g, (two, g)),
        ("div", 2 / g, (two, g)),
        ("pow", 2**g, (two, g)),
        ("mod", 2 % g, (two, g)),
        ("mod", g % 2, (g, two)),
        ("lt", 2 > g, (g, two)),  # noqa: SIM300  # the reflected operator
        ("ge", 2 <= g, (g, two)),  # noqa: SIM300
        ("neg", -g, (g,)),
        ("abs", abs(g), (g,)),
        ("and", True & (g > 0), (graph.const(1.0), g > 0)),
        ("or", False | (g > 0), (graph.const(0.0), g > 0)),
        ("not", ~(g > 0), (g > 0,)),
        ("mul", np.float64(2) * g, (two, g)),
        ("sub", np.float32(2) - g, (two, g)),
        ("gt", np.float64(2) > g, (two, g)),
        ("mod", np.int64(2) % g, (two, g)),
    ]:
        assert (made.op, [a.index for a in made.args]) == (op, [a.index for a in args])
    assert +g is g


# The table of operations

SMALLEST, NORMAL, LARGEST = 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308
POSITIVE = [
    0.0,
    SMALLEST,
    3 * SMALLEST,
    NORMAL / 2,
    NORMAL,
    1e-8,
    1 / 3,
    0.5,
    1.0,
    1.5,
    2.0,
    3.0,
    7.25,
    710.0,
    1e16,
    1e300,
]
NUMBERS = [math.nan, *(sign * x for x in [*POSITIVE, LARGEST, math.inf] for sign in (1.0, -1.0))]
# Results that C libraries round differently, by one unit in the last place; all others agree to the bit.
ROUNDED = {"pow", "exp", "log", "cos"}


def arguments_of(row: Operation) -> Iterator[tuple[float, ...]]:
    arity = len(inspect.signature(row.host).parameters)
    numbers = NUMBERS if arity < 3 else [math.nan, -math.inf, -1.5, -0.0, 0.0, SMALLEST, 1.0]
    return itertools.product(numbers, repeat=arity)


def alike(ours: float, reference: float, within: float) -> bool:
    if ours != ours or reference != reference:
        return ours != ours and reference != reference
    if ours == reference:
        return math.copysign(1.0, ours) == math.copysign(1.0, reference)
    return math.isfinite(ours) and abs(ours - reference) <= within * math.ulp(reference)


@pytest.mark.parametrize("row", OPERATIONS.values(), ids=lambda row: row.name)
def test_host_and_arrays_agree_on_an_operation(row: Operation) -> None:
    every = list(arguments_of(row))
    columns = [np.array(column) for column in zip(*every, strict=True)]
    if row.name in ("and", "or", "not"):
        columns = [column != 0 for column in columns]
    with np.errstate(all="ignore"):
        result = row.array(np, *columns)
    assert result.dtype == (bool if row.boolean else np.float64)
    within = 1 if row.name in ROUNDED else 0
    host = [float(row.host(*at)) for at in every]
    assert [
        (at, h, float(r)) for at, h, r in zip(every, host, result, strict=True) if not alike(h, float(r), within)
    ] == []


@pytest.mark.parametrize("name", ["div", "pow", "mod", "minimum", "maximum"])
def test_a_single_number_beside_an_array_gives_what_two_arrays_give(name: str) -> None:
    row, a = OPERATIONS[name], np.array(NUMBERS)
    with np.errstate(all="ignore"):
        for number in NUMBERS:
            for pair in [(a, np.asarray(number)), (np.asarray(number), a)]:
                ours, reference = row.array(np, *pair), row.array(np, *(x.copy() for x in np.broadcast_arrays(*pair)))
                assert all(map(alike, ours, reference, itertools.repeat(1)))


NUMPYS: dict[str, Any] = {
    "div": np.true_divide, "pow": np.power, "mod": np.remainder, "sqrt": np.sqrt, "log": np.log, "exp": np.exp,
    "floor": np.floor, "abs": np.abs, "neg": np.negative, "isfinite": np.isfinite, "cos": np.cos,
}  # fmt: skip


@pytest.mark.parametrize("name", NUMPYS)
def test_the_host_computes_what_numpy_computes_on_arrays(name: str) -> None:
    every = list(arguments_of(OPERATIONS[name]))
    with np.errstate(all="ignore"):
        result = NUMPYS[name](*(np.array(column) for column in zip(*every, strict=True)))
    host = [float(OPERATIONS[name].host(*at)) for at in every]
    within = 1 if name in ROUNDED else 0
    assert [
        (at, h, float(r)) for at, h, r in zip(every, host, result, strict=True) if not alike(h, float(r), within)
    ] == []


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("div", (1.0, 0.0), math.inf),
        ("div", (1.0, -0.0), -math.inf),
        ("div", (0.0, 0.0), math.nan),
        ("pow", (-2.0, 3.0), -8.0),
        ("pow", (-2.0, 0.5), math.nan),
        ("pow", (math.nan, 0.0), 1.0),
        ("pow", (1.0, math.nan), 1.0),
        ("pow", (0.0, -1.0), math.inf),
        ("pow", (-0.0, -1.0), -math.inf),
        ("pow", (-0.0, -2.0), math.inf),
        ("pow", (-0.0, 3.0), -0.0),
        ("pow", (-0.0, 0.5), 0.0),
        ("pow", (-math.inf, 0.5), math.inf),
        ("pow", (-1e300, 3.0), -math.inf),
        ("mod", (7.0, 3.0), 1.0),
        ("mod", (-7.0, 3.0), 2.0),
        ("mod", (7.0, -3.0), -2.0),
        ("mod", (-0.0, 3.0), 0.0),
        ("mod", (1.0, 0.0), math.nan),
        ("mod", (math.inf, 3.0), math.nan),
        ("mod", (-1.0, math.inf), math.inf),
        ("sqrt", (-0.0,), -0.0),
        ("sqrt", (-1.0,), math.nan),
        ("log", (-0.0,), -math.inf),
        ("log", (-1.0,), math.nan),
        ("exp", (710.0,), math.inf),
        ("floor", (-0.0,), -0.0),
        ("floor", (-5e-324,), -1.0),
        ("minimum", (math.nan, 1.0), math.nan),
        ("minimum", (1.0, math.nan), math.nan),
        ("minimum", (0.0, -0.0), -0.0),
        ("minimum", (-0.0, 0.0), 0.0),
        ("maximum", (math.nan, 1.0), math.nan),
        ("maximum", (1.0, math.nan), math.nan),
        ("maximum", (0.0, -0.0), -0.0),
        ("maximum", (-0.0, 0.0), 0.0),
        ("where", (math.nan, 1.0, 2.0), 1.0),
        ("where", (0.0, math.nan, 2.0), 2.0),
    ],
    ids=str,
)  # fmt: skip
def test_an_edge_is_decided_once(name: str, arguments: tuple[float, ...], expected: float) -> None:
    with np.errstate(all="ignore"):
        results = OPERATIONS[name].host(*arguments), float(OPERATIONS[name].array(np, *map(np.asarray, arguments)))
    assert all(alike(result, expected, 0) for result in results), results
    graph = Graph()
    assert alike(graph.add(name, *arguments).value, expected, 0)


@pytest.mark.parametrize("row", OPERATIONS.values(), ids=lambda row: row.name)
def test_arrays_keep_their_type_and_only_wide_lifts_it(row: Operation) -> None:
    arguments = [np.ones(3, np.float32) for _ in inspect.signature(row.host).parameters]
    assert row.array(np, *arguments).dtype == (bool if row.boolean else "float64" if row.name == "wide" else "float32")


# Mistakes inside a rule: each stands on the line after its def

kept: list[Any] = []


def branches(update: Any) -> Any:
    return update if update > 0 else -update


def uses_and(update: Any, step: Any) -> Any:
    return update * (step and 1.0)


def uses_math(update: Any) -> Any:
    return math.sqrt(update)


def uses_python_max(update: Any) -> Any:
    return max(update, 0.0)


def sums_in_python(update: Any) -> Any:
    return sum(update)


def indexes(update: Any) -> Any:
    return update[0]


def measures_length(update: Any) -> Any:
    return len(update)


def looks_inside(update: Any) -> Any:
    return 1.0 in update


def uses_numpy_sqrt(update: Any) -> Any:
    return np.sqrt(update)


def uses_numpy_tanh(update: Any) -> Any:
    return np.tanh(update)


def uses_numpy_abs(update: Any) -> Any:
    return np.abs(update)


def uses_numpy_sum(update: Any) -> Any:
    return np.sum(update)


def uses_numpy_where(update: Any) -> Any:
    return np.where(update > 0, update, 0.0)


def uses_numpy_norm(update: Any) -> Any:
    return np.linalg.norm(update)


def uses_a_method(update: Any) -> Any:
    return update.sum()


def uses_an_attribute(update: Any) -> Any:
    return update.T


def meets_an_array(update: Any) -> Any:
    return update * np.ones(2)


def meets_a_text(update: Any) -> Any:
    return update * "2"


def meets_none(update: Any) -> Any:
    return update + None


def meets_a_huge_number(update: Any) -> Any:
    return update * 10**400


def mixes_two_traces(update: Any) -> Any:
    return update + kept[0]


def reduces_twice(update: Any) -> Any:
    return s.sum(s.norm(update, per="tensor"), per="unit")


INSIDE = "It is known once per element, inside the step."
ITERATION = (
    f"{{at}}: a traced value can't be iterated over. {INSIDE} A rule is written for one element. To sum over elements, "
    f"write sum(x, per='tensor')."
)
ARRAY = (
    f"{{at}}: a traced value can't become a NumPy array. {INSIDE} Use the functions of steepest (sqrt, where, norm …) "
    f"instead of NumPy's."
)
CONDITION = "{at}: a traced value can't be used as a condition (if, while, and, or, not)."
TRUTH = "Write where(condition, a, b) instead of if, minimum and maximum instead of min and max, & and | instead of and and or."
OPERAND = "{at}: an operand of a traced value must be a number or a value made from the rule's arguments, got"

MISTAKES: list[tuple[Callable[..., Any], type[Exception], str]] = [
    (branches, TypeError, f"{CONDITION} {INSIDE} {TRUTH}"),
    (uses_and, TypeError, f"{CONDITION} It is known once per step, on the host. {TRUTH}"),
    (uses_math, TypeError, f"{{at}}: a traced value can't become a Python number. {INSIDE} Write steepest.sqrt, "
     f"steepest.exp … instead of math.sqrt, math.exp …."),
    (uses_python_max, TypeError, f"{CONDITION} {INSIDE} {TRUTH}"),
    (sums_in_python, TypeError, ITERATION),
    (indexes, TypeError, ITERATION),
    (measures_length, TypeError, ITERATION),
    (looks_inside, TypeError, ITERATION),
    (uses_numpy_sqrt, TypeError, f"{{at}}: numpy.sqrt can't take a traced value. {INSIDE} Write steepest.sqrt instead."),
    (uses_numpy_tanh, TypeError, f"{{at}}: numpy.tanh can't take a traced value. {INSIDE} Use the functions of steepest instead."),
    (uses_numpy_abs, TypeError, f"{{at}}: numpy.absolute can't take a traced value. {INSIDE} Write steepest.abs instead."),
    (uses_numpy_sum, TypeError, f"{{at}}: numpy.add.reduce can't take a traced value. {INSIDE} Write steepest.sum instead."),
    (uses_numpy_where, TypeError, ARRAY),
    (uses_numpy_norm, TypeError, ARRAY),
    (uses_a_method, AttributeError, "{at}: a traced value has no attribute 'sum'. Write steepest.sum(x, per=…)."),
    (uses_an_attribute, AttributeError, "{at}: a traced value has no attribute 'T'."),
    (meets_an_array, TypeError, f"{OPERAND} ndarray array([1., 1.])."),
    (meets_a_text, TypeError, f"{OPERAND} str '2'."),
    (meets_none, TypeError, f"{OPERAND} NoneType None."),
    (meets_a_huge_number, ValueError, "{at}: a number used with a traced value must fit into float64, got a larger one."),
    (mixes_two_traces, ValueError, "{at}: a rule can't use a traced value of another rule. Use only its own arguments."),
    (
        reduces_twice,
        TypeError,
        "{at}: sum per unit can't take a value that is already known once per tensor. Reduce a value per element, or remove "
        "the sum.",
    ),
]  # fmt: skip


def traced(function: Callable[..., Any], /, **state: Start) -> Trace:
    made = s.rule(**state)(function) if state else s.rule(function)
    return trace(s.chain(made(), s.descend(0.1)))


def refused(kind: type[Exception], call: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    with pytest.raises(kind) as caught:
        call(*arguments, **named)
    assert type(caught.value) is kind
    return str(caught.value)


@pytest.mark.parametrize(("function", "kind", "message"), MISTAKES, ids=lambda x: getattr(x, "__name__", ""))
def test_a_mistake_in_a_rule_is_named_at_its_own_line(
    function: Callable[..., Any], kind: type[Exception], message: str
) -> None:
    kept[:] = [Graph().load("grad")]
    at = f"test_language.py:{function.__code__.co_firstlineno + 1}"
    with pytest.raises(kind) as caught:
        traced(function)
    assert str(caught.value) == message.replace("{at}", at)
    name = function.__name__
    assert caught.value.__notes__ == [f"in rule {name!r} of the chain {name} > descend"]


def test_a_value_names_the_line_that_made_it() -> None:
    def double(update: Any) -> Any:
        return update * 2

    made = traced(double).graph.nodes
    line = double.__code__.co_firstlineno + 1
    assert next(repr(v) for v in made if v.op == "mul") == f"<mul, known once per element, test_language.py:{line}>"


def returns_none(update: Any) -> Any:
    pass


def returns_two(update: Any, param: Any) -> Any:
    return update, param


def returns_its_state(update: Any, state: Any) -> Any:
    return state


def reads_a_state_it_has_not(update: Any, state: Any) -> Any:
    return update + state.averag


def writes_a_state_it_has_not(update: Any, state: Any) -> Any:
    state.averag = update
    return update


def puts_elements_into_a_scalar(update: Any, state: Any) -> Any:
    state.average = update
    return update


def requires_elements(update: Any) -> Any:
    s.require(update > 0, "skip", "negative")
    return update


def requires_otherwise(update: Any) -> Any:
    s.require(s.sum(update, per="model") > 0, "stop", "negative")
    return update


def reduces_per_layer(update: Any) -> Any:
    return s.sum(update, per="layer")  # type: ignore[arg-type]  # wrong on purpose


def counts_per_layer(update: Any) -> Any:
    return s.count(update, per="layer")  # type: ignore[arg-type]  # wrong on purpose


def names_an_axis_of_the_tensor(update: Any) -> Any:
    return s.count(update, per="tensor", axis=1)


def takes_a_zeroth_norm(update: Any) -> Any:
    return s.norm(update, per="tensor", order=0)


UNITS = "must be one of 'model', 'tensor', 'unit', got 'layer'."


@pytest.mark.parametrize(
    ("function", "state", "kind", "message"),
    [
        (returns_none, {}, TypeError, "returns_none: a rule must return the new value of its first argument, 'update', got None."),
        (returns_two, {}, TypeError, "returns_two: a rule must return the new value of its first argument, 'update', got a tuple."),
        (returns_its_state, {"average": s.zeros}, TypeError,
         "returns_its_state: a rule must return the new value of its first argument, 'update', got its state."),
        (reads_a_state_it_has_not, {"average": s.zeros}, AttributeError,
         "reads_a_state_it_has_not: state has no 'averag'. Declared in @rule(…): average."),
        (writes_a_state_it_has_not, {"average": s.zeros}, AttributeError,
         "writes_a_state_it_has_not: state has no 'averag'. Declared in @rule(…): average."),
        (reads_a_state_it_has_not, {}, AttributeError,
         "reads_a_state_it_has_not: state has no 'averag'. Declared in @rule(…): none."),
        (puts_elements_into_a_scalar, {"average": s.scalar(1.0)}, TypeError,
         "puts_elements_into_a_scalar: state average is a scalar on the host, but its new value is known once per element. "
         "Declare it with zeros to hold one value per element."),
        (requires_elements, {}, TypeError,
         "require: the condition must have one value per model, got one per element. "
         "Reduce it: sum(where(condition, 0.0, 1.0), per='model') == 0."),
        (requires_otherwise, {}, ValueError, "require: otherwise must be one of 'skip', 'error', got 'stop'."),
        (reduces_per_layer, {}, ValueError, f"sum: per {UNITS}"),
        (counts_per_layer, {}, ValueError, f"count: per {UNITS}"),
        (names_an_axis_of_the_tensor, {}, ValueError,
         "count: axis must be None unless per is 'unit', got 1. It is the dimension that numbers the units."),
        (takes_a_zeroth_norm, {}, ValueError, "norm: order must be > 0, got 0."),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)  # fmt: skip
def test_a_rule_that_cannot_be_traced_is_refused(
    function: Callable[..., Any], state: dict[str, Start], kind: type[Exception], message: str
) -> None:
    assert refused(kind, traced, function, **state) == message


def test_a_note_names_the_rule_that_failed_and_its_chain() -> None:
    with pytest.raises(TypeError) as caught:
        trace(s.chain(s.clip_by_value(-1, 1), s.rule(branches)(), s.sgd()))
    assert caught.value.__notes__ == ["in rule 'branches' of the chain clip_by_value > branches > descend"]


# Declarations


def reads_unknown(update: Any, velocity: Any) -> Any: ...
def changes_the_step(step: Any, update: Any) -> Any: ...
def reads_nothing() -> Any: ...
def reads_anything(*update: Any) -> Any: ...
def takes_any_name(update: Any, **others: Any) -> Any: ...
def ignores_state(update: Any) -> Any: ...
def one_state(update: Any, state: Any, *, eps: s.Positive = 1e-8) -> Any: ...


@pytest.mark.parametrize(
    ("function", "state", "message"),
    [
        (reads_unknown, {}, "reads_unknown: positional arguments of a rule must be among update, param, grad, state, "
         "step, got 'velocity'. "
         "Write hyperparameters after a bare *."),
        (changes_the_step, {}, "changes_the_step: the first argument of a rule must be 'update' or 'param', got 'step'. "
         "The rule returns its new value."),
        (reads_nothing, {}, "reads_nothing: the first argument of a rule must be 'update' or 'param', got None. "
         "The rule returns its new value."),
        (reads_anything, {}, "reads_anything: a rule can't take *args or **kwargs. Name each argument."),
        (takes_any_name, {}, "takes_any_name: a rule can't take *args or **kwargs. Name each argument."),
        (ignores_state, {"a": s.zeros}, "ignores_state: a rule that declares states (a) must read 'state'. Add the argument."),
        (one_state, {"a": 0.0}, "one_state: state a must start as zeros, copy_of_param, full(…) or scalar(…), got 0.0."),
        (one_state, {"step": s.zeros}, "one_state: a state can't be named 'step', which is the name of a rule's argument. "
         "Rename it."),
        (one_state, {"kind": s.zeros}, "one_state: a state can't be named 'kind', which is the name of a rule's argument. "
         "Rename it."),
        (one_state, {"a": s.full("epss")},
         "one_state: state a: unknown hyperparameter 'epss'. Did you mean 'eps'? Known: eps."),
        (3, {}, "rule: the argument must be a function, got 3."),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)  # fmt: skip
def test_a_declaration_that_makes_no_rule_is_refused(function: Any, state: dict[str, Any], message: str) -> None:
    declare = s.rule(**state)
    assert refused(TypeError, declare, function) == message


def test_the_signature_of_a_rule_has_its_hyperparameters_in_order() -> None:
    @s.rule
    def bounded(update: Any, step: Any, *, low: s.Real = 0.0, high: s.Real) -> Any: ...

    assert str(inspect.signature(s.lookahead)) == "(k: 'Count' = 5, alpha: 'Fraction' = 0.5) -> 'Chain'"
    # Python allows no argument without a default after one with a default, unless they go by name.
    assert str(inspect.signature(bounded)) == "(*, low: 's.Real' = 0.0, high: 's.Real') -> 'Chain'"


def test_a_rule_has_the_name_that_its_declaration_gives() -> None:
    @s.rule(name="shrink")
    def _shrink(update: Any, *, by: s.Fraction) -> Any:
        return by * update

    assert str(s.chain(_shrink(by=0.5), s.descend(0.1))) == "shrink > descend"
    assert refused(ValueError, lambda: _shrink(by=2.0)).startswith("shrink: by must be in [0, 1], got 2.0.")


def test_two_states_of_one_name_get_distinct_names_in_a_chain() -> None:
    made = trace(s.chain(s.accumulate_momentum(), s.accumulate_momentum(), s.descend(0.1)))
    assert list(made.stores) == ["param", "momentum_buffer", "momentum_buffer_2"]
    assert made.inputs["momentum_2"] == (1, "momentum")


def test_numbers_are_symbols_and_only_structure_distinguishes_two_chains() -> None:
    assert structure_of(s.adamw(1e-3)) == structure_of(s.adamw(lambda t: 0.1, (0.5, 0.5), 1.0))
    assert structure_of(s.sgd(0.1, 0.9)) != structure_of(s.sgd(0.1, 0.9, nesterov=True))
    assert structure_of(s.clip_by_norm(1.0, 2)) != structure_of(s.clip_by_norm(1.0, math.inf))
    assert hash(structure_of(s.clip_by_norm(1.0, np.array(2.0)))) == hash(structure_of(s.clip_by_norm(1.0, 2.0)))


def test_a_requirement_that_fails_eagerly_raises() -> None:
    s.require(True, "skip", "never")
    assert (
        refused(FloatingPointError, s.require, np.bool_(False), "skip", "the sum is negative") == "the sum is negative"
    )


# Order

CLIP, SGD, LOOKAHEAD, MEASURE = s.clip_by_value(-1, 1), s.sgd(0.1), s.lookahead(), s.measure(one=lambda update: 1.0)
NEVER = (
    "computes an update but never applies it. End it with descend(lr), or use a recipe such as sgd(lr) or adamw(lr)."
)


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ([], "chain: the chain is empty. End it with descend(lr), or use a recipe such as sgd(lr) or adamw(lr)."),
        ([CLIP], f"chain: the chain clip_by_value {NEVER}"),
        ([LOOKAHEAD], f"chain: the chain lookahead {NEVER}"),
        ([MEASURE], f"chain: the chain measure(one) {NEVER}"),
        ([SGD, SGD], "chain: sgd applies the update, but sgd before it has already applied it. "
         "A chain applies its update once: remove one of them."),
        ([SGD, LOOKAHEAD, SGD], "chain: sgd applies the update, but sgd before it has already applied it. "
         "A chain applies its update once: remove one of them."),
        ([s.descend(0.1), s.adam()], "chain: adam changes the update, but descend before it has already applied it. "
         "A chain applies its update once: remove one of them."),
        ([SGD, CLIP], "chain: clip_by_value changes the update, but sgd before it has already applied it. "
         "Move clip_by_value before sgd."),
        ([SGD, LOOKAHEAD, CLIP], "chain: clip_by_value changes the update, but sgd before it has already applied it. "
         "Move clip_by_value before sgd."),
        ([LOOKAHEAD, CLIP, SGD], "chain: lookahead must come last, but clip_by_value follows it. "
         "Move lookahead to the end of the chain."),
        ([LOOKAHEAD, SGD], "chain: lookahead must come last, but sgd follows it. Move lookahead to the end of the chain."),
    ],
    ids=lambda x: "-".join(map(str, x)) or "empty" if isinstance(x, list) else "",
)  # fmt: skip
def test_an_order_that_makes_no_sense_is_refused(links: list[Chain], message: str) -> None:
    assert refused(ValueError, check_order, s.chain(*links)) == message


@pytest.mark.parametrize(
    "links",
    [[SGD], [CLIP, SGD], [MEASURE, SGD, MEASURE], [CLIP, SGD, LOOKAHEAD, s.ema()], [SGD, s.ema(), LOOKAHEAD, MEASURE]],
)
def test_an_order_that_makes_sense_passes(links: list[Chain]) -> None:
    check_order(s.chain(*links))


# Chains, selectors, measures


def test_a_chain_is_joined_by_chain_or_a_bar() -> None:
    assert s.chain(CLIP, SGD) == CLIP | SGD == s.chain(s.chain(CLIP), s.chain(), SGD)
    assert str(CLIP | SGD) == "clip_by_value > descend"
    assert str(s.chain()) == "(empty)" and len(s.chain()) == 0


def without_address(message: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", message)


@pytest.mark.parametrize(
    ("chains", "message"),
    [
        ([SGD, s.adamw], "chain: argument 2 must be a chain, got <function adamw>. Call it: adamw(…)."),
        ([3], "chain: argument 1 must be a chain, got 3. Pass the result of a rule or recipe, such as adam()."),
        ([None, SGD], "chain: argument 1 must be a chain, got None. Pass the result of a rule or recipe, such as adam()."),
    ],
    ids=["recipe", "number", "none"],
)  # fmt: skip
def test_a_chain_of_something_else_is_refused(chains: list[Any], message: str) -> None:
    assert without_address(refused(TypeError, s.chain, *chains)) == message


def test_a_recipe_that_was_not_called_names_the_cure_behind_a_bar_too() -> None:
    message = "chain: argument 2 must be a chain, got <function adam>. Call it: adam(…)."
    assert without_address(refused(TypeError, lambda: CLIP | s.adam)) == message  # type: ignore[operator]  # wrong on purpose


def test_a_rule_that_was_not_called_names_the_cure() -> None:
    message = refused(TypeError, s.chain, s.descend)
    assert message == "chain: argument 1 must be a chain, got the rule descend. Call it: descend(…)."


@pytest.mark.parametrize("restrict", [s.only, s.exclude], ids=["only", "exclude"])
@pytest.mark.parametrize(
    ("arguments", "named", "kind", "message"),
    [
        ([3, "*.bias"], {}, TypeError, "the first argument must be a chain, got 3. Pass the result of a rule or recipe, "
         "such as adam()."),
        ([SGD], {}, ValueError, "at least one criterion must be given, got none. Pass a pattern ('*.bias'), where=…, or "
         "max_ndim=…."),
        ([SGD, 3], {}, TypeError, "pattern must be a string such as '*.bias', got 3."),
        ([SGD], {"where": "*.bias"}, TypeError, "where must be a function of name and shape, got '*.bias'."),
        ([SGD], {"max_ndim": -1}, ValueError, "max_ndim must be a whole number >= 0, got -1."),
        ([SGD], {"max_ndim": 1.5}, ValueError, "max_ndim must be a whole number >= 0, got 1.5."),
        ([SGD], {"max_ndim": math.inf}, ValueError, "max_ndim must be a whole number >= 0, got inf."),
        ([SGD], {"max_ndim": True}, TypeError, "max_ndim must be a whole number >= 0, got True."),
    ],
)  # fmt: skip
def test_a_restriction_that_restricts_nothing_is_refused(
    restrict: Any, arguments: list[Any], named: dict[str, Any], kind: type[Exception], message: str
) -> None:
    assert refused(kind, restrict, *arguments, **named) == f"{restrict.__name__}: {message}"


def test_a_parameter_sees_the_links_that_accept_it() -> None:
    decay = s.add_decayed_weights(0.1)
    made = s.chain(
        s.exclude(decay, "*.bias", max_ndim=1), s.only(s.negate(), where=lambda name, shape: 2 in shape), SGD
    )
    assert str(made.for_parameter("a.weight", (3, 2))) == "add_decayed_weights > negate > descend"
    assert str(made.for_parameter("a.bias", (3, 3))) == "descend"
    assert str(made.for_parameter("a.scale", (2,))) == "negate > descend"


def test_two_restrictions_must_both_hold() -> None:
    made = s.only(s.only(SGD, "a.*"), "*.weight")
    assert str(made) == "descend [only 'a.*'] [only '*.weight']"
    assert [len(made.for_parameter(name, ())) for name in ("a.weight", "a.bias", "b.weight")] == [1, 0, 0]


@pytest.mark.parametrize(
    ("named", "kind", "message"),
    [
        ({}, ValueError,
         "at least one measurement must be given, got none. Write, for example, measure(grad_norm=lambda update: norm(update, "
         "per='model'))."),
        ({"one": 1}, TypeError,
         "one must be a function of update, param, grad, state, step, update_before, param_before, got 1."),
        ({"one": lambda updates: 1}, TypeError,
         "arguments of one must be among update, param, grad, state, step, update_before, param_before, got 'updates'."),
        ({"one": lambda: 1, "every": 0}, ValueError, "every must be a whole number >= 1, got 0."),
        ({"one": lambda: 1, "every": True}, TypeError, "every must be a whole number >= 1 or a schedule, got True."),
    ],
    ids=["nothing", "number", "unknown", "never", "bool"],
)  # fmt: skip
def test_a_measurement_that_cannot_be_made_is_refused(
    named: dict[str, Any], kind: type[Exception], message: str
) -> None:
    assert refused(kind, s.measure, **named) == f"measure: {message}"


@pytest.mark.parametrize(("per", "word"), [("unit", "unit"), (None, "element")])
def test_a_measured_value_is_known_at_most_once_per_tensor(per: Any, word: str) -> None:
    measured = s.measure(one=lambda update: s.norm(update, per=per) if per else update)
    message = (
        f"measure: one must have one value per step, model or tensor, got one per {word}. "
        f"Reduce it: norm(…, per='tensor')."
    )
    assert refused(TypeError, trace, s.chain(measured, SGD)) == message


def test_a_measurement_of_nothing_is_refused() -> None:
    measured = s.chain(s.measure(one=lambda update: None), SGD)
    assert refused(TypeError, trace, measured) == "measure: one must return one value, got None."


# Arguments of rules and recipes

FORGETS = "At 1.0 the average never forgets its initial value."
ADAM = "Its arguments are lr, betas, eps, weight_decay, amsgrad, maximize, decoupled_weight_decay."


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        # a rule
        (lambda: s.descend(lrr=1), TypeError, "descend: unknown hyperparameter 'lrr'. Did you mean 'lr'? Known: lr."),
        (lambda: s.descend(1, 2), TypeError, "descend: got 2 positional arguments, but its hyperparameters are: lr."),
        (lambda: s.descend(1, lr=2), TypeError, "descend: lr was given twice, by position and by name."),
        (lambda: s.descend(), TypeError, "descend: lr is missing. It has no default."),
        (lambda: s.descend(True), TypeError, "descend: lr must be a finite number >= 0 or a schedule, got True."),
        (lambda: s.descend("1"), TypeError, "descend: lr must be a finite number >= 0 or a schedule, got '1'."),
        (lambda: s.descend(-1), ValueError, "descend: lr must be >= 0, got -1."),
        (lambda: s.descend(10**400), ValueError, "descend: lr must be a finite number >= 0, got a whole number beyond float64."),
        (lambda: s.accumulate_momentum(dampening=math.nan), ValueError,
         "accumulate_momentum: dampening must be a finite number, got nan."),
        (lambda: s.accumulate_momentum(nesterov=1), TypeError,
         "accumulate_momentum: nesterov must be True or False, got 1."),
        (lambda: s.clip_by_norm(0), ValueError, "clip_by_norm: max_norm must be > 0, got 0."),
        (lambda: s.clip_by_norm(1, 0), ValueError, "clip_by_norm: norm_type must be > 0, got 0."),
        (lambda: s.clip_by_global_norm(1, on_nonfinite="ignore"), ValueError,
         "clip_by_global_norm: on_nonfinite must be one of 'propagate', 'skip', 'error', got 'ignore'."),
        (lambda: s.adaptive_grad_clip(axis=0.5), ValueError, "adaptive_grad_clip: axis must be a whole number, got 0.5."),
        (lambda: s.adaptive_grad_clip(axis=math.inf), ValueError,
         "adaptive_grad_clip: axis must be a whole number, got inf."),
        (lambda: s.lookahead(2.5), ValueError, "lookahead: k must be a whole number >= 1, got 2.5."),
        (lambda: s.lookahead(alpha=1.5), ValueError, "lookahead: alpha must be in [0, 1], got 1.5."),
        # a recipe
        (lambda: s.adam(lrr=1), TypeError,
         "adam: unknown argument 'lrr'. Did you mean 'lr'? Known: amsgrad, betas, decoupled_weight_decay, eps, "
         "lr, maximize, weight_decay."),
        (lambda: s.adam(1, (0, 0), 1, 1, True, True, True, 1), TypeError, f"adam: too many positional arguments. {ADAM}"),
        (lambda: s.adam(1, lr=1), TypeError, f"adam: multiple values for argument 'lr'. {ADAM}"),
        (lambda: s.clip_by_value(), TypeError,
         "clip_by_value: missing a required argument: 'low'. Its arguments are low, high."),
        (lambda: s.adam(True), TypeError, "adam: lr must be a finite number >= 0 or a schedule, got True."),
        (lambda: s.adam(math.inf), ValueError, "adam: lr must be a finite number >= 0, got inf."),
        (lambda: s.adam(betas=0.9), TypeError, "adam: betas must be a tuple of 2 numbers, got 0.9."),
        (lambda: s.adam(betas=(0.9, 1.0)), ValueError, f"adam: betas[1] must be in [0, 1), got 1.0. {FORGETS}"),
        (lambda: s.ema(1.5), ValueError, "ema: decay must be in [0, 1], got 1.5."),
        (lambda: s.ema(interval=0), ValueError, "ema: interval must be a whole number >= 1, got 0."),
        (lambda: s.clip_by_value(1, 1), ValueError, "clip_by_value: low must be < high, got low=1 and high=1."),
    ],
)  # fmt: skip
def test_an_argument_that_is_not_allowed_is_named(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    assert refused(kind, call) == message


def test_a_rule_of_ones_own_is_checked_like_ours_even_without_ranges() -> None:
    @s.rule
    def scale(update: Any, *, by, how="plain") -> Any:  # type: ignore[no-untyped-def]  # on purpose
        return update * by

    assert scale(2).links[0].values == (("by", 2.0),) and scale(2).links[0].structure == (("how", "plain"),)
    assert refused(TypeError, scale, [2]) == "scale: by must be a finite number or a schedule, got [2]."
    assert refused(ValueError, scale, math.inf) == "scale: by must be a finite number, got inf."


def test_a_schedule_is_accepted_for_a_value_and_not_for_structure() -> None:
    def schedule(t: int) -> float:
        return 0.5

    assert s.descend(schedule).links[0].values == (("lr", schedule),)
    assert s.adam(schedule, (schedule, 0.9)).links[0].values[0] == ("beta1", schedule)
    message = f"clip_by_norm: norm_type must be a number > 0, got {schedule!r}."
    assert refused(TypeError, s.clip_by_norm, 1.0, schedule) == message


@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda chain: pickle.loads(pickle.dumps(chain)), s.chain], ids=["copy", "pickle", "chain"]
)
def test_links_keep_the_name_of_the_recipe_that_the_user_called(how: Callable[[Chain], Chain]) -> None:
    @s.recipe
    def mine(lr: s.NonNegative = 0.1) -> Chain:
        return s.chain(s.clip_by_value(-1, 1), s.sgd(lr))

    assert [link.written for link in how(s.chain(CLIP, s.adamw(), mine(), s.negate()))] == [
        "clip_by_value", "adamw", "adamw", "adamw", "mine", "mine", "negate",
    ]  # fmt: skip
    assert how(s.sgd(0.1)) == s.descend(0.1)  # the name is for messages alone


def test_numpy_numbers_are_numbers() -> None:
    links = [s.descend(lr).links[0] for lr in (0.5, np.float32(0.5), np.array(0.5), np.float64(0.5))]
    assert all(link == links[0] and type(link.values[0][1]) is float for link in links)
