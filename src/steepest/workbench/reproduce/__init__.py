"""Published claims about optimizers, each small enough to try out, with a verdict that is computed from what was measured.

``python -m steepest.workbench.reproduce --quick`` runs those that fit into ten minutes. Every claim goes through this library's
own optimizers; what a page says of the papers is a direction, never their figures.
"""

from steepest.workbench.reproduce.catalogue import CLAIMS, EXACT, QUICK, announcement, chosen, listing
from steepest.workbench.reproduce.claim import Claim, Condition, Outcome, Paper, judge
from steepest.workbench.reproduce.report import line, markdown
from steepest.workbench.reproduce.run import from_json, run_claims, to_json, updated

__all__ = [
    "CLAIMS", "EXACT", "QUICK", "Claim", "Condition", "Outcome", "Paper", "announcement", "chosen", "from_json", "judge", "line",
    "listing", "markdown", "run_claims", "to_json", "updated",
]  # fmt: skip
