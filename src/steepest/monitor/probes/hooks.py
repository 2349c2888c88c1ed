"""Hooks that see one batch, from before its forward pass to its step, and that never end a training.

Passes after the step belong to another probe, or to an evaluation, and are not seen. What a hook raises is kept and raised again
where the probe measures, so that it closes the probe and not the training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Hooks"]


class Hooks:
    """The hooks of one probe."""

    def __init__(self) -> None:
        self._handles: list[Any] = []
        self._seeing = False
        self._error: Exception | None = None

    def start(self, optimizer: Any, at_step: Callable[[], None] | None = None) -> None:
        """See until the optimizer has stepped; then, while the gradients are still there, ``at_step`` is called.

        Not right before the step, where a trainer that gives it a closure has made no pass yet.
        """
        self.remove()
        self._seeing, self._error = True, None
        if not hasattr(optimizer, "register_step_post_hook"):
            return
        see = self._guarded(lambda *_: at_step() if at_step is not None else None)

        def end(*given: Any) -> None:
            see(*given)
            self._seeing = False

        self._handles.append(optimizer.register_step_post_hook(end))

    def add(self, register: Callable[..., Any], see: Callable[..., Any]) -> None:
        """Give ``see`` to one of torch's functions that register a hook."""
        self._handles.append(register(self._guarded(see)))

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._seeing = [], False

    def finish(self) -> None:
        """Remove them; raises what one of them has raised."""
        self.remove()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _guarded(self, see: Callable[..., Any]) -> Callable[..., None]:
        def seen(*given: Any) -> None:
            if not self._seeing:
                return
            try:
                see(*given)
            except Exception as error:
                self._error, self._seeing = error.with_traceback(None), False  # it holds what the hook was given

        return seen
