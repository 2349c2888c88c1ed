"""Small trainings, sick and healthy, under a `Monitor`: what the doctor is judged by.

They stand beside the other benchmarks and not in the package, because nobody who uses the library trains a sick network on
purpose; they measure the library, as ``benchmarks/steps.py`` does. Each is a function of a seed that returns a `Run`, on one
of the workbench's workloads or its data, and takes a second or a few on one core. A sick one has one thing made wrong.

All are run by steepest's own optimizers under its `Monitor`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

import steepest
import steepest.numpy
import steepest.torch
from steepest.monitor.records import Event, Facts, Record, Run
from steepest.monitor.telemetry import ALL, available
from steepest.workbench import digits
from steepest.workbench.workload import ArrayTask, TorchTask, Workload, find
from steepest.workbench.workloads.digits_mlp import loss_and_gradients
from steepest.workbench.workloads.rnn_memory import adding
from steepest.workbench.workloads.sampling import batches
from steepest.workbench.workloads.supervised import classification, seeded

__all__ = ["HEALTHY", "OTHER_HEALTHY", "OTHER_KINDS", "OTHER_SICK", "SICK", "Case"]

EVERY = 5
Params = Mapping[str, Any]
Change = Callable[[int, Any], None]
WRONG_STEP = 100
"""The step, counted from 0, at which something happens to those that are well until then."""


@dataclass(frozen=True, slots=True)
class Case:
    """A training: what was done, which cause the doctor should find first ("" for a healthy one), and where: a parameter that
    it should name, "" where there is none to name."""

    name: str
    about: str
    train: Callable[[int], Run]
    expected: str = ""
    place: str = ""


class Kept:
    """An output that keeps everything in memory."""

    def __init__(self) -> None:
        self.facts: Facts | None = None
        self.records: list[Record] = []
        self.events: list[Event] = []
        self.finished = False

    def start(self, facts: Facts) -> None:
        self.facts = facts

    def record(self, record: Record) -> None:
        self.records.append(record)

    def event(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.finished = True

    def run(self) -> Run:
        assert self.facts is not None
        return Run.of(self.facts, self.records, self.events, self.finished)


def on(
    work: str | Workload,
    make: Callable[[Params], Any],
    steps: int,
    start: Change | None = None,
    before: Change | None = None,
    every: int = EVERY,
    guarded: bool = False,
) -> Callable[[int], Run]:
    """A training of a workload with the optimizer that ``make`` makes of its parameters, all measurements taken.

    ``start(seed, task)`` is called once, ``before(step, task)`` before each step; a guard may leave batches out.
    """

    def train(seed: int) -> Run:
        workload = find(work) if isinstance(work, str) else work
        task: Any = workload.start(seed)
        if start is not None:
            start(seed, task)
        optimizer, kept = make(task.params), Kept()
        measured = {name for one in optimizer.stepper.chains for name in available(one, ALL)}
        monitor = steepest.Monitor(
            optimizer,
            getattr(task, "model", None),
            every=every,
            to=[kept],
            folder=None,
            measurements=sorted(measured),
            notes={"batch_size": workload.batch} if workload.batch else {},
        )
        guard = steepest.Guard(optimizer, monitor=monitor) if guarded else lambda loss: True
        with np.errstate(all="ignore"), monitor:
            for step in range(steps):
                if before is not None:
                    before(step, task)
                loss, grads = task.gradients(step)
                if not guard(loss):
                    continue
                optimizer.step() if grads is None else optimizer.step(grads)
                monitor(loss)
        return kept.run()

    return train


# ---- optimizers


def front_end(params: Params) -> Any:
    """steepest.numpy or steepest.torch, whichever these parameters are for."""
    return steepest.numpy if isinstance(next(iter(params.values())), np.ndarray) else steepest.torch


def given(params: Params) -> Any:
    """Parameters with their names, as both front ends take them."""
    return dict(params) if front_end(params) is steepest.numpy else list(params.items())


def named(name: str, **values: Any) -> Callable[[Params], Any]:
    return lambda params: getattr(front_end(params), name)(given(params), **copy.deepcopy(values))


def chained(*links: steepest.Chain) -> Callable[[Params], Any]:
    return lambda params: front_end(params).Optimizer(given(params), steepest.chain(*links))


def apart(name: str, of: Sequence[str], rate: float, **values: Any) -> Callable[[Params], Any]:
    """The named optimizer, with another rate for the parameters called these names."""

    def make(params: Params) -> Any:
        rest = given({n: p for n, p in params.items() if n not in of})
        special = given({n: params[n] for n in of})
        return getattr(front_end(params), name)([{"params": rest}, {"params": special, "lr": rate}], **values)

    return make


# ---- workloads of the suite's own, on the digits


def stack(name: str, make: Callable[[], nn.Module], batch: int = 64) -> Workload:
    """Digits for a network in torch."""

    def start(seed: int) -> TorchTask:
        parts = {part: (torch.from_numpy(x), torch.from_numpy(y)) for part, (x, y) in digits.data().items()}
        with seeded(seed):
            model = make()
        return classification(model, parts, batch, seed)

    return Workload(name, start, 400, batch=batch)


def layers(widths: Sequence[int], activation: Callable[[], nn.Module]) -> nn.Sequential:
    made: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        made += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*made[:-1])


class Severed(nn.Module):
    """A network whose first layer is out of the graph: somebody wrote detach()."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.rest = nn.Linear(64, 128), layers((128, 128, 10), nn.ReLU)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said: torch.Tensor = self.rest(self.first(x).relu().detach())
        return said


