"""Probes against what is known of their problems, and that training does not notice them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn

import steepest as s
import steepest.numpy as opt
import steepest.torch as torch_opt
from steepest.monitor.probes import Activations, Histograms, NoiseScale, Probes, Sharpness, Subject
from steepest.monitor.probes.eigenvalue import largest_eigenvalue
from steepest.monitor.probes.histograms import LOWEST, histogram
from steepest.monitor.probes.stability import stability_of
from tests.monitor.guarded import together


def subject(optimizer: Any, model: Any = None) -> Subject:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    return Subject(optimizer, tuple(map(str, range(len(params)))), tuple(params), model)


def network(seed: int = 0, activation: Callable[[], nn.Module] = nn.Tanh) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), activation(), nn.Linear(8, 6), activation(), nn.Linear(6, 1))


def data(number: int = 0, count: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    own = torch.Generator().manual_seed(number)
    x = torch.randn(count, 4, generator=own)
    return x, x[:, :1] * x[:, 1:2] + 0.1 * torch.randn(count, 1, generator=own)


# ---- the protocol


class Recording:
    """A probe that writes down how it is called."""

    def __init__(self, name: str = "one", every: int = 2, fails: str = "") -> None:
        self.name, self.every, self.fails = name, every, fails
        self.calls: list[tuple[Any, ...]] = []

    def _called(self, *what: Any) -> None:
        self.calls.append(what)
        if what[0] == self.fails:
            raise RuntimeError("broken")

    def start(self, subject: Subject) -> None:
        self._called("start")

    def before(self, step: int) -> None:
        self._called("before", step)

    def measure(self, step: int) -> dict[str, Any]:
        self._called("measure", step)
        return {f"{self.name}_number": step, f"{self.name}_rows": np.array([step, math.nan])}

    def close(self) -> None:
        self._called("close")


def test_probes_are_called_before_and_after_the_steps_that_they_are_due_at() -> None:
    one = Recording()
    probes = Probes([one])
    probes.start(subject(opt.SGD([np.ones(2)], lr=0.1)), steps=1)
    probes.before(2)  # step 2 was left out by a guard
    probes.measure(2)
    probes.before(3)
    probes.measure(3)
    probes.before(4)
    probes.before(2)  # put back
    probes.measure(3)
    probes.close()
    expected = [("start",), ("before", 2), ("before", 2), ("measure", 2), ("before", 4), ("before", 2), ("close",)]
    assert one.calls == expected
    scalars, tensors = probes.taken()
    assert scalars == {"one_number": 2.0} and tensors["one_rows"].dtype == np.float32
    assert probes.taken() == ({}, {})


def test_a_probe_forgets_what_it_saw_of_a_batch_that_a_guard_leaves_out() -> None:
    optimizer, one = opt.SGD([np.ones(2)], lr=0.1), Recording(every=1)
    with s.Monitor(optimizer, every=5, folder=None, probes=[one]) as monitor:
        optimizer.step([np.ones(2)])
        monitor(1.0)
        monitor.event("spike", "loss 100; batch left out")
        monitor.event("note", "half way")
    assert [call for call in one.calls if call[0] == "before"] == [("before", 1), ("before", 2), ("before", 2)]


@pytest.mark.parametrize("fails", ["start", "before", "measure", "close"])
def test_a_probe_that_fails_is_closed_with_one_warning_and_the_others_go_on(fails: str) -> None:
    bad, good = Recording("bad", 1, fails), Recording("good", 1)
    probes = Probes([bad, good])
    with pytest.warns(
        RuntimeWarning, match=r"^Monitor: the probe 'bad' failed and is closed \(RuntimeError: broken\)\.$"
    ) as said:
        probes.start(subject(opt.SGD([np.ones(2)], lr=0.1)))
        for step in (1, 2):
            probes.measure(step)
            probes.before(step + 1)
        probes.close()
    assert len(said) == 1 and bad.calls[-1] == ("close",)
    assert [c for c in good.calls if c[0] == "measure"] == [("measure", 1), ("measure", 2)]


def test_what_is_no_probe_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"^probes\[0\] must be a probe, got 3\. Pass Sharpness\(…\), Activations\(…\) …\.$"
    ):
        Probes([3])  # type: ignore[list-item]  # on purpose
    with pytest.raises(
        ValueError, match=r"^probes must have different names, got 'one' twice\. Pass name=… to one of them\.$"
    ):
        Probes([Recording(), Recording()])


def every_probe(model: nn.Module) -> list[Any]:
    x, y = data(5)
    loss = lambda: nn.functional.mse_loss(model(x), y)  # noqa: E731  # it is three times the same
    return [
        Sharpness(loss, every=3), Activations(model, every=2), Histograms(every=2), NoiseScale(8, every=2),
        NoiseScale(8, every=3, loss_fn=loss, name="own"),
    ]  # fmt: skip


@pytest.mark.parametrize("make", [torch_opt.AdamW, torch_opt.SGD])
def test_training_does_not_notice_probes(make: Any) -> None:
    def train(probed: bool) -> tuple[list[torch.Tensor], torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))
        optimizer = make(model.parameters(), lr=0.01)
        probes = every_probe(model) if probed else []
        with s.Monitor(optimizer, model, every=2, folder=None, probes=probes) as monitor:
            for number in range(12):
                for part in range(2):
                    x, y = data(2 * number + part, 8)
                    loss = nn.functional.mse_loss(model(x), y) / 2
                    loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                monitor(loss)
            if probed:
                assert monitor.last is not None
                names = {"sharpness", "sharpness_edge", "activations_dead", "noise_scale", "own"}
                assert names <= {*monitor.last.scalars}
                assert {"histograms_weights", "histograms_gradients", "histograms_updates"} <= {*monitor.last.tensors}
        hooks = [len(m._forward_hooks) for m in model.modules()] + [
            len(p._backward_hooks or ()) for p in model.parameters()
        ]
        assert not any(hooks) and not optimizer._optimizer_step_post_hooks
        return [t.clone() for t in model.state_dict().values()], torch.get_rng_state()

    (plain, random), (probed, random_too) = train(False), train(True)
    assert all(torch.equal(a, b) for a, b in zip(plain, probed, strict=True)) and torch.equal(random, random_too)


class Drifting(nn.Module):
    """Gives its buffer's name to another tensor at each call, as many running statistics do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = self.seen + x.detach().mean() + 1
        return x


