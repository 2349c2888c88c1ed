"""`Monitor`: what it sends to its outputs, what it notices, and that training goes on whatever happens to it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import steepest as s
import steepest.numpy as opt
import steepest.torch
from steepest.monitor.records import Event, Facts, Record, Run


class Kept:
    """An output that keeps what it is sent, and raises where it is told to."""

    def __init__(self, fails: str = "", path: Path | None = None) -> None:
        self.fails, self.path = fails, path
        self.facts: list[Facts] = []
        self.records: list[Record] = []
        self.events: list[Event] = []
        self.closed = 0

    def _maybe_fail(self, where: str) -> None:
        if self.fails == where:
            raise OSError(28, "No space left on device")

    def start(self, facts: Facts) -> None:
        self._maybe_fail("start")
        self.facts.append(facts)

    def record(self, record: Record) -> None:
        self._maybe_fail("record")
        self.records.append(record)

    def event(self, event: Event) -> None:
        self._maybe_fail("event")
        self.events.append(event)

    def close(self) -> None:
        self.closed += 1
        self._maybe_fail("close")

    @property
    def run(self) -> Run:
        return Run.of(self.facts[0], self.records, self.events)


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


def train(
    model: Any, optimizer: Any, monitor: Any, steps: int, spoil: dict[int, Any] | None = None
) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    losses = []
    for number in range(1, steps + 1):
        x = torch.randn(16, 4, generator=generator)
        loss = (model(x) - x.sum(1, keepdim=True)).pow(2).mean()
        loss.backward()
        (spoil or {}).get(number, lambda: None)()
        optimizer.step()
        optimizer.zero_grad()
        monitor(loss, examples=number * 16)
        losses.append(loss.detach())
    return losses


def test_records_come_at_every_kth_step_with_all_losses_since() -> None:
    model, kept = network(), Kept()
    optimizer = steepest.torch.AdamW(model.parameters(), lr=0.01)
    with s.Monitor(optimizer, model, every=4, to=kept, folder=None, notes={"batch_size": 16}) as monitor:
        losses = train(model, optimizer, monitor, 10)
    run = kept.run
    assert run.steps.tolist() == [4, 8, 10]
    np.testing.assert_allclose(run.losses, torch.stack(losses).numpy())
    assert run.loss_calls.tolist() == list(range(1, 11))
    assert run.names == ("0.weight", "0.bias", "2.weight", "2.bias")
    assert run.scalars["examples"][:2].tolist() == [64, 128]
    assert run.scalars["lr"][:2].tolist() == [0.01, 0.01]
    assert (run.scalars["optimizer_seconds"][:2] < run.scalars["step_seconds"][:2]).all()
    assert run.facts.notes == {"batch_size": 16}
    assert (run.facts.framework, run.facts.optimizer, run.facts.every) == ("torch", "AdamW", 4)
    assert run.facts.chains == ("scale_by_adam > add_decayed_weights > descend",)
    assert run.facts.states == {"exp_avg": "float32", "exp_avg_sq": "float32"}
    assert "where steps % 4 == 0" in run.facts.plan
    assert kept.closed == 1


def test_what_is_recorded_is_what_torch_says_of_the_same_step() -> None:
    model, kept = network(), Kept()
    optimizer = steepest.torch.Optimizer(model.parameters(), s.chain(s.clip_by_global_norm(0.5), s.sgd(0.1)))
    monitor = s.Monitor(optimizer, model, every=3, to=[kept], folder=None)
    norms: list[list[float]] = []
    ratios: list[list[float]] = []

    def look() -> None:
        norms.append([float(p.grad.norm()) for p in model.parameters()])  # type: ignore[union-attr]  # after backward
        ratios.append([float(p.detach().norm()) for p in model.parameters()])

    train(model, optimizer, monitor, 3, {3: look})
    run = kept.run
    np.testing.assert_allclose(run.tensors["grad_norm"][0], norms[0], rtol=1e-5)
    np.testing.assert_allclose(run.tensors["weight_norm"][0], ratios[0], rtol=1e-5)
    total = math.hypot(*norms[0])
    assert run.scalars["grad_norm"][0] == pytest.approx(total, rel=1e-6)
    factor = min(1.0, 0.5 / (total + 1e-6))
    np.testing.assert_allclose(run.tensors["update_norm"][0], 0.1 * factor * np.array(norms[0]), rtol=1e-4)
    np.testing.assert_allclose(run.tensors["effective_lr"][0], 4 * [0.1 * factor], rtol=1e-4)
    assert run.tensors["clipped"][0].tolist() == [float(factor < 1)] * 4


def test_after_close_the_optimizer_is_as_it_was() -> None:
    model = network()
    optimizer = steepest.torch.AdamW(model.parameters(), lr=0.01)
    before = str(optimizer.plan)
    monitor = s.Monitor(optimizer, every=2, folder=None)
    assert str(optimizer.plan) != before
    monitor.close()
    assert str(optimizer.plan) == before
    monitor(torch.tensor(1.0))  # a call too many is nobody's mistake
    s.Monitor(optimizer, every=2, folder=None).close()


def test_two_monitors_of_one_optimizer_are_refused() -> None:
    optimizer = steepest.torch.AdamW(network().parameters())
    monitor = s.Monitor(optimizer, folder=None)
    with pytest.raises(ValueError, match=r"already has a monitor\. Close it first: monitor\.close\(\)"):
        s.Monitor(optimizer, folder=None)
    monitor.close()


@pytest.mark.parametrize("where", ["start", "record", "event", "close"])
def test_an_output_that_fails_is_closed_with_one_warning_and_the_others_go_on(where: str) -> None:
    model, kept, broken = network(), Kept(), Kept(fails=where)
    optimizer = steepest.torch.SGD(model.parameters(), lr=0.01)
    with pytest.warns(
        RuntimeWarning, match=r"Monitor: Kept (failed and is|could not be) closed .*No space left"
    ) as said:
        monitor = s.Monitor(optimizer, model, every=2, to=[broken, kept], folder=None)
        monitor.event("note", "half way")
        monitor.event("note", "still here")
        train(model, optimizer, monitor, 6)
        monitor.close()
    assert len(said) == 1
    assert [r.step for r in kept.records] == [2, 4, 6]
    assert [e.message for e in kept.events] == ["half way", "still here"]
    assert broken.closed == 1


def test_a_loss_that_is_no_number_ends_monitoring_and_not_training() -> None:
    model, kept = network(), Kept()
    optimizer = steepest.torch.SGD(model.parameters(), lr=0.01)
    monitor = s.Monitor(optimizer, model, every=1, to=kept, folder=None)
    with pytest.warns(RuntimeWarning, match="Monitoring ends here; training goes on"):
        train(model, optimizer, lambda loss, **_: monitor("low"), 2)
    assert kept.closed == 1
    assert optimizer.steps == 2


def test_a_loss_is_recorded_as_it_was_at_the_call() -> None:
    model, kept = network(), Kept()
    optimizer = steepest.torch.SGD(model.parameters(), lr=0.01)
    loss = torch.ones((), requires_grad=True)
    with s.Monitor(optimizer, model, every=2, to=kept, folder=None) as monitor:
        for number in range(1, 5):
            with torch.no_grad():
                loss.fill_(number)
            for p in model.parameters():
                p.grad = torch.zeros_like(p)
            optimizer.step()
            monitor(loss)
    assert kept.run.losses.tolist() == [1, 2, 3, 4]


CHAINS = {"alone": s.adamw(0.01), "through a norm": s.chain(s.clip_by_global_norm(1.0), s.adamw(0.01))}


@pytest.mark.parametrize("name", CHAINS)
def test_a_gradient_that_is_not_finite_is_named_with_its_step(name: str) -> None:
    model, kept = network(), Kept()
    optimizer = steepest.torch.Optimizer(model.parameters(), CHAINS[name])

    def spoil() -> None:
        model[2].weight.grad[0, 3] = math.nan

    train(model, optimizer, s.Monitor(optimizer, model, every=5, to=kept, folder=None), 9, {7: spoil})
    first = kept.events[0]
    assert (first.step, first.kind, first.tensors) == (7, "nonfinite", ("2.weight",))
    assert len(kept.events) == 1


def test_a_parameter_that_is_not_finite_is_named_with_its_step() -> None:
    model, kept = network(), Kept()
    optimizer = steepest.torch.AdamW(model.parameters(), lr=0.01)
    monitor = s.Monitor(optimizer, model, every=5, to=kept, folder=None)
    train(model, optimizer, monitor, 6)
    with torch.no_grad():
        model[0].bias[2] = math.nan
    train(model, optimizer, monitor, 2)
    assert (kept.events[0].step, kept.events[0].tensors) == (6, ("0.bias",))
    assert kept.events[0].message == "not finite since step 6: parameter 0.bias"


def test_a_loss_that_is_not_finite_while_all_parameters_are_is_the_batchs() -> None:
    model, kept = network(), Kept()
    optimizer = steepest.torch.SGD(model.parameters(), lr=0.01)
    monitor = s.Monitor(optimizer, model, every=5, to=kept, folder=None)
    train(model, optimizer, monitor, 3)
    (model(torch.ones(2, 4)).sum() * math.nan).backward()
    optimizer.step()
    assert kept.events[0].step == 4
    assert kept.events[0].message.endswith("while all parameters were finite: the loss of this batch")


def test_a_step_that_a_guard_leaves_out_is_noted() -> None:
    model, kept = network(), Kept()
    chain = s.chain(s.clip_by_global_norm(1.0, on_nonfinite="skip"), s.sgd(0.01))
    optimizer = steepest.torch.Optimizer(model.parameters(), chain)

    def spoil() -> None:
        model[0].weight.grad[0, 0] = math.nan

    train(model, optimizer, s.Monitor(optimizer, model, every=2, to=kept, folder=None), 6, {3: spoil, 5: spoil})
    assert [(e.kind, e.step) for e in kept.events] == [
        ("nonfinite", 3), ("skipped", 3), ("nonfinite", 4), ("skipped", 4),
    ]  # fmt: skip
    assert optimizer.steps == 4
    assert [r.step for r in kept.records] == [2, 4]


def test_numpy_is_monitored_like_torch() -> None:
    rng = np.random.default_rng(0)
    params = {"a": rng.normal(size=5), "b": rng.normal(size=(2, 2))}
    optimizer, kept = opt.Optimizer(params, s.adam(0.1)), Kept()
    with s.Monitor(optimizer, every=2, to=kept, folder=None) as monitor:
        for number in range(5):
            grads = {n: 2 * p for n, p in params.items()}
            if number == 2:
                grads["a"][1] = math.nan
            optimizer.step(grads)
            monitor(sum(float(np.sum(p * p)) for p in params.values()))
    assert kept.run.names == ("a", "b")
    assert kept.run.steps.tolist() == [2, 4, 5]
    assert kept.run.facts.framework == "numpy"


def test_what_a_ready_chain_is_set_to_is_known_on_numpy_too() -> None:
    chain = s.chain(s.clip_by_global_norm(2.0), s.sgd(s.schedules.linear(0.1, 0.0, steps=4)))
    optimizer, kept = opt.Optimizer([np.ones(3)], chain), Kept()
    with s.Monitor(optimizer, every=1, to=kept, folder=None) as monitor:
        optimizer.step([np.ones(3)])
        monitor(1.0)
    assert kept.run.facts.groups[0]["max_norm"] == 2.0
    assert kept.run.facts.groups[0]["lr"] == "linear(0.1, final=0.0, steps=4)"


def test_a_scheduled_rate_is_recorded_as_the_step_used_it() -> None:
    optimizer, kept = opt.SGD([np.ones(3)], lr=s.schedules.linear(0.1, 0.0, steps=4)), Kept()
    with s.Monitor(optimizer, every=1, to=kept, folder=None) as monitor:
        for _ in range(3):
            optimizer.step([np.ones(3)])
            monitor(1.0)
    np.testing.assert_allclose(kept.run.scalars["lr"], [0.1, 0.075, 0.05])
    np.testing.assert_allclose(kept.run.tensors["effective_lr"][:, 0], [0.1, 0.075, 0.05], rtol=1e-6)


def test_the_folder_is_the_first_outputs() -> None:
    from steepest.monitor.output import folder_of

    assert folder_of("auto", [Kept(path=Path("runs/a.html"))]) == Path("runs/a")
    assert folder_of("here", [Kept(path=Path("runs/a.html"))]) == Path("here")
    assert folder_of(None, [Kept(path=Path("runs/a.html"))]) is None
    assert folder_of("auto", [Kept(path=Path("log"))]) == Path("log-run")


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"every": 0}, ValueError, "Monitor: every must be a whole number >= 1, got 0."),
        ({"to": [3]}, TypeError, "Monitor: to[0] must be an output, got 3. Pass Terminal(), TensorBoard(folder), Report(path) …."),
        ({"measurements": ["grad_nrom"]}, ValueError, "Monitor: unknown measurement 'grad_nrom'. Did you mean 'grad_norm'?"),
        ({"measurements": "clipped"}, ValueError, "Monitor: measurements has 'clipped', but no chain has a clip. Leave it out."),
    ],
)  # fmt: skip
def test_mistakes_are_said_at_once_and_change_nothing(
    given: dict[str, Any], kind: type[Exception], message: str
) -> None:
    optimizer = steepest.torch.AdamW(network().parameters())
    before = str(optimizer.plan)
    with pytest.raises(kind) as caught:
        s.Monitor(optimizer, **{"folder": None, **given})
    assert str(caught.value).startswith(message)
    assert str(optimizer.plan) == before


def test_torchs_own_optimizer_is_refused_with_the_cure() -> None:
    with pytest.raises(
        TypeError, match=r"optimizer must be one of .*, got torch\.optim\.adamw\.AdamW\. .* steepest\.torch\.AdamW for"
    ):
        s.Monitor(torch.optim.AdamW(network().parameters()), folder=None)


def test_outputs_are_closed_at_the_end_of_a_program_that_does_not() -> None:
    program = """
