"""The language: values and their graph, the table of operations, rules, recipes and chains, and every refusal whole."""

from __future__ import annotations

import inspect
import itertools
import math
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


INSIDE = "a value that is known once per element, inside the step ({at})."
ITERATION = (
    f"iteration was asked of {INSIDE} A rule is written for one element; a sum over elements is sum(x, per='tensor')."
)
ARRAY = f"an array was asked of {INSIDE} Use the functions of steepest (sqrt, where, norm …) instead of NumPy's."
TRUTH = "Write where(condition, a, b) instead of if, minimum and maximum instead of min and max, & and | instead of and and or."
MET = "met a traced value ({at}). Allowed are numbers and values made from the rule's arguments."

MISTAKES: list[tuple[Callable[..., Any], type[Exception], str]] = [
    (branches, TypeError, f"a truth value was asked of {INSIDE} {TRUTH}"),
    (uses_and, TypeError, f"a truth value was asked of a value that is known once per step, on the host ({{at}}). {TRUTH}"),
    (uses_math, TypeError, f"a number was asked of {INSIDE} Write steepest.sqrt, steepest.exp … instead of math.sqrt, math.exp …."),
    (uses_python_max, TypeError, f"a truth value was asked of {INSIDE} {TRUTH}"),
    (sums_in_python, TypeError, ITERATION),
    (indexes, TypeError, ITERATION),
    (measures_length, TypeError, ITERATION),
    (looks_inside, TypeError, ITERATION),
    (uses_numpy_sqrt, TypeError, f"numpy.sqrt was asked of {INSIDE} Write steepest.sqrt instead."),
    (uses_numpy_tanh, TypeError, f"numpy.tanh was asked of {INSIDE} Use the functions of steepest instead."),
    (uses_numpy_abs, TypeError, f"numpy.absolute was asked of {INSIDE} Write steepest.abs instead."),
    (uses_numpy_sum, TypeError, f"numpy.add.reduce was asked of {INSIDE} Write steepest.sum instead."),
    (uses_numpy_where, TypeError, ARRAY),
    (uses_numpy_norm, TypeError, ARRAY),
    (uses_a_method, AttributeError, "a traced value has no attribute 'sum' ({at}). Write steepest.sum(x, per=…)."),
    (uses_an_attribute, AttributeError, "a traced value has no attribute 'T' ({at})."),
    (meets_an_array, TypeError, f"ndarray array([1., 1.]) {MET}"),
    (meets_a_text, TypeError, f"str '2' {MET}"),
    (meets_none, TypeError, f"NoneType None {MET}"),
    (meets_a_huge_number, ValueError, "a whole number beyond float64 met a traced value ({at})."),
    (mixes_two_traces, ValueError, "a value of another trace was used here ({at}). A rule may only use its own arguments."),
    (
        reduces_twice,
        TypeError,
        "sum per unit of a value that is already known once per tensor ({at}). Reduce an element value, or leave the sum out.",
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
    assert caught.value.__notes__ == [f"in rule {name!r}, link 1 of the chain {name} > descend"]


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


UNITS = "allowed is one of 'model', 'tensor', 'unit'."


@pytest.mark.parametrize(
    ("function", "state", "kind", "message"),
    [
        (returns_none, {}, TypeError, "returns_none returned None; a rule returns the new value of its first argument, 'update'."),
        (returns_two, {}, TypeError, "returns_two returned a tuple; a rule returns the new value of its first argument, 'update'."),
        (returns_its_state, {"average": s.zeros}, TypeError,
         "returns_its_state returned its state; a rule returns the new value of its first argument, 'update'."),
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
         "require: the condition is known once per element, allowed is once per model. "
         "Reduce it: sum(where(condition, 0.0, 1.0), per='model') == 0."),
        (requires_otherwise, {}, ValueError, "require: otherwise is 'stop', allowed is one of 'skip', 'error'."),
        (reduces_per_layer, {}, ValueError, f"sum: per is 'layer', {UNITS}"),
        (counts_per_layer, {}, ValueError, f"count: per is 'layer', {UNITS}"),
        (names_an_axis_of_the_tensor, {}, ValueError,
         "count: axis is 1, allowed with per='unit' only. It numbers the dimension of the units."),
        (takes_a_zeroth_norm, {}, ValueError, "norm: order is 0, allowed is (0, inf]."),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)  # fmt: skip
def test_a_rule_that_cannot_be_traced_is_refused(
    function: Callable[..., Any], state: dict[str, Start], kind: type[Exception], message: str
) -> None:
    assert refused(kind, traced, function, **state) == message


def test_a_note_names_the_link_of_the_chain_in_which_a_rule_failed() -> None:
    with pytest.raises(TypeError) as caught:
        trace(s.chain(s.clip_by_value(-1, 1), s.rule(branches)(), s.sgd()))
    assert caught.value.__notes__ == ["in rule 'branches', link 2 of the chain clip_by_value > branches > descend"]


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
        (reads_unknown, {}, "reads_unknown: a rule may read update, param, grad, state, step; it asks for 'velocity'. "
         "Hyperparameters stand after a bare *."),
        (changes_the_step, {}, "changes_the_step: the first argument is what the rule changes, 'update' or 'param'."),
        (reads_nothing, {}, "reads_nothing: the first argument is what the rule changes, 'update' or 'param'."),
        (reads_anything, {}, "reads_anything: a rule names each argument; *args and **kwargs are not allowed."),
        (takes_any_name, {}, "takes_any_name: a rule names each argument; *args and **kwargs are not allowed."),
        (ignores_state, {"a": s.zeros}, "ignores_state: state is declared (a), but the rule does not read 'state'."),
        (one_state, {"a": 0.0}, "one_state: state a starts as 0.0, allowed are zeros, copy_of_param, full(…), scalar(…)."),
        (one_state, {"step": s.zeros}, "one_state: a state may not be named 'step'."),
        (one_state, {"a": s.full("epss")},
         "one_state: state a: unknown hyperparameter 'epss'. Did you mean 'eps'? Known: eps."),
        (3, {}, "rule: the argument is 3, allowed is a function."),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)  # fmt: skip
def test_a_declaration_that_makes_no_rule_is_refused(function: Any, state: dict[str, Any], message: str) -> None:
    declare = s.rule(**state)
    assert refused(TypeError, declare, function) == message


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
        ([SGD, SGD], "descend (link 2) applies the update, which descend (link 1) has already applied. "
         "A chain applies its update once; leave one of them out."),
        ([SGD, LOOKAHEAD, SGD], "descend (link 3) applies the update, which descend (link 1) has already applied. "
         "A chain applies its update once; leave one of them out."),
        ([SGD, CLIP], "clip_by_value (link 2) changes the update, which descend (link 1) has already applied. "
         "Move clip_by_value before descend; a chain holds one recipe that descends."),
        ([SGD, LOOKAHEAD, CLIP], "lookahead changes parameters, but 'clip_by_value' after it changes the update, which descend "
         "(link 1) has already applied. Move lookahead to the end of the chain."),
        ([LOOKAHEAD, CLIP, SGD], "lookahead changes parameters, but 'clip_by_value' after it changes the update. "
         "Move lookahead to the end of the chain."),
        ([LOOKAHEAD, SGD], "lookahead changes parameters before descend (link 2) applies the update. "
         "Move lookahead to the end of the chain."),
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
        ([SGD, s.adamw], "chain: argument 2 is <function adamw>, allowed is what a rule or recipe returns. Call it: adamw(…)."),
        ([3], "chain: argument 1 is 3, allowed is what a rule or recipe returns."),
        ([None, SGD], "chain: argument 1 is None, allowed is what a rule or recipe returns."),
    ],
    ids=["recipe", "number", "none"],
)  # fmt: skip
def test_a_chain_of_something_else_is_refused(chains: list[Any], message: str) -> None:
    assert without_address(refused(TypeError, s.chain, *chains)) == message


