"""Statistics and recommendation: small cases by hand, SciPy's own answers, infinite costs everywhere, too few seeds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, stats

from steepest.workbench import outcomes, statistics
from steepest.workbench.outcomes import Against
from steepest.workbench.ranking import verdict_track
from steepest.workbench.recommendation import recommend
from steepest.workbench.results import Entry, Result, Trial, WorkloadFacts
from steepest.workbench.statistics import Interval
from steepest.workbench.words import listed, shown_interval
from tests.workbench.made_results import made_entry, made_result, made_run, made_workload

INF = math.inf
LOSS, ACCURACY = made_workload(), made_workload(accuracy=True)


def trial(cost: float, rate: float = 0.1) -> Trial:
    return Trial({"lr": rate}, (cost,))


def needed(costs: list[float], spread: int | None = None) -> int | None:
    """The trials that suffice, of a search that spread so many, or all."""
    entry = made_entry(LOSS, "adam", "tuned", {0: 0.2}, tuple(map(trial, costs)))
    return outcomes.trials_needed(entry if spread is None else replace(entry, spread=spread), LOSS)


def spread(level: float, seeds: int = 10, step: float = 0.001) -> dict[int, float]:
    """Values around a level, the same deviations by seed."""
    return {seed: level + step * (seed - (seeds - 1) / 2) for seed in range(seeds)}


def compared(facts: WorkloadFacts, levels: dict[str, dict[int, float]], **more: object) -> Result:
    entries = tuple(made_entry(facts, name, "default", values, **more) for name, values in levels.items())  # type: ignore[arg-type]
    return replace(made_result([facts]), entries=entries)


def test_a_judged_cost_is_the_test_measure_turned_and_infinite_for_a_failed_run() -> None:
    run = replace(made_run(ACCURACY, "adam", 3, 0.9), test={"accuracy": 0.8}, validation={"accuracy": 0.9})
    failed = made_run(ACCURACY, "adam", 4, math.nan)
    hopeless = replace(run, seed=5, test={"accuracy": 0.1})  # worse than what the workload calls failed
    entry = replace(made_entry(ACCURACY, "adam", "default", {}), runs=(run, failed, hopeless))
    assert outcomes.judged(entry, ACCURACY) == {3: -0.8, 4: INF, 5: INF}
    without_test = replace(run, test={})
    assert outcomes.judged(replace(entry, runs=(without_test,)), ACCURACY) == {3: -0.9}


@pytest.mark.parametrize(
    ("samples", "expected"),
    [([3, 1, 2], 2), ([1, 2], 1.5), ([1, INF], INF), ([INF, 1, 1], 1), ([-INF, INF], 0), ([], INF)],
)
def test_the_median_of_numbers_that_may_be_infinite(samples: list[float], expected: float) -> None:
    assert statistics.median(samples) == expected


def test_the_interquartile_mean_is_that_of_the_middle_half() -> None:
    found = statistics.interquartile_mean([[0, 1, 2, 3, 4, 5, 6, 100]])
    assert found.value == 3.5 and found.low < 3.5 < found.high
    assert statistics.interquartile_mean([[0, 1, 2, 3, 4, 5, 6, 100]]) == found
    with_failure = statistics.interquartile_mean([[1.0, 2.0, 3.0, INF]])
    assert (with_failure.value, with_failure.high) == (2.5, INF) and math.isfinite(with_failure.low)
    assert statistics.interquartile_mean([[INF, INF]]) == Interval(INF, INF, INF)


def test_strata_are_drawn_each_for_itself() -> None:
    apart = statistics.interquartile_mean([[0.0] * 4, [100.0] * 4])
    assert apart == Interval(50.0, 50.0, 50.0)  # drawn from the pool the share of 100 would vary
    pooled = statistics.interquartile_mean([[0.0] * 4 + [100.0] * 4])
    assert pooled.low < 20 and pooled.high > 80


def test_the_interval_is_that_of_scipys_percentile_bootstrap(rng: np.random.Generator) -> None:
    sample = rng.normal(size=25)
    theirs = stats.bootstrap(
        (sample,), lambda x, axis: stats.trim_mean(x, 0.25, axis=axis), n_resamples=4000, method="percentile", rng=rng
    ).confidence_interval
    ours = statistics.interquartile_mean([list(sample)])
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.08)


@pytest.mark.parametrize("n", [6, 8, 10, 20])
def test_the_interval_of_a_mean_covers_what_it_says_for_few_seeds_too(n: int, rng: np.random.Generator) -> None:
    found = [statistics.interquartile_mean([list(sample)]) for sample in rng.normal(size=(600, n))]
    assert 0.935 <= np.mean([interval.low <= 0 <= interval.high for interval in found]) <= 0.985


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 25])
def test_the_interval_of_the_median_difference_covers_exactly_what_its_order_statistics_do(n: int) -> None:
    found = statistics.median_difference(np.arange(n, dtype=float)[::-1])
    assert found.low == n - 1 - found.high and found.value == (n - 1) / 2
    # of n differences, each positive or negative with chance 1/2, so many lie on one side of all that is inside
    covers = [1 - 2 * stats.binom.cdf(outside, n, 0.5) for outside in range(int(found.low) + 2)]
    if n < statistics.FEWEST_FOR_INTERVAL:
        assert (found.low, statistics.kind_of(n)) == (0, "range") and covers[0] < 0.95
    else:
        assert statistics.kind_of(n) == "95 %" and covers[int(found.low)] >= 0.95 > covers[int(found.low) + 1]


def test_a_median_difference_has_nobodys_luck_in_its_interval(rng: np.random.Generator) -> None:
    for n, least in ((5, 0.9375), (6, 0.96875), (8, 0.9921875)):
        drawn = [statistics.median_difference(one) for one in rng.normal(size=(2000, n))]
        assert np.mean([f.low <= 0 <= f.high for f in drawn]) == pytest.approx(least, abs=0.015)


def test_fewer_than_six_samples_have_a_range_and_no_interval() -> None:
    assert statistics.interquartile_mean([[0.2]]) == Interval(0.2, 0.2, 0.2)
    assert statistics.interquartile_mean([[1.0, 2.0, 6.0]]) == Interval(3.0, 1.0, 6.0)
    assert statistics.interquartile_mean([[5.0, 1.0, 2.0, 3.0, 4.0]]) == Interval(3.0, 1.0, 5.0)


def test_differences_are_paired_by_seed_and_two_failures_are_a_tie() -> None:
    a = {1: 3.0, 2: INF, 3: INF, 4: 1.0, 5: 9.0}
    b = {2: INF, 1: 1.0, 3: 2.0, 4: INF}
    assert statistics.differences(a, b).tolist() == [2.0, 0.0, INF, -INF]
    found = statistics.median_difference(np.array([INF, INF, 1.0]))
    assert found == Interval(INF, 1.0, INF)


def test_the_share_of_wins_has_wilsons_interval_and_a_tie_is_half() -> None:
    won = statistics.wins(np.array([1.0, 2, 3, INF, 5, 6, 7, 8, -1, -2]))
    assert (won.value, won.low, won.high) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    tied = statistics.wins(np.array([1.0, 0.0]))
    assert tied.value == 0.75
    assert (tied.low, tied.high) == (statistics.success_rate(1, 2).low, statistics.success_rate(2, 2).high)
    none = statistics.success_rate(0, 10)
    assert (none.value, none.low, none.high) == pytest.approx((0, 0, 0.2775), abs=1e-4)


def test_the_signed_rank_test_is_scipys_and_takes_ties_and_infinities(rng: np.random.Generator) -> None:
    sample = rng.normal(0.3, size=12)
    assert statistics.signed_rank(sample) == pytest.approx(stats.wilcoxon(sample).pvalue)
    assert statistics.signed_rank(np.array([1.0, 2, 3, 4, 5])) == 0.0625
    assert statistics.signed_rank(np.array([1.0, 2, 3, 4, INF])) == 0.0625
    assert statistics.signed_rank(np.array([1.0, 1, 1, INF, INF, 0])) == pytest.approx(0.0625)
    assert statistics.signed_rank(np.zeros(7)) == 1.0
    assert statistics.signed_rank(np.array([INF, -INF])) == 1.0


def test_what_n_can_show_at_all() -> None:
    assert [statistics.smallest_p(n) for n in (1, 2, 5, 6)] == [1.0, 0.5, 0.0625, 0.03125]
    assert [statistics.seeds_needed(m) for m in (0, 1, 3, 11)] == [6, 6, 7, 9]


def test_holm_steps_down_and_stays_monotone() -> None:
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.5, 0.9]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_the_noise_of_seeds_is_the_median_deviation() -> None:
    assert statistics.noise([1.0, 2.0, 3.0, 4.0, 100.0]) == 1.0
    assert statistics.noise([1.0, 2.0, INF]) == 1.0
    assert statistics.noise([1.0, INF, INF]) == 0.0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "clear"),
        ({"p_holm": 0.06}, "likely"),
        ({"n": 4}, "no"),
        ({"noise": 0.3}, "no"),
        ({"difference": Interval(0.2, 0.0, 0.3)}, "no"),
        ({"difference": Interval(INF, 0.1, INF)}, "clear"),
    ],
)
def test_a_difference_is_shown_beyond_zero_and_beyond_noise_only(change: dict[str, object], expected: str) -> None:
    shown = Against("adam", 10, Interval(0.2, 0.1, 0.3), Interval(1, 0.7, 1), 0.002, 0.01, 0.1)
    assert replace(shown, **change).shown == expected


def test_the_steps_to_a_target_count_a_miss_as_infinite_and_a_later_failure_as_a_miss() -> None:
    facts = made_workload(target=0.5)
    curves = ([(100, 0.6), (200, 0.5), (300, 0.4)], [(100, 0.4), (200, 0.9), (300, 0.9)], [(100, 0.9)])
    runs = [
        replace(made_run(facts, "adam", seed, 0.4), curve=tuple(curve), steps=300, seconds=4.0, evaluation_seconds=1.0)
        for seed, curve in enumerate(curves)
    ]
    entry = replace(made_entry(facts, "adam", "default", {}), runs=tuple(runs))
    found = outcomes.to_target(entry, facts)
    assert found is not None
    assert (found.steps, found.seconds, found.reached.value) == (200, pytest.approx(2.0), pytest.approx(2 / 3))
    failed = replace(entry, runs=(replace(runs[0], failed="step 299: nan"), *runs[1:]))
    assert outcomes.to_target(failed, facts).steps == INF  # type: ignore[union-attr]  # there is a target
    assert outcomes.to_target(entry, LOSS) is None
    accurate = replace(ACCURACY, target=0.5)
    first = replace(runs[0], curve=((100, 0.4), (200, 0.6)))
    assert outcomes.to_target(replace(entry, runs=(first,)), accurate).steps == 200  # type: ignore[union-attr]


def test_good_learning_rates_are_those_around_the_best_within_five_percent() -> None:
    rates, costs = [1e-4, 1e-3, 1e-2, 1e-1, 1.0], [1.03, 1.04, 1.0, 1.2, INF]
    found = outcomes.rate_sensitivity([trial(c, r) for c, r in zip(costs, rates, strict=True)], LOSS)
    assert found is not None
    assert (found.best, found.low, found.high, found.open_low, found.open_high) == (1e-2, 1e-4, 1e-2, True, False)
    assert found.decades == pytest.approx(2.0)
    points = [trial(c, r) for c, r in zip([-0.97, -0.985, -0.99, -0.975], rates, strict=False)]
    accurate = outcomes.rate_sensitivity(points, ACCURACY)  # within a point: 0.985 and 0.99
    assert accurate is not None and (accurate.low, accurate.high) == (1e-3, 1e-2)


def test_the_area_of_a_sensitivity_is_that_of_the_trapezoids_above_the_best() -> None:
    rates, costs = [1e-4, 1e-3, 1e-2, 1.0], [1.4, 1.2, 1.0, INF]
    found = outcomes.rate_sensitivity([trial(c, r) for c, r in zip(costs, rates, strict=True)], LOSS)
    # by hand: 0.3 and 0.1 in a decade each, then two decades up to the loss 2.4 that the workload calls failed
    assert found is not None and found.area == pytest.approx(0.3 + 0.1 + 2 * 1.4 / 2) and found.tried_decades == 4
    excess = [0.4, 0.2, 0.0, 1.4]
    assert found.area == pytest.approx(integrate.trapezoid(excess, np.log10(rates)))
    endless = outcomes.rate_sensitivity([trial(1.0, 0.1), trial(INF, 1.0)], replace(LOSS, failed=INF))
    assert endless is not None and endless.area == INF
    points = [trial(c, r) for c, r in zip([-0.9, -0.98, INF], [0.01, 0.1, 1.0], strict=True)]
    accurate = outcomes.rate_sensitivity(points, ACCURACY)  # 0.08 / 2, and a failure is an accuracy of 0.2
    assert accurate is not None and accurate.area == pytest.approx(0.04 + 0.78 / 2)
    alone = outcomes.rate_sensitivity([trial(1.0, 0.1)], LOSS)
    assert alone is not None and (alone.area, alone.tried_decades) == (0.0, 0.0)


def test_the_best_moment_is_told_beside_the_end_and_decides_nothing() -> None:
    curves = (
        [(100, 0.6), (200, 0.2), (300, 0.4)],
        [(100, 0.3), (200, 0.9), (300, 0.9)],
        [(100, 0.25), (200, math.nan)],
    )
    ends = (0.4, 0.9, INF)
    runs = tuple(
        replace(
            made_run(LOSS, "adam", seed, 0.5), curve=tuple(curve), cost=end, failed="" if end < INF else "step 200: nan"
        )
        for seed, (curve, end) in enumerate(zip(curves, ends, strict=True))
    )
    entry = replace(made_entry(LOSS, "adam", "default", {}), runs=runs)
    found = outcomes.best_moment(entry, LOSS)
    assert (found.cost, found.step, found.end) == (0.25, 100, 0.9)
    hopeless = replace(entry, runs=(replace(runs[2], curve=((100, 2.5),)),))  # beyond what is called failed
    assert outcomes.best_moment(hopeless, LOSS) == outcomes.BestMoment(INF, INF, INF)
    accurate = replace(entry, runs=(replace(runs[0], curve=((100, 0.7), (200, 0.6)), cost=-0.6),))
    assert outcomes.best_moment(accurate, ACCURACY) == outcomes.BestMoment(-0.7, 100, -0.6)


def test_a_run_takes_the_median_of_those_that_did_not_fail() -> None:
    runs = tuple(replace(made_run(LOSS, "adam", i, 0.5), seconds=float(i)) for i in range(1, 6))
    failed = replace(made_run(LOSS, "adam", 7, math.nan), seconds=0.01)
    entry = replace(made_entry(LOSS, "adam", "default", {}), runs=(*runs, failed))
    assert outcomes.run_seconds([entry]) == 3.0
    assert outcomes.run_seconds([]) == INF


def test_there_is_no_sensitivity_where_no_rate_worked_or_was_tried() -> None:
    assert outcomes.rate_sensitivity([trial(INF)], LOSS) is None
    assert outcomes.rate_sensitivity([Trial({"beta1": 0.9}, (1.0,))], LOSS) is None
    two_seeds = [Trial({"lr": 0.1}, (1.0, INF)), Trial({"lr": 0.2}, (1.0, 1.2))]
    found = outcomes.rate_sensitivity(two_seeds, LOSS)
    assert found is not None and found.best == 0.2


def test_the_best_rate_of_a_sensitivity_is_the_one_that_the_search_chose() -> None:
    tried = [Trial({"lr": 0.01}, (0.1, 0.5)), Trial({"lr": 0.1}, (0.35, 0.4))]
    found = outcomes.rate_sensitivity(tried, LOSS)
    assert found is not None and (found.best, found.costs) == (
        min(tried, key=lambda t: t.cost).values["lr"],
        (0.5, 0.4),
    )
    behind = Trial({"lr": 1.0}, (0.01,), stopped=True)  # of a part of the steps
    assert outcomes.rate_sensitivity([*tried, behind], LOSS) == found


def test_the_best_of_k_trials_is_that_of_an_order_of_chance() -> None:
    rows = statistics.best_of([1.0, 2.0, 3.0, 4.0], 40)
    assert rows.shape == (40, 3)
    assert rows[0, 0] == 2.0 and rows[-1].tolist() == [1.0, 1.0, 1.0]
    assert (np.diff(rows, axis=0) <= 0).all() and (rows[:, 1] <= rows[:, 2]).all()
    assert statistics.best_of([1.0, INF, INF, INF])[0, 0] == INF
    # one of four: the chance to have it among k is 1 - 0.75^k, above a half for k = 3
    assert needed([1.0, INF, INF, INF]) == 3
    assert needed([1.0, 1.04]) == 1
    assert needed([INF]) is None and needed([]) is None


def test_how_many_trials_suffice_is_told_of_those_that_no_other_one_led_to() -> None:
    assert needed([1.2, 1.0, 1.5, 1.0], spread=2) == 1  # the others, near the best, say nothing of a smaller number
    assert needed([1.2, 1.1, 1.0], spread=2) is None  # what the search found at last, none of them had
    grid = made_entry(LOSS, "adam", "rate", spread(0.2), (trial(1.0), trial(1.1)))
    assert outcomes.trials_needed(grid, LOSS) is None


def test_a_learning_curve_keeps_runs_that_failed_on_the_way() -> None:
    curves = [((1, 1.0), (2, 0.5)), ((1, 2.0), (2, 0.7)), ((1, 3.0),)]
    runs = tuple(replace(made_run(LOSS, "adam", i, 0.5), curve=curve) for i, curve in enumerate(curves))
    rows = outcomes.learning_curve(replace(made_entry(LOSS, "adam", "default", {}), runs=runs), LOSS)
    assert rows.tolist() == [[1, 2.0, 1.0, 3.0], [2, 0.7, 0.5, INF]]
    accurate = outcomes.learning_curve(replace(made_entry(LOSS, "adam", "default", {}), runs=runs), ACCURACY)
    assert accurate[1].tolist() == [2, 0.5, -INF, 0.7]


def test_the_order_is_by_medians_and_failures_come_last() -> None:
    half = {seed: (math.nan if seed < 5 else 0.1) for seed in range(10)}
    entries = [made_entry(LOSS, n, "default", v) for n, v in {"half": half, "b": spread(0.3), "a": spread(0.2)}.items()]
    assert [e.optimizer for e in outcomes.from_best(entries, LOSS)] == ["a", "b", "half"]
    against = {a.optimizer: a for a in outcomes.against_best(entries, LOSS)}
    assert against["b"].difference.value == pytest.approx(0.1) and against["b"].wins.value == 1.0
    assert against["b"].p == pytest.approx(2**-9) and against["b"].p_holm == pytest.approx(2**-8)
    assert against["b"].shown == "clear"
    assert math.isinf(against["half"].difference.high) and against["half"].wins.value == 0.5
    assert outcomes.against_best(entries[:1], LOSS) == []


def test_a_clear_best_is_recommended_with_what_it_costs() -> None:
    verdict = recommend(compared(LOSS, {"adam": spread(0.2), "sgd": spread(0.4), "lion": spread(0.3)})).verdicts[0]
    assert (
        verdict.answer
        == "Use adam (its defaults) for digits-mlp: median loss 0.2, better than every other optimizer here."
    )
    assert verdict.sure == (
        "Interquartile mean over 10 seeds: 0.2 (95 %: 0.1972 to 0.2025).",
        "Clearly behind, with p at most 0.0039 after Holm's correction: lion and sgd.",
    )
    assert verdict.costs == (
        "20 µs a step for the optimizer itself (here from 20 to 20)", "8 bytes of state for each parameter",
        "no tuning: nothing was searched",
    )  # fmt: skip
    assert (verdict.optimizer, verdict.python, verdict.undecided) == ("adam", "steepest.chain('adam')", ())
    assert (verdict.behind, verdict.untuned) == (("lion", "sgd"), ("beta1", "beta2", "eps"))


def test_a_best_that_few_seeds_show_is_called_likely_better_and_nobody_is_behind() -> None:
    verdict = recommend(compared(LOSS, {"adam": spread(0.2, 5), "sgd": spread(0.4, 5)})).verdicts[0]
    assert verdict.answer == "Use adam (its defaults) for digits-mlp: median loss 0.2, likely better than sgd."
    assert verdict.sure[0] == "Interquartile mean over 5 seeds: 0.2 (range: 0.198 to 0.202)."
    assert verdict.sure[1] == "Likely behind, the interval of the difference excludes 0 but p stays above 0.05: sgd."
    assert (verdict.likely, verdict.behind) == (("sgd",), ())
    many = recommend(compared(LOSS, {f"opt{i}": spread(0.2 + 0.1 * i, 8) for i in range(14)})).verdicts[0]
    assert len(many.likely) == 13 and many.behind == () and "each for itself" in many.sure[1]
    some = {"adam": spread(0.2), "sgd": spread(0.4) | {0: 0.1}, "lion": spread(0.6), "lamb": spread(0.7)}
    assert recommend(compared(LOSS, some)).verdicts[0].behind == ("sgd", "lion", "lamb")


def test_alike_are_those_that_no_difference_that_counts_can_lie_between_and_the_cheaper_one_is_named() -> None:
    alike = {seed: value + 0.0001 * (-1) ** seed for seed, value in spread(0.2).items()}
    result = compared(LOSS, {"adam": spread(0.2), "sgd": alike})
    entries = (result.entries[0], made_entry(LOSS, "sgd", "default", alike, state=4.0, micros=10.0))
    verdict = recommend(replace(result, entries=entries)).verdicts[0]
    best = verdict.optimizer
    assert verdict.answer == (
        "All alike on digits-mlp, within 0.01: choose by cost. "
        f"The best median is that of {best} (its defaults): median loss 0.2."
    )
    assert verdict.sure[1:] == (f"Alike, at most 0.01 to either side: {verdict.alike[0]}.",)
    if best == "adam":
        assert "less state, alike: sgd (4 bytes)" in verdict.costs
        assert "faster steps, alike: sgd (10 µs)" in verdict.costs
    worse = (*entries, made_entry(LOSS, "lion", "default", spread(0.4)))
    answer = recommend(replace(result, entries=worse)).verdicts[0].answer
    assert answer.endswith(f"{verdict.alike[0]} is within 0.01 of it: any of them will do.")


def test_what_was_not_shown_is_undecided_and_no_reason_to_choose_by_cost() -> None:
    steady = dict(enumerate([0.20, 0.21, 0.22, 0.21, 0.23]))
    wild = dict(enumerate([0.199, 2.0, 2.1, 1.9, 2.2]))
    verdict = recommend(compared(LOSS, {"adam": steady, "sgd": wild})).verdicts[0]
    assert verdict.answer == (
        "Undecided on digits-mlp. The best median is that of adam (its defaults): median loss 0.21; sgd may be as good."
    )
    assert verdict.sure[1] == "No difference shown: sgd (up to 2)."
    assert (verdict.alike, verdict.undecided, verdict.behind) == ((), ("sgd",), ())
    small = {seed: value + 0.005 * (-1) ** seed for seed, value in spread(0.2).items()}
    assert recommend(compared(LOSS, {"adam": spread(0.2), "sgd": small})).verdicts[0].alike
    large = {seed: value + 0.02 * (-1) ** seed for seed, value in spread(0.2).items()}
    assert recommend(compared(LOSS, {"adam": spread(0.2), "sgd": large})).verdicts[0].undecided


def test_whose_median_run_fails_is_behind_a_best_that_never_failed_and_all_failures_are_told() -> None:
    steady = dict(enumerate([0.20, 0.21, 0.22, 0.21, 0.23]))
    often, once = {0: 0.199, **dict.fromkeys(range(1, 5), math.nan)}, {**steady, 3: math.nan}
    verdict = recommend(compared(LOSS, {"adam": steady, "sgd": often})).verdicts[0]
    assert verdict.answer == (
        "Use adam (its defaults) for digits-mlp: median loss 0.21. It alone did not fail on half of the seeds or more."
    )
    assert (verdict.undecided, verdict.behind, verdict.sure[1:]) == ((), ("sgd",), ("Failed: sgd on 4 of 5 seeds.",))
    three = recommend(compared(LOSS, {"adam": steady, "sgd": often, "lion": once})).verdicts[0]
    assert (three.undecided, three.behind) == (("lion",), ("sgd",))
    assert "No difference shown: lion (up to a failure)." in three.sure
    assert "Failed: lion on 1 of 5 seeds and sgd on 4 of 5 seeds." in three.sure
    one_of_two = recommend(compared(LOSS, {"adam": {0: 0.2, 1: 0.2}, "sgd": {0: 0.2, 1: math.nan}})).verdicts[0]
    assert (one_of_two.undecided, one_of_two.behind) == (("sgd",), ())


def test_of_a_few_seeds_the_range_is_shown_and_nothing_more() -> None:
    def mean(seeds: int) -> str:
        return recommend(compared(LOSS, {"adam": spread(0.2, seeds)})).verdicts[0].sure[0]

    assert mean(1) == "One seed: 0.2."
    assert mean(2) == "Mean over 2 seeds: 0.2 (range: 0.1995 to 0.2005)."
    assert mean(5) == "Interquartile mean over 5 seeds: 0.2 (range: 0.198 to 0.202)."
    assert mean(6).startswith("Interquartile mean over 6 seeds: 0.2 (95 %: ")


def test_too_few_seeds_are_said_aloud() -> None:
    five = recommend(compared(LOSS, {"adam": spread(0.2, 5), "sgd": spread(0.4, 5)})).verdicts[0]
    assert five.sure[1:] == (
        "Likely behind, the interval of the difference excludes 0 but p stays above 0.05: sgd.",
        "n too small for p < 0.05: the smallest p of 5 seeds is 0.0625; 6 seeds could show it.",
    )
    three = recommend(compared(LOSS, {"adam": spread(0.2, 3), "sgd": spread(0.4, 3), "lion": spread(0.5, 3)})).verdicts[
        0
    ]
    assert three.answer == (
        "Too few seeds to tell optimizers apart on digits-mlp. The best median is that of adam (its defaults): median loss 0.2; "
        "it may be chance."
    )
    assert three.behind == () and three.sure[-1] == (
        "n too small for p < 0.05: the smallest p of 3 seeds is 0.25, 0.5 after correction over 2 comparisons; 7 seeds could "
        "show it."
    )


def test_failures_edges_and_an_interrupt_are_warned_of() -> None:
    failing = spread(0.2) | {0: math.nan, 1: math.nan}
    entries = (made_entry(LOSS, "adam", "tuned", failing, (trial(0.2),), edges=("lr",)),
               made_entry(LOSS, "sgd", "tuned", spread(0.4), (trial(0.4),), edges=("lr", "momentum")))  # fmt: skip
    found = recommend(replace(made_result(), entries=entries, unfinished=("lion",)))
    assert found.verdicts[0].warnings == (
        "adam failed on 2 of 10 seeds.",
        "adam (lr) lies at the edge of what was searched: a better value may lie beyond.",
        "At the edge of what was searched, and perhaps better than it looks: sgd (lr, momentum).",
    )
    assert found.warnings == ("Interrupted, not finished: lion.",)
    assert "Warning: adam failed on 2 of 10 seeds." in str(found)


def test_an_interrupted_track_that_not_all_have_run_decides_nothing_and_is_named() -> None:
    default = [made_entry(LOSS, name, "default", spread(at, 5)) for name, at in (("adam", 0.21), ("sgd", 0.51))]
    alone = made_entry(LOSS, "sgd", "tuned", spread(0.5, 5), (trial(0.5),))
    verdict = recommend(replace(made_result(), entries=(*default, alone))).verdicts[0]
    assert (verdict.optimizer, verdict.track, verdict.likely) == ("adam", "default", ("sgd",))
    assert verdict.warnings == ("Not judged by the track «tuned»: on it not all have finished, only sgd.",)
    both = (*default, alone, made_entry(LOSS, "adam", "tuned", spread(0.2, 5), (trial(0.2),)))
    verdict = recommend(replace(made_result(), entries=both)).verdicts[0]
    assert (verdict.track, verdict.warnings) == ("tuned", ())
    begun = (*both[:3], replace(both[3], runs=both[3].runs[:2]))
    verdict = recommend(replace(made_result(), entries=begun)).verdicts[0]
    assert (verdict.track, verdict.warnings[0][-9:]) == ("default", "only sgd.")
    assert verdict_track(replace(made_result(), entries=()), LOSS.name) == "default"


def test_what_tuning_gained_is_told_against_the_same_seeds_with_defaults() -> None:
    def tuned(default: dict[int, float]) -> str:
        entries: tuple[Entry, ...] = (
            made_entry(LOSS, "adam", "default", default),
            made_entry(
                LOSS, "adam", "rate", spread(0.2), tuple(trial(c, r) for c, r in [(0.2, 0.1), (0.201, 1.0), (9, 10)])
            ),
            made_entry(LOSS, "adam", "tuned", spread(0.2), (trial(0.2), trial(0.3))),
        )
        return recommend(replace(made_result(), entries=entries)).verdicts[0].costs[2]

    width = "good learning rates span at least 1.0 decades"
    assert tuned(spread(0.3)) == (
        f"2 trials of lr, of which 1 typically suffices; tuning gained 0.1 over its defaults (95 %: 0.1 to 0.1); {width}"
    )
    assert (
        tuned(spread(0.2))
        == f"2 trials of lr, of which 1 typically suffices; no gain over its defaults was shown; {width}"
    )


def test_an_accuracy_is_told_as_it_is_measured() -> None:
    result = compared(ACCURACY, {"adam": spread(0.9), "sgd": spread(0.8)})
    verdict = recommend(result).verdicts[0]
    assert verdict.answer.startswith("Use adam (its defaults) for digits-mlp: median accuracy 0.9, better")
    assert verdict.sure[0] == "Interquartile mean over 10 seeds: 0.9 (95 %: 0.8972 to 0.9025)."


def test_nothing_is_recommended_where_half_of_the_runs_of_all_failed() -> None:
    half = {seed: (math.nan if seed % 2 else 0.1) for seed in range(10)}
    verdict = recommend(compared(LOSS, {"adam": half, "sgd": dict.fromkeys(range(10), math.nan)})).verdicts[0]
    assert verdict.answer == (
        "Nothing to recommend for digits-mlp. At least half of the runs of every optimizer failed. "
        "The first, adam with seed 1: step 250: the training loss is nan."
    )
    assert (verdict.optimizer, verdict.python) == ("", "")
    one = recommend(compared(LOSS, {"adam": {0: math.nan}})).verdicts[0]
    assert one.answer.startswith(
        "Nothing to recommend for digits-mlp. The only run failed. The first, adam with seed 0: "
    )


def test_an_interval_of_failures_is_none() -> None:
    assert shown_interval(statistics.Interval(INF, INF, INF), LOSS) == ""
    assert shown_interval(statistics.Interval(INF, 0.2, INF), LOSS) == "0.2 to failed"


def test_who_failed_on_every_seed_is_not_likely_behind_but_failed() -> None:
    runs = {"adam": spread(0.2, 5), "sgd": spread(0.4, 5), "lion": dict.fromkeys(range(5), math.nan)}
    five = recommend(compared(LOSS, runs)).verdicts[0]
    assert "Failed: lion on 5 of 5 seeds." in five.sure
    assert not any("lion" in said for said in five.sure if not said.startswith("Failed"))
    assert (five.likely, five.behind) == (("sgd",), ("lion",))
    two = {name: {seed: value for seed, value in own.items() if seed < 2} for name, own in runs.items()}
    verdict = recommend(compared(LOSS, two)).verdicts[0]
    assert (verdict.undecided, verdict.behind) == (("sgd",), ("lion",))
    assert "Failed: lion on 2 of 2 seeds." in verdict.sure


def test_a_run_that_only_compiled_says_nothing_about_the_time_of_a_step() -> None:
    entry = made_entry(LOSS, "adam", "default", spread(0.2, 3))
    runs = tuple(replace(run, step_microseconds=time) for run, time in zip(entry.runs, (0.0, 30.0, 40.0), strict=True))
    found = outcomes.summary(replace(entry, runs=runs), LOSS)
    assert found is not None and found.step_microseconds == 35.0
    none = recommend(compared(LOSS, {"adam": spread(0.2, 3)}))
    silent = replace(entry, runs=tuple(replace(run, step_microseconds=0.0) for run in entry.runs))
    said = recommend(replace(made_result(), entries=(silent,))).verdicts[0].costs
    assert len(said) == len(none.verdicts[0].costs) - 1 and not any("µs" in one for one in said)


@pytest.mark.parametrize(
    ("default", "seeds", "said"),
    [
        (0.3, 10, "Better on the same seeds (by 0.1, 95 %: 0.1 to 0.1): use what was found."),
        (0.1, 10, "Worse on the same seeds (by -0.1, 95 %: -0.1 to -0.1): keep the defaults."),
        (0.3, 5, "Likely better on the same seeds (by 0.1, range: 0.1 to 0.1): use what was found."),
        (0.2, 10, "Alike within 0.01 on the same seeds (by 0, 95 %: 0 to 0): the defaults will do."),
        (0.3, 1, "1 seed can't tell whether that is more than chance."),
    ],
)
def test_one_optimizer_is_compared_with_its_own_defaults(default: float, seeds: int, said: str) -> None:
    stopped = tuple(replace(trial(0.1), stopped=True) for _ in range(3))
    entries = (
        made_entry(LOSS, "adam", "default", spread(default, seeds)),
        made_entry(LOSS, "adam", "tuned", spread(0.2, seeds), (trial(0.2), trial(0.3), *stopped)),
    )
    verdict = recommend(replace(made_result(), entries=entries)).verdicts[0]
    assert verdict.answer == f"adam on digits-mlp: median loss {default:g} with its defaults -> 0.2 tuned. {said}"
    assert verdict.unsearched == ""
    counts = "5 trials of lr (3 fell behind and were stopped early), of which 4 typically suffice"
    assert verdict.costs[2].startswith(counts)
    found = outcomes.summary(entries[1], LOSS)
    assert found is not None and (found.trials, found.stopped_trials, found.failed_trials) == (5, 3, 0)


def test_a_gain_below_the_noise_of_the_seeds_is_none() -> None:
    def found(gain: float, seeds: int, alternating: float = 0.0) -> tuple[str, str]:
        noisy = {seed: 0.2 + 0.1 * seed for seed in range(seeds)}
        usual = {seed: value + gain + alternating * (-1) ** seed for seed, value in noisy.items()}
        entries = (
            made_entry(LOSS, "adam", "default", usual),
            made_entry(LOSS, "adam", "tuned", noisy, (trial(0.2), trial(0.3))),
        )
        verdict = recommend(replace(made_result(), entries=entries)).verdicts[0]
        return verdict.answer.partition("tuned. ")[2], verdict.costs[2].partition("; ")[2]

    said = "Alike within 0.02 on the same seeds (by 0.001, range: 0.001 to 0.001): the defaults will do."
    assert found(0.001, 5) == (said, "no gain over its defaults was shown")
    wide = "No difference shown on the same seeds (by 0.05, 95 %: -0.05 to 0.15): undecided."
    assert found(0.05, 10, 0.1) == (wide, "no gain over its defaults was shown")
    likely = "tuning likely gained 1 over its defaults (range: 1 to 1)"
    assert found(1.0, 5)[1] == likely


def test_workloads_are_ranked_over_from_four_on() -> None:
    def overall(count: int) -> str:
        return recommend(
            made_result([made_workload(f"work{i}") for i in range(count)], seeds=range(5), trials=2)
        ).overall

    assert overall(1) == ""
    assert overall(3) == "3 workloads are too few for a ranking over them (four are the least): one answer for each."
    assert overall(4).startswith("Over 4 workloads adam")


def test_of_many_names_the_first_are_told() -> None:
    assert [listed([]), listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert listed(list("abcdefgh")) == "a, b, c, d, e and 3 more"