plain = stack("digits", partial(layers, (64, 128, 128, 10), nn.ReLU))
deep_sigmoid = stack("digits-deep-sigmoid", partial(layers, (64, *[64] * 9, 10), nn.Sigmoid))
severed = stack("digits-severed", Severed)
recurrence = adding("recurrence", length=100, radius=3.0, steps=150)
narrow = stack("digits-bfloat16", lambda: layers((64, 128, 128, 10), nn.ReLU))


def in_bfloat16(seed: int, task: Any) -> None:
    """Parameters in bfloat16; the data are converted on their way in, the loss is computed in float32."""
    model = task.model.to(torch.bfloat16)
    model.register_forward_pre_hook(lambda _, inputs: (inputs[0].to(torch.bfloat16),))
    model.register_forward_hook(lambda _, inputs, output: output.float())


# ---- what is made wrong


def killed(seed: int, task: Any) -> None:
    """Biases from which no unit of the second layer ever comes back."""
    task.params["1.bias"] -= 20


def made_nan(step: int, task: Any) -> None:
    if step == WRONG_STEP:
        task.params["1.weight"][3, 5] = np.nan


def poisoned(step: int, task: Any) -> None:
    """One pixel of one image of one batch is not a number."""
    if step == WRONG_STEP:
        honest = task.loss_and_gradients
        x, y = (part[:64].copy() for part in digits.data()["train"])
        x[3, 7] = np.nan

        def bad(step: int) -> Any:
            task.loss_and_gradients = honest
            return loss_and_gradients(task.params, x, y)

        task.loss_and_gradients = bad


def mislabelled(seed: int, task: Any) -> None:
    """At one step the labels of the batch belong to other images."""
    x, y = digits.data()["train"]
    order, rng, honest = batches(len(x), digits.BATCH, seed), np.random.default_rng([seed, 7]), task.loss_and_gradients

    def gradients(step: int) -> Any:
        batch = order(step)
        wrong = step == WRONG_STEP + 50
        return loss_and_gradients(task.params, x[batch], rng.permutation(y[batch])) if wrong else honest(step)

    task.loss_and_gradients = gradients