def test_a_recipe_that_was_not_called_names_the_cure_behind_a_bar_too() -> None:
    message = "chain: argument 2 is <function adam>, allowed is what a rule or recipe returns. Call it: adam(…)."
    assert without_address(refused(TypeError, lambda: CLIP | s.adam)) == message  # type: ignore[operator]  # wrong on purpose


def test_a_rule_that_was_not_called_names_the_cure() -> None:
    message = refused(TypeError, s.chain, s.descend)
    assert (
        message
        == "chain: argument 1 is the rule descend, allowed is what a rule or recipe returns. Call it: descend(…)."
    )


@pytest.mark.parametrize("restrict", [s.only, s.exclude], ids=["only", "exclude"])
@pytest.mark.parametrize(
    ("arguments", "named", "kind", "message"),
    [
        ([3, "*.bias"], {}, TypeError, "the first argument is 3, allowed is what a rule or recipe returns."),
        ([SGD], {}, ValueError, "no criterion was given. Name a pattern ('*.bias'), where=…, or max_ndim=…."),
        ([SGD, 3], {}, TypeError, "pattern is 3, allowed is a text like '*.bias'."),
        ([SGD], {"where": "*.bias"}, TypeError, "where is '*.bias', allowed is a function of name and shape."),
        ([SGD], {"max_ndim": -1}, ValueError, "max_ndim is -1, allowed is a whole number >= 0."),
        ([SGD], {"max_ndim": 1.5}, ValueError, "max_ndim is 1.5, allowed is a whole number >= 0."),
        ([SGD], {"max_ndim": math.inf}, ValueError, "max_ndim is inf, allowed is a whole number >= 0."),
        ([SGD], {"max_ndim": True}, TypeError, "max_ndim is True, allowed is a whole number >= 0."),
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
         "no measurement was given. Name one: measure(grad_norm=lambda update: norm(update, per='model'))."),
        ({"one": 1}, TypeError,
         "one is 1, allowed is a function of update, param, grad, state, step, update_before, param_before."),
        ({"one": lambda updates: 1}, TypeError,
         "one asks for 'updates', allowed are update, param, grad, state, step, update_before, param_before."),
        ({"one": lambda: 1, "every": 0}, ValueError, "every is 0, allowed is a whole number >= 1."),
        ({"one": lambda: 1, "every": True}, TypeError, "every is True, allowed is a whole number >= 1, or a schedule."),
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
        f"measure: one is known once per {word}, allowed is once per step, model or tensor. "
        f"Reduce it: norm(…, per='tensor')."
    )
    assert refused(TypeError, trace, s.chain(measured, SGD)) == message


