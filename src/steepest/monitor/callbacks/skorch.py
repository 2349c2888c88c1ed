"""For skorch's nets."""

from __future__ import annotations

from typing import Any

from skorch.callbacks import Callback

from steepest.monitor.callbacks.watched import Watched, check_options, harmless
from steepest.monitor.monitor import Monitor

__all__ = ["SkorchCallback"]


class SkorchCallback(Callback):  # type: ignore[misc]  # without types
    """Monitors training by skorch: ``NeuralNetClassifier(…, callbacks=[SkorchCallback(every=10, to=[…])])``.

    All arguments are `Monitor`'s; each is an attribute, as scikit-learn's ``get_params`` asks for. The loss of each batch is the
    one that skorch records as ``train_loss``. The monitor never ends a training: whatever fails in it is one warning.
    """

    def __init__(self, **options: Any) -> None:
        check_options("SkorchCallback", options)
        self.__dict__.update(options)
        self.watched_ = Watched("SkorchCallback")

    @property
    def monitor_(self) -> Monitor | None:
        """The monitor of this training, or of the last one."""
        return self.watched_.monitor

    @harmless
    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **given: Any) -> None:
        options = {name: value for name, value in vars(self).items() if not name.endswith("_")}
        self.watched_.begin(lambda: net.optimizer_, net.module_, options)

    @harmless
    def on_batch_end(self, net: Any, batch: Any = None, training: bool | None = None, **given: Any) -> None:
        if training:
            self.watched_.batch(given.get("loss"), {}, 'train_step returned none. Return {"loss": loss, "y_pred": …}')

    @harmless
    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **given: Any) -> None:
        self.watched_.end()
