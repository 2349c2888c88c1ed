"""Finding a learning rate: what is known beforehand is found, what can't be known is said, a live model stays as it was."""

from __future__ import annotations

import copy
import itertools
import math
import os
import random
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import steepest
import steepest.torch as opt
from steepest.schedules import cosine
from steepest.workbench import lr_find
from steepest.workbench.lr_find import Found, GridTest, RangeTest, grid_test, page, range_test, run, summary
from steepest.workbench.lr_page import headline
from steepest.workbench.lr_results import near_best
from steepest.workbench.lr_sweep import suggestions
from steepest.workbench.results import Trial
from steepest.workbench.workload import ArrayTask, Workload, find
from tests.browser import assert_loads_nothing
from tests.needed import require_program

CURVATURES = np.array([4.0, 1.0, 0.25])
LIMIT = 2 / CURVATURES.max()


def quadratic(seed: int) -> ArrayTask:
    """½ Σ h x²: gradient descent is stable below 2/h for the largest h."""
    x = np.random.default_rng(seed).normal(size=3)

    def loss_and_gradients(step: int) -> tuple[float, dict[str, np.ndarray]]:
        return float(0.5 * (CURVATURES * x**2).sum()), {"x": CURVATURES * x}

    return ArrayTask({"x": x}, loss_and_gradients, lambda part: {"loss": loss_and_gradients(0)[0]})


BOWL = Workload("bowl", quadratic, 200, failed=1e3)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The networks are so small that a second thread would only wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# ---- what is known beforehand


def test_a_quadratics_stability_limit_lies_between_the_last_rate_that_works_and_the_first_that_fails() -> None:
    found = grid_test(BOWL, "sgd", steps=200, seeds=2)
    works = [float(t.values["lr"]) for t in found.trials if t.cost < 1]
    fails = [float(t.values["lr"]) for t in found.trials if math.isinf(t.cost)]
    assert max(works) < LIMIT < min(fails)
    assert max(works) * math.sqrt(10) == pytest.approx(min(fails))
    assert found.best is not None and found.best < LIMIT and not found.at_edge


def test_a_range_test_of_a_quadratic_ends_soon_after_the_stability_limit_and_suggests_less() -> None:
    found = range_test(BOWL, "sgd", steps=400)
    lowest = found.rates[int(np.argmin(found.smoothed))]
    assert LIMIT < lowest < found.rates[-1] < 10 * LIMIT
    assert found.stopped.startswith(f"after {len(found.rates)} updates: the smoothed loss ")
    assert found.steepest is not None and found.tenth == pytest.approx(lowest / 10)
    assert 0.01 * LIMIT < found.steepest < LIMIT


def test_each_loss_stands_beside_the_rate_of_the_update_that_led_to_it() -> None:
    found = range_test(BOWL, "sgd", steps=50, start=1e-3, end=0.1, seed=3)
    assert len(found.rates) == 49 and found.stopped == ""
    assert found.rates[0] == 1e-3 and found.rates[-1] == pytest.approx(0.1)
    ratios = [b / a for a, b in itertools.pairwise(found.rates)]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))
    task = quadratic(3)
    assert found.initial == task.gradients(0)[0]
    for rate, loss in zip(found.rates, found.losses, strict=True):
        task.params["x"][...] -= rate * task.gradients(0)[1]["x"]
        assert loss == pytest.approx(task.gradients(0)[0])
    average = 0.0
    for count, (loss, shown) in enumerate(zip(found.losses, found.smoothed, strict=True), 1):
        average = found.smoothing * average + (1 - found.smoothing) * loss
        assert shown == pytest.approx(average / (1 - found.smoothing**count))


@pytest.mark.parametrize("text", ["sgd", "adam"])
def test_on_digits_both_suggestions_are_within_a_factor_of_ten_of_the_grids_best(text: str) -> None:
    found = run("digits-mlp", text, steps=100, seeds=2)
    assert found.grid is not None and found.grid.best is not None and not found.grid.at_edge
    assert found.range.steepest is not None and found.range.tenth is not None
    for suggested in (found.range.steepest, found.range.tenth):
        assert 0.1 <= suggested / found.grid.best <= 10


