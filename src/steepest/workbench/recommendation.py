"""What to use for this work, how sure that is and what it costs: plain words that follow from the numbers.

Optimizers are compared on one track, the one with the most tuning that all have run, so that each had the same budget. The best is
the one with the lowest median cost on the test part; another one is behind only where the paired difference shows it after
the correction for the number of comparisons (`outcomes.Against`), and alike only where no difference is possible that counts.
All others are undecided, or likely behind. What holds over several workloads is said in `steepest.workbench.ranking`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steepest.workbench import outcomes, statistics
from steepest.workbench.outcomes import Against, Sensitivity, Summary
from steepest.workbench.ranking import said_overall, verdict_track
from steepest.workbench.results import TRACKS, Entry, Result, Track, WorkloadFacts
from steepest.workbench.words import (
    TRACK_NAMES,
    TRACK_WORDS,
    counted,
    listed,
    measure,
    shown,
    shown_interval,
)  # fmt: skip

__all__ = ["Recommendation", "Verdict", "recommend"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer for one workload.

    Attributes
    ----------
    optimizer, track, python : what to use; empty where every run failed.
    answer : one sentence to act on.
    sure : how sure it is.
    costs : what it costs: step time, memory, tuning, and what is cheaper among those that are alike or undecided.
    unsearched : what to use where nothing can be searched; empty where nothing was.
    alike, undecided, likely, behind : the others: no difference to the best that counts is possible; one is, but was not shown;
        shown each for itself, but not with all comparisons taken together; shown, or failed.
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
    alike: tuple[str, ...]
    undecided: tuple[str, ...]
    likely: tuple[str, ...]
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
    return Recommendation(said_overall(result), verdicts, tuple(unfinished))


def _verdict(result: Result, facts: WorkloadFacts) -> Verdict:
    track = verdict_track(result, facts.name)
    mine = [e for e in result.entries if e.workload == facts.name and e.runs]
    entries = outcomes.from_best([e for e in mine if e.track == track], facts)
    summaries = {e.optimizer: s for e in entries if (s := outcomes.summary(e, facts))}
    if not entries or math.isinf(summaries[entries[0].optimizer].median):
        said = _failures(entries) if entries else "No optimizer has been judged yet."
        failed = tuple(e.optimizer for e in entries)
        return Verdict(
            facts.name, "", track, "", f"Nothing to recommend for {facts.name}. {said}", (), (),
            _unsearched(track, mine, facts), (), (), (), failed, (), (), (),
        )  # fmt: skip
    best = entries[0]
    usual = next((e for e in mine if e.optimizer == best.optimizer and e.track == "default" != track), None)
    against = tuple(outcomes.against_best(entries, facts))
    own = summaries[best.optimizer]
    others = _sorted(against, own, summaries, facts)
    costs = (
        *_timed(own, summaries),
        f"{best.state_bytes_per_parameter:g} bytes of state for each parameter",
        _tuning(best, usual, own, mine, facts),
        *_cheaper(own, [summaries[name] for name in others.alike], "alike"),
        *_cheaper(own, [summaries[name] for name in others.undecided], "undecided"),
    )
    if against or usual is None:
        answer, unsearched = _answer(facts, best, own, others, against), _unsearched(track, mine, facts)
    else:
        answer, unsearched = _gained(facts, usual, best), ""
    return Verdict(
        facts.name, best.optimizer, track, best.python, answer, tuple(_sure(own, others, against, summaries, facts)), costs,
        unsearched, others.alike, others.undecided, others.likely, (*others.clear, *others.failed), against,
        tuple(_warnings(own, entries, mine)), best.fixed,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Others:
    """The names of all but the best, each in one place; ``margin`` is the difference that counts."""

    margin: float
    alike: tuple[str, ...]
    undecided: tuple[str, ...]
    likely: tuple[str, ...]
    clear: tuple[str, ...]
    failed: tuple[str, ...]


def _sorted(
    against: Sequence[Against], own: Summary, summaries: Mapping[str, Summary], facts: WorkloadFacts
) -> _Others:
    """One whose median run fails is behind a best that never failed; with few seeds only if it failed on all."""
    margin = outcomes.tolerance(own.median, facts)
    reliable = own.succeeded.value == 1
    kinds: dict[str, list[str]] = {"alike": [], "undecided": [], "likely": [], "clear": [], "failed": []}
    for one in against:
        other = summaries[one.optimizer]
        enough = reliable and one.n >= statistics.FEWEST_SEEDS
        if other.succeeded.value == 0 or (enough and math.isinf(other.median)):
            kind = "failed"
        elif one.shown == "no":
            kind = "alike" if one.alike(margin) else "undecided"
        else:
            kind = one.shown
        kinds[kind].append(one.optimizer)
    return _Others(margin, **{kind: tuple(names) for kind, names in kinds.items()})


def _failures(entries: Sequence[Entry]) -> str:
    """How many runs failed, and of the first one why."""
    runs = [(entry.optimizer, run) for entry in entries for run in entry.runs]
    failed = [(name, run) for name, run in runs if run.failed]
    said = "At least half of the runs of every optimizer failed."
    if len(failed) == len(runs):
        said = f"All {len(runs)} runs failed." if len(runs) > 1 else "The only run failed."
    if not failed:
        return said
    name, run = failed[0]
    why = " ".join(run.failed.split())
    return f"{said} The first, {name} with seed {run.seed}: {why}{'' if why.endswith('.') else '.'}"


def _gained(facts: WorkloadFacts, usual: Entry, best: Entry) -> str:
    """What searching has brought an optimizer that is compared with its own defaults alone."""
    before, after = (shown(statistics.median(list(outcomes.judged(e, facts).values())), facts) for e in (usual, best))
    name = f"{best.optimizer} on {facts.name}"
    said = f"{name}: median {measure(facts)} {before} with its defaults -> {after} {TRACK_WORDS[best.track]}."
    gap = outcomes.paired_against(usual, best, facts)
    if gap is None or gap.n < statistics.FEWEST_SEEDS:
        return (
            f"{said} {counted(gap.n if gap else 0, 'seed').capitalize()} can't tell whether that is more than chance."
        )
    by = f"on the same seeds (by {_difference(gap)})"
    if gap.shown == "no":
        margin = _margin(best, facts)
        if gap.alike(margin):
            return f"{said} Alike within {margin:.2g} {by}: the defaults will do."
        return f"{said} No difference shown {by}: undecided."
    better = gap.difference.value > 0
    word = "better" if better else "worse"
    likely = "" if gap.shown == "clear" else "likely "
    return f"{said} {f'{likely}{word}'.capitalize()} {by}: {'use what was found' if better else 'keep the defaults'}."


def _margin(entry: Entry, facts: WorkloadFacts) -> float:
    """The difference that counts beside an entry's median."""
    return outcomes.tolerance(statistics.median(list(outcomes.judged(entry, facts).values())), facts)


