"""Every claim by name, and which of them a quick run takes. A table: no claim enters itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

from steepest.checks import unknown_name
from steepest.workbench.reproduce import (
    batches,
    clipping,
    exact_adaptive,
    exact_descent,
    frequencies,
    networks,
    robustness,
)
from steepest.workbench.reproduce.claim import Claim
from steepest.workbench.words import counted

__all__ = ["CLAIMS", "EXACT", "LONGEST", "QUICK", "announcement", "chosen", "find", "listing"]

FAMILIES = (exact_descent, exact_adaptive, robustness, clipping, batches, frequencies, networks)
CLAIMS: dict[str, Claim] = {claim.name: claim for family in FAMILIES for claim in family.CLAIMS}

LONGEST = 180.0
"""Seconds on one core up to which a claim belongs to the quick ones."""
EXACT = tuple(name for name, claim in CLAIMS.items() if claim.exact)
QUICK = tuple(name for name, claim in CLAIMS.items() if claim.seconds <= LONGEST)
"""Ten minutes on two cores, at most."""


def find(names: Sequence[str]) -> list[Claim]:
    """The claims of these names, each once. Raises ValueError for an unknown one, with the nearest known."""
    for name in names:
        if name not in CLAIMS:
            raise ValueError(unknown_name("reproduce", "claim", name, CLAIMS))
    return [CLAIMS[name] for name in dict.fromkeys(names)]


def chosen(names: Sequence[str], *, everything: bool = False, quick: bool = False) -> list[str]:
    """The names given, those of all claims or of the quick ones; refuses an unknown name."""
    return list(CLAIMS if everything else QUICK if quick else (claim.name for claim in find(names)))


def listing() -> str:
    """A line for each claim: its name, how long it takes on one core, its title."""
    width = max(map(len, CLAIMS))
    return "\n".join(f"{c.name:{width}}  {c.seconds:4.0f} s  {c.title}" for c in CLAIMS.values())


def announcement(names: Sequence[str]) -> str:
    """What is said before a run: how many claims, and how long they take."""
    seconds = sum(claim.seconds for claim in find(names))
    return f"{counted(len(names), 'claim')}, about {counted(math.ceil(seconds / 60), 'minute')} of one core"
