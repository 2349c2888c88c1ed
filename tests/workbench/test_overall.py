"""What holds over all workloads: profiles and speed-ups by hand and by SciPy, with misses and too few workloads."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from steepest.workbench import overall
from steepest.workbench.overall import SpeedUp
from steepest.workbench.ranking import speed_ups
from steepest.workbench.recommendation import recommend
from steepest.workbench.results import Result
from steepest.workbench.statistics import Interval
from steepest.workbench.words import shown_factor
from tests.workbench.made_results import made_entry, made_result, made_run, made_workload

INF = math.inf


def test_profiles_need_four_workloads_and_never_drop_a_failure() -> None:
    found = overall.performance_profiles({"a": [1, 1, 1, 2], "b": [2, 2, INF, 1], "c": [INF] * 4})
    assert found is not None
    at = {tau: int(np.searchsorted(found.taus, tau)) for tau in (1.0, 2.0, 4.0)}
    assert [found.shares["a"][i] for i in at.values()] == [0.75, 1.0, 1.0]
    assert [found.shares["b"][i] for i in at.values()] == [0.25, 0.75, 0.75]
    assert found.areas == pytest.approx({"a": 0.75 / 3 + 2 / 3, "b": 0.25 / 3 + 0.75 * 2 / 3, "c": 0.0}, abs=2e-3)
    assert overall.performance_profiles({"a": [1, 1, 1]}) is None
    solved_exactly = overall.performance_profiles({"a": [0, 1, 1, 1], "b": [1, 1, 1, 1]})
    assert solved_exactly is not None and solved_exactly.areas == pytest.approx({"a": 1.0, "b": 0.75})


def over(levels: dict[str, float], rng: np.random.Generator, names: str = "abcd", *, lowest: float = 0.2) -> str:
    """What is said over workloads on which optimizers end at these levels, times what a seed does; ``lowest`` on the last."""
    works = [made_workload(name) for name in names]
    entries = [
        made_entry(facts, name, "default", {seed: level * math.exp(0.15 * rng.normal()) for seed in range(5)})
        for facts in works
        for name, level in levels.items()
    ]
    last = made_entry(works[-1], "adam", "default", dict.fromkeys(range(5), lowest))
    entries = [last if (e.workload, e.optimizer) == (last.workload, "adam") else e for e in entries]
    return recommend(replace(made_result(works), entries=tuple(entries))).overall


def test_optimizers_that_only_chance_tells_apart_are_not_ranked(rng: np.random.Generator) -> None:
    alike = dict.fromkeys(("adam", "sgd", "lion", "lamb"), 0.2)
    said = [over(alike, rng) for _ in range(20)]
    assert sum(one.startswith("Over 4 workloads no optimizer is shown to be ahead; the highest") for one in said) >= 18


def test_who_is_behind_on_every_draw_of_the_seeds_is_ranked_behind(rng: np.random.Generator) -> None:
    said = over({"adam": 0.2, "sgd": 0.21, "lion": 0.5}, rng)
    assert said.startswith("Over 4 workloads ") and ", no difference shown to " in said and "Behind: lion (" in said
    same = {name: [dict.fromkeys(range(5), level)] * 4 for name, level in (("adam", 1.0), ("sgd", 2.0), ("lion", 1.0))}
    gaps = overall.behind_first(same)
    assert gaps["lion"] == Interval(0, 0, 0) and gaps["sgd"].low == gaps["sgd"].high == pytest.approx(100 / 301)
    whole = dict.fromkeys(range(5), 1.0)
    halting = {0: INF, 1: INF, 2: INF, 3: 1.0, 4: 1.0}
    assert overall.behind_first({"adam": [whole] * 4, "sgd": [halting, whole, whole, whole]})["sgd"] == Interval(
        0.25, 0, 0.25
    )
    few = {name: [{0: 1.0, 1: 1.0}] * 4 for name in ("adam", "sgd")}
    assert overall.behind_first(few) == {}


def test_a_workload_with_a_loss_below_zero_has_no_ratios_and_is_named(rng: np.random.Generator) -> None:
    levels = {"adam": 0.2, "sgd": 0.9}
    assert over(levels, rng, "abcde", lowest=-0.01).startswith(
        "Over 4 workloads (without e, where a final loss or error is below 0) adam comes closest to the best (profile 1.00 of 1). "
    )
    assert over(levels, rng, lowest=-0.01) == (
        "No ranking over the 4 workloads: too few are left without d, where a final loss or error is below 0."
    )


def test_a_speed_up_is_the_geometric_mean_of_the_ratios_of_steps_to_the_target() -> None:
    steps = {
        "adam": [{0: 100, 1: 200}, {0: 50, 1: 50}, {0: 300, 1: 100}, {0: 10, 1: 40}],
        "sgd": [{0: 200, 1: 200}, {0: 50, 1: 100}, {0: 300, 1: 400}, {0: 20, 1: 80}],
        "lion": [{1: 50, 0: 50}, {0: 50, 1: 50}, {0: 300, 1: 100}, {0: 10, 1: 40}],
    }
    reference, found = overall.speed_ups(steps, [1000] * 4)
    assert (reference, [one.optimizer for one in found]) == ("adam", ["lion", "sgd"])
    lion, sgd = found
    # by hand: of adam's steps over sgd's the product is 1/2 · 1 · 1 · 1/2 · 1 · 1/4 · 1/2 · 1/2 = 2**-6, of eight pairs
    assert sgd.ratio.value == pytest.approx(2 ** (-6 / 8))
    assert lion.ratio.value == pytest.approx(stats.gmean([2, 4, 1, 1, 1, 1, 1, 1]))
    assert sgd.ratio.low < sgd.ratio.value < sgd.ratio.high and sgd.ratio.high < 1
    assert (sgd.runs, sgd.missed, sgd.reference_missed, sgd.both_missed, sgd.bound) == (8, 0, 0, 0, "")


def test_every_workload_has_the_same_weight_in_a_speed_up() -> None:
    many = dict.fromkeys(range(10), 100.0)
    steps = {
        "adam": [many, {0: 100}, {0: 100}, {0: 100}],
        "sgd": [dict.fromkeys(many, 200.0), {0: 100}, {0: 100}, {0: 100}],
    }
    _, (sgd,) = overall.speed_ups(steps, [1000] * 4)
    assert sgd.ratio.value == pytest.approx(0.5**0.25)


def test_workloads_are_drawn_each_for_itself_in_the_interval_of_a_speed_up(rng: np.random.Generator) -> None:
    ours = [dict(enumerate(np.exp(rng.normal(size=12)) * 100)) for _ in range(4)]
    steps = {"adam": [dict.fromkeys(range(12), 100.0)] * 4, "sgd": ours}
    _, (sgd,) = overall.speed_ups(steps, [10**9] * 4)
    logs = [-np.log(np.array([*own.values()]) / 100) for own in ours]
    error = math.sqrt(sum(np.var(log) / len(log) for log in logs)) / 4  # of the mean of four independent means
    middle = float(np.mean(logs))
    assert sgd.ratio.value == pytest.approx(math.exp(middle))
    expected = [math.exp(middle + z * error) for z in stats.norm.ppf([0.025, 0.975])]
    assert [sgd.ratio.low, sgd.ratio.high] == pytest.approx(expected, rel=0.03)


def test_a_miss_counts_as_the_whole_budget_and_the_bound_says_on_which_side_the_truth_is() -> None:
    reached = [{0: 100.0}] * 3
    steps = {"adam": [*reached, {0: 100.0}], "sgd": [*reached, {0: INF}]}
    reference, (sgd,) = overall.speed_ups(steps, [1000, 1000, 1000, 1600])
    assert (reference, sgd.missed, sgd.bound) == ("adam", 1, "at most")
    assert sgd.ratio.value == pytest.approx((100 / 1600) ** (1 / 4))
    assert shown_factor(sgd) == "at most 0.5 (0.5 to 0.5)"
    # whoever misses least is the reference, wherever it stands
    steps = {"sgd": [*reached, {0: INF}], "adam": [{0: 100.0}] * 4}
    assert overall.speed_ups(steps, [1000] * 4)[0] == "adam"
    # both miss on the third: they count as alike
    steps = {"adam": [*reached[:2], {0: INF}, {0: 100.0}], "sgd": [*reached[:2], {0: INF}, {0: INF}]}
    _, (sgd,) = overall.speed_ups(steps, [1000, 1000, 5, 1600])
    assert (sgd.missed, sgd.reference_missed, sgd.both_missed, sgd.bound) == (1, 0, 1, "about")
    assert sgd.ratio.value == pytest.approx(0.5)
    # another run misses for each: first named is first of equals
    steps = {
        "adam": [{0: INF}, *reached],
        "sgd": [{0: 50.0}, {0: INF}, *reached[:2]],
        "lion": [{0: 50.0}, *reached[:2], {0: INF}],
    }
    reference, found = overall.speed_ups(steps, [1000] * 4)
    assert reference == "adam" and {one.bound for one in found} == {"about"}
    assert SpeedUp("x", Interval(2, 2, 2), 4, 0, 1, 0).bound == "at least"


def test_a_speed_up_needs_four_workloads_and_pairs_on_each() -> None:
    assert overall.speed_ups({"adam": [{0: 1.0}] * 3, "sgd": [{0: 1.0}] * 3}, [9] * 3) == ("", ())
    assert overall.speed_ups({}, [9] * 4) == ("", ())
    apart = {"adam": [{0: 1.0}] * 4, "sgd": [*[{0: 1.0}] * 3, {1: 1.0}]}
    assert overall.speed_ups(apart, [9] * 4) == ("adam", ())


def with_targets(count: int) -> Result:
    """Four workloads, the first ``count`` of them with a target; sgd reaches it in twice the steps, lion ran on three only."""
    works = [made_workload(f"work{i}", target=0.5 if i < count else None) for i in range(4)]
    at = {"adam": 100, "sgd": 200, "lion": 50}
    entries = [
        replace(
            made_entry(facts, name, "default", {}),
            runs=tuple(
                replace(made_run(facts, name, seed, 0.4), curve=((at[name] // 2, 0.9), (at[name], 0.5), (500, 0.4)))
                for seed in range(5)
            ),
        )
        for facts in works
        for name in at
        if name != "lion" or facts.name != "work3"
    ]
    return replace(made_result(works), entries=tuple(entries))


def test_the_speed_up_of_a_result_is_over_the_workloads_that_have_a_target() -> None:
    reference, found = speed_ups(with_targets(4))
    assert reference == "adam"
    assert [(one.optimizer, one.runs, shown_factor(one)) for one in found] == [("sgd", 20, "0.5 (0.5 to 0.5)")]
    assert speed_ups(with_targets(3)) == ("", ())
