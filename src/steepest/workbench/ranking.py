"""What a comparison says over all of its workloads: on which track each is judged, profiles, speed-ups, the ranking in words.

`steepest.workbench.overall` computes; here it is said which entries take part. Over fewer than four workloads nothing is ranked;
over more, an optimizer is behind only where other seeds would hardly change that (`overall.behind_first`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steepest.workbench import outcomes, overall, statistics
from steepest.workbench.overall import FEWEST_WORKLOADS, Profiles, SpeedUp
from steepest.workbench.results import TRACKS, Entry, Result, Track, WorkloadFacts
from steepest.workbench.words import listed

__all__ = ["profiles", "said_overall", "speed_ups", "verdict_track"]


def verdict_track(result: Result, workload: str) -> Track:
    """The track that decides: the one that most optimizers have runs on, of several the one with the most runs of each.

    So it is the one with the most tuning, unless a comparison was interrupted there: who alone came that far is not compared with
    the others, nor are all with fewer seeds than they have on another track.
    """

    def complete(track: Track) -> tuple[int, int, int]:
        held = [len(e.runs) for e in result.entries if e.workload == workload and e.track == track and e.runs]
        return len(held), min(held, default=0), TRACKS.index(track)

    found = max(TRACKS, key=complete)
    return found if complete(found)[0] else "default"


def profiles(result: Result) -> tuple[str, Profiles | None]:
    """What the profiles are of (steps to the target where every workload has one, else the final loss or error), and they.

    An optimizer takes part if it ran on every workload, a workload if nothing is below 0 there: of that there are no ratios.
    """
    of, measures, _ = _measures(result)
    return of, overall.performance_profiles(_medians(measures))


def _measures(result: Result) -> tuple[str, dict[str, list[dict[int, float]]], list[str]]:
    """What profiles are of, for each optimizer the measures by workload and seed, and the workloads that were left out."""
    by_targets = all(facts.target is not None for facts in result.workloads)
    measures: dict[str, list[dict[int, float]]] = {}
    left_out = []
    for facts in result.workloads:
        track = verdict_track(result, facts.name)
        entries = [e for e in result.entries if e.workload == facts.name and e.track == track and e.runs]
        own = {e.optimizer: _measured(e, facts, by_targets) for e in entries}
        if any(value < 0 for by_seed in own.values() for value in by_seed.values()):
            left_out.append(facts.name)
            continue
        for name, by_seed in own.items():
            measures.setdefault(name, []).append(by_seed)
    count = len(result.workloads) - len(left_out)
    complete = {name: by_workload for name, by_workload in measures.items() if len(by_workload) == count}
    return "steps to the target" if by_targets else "final loss or error", complete, left_out


def _measured(entry: Entry, facts: WorkloadFacts, by_targets: bool) -> dict[int, float]:
    if by_targets and facts.target is not None:
        return outcomes.steps_to_target(entry, facts, facts.target)
    return {seed: 1 + cost if facts.higher_is_better else cost for seed, cost in outcomes.judged(entry, facts).items()}


def _medians(measures: Mapping[str, Sequence[Mapping[int, float]]]) -> dict[str, list[float]]:
    return {name: [statistics.median(list(one.values())) for one in rows] for name, rows in measures.items()}


def speed_ups(result: Result) -> tuple[str, tuple[SpeedUp, ...]]:
    """The reference, and by which factor the others reach the targets in fewer steps, on the workloads that have a target.

    An optimizer takes part if it ran on all of them.
    """
    aimed = [(facts, facts.target) for facts in result.workloads if facts.target is not None]
    steps: dict[str, list[dict[int, float]]] = {}
    for facts, target in aimed:
        track = verdict_track(result, facts.name)
        for entry in (e for e in result.entries if e.workload == facts.name and e.track == track and e.runs):
            steps.setdefault(entry.optimizer, []).append(outcomes.steps_to_target(entry, facts, target))
    complete = {name: by_workload for name, by_workload in steps.items() if len(by_workload) == len(aimed)}
    return overall.speed_ups(complete, [facts.steps for facts, _ in aimed])


def said_overall(result: Result) -> str:
    """The ranking in words; empty where there is nothing to rank."""
    count = len(result.workloads)
    if count < FEWEST_WORKLOADS:
        if count == 1:
            return ""
        return f"{count} workloads are too few for a ranking over them (four are the least): one answer for each."
    of, measures, left_out = _measures(result)
    found = overall.performance_profiles(_medians(measures))
    without = f" {listed(left_out)}, where a {of} is below 0" if left_out else ""
    if found is None:
        why = f"too few are left without{without}" if without else "no optimizer has run on all of them"
        return f"No ranking over the {count} workloads: {why}."
    if len(measures) == 1:
        return ""
    ranked = sorted(found.areas, key=lambda name: -found.areas[name])
    top = ranked[0]
    gaps = overall.behind_first({name: measures[name] for name in ranked})
    if not gaps:
        few = f"fewer than {statistics.FEWEST_SEEDS} seeds"
        return f"No ranking over the {count} workloads: on one at least all optimizers have {few} in common."
    over = f"Over {count - len(left_out)} workloads" + (f" (without{without})" if without else "")
    behind = [name for name in ranked if name in gaps and gaps[name].low > 0]
    level = [name for name in ranked if name in gaps and name not in behind]
    if not behind:
        return f"{over} no optimizer is shown to be ahead; the highest profile is that of {top} ({found.areas[top]:.2f} of 1)."
    said = f"{over} {top} comes closest to the best (profile {found.areas[top]:.2f} of 1)"
    if level:
        said += f", no difference shown to {listed(level)}"
    return f"{said}. Behind: {listed([f'{name} ({found.areas[name]:.2f})' for name in behind])}."
