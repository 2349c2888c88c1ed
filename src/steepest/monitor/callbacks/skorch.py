"""For skorch's nets."""

from __future__ import annotations

from typing import Any

from skorch.callbacks import Callback

from steepest.monitor.monitor import Monitor

__all__ = ["SkorchCallback"]


class SkorchCallback(Callback):  # type: ignore[misc]  # without types
    """Monitors training by skorch: ``NeuralNetClassifier(…, callbacks=[SkorchCallback(every=10, to=[…])])``.

    All arguments are `Monitor`'s; each is an attribute, as scikit-learn's ``get_params`` asks for.
    """

    def __init__(self, **options: Any) -> None:
        self.__dict__.update(options)

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **given: Any) -> None:
        options = {name: value for name, value in vars(self).items() if not name.endswith("_")}
        self.monitor_ = Monitor(net.optimizer_, net.module_, **options)

    def on_batch_end(self, net: Any, batch: Any = None, training: bool | None = None, **given: Any) -> None:
        if training and hasattr(self, "monitor_"):
            self.monitor_(given.get("loss"))

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **given: Any) -> None:
        if hasattr(self, "monitor_"):
            self.monitor_.close()
