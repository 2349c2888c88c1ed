"""What the processes of tests/torch/test_sharding.py run: training with sharded tensors beside the same training without.

Every process knows the whole parameters and gradients, so each can compare what it gathers with what it steps alone.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint import load, save
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

import steepest as s
import steepest.torch as opt
from steepest.torch import sharding

SHAPES = ((5, 3), (7,), (1, 4), (4, 6), (2, 3, 2, 2), (9, 1), (12,))
STEPS = 20

CHAINS: dict[str, Callable[[], s.Chain]] = {
    "adamw": lambda: s.adamw(0.01),
    "lamb": lambda: s.lamb(0.01, weight_decay=0.1),
    "lars": lambda: s.lars(0.1, weight_decay=0.01),
    "each tensor clipped": lambda: s.chain(s.clip_by_norm(0.5), s.sgd(0.1, 0.9)),
    "agc": lambda: s.chain(s.adaptive_grad_clip(0.05), s.sgd(0.1, 0.9)),
    "agc, last dimension": lambda: s.chain(s.adaptive_grad_clip(0.05, axis=-1), s.sgd(0.1)),
    "global norm": lambda: s.chain(s.clip_by_global_norm(1.0), s.adamw(0.01)),
    "global largest": lambda: s.chain(s.clip_by_global_norm(0.3, float("inf")), s.sgd(0.1)),
    "global norm, guarded": lambda: s.chain(s.clip_by_global_norm(1.0, on_nonfinite="skip"), s.sgd(0.1)),
    "everything": lambda: s.chain(
        s.clip_by_global_norm(1.0),
        s.adaptive_grad_clip(0.05),
        s.lamb(0.01, weight_decay=0.1),
        s.lookahead(3),
        s.ema(0.9),
    ),
    "block rms": lambda: s.chain(s.clip_by_block_rms(0.5), s.sgd(0.1)),
}


def layouts(world: int) -> dict[str, Callable[[int, torch.Tensor], torch.Tensor]]:
    """How the tensors are cut: a function of a tensor's number and the whole tensor."""
    line = init_device_mesh("cpu", (world,), mesh_dim_names=("all",))

    def cut(mesh: Any, *placements: Any) -> Callable[[int, torch.Tensor], torch.Tensor]:
        def place(number: int, whole: torch.Tensor) -> torch.Tensor:
            fitting = [p if not isinstance(p, Shard) or p.dim < whole.ndim else Shard(0) for p in placements]
            return distribute_tensor(whole, mesh, fitting, src_data_rank=None)

        return place

    rows, columns, same = cut(line, Shard(0)), cut(line, Shard(1)), cut(line, Replicate())

    def mixed(number: int, whole: torch.Tensor) -> torch.Tensor:
        return (rows, columns, same, lambda _, t: t.clone())[number % 4](number, whole)

    found = {"rows": rows, "columns": columns, "mixed, some whole": mixed}
    if world == 4:
        square = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
        found["rows and columns"] = cut(square, Shard(0), Shard(1))
        found["rows twice"] = cut(square, Shard(0), Shard(0))
        found["replicated rows"] = cut(square, Replicate(), Shard(0))
        apart = (cut(square["dp"], Shard(0)), cut(square["tp"], Shard(1)), cut(square, Shard(1), Replicate()), rows)
        found["several meshes"] = lambda number, whole: apart[number % 4](number, whole)
    return found


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def furthest(ours: list[torch.Tensor], reference: list[torch.Tensor]) -> float:
    """The largest difference, relative to the element or its tensor's rms, whichever is larger."""
    worst = 0.0
    for a, b in zip(ours, reference, strict=True):
        a, b = whole(a.detach()).double(), b.detach().double()
        if b.numel():
            scale = torch.maximum(b.abs(), b.square().mean().sqrt())
            worst = max(worst, float(((a - b).abs() / scale).max()))
    return worst


@contextmanager
def counted() -> Iterator[list[int]]:
    """How many numbers each all-reduce of the step exchanged."""
    sizes: list[int] = []
    before = sharding.distributed.all_reduce

    def counting(values: torch.Tensor, *rest: Any) -> Any:
        sizes.append(values.numel())
        return before(values, *rest)

    sharding.distributed.all_reduce = counting
    try:
        yield sizes
    finally:
        sharding.distributed.all_reduce = before


