"""What to use for this work, how sure that is and what it costs: plain words that follow from the numbers.

Optimizers are compared on one track, the one with the most tuning that was run, so that each had the same budget. The best is
the one with the lowest median cost on the test part; another one is called worse only where the paired difference shows it
(`statistics.Against`), otherwise «no difference shown» is said. Over fewer than four workloads nothing is ranked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from steepest.workbench import overall, statistics
from steepest.workbench.overall import FEWEST_WORKLOADS, Profiles, SpeedUp
from steepest.workbench.results import TRACKS, Entry, Result, Track, WorkloadFacts
from steepest.workbench.statistics import Against, Interval, Sensitivity, Summary

__all__ = [
    "Recommendation",
    "Verdict",
    "listed",
    "measure",
    "profiles",
    "recommend",
    "shown",
    "shown_factor",
    "shown_interval",
    "speed_ups",
    "verdict_track",
]

TRACK_NAMES = {"default": "its defaults", "rate": "learning rate searched", "tuned": "tuned"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer for one workload.

    Attributes
    ----------
    optimizer, track, python : what to use; empty where every run failed.
    answer : one sentence to act on.
    sure : how sure it is.
    costs : what it costs: step time, memory, tuning, and what is cheaper without a difference shown.
    unsearched : what to use where nothing can be searched; empty where nothing was.
    equals, behind : the others, by whether a difference to the best was shown.
    against : the comparisons behind that.
    warnings : what makes the answer weaker.
    untuned : what stayed as it was.
    """

    workload: str
    optimizer: str
    track: Track
    python: str
    answer: str
    sure: tuple[str, ...]
    costs: tuple[str, ...]
    unsearched: str
    equals: tuple[str, ...]
    behind: tuple[str, ...]
    against: tuple[Against, ...]
    warnings: tuple[str, ...]
    untuned: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The answers for all workloads; ``overall`` says what holds across them."""

    overall: str
    verdicts: tuple[Verdict, ...]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        lines = [self.overall] if self.overall else []
        for v in self.verdicts:
            lines += [
                v.answer,
                *v.sure,
                *v.costs,
                *filter(None, [v.unsearched]),
                *(f"Warning: {w}" for w in v.warnings),
                *filter(None, [v.python]),
            ]
        return "\n".join([*lines, *(f"Warning: {w}" for w in self.warnings)])


def recommend(result: Result) -> Recommendation:
    """The recommendation that follows from a result."""
    verdicts = tuple(_verdict(result, facts) for facts in result.workloads)
    unfinished = [f"Interrupted, not finished: {', '.join(result.unfinished)}."] if result.unfinished else []
    return Recommendation(_overall(result), verdicts, tuple(unfinished))


def verdict_track(result: Result, workload: str) -> Track:
    """The track that decides: the one with the most tuning for which there are runs."""
    held = {e.track for e in result.entries if e.workload == workload and e.runs}
    return next((track for track in reversed(TRACKS) if track in held), "default")


def measure(facts: WorkloadFacts) -> str:
    """The measure that decides, as pages call it."""
    return facts.metric.replace("_", " ")


def shown(cost: float, facts: WorkloadFacts) -> str:
    """A cost as the metric's value."""
    if not math.isfinite(cost):
        return "failed"
    return f"{-cost + 0.0 if facts.higher_is_better else cost:.4g}"


def shown_interval(interval: Interval, facts: WorkloadFacts) -> str:
    """A cost's interval as that of the metric, the lower number first."""
    ends = [interval.low, interval.high]
    low, high = reversed(ends) if facts.higher_is_better else ends
    return f"{shown(low, facts)} to {shown(high, facts)}"


