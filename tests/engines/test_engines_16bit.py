"""Buffers of 16 bits on the cpu engine: torch's conversions for every bit pattern, and steps that round once, at the store."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from numba import float32, njit, types, uint16

import steepest
from steepest import Chain, chain, rule, zeros
from steepest.engines.names import storage_of
from steepest.engines.numba import cache, engine, pointers
from steepest.engines.numba.frame import source
from steepest.engines.tensors import Tensor
from steepest.numpy.gather import Gatherer
from steepest.plan.planner import plan
from steepest.step.stepper import Stepper
from steepest.torch.foreach import ForeachEngine
from tests.strategies import Array, values

KINDS = ["bfloat16", "float16"]
TORCH = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
NUMPY = {"bfloat16": np.uint16, "float16": np.float16, "float32": np.float32}


def widened(bits: Array, kind: str) -> Array:
    """By torch: float32 of what is stored."""
    if kind == "float32":
        return bits.copy()
    return torch.from_numpy(bits.view(np.int16)).view(TORCH[kind]).float().numpy()


def rounded(numbers: Array, kind: str) -> Array:
    """By torch: what is stored of float32."""
    if kind == "float32":
        return numbers.copy()
    return torch.from_numpy(numbers).to(TORCH[kind]).view(torch.int16).numpy().view(NUMPY[kind])


# ---- conversions

CONVERSIONS = {
    "bfloat16": (pointers.from_bfloat16, pointers.to_bfloat16),
    "float16": (pointers.from_float16, pointers.to_float16),
    "float16 by bits": (pointers._widen_float16_by_bits, pointers._round_to_float16_by_bits),
}
PATTERNS = np.arange(1 << 16, dtype=np.uint16)


def mapped(function: Any, given: Array, made: type) -> Array:
    """The function in a compiled loop over an array, as generated text has it."""

    @njit(error_model="numpy")
    def loop(given: Array, out: Array) -> None:
        for i in range(len(given)):
            out[i] = function(given[i])

    out = np.empty(given.shape, made)
    loop(given, out)
    return out


@pytest.mark.parametrize("name", CONVERSIONS)
def test_every_bit_pattern_widens_to_what_torch_gives(name: str) -> None:
    found = mapped(CONVERSIONS[name][0], PATTERNS, np.float32)
    expected = widened(PATTERNS, name.split()[0])
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), ~numbers)
    np.testing.assert_array_equal(found.view(np.uint32)[numbers], expected.view(np.uint32)[numbers])


@pytest.mark.parametrize("name", CONVERSIONS)
def test_every_number_rounds_to_what_torch_gives(name: str) -> None:
    """All stored numbers, the middle between any two neighbours, what lies beside it, overflow, and any bits of float32."""
    kind = name.split()[0]
    stored = widened(PATTERNS, kind)
    finite = np.sort(stored[np.isfinite(stored)]).astype(np.float64)
    ties = ((finite[1:] + finite[:-1]) / 2).astype(np.float32)
    beside = [np.nextafter(ties, np.float32(side)) for side in (-np.inf, np.inf)]
    bound = np.array([65519.996, 65520.0, 65536.0, 3.3961775e38, 3.3961778e38, 3.4028235e38], dtype=np.float32)
    any_bits = np.random.default_rng(1).integers(0, 1 << 32, 1_000_000, dtype=np.uint32).view(np.float32)
    given = np.concatenate([stored, ties, *beside, bound, -bound, any_bits])
    found = mapped(CONVERSIONS[name][1], given, np.uint16)
    nans = np.isnan(given)
    np.testing.assert_array_equal(found[~nans], rounded(given, kind).view(np.uint16)[~nans])
    back = widened(found, kind)
    np.testing.assert_array_equal(np.isnan(back), nans)
    quiet = {"bfloat16": 0x40, "float16": 0x200}[kind]
    assert np.all(found[nans] & quiet) and np.array_equal(np.signbit(back[nans]), np.signbit(given[nans]))


# ---- steps

CHAINS = {
    "adamw": steepest.adamw(0.01),
    "lamb": steepest.lamb(0.01, weight_decay=0.01),
    "clip and adamw": chain(steepest.clip_by_global_norm(1.0), steepest.adamw(0.01)),
    "units": chain(steepest.adaptive_grad_clip(0.05), steepest.lamb(0.01)),
}
FORMS: list[tuple[int, ...]] = [(64, 128), (50, 13), (301,), (3, 2), (1,), (), (0, 3), (2, 3, 5)]


def tensors(params: list[Array], made: Chain, kind: str, state_kind: str = "float32") -> list[Tensor]:
    """Tensors over these params, with the states that the chain starts from already there."""
    found = []
    for i, param in enumerate(params):
        buffers = {"param": param}
        for name, (start, _) in plan(made).trace.starts.items():
            if not start.on_host:
                numbers = widened(param, kind) if start.copy else np.full(param.shape, start.value, np.float32)
                buffers[name] = rounded(numbers, state_kind)
        found.append(Tensor(str(i), i, buffers))
    return found


def drawn(seed: int, kind: str) -> list[Array]:
    return [rounded(values(seed + i, form, np.float32), kind) for i, form in enumerate(FORMS)]


def same_bits(a: list[Tensor], b: list[Tensor]) -> None:
    for one, other in zip(a, b, strict=True):
        for name in one.buffers:
            np.testing.assert_array_equal(
                one.buffers[name].view(np.uint8) if one.buffers[name].ndim else one.buffers[name],
                other.buffers[name].view(np.uint8) if other.buffers[name].ndim else other.buffers[name],
                err_msg=f"{name} of {one.name}",
                strict=True,
            )


def trained(made: Chain, kind: str, steps: int = 4) -> list[Tensor]:
    found = tensors(drawn(1, kind), made, kind)
    stepper = Stepper([found], [made], engine="cpu")
    for step in range(steps):
        stepper.step(drawn(100 * step + 50, kind))
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "engine"), [("adamw", "arrays"), *((name, "cpu") for name in CHAINS)])
def test_a_step_on_16_bits_is_the_step_on_float32_with_its_parameters_rounded(
    name: str, engine: str, kind: str
) -> None:
    found = trained(CHAINS[name], kind)
    expected = tensors([widened(p, kind) for p in drawn(1, kind)], CHAINS[name], "float32")
    stepper = Stepper([expected], [CHAINS[name]], engine=engine)
    for step in range(4):
        stepper.step([widened(g, kind) for g in drawn(100 * step + 50, kind)])
        for t in expected:
            t.param[...] = widened(rounded(t.param, kind), kind)
    assert any(not np.array_equal(t.param, p) for t, p in zip(found, drawn(1, kind), strict=True))
    for t in expected:
        t.buffers["param"] = rounded(t.param, kind)
    same_bits(found, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CHAINS)
def test_any_number_of_threads_gives_the_same_bits(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "ROW", 16)
    monkeypatch.setattr(engine, "ALONE", 0)
    results = []
    for threads in ("1", "2", "2"):
        monkeypatch.setenv("STEEPEST_NUM_THREADS", threads)
        results.append(trained(CHAINS[name], kind))
    same_bits(results[0], results[1])
    same_bits(results[0], results[2])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_of_their_parameters_type_where_only_their_addresses_are_given(kind: str) -> None:
    made = chain(steepest.adamw(0.01), steepest.lookahead(2))  # the second step is of another program
    expected, found = trained(made, kind), tensors(drawn(1, kind), made, kind)
    stepper = Stepper([found], [made], engine="cpu")
    for step in range(4):
        grads = drawn(100 * step + 50, kind)
        addresses = Gatherer(stepper.tensors)(grads)
        assert addresses is not None
        stepper.step(grads, addresses)
    same_bits(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_later_pass_reads_what_an_earlier_one_has_rounded(kind: str) -> None:
    made = chain(steepest.accumulate_momentum(0.9), steepest.clip_by_norm(1e30), steepest.descend(1.0))
    param, momentum, grad = (values(i, (37,), np.float32) for i in range(3))
    t = Tensor("w", 0, {"param": param.copy(), "momentum_buffer": rounded(momentum, kind)}, {"step": 1.0})
    Stepper([[t]], [made], engine="cpu").step([grad])
    new = rounded(np.float32(0.9) * widened(rounded(momentum, kind), kind) + grad, kind)
    np.testing.assert_array_equal(t.buffers["momentum_buffer"], new)
    np.testing.assert_array_equal(t.param, param - widened(new, kind))


LEFT = steepest.measure(
    left=lambda param: steepest.sum(steepest.as_stored(param), per="tensor"),
    unmoved=lambda param, param_before: steepest.mean(
        steepest.where(steepest.as_stored(param) == param_before, 1.0, 0.0), per="tensor"
    ),
    update=lambda update: steepest.sum(steepest.as_stored(steepest.wide(update)), per="tensor"),
)


def in_torch(bits: Array, kind: str) -> torch.Tensor:
    bits = bits.copy()
    return torch.from_numpy(bits) if kind == "float32" else torch.from_numpy(bits.view(np.int16)).view(TORCH[kind])


@pytest.mark.parametrize(
    ("engine", "kind"), [("arrays", "float32"), *((e, k) for e in ("cpu", "foreach") for k in (*KINDS, "float32"))]
)
def test_as_stored_is_what_the_parameter_is_after_the_step(engine: str, kind: str) -> None:
    made = chain(steepest.scale_by_learning_rate(1e-3), steepest.descend(1.0), LEFT)
    before, grad = (rounded(values(i, (37,), np.float32), kind) for i in range(2))
    param: Any = in_torch(before, kind) if engine == "foreach" else before.copy()
    tensor = Tensor("w", 0, {"param": param}, {"step": 0.0})
    stepper = Stepper(
        [[tensor]], [made], "cpu" if engine == "cpu" else "arrays", ForeachEngine() if engine == "foreach" else None
    )
    stepper.step([in_torch(grad, kind) if engine == "foreach" else grad])
    read = {name: float(value[0]) for name, value in stepper.measured_tensors().items()}
    after = param.float().numpy() if engine == "foreach" else widened(param, kind)
    np.testing.assert_allclose(read["left"], after.astype(float).sum(), rtol=1e-12)
    assert read["unmoved"] == np.mean(after == widened(before, kind))
    assert read["unmoved"] > 0.2 or kind == "float32"
    small = widened(rounded(np.float32(1e-3) * widened(grad, kind), kind), kind)
    np.testing.assert_allclose(read["update"], small.astype(float).sum(), rtol=1e-12)


def test_every_buffer_has_its_own_type_and_any_name() -> None:
    @rule(from_bfloat16=zeros, to_float16=zeros, positive=zeros)
    def averages(update: Any, state: Any) -> Any:
        state.from_bfloat16 = 0.5 * state.from_bfloat16 + update
        state.to_float16 = 0.25 * state.to_float16 + update
        state.positive = steepest.where(update > 0, 1.0, 0.0)
        return state.from_bfloat16 + state.to_float16

    param, grad = rounded(values(1, (29,), np.float32), "float16"), values(2, (29,), np.float32)
    kinds = {"from_bfloat16": "bfloat16", "to_float16": "float16", "positive": "bfloat16"}
    buffers = {name: rounded(np.ones(29, np.float32), kind) for name, kind in kinds.items()}
    t = Tensor("w", 0, {"param": param.copy(), **buffers})
    Stepper([[t]], [chain(averages(), steepest.descend(1.0))], engine="cpu").step([grad])
    slow, fast = np.float32(0.5) + grad, np.float32(0.25) + grad
    np.testing.assert_array_equal(t.buffers["from_bfloat16"], rounded(slow, "bfloat16"))
    np.testing.assert_array_equal(t.buffers["to_float16"], rounded(fast, "float16"))
    np.testing.assert_array_equal(widened(t.buffers["positive"], "bfloat16"), grad > 0)
    np.testing.assert_array_equal(t.param, rounded(widened(param, "float16") - (slow + fast), "float16"))


def test_nan_and_infinity_stay_what_they_are_and_a_large_step_overflows() -> None:
    for kind in KINDS:
        largest = {"bfloat16": 3.3895314e38, "float16": 65504.0}[kind]
        param = rounded(np.array([np.nan, np.inf, -np.inf, largest, -largest, 0.0], np.float32), kind)
        grad = rounded(np.array([1.0, 1.0, 1.0, -largest, largest, np.nan], np.float32), kind)
        t = Tensor("w", 0, {"param": param})
        Stepper([[t]], [steepest.sgd(0.5)], engine="cpu").step([grad])
        np.testing.assert_array_equal(widened(t.param, kind), [np.nan, np.inf, -np.inf, np.inf, -np.inf, np.nan])


def test_a_processor_without_the_instructions_for_halves_gives_the_same_bits() -> None:
    code = (
        "import numpy as np, steepest\n"
        "from steepest.engines.numba import pointers\n"
        "from steepest.engines.tensors import Tensor\n"
        "from steepest.step.stepper import Stepper\n"
        "t = Tensor('w', 0, {'param': np.arange(1 << 16, dtype=np.uint16).view(np.float16)})\n"
        "Stepper([[t]], [steepest.sgd(0.1)], engine='cpu').step([np.ones(1 << 16, np.float16)])\n"
        "with np.errstate(invalid='ignore'):\n"
        "    expected = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32) - np.float32(0.1)\n"
        "np.testing.assert_array_equal(t.param, expected.astype(np.float16))\n"
        "print('same')\n"
    )
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert (run.stdout, run.stderr) == ("same\n", "")


# ---- layouts and text


def test_the_cpu_engine_takes_the_four_types_and_no_other() -> None:
    made = plan(steepest.adamw(0.1))
    taken = [t for t in ("f4", "f8", "f2", "u2", ">f2", ">u2", "i2", "i4", "u4") if can_run(made, np.zeros((3, 2), t))]
    assert taken == ["f4", "f8", "f2", "u2"]
    assert not can_run(made, np.zeros((3, 4), np.uint16)[:, ::2])
    assert [storage_of(np.dtype(t)) for t in taken] == ["float32", "float64", "float16", "bfloat16"]


def can_run(made: Any, param: Array) -> bool:
    return engine.CpuEngine.can_run(made, Tensor("w", 0, {"param": param}))


def test_the_text_converts_what_is_stored_in_16_bits_and_nothing_else() -> None:
    made = plan(steepest.adamw(0.1))
    program = made.program(made.usual)
    plain = source(program, "float32", "A step.")
    assert not re.search("uint16|float16", plain)
    assert source(program, "float32", "A step.", dict.fromkeys(program.buffers, "float32")) == plain
    text = source(program, "float32", "A step.", {"param": "bfloat16", "grad": "bfloat16"})
    assert "import address_uint16, from_bfloat16, to_bfloat16\n" in text
    assert "        param_i = from_bfloat16(param[i])\n" in text
    assert "        exp_avg_i = exp_avg[i]\n" in text
    assert len(re.findall(r"        param\[i\] = to_bfloat16\(\w+\)\n", text)) == 1
    assert "carray(address_uint16(table[t, 0] + 2 * (lo * width)), (n,))" in text
    assert "carray(address(table[t, 2] + 4 * (lo * width)), (n,))" in text


@pytest.mark.parametrize("kind", KINDS)
def test_every_value_in_a_loop_over_16_bits_is_float32(kind: str) -> None:
    program = plan(steepest.adamw(0.1)).program(())
    text = source(program, "float32", "A step.", {"param": kind, "grad": kind})
    loop = cache.module_of("probe", text, "").pass_1
    arrays = [types.Array(uint16 if name in ("param", "grad") else float32, 1, "C") for name in program.buffers]
    loop.compile((types.int64, *arrays, *[types.float64] * (loop.py_func.__code__.co_argcount - 1 - len(arrays))))
    types_of = loop.overloads[loop.signatures[0]].type_annotation.typemap
    values_of = {n: t for n, t in types_of.items() if re.fullmatch(r"(v\d+|\w+_i|\w+_32|c\d+)(\.\d+)?", n)}
    assert values_of and set(map(str, values_of.values())) == {"float32"}