import numpy as np, steepest, steepest.numpy as opt
class Said:
    def start(self, facts): pass
    def record(self, record): pass
    def event(self, event): pass
    def close(self): print("closed")
w = np.ones(3)
optimizer = opt.Optimizer([w], steepest.sgd(0.1), engine="arrays")
monitor = steepest.Monitor(optimizer, every=1, to=Said(), folder=None)
optimizer.step([w.copy()]); monitor(1.0)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert ended.stdout == "closed\n"
    assert ended.stderr == ""


def test_two_monitors_in_one_second_have_a_folder_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monitors = [s.Monitor(opt.SGD([np.ones(2)], lr=0.1)) for _ in range(3)]
    folders = {monitor.folder for monitor in monitors}
    for monitor in monitors:
        monitor.close()
    assert len(folders) == 3 and None not in folders


def test_processes_that_cannot_agree_on_a_folder_must_be_given_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    optimizer = opt.SGD([np.ones(2)], lr=0.1)
    with pytest.raises(ValueError, match=r"^Monitor: folder must be given if there are several processes, got 'auto'"):
        s.Monitor(optimizer)
    assert optimizer.stepper.watch is None


def test_what_is_wrong_with_a_monitor_leaves_the_optimizer_as_it_was() -> None:
    optimizer = opt.SGD([np.ones(2)], lr=0.1)
    with pytest.raises(TypeError):
        s.Monitor(optimizer, folder=123)  # type: ignore[arg-type]  # on purpose
    s.Monitor(optimizer, folder=None).close()


