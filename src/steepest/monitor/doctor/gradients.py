"""Gradients that explode, vanish or never come: by depth (the order of the tensors), by layer, by unit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from steepest.monitor.doctor.cures import behind, change
from steepest.monitor.doctor.finding import Rule, Sign, sure
from steepest.monitor.doctor.look import (
    at_records,
    began,
    down,
    highest,
    listed,
    matrix_columns,
    middle,
    names_of,
    number,
    rates,
    series,
    setting,
    values_of,
)
from steepest.monitor.records import Run

__all__ = ["RULES"]

SENSITIVE, LEARNED = 1e4, 10.0
LOST, STILL = 1e-4, 1e-5
GROWN, STRAIGHT = 20.0, 0.8
ALWAYS = 0.8
MOSTLY = 0.8
FEW, SEEN = 8, 10


def exploding(run: Run) -> Iterator[Sign]:
    grads, weights, columns = values_of(run, "grad_norm"), values_of(run, "weight_norm"), matrix_columns(run)
    if grads is None or weights is None:
        return
    loss, given = at_records(run)[:, None], run.losses[np.isfinite(run.losses)]
    floor = abs(float(given[0])) / LEARNED if len(given) else 0.0  # of a loss near 0 every gradient is a large part
    with np.errstate(all="ignore"):
        gain = np.where(loss > 0, grads[:, columns] * weights[:, columns] / np.maximum(loss, floor), np.nan)
        grown = weights[:, columns] / weights[0, columns]
    gain = np.where(np.isfinite(gain) & ~(grown > 2), gain, np.nan)  # where weights have grown, the rate was too high
    peaks = np.nan_to_num(highest(gain.T), nan=0.0)
    largest = float(peaks.max(initial=0.0))
    if largest < SENSITIVE:
        return
    guilty = columns[peaks >= max(SENSITIVE, largest / 30)]
    row = int(np.flatnonzero(highest(gain) >= SENSITIVE)[0])
    clips = any("clip" in chain for chain in run.facts.chains)
    norms = run.scalars.get("grad_norm", highest(grads))
    norms = norms if np.isfinite(norms).any() else highest(grads)
    usual, limit = (float(one) for one in np.quantile(norms[np.isfinite(norms)], [0.5, 0.9]))
    clip = f"steepest.clip_by_global_norm({number(limit)})"
    yield Sign(
        f"Gradients explode in {listed(names_of(run, guilty))}" + (", and are clipped" if clips else ""),
        sure(largest, SENSITIVE, 100 * SENSITIVE, 0.2, 0.4)
        if clips
        else sure(largest, SENSITIVE, 100 * SENSITIVE, 0.75, 0.97),
        f"At step {int(run.steps[row])} the gradient's norm was {number(float(norms[row]))} (median {number(usual)}). Norm times "
        f"weights over loss reached {number(largest)}: one part in {number(largest)} of the weights could "
        "double the loss.",
        (series(run, "grad_norm", guilty), series(run, "update_ratio", guilty)),
        "Clip by the norm of all gradients; start recurrent or deep layers with smaller weights, or normalise between them.",
        clip if clips else behind(run, clip),
        began(run, row),
    )


def _by_depth(run: Run, columns: NDArray[np.intp]) -> tuple[NDArray[np.intp], float, float] | None:
    """Over the first quarter of the run: the matrices that have gradients, the root mean square of those of their first third
    over that of the last third, and how straight its logarithm goes with depth (a correlation)."""
    grads = values_of(run, "grad_norm")
    if grads is None:
        return None
    sizes = np.array([np.sqrt(np.prod(run.facts.tensors[int(c)].shape)) for c in columns])
    each = down(grads[: max(1, len(run) // 4), columns]) / sizes
    known = np.isfinite(each) & (each > 0)
    if known.sum() < 4:
        return None
    logs = np.log10(each[known])
    third = max(1, len(logs) // 3)
    order = float(np.corrcoef(np.arange(len(logs)), logs)[0, 1])
    return columns[known], float(10.0 ** (np.median(logs[:third]) - np.median(logs[-third:]))), order


def growing(run: Run) -> Iterator[Sign]:
    found = _by_depth(run, matrix_columns(run))
    if found is None or not found[1] >= GROWN or not found[2] <= -STRAIGHT or next(exploding(run), None) is not None:
        return
    columns, times, _ = found
    names = names_of(run, columns)
    yield Sign(
        "Gradients explode on their way to the first layers",
        sure(times, GROWN, 100 * GROWN, 0.7, 0.95),
        f"From the start gradients grow from layer to layer towards the input: those of {listed(names[: len(names) // 3])} are "
        f"{number(times)} times as large as those of the last layers.",
        (series(run, "grad_norm", columns), series(run, "update_ratio", columns)),
        "Start with smaller weights (Glorot's or He's), or normalise between the layers; clip, or use a rule that "
        "scales each layer.",
        "torch.nn.init.xavier_normal_(layer.weight)",
        0,
    )


def vanishing(run: Run) -> Iterator[Sign]:
    ratio, found = values_of(run, "update_ratio"), _by_depth(run, matrix_columns(run))
    if ratio is None or found is None:
        return
    columns, lost, order = found
    still = columns[down(ratio[: max(1, len(run) // 4), columns]) < STILL]
    if not lost <= LOST or not order >= STRAIGHT or not len(still):
        return
    yield Sign(
        "Gradients vanish on their way to the first layers",
        sure(lost, LOST, LOST / 100, 0.7, 0.95),
        f"From the start gradients of {names_of(run, columns)[0]} are {number(1 / lost)} times smaller than those of the last "
        f"layers; {len(still)} of {len(columns)} matrices move by less than {STILL:g} of their length in a step.",
        (series(run, "grad_norm", columns), series(run, "update_ratio", still)),
        "Use activations that do not saturate (ReLU, GELU), He's or Glorot's initial weights, residual connections or "
        "normalisation; an optimizer that scales each layer helps a little.",
        "torch.nn.init.kaiming_normal_(layer.weight)",
        0,
    )


def dead(run: Run) -> Iterator[Sign]:
    grads = values_of(run, "grad_norm")
    if grads is None or len(run) < 3:
        yield from _dead_units(run)
        return
    known, late = ~np.isnan(grads), slice(len(run) // 2, None)
    with np.errstate(all="ignore"):
        shares = (grads == 0).sum(axis=0) / known.sum(axis=0)
    to_the_end = known[late].any(axis=0) & ~(grads[late] > 0).any(axis=0)
    often, alive = shares >= ALWAYS, np.flatnonzero(shares < 0.2)
    still = to_the_end & ~_moves_on(run)
    silent, seldom = np.flatnonzero(often & still), np.flatnonzero(often & ~still)
    if len(silent) and len(alive):
        used = np.flatnonzero((grads[:, silent] > 0).any(axis=1))
        row = int(used[-1]) + 1 if len(used) else 0
        names = names_of(run, silent)
        yield Sign(
            f"Units are dead: {listed(names)} get no gradient",
            0.95,
            f"From step {int(run.steps[row])} on the gradients of {len(silent)} of {len(grads[0])} parameters are exactly 0, while "
            f"{listed(names_of(run, alive))} learn. Nothing passes the last of the silent layers.",
            (series(run, "grad_norm", silent), series(run, "zero_grads", silent)),
            "Start with smaller biases and He's weights, use leaky units (LeakyReLU, GELU), or look for a mask that is all zeros.",
            "torch.nn.init.kaiming_normal_(layer.weight); torch.nn.init.zeros_(layer.bias)",
            began(run, row),
        )
        return
    if len(seldom) and len(alive):
        most = float(1 - shares[seldom].min())
        where = f"in {most:.0%} of the records" if most else "between the records only"
        yield Sign(
            f"{listed(names_of(run, seldom))}: used {where}",
            0.3,
            f"{len(seldom)} of {len(grads[0])} parameters have gradients {where}, and exactly 0 else, while "
            f"{listed(names_of(run, alive))} learn all the time.",
            (series(run, "grad_norm", seldom),),
            "Where they are one part of several that take turns, nothing is to be done; else look for units that are nearly dead.",
            "optimizer.zero_grad(set_to_none=True)  # what is not used takes no step"
            if run.facts.framework == "torch"
            else "[name for name, grad in grads.items() if not grad.any()]",
            0,
        )
    yield from _dead_units(run)


def _moves_on(run: Run) -> NDArray[np.bool_]:
    """Which tensors the second half of the run changes by more than decay does: they get gradients between the records."""
    found = np.zeros(len(run.facts.tensors), dtype=bool)
    moves, weights = values_of(run, "update_norm"), values_of(run, "weight_norm")
    if moves is None or weights is None:
        return found
    late = slice(len(run) // 2, None)
    steps = int(np.ptp(run.steps[late]))
    for column, one in enumerate(run.facts.tensors):
        strength, lr = setting(run, one.group, "weight_decay") or 0.0, rates(run, one.group)
        chain = run.facts.chains[min(one.group, len(run.facts.chains) - 1)] if run.facts.chains else ""
        if strength and (lr is None or chain.rfind("add_decayed_weights") < max(0, chain.find("scale_by_"))):
            continue  # decay that is part of the gradient makes steps of any length
        decayed = 2 * strength * middle(lr[late]) if strength and lr is not None else 0.0
        length = weights[late, column]
        length = length[np.isfinite(length)]
        if len(length) > 1:
            stepped = middle(moves[late, column]) > (STILL + decayed) * middle(length)
            found[column] = stepped or abs(length[-1] - length[0]) > (STILL + decayed * steps) * length[0]
    return found


def _dead_units(run: Run) -> Iterator[Sign]:
    """A bias has a gradient of exactly 0 where its unit was silent for the whole batch."""
    zero = values_of(run, "zero_grads")
    if zero is None:
        return
    biases = [i for i, t in enumerate(run.facts.tensors) if len(t.shape) == 1 and t.shape[0] >= FEW]
    shares = down(zero[len(run) // 2 :, biases]) if biases else np.zeros(0)
    found = np.array([b for b, s in zip(biases, shares, strict=True) if MOSTLY <= s < 1], dtype=np.intp)
    if len(found):
        worst = float(np.nanmax(shares))
        yield Sign(
            f"Most units are dead in {listed(names_of(run, found))}",
            sure(1 - worst, 1 - MOSTLY, 0.02, 0.5, 0.8),
            f"In the second half of the run {worst:.0%} of the units had a gradient of exactly 0 for whole batches.",
            (series(run, "zero_grads", found),),
            "Lower the rate, start with smaller biases, or use leaky units (LeakyReLU, GELU).",
            "torch.nn.LeakyReLU(0.01)",
            int(run.steps[len(run) // 2]),
        )


def _probed(run: Run, what: str) -> tuple[str, float] | None:
    """The activation probe's largest median share over the second half of the run, and its name."""
    half = len(run) // 2
    shares = {n: middle(v[half:].astype(np.float64)) for n, v in run.scalars.items() if f"_{what}/" in n}
    worst = max(shares, key=lambda n: np.nan_to_num(shares[n], nan=-1.0), default=None)
    return None if worst is None else (worst, shares[worst])


