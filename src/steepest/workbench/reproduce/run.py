"""Claims run in processes of their own, and their outcomes as JSON."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import replace

from steepest.checks import Count, check_value
from steepest.workbench.processes import cores, interrupts_blocked, leave_interrupts_to_the_parent, one_thread
from steepest.workbench.reproduce.catalogue import CLAIMS, QUICK, find
from steepest.workbench.reproduce.claim import Claim, Outcome, judge

__all__ = ["FORMAT", "Results", "from_json", "run_claims", "to_json", "updated"]

Results = list[tuple[Claim, Outcome]]
FORMAT = 1
"""The version of the stored form; another one is refused."""


def run_claims(
    names: Sequence[str] = QUICK,
    jobs: int | None = None,
    progress: Callable[[Claim, Outcome], None] | None = None,
) -> Results:
    """Run claims, the longest first, and return their outcomes in the order of ``names``.

    Parameters
    ----------
    names : of claims; the quick ones.
    jobs : processes of one thread each, >= 1; None for one per core. With 1 everything runs in this process.
    progress : called with each claim as it finishes.

    Raises ValueError for an unknown name. A script that asks for more than one job calls this under
    ``if __name__ == "__main__":``, as always with processes that are started anew.

    >>> [(claim, outcome)] = run_claims(["sgdr-restarts"], jobs=1)
    >>> outcome.verdict
    'reproduced'
    """
    check_value("reproduce", "jobs", 1 if jobs is None else jobs, Count)
    claims = find(names)
    finished: dict[str, Outcome] = {}

    def done(name: str, outcome: Outcome) -> None:
        finished[name] = outcome
        if progress:
            progress(CLAIMS[name], outcome)

    longest_first = [claim.name for claim in sorted(claims, key=lambda claim: -claim.seconds)]
    with one_thread():
        if (jobs := jobs or cores()) == 1 or len(claims) == 1:
            for name in longest_first:
                done(name, _outcome(name))
        else:
            _in_processes(longest_first, jobs, done)
    return [(claim, finished[claim.name]) for claim in claims]


def _in_processes(names: Sequence[str], jobs: int, done: Callable[[str, Outcome], None]) -> None:
    others = multiprocessing.active_children()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(names)), spawn, leave_interrupts_to_the_parent) as pool:
        with interrupts_blocked():  # from the first moment of the children, which inherit it
            futures: dict[Future[Outcome], str] = {pool.submit(_outcome, name): name for name in names}
        try:
            for future in as_completed(futures):
                done(futures[future], future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():  # an unfinished claim would take long to wait for
                if child not in others:
                    child.terminate()
            raise


def _outcome(name: str) -> Outcome:
    try:
        return CLAIMS[name].run()
    except Exception as error:
        error.add_note(f"while the claim {name} was run")
        raise


def to_json(results: Iterable[tuple[Claim, Outcome]]) -> str:
    """Outcomes by the name of their claim; numbers that are not finite as Python's JSON writes them (Infinity, NaN)."""
    return json.dumps({"format": FORMAT, "outcomes": {c.name: o.to_json() for c, o in results}}, indent=1)


def from_json(text: str) -> Results:
    """What `to_json` gave. Raises ValueError for anything else, and for a claim that is not known any more."""
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise ValueError(
                f"the format of the outcomes must be {FORMAT}, got {data['format']!r}. Run the claims again with this version."
            )
        outcomes = {name: Outcome.from_json(one) for name, one in data["outcomes"].items()}
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"these aren't outcomes of claims: {error}.") from None
    return [(claim, outcomes[claim.name]) for claim in find(list(outcomes))]


def updated(stored: Results, measured: Results) -> Results:
    """Stored outcomes with those measured since in their place, in the order of `CLAIMS`.

    Every verdict is computed anew from its figures. Raises ValueError where conditions ask for a figure that is not stored.
    """
    outcomes = {claim.name: outcome for claim, outcome in (*stored, *measured)}
    results = []
    for name, claim in CLAIMS.items():
        if name not in outcomes:
            continue
        outcome = outcomes[name]
        for condition in claim.conditions:
            if condition.figure not in outcome.figures:
                raise ValueError(
                    f"reproduce: the stored figures of {name} lack {condition.figure!r}. Measure the claim again."
                )
        results.append((claim, replace(judge(outcome.figures, claim.conditions), seconds=outcome.seconds)))
    return results