SICK = (
    Case(
        "one-layer-fast", "Adam's rate is 30 times too high in one layer",
        on("digits-mlp", apart("AdamW", ["1.weight", "1.bias"], 0.09, lr=3e-3), 400), "learning_rate_too_high", "1.weight",
    ),
    Case(
        "sgd-fast", "SGD with momentum at 30 times its best rate",
        on("digits-mlp", named("SGD", lr=0.9, momentum=0.9), 400), "learning_rate_too_high",
    ),
    Case(
        "adam-fast", "Adam at 100 times its best rate, autoencoder",
        on("autoencoder", named("Adam", lr=0.1), 300), "learning_rate_too_high",
    ),
    Case(
        "slow", "AdamW at a thousandth of its best rate",
        on("digits-mlp", named("AdamW", lr=3e-6), 400), "learning_rate_too_low",
    ),
    Case(
        "exploding", "a recurrent network of spectral radius 3 over 100 times, SGD without clipping, every step recorded",
        on(recurrence, named("SGD", lr=1e-3), 150, every=1), "exploding_gradients",
    ),
    Case(
        "vanishing", "ten layers of sigmoids, SGD",
        on(deep_sigmoid, named("SGD", lr=0.1, momentum=0.9), 300), "vanishing_gradients",
    ),
    Case(
        "dead", "biases of a layer of ReLUs start at -20",
        on("digits-mlp", named("AdamW", lr=3e-3), 400, start=killed), "dead_units", "1.weight",
    ),
    Case(
        "frozen", "one layer's group has the rate 0",
        on("digits-mlp", apart("AdamW", ["1.weight", "1.bias"], 0.0, lr=3e-3), 400), "layer_does_not_move", "1.weight",
    ),
    Case(
        "severed", "a detach() in front of the second layer",
        on(severed, named("AdamW", lr=3e-3), 400), "layer_does_not_move", "first.weight",
    ),
    Case(
        "nan-parameter", "one element of one parameter becomes nan at step 101",
        on("digits-mlp", named("AdamW", lr=3e-3), 200, before=made_nan), "nonfinite", "1.weight",
    ),
    Case(
        "nan-batch", "a pixel of the batch of step 101 is nan",
        on("digits-mlp", named("AdamW", lr=3e-3), 200, before=poisoned), "nonfinite",
    ),
    Case(
        "narrow-parameter", "parameters in bfloat16 at a rate whose steps round to nothing",
        on(narrow, named("AdamW", lr=3e-5), 400, start=in_bfloat16), "updates_round_to_nothing",
    ),
    Case(
        "clip", "clipping at a global norm of 0.001, SGD with momentum",
        on("digits-mlp", chained(steepest.clip_by_global_norm(1e-3), steepest.sgd(0.03, momentum=0.9)), 400),
        "clipping_too_tight",
    ),
    Case(
        "no-warm-up", "a post-norm transformer without a warm-up, at a rate that it learns with behind one",
        on("char-gpt-post-norm", named("AdamW", lr=5e-3), 150), "warmup_missing",
    ),
    Case(
        "bad-batch", "the labels of the batch of step 151 are shuffled",
        on("digits-mlp", named("AdamW", lr=3e-3), 400, start=mislabelled), "bad_batch",
    ),
    Case(
        "decay", "AdamW with a weight decay of 30",
        on("digits-mlp", named("AdamW", lr=3e-3, weight_decay=30.0), 400), "decay_dominates",
    ),
    Case(
        "eps", "Adam with eps = 1",
        on("digits-mlp", named("Adam", lr=3e-3, eps=1.0), 400), "eps_dominates",
    ),
)  # fmt: skip