@pytest.mark.parametrize("given", [True, False], ids=["with the model", "without it"])
def test_extra_passes_leave_running_statistics_alone_also_where_nobody_gives_the_model(given: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), Drifting(), nn.Linear(8, 1))
    optimizer = torch_opt.SGD(model.parameters(), lr=0.1)
    x, y = data(3)
    loss = lambda: nn.functional.mse_loss(model(x), y)  # noqa: E731
    probes = [Sharpness(loss, every=1), NoiseScale(8, every=1, loss_fn=loss)]
    with s.Monitor(optimizer, model if given else None, every=1, folder=None, probes=probes) as monitor:
        loss().backward()
        optimizer.step()
        before = {name: (b, b.clone()) for name, b in model.named_buffers()}
        monitor(0.0)
        assert monitor.last is not None and {"sharpness", "noise_scale_noise"} <= {*monitor.last.scalars}
    for name, buffer in model.named_buffers():
        assert buffer is before[name][0] and torch.equal(buffer, before[name][1]), name
    assert not nn.modules.module._global_forward_pre_hooks


@pytest.mark.parametrize("others_first", [True, False])
def test_probes_do_not_see_each_others_passes(others_first: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(4)[:, :3])
        model[0].bias.copy_(torch.tensor([0.0, 0.0, 0.0, 1.0]))
    quiet, loud = torch.tensor([[1.0, 1.0, -1.0]]), torch.ones(1, 3)
    optimizer = torch_opt.SGD(model.parameters(), lr=0.0)
    probes: list[Any] = [Sharpness(lambda: model(loud).square().sum(), every=1), Activations(model, every=1)]
    with s.Monitor(optimizer, model, every=1, folder=None, probes=probes[:: 1 if others_first else -1]) as monitor:
        model(quiet).sum().backward()
        optimizer.step()
        monitor(0.0)
        assert monitor.last is not None and monitor.last.scalars["activations_dead"] == 0.25