def _difference(found: Against) -> str:
    gap = found.difference
    return f"{gap.value:.3g}, {statistics.kind_of(found.n)}: {gap.low:.3g} to {gap.high:.3g}"


def _answer(facts: WorkloadFacts, best: Entry, own: Summary, others: _Others, against: Sequence[Against]) -> str:
    name = f"{best.optimizer} ({TRACK_NAMES[best.track]})"
    where = f"median {measure(facts)} {shown(own.median, facts)}"
    if not against:
        return f"Only one optimizer ran on {facts.name}, {name}: {where}, and nothing to compare it with."
    if max(a.n for a in against) < statistics.FEWEST_SEEDS:
        few = f"Too few seeds to tell optimizers apart on {facts.name}"
        return f"{few}. The best median is that of {name}: {where}; it may be chance."
    median = f"The best median is that of {name}: {where}"
    if others.undecided:
        return f"Undecided on {facts.name}. {median}; {listed(others.undecided)} may be as good."
    if others.alike and not (others.likely or others.clear or others.failed):
        return f"All alike on {facts.name}, within {others.margin:.2g}: choose by cost. {median}."
    if others.alike:
        near = f"{listed(others.alike)} {'is' if len(others.alike) == 1 else 'are'} within {others.margin:.2g} of it"
        return f"Use {name} for {facts.name}: {where}. {near}: any of them will do."
    if not (others.likely or others.clear):
        return f"Use {name} for {facts.name}: {where}. It alone did not fail on half of the seeds or more."
    if not others.likely:
        return f"Use {name} for {facts.name}: {where}, better than every other optimizer here."
    shown_to = (*others.clear, *others.failed)
    surely = f"better than {listed(shown_to)} and " if shown_to else ""
    return f"Use {name} for {facts.name}: {where}, {surely}likely better than {listed(others.likely)}."


