"""`Guard`: leaves out batches whose loss is a spike or not finite, and puts training back where that does not help.

It is asked once per step, before it, and sees only the loss and whether the step before happened. What there is to put back is
`training`'s, where it is kept `snapshots`', and when a loss is a spike `spikes` says.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Mapping, Sequence
from os import PathLike
from statistics import median
from typing import Annotated, Any

from steepest.checks import Positive, Range, check_value
from steepest.monitor.facts import unwrapped
from steepest.monitor.guard.choice import newest_usable
from steepest.monitor.guard.level import Rejected
from steepest.monitor.guard.packing import packed
from steepest.monitor.guard.processes import largest, own_folder, worst
from steepest.monitor.guard.snapshots import Snapshots, any_in
from steepest.monitor.guard.spikes import FACTOR, WINDOW, Limit, Losses
from steepest.monitor.guard.told import Told
from steepest.monitor.guard.training import Training

__all__ = ["Guard"]

_Steps = Annotated[int, Range(1, whole=True, structure=True)]
_Most = Annotated[int, Range(0, whole=True, structure=True)]
_GOOD, _SPIKE, _NONFINITE = range(3)
_OFTEN = 10
"""Spikes among the last hundred batches that are told of; of healthy trainings the rule leaves out one batch in thousands."""


class Guard:
    """Protects a training from loss spikes and from steps that are not finite.

    Called once per step, before it, with the step's loss (that of all its micro-batches where gradients are accumulated). It
    says whether to learn from the batch. Ask before gradients are unscaled or averaged by hand: a gradient scaler that has
    unscaled them wants its ``update()`` before the next batch. False means: drop the gradients and go on. Then either this batch
    is left out, or training has been put back to a snapshot; both leave nothing of the batch behind but the random numbers that
    it used. After a rewind training goes on, bit for bit, as if all batches since the snapshot had been left out so.

    Up to ``skip`` batches in a row are left out, since a bad batch does no harm before its step. If the next one is bad too, the
    weights are to blame: training is rewound to the last snapshot, and if that does not help, to the one before. They are not
    where losses come back to the same level from there (another task, another weight of a term): then this is the level from now
    on, with a warning and a new warm-up. It takes six such losses, so a ``skip`` of at least 1, and snapshots. What the
    optimizer itself leaves out (`steepest.skip_nonfinite`, ``clip_by_global_norm(…, on_nonfinite="skip")``, a gradient scaler) is
    counted too: more than ``most_skipped`` of its steps in a row are a reason to rewind.

    Parameters
    ----------
    optimizer : one of steepest.torch or steepest.numpy, also inside a wrapper.
    model : the torch module, if there is one: its buffers (running statistics) and weights that the optimizer does not step.
    spike : how many times as far above the median as the worst of the last hundred good losses a spike lies, > 0; 3.0, see
        `steepest.monitor.guard.spikes`, also for what was rejected. Or a function of the last good losses that gives the limit
        (Lightning's rule: ``lambda past: 3 * sum(past[-10:]) / 10``). None: only losses that are not finite are bad; for losses
        that jump lawfully.
    skip : bad batches in a row that are left out before training is rewound, >= 0; 5.
    rewind : a snapshot is taken every so many good steps, >= 1; None: no snapshots. PaLM (Chowdhery et al., 2022, section 5.1)
        went back about 100 steps and left out 200 to 500 batches.
    folder : where snapshots go, two of them; None keeps them in memory, where `resume` can't find them.
    also : what else goes back with the weights: schedulers, a gradient scaler, an average of the weights. Each has
        ``state_dict()`` and ``load_state_dict()``, or is a generator of NumPy or torch. States consist of numbers, texts, arrays,
        tensors and containers of them; a function in one (as in the ``SWALR`` of some versions of torch) is refused.
    data : what knows the position in the data, in the same form (torchdata's ``StatefulDataLoader``, a generator that is drawn
        from for each batch; not the one of ``DataLoader(shuffle=True)``, see `resume`). It goes back only in `resume`: after a
        rewind the data go on.
    most_skipped : steps in a row that the optimizer may leave out, >= 0; 20.
    most_rewinds : rewinds in all, >= 0, but for those that found a new level; 10. PaLM saw about 20 spikes in its whole training.
    monitor : a `Monitor` that is told of it, by events ``"spike"``, ``"nonfinite"`` and ``"rewound"``. Steps that the chain left
        out it sees by itself.

    Attributes
    ----------
    calls : batches seen so far. Where the loader keeps no position, skip as many of them after `resume`.
    events : the last hundred things that happened.
    rewinds : how often training has been put back.

    Raises
    ------
    RuntimeError, FloatingPointError : when none of this helps any more, with a report; for spikes, and for what is not finite.
        The weights are then those of before the bad batch, and the snapshots stay.

    Examples
    --------
    >>> import numpy as np, steepest, steepest.numpy as opt
    >>> w = np.array([1.0])
    >>> optimizer = opt.SGD([w], lr=0.1)
    >>> guard = steepest.Guard(optimizer, rewind=10)
    >>> for target in (0.0, np.nan, 0.0):
    ...     if guard(float((w[0] - target) ** 2)):
    ...         optimizer.step([2 * (w - target)])
    >>> w.round(2), guard.events[0].message
    (array([0.64]), 'loss nan; batch left out')

    Notes
    -----
    Price: a call takes 30 microseconds; on a device it waits for the loss. A snapshot costs a copy of weights and states every
    ``rewind`` steps: 5 ms in memory for 44 MB, 50 ms on a disk with its fsync (``benchmarks/probes.py``). With several processes
    the worst verdict holds for all: 24 bytes are exchanged at each step. Each process keeps its own snapshots; they count only if
    all could be written, and all go back to the same one. Make the guard after ``init_process_group``.
    """

    def __init__(
        self,
        optimizer: Any,
        model: Any = None,
        *,
        spike: float | Limit | None = FACTOR,
        skip: int = 5,
        rewind: int | None = None,
        folder: str | PathLike[str] | None = None,
        also: Any = (),
        data: Any = (),
        most_skipped: int = 20,
        most_rewinds: int = 10,
        monitor: Any = None,
    ) -> None:
        if not callable(spike):
            check_value("Guard", "spike", spike, Positive | None)
        check_value("Guard", "rewind", rewind, _Steps | None)
        for name, most in (("skip", skip), ("most_skipped", most_skipped), ("most_rewinds", most_rewinds)):
            check_value("Guard", name, most, _Most)
        if folder is not None and rewind is None:
            raise ValueError(
                "Guard: rewind must be given with folder, got None. Without it there are no snapshots. Pass rewind=100."
            )
        self.optimizer = _checked(optimizer)
        self.skip, self.rewind, self.most_skipped, self.most_rewinds = skip, rewind, most_skipped, most_rewinds
        self.calls = self.rewinds = 0
        self._told = Told(self.optimizer, monitor)
        self.events = self._told.events
        self._training = Training(self.optimizer, model, _listed(also), _listed(data))
        if rewind is not None:
            self._training.check_states()
        self._losses = Losses(spike)
        self._snapshots = Snapshots(own_folder(folder), ".pt" if self._training.on_torch else ".npz")
        self._folder = folder
        self._begun = self._parted = self._often = False
        self._bad = self._skipped = self._in_vain = 0
        self._good = rewind or 0  # so that the first good batch brings the first snapshot
        self._groups = self._training.groups()
        self._back: int | None = None  # the snapshot put back last, until there is a new one
        self._rejected = Rejected()
        self._spikes: deque[bool] = deque(maxlen=WINDOW)
        self._accepted: int | None = None
        self.settle()

    def __call__(self, loss: Any) -> bool:
        """Whether to learn from the batch with this loss; where not, drop its gradients and go on with the next one."""
        self._begin()
        value = float(loss.detach() if hasattr(loss, "detach") else loss)
        self.calls += 1
        limit = self._losses.limit()
        own = _NONFINITE if not math.isfinite(value) else _SPIKE if value > limit else _GOOD
        taken = 0 if self._accepted is None else self.optimizer.steps - self._accepted
        verdict, most, least = largest([own, taken, -taken])
        self._look_back(-least, most)
        if verdict != _GOOD:
            self._rejected.add(math.nan if verdict == _NONFINITE else value if own != _GOOD else None)
        if verdict == _SPIKE and self._bad >= self.skip and self._rejected.are_one_level(self._losses.width()):
            self._accept_level()
            verdict = _GOOD
        good = verdict == _GOOD and self._skipped <= self.most_skipped
        self._spikes.append(verdict == _SPIKE)
        if good:
            self._say_if_often()
            self._keep_if_due()
            self._losses.add(value)
            self._rejected.interrupt()
            self._bad, self._accepted = 0, self.optimizer.steps
        else:
            self._accepted = None
            self._training.put_back_buffers(self._buffers)
            if verdict != _GOOD:
                self._bad += 1
                self._note_bad(verdict, value, limit)
            if self._bad > self.skip or self._skipped > self.most_skipped:
                self._go_back(verdict)
        self.settle()
        return good

    def resume(self) -> int:
        """Go on from the newest whole snapshot in the folder, before the first batch; the number of steps taken so far.

        Everything is put back, random numbers and ``data`` too, so that training goes on as it would have without the
        interruption; what happens between a step and the next batch is known by `settle` only. In the middle of an epoch a shuffled
        `DataLoader` must give the epoch's order again: let its generator follow from the epoch's number, and skip what was seen::

            first, seen = divmod(guard.calls, len(loader))
            for epoch in range(first, epochs):
                order.manual_seed(epoch)  # loader = DataLoader(data, shuffle=True, generator=order)
                for batch in itertools.islice(loader, seen, None):
                    ...
                seen = 0

        Where there is no snapshot nothing changes. Newer ones that are broken, or that not all processes have, are passed over
        with a warning and set aside as ``unused-…``; no whole one is deleted. Raises ValueError, with nothing changed, where there
        are some and none can be used, and for snapshots of another training; what keeps a file from being read is raised too.
        """
        store = self._snapshots
        if store.folder is None:
            raise ValueError(
                "Guard.resume: folder must be given, got None. Snapshots in memory end with their process. Pass folder=…."
            )
        if self.calls:
            raise RuntimeError(
                f"Guard.resume: {self.calls} batches have already been seen. Call resume before the first batch."
            )
        store.tidy()
        passed: dict[int, str] = {}
        found = newest_usable(store, self._training.check, passed, strict=True)
        if found is None:
            if worst(any_in(self._folder)):
                said = "".join(f"\n  {store.path(number).name}: {why}" for number, why in passed.items())
                raise ValueError(
                    f"Guard.resume: none of the snapshots in {self._folder} can be used here. Restore the missing snapshots (each "
                    f"process has its own), or pass another folder to start a new run.{said}"
                )
            self._begun = True
            return int(self.optimizer.steps)
        self._begun = True
        number, tree = found
        self._put_back(tree)
        self.calls, self.rewinds = tree["guard"]["calls"], tree["guard"]["rewinds"]
        self._in_vain = tree["guard"].get("in_vain", 0)
        self._training.put_back_position(tree["position"])
        self.settle()
        self._note("note", f"resumed from {store.path(number)} at step {self.optimizer.steps}")
        for newer, why in passed.items():
            store.set_aside(newer)
            self._warn(f"{store.path(newer).name} was skipped and is now unused-{store.path(newer).name}: {why}")
        return int(self.optimizer.steps)

    def settle(self) -> None:
        """Take how things stand now for how the next batch finds them: random numbers, ``data``, the model's buffers.

        A guard looks at the end of its call. Neither a backward pass nor a step draws random numbers or moves the data on; but call
        this after whatever does so between a step and the next batch (an evaluation, samples from the model), so that `resume` goes
        on behind it, and before the next batch is drawn.
        """
        self._buffers = self._training.copied_buffers()
        if self.rewind is not None and self._good + (self._accepted is not None) >= self.rewind:
            self._position = self._training.position()

    # ---- between two calls

    def _begin(self) -> None:
        if not self._begun and any_in(self._folder):
            raise FileExistsError(
                f"Guard: {self._folder} holds snapshots of an earlier run. Call resume() before the first batch to continue "
                f"that run, or pass another folder."
            )
        self._begun = True

    def _look_back(self, taken: int, most: int) -> None:
        """Whether the step of the last good batch has happened, and in all processes."""
        if most != taken and not self._parted:
            self._parted = True
            self._warn(
                f"after batch {self.calls - 1} some processes have taken {most} steps and others {taken}. If they train one "
                f"model, their weights differ from now on: leave out steps in all processes or in none"
            )
        if self._accepted is not None:
            self._good += taken
            self._skipped = 0 if taken else self._skipped + 1
            if not taken:  # a monitor has seen that by itself
                self._told.remember(self.calls - 1, "skipped", "the optimizer left this step out")

    # ---- snapshots

    def _keep_if_due(self) -> None:
        if self.rewind is None:
            return
        groups = self._training.groups()
        if self._good >= self.rewind:
            self._keep()
        elif groups != self._groups:  # older snapshots fit no more; the next call knows the position for a new one
            self._good = self.rewind
        self._groups = groups

    def _keep(self) -> None:
        """A snapshot of the training as it was after the last batch: with its weights this one's loss is good."""
        guard = {
            "calls": self.calls - 1,
            "rewinds": self.rewinds,
            "in_vain": self._in_vain,
            "bad": self._bad,
            "losses": self._losses.state_dict(),
        }
        tree = {**self._training.state(), "buffers": self._buffers, "position": self._position, "guard": guard}
        store, number, failed = self._snapshots, self.calls - 1, None
        try:
            store.keep(number, packed("Guard", tree, copy=store.folder is None))
        except OSError as error:
            failed = error
        self._good = 0
        if worst(failed is not None):  # one that not all processes have is none
            if failed is None:
                store.drop(number)
            why = failed or "by another process"
            self._warn(
                f"no snapshot could be written ({why}). Training continues. The next attempt is in {self.rewind} steps"
            )
            return
        with contextlib.suppress(OSError):  # a folder that can't be listed now is tidied another time
            for other in store.numbers:
                if self._back is not None and self._back < other < number:  # it did not help
                    store.drop(other)
            store.trim()
        self._back = None
        self._rejected.forget()

    def _put_back(self, tree: Mapping[str, Any]) -> None:
        self._training.put_back(tree)
        self._losses.load_state_dict(tree["guard"]["losses"])
        self._bad = tree["guard"]["bad"]
        self._good = self._skipped = 0

    def _go_back(self, verdict: int) -> None:
        """To the newest snapshot; to the one before where training has been put back to that without a new one since."""
        if self.rewind is None:
            raise self._error(verdict, "there are no snapshots to go back to (rewind=None)")
        if (spent := self.rewinds - self._in_vain) >= self.most_rewinds:
            raise self._error(verdict, f"training has been rewound {spent} times (most_rewinds={self.most_rewinds})")
        passed: dict[int, str] = {}
        found = newest_usable(self._snapshots, self._training.check, passed, below=self._back)
        for newer, why in passed.items():
            self._warn(f"the snapshot of batch {newer} was skipped: {why}")
        if found is None:
            raise self._error(verdict, "there is no snapshot left to go back to")
        number, tree = found
        why = self._why(verdict)
        self._put_back(tree)
        self._bad = 0
        self.rewinds += 1
        self._back = number
        self._rejected.rewound()
        said = f"back to step {self.optimizer.steps}, {self.calls - number} batches left out: {why}"
        self._note("rewound", said, {"batches": float(self.calls - number)})

    def _accept_level(self) -> None:
        self._in_vain += self._rejected.rewinds
        self._warn(
            f"the loss has a new level, {self._rejected.median:.4g} instead of {median(self._losses.past):.4g}. The level "
            f"is the same "
            f"after a rewind, so the weights aren't the cause. The warm-up starts again"
        )
        self._losses.forget()
        self._rejected.forget()
        self._spikes.clear()

    def _say_if_often(self) -> None:
        """Once: what is left out again and again between good batches brings no error, and would be missed by nobody."""
        if not self._often and sum(self._spikes) >= _OFTEN:
            self._often = True
            self._warn(
                f"{sum(self._spikes)} of the last {len(self._spikes)} batches were left out as spikes. If their losses "
                f"are legitimate "
                f"(one task of several, a rare class), the model doesn't learn from them: pass a larger spike=…, or spike=None"
            )

    # ---- what is said

    def _note_bad(self, verdict: int, loss: float, limit: float) -> None:
        if verdict == _NONFINITE:
            self._note("nonfinite", f"loss {loss:.4g}; batch left out", {"loss": loss})
        else:
            self._note("spike", f"loss {loss:.4g} above {limit:.4g}; batch left out", {"loss": loss, "limit": limit})

    def _note(self, kind: str, message: str, values: dict[str, float] | None = None) -> None:
        self._told.note(self.calls, kind, message, values)

    def _warn(self, message: str) -> None:
        self._told.warn(self.calls, message)

    def _why(self, verdict: int) -> str:
        if self._skipped > self.most_skipped:
            return f"the optimizer left out {self._skipped} steps in a row (most_skipped={self.most_skipped})"
        return f"{self._bad} bad batches in a row (skip={self.skip})"

    def _error(self, verdict: int, reason: str) -> Exception:
        kind = FloatingPointError if verdict == _NONFINITE or self._skipped > self.most_skipped else RuntimeError
        kept = f"Snapshots stay in {self._folder}; resume() goes on from them. " if any_in(self._folder) else ""
        return kind(
            f"Guard: {self._why(verdict)}, and {reason}. Lower the learning rate, clip the gradients, or look at these batches. "
            f"{kept}What happened last:{self._told.report()}"
        )


def _checked(optimizer: Any) -> Any:
    try:
        return unwrapped(optimizer)
    except TypeError:
        kind = type(optimizer)
        raise TypeError(
            f"Guard: optimizer must be one of steepest.torch or steepest.numpy, got {kind.__module__}.{kind.__qualname__}."
        ) from None


def _listed(given: Any) -> Sequence[Any]:
    return tuple(given) if isinstance(given, (list, tuple)) else (given,)
