"""For Lightning's Trainer."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback

from steepest.monitor.callbacks.watched import Watched, check_options, harmless
from steepest.monitor.monitor import Monitor

__all__ = ["LightningCallback"]


class LightningCallback(Callback):
    """Monitors training by Lightning: ``Trainer(callbacks=[LightningCallback(every=10, to=[…])])``.

    ``optimizer`` is the number of the one to watch, where a module has several; all other arguments are `Monitor`'s. The loss of
    each batch is what ``training_step`` returned, as without ``accumulate_grad_batches``. What the module logs (``self.log``) as
    a number joins the records under its name. The monitor never ends a training: whatever fails in it is one warning.
    """

    def __init__(self, *, optimizer: int = 0, **options: Any) -> None:
        check_options("LightningCallback", options)
        self.optimizer, self.options = optimizer, options
        self.watched_ = Watched("LightningCallback")

    @property
    def monitor(self) -> Monitor | None:
        """The monitor of this training, or of the last one."""
        return self.watched_.monitor

    @harmless
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.watched_.begin(lambda: trainer.optimizers[self.optimizer], pl_module, self.options)

    @harmless
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if loss is not None and pl_module.automatic_optimization:
            loss = loss * trainer.accumulate_grad_batches  # by which Lightning has divided it
        logged = {
            n: v for n, v in trainer.logged_metrics.items() if n != "loss" and getattr(v, "numel", lambda: 1)() == 1
        }
        self.watched_.batch(loss, logged, 'training_step returned none. Return the loss, or {"loss": loss}')

    @harmless
    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.watched_.end()

    @harmless
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.watched_.end(f"training ended by {type(exception).__name__}: {exception}")
