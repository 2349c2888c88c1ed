"""The picture of a plan shows what the plan says, and the committed one is that of today's plan."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import steepest
from steepest.language.chain import Chain
from steepest.plan.planner import plan
from tests.needed import require_module

require_module("matplotlib")
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(autouse=True)
def _shown_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    monkeypatch.delitem(sys.modules, "shown", raising=False)


def drawn(chain: Chain) -> str:
    import shown  # type: ignore[import-not-found]  # the documentation's own

    return str(shown.draw_plan(chain).svg)


def test_the_committed_picture_of_clip_and_lamb_is_current() -> None:
    """If it is not: ``(DOCS / "_static" / "plan.svg").write_text(drawn(chain))``, and look at it."""
    chain = steepest.chain(steepest.clip_by_global_norm(1.0), steepest.lamb(1e-3, weight_decay=0.01))
    assert (DOCS / "_static" / "plan.svg").read_text(encoding="utf-8") == drawn(chain)


@pytest.mark.parametrize(
    "chain",
    [
        steepest.adamw(1e-3),
        steepest.lamb(1e-3),
        steepest.adaptive_grad_clip() | steepest.sgd(0.1, momentum=0.9),
        steepest.clip_by_global_norm(1.0) | steepest.lars(0.1) | steepest.lookahead(),
    ],
    ids=str,
)
def test_the_bytes_of_its_passes_are_those_of_the_plan(chain: Chain) -> None:
    texts = [e.text or "" for e in ElementTree.fromstring(drawn(chain)).iter("{http://www.w3.org/2000/svg}text")]
    program = plan(chain).program(plan(chain).usual)
    assert sum(int(t.split()[0]) for t in texts if re.fullmatch(r"\d+ bytes", t)) == program.bytes_per_parameter()
    assert texts.count("waits") == len(program.passes) - 1