def _sure(
    own: Summary, others: _Others, against: Sequence[Against], summaries: Mapping[str, Summary], facts: WorkloadFacts
) -> list[str]:
    said = [_mean(own, facts)]
    if not against:
        return said
    found = {a.optimizer: a for a in against}
    if others.clear:
        worst = max(found[name].p_holm for name in others.clear)
        said.append(f"Clearly behind, with p at most {worst:.2g} after Holm's correction: {listed(others.clear)}.")
    if others.likely:
        several = " each for itself," if len(against) > 1 else ""
        said.append(
            f"Likely behind,{several} the interval of the difference excludes 0 but p stays above 0.05: {listed(others.likely)}."
        )
    if others.alike:
        said.append(f"Alike, at most {others.margin:.2g} to either side: {listed(others.alike)}.")
    if others.undecided:
        said.append(f"No difference shown: {listed([_possible(found[name]) for name in others.undecided])}.")
    failed = {name: s.n - round(s.succeeded.value * s.n) for name, s in summaries.items() if name in found}
    if any(failed.values()):
        each = [f"{name} on {n} of {counted(summaries[name].n, 'seed')}" for name, n in failed.items() if n]
        said.append(f"Failed: {listed(each)}.")
    n = min(a.n for a in against)
    least = statistics.smallest_p(n) * len(against)
    if least >= 0.05 and len(others.failed) < len(against):
        corrected = (
            f", {min(1.0, least):.2g} after correction over {len(against)} comparisons" if len(against) > 1 else ""
        )
        said.append(
            f"n too small for p < 0.05: the smallest p of {counted(n, 'seed')} is {statistics.smallest_p(n):.4g}{corrected}; "
            f"{statistics.seeds_needed(len(against))} seeds could show it."
        )
    return said


def _possible(found: Against) -> str:
    """A name, and how large a difference may be that was not shown; of few seeds nothing is known."""
    if found.n < statistics.FEWEST_SEEDS:
        return found.optimizer
    return (
        f"{found.optimizer} ({f'up to {found.possible:.2g}' if math.isfinite(found.possible) else 'up to a failure'})"
    )


def _mean(own: Summary, facts: WorkloadFacts) -> str:
    """The interquartile mean with its interval; that of one seed has none."""
    name = "Interquartile mean" if own.n > 3 else "Mean"  # of fewer nothing is left out
    if own.n == 1:
        return f"One seed: {shown(own.mean.value, facts)}."
    interval = f"{statistics.kind_of(own.n)}: {shown_interval(own.mean, facts)}"
    return f"{name} over {counted(own.n, 'seed')}: {shown(own.mean.value, facts)} ({interval})."


def _timed(own: Summary, summaries: Mapping[str, Summary]) -> list[str]:
    """The optimizer's share of a step; nothing where no step but the one that compiles was made."""
    times = [s.step_microseconds for s in summaries.values() if math.isfinite(s.step_microseconds)]
    if not math.isfinite(own.step_microseconds):
        return []
    here = f" (here from {min(times):.3g} to {max(times):.3g})" if len(times) > 1 else ""
    return [f"{own.step_microseconds:.3g} µs a step for the optimizer itself{here}"]


