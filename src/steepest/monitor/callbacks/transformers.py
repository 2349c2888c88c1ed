"""For the Trainer of Hugging Face's transformers."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from steepest.monitor.monitor import Monitor

__all__ = ["TransformersCallback"]


class TransformersCallback(TrainerCallback):
    """Monitors training by transformers' Trainer: ``Trainer(…, callbacks=[TransformersCallback(every=10, to=[…])])``.

    All arguments are `Monitor`'s. The Trainer tells callbacks no loss of a single step, so a hook reads it where the model
    returns it, averaged over the batches of a step; the hook goes when training ends. What the Trainer logs joins the records.
    Its own clipping (``max_grad_norm``, 1.0 unless set) comes before the step: set it to 0 and clip in the chain to see both norms.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.monitor: Monitor | None = None
        self._losses: list[Any] = []
        self._logged: dict[str, float] = {}
        self._hook: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        model = given["model"]
        self.monitor = Monitor(given["optimizer"], model, **self.options)
        self._hook = model.register_forward_hook(self._see)

    def _see(self, model: Any, inputs: Any, outputs: Any) -> None:
        loss = outputs.get("loss") if hasattr(outputs, "get") else getattr(outputs, "loss", None)
        if model.training and loss is not None:
            self._losses.append(loss.detach())

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if self.monitor is not None:
            losses, self._losses = self._losses, []
            logged, self._logged = self._logged, {}
            self.monitor(sum(losses) / len(losses) if losses else None, **logged)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **given: Any) -> None:
        known = ("loss", "learning_rate", "grad_norm")  # the monitor's own are exact and not rounded
        self._logged |= {n: v for n, v in (logs or {}).items() if isinstance(v, (int, float)) and n not in known}

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if self._hook is not None:
            self._hook.remove()
        if self.monitor is not None:
            self.monitor.close()
