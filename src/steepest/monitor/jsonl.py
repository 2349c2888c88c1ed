"""A run as lines of JSON, for `jq`, `pandas.read_json` and everything else that reads text."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from steepest.monitor.files import check_file
from steepest.monitor.plain import to_json
from steepest.monitor.records import Event, Facts, Record
from steepest.monitor.tags import tensors_by_name

__all__ = ["JsonLines"]

_BLOCK = 65_536
"""Bytes that are read at once when the end of the last whole line is looked for."""


class JsonLines:
    """Write one JSON object per line: ``{"type": "facts", …}`` when training starts, then ``"record"`` and ``"event"``.

    A record's ``tensors`` are objects, measurement by measurement, of values by the tensors' names. The JSON is strict: nan is
    null, an infinity is the text ``"Infinity"``. Where calls gave no loss, which is null too, ``given`` says for each whether it
    did. Each line is flushed. After a rewind steps go back; the lines of those that were undone stay. A file that is there is
    continued, with facts of its own. Of a distributed run only the first process writes.

    Parameters
    ----------
    path : the file, made with its folder where missing.

    Raises
    ------
    ValueError : by `start`: the file is there and is none of these.
    OSError : it can't be written.

    Examples
    --------
    >>> import tempfile
    >>> lines = JsonLines(tempfile.mkdtemp() + "/run.jsonl")
    >>> lines.start(Facts(0.0, "numpy", "Adam", ("adam(0.1)",), ({},), (), {}, 10))
    >>> lines.event(Event(3, 3, "note", "the data changed"))
    >>> lines.close()
    >>> print(lines.path.read_text().splitlines()[1])
    {"type":"event","step":3,"call":3,"kind":"note","message":"the data changed","tensors":[],"values":{}}
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._names: list[str] = []
        self._file: IO[bytes] | None = None

    def start(self, facts: Facts) -> None:
        """Open the file and write the facts."""
        if facts.process:
            return
        self._names = [one.name for one in facts.tensors]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115  # open until close; "w" would lose what is there
        try:
            self._continue(self._file)
            self._line("facts", asdict(facts))
        except BaseException:
            self.close()
            raise

    def record(self, record: Record) -> None:
        """Write a record."""
        if self._file is None:  # another process than the first
            return
        self._line(
            "record",
            {
                "step": record.step,
                "call": record.call,
                "seconds": record.seconds,
                "losses": record.losses.tolist(),
                **({} if record.given is None else {"given": record.given.tolist()}),
                "scalars": record.scalars,
                "tensors": tensors_by_name(record, self._names),
            },
        )

    def event(self, event: Event) -> None:
        """Write an event."""
        self._line("event", asdict(event))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            file, self._file = self._file, None
            with file:
                check_file("JsonLines", self.path, file)

    def _line(self, kind: str, what: dict[str, Any]) -> None:
        if self._file is not None:
            check_file("JsonLines", self.path, self._file)
            text = memoryview(to_json({"type": kind, **what}).encode() + b"\n")
            while text:  # a disk that is nearly full takes a part
                text = text[self._file.write(text) :]

    def _continue(self, file: IO[bytes]) -> None:
        """Cut off a line that a killed process left half written."""
        with open(self.path, "rb") as written:
            text = written.readline()
            end = _end_of_lines(written)
        if not text:
            return
        try:
            known = json.loads(text)["type"] == "facts"
        except (ValueError, TypeError, KeyError):
            known = False
        if not known:
            raise ValueError(
                f"JsonLines: path must be new or a file of JsonLines, got {str(self.path)!r}. Pass another path, or move the file."
            )
        file.truncate(end)


def _end_of_lines(file: IO[bytes]) -> int:
    """Where the last whole line ends, looked for from the end of the file."""
    end = file.seek(0, os.SEEK_END)
    while end:
        begin = max(0, end - _BLOCK)
        file.seek(begin)
        found = file.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0
