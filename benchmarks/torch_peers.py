"""The rules of the torch benchmarks: how steepest makes each, and every peer that has the same rule.

A peer is a function of parameters that returns its step. Peers are measured at their best: whoever has a ``foreach`` way
is listed with it and without. pytorch_optimizer's Adam, AdamW, NAdam, RMSprop and SGD are torch's own classes, so they are not
listed again. A library that is not installed is named in `MISSING` and left out.
"""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import steepest
import steepest.torch as opt

__all__ = ["COMPILED", "FUSED", "MISSING", "RULES", "Make", "Params", "Rule"]

Params = list[torch.nn.Parameter]
Make = Callable[[Params], Callable[[], Any]]

FUSED, COMPILED = "torch fused", "torch compiled"
MISSING: list[str] = []
K = 5


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, its peers by name, and how many times the limit a step may take at most.

    ``as_fast_as_fused`` says that torch's fused step, where it moves the same bytes, must not be faster. Steps are measured
    in periods of ``period``: the mean of one.
    """

    ours: Callable[[Params], opt.Optimizer]
    peers: Mapping[str, Make] = field(default_factory=dict)
    bar: float = 1.1
    as_fast_as_fused: bool = False
    period: int = 1


def made(cls: Any, *positional: Any, **named: Any) -> Make:
    def make(params: Params) -> Callable[[], Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # optimi's foreach, which is faster here
            return cls(params, *positional, **named).step  # type: ignore[no-any-return]  # peers without types

    return make


# ---- torch


def by_torch(cls: Any, *positional: Any, fused: bool = False, **named: Any) -> dict[str, Make]:
    """Every way in which torch runs one of its rules."""
    ways = {FUSED: made(cls, *positional, fused=True, **named)} if fused else {}
    return {
        **ways,
        "torch foreach": made(cls, *positional, foreach=True, **named),
        "torch single": made(cls, *positional, foreach=False, **named),
        COMPILED: lambda params: torch.compile(cls(params, *positional, foreach=True, **named).step),
    }


def clipped_and_averaged(**how: bool) -> Make:
    def make(params: Params) -> Callable[[], None]:
        module = torch.nn.ParameterList(params)
        average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.999))
        optimizer = torch.optim.AdamW(params, 1e-3, **how)

        def step() -> None:
            torch.nn.utils.clip_grad_norm_(params, 1.0)
            optimizer.step()
            average.update_parameters(module)

        return step

    return make


# ---- other libraries


def library(name: str, package: str) -> Any:
    """A module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        MISSING.append(package)
        return None


def timm_module(name: str) -> Any:
    """A module of timm; without its packages' ``__init__`` where torchvision, which they need, is missing."""
    if TIMM is None or TIMM.submodule_search_locations is None:
        return None
    if find_spec("torchvision") is None:
        root = next(iter(TIMM.submodule_search_locations))
        for package in ("timm", "timm.optim", "timm.utils"):
            if package not in sys.modules:
                stub = types.ModuleType(package)
                stub.__path__ = ["/".join([root, *package.split(".")[1:]])]
                sys.modules[package] = stub
    return importlib.import_module(name)


TIMM = find_spec("timm")
if TIMM is None:
    MISSING.append("timm")
PO = library("pytorch_optimizer", "pytorch_optimizer")
OPTIMI = library("optimi", "torch-optimi")
DEEPSPEED = library("deepspeed.ops.adam", "deepspeed")


def by_timm(name: str, *positional: Any, foreach: bool = False, **named: Any) -> dict[str, Make]:
    module = timm_module(f"timm.optim.{name.lower()}")
    return both("timm", getattr(module, name), foreach, *positional, **named) if module else {}


def by_po(name: str, *positional: Any, **named: Any) -> dict[str, Make]:
    return both("pytorch_optimizer", getattr(PO, name), True, *positional, **named) if PO else {}


def by_optimi(name: str, *positional: Any, **named: Any) -> dict[str, Make]:
    return both("optimi", getattr(OPTIMI, name), True, *positional, **named) if OPTIMI else {}


def both(who: str, cls: Any, foreach: bool, *positional: Any, **named: Any) -> dict[str, Make]:
    """A class as it comes, and its ``foreach`` way if it has one."""
    if not foreach:
        return {who: made(cls, *positional, **named)}
    return {
        who: made(cls, *positional, foreach=False, **named),
        f"{who} foreach": made(cls, *positional, foreach=True, **named),
    }


def by_deepspeed(adamw: bool) -> dict[str, Make]:
    return {"deepspeed": made(DEEPSPEED.DeepSpeedCPUAdam, lr=1e-3, adamw_mode=adamw)} if DEEPSPEED else {}


def agc_by_timm() -> dict[str, Make]:
    module = timm_module("timm.utils.agc")

    def make(params: Params) -> Callable[[], None]:
        optimizer = torch.optim.SGD(params, 1e-3, momentum=0.9, fused=True)

        def step() -> None:
            module.adaptive_clip_grad(params, 0.01)
            optimizer.step()

        return step

    return {"timm + torch fused": make} if module else {}