def test_the_rate_that_is_recorded_is_the_one_that_the_step_used() -> None:
    model, kept = network(), Kept()
    optimizer = steepest.torch.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 4)
    with s.Monitor(optimizer, model, every=1, to=kept, folder=None) as monitor:
        for _ in range(4):
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
            scheduler.step()
            monitor(1.0)
    np.testing.assert_allclose(kept.run.scalars["lr"], [0.1, 0.075, 0.05, 0.025])
    np.testing.assert_allclose(kept.run.tensors["effective_lr"][:, 0], [0.1, 0.075, 0.05, 0.025], rtol=1e-5)


def test_a_ready_chain_has_its_rate_and_its_correction_too() -> None:
    found = []
    for make in (
        lambda w: opt.Optimizer(w, s.adam(s.schedules.linear(0.1, 0.0, steps=4))),
        lambda w: opt.Adam(w, lr=0.1),
    ):
        kept = Kept()
        optimizer = make([np.ones(3), np.ones(2)])
        with s.Monitor(optimizer, every=1, to=kept, folder=None) as monitor:
            for number in range(3):
                optimizer.step([np.ones(3), np.ones(2) if number else None])
                monitor(1.0)
        found.append(kept.run)
    np.testing.assert_allclose(found[0].scalars["lr"], [0.1, 0.075, 0.05])
    for run in found:
        np.testing.assert_allclose(run.tensors["spike"], [[1, np.nan], [1, 1], [1, 1]], rtol=1e-4)