def test_a_measurement_of_nothing_is_refused() -> None:
    measured = s.chain(s.measure(one=lambda update: None), SGD)
    assert refused(TypeError, trace, measured) == "measure: one returned None, allowed is one value."


# Arguments of rules and recipes

FORGETS = "At 1 the average never forgets its start."
ADAM = "Its arguments are lr, betas, eps, weight_decay, amsgrad, maximize, decoupled_weight_decay."


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        # a rule
        (lambda: s.descend(lrr=1), TypeError, "descend: unknown hyperparameter 'lrr'. Did you mean 'lr'? Known: lr."),
        (lambda: s.descend(1, 2), TypeError, "descend: 2 values were given, allowed are 1: ['lr']."),
        (lambda: s.descend(1, lr=2), TypeError, "descend: lr was given twice, by position and by name."),
        (lambda: s.descend(), TypeError, "descend: lr is missing; it has no default."),
        (lambda: s.descend(True), TypeError, "descend: lr is True, allowed is [0, inf), or a schedule."),
        (lambda: s.descend("1"), TypeError, "descend: lr is '1', allowed is [0, inf), or a schedule."),
        (lambda: s.descend(-1), ValueError, "descend: lr is -1, allowed is [0, inf)."),
        (lambda: s.descend(10**400), ValueError, "descend: lr is a whole number beyond float64, allowed is [0, inf)."),
        (lambda: s.accumulate_momentum(dampening=math.nan), ValueError,
         "accumulate_momentum: dampening is nan, allowed is any finite number."),
        (lambda: s.accumulate_momentum(nesterov=1), TypeError,
         "accumulate_momentum: nesterov is 1, allowed is True or False."),
        (lambda: s.clip_by_norm(0), ValueError, "clip_by_norm: max_norm is 0, allowed is (0, inf)."),
        (lambda: s.clip_by_norm(1, 0), ValueError, "clip_by_norm: norm_type is 0, allowed is (0, inf]."),
        (lambda: s.clip_by_global_norm(1, on_nonfinite="ignore"), ValueError,
         "clip_by_global_norm: on_nonfinite is 'ignore', allowed is one of 'propagate', 'skip', 'error'."),
        (lambda: s.adaptive_grad_clip(axis=0.5), ValueError, "adaptive_grad_clip: axis is 0.5, allowed is a whole number."),
        (lambda: s.adaptive_grad_clip(axis=math.inf), ValueError,
         "adaptive_grad_clip: axis is inf, allowed is a whole number."),
        (lambda: s.lookahead(2.5), ValueError, "lookahead: k is 2.5, allowed is a whole number >= 1."),
        (lambda: s.lookahead(alpha=1.5), ValueError, "lookahead: alpha is 1.5, allowed is [0, 1]."),
        # a recipe
        (lambda: s.adam(lrr=1), TypeError,
         "adam: unknown argument 'lrr'. Did you mean 'lr'? Known: amsgrad, betas, decoupled_weight_decay, eps, "
         "lr, maximize, weight_decay."),
        (lambda: s.adam(1, (0, 0), 1, 1, True, True, True, 1), TypeError, f"adam: too many positional arguments. {ADAM}"),
        (lambda: s.adam(1, lr=1), TypeError, f"adam: multiple values for argument 'lr'. {ADAM}"),
        (lambda: s.clip_by_value(), TypeError,
         "clip_by_value: missing a required argument: 'low'. Its arguments are low, high."),
        (lambda: s.adam(True), TypeError, "adam: lr is True, allowed is [0, inf), or a schedule."),
        (lambda: s.adam(math.inf), ValueError, "adam: lr is inf, allowed is [0, inf)."),
        (lambda: s.adam(betas=0.9), TypeError, "adam: betas is 0.9, allowed is a tuple of 2 numbers."),
        (lambda: s.adam(betas=(0.9, 1.0)), ValueError, f"adam: betas[1] is 1.0, allowed is [0, 1). {FORGETS}"),
        (lambda: s.ema(1.5), ValueError, "ema: decay is 1.5, allowed is [0, 1]."),
        (lambda: s.ema(interval=0), ValueError, "ema: interval is 0, allowed is a whole number >= 1."),
        (lambda: s.clip_by_value(1, 1), ValueError, "clip_by_value: low is 1, allowed is below high, which is 1."),
    ],
)  # fmt: skip
def test_an_argument_that_is_not_allowed_is_named(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    assert refused(kind, call) == message


def test_a_rule_of_ones_own_is_checked_like_ours_even_without_ranges() -> None:
    @s.rule
    def scale(update: Any, *, by, how="plain") -> Any:  # type: ignore[no-untyped-def]  # on purpose
        return update * by

    assert scale(2).links[0].values == (("by", 2.0),) and scale(2).links[0].structure == (("how", "plain"),)
    assert refused(TypeError, scale, [2]) == "scale: by is [2], allowed is any finite number, or a schedule."
    assert refused(ValueError, scale, math.inf) == "scale: by is inf, allowed is any finite number."


def test_a_schedule_is_accepted_for_a_value_and_not_for_structure() -> None:
    def schedule(t: int) -> float:
        return 0.5

    assert s.descend(schedule).links[0].values == (("lr", schedule),)
    assert s.adam(schedule, (schedule, 0.9)).links[0].values[0] == ("beta1", schedule)
    message = f"clip_by_norm: norm_type is {schedule!r}, allowed is (0, inf]."
    assert refused(TypeError, s.clip_by_norm, 1.0, schedule) == message


def test_numpy_numbers_are_numbers() -> None:
    links = [s.descend(lr).links[0] for lr in (0.5, np.float32(0.5), np.array(0.5), np.float64(0.5))]
    assert all(link == links[0] and type(link.values[0][1]) is float for link in links)