def train_sharded(name: str, place: Callable[[int, torch.Tensor], torch.Tensor], engine: str = "auto") -> float:
    random = torch.Generator().manual_seed(3)
    start = [torch.randn(shape, generator=random) for shape in SHAPES]
    alone = [torch.nn.Parameter(t.clone()) for t in start]
    cut = [torch.nn.Parameter(place(i, t.clone())) for i, t in enumerate(start)]
    a = opt.Optimizer(alone, CHAINS[name]())
    b = opt.Optimizer(cut, CHAINS[name](), engine=engine)
    for _ in range(STEPS):
        for i, (p, q) in enumerate(zip(alone, cut, strict=True)):
            p.grad = torch.randn(p.shape, generator=random)
            q.grad = place(i, p.grad.clone())
        a.step()
        with CommDebugMode() as seen:
            b.step()
        names = {str(op) for op in seen.get_comm_counts()}
        assert all("all_reduce" in n or "allreduce" in n for n in names), f"a step called {names}"
    states = [n for n in a.state[alone[0]] if n != "step"]
    pairs = [(b.state[q][n], a.state[p][n]) for n in states for p, q in zip(alone, cut, strict=True)]
    return max(furthest(list(cut), list(alone)), *(furthest([x], [y]) for x, y in pairs), 0.0)


def check_chains(world: int, rank: int, folder: Path) -> None:
    for number, (layout, place) in enumerate(layouts(world).items()):
        for name in CHAINS if number in (0, 2) else ("agc", "global norm", "everything"):
            for engine in ("auto", "arrays") if name in ("everything", "agc") else ("auto",):
                worst = train_sharded(name, place, engine)
                assert worst <= 1e-6, f"{name} with {layout} on {engine}: relative difference {worst:.2g}"


def check_counts(world: int, rank: int, folder: Path) -> None:
    rows = layouts(world)["rows"]
    # AGC: units of matrices lie whole in one process; those of vectors are the whole vector.
    expected = {"adamw": 0, "lamb": 1, "lars": 1, "each tensor clipped": 1, "global norm": 1, "agc": 1}
    for name, count in expected.items():
        params = [torch.nn.Parameter(rows(i, torch.ones(shape))) for i, shape in enumerate(SHAPES)]
        for i, p in enumerate(params):
            p.grad = rows(i, torch.ones(SHAPES[i]))
        optimizer = opt.Optimizer(params, CHAINS[name]())
        optimizer.step()
        with counted() as sizes:
            optimizer.step()
        assert len(sizes) == count, f"{name}: {len(sizes)} all-reduces, expected {count}"
        assert sum(sizes) <= 3 * len(SHAPES), f"{name}: {sum(sizes)} numbers exchanged"
    groups = [{"params": [torch.nn.Parameter(rows(0, torch.ones(8, 2)))], "lr": 0.1 * i} for i in range(1, 4)]
    optimizer = opt.Optimizer(groups, s.chain(s.clip_by_global_norm(1.0), s.lamb(0.1)))
    for group in groups:
        group["params"][0].grad = rows(0, torch.ones(8, 2))
    with counted() as sizes:
        optimizer.step()
    assert len(sizes) == 2, f"clip and LAMB over three groups: {len(sizes)} all-reduces, expected 2"


def check_refusals(world: int, rank: int, folder: Path) -> None:
    mesh = init_device_mesh("cpu", (world,))
    partial = torch.nn.Parameter(DTensor.from_local(torch.ones(3), mesh, [Partial()]))
    rows = torch.nn.Parameter(distribute_tensor(torch.ones(8), mesh, [Shard(0)]))
    refused(TypeError, "must have the placements Shard or Replicate", lambda: opt.SGD([partial], lr=0.1))
    optimizer = opt.SGD([rows], lr=0.1)
    rows.grad = distribute_tensor(torch.ones(8), mesh, [Replicate()])
    refused(TypeError, "Redistribute it", optimizer.step)
    assert torch.equal(whole(rows.detach()), torch.ones(8))


def refused(kind: type[Exception], words: str, action: Callable[[], Any]) -> None:
    try:
        action()
    except kind as error:
        assert words in str(error), str(error)
    else:
        raise AssertionError(f"no {kind.__name__} was raised")


# ---- real models


def network(hidden: int = 10) -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(6, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3)
    )


