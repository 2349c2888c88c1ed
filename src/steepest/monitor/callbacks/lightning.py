"""For Lightning's Trainer."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback

from steepest.monitor.monitor import Monitor

__all__ = ["LightningCallback"]


class LightningCallback(Callback):
    """Monitors training by Lightning: ``Trainer(callbacks=[LightningCallback(every=10, to=[…])])``.

    ``optimizer`` is the number of the one to watch, where a module has several; all other arguments are `Monitor`'s. What the
    module logs (``self.log``) as a number joins the records under its name.
    """

    def __init__(self, *, optimizer: int = 0, **options: Any) -> None:
        self.optimizer, self.options = optimizer, options
        self.monitor: Monitor | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.monitor = Monitor(trainer.optimizers[self.optimizer], pl_module, **self.options)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.monitor is None:
            return
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        logged = {
            n: v for n, v in trainer.logged_metrics.items() if n != "loss" and getattr(v, "numel", lambda: 1)() == 1
        }
        self.monitor(loss, **logged)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self.monitor is not None:
            self.monitor.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if self.monitor is not None:
            self.monitor.event("note", f"training ended by {type(exception).__name__}: {exception}")
            self.monitor.close()