def test_probes_see_the_passes_of_a_closure() -> None:
    model = network(activation=nn.ReLU)
    optimizer = torch_opt.SGD(model.parameters(), lr=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        for part in range(2):
            x, y = data(part, 8)
            (nn.functional.mse_loss(model(x), y) / 2).backward()
        return 0.0

    probes = [Activations(model, every=1), NoiseScale(8, every=1), Histograms(every=1)]
    with s.Monitor(optimizer, model, every=1, folder=None, probes=probes) as monitor:
        monitor(optimizer.step(closure))
        assert monitor.last is not None
        assert {"activations_dead", "noise_scale_noise"} <= {*monitor.last.scalars}
        assert np.isfinite(monitor.last.tensors["histograms_gradients"]).all()


def test_what_goes_wrong_in_a_hook_closes_its_probe_and_not_the_training() -> None:
    model = network(activation=nn.ReLU)
    optimizer = torch_opt.SGD(model.parameters(), lr=0.1)
    activations, noise, histograms = Activations(model, every=1), NoiseScale(8, every=1), Histograms(every=1)

    def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    activations._hook = lambda name, kind: broken  # type: ignore[assignment,method-assign]  # on purpose
    noise._see = histograms._see = broken  # type: ignore[assignment,method-assign]  # on purpose
    with s.Monitor(optimizer, model, every=1, folder=None, probes=[activations, noise, histograms]) as monitor:
        x, y = data()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
        with pytest.warns(
            RuntimeWarning, match=r"^Monitor: the probe '\w+' failed and is closed \(RuntimeError: broken\)\.$"
        ) as said:
            monitor(0.0)
    assert len(said) == 3 and not optimizer._optimizer_step_post_hooks


# ---- noise scale


def test_the_noise_scale_of_a_problem_with_known_noise() -> None:
    size, sigma = 20, 3.0
    w = nn.Parameter(torch.full((size,), 0.5, dtype=torch.float64))
    optimizer = torch_opt.SGD([w], lr=0.0)
    probe = NoiseScale(8, every=1, decay=0.998)
    probe.start(subject(optimizer))
    own = torch.Generator().manual_seed(0)
    for step in range(1, 3001):
        probe.before(step)
        for _ in range(4):
            x = sigma * torch.randn(8, size, generator=own, dtype=torch.float64)
            (((w - x).square().sum(1) / 2).mean() / 4).backward()
        torch.nn.utils.clip_grad_norm_([w], 1e-3)  # in place, as many do: the lengths are those before it
        optimizer.step()
        optimizer.zero_grad()
        values = probe.measure(step)
    true_signal, true_noise = size * 0.25, size * sigma**2
    assert values["noise_scale_signal"] == pytest.approx(true_signal, rel=0.1)
    assert values["noise_scale_noise"] == pytest.approx(true_noise, rel=0.02)
    assert values["noise_scale"] == pytest.approx(true_noise / true_signal, rel=0.1)


def test_summed_micro_batches_give_the_scale_of_averaged_ones() -> None:
    def scale(divided: float) -> float:
        model = network()
        optimizer = torch_opt.SGD(model.parameters(), lr=0.0)
        probe = NoiseScale(8, every=1)
        probe.start(subject(optimizer))
        for step in range(1, 20):
            probe.before(step)
            for part in range(3):
                x, y = data(3 * step + part, 8)
                (nn.functional.mse_loss(model(x), y) / divided).backward()
            optimizer.step()
            optimizer.zero_grad()
            values = probe.measure(step)
        return float(values["noise_scale"])

    assert scale(1.0) == pytest.approx(scale(3.0), rel=1e-4)


def test_the_same_lengths_by_hooks_by_batches_of_its_own_and_by_hand() -> None:
    model = network().double()
    optimizer = torch_opt.SGD(model.parameters(), lr=0.0)
    losses = [nn.functional.mse_loss(model(x.double()), y.double()) for x, y in (data(n, 8) for n in range(3))]
    grads = [
        torch.cat([g.flatten() for g in torch.autograd.grad(one, [*model.parameters()], retain_graph=True)])
        for one in losses
    ]
    by_hand = NoiseScale(8, every=1)
    by_hand.add([float(g @ g) for g in grads], float(sum(grads).square().sum()) / 9)  # type: ignore[union-attr]
    hooked = NoiseScale(8, every=1)
    hooked.start(subject(optimizer))
    hooked.before(1)
    for one in losses:
        (one / 3).backward(retain_graph=True)
    optimizer.step()
    drawn = (nn.functional.mse_loss(model(x.double()), y.double()) for x, y in (data(n, 8) for n in range(3)))
    own = NoiseScale(8, every=1, loss_fn=lambda: next(drawn), batches=3)
    own.start(subject(optimizer, model))
    expected = by_hand.measure(1)
    assert hooked.measure(1) == pytest.approx(expected) and own.measure(1) == pytest.approx(expected)


def _replica(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    _compare_with_one_process(rank)
    _fail_in_one(rank)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def _compare_with_one_process(rank: int) -> None:
    model = network().double()
    ddp = nn.parallel.DistributedDataParallel(model)
    optimizer = torch_opt.SGD(model.parameters(), lr=0.0)
    apart, alone = NoiseScale(8, every=1, replicas=True), NoiseScale(8, every=1)
    apart.start(subject(optimizer))
    apart.before(1)
    for number in range(2):
        x, y = data(2 * rank + number, 8)
        loss = nn.functional.mse_loss(ddp(x.double()), y.double()) / 2
        if number == 0:
            with ddp.no_sync():
                loss.backward()
        else:
            loss.backward()
    optimizer.step()
    found = apart.measure(1)
    copy = network().double()
    optimizer = torch_opt.SGD(copy.parameters(), lr=0.0)
    alone.start(subject(optimizer))
    alone.before(1)
    for number in range(4):
        x, y = data(number, 8)
        (nn.functional.mse_loss(copy(x.double()), y.double()) / 4).backward()
    optimizer.step()
    expected = alone.measure(1)
    assert {n: round(v, 9) for n, v in found.items()} == {n: round(v, 9) for n, v in expected.items()}, (
        found,
        expected,
    )


def _fail_in_one(rank: int) -> None:
    """Whoever fails is not waited for by the others: its probe is closed in all processes."""
    w = nn.Parameter(torch.ones(2))
    optimizer = torch_opt.SGD([w], lr=0.0)
    probe = NoiseScale(8, every=1, replicas=True)

    def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    if rank == 1:
        probe._see = broken  # type: ignore[method-assign]  # on purpose
    probe.start(subject(optimizer))
    probe.before(1)
    for _ in range(2):
        w.square().sum().backward()
    optimizer.step()
    message = "^broken$" if rank == 1 else r"^noise_scale: the probe of another process has failed\.$"
    with pytest.raises(RuntimeError, match=message):
        probe.measure(1)


def test_replicas_and_accumulation_together_see_what_one_process_sees(tmp_path: Path) -> None:
    together(_replica, str(tmp_path))


@pytest.mark.parametrize("replicas", [False, True])
def test_a_scaler_that_is_given_changes_nothing(replicas: bool) -> None:
    def lengths(scale: float) -> dict[str, Any]:
        model = network().double()
        optimizer = torch_opt.SGD(model.parameters(), lr=0.01)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=2, enabled=scale != 1.0)
        probe = NoiseScale(8, every=1, replicas=replicas, scaler=scaler)
        probe.start(subject(optimizer))
        for step in range(1, 7):
            probe.before(step)
            for part in range(2):
                x, y = data(2 * step + part, 8)
                scaler.scale(nn.functional.mse_loss(model(x.double()), y.double()) / 2).backward()
            scaler.step(optimizer)
            scaler.update()  # which doubles the scale twice
            optimizer.zero_grad()
            values = probe.measure(step)
        return dict(values)

    assert lengths(1024.0) == pytest.approx(lengths(1.0))


def test_a_scaler_that_is_not_given_is_noticed_where_two_kinds_of_gradients_are_compared() -> None:
    model = network()
    optimizer = torch_opt.SGD(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    probe = NoiseScale(8, every=1, replicas=True)
    probe.start(subject(optimizer))
    probe.before(1)
    for part in range(2):
        x, y = data(part, 8)
        scaler.scale(nn.functional.mse_loss(model(x), y) / 2).backward()
    scaler.step(optimizer)
    with pytest.raises(
        ValueError,
        match=r"^noise_scale: the step's gradients have length [\d.]+, those of the backward passes [\de+.]+\. A gradient "
        r"scaler or a clip has shortened them in between\. Pass scaler=…, and clip in the optimizer's chain\.$",
    ):
        probe.measure(1)


def test_a_single_gradient_per_step_is_said_to_show_no_noise() -> None:
    model = network()
    optimizer = torch_opt.SGD(model.parameters(), lr=0.1)
    probe = NoiseScale(8, every=1)
    probe.start(subject(optimizer))
    probe.before(1)
    x, y = data()
    nn.functional.mse_loss(model(x), y).backward()
    optimizer.step()
    message = (
        "noise_scale: two or more gradients must be seen at a step, got 1. Accumulate gradients, or pass loss_fn=…, which returns "
        "the loss of another batch."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        probe.measure(1)
    assert not any(p._backward_hooks for p in model.parameters())


# ---- sharpness


def test_the_sharpness_of_a_quadratic_is_its_largest_eigenvalue() -> None:
    eigenvalues = torch.tensor([-30.0, 0.1, 1.0, 5.0, 11.0, 12.5], dtype=torch.float64)
    turned, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    hessian = turned @ torch.diag(eigenvalues) @ turned.T
    a, b = nn.Parameter(torch.ones(2, dtype=torch.float64)), nn.Parameter(torch.ones(4, dtype=torch.float64))

    def loss() -> torch.Tensor:
        w = torch.cat([a, b])
        return w @ hessian @ w / 2

    optimizer = torch_opt.SGD([a, b], lr=0.1)
    probe = Sharpness(loss, tolerance=1e-8)
    probe.start(subject(optimizer))
    values = probe.measure(1)
    assert values["sharpness"] == pytest.approx(12.5, rel=1e-6)
    assert values["sharpness_edge"] == pytest.approx(0.1 * 12.5 / 2, rel=1e-6)
    assert a.grad is None
    again = probe.measure(2)
    assert again["sharpness_products"] == 1.0 < values["sharpness_products"]


def full_hessian(loss: Callable[[], torch.Tensor], params: list[nn.Parameter]) -> np.ndarray:
    grads = torch.cat([g.flatten() for g in torch.autograd.grad(loss(), params, create_graph=True)])
    rows = [torch.cat([r.flatten() for r in torch.autograd.grad(g, params, retain_graph=True)]) for g in grads]
    return torch.stack(rows).numpy()


def trained(make: Callable[[Any], Any], steps: int = 30) -> tuple[nn.Sequential, Any, Callable[[], torch.Tensor]]:
    model = network().double()
    optimizer = make(model.parameters())
    x, y = (t.double() for t in data(1, 64))
    loss = lambda: nn.functional.mse_loss(model(x), y)  # noqa: E731
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    return model, optimizer, loss


def test_the_sharpness_of_a_network_is_scipys() -> None:
    model, optimizer, loss = trained(lambda p: torch_opt.SGD(p, lr=0.05))
    matrix = full_hessian(loss, [*model.parameters()])
    expected = eigsh(LinearOperator(matrix.shape, lambda v: matrix @ v, dtype=np.float64), k=1, which="LA")[0][0]
    probe = Sharpness(loss, tolerance=1e-6)
    probe.start(subject(optimizer, model))
    assert probe.measure(30)["sharpness"] == pytest.approx(expected, rel=1e-8)
    rough = Sharpness(loss)
    rough.start(subject(optimizer, model))
    assert rough.measure(30)["sharpness"] == pytest.approx(expected, rel=1e-3)


PRECONDITIONED = {
    "adamw": (lambda p: torch_opt.AdamW(p, lr=0.01), 38.0),
    "adam, betas": (lambda p: torch_opt.Adam(p, lr=0.01, betas=(0.8, 0.9), eps=1e-3), 18.0),
    "amsgrad": (lambda p: torch_opt.Adam(p, lr=0.01, amsgrad=True), 38.0),
    "rmsprop": (lambda p: torch_opt.RMSprop(p, lr=0.01), 2.0),
    "rmsprop, momentum": (lambda p: torch_opt.RMSprop(p, lr=0.01, momentum=0.5), 3.0),
    "adagrad": (lambda p: torch_opt.Adagrad(p, lr=0.01), 2.0),
}


@pytest.mark.parametrize("name", PRECONDITIONED)
def test_the_preconditioned_sharpness_is_that_of_what_the_optimizer_divides_by(name: str) -> None:
    make, bound = PRECONDITIONED[name]
    model, optimizer, loss = trained(make)
    matrix = full_hessian(loss, params := [*model.parameters()])
    group = optimizer.param_groups[0]
    scales = []
    for p in params:
        state = optimizer.state[p]
        step = float(state["step"])
        if "betas" in group:
            beta1, beta2 = group["betas"]
            second = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
            scales.append((1 - beta1**step) * ((second / (1 - beta2**step)).sqrt() + group["eps"]))
        else:
            scales.append(state["square_avg" if "square_avg" in state else "sum"].sqrt() + group["eps"])
    scale = torch.cat([one.flatten() for one in scales]).numpy()
    expected = np.linalg.eigvals(matrix / scale[:, None]).real.max()
    probe = Sharpness(loss, tolerance=1e-6)
    probe.start(subject(optimizer, model))
    values = probe.measure(30)
    assert values["sharpness_preconditioned"] == pytest.approx(expected, rel=1e-6)
    assert values["sharpness_edge"] == pytest.approx(0.01 * expected / bound, rel=1e-6)


@pytest.mark.parametrize(
    ("values", "bound"),
    [({}, 2.0), ({"momentum": 0.9}, 3.8), ({"momentum": 0.9, "dampening": 0.5}, 7.6),
     ({"momentum": 0.9, "nesterov": True}, 3.8 / 2.8)],
)  # fmt: skip
@pytest.mark.parametrize("share", [0.98, 1.02])
def test_steps_diverge_just_beyond_the_bound_and_not_before(values: dict[str, Any], bound: float, share: float) -> None:
    w = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = torch_opt.SGD([w], lr=share * bound / 4.0, **values)
    probe = Sharpness(lambda: 2.0 * w.square().sum())
    probe.start(subject(optimizer))
    for _ in range(600):
        optimizer.zero_grad()
        (2.0 * w.square().sum()).backward()
        optimizer.step()
    assert (abs(w.item()) > 1) == (share > 1)
    assert probe.measure(600)["sharpness_edge"] == pytest.approx(share)


def test_full_batch_training_settles_at_the_edge_of_stability() -> None:
    model, optimizer, loss = trained(lambda p: torch_opt.SGD(p, lr=0.35), steps=1500)
    probe = Sharpness(loss)
    probe.start(subject(optimizer, model))
    edges = []
    for step in range(1500, 1520):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        edges.append(probe.measure(step)["sharpness_edge"])
    assert np.mean(edges) == pytest.approx(1.0, abs=0.1)


def test_groups_of_different_rates_are_judged_together() -> None:
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    groups = [{"params": [a], "lr": 0.5}, {"params": [b], "lr": 0.01}]
    probe = Sharpness(lambda: a.square().sum() / 2 + 5 * b.square().sum())
    optimizer = torch_opt.SGD(groups, lr=0.1)
    probe.start(subject(optimizer))
    values = probe.measure(1)
    assert values["sharpness"] == pytest.approx(10.0, rel=1e-3)
    assert values["sharpness_edge"] == pytest.approx(0.25, rel=1e-3)
    assert "sharpness_preconditioned" not in values


def test_chains_without_a_known_bound_get_no_edge() -> None:
    w = nn.Parameter(torch.ones(2))
    for chain in (s.lion(0.1), s.lamb(0.1), s.chain(s.sgd(0.1), s.lookahead())):
        assert stability_of(torch_opt.Optimizer([w], chain)) is None
    known = torch_opt.Optimizer([w], s.chain(s.clip_by_global_norm(1.0), s.sgd(s.schedules.constant(0.1)), s.ema()))
    found = stability_of(known)
    assert found is not None and found.bound == 2.0 and found.lr == pytest.approx(0.1)
    assert stability_of(torch_opt.AdamW([w], lr=0.1)) is None  # no step, no second moment


@pytest.mark.parametrize("model", ["attention", "recurrent"])
def test_models_whose_fast_kernels_have_no_second_derivative(model: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 8)
    layer = (
        nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
        if model == "attention"
        else nn.GRU(8, 4, batch_first=True)
    )
    optimizer = torch_opt.SGD(layer.parameters(), lr=0.1)

    def loss() -> torch.Tensor:
        found = layer(x)
        return (found if isinstance(found, torch.Tensor) else found[0]).square().mean()

    probe = Sharpness(loss)
    probe.start(subject(optimizer, layer))
    assert math.isfinite(float(probe.measure(1)["sharpness"]))


def test_a_linear_loss_has_no_curvature() -> None:
    w = nn.Parameter(torch.ones(3))
    probe = Sharpness(lambda: w.sum())
    optimizer = torch_opt.SGD([w], lr=0.1)
    probe.start(subject(optimizer))
    assert probe.measure(1) == {"sharpness": 0.0, "sharpness_edge": 0.0, "sharpness_products": 1.0}


def test_the_iteration_is_told_apart_from_power_iteration_by_its_products() -> None:
    """Eigenvalues that lie close: power iteration would need about 1 / 0.01 steps for each digit."""
    diagonal = torch.cat([torch.tensor([1.0, 0.99]), torch.linspace(-1.5, 0.9, 498)]).double()
    start = torch.randn(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = largest_eigenvalue(lambda v: diagonal * v, start, tolerance=1e-6, most=400)
    assert found.value == pytest.approx(1.0, abs=1e-6) and found.residual <= 1e-6 and found.products < 150
    bounded = largest_eigenvalue(lambda v: diagonal * v, start, tolerance=1e-6, most=5)
    assert bounded.products == 5 and bounded.residual > 1e-6


# ---- activations


def test_dead_and_saturated_units_are_counted() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, 2), nn.Sigmoid())
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.copy_(torch.tensor([1.0, -1.0, -2.0, 0.5]))
        model[2].weight.zero_()
        model[2].bias.copy_(torch.tensor([5.0, 0.1]))
        model[4].weight.zero_()
        model[4].bias.copy_(torch.tensor([-4.0, 4.0]))
    probe = Activations(model, every=1)
    probe.start(subject(torch_opt.SGD(model.parameters(), lr=0.1)))
    probe.before(1)
    model(torch.randn(7, 3))
    with torch.no_grad():
        model(torch.full((7, 3), 1e9))  # an evaluation
    assert probe.measure(1) == pytest.approx({
        "activations_dead": 0.5, "activations_dead/1": 0.5,
        "activations_saturated": 0.75, "activations_saturated/3": 0.5, "activations_saturated/5": 1.0,
    })  # fmt: skip
    model(torch.randn(7, 3))
    assert probe.measure(2) == {}


def test_a_unit_is_dead_only_if_no_sample_place_or_micro_batch_wakes_it() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU())
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, 0.0, 1.0]).reshape(3, 1, 1, 1))
        model[0].bias.copy_(torch.tensor([-10.0, -1.0, 0.0]))
    probe = Activations(model, every=1)
    probe.start(subject(torch_opt.SGD(model.parameters(), lr=0.1)))
    probe.before(1)
    quiet = torch.full((2, 1, 4, 4), 1.0)
    model(quiet)
    assert probe.measure(1)["activations_dead"] == pytest.approx(2 / 3)
    probe.before(2)
    model(quiet)
    quiet[1, 0, 3, 2] = 20.0
    model(quiet)
    assert probe.measure(2)["activations_dead"] == pytest.approx(1 / 3)
    sequence = nn.Sequential(nn.ReLU())
    for axis, share in ((None, 0.5), (1, 0.0)):
        probe = Activations(sequence, every=1, axis=axis)
        probe.before(1)
        sequence(torch.tensor([[[1.0, -1.0], [2.0, -3.0]]], requires_grad=True))
        assert probe.measure(1)["activations_dead"] == share