def test_a_schedule_of_the_rate_is_replaced_in_the_range_test_and_kept_in_the_grid_test() -> None:
    plain, scheduled = (range_test(BOWL, text, steps=60) for text in ("sgd", "sgd(cosine(lr, steps))"))
    assert plain.losses == scheduled.losses
    costs = [grid_test(BOWL, text, steps=20, seeds=1).trials[0].cost for text in ("sgd", "sgd(cosine(lr, steps))")]
    assert costs[0] != costs[1]


def test_links_keep_their_proportions_and_one_that_says_its_own_rate_keeps_it() -> None:
    def made(lr: float) -> steepest.Chain:
        return steepest.chain(
            steepest.scale_by_learning_rate(3 * lr), steepest.scale_by_learning_rate(7.0), steepest.descend(1.0)
        )

    found = range_test(BOWL, made, steps=20, start=1e-3, end=1e-2)
    assert found.optimizer == "scale_by_learning_rate > scale_by_learning_rate > descend"
    task = quadratic(1_000)
    for rate, loss in zip(found.rates, found.losses, strict=True):
        task.params["x"][...] -= 3 * rate * 7.0 * task.gradients(0)[1]["x"]
        assert loss == pytest.approx(task.gradients(0)[0])


# ---- when it stops, what it suggests, what it says


def test_a_loss_that_is_not_finite_ends_the_test_and_suggests_nothing_beyond() -> None:
    def start(seed: int) -> ArrayTask:
        x = np.ones(1)

        def loss_and_gradients(step: int) -> tuple[float, dict[str, np.ndarray]]:
            return (math.nan if step == 30 else float(x[0] ** 2)), {"x": 2 * x}

        return ArrayTask({"x": x}, loss_and_gradients, lambda part: {"loss": 0.0})

    found = range_test(Workload("broken", start, 10), "sgd", steps=100)
    assert found.stopped == "after 30 updates: the loss is nan"
    assert len(found.losses) == 30 and math.isinf(found.losses[-1])


def test_a_chain_that_refuses_gradients_that_are_not_finite_ends_the_test() -> None:
    def start(seed: int) -> ArrayTask:
        x = np.ones(1)
        return ArrayTask({"x": x}, lambda step: (1.0, {"x": x * (math.nan if step == 5 else 1)}), lambda part: {})

    found = range_test(Workload("broken", start, 10), "clip_by_global_norm(1, 2, 'error') | sgd", steps=20)
    assert found.stopped.startswith("after 5 updates: ") and len(found.losses) == 5


def test_a_negative_loss_ends_the_test_by_the_same_distance() -> None:
    values = iter([-1.0] * 12 + [4.9, 8.0])

    def start(seed: int) -> ArrayTask:
        x = np.ones(1)
        return ArrayTask({"x": x}, lambda step: (next(values), {"x": x}), lambda part: {})

    found = range_test(Workload("negative", start, 10), "sgd", steps=14)
    assert found.smoothing == 0.5 and len(found.losses) == 13
    assert found.stopped.startswith("after 13 updates: the smoothed loss 4.98 is more than 4 times the lowest, -1")


def test_where_the_loss_never_falls_nothing_is_suggested(rng: np.random.Generator) -> None:
    rates = [10**-i for i in range(100, 0, -1)]
    flat = (1 + 0.1 * rng.normal(size=100)).tolist()
    assert suggestions(rates, flat, flat, 0.0) == (None, None)
    assert suggestions(rates[:3], [1.0, 0.5, 0.2], [1.0, 0.5, 0.2], 0.0) == (None, None)
    rising = [float(i) for i in range(100)]
    assert suggestions(rates, rising, rising, 0.8) == (None, None)
    found = range_test(BOWL, "sgd", steps=50, start=1e-9, end=1e-8)
    assert (found.tenth is None) == (found.steepest is None)


def test_the_interval_is_the_unbroken_row_around_the_best_within_five_per_cent() -> None:
    def trials(*costs: float) -> list[Trial]:
        return [Trial({"lr": float(10**i)}, (cost,)) for i, cost in enumerate(costs)]

    assert near_best(trials(1.0, 2.0, 1.04, 1.0, 1.05, 1.06)) == (1.0, 1.0, 1.0)
    assert near_best(trials(2.0, 1.04, 1.0, 1.05, 1.06, 1.0)) == (100.0, 10.0, 1000.0)
    assert near_best(trials(-0.9, -0.96, -1.0, -0.94)) == (100.0, 10.0, 100.0)
    assert near_best(trials(math.inf, math.inf)) == (None, None, None)