def dead_outputs(run: Run) -> Iterator[Sign]:
    found = _probed(run, "dead")
    if found is None or not found[1] >= MOSTLY or next(dead(run), None) is not None:
        return
    name, share = found
    yield Sign(
        f"Most units of {name.partition('/')[2]} are dead",
        sure(1.02 - share, 1.02 - MOSTLY, 0.02, 0.6, 0.95),
        f"In the second half of the run {share:.0%} of them gave 0 for all samples of a step.",
        (series(run, name),),
        "Lower the rate, start with smaller biases, or use leaky units (LeakyReLU, GELU).",
        "torch.nn.LeakyReLU(0.01)",
        began(run, len(run) // 2),
    )


def saturated(run: Run) -> Iterator[Sign]:
    found = _probed(run, "saturated")
    if found is None or not found[1] >= MOSTLY:
        return
    name, share = found
    yield Sign(
        f"{name.partition('/')[2]} is saturated",
        sure(1.02 - share, 1.02 - MOSTLY, 0.02, 0.6, 0.9),
        f"In the second half of the run {share:.0%} of its outputs lay where the slope is nearly 0.",
        (series(run, name),),
        "Start with smaller weights (Glorot's), lower the rate, or normalise what comes in.",
        "torch.nn.init.xavier_normal_(layer.weight)",
        began(run, len(run) // 2),
    )


def motionless(run: Run) -> Iterator[Sign]:
    moves, grads = values_of(run, "update_norm"), values_of(run, "grad_norm")
    if moves is None or len(run) < 3:
        return
    measured = ~np.isnan(moves)
    frozen = np.array([one.frozen for one in run.facts.tensors])
    moving = (np.nan_to_num(moves, nan=0.0) > 0).mean(axis=0)
    if not (moving > 0.5).any():
        return
    absent = ~measured.any(axis=0)
    if (absent & frozen).any():
        named = np.flatnonzero(absent & frozen)
        yield Sign(
            f"{listed(names_of(run, named))} are frozen" if len(named) > 1 else f"{names_of(run, named)[0]} is frozen",
            0.2,
            f"{len(named)} of {moves.shape[1]} parameters had requires_grad=False when the run started, and got no gradient.",
            (series(run, "update_norm", named),),
            "Where that is meant, nothing is to be done; they may be left out of the optimizer.",
            "[p for p in model.parameters() if p.requires_grad]",
            0,
        )
    records = int(measured.any(axis=1).sum())
    if (absent & ~frozen).any():
        lacking = np.flatnonzero(absent & ~frozen)
        names = names_of(run, lacking)
        yield Sign(
            f"{listed(names)} got no gradient in any record",
            0.85 if records >= SEEN else 0.4,
            f"In none of {records} records, up to step {int(run.steps[-1])}, did {len(lacking)} of {moves.shape[1]} parameters "
            "have a gradient.",
            (series(run, "update_norm", lacking),),
            "Look for a detach(), a no_grad() or a branch that the loss does not use; or for one that is used in other steps only.",
            f"[name for name, p in model.named_parameters() if p.grad is None]  # after backward(): {listed(names)}",
            0,
        )
    still = measured.any(axis=0) & (np.where(measured, moves, 0.0) == 0).all(axis=0)
    pushed = still if grads is None else still & ((np.nan_to_num(grads, nan=0.0) > 0).mean(axis=0) > 0.5)
    held = np.flatnonzero(pushed)
    if len(held):
        groups = sorted({run.facts.tensors[int(i)].group for i in held})
        lr = rates(run, groups[0])
        zero = lr is not None and np.isfinite(lr).any() and float(np.nanmax(lr)) == 0
        others = [
            r
            for g in range(len(run.facts.groups))
            if (r := rates(run, g)) is not None and np.nanmax(r, initial=0.0) > 0
        ]
        yield Sign(
            f"{listed(names_of(run, held))} do not move" + (": their rate is 0" if zero else ""),
            0.95,
            f"In all {len(run)} records, up to step {int(run.steps[-1])}, the step of {len(held)} of {moves.shape[1]} parameters "
            "was exactly 0, though they have gradients.",
            (series(run, "update_norm", held), series(run, "grad_norm", held)),
            "Give their group a rate above 0; look for a mask, or a chain that leaves them out.",
            change(run, "lr", f"= {number(float(np.nanmax(others[0])))}" if others else "= 1e-3", groups)
            if zero
            else "print(optimizer.plan)",
            0,
        )


RULES = (
    Rule(
        "exploding_gradients",
        f"In a matrix that is at most twice as long as at the start, gradient norm x weight norm / loss (by how many times the "
        f"loss changes when the weights are doubled, to first order) reaches {SENSITIVE:g}; a loss below 1/{LEARNED:g} of the "
        "first counts as that. A remark where the chain clips.",
        "Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063, for the phenomenon; measure and threshold are the library's own",
        (("grad_norm", "weight_norm"),),
        exploding,
    ),
    Rule(
        "exploding_gradients",
        f"In the first quarter of the run the gradients (root mean square) of the first third of the matrices are {GROWN:g} times "
        f"those of the last third or more, growing towards the input (correlation {STRAIGHT:g}).",
        "Glorot and Bengio 2010; Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063; own thresholds",
        (("grad_norm",),),
        growing,
    ),
    Rule(
        "dead_units",
        f"A parameter's gradient is exactly 0 in {ALWAYS:.0%} of the records and in all of the run's second half, while others "
        f"learn (a remark where it is not 0 to the end, or moves all the same); or {MOSTLY:.0%} of a bias' gradients are 0 in the "
        f"median record of the second half ({FEW} units at least).",
        "Amazon SageMaker Debugger, DeadRelu and AllZero; Karpathy, Zero to Hero 4; own shares",
        (("grad_norm",), ("zero_grads",)),
        dead,
    ),
    Rule(
        "dead_units",
        f"The activation probe counts {MOSTLY:.0%} of a layer's units as dead in the median record of the run's second half.",
        "Karpathy, Zero to Hero 4; Amazon SageMaker Debugger, DeadRelu; own share",
        (("activations_dead",),),
        dead_outputs,
    ),
    Rule(
        "saturated_units",
        f"The activation probe counts {MOSTLY:.0%} of a layer's outputs as saturated in the median record of the run's second "
        "half.",
        "Karpathy, Zero to Hero 4: tanh beyond 0.97; Amazon SageMaker Debugger, SaturatedActivation; own share",
        (("activations_saturated",),),
        saturated,
    ),
    Rule(
        "layer_does_not_move",
        f"A parameter's step is exactly 0 in every record, or it has no gradient in any ({SEEN} at least, else a remark), while "
        "others move. What the user froze (requires_grad=False) is a remark.",
        "Amazon SageMaker Debugger, UnchangedTensor",
        (("update_norm",),),
        motionless,
    ),
    Rule(
        "vanishing_gradients",
        f"In the first quarter of the run the gradients (root mean square) of the first third of the matrices are below {LOST:g} "
        f"of those of the last third, falling with depth (correlation {STRAIGHT:g}), and a matrix moves by less than {STILL:g} of "
        "its length.",
        "Bengio, Simard and Frasconi 1994; Glorot and Bengio 2010; Amazon SageMaker Debugger, VanishingGradient; own thresholds",
        (("grad_norm", "update_ratio"),),
        vanishing,
    ),
)  # fmt: skip