def lookaheads() -> dict[str, Make]:
    def around(wrap: Callable[[torch.optim.Optimizer], Any]) -> Make:
        return lambda params: wrap(torch.optim.Adam(params, 1e-3, fused=True)).step  # type: ignore[no-any-return]  # peers without types

    timm = timm_module("timm.optim.lookahead")
    found: dict[str, Make] = {}
    if timm:
        found["timm, torch fused"] = around(lambda inner: timm.Lookahead(inner, alpha=0.5, k=K))
    if PO:
        found["pytorch_optimizer, torch fused"] = around(lambda inner: PO.Lookahead(inner, k=K, alpha=0.5))
    return found


# ---- the table

T = torch.optim
RULES: dict[str, Rule] = {
    "sgd": Rule(
        lambda p: opt.SGD(p, 1e-3),
        {**by_torch(T.SGD, 1e-3, fused=True), **by_optimi("SGD", 1e-3)},
        as_fast_as_fused=True,
    ),
    "sgd, momentum": Rule(
        lambda p: opt.SGD(p, 1e-3, momentum=0.9),
        {**by_torch(T.SGD, 1e-3, momentum=0.9, fused=True), **by_optimi("SGD", 1e-3, momentum=0.9)},
        as_fast_as_fused=True,
    ),
    "adagrad": Rule(
        lambda p: opt.Adagrad(p, 1e-3),
        by_torch(T.Adagrad, 1e-3, fused=True),
        as_fast_as_fused=True,
    ),
    "rmsprop": Rule(lambda p: opt.RMSprop(p, 1e-3), by_torch(T.RMSprop, 1e-3)),
    "adam": Rule(
        lambda p: opt.Adam(p, 1e-3),
        {**by_torch(T.Adam, 1e-3, fused=True), **by_optimi("Adam", 1e-3), **by_deepspeed(False)},
        as_fast_as_fused=True,
    ),
    "adamw": Rule(
        lambda p: opt.AdamW(p, 1e-3),
        {**by_torch(T.AdamW, 1e-3, fused=True), **by_optimi("AdamW", 1e-3), **by_deepspeed(True)},
        as_fast_as_fused=True,
    ),
    "radam": Rule(
        lambda p: opt.RAdam(p, 1e-3),
        {**by_torch(T.RAdam, 1e-3), **by_po("RAdam", 1e-3), **by_optimi("RAdam", 1e-3)},
    ),
    "nadam": Rule(
        lambda p: opt.NAdam(p, 1e-3),
        {**by_torch(T.NAdam, 1e-3), **by_timm("NAdamW", 1e-3, weight_decay=0.0, foreach=True)},
    ),
    "adamax": Rule(lambda p: opt.Adamax(p, 1e-3), {**by_torch(T.Adamax, 1e-3), **by_po("AdaMax", 1e-3)}),
    "adadelta": Rule(lambda p: opt.Adadelta(p, 1e-3), {**by_torch(T.Adadelta, 1e-3), **by_po("AdaDelta", 1e-3)}),
    "lion": Rule(
        lambda p: opt.Lion(p, 1e-4),
        {**by_timm("Lion", 1e-4, foreach=True), **by_po("Lion", 1e-4), **by_optimi("Lion", 1e-4)},
    ),
    "lamb": Rule(
        lambda p: opt.LAMB(p, 1e-3, weight_decay=0.01),
        {
            **by_timm("Lamb", 1e-3, weight_decay=0.01, max_grad_norm=None),
            **by_po("Lamb", 1e-3, weight_decay=0.01, max_grad_norm=0.0),
        },
        bar=1.2,
    ),
    "lars": Rule(
        lambda p: opt.LARS(p, 1e-3, weight_decay=1e-4),
        {**by_timm("Lars", 1e-3, momentum=0.9, weight_decay=1e-4), **by_po("LARS", 1e-3, weight_decay=1e-4)},
        bar=1.2,
    ),
    "agc + sgd, momentum": Rule(
        lambda p: opt.Optimizer(p, steepest.chain(steepest.adaptive_grad_clip(0.01), steepest.sgd(1e-3, 0.9))),
        agc_by_timm(),
        bar=1.2,
    ),
    "lookahead(adam, k=5)": Rule(lambda p: opt.Lookahead(opt.Adam(p, 1e-3), K, 0.5), lookaheads(), period=K),
    "clip + adamw + ema": Rule(
        lambda p: opt.Optimizer(
            p, steepest.chain(steepest.clip_by_global_norm(1.0), steepest.adamw(1e-3), steepest.ema(0.999))
        ),
        {FUSED: clipped_and_averaged(fused=True), "torch foreach": clipped_and_averaged(foreach=True)},
        bar=1.2,
    ),
}