def test_a_module_that_serves_layers_of_different_width_is_seen_in_each() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.relu = nn.Linear(2, 4), nn.Linear(4, 2), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.relu(self.second(self.relu(self.first(x))))

    model = Shared()
    with torch.no_grad():
        for layer, bias in ((model.first, [1.0, -1.0, 1.0, 1.0]), (model.second, [-1.0, 1.0])):
            layer.weight.zero_()
            layer.bias.copy_(torch.tensor(bias))
    probe = Activations(model, every=1)
    probe.start(subject(torch_opt.SGD(model.parameters(), lr=0.1)))
    probe.before(1)
    for _ in range(2):
        model(torch.randn(3, 2))
    assert probe.measure(1) == pytest.approx({"activations_dead": 2 / 6, "activations_dead/relu": 2 / 6})


def test_a_model_without_such_modules_is_refused_when_it_starts() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.GELU())
    with pytest.raises(
        ValueError,
        match=r"^Activations: the model must have modules of the types ReLU, .*, got none\. Functions aren't seen",
    ):
        Activations(model).start(subject(torch_opt.SGD(model.parameters(), lr=0.1)))


# ---- histograms


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_counts_are_exact_and_the_same_for_both_frameworks(dtype: Any, rng: np.random.Generator) -> None:
    edges = 2.0 ** np.arange(-20, 12)
    values = np.concatenate(
        [edges, -edges, np.nextafter(edges.astype(dtype), dtype(0)), [0.0, -0.0, np.nan, np.inf, -np.inf]]
    )
    values = np.concatenate([values, rng.normal(size=500)]).astype(dtype)
    counts = histogram(values)
    np.testing.assert_array_equal(counts, histogram(torch.from_numpy(values)))
    assert counts.sum() == len(values) and counts[-1] == 3
    middle = len(counts) // 2 - 1
    assert counts[middle] == np.sum(values == 0)
    for k in range(-20, 12):
        inside = (np.abs(values) >= 2.0**k) & (np.abs(values) < 2.0 ** (k + 1))
        assert counts[middle + 1 - LOWEST + k] == np.sum(inside & (values > 0))
        assert counts[middle - 1 + LOWEST - k] == np.sum(inside & (values < 0))


