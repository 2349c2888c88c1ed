"""The protocol of `steepest compare`: what is searched, what is judged, what happens to failures and interrupts."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

import steepest
from steepest.schedules import ReduceOnPlateau
from steepest.workbench import Comparison, Contender, compare, digits
from steepest.workbench.digits import data, gradients, initial, train
from steepest.workbench.search import search_rate


@pytest.mark.parametrize(("optimum", "trials"), [(1.0, 5), (10.0, 6), (100.0, 8), (1e-3, 10)])
def test_the_grid_widens_until_its_edge_no_longer_wins(optimum: float, trials: int) -> None:
    best, tried, at_edge = search_rate(lambda rate: abs(math.log10(rate / optimum)), 1.0)
    assert best == pytest.approx(optimum)
    assert not at_edge
    assert len(tried) == trials
    ratios = [b / a for a, b in itertools.pairwise(tried)]
    assert ratios == pytest.approx([math.sqrt(10)] * len(ratios))


def test_the_grid_stops_at_its_limit_and_says_so() -> None:
    best, tried, at_edge = search_rate(lambda rate: -rate, 1.0)
    assert (best, max(tried), at_edge) == (pytest.approx(1e4), pytest.approx(1e4), True)


def test_the_grid_goes_down_where_every_rate_fails() -> None:
    best, _, at_edge = search_rate(lambda rate: rate if rate < 0.02 else math.inf, 1.0)
    assert (best, at_edge) == (pytest.approx(1e-4), True)
    best, _, at_edge = search_rate(lambda rate: math.inf, 1.0)
    assert (best, at_edge) == (pytest.approx(1e-4), True)


def test_the_split_is_fixed_and_stratified() -> None:
    parts = data()
    assert {name: len(y) for name, (_, y) in parts.items()} == {"train": 1257, "validation": 240, "test": 300}
    for _, y in parts.values():
        assert np.bincount(y).min() > 0.09 * len(y)
    rows = {row.tobytes() for x, _ in parts.values() for row in x}
    assert len(rows) == 1797


def test_the_handwritten_gradient_is_the_slope_of_the_loss(rng: np.random.Generator) -> None:
    params = {name: p.astype(np.float64) for name, p in initial(0).items()}
    x, y = data()["train"]
    x, y = x[:16].astype(np.float64), y[:16]

    def loss() -> float:
        scores = digits.log_softmax(digits.forward(params, x)[-1])
        return float(-scores[np.arange(len(y)), y].mean())

    grads = gradients(params, x, y)
    for name, p in params.items():
        direction = rng.normal(size=p.shape)
        step = 1e-6
        p += step * direction
        above = loss()
        p -= 2 * step * direction
        below = loss()
        p += step * direction
        assert float((grads[name] * direction).sum()) == pytest.approx((above - below) / (2 * step), rel=1e-5)


def test_a_seed_gives_the_same_run_again_and_another_seed_another() -> None:
    runs = [train(steepest.adam(3e-3), seed, 1, 3e-3) for seed in (0, 0, 1)]
    assert runs[0].test_loss == runs[1].test_loss != runs[2].test_loss
    assert runs[0].curve == runs[1].curve


def test_training_learns_the_digits() -> None:
    run = train(steepest.adam(3e-3), 0, 8, 3e-3)
    assert run.test_accuracy > 0.93
    assert run.curve[-1] == run.validation_loss < run.curve[0]


def test_an_average_of_the_weights_is_what_gets_evaluated() -> None:
    plain = train(steepest.sgd(0.3), 0, 2, 0.3)
    averaged = train(steepest.chain(steepest.sgd(0.3), steepest.ema(0.95)), 0, 2, 0.3)
    frozen = train(steepest.chain(steepest.sgd(0.3), steepest.ema(0.0)), 0, 2, 0.3)
    assert averaged.test_loss != plain.test_loss
    assert frozen.test_loss == pytest.approx(plain.test_loss, rel=1e-5)


def test_reduce_on_plateau_is_fed_and_starts_anew_in_every_run() -> None:
    plateau = ReduceOnPlateau(0.0, patience=0, eps=0.0)
    stuck = steepest.sgd(plateau)
    assert train(stuck, 0, 3, None).rates == (0.0, 0.0, 0.0)
    falling = steepest.sgd(ReduceOnPlateau(1e-9, factor=0.5, patience=0, threshold=0.5, eps=0.0))
    first, second = train(falling, 0, 4, None), train(falling, 0, 4, None)
    assert first.rates == second.rates == (1e-9, 1e-9, 5e-10, 2.5e-10)


@pytest.mark.parametrize("text", ["sgd(1e30)", "clip_by_global_norm(1, 2, 'error') | sgd(1e30)"])
def test_a_failed_run_counts_as_the_worst_and_stays(text: str) -> None:
    result = compare([text, "sgd(0.1)"], seeds=2, epochs=1, jobs=1)
    best, worst = result.contenders
    assert (best.name, best.failures) == ("sgd(0.1)", 0)
    assert (worst.name, worst.failures, worst.median_loss, worst.median_accuracy) == (text, 2, math.inf, 0.0)


def test_a_chain_with_a_rate_of_its_own_is_not_searched_and_shows_that_rate() -> None:
    result = compare(["adam(lr=0.01)", "sgd(cosine(0.1, 40))"], seeds=1, epochs=1, jobs=1)
    own = {c.name: c for c in result.contenders}
    assert (own["adam(lr=0.01)"].lr, own["adam(lr=0.01)"].search) == (0.01, ())
    assert (own["sgd(cosine(0.1, 40))"].lr, own["sgd(cosine(0.1, 40))"].search) == (None, ())
    assert own["sgd(cosine(0.1, 40))"].schedule[0] == 0.1


def test_the_rate_is_chosen_by_other_seeds_on_validation() -> None:
    (contender,) = compare(["sgd(momentum=0.9)"], seeds=2, epochs=1, jobs=1).contenders
    best = min(contender.search, key=lambda pair: pair[1])
    assert contender.lr == best[0]
    judged = {run.seed for run in contender.runs}
    assert judged == {0, 1}
    again = [train(steepest.sgd(best[0], momentum=0.9), seed, 1, best[0]).validation_loss for seed in (1000, 1001)]
    assert best[1] == pytest.approx(sum(again) / 2)


def test_two_processes_give_what_one_gives() -> None:
    names = ["sgd(0.1)", "adam(0.003)"]
    one, two = (compare(names, seeds=2, epochs=1, jobs=jobs) for jobs in (1, 2))

    def numbers(result: Comparison) -> list[object]:
        return [(c.name, c.test_losses, [run.curve for run in c.runs]) for c in result.contenders]

    assert numbers(one) == numbers(two)


def test_an_interrupt_keeps_what_has_finished() -> None:
    def interrupt(_: Contender) -> None:
        raise KeyboardInterrupt

    result = compare(["sgd(0.1)", "adam(0.003)"], seeds=1, epochs=1, jobs=1, progress=interrupt)
    assert result.interrupted
    assert [c.name for c in result.contenders] == ["sgd(0.1)"]
    assert result.unfinished == ("adam(0.003)",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": 0}, "compare: seeds is 0, allowed is a whole number >= 1."),
        ({"epochs": 1.5}, "compare: epochs is 1.5, allowed is a whole number >= 1."),
        ({"jobs": 0}, "compare: jobs is 0, allowed is a whole number >= 1."),
        (
            {"optimizers": []},
            "compare: optimizers is [], allowed is a list of chains. `steepest list` shows what they are made of.",
        ),
        (
            {"optimizers": "adam"},
            "compare: optimizers is 'adam', allowed is a list of chains. `steepest list` shows what they are made of.",
        ),
    ],
)
def test_bad_arguments_are_refused_before_any_training(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match="compare") as caught:
        compare(**arguments)  # type: ignore[arg-type]  # on purpose
    assert str(caught.value) == message


def test_a_users_recipe_takes_part(tmp_path: Path) -> None:
    file = tmp_path / "my_rules.py"
    file.write_text("import steepest\ndef mine(lr=0.1):\n    return steepest.sgd(lr, momentum=0.9)\n")
    (mine,) = compare([f"{file}:mine"], seeds=1, epochs=1, jobs=1).contenders
    assert 0.1 in [pytest.approx(rate) for rate, _ in mine.search]
    assert mine.failures == 0