def _tuning(best: Entry, usual: Entry | None, own: Summary, mine: Sequence[Entry], facts: WorkloadFacts) -> str:
    """What was spent on finding the values, and what that gained over the defaults."""
    gained = ""
    gap = outcomes.paired_against(usual, best, facts) if usual is not None else None
    if gap is not None and gap.shown != "no" and gap.difference.value > 0:
        likely = "" if gap.shown == "clear" else "likely "
        gained = f"; tuning {likely}gained {gap.difference.value:.3g} over its defaults"
        gained += f" ({statistics.kind_of(gap.n)}: {gap.difference.low:.3g} to {gap.difference.high:.3g})"
    elif gap is not None:
        gained = "; no gain over its defaults was shown"
    if not best.trials:
        return "no tuning: nothing was searched" if best.track == "default" else f"nothing to search{gained}"
    suffice = "suffices" if own.trials_needed == 1 else "suffice"
    needed = f", of which {own.trials_needed} typically {suffice}" if own.trials_needed else ""
    early = (
        f" ({own.stopped_trials} fell behind and {'was' if own.stopped_trials == 1 else 'were'} stopped early)"
        if own.stopped_trials
        else ""
    )
    searched = f"{counted(len(best.trials), 'trial')} of {', '.join(best.space) or 'nothing'}{early}{needed}"
    rate = next((e for e in mine if e.optimizer == best.optimizer and e.track == "rate"), None)
    width = outcomes.rate_sensitivity(rate.trials, facts) if rate else None
    forgiving = f"; {_width(width)}" if width else ""
    return f"{searched}{gained}{forgiving}"


def _width(found: Sensitivity) -> str:
    if found.low == found.high:
        return "only one of the learning rates tried is good"
    at_least = "at least " if found.open_low or found.open_high else ""
    return f"good learning rates span {at_least}{found.decades:.1f} decades"


def _cheaper(own: Summary, others: Sequence[Summary], how: str) -> list[str]:
    """Which of some that are alike, or undecided, take less."""
    lighter = [s for s in others if s.state_bytes_per_parameter < own.state_bytes_per_parameter]
    faster = [
        s for s in others if s.step_microseconds < 0.8 * own.step_microseconds
    ]  # less is within what a machine varies
    said = []
    if lighter:
        names = listed([f"{s.optimizer} ({s.state_bytes_per_parameter:g} bytes)" for s in lighter])
        said.append(f"less state, {how}: {names}")
    if faster:
        names = listed([f"{s.optimizer} ({s.step_microseconds:.3g} µs)" for s in faster])
        said.append(f"faster steps, {how}: {names}")
    return said


def _unsearched(track: Track, mine: Sequence[Entry], facts: WorkloadFacts) -> str:
    """The best of the default track, where another one decided."""
    plain = outcomes.from_best([e for e in mine if e.track == "default"], facts)
    if track == "default" or not plain:
        return ""
    value = shown(statistics.median(list(outcomes.judged(plain[0], facts).values())), facts)
    if value == "failed":
        return ""
    return f"Without any search: {plain[0].optimizer} with its defaults, median {measure(facts)} {value}."


def _warnings(own: Summary, entries: Sequence[Entry], mine: Sequence[Entry]) -> list[str]:
    said = []
    most = max(len(e.runs) for e in mine)
    beyond = TRACKS[TRACKS.index(entries[0].track) + 1 :]
    for track in (t for t in beyond if any(e.track == t for e in mine)):
        whole = [e.optimizer for e in mine if e.track == track and len(e.runs) == most]
        there = f"only {listed(whole)}" if whole else "none"
        said.append(f"Not judged by the track «{TRACK_NAMES[track]}»: on it not all have finished, {there}.")
    failed = own.n - round(own.succeeded.value * own.n)
    if failed:
        said.append(f"{own.optimizer} failed on {failed} of {counted(own.n, 'seed')}.")
    edges = {entry.optimizer: f"{entry.optimizer} ({', '.join(entry.edges)})" for entry in entries if entry.edges}
    if own.optimizer in edges:
        said.append(f"{edges.pop(own.optimizer)} lies at the edge of what was searched: a better value may lie beyond.")
    if edges:
        said.append(
            f"At the edge of what was searched, and perhaps better than it looks: {listed(list(edges.values()))}."
        )
    return said