cosine, warmup = steepest.schedules.cosine, steepest.schedules.warmup
clip = steepest.clip_by_global_norm
HEALTHY = (
    Case("digits-adamw", "AdamW", on("digits-mlp", named("AdamW", lr=3e-3), 400)),
    Case("digits-sgd", "SGD", on("digits-mlp", named("SGD", lr=0.3), 400)),
    Case("digits-momentum", "SGD with momentum", on("digits-mlp", named("SGD", lr=0.03, momentum=0.9), 400)),
    Case("digits-lion", "Lion", on("digits-mlp", named("Lion", lr=3e-4), 400)),
    Case("digits-lamb", "LAMB", on("digits-mlp", named("LAMB", lr=3e-3), 400)),
    Case("digits-cosine", "RAdam, cosine to 0", on("digits-mlp", named("RAdam", lr=cosine(0.01, 400)), 400)),
    Case("mnist-cnn", "Adam", on("mnist-cnn", named("Adam", lr=0.01), 250)),
    Case("rnn", "Adam, clipped at 1", on("rnn-memory", chained(clip(1.0), steepest.adam(1e-3)), 500)),
    Case("rnn-order", "SGD with momentum, clipped at 1",
         on("rnn-memory-order", chained(clip(1.0), steepest.sgd(0.03, momentum=0.9)), 500)),
    Case("autoencoder", "Adam", on("autoencoder", named("Adam", lr=1e-3), 400)),
    Case("autoencoder-sgd", "SGD with momentum", on("autoencoder", named("SGD", lr=3.0, momentum=0.9), 400)),
    Case("diamonds", "AdamW, decay 0.1", on("diamonds", named("AdamW", lr=0.01, weight_decay=0.1), 600)),
    Case("names", "Adagrad", on("unicode-bow", named("Adagrad", lr=0.1), 500)),
    Case("char-gpt", "AdamW", on("char-gpt", named("AdamW", lr=3e-3), 200)),
    Case("char-gpt-post-norm", "AdamW at the same rate behind a warm-up",
         on("char-gpt-post-norm", named("AdamW", lr=warmup(60, 5e-3)), 150)),
    Case("char-gpt-post-norm-slower", "AdamW with a warm-up, clipped at 1",
         on("char-gpt-post-norm", chained(clip(1.0), steepest.adamw(warmup(60, 1e-3))), 150)),
    Case("bfloat16", "AdamW on parameters in bfloat16", on(narrow, named("AdamW", lr=3e-3), 400, start=in_bfloat16)),
    Case("quadratics-noisy", "SGD", on("quadratics-noisy", named("SGD", lr=0.03), 400)),
)  # fmt: skip


# ---- the same sicknesses on other work, which no threshold has been set on


