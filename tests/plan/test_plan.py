"""The planner: what every program promises, the known bytes and passes, and the plans as a person reads them."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings

import steepest
import steepest.numpy as opt
from steepest import Chain, chain
from steepest.engines.tensors import Tensor
from steepest.language.expression import Rate, is_reduction
from steepest.language.operations import OPERATIONS
from steepest.plan.plan import Plan, Program, verify
from steepest.plan.planner import plan
from steepest.step.stepper import Stepper
from tests.strategies import Array, chains, seeds, shapes, values

PLANS = Path(__file__).parents[1] / "plans"


def programs(one: Plan) -> Iterator[Program]:
    for outcome in itertools.product((False, True), repeat=len(one.conditions)):
        yield one.program(outcome)


def depths(program: Program) -> list[int]:
    """For every value, how many reductions must be complete one after another before it is known."""
    found: list[int] = []
    for node in program.graph.nodes:
        found.append(max((found[a.index] for a in node.args), default=0) + is_reduction(node))
    return found


def needed(program: Program) -> set[int]:
    todo = [e.index for e in (*program.stores.values(), *program.host_stores.values())]
    todo += [m.value.index for m in program.measures] + [g.condition.index for g in program.guards]
    seen: set[int] = set()
    while todo:
        i = todo.pop()
        if i not in seen:
            seen.add(i)
            todo += [a.index for a in program.graph.nodes[i].args]
    return seen


# ---- every chain


@given(chains())
@settings(max_examples=150)
def test_every_program_of_every_chain_is_legal(drawn: Chain) -> None:
    for program in programs(plan(drawn)):
        verify(program)


@given(chains())
@settings(max_examples=150)
def test_a_program_has_one_pass_more_than_the_longest_chain_of_reductions_a_store_waits_for(drawn: Chain) -> None:
    for program in programs(plan(drawn)):
        depth, live = depths(program), needed(program)
        guards = max((depth[g.condition.index] for g in program.guards), default=0)
        waits = 1 + max(guards, *(depth[e.index] for e in program.stores.values()))
        measured = max((depth[i] for i in live if is_reduction(program.graph.nodes[i])), default=0)
        assert len(program.passes) == max(waits, measured)


@given(chains())
@settings(max_examples=100)
def test_what_an_outcome_does_not_touch_is_neither_read_nor_written(drawn: Chain) -> None:
    for program in programs(plan(drawn)):
        nodes, live = program.graph.nodes, needed(program)
        read = {nodes[i].value for i in live if nodes[i].op == "load"}
        assert {name for one in program.passes for name in one.stores} == set(program.stores)
        assert {name for one in program.passes for name in one.loads} <= read | set(program.stores)
        for name, value in program.stores.items():
            assert not (value.op == "load" and value.value == name)


@given(chains())
@settings(max_examples=100)
def test_a_guard_delays_every_store_until_it_is_known(drawn: Chain) -> None:
    for program in programs(plan(drawn)):
        depth = depths(program)
        known = max((depth[g.condition.index] for g in program.guards), default=0)
        assert all(not one.stores for one in program.passes[:known])


@given(chains())
@settings(max_examples=60)
def test_stages_and_segments_hold_every_pass_once_and_end_at_their_barriers(drawn: Chain) -> None:
    for program in programs(plan(drawn)):
        assert [p for stage in program.stages for s in stage for p in s.passes] == list(range(len(program.passes)))
        for stage in program.stages[:-1]:
            assert program.passes[stage[-1].passes[-1]].barrier == Rate.MODEL
        for segment in (s for stage in program.stages for s in stage):
            assert all(program.passes[p].barrier == Rate.UNIT for p in segment.passes[:-1])


# ---- known values


def norm_of_update(**options: int) -> Chain:
    return steepest.measure(**options, grad_norm=lambda update: steepest.norm(update, per="model"))


CLIP = steepest.clip_by_global_norm(1.0)
KNOWN = {
    "sgd": (steepest.sgd(0.1), 12, 1),
    "momentum": (steepest.sgd(0.1, momentum=0.9), 20, 1),
    "adam": (steepest.adam(), 28, 1),
    "clip and sgd": (chain(CLIP, steepest.sgd()), 16, 2),
    "clip and adamw": (chain(CLIP, steepest.adamw()), 32, 2),
    "lamb": (steepest.lamb(weight_decay=0.01), 40, 2),
    "clip and lamb": (chain(CLIP, steepest.lamb(weight_decay=0.01)), 44, 3),
    "lars": (steepest.lars(0.1, weight_decay=0.01), 28, 2),
    "agc and momentum": (chain(steepest.adaptive_grad_clip(), steepest.sgd(0.1, momentum=0.9)), 20, 2),
    "lookahead between": (chain(steepest.adam(), steepest.lookahead(5)), 28, 1),
    "ema": (chain(steepest.adam(), steepest.ema()), 36, 1),
    "ema by interval": (chain(steepest.adam(), steepest.ema(interval=5)), 28, 1),
    "measured in passing": (chain(norm_of_update(), steepest.adam()), 28, 1),
    "measured after clipping": (chain(CLIP, norm_of_update(), steepest.adam()), 32, 2),
    "measured rarely": (chain(norm_of_update(every=10), steepest.adam()), 28, 1),
}


@pytest.mark.parametrize("name", KNOWN)
def test_passes_and_bytes_of_well_known_chains(name: str) -> None:
    made, expected, passes = KNOWN[name]
    one = plan(made)
    assert (one.bytes_per_parameter(), len(one.program(one.usual).passes)) == (expected, passes)
    assert one.bytes_per_parameter(8) == 2 * expected


def test_agc_crosses_memory_once() -> None:
    one = plan(KNOWN["agc and momentum"][0])
    program = one.program(one.usual)
    assert [p.barrier for p in program.passes] == [Rate.UNIT, Rate.ELEMENT]
    assert len(program.stages) == 1 and len(program.stages[0]) == 1


def test_lookahead_adds_its_bytes_only_when_it_synchronises() -> None:
    one = plan(chain(steepest.adam(), steepest.lookahead(5)))
    assert one.program((False,)).bytes_per_parameter() == 28
    assert one.program((True,)).bytes_per_parameter() == 36
    assert "slow" not in one.program((False,)).buffers


def test_a_measurement_that_is_not_due_is_not_in_the_program() -> None:
    one = plan(chain(norm_of_update(every=10), steepest.sgd()))
    assert not one.program((False,)).measures and not one.program((False,)).passes[0].reductions
    assert one.program((True,)).measures and len(one.program((True,)).passes) == 1


def test_the_first_step_of_momentum_does_not_read_the_buffer() -> None:
    one = plan(steepest.sgd(0.1, momentum=0.9))
    assert one.program((True,)).bytes_per_parameter() == 16
    assert "momentum_buffer" not in one.program((True,)).passes[0].loads


def test_a_guard_that_needs_no_pass_of_its_own_costs_no_bytes() -> None:
    free = chain(steepest.clip_by_global_norm(1.0, on_nonfinite="propagate"), steepest.adamw())
    guarded = chain(steepest.clip_by_global_norm(1.0, on_nonfinite="skip"), steepest.adamw())
    assert plan(free).bytes_per_parameter() == plan(guarded).bytes_per_parameter() == 32


def test_a_guard_delays_states_that_are_known_before_it() -> None:
    after = chain(steepest.accumulate_momentum(0.9), steepest.clip_by_global_norm(1.0), steepest.descend(0.1))
    skip = steepest.clip_by_global_norm(1.0, on_nonfinite="skip")
    guarded = chain(steepest.accumulate_momentum(0.9), skip, steepest.descend(0.1))
    assert plan(after).program((False,)).passes[0].stores == ("momentum_buffer",)
    assert plan(guarded).program((False,)).passes[0].stores == ()


# ---- nothing is planned twice


def test_numbers_and_schedules_never_plan_again() -> None:
    def made(lr: object, beta: object, k: object, decay: object) -> Chain:
        return chain(steepest.adamw(lr, betas=(beta, 0.99), weight_decay=decay), steepest.lookahead(k))  # type: ignore[arg-type]

    first = plan(made(1e-3, 0.9, 5, 0.01))
    for other in (made(1.0, 0.9, 5, 0.01), made(1e-3, 0.5, 9, 0.02), made(lambda step: 0.1, 0.9, 5, lambda step: 0.2)):
        assert plan(other).programs is first.programs
    assert plan(made(1e-3, 0.9, 5, 0)).programs is not first.programs, "without decay there is nothing to add"


def test_a_change_of_a_value_keeps_the_program_that_runs() -> None:
    w = np.ones(4)
    optimizer = opt.Lookahead(opt.Adam([w], lr=0.1, weight_decay=0.1), k=3)
    optimizer.step([w.copy()])
    before = optimizer.plan[0].programs
    optimizer.param_groups[0].update(lr=0.5, betas=(0.5, 0.6), k=7, weight_decay=0.2)
    optimizer.step([w.copy()])
    assert optimizer.plan[0].programs is before


def test_a_chain_of_thousands_of_links_is_planned_without_recursion() -> None:
    links = [steepest.negate() if i % 2 else steepest.add_decayed_weights(0.1) for i in range(2000)]
    one = plan(chain(*links, steepest.descend(0.1)))
    verify(one.program(one.usual))
    assert one.bytes_per_parameter() == 12
    assert str(one)


def test_a_chain_of_many_dependent_reductions_is_planned_in_that_many_passes() -> None:
    one = plan(chain(*(steepest.clip_by_norm(1.0) for _ in range(25)), steepest.descend(0.1)))
    verify(one.program(one.usual))
    assert len(one.program(one.usual).passes) == 26


# ---- plans as a person reads them

SNAPSHOTS: dict[str, Chain] = {
    **{name: make() for name, make in steepest.OPTIMIZERS.items()},
    "sgd_nesterov": steepest.sgd(0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
    "lamb_decay": steepest.lamb(weight_decay=0.01, clamp=(0.01, 10.0)),
    "lars_as_printed": steepest.lars(0.1, weight_decay=1e-4, norms_apart=True),
    "clip_by_value_sgd": chain(steepest.clip_by_value(-1, 1), steepest.sgd()),
    "clip_by_global_norm_sgd": chain(CLIP, steepest.sgd()),
    "clip_by_global_norm_inf_sgd": chain(steepest.clip_by_global_norm(1.0, float("inf")), steepest.sgd()),
    "clip_by_norm_sgd": chain(steepest.clip_by_norm(1.0), steepest.sgd()),
    "clip_by_norm_3_sgd": chain(steepest.clip_by_norm(1.0, 3), steepest.sgd()),
    "clip_by_block_rms_sgd": chain(steepest.clip_by_block_rms(1.0), steepest.sgd()),
    "adaptive_grad_clip_sgd": chain(steepest.adaptive_grad_clip(), steepest.sgd()),
    "adaptive_grad_clip_momentum": KNOWN["agc and momentum"][0],
    "clip_by_global_norm_adamw": KNOWN["clip and adamw"][0],
    "clip_by_global_norm_skip_adamw": chain(
        steepest.clip_by_global_norm(1.0, on_nonfinite="skip"), steepest.adamw()
    ),
    "clip_by_global_norm_error_adamw": chain(
        steepest.clip_by_global_norm(1.0, on_nonfinite="error"), steepest.adamw()
    ),
    "clip_by_global_norm_lamb": KNOWN["clip and lamb"][0],
    "skip_nonfinite_adamw": chain(steepest.skip_nonfinite(), steepest.adamw()),
    "lookahead_adamw": chain(steepest.adamw(), steepest.lookahead()),
    "ema_adamw": chain(steepest.adamw(), steepest.ema()),
    "ema_interval_adamw": chain(steepest.adamw(), steepest.ema(interval=5, bias_correction=True)),
    "lookahead_ema_adamw": chain(steepest.adamw(), steepest.lookahead(), steepest.ema()),
    "measured_adamw": chain(norm_of_update(), steepest.adamw()),
    "measured_rarely_sgd": chain(norm_of_update(every=10), steepest.sgd()),
    "everything": chain(
        norm_of_update(), steepest.adaptive_grad_clip(), CLIP, steepest.lamb(weight_decay=0.01), steepest.lookahead(),
        steepest.ema(),
    ),
}  # fmt: skip


def carried_out(text: str, buffers: dict[str, Array], numbers: dict[str, float]) -> dict[str, Any]:
    """The usual step of a printed plan, its lines run one after another as Python on arrays of one tensor."""
    shape = buffers["param"].shape
    known: dict[str, Any] = {**numbers, **buffers, "inf": np.inf, "nan": np.nan}
    functions = {name: partial(row.array, np) for name, row in OPERATIONS.items()}
    for line in text.partition("\n\nwhere ")[0].splitlines():
        if guard := re.fullmatch(r"before any store: (.*), else (skip|error)", line):
            with np.errstate(all="ignore"):
                holds = eval(guard[1], {**known, **functions})
            if not holds and guard[2] == "error":
                raise FloatingPointError(line)
            if not holds:
                return dict(buffers)
        if not line.startswith("  "):
            continue
        name, _, said = line.strip().partition(" = ")
        reduced = re.fullmatch(r"(sum|max)\((.*)\) per (unit|tensor|model)(?:, axis (-?\d+))?", said)
        said, per, axis = (reduced[2], reduced[3], reduced[4]) if reduced else (said, "", None)
        with np.errstate(all="ignore"):
            value = eval(said, {**known, **functions})
        if reduced:
            value = np.broadcast_to(value, shape)
            value = getattr(steepest, reduced[1])(value, per, int(axis) if axis else None)
        known[name] = value
    return known


NEGATIVE_VARIANCE = steepest.scale_by_stddev(
    0.9, 1e-3
)  # nan with averages drawn by themselves: a guard's condition fails


@given(chains(most=5), shapes(1), seeds)
@settings(max_examples=150)
@example(chain(steepest.measure(w=lambda param: steepest.norm(param, per="model")), steepest.sgd()), [(3,)], 1)
@example(chain(NEGATIVE_VARIANCE, steepest.clip_by_global_norm(1.0, on_nonfinite="skip"), steepest.sgd()), [()], 0)
@example(chain(NEGATIVE_VARIANCE, steepest.clip_by_global_norm(1.0, on_nonfinite="error"), steepest.sgd()), [()], 0)
def test_a_printed_plan_carried_out_by_hand_is_the_step(made: Chain, form: list[tuple[int, ...]], seed: int) -> None:
    one = plan(made)
    buffers = {"param": values(seed, form[0]), "grad": values(seed + 1, form[0])}
    numbers = {symbol: dict(made.links[at].values)[name] for symbol, (at, name) in one.trace.inputs.items()}
    host = {"step": 1_000_002.0}
    for position, (name, (start, _)) in enumerate(one.trace.starts.items()):
        if start.on_host:
            host[name] = 0.5
        else:
            buffers[name] = np.array(np.abs(values(seed + 2 + position, form[0])) + 2)
    tensor = Tensor("w", 0, {name: array.copy() for name, array in buffers.items() if name != "grad"}, dict(host))
    stepper = Stepper([[tensor]], [made], "arrays")
    stepper.steps = 1_000_002
    try:
        expected = carried_out(str(one), buffers, {**numbers, **host, "step": 1_000_003.0, "steps": 1_000_003.0})
    except FloatingPointError:
        with pytest.raises(FloatingPointError):
            stepper.step([buffers["grad"]])
        expected = buffers
    else:
        stepper.step([buffers["grad"]])
    for name, array in tensor.buffers.items():
        np.testing.assert_allclose(np.broadcast_to(expected[name], array.shape), array, rtol=1e-8, err_msg=name)


def test_a_value_that_is_needed_as_it_was_is_named_before_it_is_replaced() -> None:
    weight = steepest.measure(weight=lambda param: steepest.sum(param, per="model"))
    text = str(plan(chain(weight, steepest.sgd())))
    assert "  v0 = param\n  param = v0 - lr * grad\n  r0 = sum(v0) per model" in text


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_the_printed_plan_is_the_stored_one(name: str) -> None:
    path = PLANS / f"{name}.txt"
    text = str(plan(SNAPSHOTS[name])) + "\n"
    if os.environ.get("UPDATE_PLANS"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text, "run with UPDATE_PLANS=1 and review the difference"


def test_every_stored_plan_belongs_to_a_chain() -> None:
    assert {path.stem for path in PLANS.glob("*.txt")} == set(SNAPSHOTS)