def test_a_grid_widens_while_its_edge_wins_and_downwards_where_all_fail() -> None:
    def bowl(best: float) -> Callable[[int], ArrayTask]:
        def start(seed: int) -> ArrayTask:
            x = np.zeros(1)
            moved = lambda part: {"loss": abs(math.log10(max(-x[0], 1e-300) / (best * 10)))}  # noqa: E731
            return ArrayTask({"x": x}, lambda step: (1.0, {"x": np.ones(1)}), moved)

        return start

    found = grid_test(Workload("far", bowl(30.0), 10), "sgd", steps=10, seeds=1)  # from 0.3
    assert found.best == pytest.approx(30.0) and len(found.trials) == 8 and not found.at_edge
    found = grid_test(Workload("farther", bowl(1e9), 10), "sgd", steps=10, seeds=1)
    assert found.best == pytest.approx(3000.0) and found.at_edge
    found = grid_test(Workload("hopeless", bowl(1.0), 10, failed=-1.0), "sgd", steps=10, seeds=1)
    assert found.best is None and found.at_edge and len(found.trials) == 11
    assert "none: every rate failed" in summary(Found(range_test(BOWL, "sgd", steps=20), found))


def test_processes_give_what_one_gives_and_write_what_is_returned(tmp_path: Path) -> None:
    found = run("digits-mlp", "sgd", steps=10, seeds=2, jobs=2, output=tmp_path / "out")
    assert found == run("digits-mlp", "sgd", steps=10, seeds=2, jobs=1)
    assert Found.from_json((tmp_path / "out" / "lr-find.json").read_text(encoding="utf-8")) == found
    assert "<title>steepest lr-find</title>" in (tmp_path / "out" / "lr-find.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def both() -> Found:
    return Found(range_test(BOWL, "sgd", steps=100), grid_test(BOWL, "sgd", steps=50, seeds=3))


def test_progress_counts_the_range_test_as_one_run_and_grows_with_the_grid() -> None:
    told: list[tuple[int, int, str]] = []
    found = run("quadratics", "sgd", steps=10, seeds=2, progress=lambda *one: told.append(one))
    assert found.grid is not None
    swept = [one for one in told if one[0] == 0]
    assert swept[0] == (0, 11, "range test, step 1 of 10") and 1 < len(swept) <= 10
    tried = told[len(swept) :]
    assert [done for done, _, _ in tried] == list(range(2, 2 + 2 * len(found.grid.trials)))
    assert (tried[0][1:], tried[-1][1]) == ((11, "grid of rates"), 1 + 2 * len(found.grid.trials))


def test_the_last_line_and_the_page_say_what_to_use(both: Found) -> None:
    grid = both.grid
    assert grid is not None
    said = [
        headline(both), headline(replace(both, grid=replace(grid, at_edge=True))),
        headline(replace(both, grid=replace(grid, best=None))), headline(replace(both, grid=None)),
        headline(replace(both, grid=None, range=replace(both.range, steepest=None))),
    ]  # fmt: skip
    assert said == [
        f"Use a learning rate of {grid.best:.2g}.",
        f"Begin with a learning rate of {grid.best:.2g}: the grid ended there, and a better one may lie beyond.",
        "No learning rate to recommend: every rate failed.",
        f"Try a learning rate of {both.range.steepest:.2g}; one run can't tell more than its order of magnitude.",
        "No learning rate to recommend: the loss never fell clearly below its start.",
    ]
    assert summary(both).endswith(f"\n\n{said[0]}") and f"<p><b>{said[0]}</b></p>" in page(both)


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_in_a_users_workload_names_its_line_in_the_grid_too(tmp_path: Path, jobs: int) -> None:
    file = tmp_path / "their_work.py"
    file.write_text(
        "import numpy as np\nfrom steepest.workbench import ArrayTask, workload\n\n"
        "@workload(steps=10, metric='gap')\ndef bowl(seed):\n    x = np.ones(2)\n"
        "    def slope(step):\n        if seed == 1001:\n            raise RuntimeError('out of milk')\n"
        "        return float(x @ x), {'x': x.copy()}\n"
        "    return ArrayTask({'x': x}, slope, lambda part: {'gap': float(x @ x)})\n"
    )
    with pytest.raises(ValueError, match="milk") as caught:
        run(f"{file}:bowl", "sgd", steps=10, seeds=2, jobs=jobs)
    assert str(caught.value) == f"workload {file}:bowl: their_work.py:9: RuntimeError: out of milk"


def test_results_survive_json(both: Found) -> None:
    assert Found.from_json(both.to_json()) == both
    assert Found.from_json(replace(both, grid=None).to_json()) == replace(both, grid=None)
    assert both.grid is not None
    assert RangeTest.from_json(both.range.to_json()) == both.range
    assert GridTest.from_json(both.grid.to_json()) == both.grid
    for text, said in (
        ("{", "these aren't results"),
        ('{"format": 2}', "the format of the results must be 1, got 2."),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            Found.from_json(text)


def test_the_weakness_stands_in_the_result_the_summary_and_the_page(both: Found) -> None:
    assert both.grid is not None
    assert "mixes" in both.range.weakness or "all smaller rates before it" in both.range.weakness
    assert "longer budgets" in both.range.weakness and "adaptive methods" in both.range.weakness
    assert "Runs of 50 steps say which rate is best for 50 steps" in both.grid.weakness
    for weakness in (both.range.weakness, both.grid.weakness):
        assert weakness in " ".join(summary(both).split())
        assert weakness in page(both)


def test_the_summary_names_rates_interval_and_end(both: Found) -> None:
    assert both.grid is not None
    said = summary(both)
    assert said.startswith("sgd on bowl\n")
    assert f"best rate        {both.grid.best:.2g}" in said
    assert f"steepest descent {both.range.steepest:.2g}" in said
    assert f"minimum / 10     {both.range.tenth:.2g}" in said
    assert f"ended {both.range.stopped}" in " ".join(said.split())
    assert max(map(len, said.splitlines())) <= 80
    wide = replace(both, grid=replace(both.grid, low=0.1, high=0.3))
    assert "within 5 %       0.1 to 0.3" in summary(wide)
    nothing = replace(both, grid=None, range=replace(both.range, steepest=None, tenth=None))
    assert summary(nothing).count("none: the loss never fell clearly below its start") == 2


def test_the_page_needs_no_network_and_escapes_what_a_user_wrote(both: Found) -> None:
    evil = page(replace(both, range=replace(both.range, optimizer="<b>x</b>", subject="a & b", stopped="<i>")))
    assert (
        "<b>x</b>" not in evil and "&lt;b&gt;x&lt;/b&gt;" in evil and "a &amp; b" in evil and "Ended &lt;i&gt;" in evil
    )
    assert_loads_nothing(evil)


def test_the_page_is_drawn_by_a_browser_without_an_error(both: Found, tmp_path: Path) -> None:
    browser = require_program("chromium")
    (tmp_path / "page.html").write_text(page(both), encoding="utf-8")
    picture = tmp_path / "page.png"
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1100,1500", "--virtual-time-budget=5000",
        "--enable-logging=stderr", f"--screenshot={picture}", (tmp_path / "page.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    console = re.findall(r"(\w+):CONSOLE.*", done.stderr)
    assert console and set(console) == {"INFO"}, done.stderr
    assert picture.stat().st_size > 40_000  # without its plots the page has about 25 kB


# ---- a live model


class Net(nn.Module):
    """Dropout, batch norm with its buffers, a part that is frozen in its own mode, a buffer that is exchanged in a step."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1))
        self.frozen = nn.BatchNorm1d(6)
        self.register_buffer("seen", torch.zeros(()), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = self.seen + 1
        return self.body(self.frozen(x))


def chain_of_all() -> steepest.Chain:
    return steepest.chain(
        steepest.clip_by_global_norm(1.0),
        steepest.lars(cosine(0.5, 50, warmup=5), weight_decay=0.01),
        steepest.measure(size=lambda update: steepest.norm(update, per="model")),
        steepest.ema(0.9),
    )


def groups_of(model: Net, low: Any, high: Any) -> list[dict[str, Any]]:
    return [
        {"params": list(model.body[0].parameters()), "lr": low},
        {"params": [*model.body[1].parameters(), *model.body[4].parameters()], "lr": high},
    ]


OPTIMIZERS: dict[str, Callable[[Net], torch.optim.Optimizer]] = {
    "torch SGD": lambda m: torch.optim.SGD(groups_of(m, 0.01, 0.1), momentum=0.9),
    "torch Adam": lambda m: torch.optim.Adam(groups_of(m, 0.001, 0.01), amsgrad=True),
    "torch AdamW with tensors": lambda m: torch.optim.AdamW(
        groups_of(m, torch.tensor(0.001), torch.tensor(0.01)), lr=torch.tensor(0.001), foreach=False
    ),
    "torch LBFGS": lambda m: torch.optim.LBFGS(m.parameters(), lr=0.1, max_iter=3),
    "SGD": lambda m: opt.SGD(groups_of(m, 0.01, 0.1), momentum=0.9),
    "AdamW": lambda m: opt.AdamW(groups_of(m, torch.tensor(0.001), torch.tensor(0.01))),
    "Lookahead": lambda m: opt.Lookahead(opt.SGD(groups_of(m, 0.01, 0.1)), k=3),
    "a chain with a schedule": lambda m: opt.Optimizer(m.named_parameters(), chain_of_all()),
}


class Session:
    """A user's training: a model, an optimizer, a plain loop."""

    def __init__(self, make: Callable[[Net], torch.optim.Optimizer]) -> None:
        torch.manual_seed(0)
        self.model = Net()
        self.model.frozen.eval()
        self.model.body[4].bias.requires_grad_(True)
        self.optimizer = make(self.model)

    def loss(self, step: int) -> torch.Tensor:
        x = torch.randn(8, 6) + float(np.random.normal()) + random.random()
        return ((self.model(x) - x[:, :1].sin()) ** 2).mean()

    def train(self, steps: int) -> None:
        torch.manual_seed(steps)
        np.random.seed(steps)
        random.seed(steps)
        for step in range(steps):
            self.optimizer.zero_grad()

            def closure(step: int = step) -> torch.Tensor:
                loss = self.loss(step)
                loss.backward()
                return loss

            self.optimizer.step(closure)

    def everything(self) -> dict[str, Any]:
        """Copies of all that must stay."""
        model, optimizer = self.model, self.optimizer
        return copy.deepcopy(
            {
                "parameters": {n: p.detach() for n, p in model.named_parameters()},
                "buffers": dict(model.named_buffers()),
                "gradients": {n: p.grad for n, p in model.named_parameters()},
                "asking": {n: p.requires_grad for n, p in model.named_parameters()},
                "modes": {n: m.training for n, m in model.named_modules()},
                "state": optimizer.state_dict(),
                "steps": getattr(optimizer, "steps", 0),
                "measured": getattr(optimizer, "measured", {}),
                "numbers": {n: v for n, v in vars(optimizer).items() if n == "_opt_called"},
                "torch": torch.get_rng_state(),
                "numpy": list(np.random.get_state()),
                "python": random.getstate(),
            }
        )


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """The same types and bits."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_same(one, other, f"{where}/{i}")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and a.shape == b.shape, where
        assert a.contiguous().view(-1).numpy().tobytes() == b.contiguous().view(-1).numpy().tobytes(), where
    elif isinstance(a, np.ndarray):
        assert a.tobytes() == b.tobytes(), where
    else:
        assert a == b, where


@pytest.mark.parametrize("trained", [0, 4], ids=["before the first step", "after some steps"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_live_model_and_its_optimizer_stay_as_they_were_and_go_on_so(name: str, trained: int) -> None:
    session, twin = Session(OPTIMIZERS[name]), Session(OPTIMIZERS[name])
    session.train(trained)
    twin.train(trained)
    before = session.everything()
    objects = [
        *((p, p.grad) for p in session.model.parameters()),
        *(list(g.values()) for g in session.optimizer.param_groups),
        list(session.model.buffers()),
        [session.optimizer.param_groups, *session.optimizer.param_groups],
    ]
    found = lr_find(session.model, session.optimizer, session.loss, steps=30, seeds=1)
    assert len(found.range.losses) > 5 and found.grid is not None and len(found.grid.trials) >= 5
    assert_same(session.everything(), before)
    after = [
        *((p, p.grad) for p in session.model.parameters()),
        *(list(g.values()) for g in session.optimizer.param_groups),
        list(session.model.buffers()),
        [session.optimizer.param_groups, *session.optimizer.param_groups],
    ]
    for row, now in zip(objects, after, strict=True):
        assert all(a is b for a, b in zip(row, now, strict=True))
    session.train(5)
    twin.train(5)
    assert_same(session.everything(), twin.everything())


def test_scheduler_and_released_gradients_go_on_as_if_nothing_had_been() -> None:
    def make(model: Net) -> opt.SGD:
        return opt.SGD(groups_of(model, 0.01, 0.1), momentum=0.9)

    session, twin = Session(make), Session(make)
    for one in (session, twin):
        scheduler = torch.optim.lr_scheduler.StepLR(one.optimizer, 2)
        with opt.release_gradients(one.optimizer):
            one.train(3)
            scheduler.step()
            if one is session:
                before = one.everything()
                lr_find(one.model, one.optimizer, one.loss, steps=20)
                assert_same(one.everything(), before)
            one.train(3)
            scheduler.step()
    assert_same(session.everything(), twin.everything())


class StumbleError(Exception):
    pass


@pytest.mark.parametrize("name", ["torch Adam", "SGD", "a chain with a schedule"])
@pytest.mark.parametrize("error", [StumbleError, KeyboardInterrupt])
def test_an_error_of_the_users_leaves_everything_as_it_was(name: str, error: type[BaseException]) -> None:
    session = Session(OPTIMIZERS[name])
    session.train(2)
    before = session.everything()

    def loss(step: int) -> torch.Tensor:
        if step == 7:
            session.model.eval()
            session.model.body[0].weight.requires_grad_(False)
            raise error
        return session.loss(step)

    with pytest.raises(error):
        lr_find(session.model, session.optimizer, loss, steps=20, end=1e-3)
    assert_same(session.everything(), before)


def test_ctrl_c_while_a_step_runs_leaves_everything_as_it_was() -> None:
    session = Session(OPTIMIZERS["SGD"])
    session.train(2)
    before = session.everything()
    steps = 0

    def interrupt(*_: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 5:
            os.kill(os.getpid(), signal.SIGINT)

    handle = session.optimizer.register_step_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        lr_find(session.model, session.optimizer, session.loss, steps=20, end=1e-3)
    handle.remove()
    assert steps == 5
    assert_same(session.everything(), before)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_all_groups_rates_rise_by_the_same_factor_and_the_first_is_shown() -> None:
    session = Session(lambda m: torch.optim.SGD(groups_of(m, 0.02, 0.1)))
    seen: list[tuple[float, ...]] = []
    session.optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.append(tuple(g["lr"] for g in optimizer.param_groups))
    )
    found = lr_find(session.model, session.optimizer, session.loss, steps=12, start=1e-4, end=1e-2)
    assert found.range.scales == (1.0, pytest.approx(5.0))
    assert [rates[0] for rates in seen] == pytest.approx(found.range.rates)
    assert [rates[1] for rates in seen] == pytest.approx([5 * rate for rate in found.range.rates])
    assert "rates in the proportions 1, 5" in summary(found) and "in the proportions 1, 5." in page(found)
    resting = Session(lambda m: torch.optim.SGD(groups_of(m, 0.0, 0.1)))
    assert lr_find(resting.model, resting.optimizer, resting.loss, steps=12).range.scales == (0.0, 1.0)


def test_a_live_quadratics_limit_is_bracketed_and_divergence_ends_the_run_early() -> None:
    class Bowl(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = nn.Parameter(torch.ones(3, dtype=torch.float64))

    model = Bowl()
    calls: list[int] = []

    def loss(step: int) -> torch.Tensor:
        calls.append(step)
        return 0.5 * (torch.tensor(CURVATURES) * model.x**2).sum()

    optimizer = opt.SGD(model.parameters(), lr=0.1)
    found = lr_find(model, optimizer, loss, steps=300)
    assert calls == list(range(len(found.range.losses) + 1)) and len(calls) < 290
    assert LIMIT < found.range.rates[-1] < 10 * LIMIT
    assert found.range.subject == "Bowl" and found.range.optimizer == "SGD" and found.grid is None
    found = lr_find(model, optimizer, loss, steps=60, seeds=2)
    assert found.grid is not None and found.grid.best is not None and found.grid.seeds == (1_000, 1_001)
    assert found.grid.best < LIMIT < max(float(t.values["lr"]) for t in found.grid.trials)
    assert "nothing here was measured on data kept apart" in found.grid.weakness
    assert set(calls[-60:]) <= set(range(60, 120))  # the second seed's batches follow the first's


# ---- mistakes


def raises(error: type[Exception], message: str) -> Any:
    return pytest.raises(error, match=f"^{re.escape(message)}")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 9}, "steps must be a whole number >= 10, got 9."),
        ({"start": 0.0}, "start must be > 0, got 0.0."),
        ({"end": math.inf}, "end must be a finite number > 0, got inf."),
        ({"start": 1.0, "end": 1.0}, "start must be < end, got start=1 and end=1."),
        ({"start": 2.0, "end": 1.0}, "start must be < end, got start=2 and end=1."),
    ],
)
def test_a_value_out_of_range_is_named_before_anything_runs(given: dict[str, Any], message: str) -> None:
    with raises(ValueError, f"range_test: {message}"):
        range_test(BOWL, "sgd", **given)
    session = Session(OPTIMIZERS["torch SGD"])
    with raises(ValueError, f"lr_find: {message}"):
        lr_find(session.model, session.optimizer, session.loss, **given)


def test_an_unknown_name_a_chain_without_a_rate_and_one_with_its_own_are_refused(tmp_path: Path) -> None:
    with raises(ValueError, "workload: unknown name 'digits-mpl'. Did you mean 'digits-mlp'?"):
        run("digits-mpl", "sgd")
    with raises(ValueError, "character 1 of 'sgdd': unknown rule or recipe 'sgdd'. Did you mean 'sgd'?"):
        run("digits-mlp", "sgdd")
    (tmp_path / "file").write_text("")
    with raises(ValueError, f"output must be a writable folder, got {str(tmp_path / 'file' / 'x')!r}: "):
        run("digits-mlp", "sgd", output=tmp_path / "file" / "x")
    with raises(ValueError, "grid_test: jobs must be 1 for a chain or a workload"):
        grid_test(BOWL, "sgd", jobs=2)
    for test, name in ((range_test, "range_test"), (grid_test, "grid_test")):
        for text in ("adam(lr=0.01)", "sgd(0.1)"):
            with raises(
                ValueError,
                f"{name}: the learning rate must be open, but {text} sets it. Remove it, or write lr instead of it.",
            ):
                test(BOWL, text)
        with raises(ValueError, f"{name}: the learning rate must be open, but <lambda> sets it."):
            test(BOWL, lambda lr: steepest.sgd(0.1))
        with raises(ValueError, f"{name}: the chain must have a learning rate (lr), got clip_by_norm(1)."):
            test(BOWL, "clip_by_norm(1)")
    assert find("digits-mlp").name == "digits-mlp"


def losses(model: Net) -> Iterator[tuple[Any, type[Exception], str]]:
    x = torch.ones(4, 6)
    step = "lr_find: the loss of step 0"
    yield (
        lambda _: model(x),
        ValueError,
        f"{step} must be one real number, got a tensor of shape [4, 1] and torch.float32.",
    )
    yield lambda _: 1.0, TypeError, f"{step} must be a tensor that has backward(), got float."
    yield lambda _: model(x).mean().detach(), ValueError, f"{step} must depend on a parameter."
    yield (
        lambda _: model(x).mean() * math.nan,
        ValueError,
        "lr_find: the loss before any update must be a finite number, got nan.",
    )


def test_a_loss_that_is_not_one_number_is_refused_and_nothing_has_changed() -> None:
    session = Session(OPTIMIZERS["SGD"])
    for loss, error, message in losses(session.model):
        before = session.everything()
        with raises(error, message):
            lr_find(session.model, session.optimizer, loss)
        assert_same(session.everything(), before)


def test_what_is_no_model_or_optimizer_or_has_no_rate_is_refused() -> None:
    model = nn.Linear(2, 1)

    def loss(step: int) -> torch.Tensor:
        return model(torch.ones(2)).mean()

    with raises(TypeError, "lr_find: optimizer must be a torch.optim.Optimizer, got Chain."):
        lr_find(model, steepest.sgd(0.1), loss)  # type: ignore[arg-type]  # on purpose
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with raises(TypeError, "lr_find: model must be a torch.nn.Module, got int."):
        lr_find(1, sgd, loss)  # type: ignore[arg-type]  # on purpose
    sgd.param_groups[0]["lr"] = 0.0
    with raises(ValueError, "lr_find: lr must be > 0 in at least one group, got 0 in all."):
        lr_find(model, sgd, loss)
    without = torch.optim.Optimizer(model.parameters(), {"eta": 0.1})
    with raises(ValueError, "lr_find: every group must have an lr, but param_groups[0] of Optimizer has none."):
        lr_find(model, without, loss)
