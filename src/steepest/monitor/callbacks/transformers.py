"""For the Trainer of Hugging Face's transformers."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from steepest.monitor.callbacks.watched import Watched, check_options, harmless
from steepest.monitor.monitor import Monitor

__all__ = ["TransformersCallback"]


class TransformersCallback(TrainerCallback):
    """Monitors training by transformers' Trainer: ``Trainer(…, callbacks=[TransformersCallback(every=10, to=[…])])``.

    All arguments are `Monitor`'s. The loss of a step is the one that the Trainer itself adds up for its log: what its
    ``training_step`` returned for the step's batches. The Trainer gives callbacks no loss of a single step, so its
    ``training_step`` is wrapped until training ends. What the Trainer logs joins the records. Its own clipping
    (``max_grad_norm``, 1.0 unless set) comes before the step: set it to 0 and clip in the chain to see both norms. The monitor
    never ends a training: whatever fails in it is one warning.
    """

    def __init__(self, **options: Any) -> None:
        check_options("TransformersCallback", options)
        self.options = options
        self.watched_ = Watched("TransformersCallback")
        self._losses: list[Any] = []
        self._logged: dict[str, float] = {}

    @property
    def monitor(self) -> Monitor | None:
        """The monitor of this training, or of the last one."""
        return self.watched_.monitor

    @harmless
    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._losses, self._logged = [], {}
        self.watched_.begin(lambda: given["optimizer"], given["model"], self.options, self._wrap)

    @harmless
    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        losses, self._losses = self._losses, []
        logged, self._logged = self._logged, {}
        missing = "this trainer calls no Trainer.training_step, which would return it"
        self.watched_.batch(sum(losses) if losses else None, logged, missing)

    @harmless
    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **given: Any) -> None:
        known = ("loss", "learning_rate", "grad_norm")  # the monitor's own are exact and not rounded
        self._logged |= {n: v for n, v in (logs or {}).items() if isinstance(v, (int, float)) and n not in known}

    @harmless
    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.watched_.end()

    def _wrap(self) -> Callable[[], None] | None:
        """See what the trainer's ``training_step`` returns; the function that ends this."""
        trainer = self._trainer()
        if trainer is None:
            return None
        own, trainer_ref = vars(trainer).get("training_step"), weakref.ref(trainer)

        def training_step(*given: Any, **named: Any) -> Any:
            trainer: Any = trainer_ref()
            try:
                loss = own(*given, **named) if own else type(trainer).training_step(trainer, *given, **named)
            except BaseException as error:  # the Trainer ends then, and calls no callback
                self._ended_by(error)
                raise
            if loss is not None:
                self._losses.append(loss.detach())
            return loss

        trainer.training_step = training_step

        def undo() -> None:
            trainer = trainer_ref()
            if trainer is not None and vars(trainer).get("training_step") is training_step:
                del trainer.training_step
                if own is not None:
                    trainer.training_step = own

        return undo

    @harmless
    def _ended_by(self, error: BaseException) -> None:
        self.watched_.end(f"training ended by {type(error).__name__}: {error}")

    def _trainer(self) -> Any:
        """The trainer that calls, which it does not tell callbacks."""
        frame = sys._getframe()
        while frame.f_back is not None:
            frame = frame.f_back
            caller = frame.f_locals.get("self")
            handler = getattr(caller, "callback_handler", None)
            if any(one is self for one in getattr(handler, "callbacks", ())):
                return caller
        return None