def test_what_lies_outside_of_the_bins_is_counted_in_the_outermost() -> None:
    counts = histogram(np.array([1e-300, -1e-30, 1e300, -1e30]))
    middle = len(counts) // 2 - 1
    assert [int(counts[i]) for i in (middle + 1, middle - 1, -2, 0)] == [1, 1, 1, 1]
    assert histogram(torch.tensor([1e-45])).sum() == 1


def test_weights_gradients_and_updates_of_a_step() -> None:
    w, b = nn.Parameter(torch.full((8,), 1.0)), nn.Parameter(torch.zeros(2))
    optimizer = torch_opt.SGD([w, b], lr=2.0**-10)
    probe = Histograms(every=1)
    probe.start(subject(optimizer))
    probe.before(1)
    w.grad = torch.full((8,), -(2.0**-3))
    optimizer.step()
    optimizer.zero_grad()
    values = probe.measure(1)
    for kind, size in (("weights", 0), ("gradients", -3), ("updates", -13)):
        found = values[f"histograms_{kind}"]
        assert found[0] == 2.0 ** (size + 0.5) and math.isnan(found[1])
        sign = -1 if kind == "gradients" else 1
        middle = probe.counts[kind].shape[1] // 2 - 1
        assert probe.counts[kind][0, middle + sign * (1 - LOWEST + size)] == 8
    assert probe.step == 1 and not optimizer._optimizer_step_post_hooks