def shown_factor(found: SpeedUp) -> str:
    """A speed-up with its interval, and on which side of it the true one lies."""
    said = f"{found.ratio.value:.3g} ({found.ratio.low:.3g} to {found.ratio.high:.3g})"
    return f"{found.bound} {said}".lstrip()


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names as a sentence has them; of many the first, and how many more."""
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def profiles(result: Result) -> tuple[str, Profiles | None]:
    """What the profiles are of (steps to the target where every workload has one, else the final loss or error), and they.

    An optimizer takes part if it ran on every workload.
    """
    by_targets = all(facts.target is not None for facts in result.workloads)
    measures: dict[str, list[float]] = {}
    for facts in result.workloads:
        track = verdict_track(result, facts.name)
        for entry in (e for e in result.entries if e.workload == facts.name and e.track == track and e.runs):
            reach = statistics.to_target(entry, facts) if by_targets else None
            cost = statistics.median(list(statistics.judged(entry, facts).values()))
            final = 1 + cost if facts.higher_is_better else cost
            measures.setdefault(entry.optimizer, []).append(reach.steps if reach else final)
    complete = {name: values for name, values in measures.items() if len(values) == len(result.workloads)}
    positive = all(value >= 0 for values in complete.values() for value in values)
    of = "steps to the target" if by_targets else "final loss or error"
    return of, overall.performance_profiles(complete) if positive else None


def speed_ups(result: Result) -> tuple[str, tuple[SpeedUp, ...]]:
    """The reference, and by which factor the others reach the targets in fewer steps, on the workloads that have a target.

    An optimizer takes part if it ran on all of them.
    """
    aimed = [(facts, facts.target) for facts in result.workloads if facts.target is not None]
    steps: dict[str, list[dict[int, float]]] = {}
    for facts, target in aimed:
        track = verdict_track(result, facts.name)
        for entry in (e for e in result.entries if e.workload == facts.name and e.track == track and e.runs):
            steps.setdefault(entry.optimizer, []).append(statistics.steps_to_target(entry, facts, target))
    complete = {name: by_workload for name, by_workload in steps.items() if len(by_workload) == len(aimed)}
    return overall.speed_ups(complete, [facts.steps for facts, _ in aimed])


def _overall(result: Result) -> str:
    count = len(result.workloads)
    if count < FEWEST_WORKLOADS:
        if count == 1:
            return ""
        return f"{count} workloads are too few for a ranking over them (four are the least): one answer for each."
    of, found = profiles(result)
    if found is None:
        return f"No ranking over the {count} workloads: no optimizer has a positive {of} on all of them."
    ranked = sorted(found.areas, key=lambda name: -found.areas[name])
    top = found.areas[ranked[0]]
    first = [name for name in ranked if found.areas[name] >= top - 0.01]
    come = "comes" if len(first) == 1 else "come"
    said = f"Over {count} workloads {listed(first)} {come} closest to the best (profile {top:.2f} of 1)"
    rest = ranked[len(first) :]
    return f"{said}, then {rest[0]} ({found.areas[rest[0]]:.2f})." if rest else f"{said}."


def _verdict(result: Result, facts: WorkloadFacts) -> Verdict:
    track = verdict_track(result, facts.name)
    mine = [e for e in result.entries if e.workload == facts.name and e.runs]
    entries = statistics.from_best([e for e in mine if e.track == track], facts)
    summaries = {e.optimizer: s for e in entries if (s := statistics.summary(e, facts))}
    if not entries or math.isinf(summaries[entries[0].optimizer].median):
        said = "At least half of the runs of every optimizer failed" if entries else "No optimizer has been judged yet"
        failed = tuple(e.optimizer for e in entries)
        return Verdict(
            facts.name,
            "",
            track,
            "",
            f"Nothing to recommend for {facts.name}. {said}.",
            (),
            (),
            "",
            (),
            failed,
            (),
            (),
            (),
        )
    best = entries[0]
    against = tuple(statistics.against_best(entries, facts))
    equals = tuple(a.optimizer for a in against if a.shown == "no")
    behind = tuple(a.optimizer for a in against if a.shown != "no")
    own = summaries[best.optimizer]
    costs = (
        f"{own.step_microseconds:.3g} µs a step for the optimizer itself{_range(summaries)}",
        f"{best.state_bytes_per_parameter:g} bytes of state for each parameter",
        _tuning(best, own, mine, facts),
        *_cheaper(own, [summaries[name] for name in equals]),
    )
    return Verdict(
        facts.name, best.optimizer, track, best.python, _answer(facts, best, own, equals, behind, against),
        tuple(_sure(own, against, facts)), costs, _unsearched(track, mine, facts), equals, behind, against,
        tuple(_warnings(own, entries)), best.fixed,
    )  # fmt: skip


def _answer(
    facts: WorkloadFacts,
    best: Entry,
    own: Summary,
    equals: Sequence[str],
    behind: Sequence[str],
    against: Sequence[Against],
) -> str:
    name = f"{best.optimizer} ({TRACK_NAMES[best.track]})"
    where = f"median {measure(facts)} {shown(own.median, facts)}"
    if not against:
        return f"Only one optimizer ran on {facts.name}, {name}: {where}, and nothing to compare it with."
    if max(a.n for a in against) < statistics.FEWEST_SEEDS:
        few = f"Too few seeds to tell optimizers apart on {facts.name}"
        return f"{few}. The best median is that of {name}: {where}; it may be chance."
    if not equals:
        return f"Use {name} for {facts.name}: {where}, better than every other optimizer here."
    if not behind:
        return f"No difference shown on {facts.name}: choose by cost. The best median is that of {name}: {where}."
    return f"Use {name} for {facts.name}: {where}. No difference shown to {listed(equals)}: any of them will do."


def _sure(own: Summary, against: Sequence[Against], facts: WorkloadFacts) -> list[str]:
    mean = f"Interquartile mean over {own.n} seeds: {shown(own.mean.value, facts)}"
    said = [f"{mean} (95 %: {shown_interval(own.mean, facts)})."]
    if not against:
        return said
    by = {kind: [a for a in against if a.shown == kind] for kind in ("clear", "likely", "no")}
    if by["clear"]:
        worst = max(a.p_holm for a in by["clear"])
        said.append(
            f"Clearly behind, with p at most {worst:.2g} after Holm's correction: {listed([a.optimizer for a in by['clear']])}."
        )
    if by["likely"]:
        said.append(
            f"Likely behind, the interval of the difference excludes 0 but p stays above 0.05: "
            f"{listed([a.optimizer for a in by['likely']])}."
        )
    if by["no"]:
        said.append(f"No difference shown: {listed([a.optimizer for a in by['no']])}.")
    n = min(a.n for a in against)
    least = statistics.smallest_p(n) * len(against)
    if least >= 0.05:
        corrected = (
            f", {min(1.0, least):.2g} after correction over {len(against)} comparisons" if len(against) > 1 else ""
        )
        said.append(
            f"n too small for p < 0.05: the smallest p of {n} seed{'s' * (n != 1)} is {statistics.smallest_p(n):.4g}{corrected}; "
            f"{statistics.seeds_needed(len(against))} seeds could show it."
        )
    return said


def _range(summaries: dict[str, Summary]) -> str:
    times = [s.step_microseconds for s in summaries.values()]
    return f" (here from {min(times):.3g} to {max(times):.3g})" if len(times) > 1 else ""


def _tuning(best: Entry, own: Summary, mine: Sequence[Entry], facts: WorkloadFacts) -> str:
    """What was spent on finding the values, and what that gained over the defaults."""
    default = next((e for e in mine if e.optimizer == best.optimizer and e.track == "default"), None)
    gained = ""
    if default is not None and best.track != "default":
        paired = statistics.differences(statistics.judged(default, facts), statistics.judged(best, facts))
        gap = statistics.median_difference(paired) if len(paired) else None
        if gap is not None and gap.low > 0 and len(paired) >= statistics.FEWEST_SEEDS:
            gained = f"; tuning gained {gap.value:.3g} over its defaults (95 %: {gap.low:.3g} to {gap.high:.3g})"
        elif gap is not None:
            gained = "; no gain over its defaults was shown"
    if not best.trials:
        return "no tuning: nothing was searched" if best.track == "default" else f"nothing to search{gained}"
    needed = f", of which {own.trials_needed} typically suffice" if own.trials_needed else ""
    searched = f"{len(best.trials)} trials of {', '.join(best.space) or 'nothing'}{needed}"
    rate = next((e for e in mine if e.optimizer == best.optimizer and e.track == "rate"), None)
    width = statistics.rate_sensitivity(rate.trials, facts) if rate else None
    forgiving = f"; {_width(width)}" if width else ""
    return f"{searched}{gained}{forgiving}"


def _width(found: Sensitivity) -> str:
    if found.low == found.high:
        return "only one of the learning rates tried is good"
    at_least = "at least " if found.open_low or found.open_high else ""
    return f"good learning rates span {at_least}{found.decades:.1f} decades"


def _cheaper(own: Summary, alike: Sequence[Summary]) -> list[str]:
    lighter = [s for s in alike if s.state_bytes_per_parameter < own.state_bytes_per_parameter]
    faster = [
        s for s in alike if s.step_microseconds < 0.8 * own.step_microseconds
    ]  # less is within what a machine varies
    said = []
    if lighter:
        names = listed([f"{s.optimizer} ({s.state_bytes_per_parameter:g} bytes)" for s in lighter])
        said.append(f"less state, no difference shown: {names}")
    if faster:
        names = listed([f"{s.optimizer} ({s.step_microseconds:.3g} µs)" for s in faster])
        said.append(f"faster steps, no difference shown: {names}")
    return said


def _unsearched(track: Track, mine: Sequence[Entry], facts: WorkloadFacts) -> str:
    """The best of the default track, where another one decided."""
    plain = statistics.from_best([e for e in mine if e.track == "default"], facts)
    if track == "default" or not plain:
        return ""
    value = shown(statistics.median(list(statistics.judged(plain[0], facts).values())), facts)
    return f"Without any search: {plain[0].optimizer} with its defaults, median {measure(facts)} {value}."


def _warnings(own: Summary, entries: Sequence[Entry]) -> list[str]:
    said = []
    failed = own.n - round(own.succeeded.value * own.n)
    if failed:
        said.append(f"{own.optimizer} failed on {failed} of {own.n} seeds.")
    edges = {entry.optimizer: f"{entry.optimizer} ({', '.join(entry.edges)})" for entry in entries if entry.edges}
    if own.optimizer in edges:
        said.append(f"{edges.pop(own.optimizer)} lies at the edge of what was searched: a better value may lie beyond.")
    if edges:
        said.append(
            f"At the edge of what was searched, and perhaps better than it looks: {listed(list(edges.values()))}."
        )
    return said