def test_a_tensor_that_a_step_left_out_has_no_value_of_an_earlier_one() -> None:
    optimizer, kept = opt.SGD([np.ones(3), np.ones(2)], lr=0.1), Kept()
    with s.Monitor(optimizer, every=1, to=kept, folder=None) as monitor:
        for grads in ([np.ones(3), np.ones(2)], [np.ones(3), None], [None, None]):
            optimizer.step(grads)
            monitor(1.0)
    norms = [one.tensors.get("grad_norm", np.full(2, np.nan)) for one in kept.records]
    np.testing.assert_allclose(norms, np.sqrt([[3, 2], [3, np.nan], [np.nan, np.nan]]), rtol=1e-6)


def test_a_measurement_of_the_users_own_keeps_its_name_and_its_value() -> None:
    chain = s.chain(s.measure(grad_norm=lambda update: s.norm(update, per="model")), s.sgd(0.1))
    optimizer, kept = opt.Optimizer([np.ones(3), np.ones(1)], chain), Kept()
    with s.Monitor(optimizer, every=1, to=kept, folder=None) as monitor:
        optimizer.step([np.ones(3), np.ones(1)])
        monitor(1.0)
        assert optimizer.measured["grad_norm"] == 2.0
    np.testing.assert_allclose(kept.records[0].tensors["grad_norm"], np.sqrt([3, 1]), rtol=1e-6)
    assert kept.records[0].scalars["grad_norm"] == 2.0