def test_on_numpy_weights_and_updates_are_seen() -> None:
    w = np.ones(4)
    optimizer = opt.SGD([w], lr=0.25)
    probe = Histograms(every=1, of=["weights", "updates"])
    probe.start(subject(optimizer))
    probe.before(1)
    optimizer.step([np.ones(4)])
    values = probe.measure(1)
    assert values["histograms_weights"] == pytest.approx([2**-0.5]) and values["histograms_updates"] == pytest.approx(
        [2**-1.5]
    )


# ---- arguments

_ARRAYS = opt.SGD([np.ones(1)], lr=0.1)
ON_ARRAYS = subject(_ARRAYS)
MISTAKES: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: NoiseScale(0), ValueError, "NoiseScale: batch_size must be a whole number >= 1, got 0."),
    (
        lambda: NoiseScale(8, decay=1.0), ValueError,
        "NoiseScale: decay must be in [0, 1), got 1.0. At 1.0 the average never forgets its initial value.",
    ),
    (
        lambda: NoiseScale(8, loss_fn=float, batches=1), ValueError,
        "NoiseScale: batches must be a whole number >= 2, got 1. One gradient shows no noise.",
    ),
    (lambda: NoiseScale(8, scaler=1024.0), TypeError, "NoiseScale: scaler must be a GradScaler or None, got float."),
    (lambda: NoiseScale(8, replicas=1), TypeError, "NoiseScale: replicas must be True or False, got 1."),
    (lambda: Sharpness(3), TypeError, "Sharpness: loss_fn must be a function that returns the loss, got 3."),
    (lambda: Sharpness(float, tolerance=1.0), ValueError, "Sharpness: tolerance must be in (0, 1), got 1.0."),
    (
        lambda: Sharpness(float).start(ON_ARRAYS), TypeError,
        "Sharpness: the parameters must be torch's, got NumPy arrays. The loss is differentiated twice.",
    ),
    (
        lambda: NoiseScale(8, loss_fn=float).start(ON_ARRAYS), TypeError,
        "NoiseScale: the parameters must be torch's, got NumPy arrays, which have no backward pass. Use add(…).",
    ),
    (lambda: Activations(3), TypeError, "Activations: model must be a torch module, got int."),
    (
        lambda: Histograms(of=["weight"]), ValueError,
        "Histograms: unknown kind 'weight'. Did you mean 'weights'? Known: gradients, updates, weights.",
    ),
    (lambda: Histograms(every=0), ValueError, "Histograms: every must be a whole number >= 1, got 0."),
]  # fmt: skip


@pytest.mark.parametrize(("make", "kind", "message"), MISTAKES)
def test_mistakes_are_said_in_one_line(make: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        make()
