"""Equations in the letters of the papers, printed from the traced rules."""

from __future__ import annotations

import math
import sys

import pytest
from docutils.utils.math.latex2mathml import tex2mathml

import steepest as s
from steepest.show.latex import aligned, equations_latex

ARGUMENTS = {
    "clip_by_value": (-1.0, 2.0),
    "clip_by_global_norm": (0.5,),
    "clip_by_norm": (0.5,),
    "clip_by_block_rms": (0.5,),
    "descend": (0.1,),
    "scale_by_learning_rate": (0.1,),
    "add_decayed_weights": (0.1,),
    "scale_by_lars_ratio": (0.1,),
}
MOMENTS = [
    r"m_t = \beta_1 \, m_{t-1} + (1 - \beta_1) g_t",
    r"v_t = \beta_2 \, v_{t-1} + (1 - \beta_2) g_t^2",
    r"{\hat{m}}_t = \frac{m_t}{1 - \beta_1^t}",
    r"{\hat{v}}_t = \frac{v_t}{1 - \beta_2^t}",
]
EXPECTED = {
    "adam": (
        s.adam(1e-3),
        [*MOMENTS, r"\theta_t = \theta_{t-1} - \eta \, \frac{{\hat{m}}_t}{\sqrt{{\hat{v}}_t} + \varepsilon}"],
    ),
    "sgd momentum": (
        s.sgd(0.1, momentum=0.9),
        [
            r"b_t = \begin{cases} g_t & t = 1 \\ \mu \, b_{t-1} + g_t & \text{otherwise} \end{cases}",
            r"\theta_t = \theta_{t-1} - \eta \, b_t",
        ],
    ),
    "lamb": (
        s.lamb(1e-3, weight_decay=0.1),
        [
            *MOMENTS,
            r"u_t = \frac{{\hat{m}}_t}{\sqrt{{\hat{v}}_t} + \varepsilon} + \lambda \, \theta_{t-1}",
            r"r_t = \begin{cases} \frac{\left\| \theta_{t-1} \right\|}{\left\| u_t \right\|} & \left\| \theta_{t-1} "
            r"\right\| > 0 \wedge \left\| u_t \right\| > 0 \\ 1 & \text{otherwise} \end{cases}",
            r"\theta_t = \theta_{t-1} - \eta \, r_t \, u_t",
        ],
    ),
    "clip_by_global_norm": (
        s.clip_by_global_norm(0.5),
        [r"{\tilde{g}}_t = \min\left(1, \frac{c}{\left\| g_t \right\|_{\text{model}} + 10^{-6}}\right) g_t"],
    ),
    "lookahead": (
        s.chain(s.sgd(0.1), s.lookahead(5)),
        [
            r"\theta_t^{\prime} = \theta_{t-1} - \eta \, g_t",
            r"\phi_t = \begin{cases} \phi_{t-1} + \alpha (\theta_t^{\prime} - \phi_{t-1}) & t \bmod k = 0 \\ \phi_{t-1} & "
            r"\text{otherwise} \end{cases}",
            r"\theta_t = \begin{cases} \phi_t & t \bmod k = 0 \\ \theta_t^{\prime} & \text{otherwise} \end{cases}",
        ],
    ),
    "lion": (
        s.lion(1e-4, weight_decay=0.1),
        [
            r"m_t = \beta_2 \, m_{t-1} + (1 - \beta_2) g_t",
            r"\theta_t = \theta_{t-1} - \eta (\operatorname{sign}(\beta_1 \, m_{t-1} + (1 - \beta_1) g_t) + \lambda \, "
            r"\theta_{t-1})",
        ],
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_step_reads_as_in_its_paper(name: str) -> None:
    chain, lines = EXPECTED[name]
    assert equations_latex(chain) == lines


def test_the_values_that_a_rule_names_keep_their_letters() -> None:
    lines = equations_latex(s.radam(1e-3))
    assert lines[3:5] == [
        r"\rho_\infty = \frac{2}{1 - \beta_2} - 1",
        r"\rho_t = \rho_\infty - \frac{2 \, t \, \beta_2^t}{1 - \beta_2^t}",
    ]


@pytest.mark.parametrize("name", s.RECIPES)
def test_every_recipe_becomes_mathml(name: str) -> None:
    lines = equations_latex(s.RECIPES[name](*ARGUMENTS.get(name, ())))
    assert lines
    for line in lines:
        assert tex2mathml(line).startswith("<math")
    assert "<mtable" in tex2mathml(aligned(lines), as_block=True)


def test_a_schedule_carries_the_index_of_the_step() -> None:
    lines = equations_latex(s.sgd(s.schedules.cosine(0.1, steps=10)))
    assert lines == [r"\theta_t = \theta_{t-1} - \eta_t \, g_t"]


def test_only_zeros_and_ones_that_change_nothing_are_left_out() -> None:
    assert equations_latex(s.clip_by_norm(1.0)) == equations_latex(s.clip_by_norm(0.5))
    assert equations_latex(s.chain(s.negate(), s.descend(1.0))) == [r"\theta_t = \theta_{t-1} + g_t"]


def test_what_a_zero_or_a_one_empties_is_left_out_whole() -> None:
    assert equations_latex(s.rmsprop(0.1, alpha=1.0)) == [
        r"\theta_t = \theta_{t-1} - \eta \, \frac{g_t}{\sqrt{v_{t-1}} + \varepsilon}"
    ]
    assert not any(r"\beta_1" in line for line in equations_latex(s.adam(betas=(0.0, 0.999))))


def test_signs_that_cancel_are_left_out() -> None:
    assert equations_latex(s.lamb(maximize=True))[1:] == equations_latex(s.lamb())[1:]
    assert equations_latex(s.lars(maximize=True))[0] == equations_latex(s.lars())[0]


def test_states_and_numbers_of_a_second_rule_are_told_apart() -> None:
    lines = equations_latex(s.chain(s.scale_by_rms(0.9), s.scale_by_rms(0.8), s.descend(0.1)))
    assert lines[2] == r"v_t^{(2)} = \alpha_2 \, v_{t-1}^{(2)} + (1 - \alpha_2) u_t^2"


def test_norms_say_their_order_and_what_they_are_of() -> None:
    chain = s.chain(s.clip_by_global_norm(0.5, math.inf), s.clip_by_norm(0.5, 3.0), s.clip_by_block_rms(0.5))
    said = " ".join(equations_latex(chain))
    assert r"\left\| g_t \right\|_{\infty, \text{model}}" in said
    assert r"\left\| {\tilde{g}}_t \right\|_{3}" in said
    assert r"\operatorname{RMS}({\check{g}}_t)" in said


def test_a_rule_of_ones_own_is_written_in_its_own_words() -> None:
    @s.rule(trace_of=s.zeros)
    def mine(update, state, *, gamma: s.Decay = 0.9, keep: s.Decay = 0.5):
        state.trace_of = gamma * state.trace_of + keep * update
        return s.exp(-s.abs(update)) * state.trace_of

    assert equations_latex(s.chain(mine(), s.descend(0.1))) == [
        r"\mathrm{trace\_of}_t = \gamma \, \mathrm{trace\_of}_{t-1} + \mathrm{keep} \, g_t",
        r"\theta_t = \theta_{t-1} - \eta \, e^{-\left|g_t\right|} \, \mathrm{trace\_of}_t",
    ]


def test_conditions_and_measurements_are_said() -> None:
    chain = s.chain(
        s.clip_by_global_norm(0.5, on_nonfinite="skip"),
        s.sgd(0.1),
        s.measure(moved=lambda param, param_before: s.norm(param - param_before, per="tensor")),
    )
    assert equations_latex(chain)[-2:] == [
        r"\mathrm{moved} = \left\| \theta_t - \theta_{t-1} \right\|",
        r"\text{the step is left out unless } \left\| g_t \right\|_{\text{model}} \text{ finite}",
    ]


def test_a_condition_in_words_is_not_aligned_at_the_equals_sign_inside_it() -> None:
    block = aligned(equations_latex(s.chain(s.skip_nonfinite(), s.sgd(0.1)))).splitlines()
    assert [line.count("&=") for line in block[1:-1]] == [1, 0]
    assert block[2].startswith(r"& \text{the step is left out unless }")


def test_tracing_for_names_leaves_the_profiler_as_it_was() -> None:
    seen: list[str] = []

    def profiler(frame: object, event: str, argument: object) -> None:
        seen.append(event)

    sys.setprofile(profiler)
    try:
        equations_latex(s.sgd(0.1))
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(None)