def test_a_group_that_is_added_later_is_left_out_with_a_note() -> None:
    model, kept, late = network(), Kept(), torch.nn.Parameter(torch.ones(3))
    optimizer = steepest.torch.AdamW(model.parameters(), lr=0.01)
    monitor = s.Monitor(optimizer, model, every=2, to=kept, folder=None)
    train(model, optimizer, monitor, 2)
    optimizer.add_param_group({"params": [late]})
    late.grad = torch.ones(3)
    train(model, optimizer, monitor, 4)
    monitor.close()
    assert [r.step for r in kept.records] == [2, 4, 6]
    assert np.isfinite(kept.run.tensors["grad_norm"]).all()
    assert [e.message for e in kept.events] == [
        "parameters were added after the monitor was made, 1 of them: make a new Monitor to record them."
    ]


def test_a_checkpoint_that_is_loaded_after_the_monitor_was_made_goes_on_from_its_steps() -> None:
    first, kept = opt.SGD([np.ones(2)], lr=0.1), Kept()
    for _ in range(53):
        first.step([np.ones(2)])
    optimizer = opt.SGD([np.ones(2)], lr=0.1)
    with s.Monitor(optimizer, every=10, to=kept, folder=None) as monitor:
        optimizer.load_state_dict(first.state_dict())
        for _ in range(10):
            optimizer.step([np.ones(2)])
            monitor(1.0)
    assert [r.step for r in kept.records] == [60, 63]
    assert kept.records[0].scalars["step_seconds"] > 1e-5


