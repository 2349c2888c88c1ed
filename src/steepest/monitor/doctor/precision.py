"""What numbers can't hold: values that are not finite, steps below a type's resolution, an epsilon that rules.

States are float32 whatever the parameters are, so none of the rules is about states of 16 bits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from steepest.monitor.doctor.cures import behind, change, watched_for_nan
from steepest.monitor.doctor.finding import Rule, Series, Sign, sure
from steepest.monitor.doctor.look import (
    Values,
    down,
    listed,
    matrix_columns,
    middle,
    names_of,
    number,
    second_moment,
    series,
    setting,
    values_of,
)
from steepest.monitor.records import Event, Run

__all__ = ["RULES"]

RESOLUTION = {"bfloat16": 2.0**-7, "float16": 2.0**-10}
"""The distance from 1 to the next number."""
STUCK = 0.9
FEW, OFTEN = 3, 0.01


def nonfinite(run: Run) -> Iterator[Sign]:
    events = [e for e in run.events if e.kind == "nonfinite"]
    left_out = [e for e in events if "loss" in e.values]
    yield from _left_out(run, left_out)
    event = next((e for e in events if "loss" not in e.values), None)
    drawn: tuple[Series, ...] = (series(run, "loss"),)
    if event is not None:
        every = len(event.tensors) == len(run.facts.tensors) > 1
        if event.values.get("parameters", 0.0) > 0:
            title = f"{listed(event.tensors) or 'The model'} became nan or infinite in step {event.step}"
            advice = "Look at what wrote to this parameter: the step, a hook, an in-place operation, a checkpoint."
        elif every and "batches" in event.values:
            title = f"Batch {event.call} made the loss nan or infinite at step {event.step}"
            advice = (
                "Look at this batch's data, and at divisions, logarithms and roots in the loss; leave such steps out."
            )
        else:
            where = "all parameters" if every else listed(event.tensors) or "the model"
            title = f"Gradients of {where} became nan or infinite at step {event.step}"
            advice = "Look at the layer's backward pass: a root or a norm of 0, a logarithm, an overflow in 16 bits."
        yield Sign(
            title,
            0.99,
            f"Step {event.step}, batch {event.call}: {event.message}.",
            (Series("grad_norm", event.tensors, max(0, event.step - 50), event.step + 10), *drawn),
            advice,
            behind(run, "steepest.skip_nonfinite()"),
            event.step,
        )
        return
    for name in ("weight_norm", "grad_norm", "nonfinite_grads"):
        values = values_of(run, name)
        if values is None:
            continue
        with np.errstate(all="ignore"):
            bad = values > 0 if name == "nonfinite_grads" else np.isinf(values) | _became_nan(run, values)
        rows = np.flatnonzero(bad.any(axis=1))
        if len(rows):
            columns = np.flatnonzero(bad[rows[0]])
            yield Sign(
                f"{listed(names_of(run, columns))}: not finite from step {int(run.steps[rows[0]])} on, or a little before",
                0.95,
                f"First seen in {name} of {len(columns)} of {values.shape[1]} parameters at step {int(run.steps[rows[0]])}.",
                (series(run, name, columns), *drawn),
                "Record every step around this one to see where it begins.",
                "steepest.Monitor(optimizer, every=1)",
                int(run.steps[rows[0]]),
            )
            return
    yield from _nan_losses(run, {e.call + 1 for e in left_out})


def _left_out(run: Run, events: Sequence[Event]) -> Iterator[Sign]:
    """What a guard has left out did no harm; many such batches do."""
    if not events:
        return
    first, calls = events[0], max([*run.loss_calls[-1:].tolist(), *(e.call + 1 for e in events)])
    share = len(events) / calls
    one = f"The loss of batch {first.call + 1} was {'nan' if np.isnan(first.values['loss']) else 'infinite'}"
    many = f"The losses of {len(events)} batches were nan or infinite"
    yield Sign(
        f"{one if len(events) == 1 else many} and left out by the guard",
        sure(share, OFTEN, 20 * OFTEN, 0.5, 0.9) if len(events) >= FEW and share >= OFTEN else 0.3,
        f"{len(events)} of {calls} batches, the first of them batch {first.call + 1}, after step {first.step}: {first.message}.",
        (series(run, "loss"),),
        "Look at the data of such a batch, and at divisions, logarithms and roots in the loss.",
        watched_for_nan(run),
        first.step + 1,
    )


def _nan_losses(run: Run, left_out: Collection[int]) -> Iterator[Sign]:
    """Losses that are infinite, or nan up to the end; after one that is nan between others, training has gone on."""
    lost = ~np.isfinite(run.losses) & ~np.isin(run.loss_calls, [*left_out])
    places = np.flatnonzero(lost)
    if not len(places) or not np.isfinite(run.losses[: places[0]]).any():
        return
    infinite, given, norms = (
        np.flatnonzero(lost & np.isinf(run.losses)),
        np.flatnonzero(~lost),
        run.scalars.get("grad_norm"),
    )
    tail, gap = len(lost) - 1 - int(given[-1]), int(np.diff(given).max(initial=1)) - 1
    behind_it = run.calls > run.loss_calls[given[-1]]
    went_on = norms is not None and bool((np.isfinite(norms) & behind_it).any())  # a nan loss has no gradients
    proved = len(infinite) > 0 or (tail > gap and not went_on)
    place = int(infinite[0]) if len(infinite) else int(given[-1]) + 1 if proved else int(places[0])
    call = int(run.loss_calls[place])
    yield Sign(
        f"The loss of batch {call} is {'not finite' if proved else 'nan'}",
        0.95 if proved else 0.3,
        f"Of {len(lost)} losses {len(places)} are nan or infinite"
        + (f", the last {tail} among them." if tail else "; finite ones follow."),
        (series(run, "loss"),),
        "Look at this batch's data, and at divisions, logarithms and roots in the loss.",
        behind(run, "steepest.skip_nonfinite()") if proved else watched_for_nan(run),
        call,
    )


def _became_nan(run: Run, values: Values) -> NDArray[np.bool_]:
    """Where nan is a value, and not only the mark of what was not measured.

    Of the tensors that have been measured in every record until then, in a record whose norm of all gradients is not finite.
    """
    recorded = (
        np.any([np.isfinite(one) for one in run.scalars.values()], axis=0) if run.scalars else np.zeros(len(run), bool)
    )
    lost = recorded & ~np.isfinite(run.scalars.get("grad_norm", np.zeros(len(run))))
    absent = np.isnan(values)
    measured = np.logical_or.accumulate(~absent, axis=0)
    left_out = np.logical_or.accumulate(absent & measured & (recorded & ~lost)[:, None], axis=0)
    found: NDArray[np.bool_] = absent & measured & lost[:, None] & ~left_out
    return found


def rounded_away(run: Run) -> Iterator[Sign]:
    ratio, unmoved, zero, moves = (values_of(run, n) for n in ("update_ratio", "unmoved", "zero_grads", "update_norm"))
    narrow = [i for i in matrix_columns(run) if run.facts.tensors[int(i)].dtype in RESOLUTION]
    if not narrow or len(run) < 3:
        return
    columns = np.array(narrow)
    kind = run.facts.tensors[int(columns[0])].dtype
    resolution = RESOLUTION[kind]
    if ratio is not None:
        moved = down(ratio[:, columns])
        guilty = columns[(moved > 0) & (moved < resolution / 16)]
        if len(guilty) > len(columns) / 2:
            size = float(np.median(moved))
            yield Sign(
                f"Steps round to nothing in {kind}",
                sure(size, resolution / 16, resolution / 256, 0.75, 0.95),
                f"A step is {number(size)} times as long as the weights in the median matrix; {kind} resolves "
                f"{number(resolution / 2)} of a number, so most elements stay what they are.",
                (series(run, "update_ratio", guilty), series(run, "unmoved", guilty)),
                "Keep the parameters in float32 and compute in 16 bits (autocast), or raise the rate.",
                "model.float(); torch.autocast(device, dtype=torch.bfloat16)",
                0,
            )
            return
    if unmoved is not None:
        idle = down(unmoved[:, columns] - (0 if zero is None else np.nan_to_num(zero[:, columns])))
        steps = (
            down(unmoved[:, columns]) < 1
        )  # a layer without any is frozen, unless its steps are seen before rounding
        steps |= False if moves is None else down(moves[:, columns]) > 0
        guilty = columns[(idle >= STUCK) & steps]
        if len(guilty) > len(columns) / 2:
            yield Sign(
                f"Steps round to nothing in {kind}",
                0.85,
                f"In the median record {float(np.median(idle)):.0%} of the elements stay exactly what they are, though they have "
                "gradients.",
                (series(run, "unmoved", guilty),),
                "Keep the parameters in float32 and compute in 16 bits (autocast), or raise the rate.",
                "model.float(); torch.autocast(device, dtype=torch.bfloat16)",
                0,
            )


def epsilon(run: Run) -> Iterator[Sign]:
    if second_moment(run) is None and "sum" not in run.facts.states:
        return
    seen, grads, columns = values_of(run, "denominator"), values_of(run, "grad_norm"), matrix_columns(run)
    found = []
    for column in map(int, columns):
        group = run.facts.tensors[column].group
        eps = setting(run, group, "eps")
        if not eps:
            continue
        if seen is not None:
            beta2 = setting(run, group, "betas.1", "beta2") or 0.0
            with np.errstate(all="ignore"):
                root = seen[:, column] / np.sqrt(1 - beta2 ** run.steps.astype(np.float64))
        elif grads is not None:
            root = grads[:, column] / np.sqrt(np.prod(run.facts.tensors[column].shape))
        else:
            return
        if (usual := middle(root)) > 0:
            found.append((column, eps / usual, eps, usual))
    ruled = [f for f in found if f[1] >= 1]
    if found and len(ruled) > len(found) / 2:
        ratio, eps, usual = (
            float(np.median([f[1] for f in found])),
            ruled[0][2],
            float(np.median([f[3] for f in found])),
        )
        lower = 1e-8 if usual >= 1e-7 else 10.0 ** np.floor(np.log10(usual) - 2)
        advice = (
            "with such an eps the rule is SGD with momentum"
            if usual >= 1e-7
            else "or scale the loss up: gradients are tiny"
        )
        yield Sign(
            f"eps = {number(eps)} outweighs the gradients' size",
            sure(ratio, 1, 100, 0.7, 0.95),
            f"The root of the second moment is {number(usual)} in the median matrix, eps {number(ratio)} times that: the step is "
            "hardly scaled any more, and that much shorter.",
            (series(run, "denominator" if seen is not None else "grad_norm", [f[0] for f in ruled]),),
            f"Lower eps to {number(lower)}, or raise the rate knowingly: {advice}.",
            change(run, "eps", f"= {number(lower)}", {run.facts.tensors[f[0]].group for f in ruled}),
            0,
        )


def skipped(run: Run) -> Iterator[Sign]:
    events = [e for e in run.events if e.kind == "skipped"]
    calls = int(run.calls[-1]) if len(run) else 0
    if len(events) < 3 or not calls:
        return
    share = len(events) / calls
    yield Sign(
        "Many steps are left out",
        sure(share, 0.05, 0.5, 0.5, 0.9) if share >= 0.05 else 0.3,
        f"{len(events)} of {calls} batches took no step, the first at step {events[0].step}: {events[0].message}.",
        (series(run, "loss"),),
        "Look for what makes these batches' gradients not finite; lower the rate or the loss's scale.",
        "torch.amp.GradScaler(init_scale=2.0**10)",
        events[0].step,
    )


RULES = (
    Rule(
        "nonfinite",
        "A gradient, a parameter or a loss is nan or infinite: the first parameter, or the batch, is named. A nan between other "
        f"losses is a remark, and so is what a guard left out, below {FEW} batches or {OFTEN:.0%} of them.",
        "Amazon SageMaker Debugger, ExplodingTensor",
        (("events",), ("losses",)),
        nonfinite,
    ),
    Rule(
        "updates_round_to_nothing",
        f"Parameters of 16 bits whose median step is below a sixteenth of the type's resolution of their length, or of whose "
        f"elements with gradients {STUCK:.0%} stay what they are, in most matrices.",
        "Arithmetic; Zamirai et al. 2020, arXiv:2010.06192, Revisiting BFloat16 Training",
        (("update_ratio",), ("unmoved",)),
        rounded_away,
    ),
    Rule(
        "eps_dominates",
        "eps is at least the mean root of the (corrected) second moment, or the gradient's root mean square, in most matrices.",
        "Choi et al. 2019, arXiv:1910.05446, on eps; Godbole et al. 2023, Deep Learning Tuning Playbook",
        (("denominator",), ("grad_norm",)),
        epsilon,
    ),
    Rule(
        "steps_left_out",
        "At least 3 steps were left out (a remark), or 5 % of them (an alarm).",
        "Micikevicius et al. 2018, arXiv:1710.03740, section 3.2; own share",
        (("events",),),
        skipped,
    ),
)  # fmt: skip
