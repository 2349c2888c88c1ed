"""Chains of many links: what is printed and planned grows with their number, and what is too large to compile says so."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pytest
import torch

import steepest as s
import steepest.numpy as opt
import steepest.torch
from steepest import Chain, chain
from steepest.engines.choice import LARGEST
from steepest.plan.planner import plan
from steepest.show.explain import equations
from steepest.show.latex import equations_latex
from tests.plan.test_plan import carried_out
from tests.strategies import values

KINDS: dict[str, Callable[[], Chain]] = {
    "clip_by_global_norm": lambda: s.clip_by_global_norm(1.0),
    "clip_by_norm": lambda: s.clip_by_norm(1.0),
    "adaptive_grad_clip": lambda: s.adaptive_grad_clip(0.1),
    "scale_by_adam": lambda: s.scale_by_adam(),
    "add_decayed_weights": lambda: s.add_decayed_weights(0.01),
    "lookahead": lambda: s.lookahead(5),
    "ema": lambda: s.ema(0.9, interval=3, bias_correction=True),
    "measure": lambda: s.measure(size=lambda update: s.norm(update, per="tensor")),
}


def many(kind: str, count: int) -> Chain:
    links = [KINDS[kind]() for _ in range(count)]
    return chain(s.sgd(0.1), *links) if kind in ("lookahead", "ema") else chain(*links, s.sgd(0.1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_printed_plan_grows_with_the_number_of_links(kind: str) -> None:
    began = process_time()
    texts = [str(plan(many(kind, count))) for count in (20, 40, 80)]
    assert process_time() - began < 20
    assert len(texts[2]) - len(texts[1]) < 3 * (len(texts[1]) - len(texts[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_equations_grow_with_the_number_of_links(kind: str) -> None:
    for form in (lambda made: equations(plan(made)), equations_latex):
        sizes = [sum(map(len, form(many(kind, count)))) for count in (20, 40, 80)]
        assert sizes[2] - sizes[1] <= 3 * (sizes[1] - sizes[0])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("lookahead", "ema", "measure")])
def test_a_long_printed_plan_carried_out_by_hand_is_the_step(kind: str) -> None:
    made = many(kind, 12)
    one = plan(made)
    buffers = {"param": values(1, (3, 2)), "grad": values(2, (3, 2))}
    buffers |= {name: np.zeros((3, 2)) for name, (start, _) in one.trace.starts.items() if not start.on_host}
    numbers = {symbol: dict(made.links[at].values)[name] for symbol, (at, name) in one.trace.inputs.items()}
    expected = carried_out(str(one), {k: v.copy() for k, v in buffers.items()}, {**numbers, "step": 1.0})
    optimizer = opt.Optimizer([buffers["param"]], made, engine="arrays")
    optimizer.step([buffers["grad"]])
    np.testing.assert_allclose(buffers["param"], expected["param"], rtol=1e-9)


def test_no_line_of_a_long_plan_is_long() -> None:
    for kind in KINDS:
        _, *lines = str(plan(many(kind, 30))).splitlines()
        assert max(len(line) for line in lines if " = " in line) < 1500, kind


@pytest.mark.parametrize("kind", ["clip_by_global_norm", "scale_by_adam", "ema", "lookahead"])
@pytest.mark.parametrize("engine", ["auto", "cpu"])
def test_what_is_too_large_to_compile_runs_on_the_array_engine_with_one_warning(kind: str, engine: str) -> None:
    made = many(kind, 150)
    arrays = {name: [values(1, (4,)), values(2, (3, 2))] for name in ("auto", "arrays")}
    optimizer = opt.Optimizer(arrays["auto"], made, engine=engine)
    said = (
        rf"a step of this chain of {len(made)} links is too large to compile \(\d+ values, at most {LARGEST}\), so it runs on the "
        r"slower array engine\. Shorten the chain, or pass engine='arrays' to accept this\."
    )
    with pytest.warns(RuntimeWarning, match=said) as seen:
        for number in range(2):
            optimizer.step([values(3 + number, (4,)), values(5 + number, (3, 2))])
    assert len(seen) == 1
    reference = opt.Optimizer(arrays["arrays"], made, engine="arrays")
    for number in range(2):
        reference.step([values(3 + number, (4,)), values(5 + number, (3, 2))])
    for one, other in zip(arrays["auto"], arrays["arrays"], strict=True):
        np.testing.assert_array_equal(one, other)


def test_torch_says_once_that_a_step_is_too_large_to_compile_also_inside_the_backward_pass() -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = steepest.torch.Optimizer(model.parameters(), many("scale_by_adam", 60))
    with (
        steepest.torch.release_gradients(optimizer),
        pytest.warns(RuntimeWarning, match="too large to compile") as seen,
    ):
        for _ in range(2):
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
    assert len(seen) == 1


def test_a_usual_chain_is_compiled_without_a_word() -> None:
    everything = chain(
        s.clip_by_global_norm(1.0),
        s.adaptive_grad_clip(0.05),
        s.lamb(0.01, weight_decay=0.1),
        s.lookahead(3),
        s.ema(0.9),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plan(everything).size < LARGEST / 2


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
@pytest.mark.parametrize("kind", ["clip_by_global_norm", "clip_by_norm", "scale_by_adam", "lookahead"])
def test_five_hundred_links_are_planned_printed_and_stepped_in_a_minute_and_a_gigabyte(kind: str) -> None:
    code = (
        "import re, time, warnings, numpy as np, steepest.numpy as opt\n"
        "from pathlib import Path\n"
        "from tests.language.test_long_chains import many\n"
        "warnings.simplefilter('ignore')\n"
        f"o = opt.Optimizer([np.ones(5)], many('{kind}', 500))\n"
        "o.step([np.ones(5)]); text = str(o.plan)\n"
        # Not by getrusage, whose maximum a process takes over from the one that started it.
        "kilobytes = re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]\n"
        "print(time.process_time(), int(kilobytes) / 1024, len(text))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=True)
    seconds, megabytes, characters = map(float, done.stdout.split())
    assert seconds < 60 and megabytes < 1000 and characters < 1e6


def test_an_error_in_a_long_chain_shows_its_ends() -> None:
    @s.rule
    def broken(update: Any) -> Any:
        return update if update > 0 else -update

    made = chain(*(s.clip_by_value(-1, 1) for _ in range(200)), broken(), s.descend(0.1))
    with pytest.raises(TypeError) as caught:
        plan(made)
    (note,) = caught.value.__notes__
    assert re.fullmatch(r"in rule 'broken' of the chain clip_by_value > .* > … 186 more … > .* > descend", note)
    assert len(note) < 500