def test_no_measurement_asked_for_is_none_taken() -> None:
    optimizer, kept = opt.SGD([np.ones(2)], lr=0.1), Kept()
    with s.Monitor(optimizer, every=1, to=kept, folder=None, measurements=()) as monitor:
        optimizer.step([np.ones(2)])
        monitor(1.0)
    assert (kept.records[0].tensors, kept.records[0].scalars["lr"]) == ({}, 0.1)


def test_a_metric_that_is_no_number_is_left_out_with_a_warning() -> None:
    optimizer, kept = opt.SGD([np.ones(2)], lr=0.1), Kept()
    with s.Monitor(optimizer, every=1, to=kept, folder=None) as monitor:
        optimizer.step([np.ones(2)])
        with pytest.warns(
            RuntimeWarning, match=r"^Monitor: metric 'phase' must be a number, got 'warmup'\. It is left out"
        ):
            monitor(1.0, phase="warmup", accuracy=0.5)
    assert kept.records[0].scalars["accuracy"] == 0.5 and "phase" not in kept.records[0].scalars


def test_a_loss_is_kept_as_it_was_when_it_was_given() -> None:
    optimizer, kept = opt.SGD([np.ones(2)], lr=0.1), Kept()
    losses = np.zeros(()), torch.zeros(())
    with s.Monitor(optimizer, every=10, to=kept, folder=None) as monitor:
        for loss in losses:
            for value in (1.0, 2.0):
                loss += value
                optimizer.step([np.ones(2)])
                monitor(loss)
    assert kept.run.losses.tolist() == [1.0, 3.0, 1.0, 3.0]


def test_an_error_in_training_is_noted_with_the_losses_up_to_it() -> None:
    optimizer, kept = opt.SGD([np.ones(2)], lr=0.1), Kept()
    with pytest.raises(KeyError), s.Monitor(optimizer, every=10, to=kept, folder=None) as monitor:
        for number in range(15):
            optimizer.step([np.ones(2)])
            monitor(float(number))
        raise KeyError("no such batch")
    assert [e.message for e in kept.events] == ["training ended by KeyError: 'no such batch'"]
    assert len(kept.run.losses) == 15


def test_a_program_that_ends_without_closing_its_monitor_says_so() -> None:
    kept = Kept()
    monitor = s.Monitor(opt.SGD([np.ones(2)], lr=0.1), to=kept, folder=None)
    monitor._at_exit()
    assert ([e.message for e in kept.events], kept.closed) == (["training ended without closing the monitor"], 1)


def test_a_forked_child_closes_no_output_of_its_parent(tmp_path: Path) -> None:
    code = (
        "import os, sys, numpy as np, steepest as s, steepest.numpy as opt\n"
        "o = opt.SGD([np.ones(2)], lr=0.1); m = s.Monitor(o, every=1, to=s.JsonLines('a.jsonl'), folder=None)\n"
        "o.step([np.ones(2)]); m(1.0)\n"
        "child = os.fork()\n"
        "if child == 0: sys.exit(0)\n"
        "os.waitpid(child, 0); o.step([np.ones(2)]); m(2.0); m.close()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [one["step"] for one in lines if one["type"] == "record"] == [1, 2]
    assert not any("without closing" in json.dumps(one) for one in lines)