def shuffled(seed: int, task: Any) -> None:
    """At one step the outputs of the batch change places: its labels belong to other images."""
    generator, steps = torch.Generator().manual_seed(seed), iter(range(10**6))

    def change(model: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        wrong = model.training and next(steps) == WRONG_STEP + 50
        return output[torch.randperm(len(output), generator=generator)] if wrong else output

    task.model.register_forward_hook(change)


def nan_in(name: str) -> Change:
    def change(step: int, task: Any) -> None:
        if step == WRONG_STEP:
            task.params[name].data.view(-1)[0] = torch.nan

    return change


def lowered(seed: int, task: Any) -> None:
    task.params["body.2.bias"].data -= 20


def large(seed: int, task: Any) -> None:
    """Weights four times as large as Glorot's in every layer."""
    for name, p in task.params.items():
        if "weight" in name:
            with seeded(seed):
                nn.init.normal_(p, std=4 * p.shape[1] ** -0.5)


deep_tanh = stack("digits-deep-tanh", partial(layers, (64, *[64] * 14, 10), nn.Tanh))

OTHER_SICK = (
    Case(
        "cnn-fast", "convolutions, SGD with momentum at 100 times its best rate",
        on("mnist-cnn", named("SGD", lr=3.0, momentum=0.9), 200), "learning_rate_too_high",
    ),
    Case(
        "gpt-one-layer-fast", "a transformer, the rate 30 times too high in one layer",
        on("char-gpt", apart("AdamW", ["blocks.0.wide.weight"], 0.09, lr=3e-3), 150), "learning_rate_too_high",
        "blocks.0.wide.weight",
    ),
    Case(
        "autoencoder-slow", "SGD with momentum at a thousandth of its best rate",
        on("autoencoder", named("SGD", lr=3e-3, momentum=0.9), 300), "learning_rate_too_low",
    ),
    Case(
        "deep-exploding", "15 layers of tanh with weights four times too large, SGD",
        on(deep_tanh, named("SGD", lr=1e-4), 200, start=large), "exploding_gradients",
    ),
    Case(
        "cnn-dead", "a convolution's biases start at -20", on("mnist-cnn", named("Adam", lr=0.01), 150, start=lowered),
        "dead_units", "body.2.weight",
    ),
    Case(
        "gpt-frozen", "a transformer, one matrix' group has the rate 0",
        on("char-gpt", apart("AdamW", ["blocks.1.qkv.weight"], 0.0, lr=3e-3), 100), "layer_does_not_move", "blocks.1.qkv.weight",
    ),
    Case(
        "autoencoder-nan", "one element becomes nan at step 101",
        on("autoencoder", named("Adam", lr=1e-3), 150, before=nan_in("4.weight")), "nonfinite", "4.weight",
    ),
    Case(
        "rnn-clip", "a recurrent network, SGD with momentum clipped at 0.001",
        on("rnn-memory-order", chained(clip(1e-3), steepest.sgd(0.03, momentum=0.9)), 400), "clipping_too_tight",
    ),
    Case(
        "diamonds-decay", "AdamW with a weight decay of 30",
        on("diamonds", named("AdamW", lr=0.01, weight_decay=30.0), 400), "decay_dominates",
    ),
    Case("names-eps", "Adam with eps = 1", on("unicode-bow", named("Adam", lr=0.01, eps=1.0), 400), "eps_dominates"),
    Case(
        "cnn-bad-batch", "the labels of the batch of step 151 are shuffled",
        on("mnist-cnn", named("Adam", lr=0.01), 300, start=shuffled), "bad_batch",
    ),
)  # fmt: skip
OTHER_HEALTHY = (
    Case("digits-adadelta", "Adadelta", on("digits-mlp", named("Adadelta", lr=3.0), 400)),
    Case("digits-adamax", "Adamax", on("digits-mlp", named("Adamax", lr=0.01), 400)),
    Case("names-rmsprop", "RMSprop", on("unicode-bow", named("RMSprop", lr=3e-3), 500)),
    Case("diamonds-nadam", "NAdam", on("diamonds", named("NAdam", lr=1e-3), 600)),
    Case("diamonds-sgd", "SGD with momentum", on("diamonds", named("SGD", lr=0.01, momentum=0.9), 600)),
    Case("cnn-lars", "LARS", on("mnist-cnn", named("LARS", lr=1.0), 200)),
    Case("cnn-momentum", "SGD with momentum", on("mnist-cnn", named("SGD", lr=0.03, momentum=0.9), 250)),
    Case("autoencoder-lamb", "LAMB", on("autoencoder", named("LAMB", lr=1e-3), 300)),
    Case("gpt-lion", "Lion", on("char-gpt", named("Lion", lr=3e-4), 150)),
    Case("gpt-cosine", "AdamW, a warm-up, cosine to 0, clipped at 1",
         on("char-gpt", chained(clip(1.0), steepest.adamw(cosine(3e-3, 200, warmup=20))), 200)),
    Case("rnn-adam", "Adam, clipped at 1", on("rnn-memory-order", chained(clip(1.0), steepest.adam(3e-3)), 400)),
)  # fmt: skip


# ---- healthy trainings of other kinds: what may look like a sickness and is none


def frozen(seed: int, task: Any) -> None:
    """The first layer keeps its weights; the optimizer was given them all the same."""
    task.model[0].requires_grad_(False)


class Experts(nn.Module):
    """Four experts, one for each batch, drawn; the last for one batch in ten."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 10)
        self.experts = nn.ModuleList(nn.Linear(64, 64) for _ in range(4))
        self.drawn = torch.Generator().manual_seed(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        draw = int(torch.randint(10, (), generator=self.drawn))
        said: torch.Tensor = self.last(self.experts[3 if draw == 9 else draw % 3](self.first(x).relu()).relu())
        return said


class LowRank(nn.Module):
    """A fixed matrix and a product of two learned ones, the second of which starts from 0 (LoRA)."""

    def __init__(self, inputs: int, outputs: int, rank: int = 8) -> None:
        super().__init__()
        self.register_buffer("fixed", torch.randn(outputs, inputs) * inputs**-0.5)
        self.down = nn.Parameter(torch.randn(rank, inputs) * inputs**-0.5)
        self.up = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.fixed.T + x @ self.down.T @ self.up.T


def tuned(seed: int, task: Any) -> None:
    """Weights that know already what they are trained for."""
    optimizer = torch.optim.Adam(task.model.parameters(), lr=1e-3)
    for step in range(600):
        task.gradients(step)
        optimizer.step()


def changed(change: Callable[[float], float]) -> Change:
    """The loss as another number, its gradients in proportion where it is multiplied."""

    def start(seed: int, task: Any) -> None:
        honest, slope = task.loss_and_gradients, change(1.0) - change(0.0)

        def gradients(step: int) -> Any:
            loss, grads = honest(step)
            return change(loss), {n: (slope * g).astype(g.dtype) for n, g in grads.items()}

        task.loss_and_gradients = gradients

    return start


def linear(name: str, loss_and_slope: Callable[[Any, Any], tuple[float, Any]]) -> Workload:
    """A linear map that fits its 64 examples, all of which make a step: eight outputs and the signs of these."""

    def start(seed: int) -> ArrayTask:
        rng = np.random.default_rng(seed)
        x, wanted = rng.standard_normal((64, 20)), rng.standard_normal((8, 20))
        params = {"weight": rng.standard_normal((8, 20))}

        def gradients(step: int) -> Any:
            loss, slope = loss_and_slope(x @ params["weight"].T, x @ wanted.T)
            return loss, {"weight": slope.T @ x / len(x)}

        return ArrayTask(params, gradients, lambda part: {"loss": gradients(0)[0]})

    return Workload(name, start, 400, batch=64)


def squares(found: Any, wanted: Any) -> tuple[float, Any]:
    return float(np.square(found - wanted).sum(axis=1).mean() / 2), found - wanted


def hinge(found: Any, wanted: Any) -> tuple[float, Any]:
    side = np.sign(wanted)
    missing = np.maximum(0, 1 - side * found)
    return float(missing.sum(axis=1).mean()), -side * (missing > 0)


small = partial(layers, (64, 64, 10), nn.ReLU)
single, whole = stack("digits-single", small, batch=1), stack("digits-whole", small, batch=1257)
experts = stack("digits-experts", Experts)
low_rank = stack("digits-low-rank", lambda: nn.Sequential(LowRank(64, 64), nn.ReLU(), LowRank(64, 10)), batch=4)
behind_adam = chained(steepest.scale_by_adam(), steepest.clip_by_norm(3.0), steepest.descend(1e-2))

OTHER_KINDS = (
    Case("odd-steps", "AdamW; its 403 steps end between two records", on("digits-mlp", named("AdamW", lr=3e-3), 403)),
    Case("frozen-part", "AdamW; the first layer wants no gradients", on(plain, named("AdamW", lr=3e-3), 300, start=frozen)),
    Case("rare-expert", "AdamW; an expert that one batch in ten uses", on(experts, named("AdamW", lr=3e-3), 400)),
    Case("interpolation", "SGD with momentum; the loss falls below 1e-12",
         on(linear("squares", squares), named("SGD", lr=0.3, momentum=0.5), 400)),
    Case("hinge", "SGD; the loss falls to exactly 0", on(linear("hinge", hinge), named("SGD", lr=3.0), 400)),
    Case("decay-at-rest", "AdamW with a decay of 1 from large weights, all examples in a step",
         on(whole, named("AdamW", lr=0.01, weight_decay=1.0), 800, start=large)),
    Case("decay-at-rest-sgd", "SGD with a decay of 0.01 from large weights, all examples in a step",
         on(whole, named("SGD", lr=0.5, momentum=0.9, weight_decay=0.01), 500, start=large)),
    Case("fine-tuning", "AdamW at a rate of 1e-6 on weights that were trained",
         on(plain, named("AdamW", lr=1e-6), 400, start=tuned)),
    Case("low-rank", "AdamW; LoRA with batches of 4", on(low_rank, named("AdamW", lr=1e-3, weight_decay=0.0), 400)),
    Case("guarded", "AdamW; a guard leaves the one batch out whose loss is nan",
         on("digits-mlp", named("AdamW", lr=3e-3), 400, before=poisoned, guarded=True)),
    Case("batch-of-1", "SGD; a loss with heavy tails", on(single, named("SGD", lr=0.02), 1000)),
    Case("inside-warm-up", "AdamW; 100 steps of a warm-up of 1,000",
         on("digits-mlp", named("AdamW", lr=warmup(1000, 3e-3)), 100)),
    Case("clip-behind-adam", "Adam's steps clipped at 3, a loss a thousand times as large",
         on("digits-mlp", behind_adam, 400, start=changed(lambda loss: 1000 * loss))),
    Case("below-zero", "AdamW; the loss less 3",
         on("digits-mlp", named("AdamW", lr=3e-3), 400, start=changed(lambda loss: loss - 3))),
)  # fmt: skip