def batch(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(number)
    return torch.randn(8, 6, generator=random), torch.randn(8, 3, generator=random)


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: range, part: slice = slice(None)) -> None:
    for number in steps:
        x, y = batch(number)
        torch.nn.functional.mse_loss(model(x[part]), y[part]).backward()
        optimizer.step()
        optimizer.zero_grad()


def own_part(world: int, rank: int) -> slice:
    return slice(rank * 8 // world, (rank + 1) * 8 // world)


def check_ddp(world: int, rank: int, folder: Path) -> None:
    alone, copy = network(), DistributedDataParallel(network())
    train(alone, opt.Optimizer(alone.parameters(), CHAINS["everything"]()), range(STEPS))
    train(copy, opt.Optimizer(copy.parameters(), CHAINS["everything"]()), range(STEPS), own_part(world, rank))
    worst = furthest(list(copy.parameters()), list(alone.parameters()))
    assert worst <= 1e-5, f"DDP differs by {worst:.2g}"  # the gradients are summed up in another order


def sharded_network() -> torch.nn.Sequential:
    model = network()
    for layer in model:
        if isinstance(layer, torch.nn.Linear):
            fully_shard(layer)
    fully_shard(model)
    return model


def check_fsdp(world: int, rank: int, folder: Path) -> None:
    for name in ("lamb", "lars", "agc", "global norm", "everything"):
        alone, cut = network(), sharded_network()
        train(alone, opt.Optimizer(alone.named_parameters(), CHAINS[name]()), range(STEPS))
        train(cut, opt.Optimizer(cut.named_parameters(), CHAINS[name]()), range(STEPS), own_part(world, rank))
        worst = furthest(list(cut.parameters()), list(alone.parameters()))
        assert worst <= 1e-5, f"FSDP2 with {name} differs by {worst:.2g}"


def check_tensor_parallel(world: int, rank: int, folder: Path) -> None:
    mesh = init_device_mesh("cpu", (world,))
    for name in ("lamb", "agc", "global norm"):
        alone, cut = network(8), network(8)  # torch's own layers need a whole number for each process
        parallelize_module(cut, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
        train(alone, opt.Optimizer(alone.parameters(), CHAINS[name]()), range(STEPS))
        train(cut, opt.Optimizer(cut.parameters(), CHAINS[name]()), range(STEPS))
        worst = furthest(list(cut.parameters()), list(alone.parameters()))
        assert worst <= 1e-5, f"tensor parallel with {name} differs by {worst:.2g}"


def save_half_way(world: int, rank: int, folder: Path) -> None:
    model = sharded_network()
    optimizer = opt.Optimizer(model.named_parameters(), CHAINS["everything"]())
    train(model, optimizer, range(10), own_part(world, rank))
    save(states_of(model, optimizer), checkpoint_id=folder / "checkpoint")


def go_on(world: int, rank: int, folder: Path) -> None:
    alone = network()
    train(alone, opt.Optimizer(alone.named_parameters(), CHAINS["everything"]()), range(STEPS))
    model = sharded_network()
    optimizer = opt.Optimizer(model.named_parameters(), CHAINS["everything"]())
    states = states_of(model, optimizer)
    load(states, checkpoint_id=folder / "checkpoint")
    set_model_state_dict(model, states["model"])
    set_optimizer_state_dict(model, optimizer, states["optimizer"])
    assert optimizer.steps == 10, optimizer.steps
    train(model, optimizer, range(10, STEPS), own_part(world, rank))
    worst = furthest(list(model.parameters()), list(alone.parameters()))
    assert worst <= 1e-5, f"saved on 4 and loaded on {world}: differs by {worst:.2g}"


def states_of(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {"model": get_model_state_dict(model), "optimizer": get_optimizer_state_dict(model, optimizer)}


# ---- processes


def run(rank: int, world: int, names: list[str], folder: str) -> None:
    """One process: run the named functions of this module; what went wrong is written to a file."""
    torch.set_num_threads(1)
    os.environ["STEEPEST_NUM_THREADS"] = "1"
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting_{'_'.join(names)}", rank=rank, world_size=world
    )
    try:
        for name in names:
            globals()[name](world, rank, Path(folder))
    except BaseException:
        Path(folder, f"failed_{rank}.txt").write_text(traceback.format_exc())
        os._exit(1)  # the others would wait for this one
    dist.destroy_process_group()
