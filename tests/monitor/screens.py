"""What the tests of the terminal view share: a small terminal that shows what was written to it, and runs to be shown."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import numpy as np

from steepest.monitor.records import Facts, Record, TensorFacts

NAMES = (
    "embedding.weight",
    "blocks.0.attention.in_projection.weight",
    "blocks.0.attention.in_projection.bias",
    "blocks.0.mlp.weight",
    "blocks.1.attention.in_projection.weight",
    "blocks.1.attention.in_projection.bias",
    "blocks.1.mlp.weight",
    "head.weight",
)


def facts(names: Sequence[str] = NAMES, *, every: int = 10, process: int = 0) -> Facts:
    tensors = tuple(TensorFacts(name, (16,) if name.endswith("bias") else (16, 16), "float32") for name in names)
    return Facts(0.0, "torch", "AdamW", ("adamw",), ({"lr": 1e-3},), tensors, {}, every, process=process)


def record(
    step: int, of: Facts, *, loss: float = 1.0, ratios: dict[str, float] | None = None, **tensors: object
) -> Record:
    """A healthy record: every ratio 1e-3; ``ratios`` by name, and further measurements as values for all tensors."""
    count, names = len(of.tensors), [one.name for one in of.tensors]
    ratio = np.full(count, 1e-3)
    for name, value in (ratios or {}).items():
        ratio[names.index(name)] = value
    measured = {
        "grad_norm": np.full(count, 0.25),
        "weight_norm": np.full(count, 4.0),
        "update_norm": 4.0 * ratio,
        **tensors,
    }
    return Record(
        step, step, step / 100, np.full(of.every, loss),
        {"lr": 1e-3, "grad_norm": 0.5, "step_seconds": 0.01, "optimizer_seconds": 0.001},
        {name: np.broadcast_to(np.asarray(values, dtype=np.float32), count) for name, values in measured.items()},
    )  # fmt: skip


class Tty(io.StringIO):
    """A stream that says that it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def shown(text: str, rows: int = 200, columns: int = 400) -> list[str]:
    """What a terminal shows after this text: the lines that scrolled away, and the screen, without blanks at their ends.

    It knows the control sequences that the view uses and those of tqdm's bars, and refuses others.
    """
    above: list[str] = []
    screen = [""]
    row = column = 0
    for piece in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\x1b.|[\r\n]|[^\x1b\r\n]", text):
        if piece == "\n":
            row, column = row + 1, 0
        elif piece == "\r":
            column = 0
        elif piece.startswith("\x1b"):
            number, kind = int(re.sub(r"\D", "", piece) or 1), piece[-1]
            if kind == "A":
                row = max(row - number, 0)
            elif piece == "\x1b[H":
                row = column = 0
            elif piece in ("\x1b[K", "\x1b[J"):
                screen[row] = screen[row][:column]
                if kind == "J":
                    del screen[row + 1 :]
            elif piece == "\x1b[?1049h":
                kept = screen, row, column
                screen, row, column = [""], 0, 0
            elif piece == "\x1b[?1049l":
                screen, row, column = kept
            else:
                assert kind == "m" or piece in ("\x1b[?25l", "\x1b[?25h"), f"{piece!r} is not known here"
        else:
            if column >= columns:
                row, column = row + 1, 0
            screen += [""] * (row + 1 - len(screen))
            line = screen[row].ljust(column)
            screen[row] = line[:column] + piece + line[column + 1 :]
            column += 1
        screen += [""] * (row + 1 - len(screen))
        while len(screen) > rows:
            above.append(screen.pop(0))
            row -= 1
    return [line.rstrip() for line in above + screen]
