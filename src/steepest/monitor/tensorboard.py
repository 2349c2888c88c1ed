"""A run as TensorBoard shows it: scalars by tags, events and the chain as texts. Uses tensorboard's own format, not torch's.

The file is written by the thread that trains: what goes wrong with it is raised where an output's errors are expected.
"""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import time
from functools import cache
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

from steepest.checks import Count, check_value
from steepest.monitor.files import check_file
from steepest.monitor.recorder.run_file import begin_of
from steepest.monitor.records import Event, Facts, Record
from steepest.monitor.tags import losses_by_step, tagged

__all__ = ["TensorBoard"]

_SUFFIX = ".steepest"
_FILES = count()
"""Of this process: two outputs that start in one second have a file each."""
_SECOND = re.compile(r"tfevents\.(\d{10})\.")


class TensorBoard:
    """Write for TensorBoard: ``tensorboard --logdir FOLDER``.

    ``loss`` has a value at every step that was given one (their mean where gradients are accumulated), other scalars at each
    record: ``lr``, ``grad_norm``, and a tensor's values under ``update_ratio/layer.weight``. Events are texts. Of a distributed
    run only the first process writes.

    A record of 25 tensors costs a millisecond, of 500 tensors 20: tensorboard computes its checksums in Python. So a model of
    more tensors than ``tensors`` has five curves for each measurement instead: ``update_ratio/lowest``, ``tenth``, ``median``,
    ``nine tenths`` and ``highest``. Its tensors one by one are in the recorder's folder and on the `Report`'s page.

    A folder that holds a run already gets a file beside it. Where all files there are of this output, steps that are taken
    again, by a run that resumes or after a rewind, replace those of before; a folder shared with another writer is left to
    show both.

    Parameters
    ----------
    folder : path
        Made if it is missing.
    tensors : int, default 500
        Write curves of single tensors for models of up to this many, >= 1.

    Raises
    ------
    ModuleNotFoundError : the package tensorboard is missing.
    OSError : by `start` where the folder can't be written; by the others when the disk is full or the file has been deleted.
    """

    def __init__(self, folder: str | os.PathLike[str], *, tensors: int = 500) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise ModuleNotFoundError(
                "TensorBoard: the package tensorboard is missing. pip install 'steepest[monitor]'"
            )
        check_value("TensorBoard", "tensors", tensors, Count)
        self.folder, self.tensors = Path(folder), int(tensors)
        self._file: IO[bytes] | None = None

    def start(self, facts: Facts) -> None:
        """Open a file, and write the chains and the plan as text."""
        if facts.process:
            return
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.folder.mkdir(parents=True, exist_ok=True)
        before = [path.name for path in self.folder.glob("*tfevents*")]
        self._replaces = bool(before)
        self._facts, self._names = facts, [one.name for one in facts.tensors]
        self._before: tuple[int, int] | None = None
        who = f"{socket.gethostname()}.{os.getpid()}.{next(_FILES)}"
        self.path = self.folder / f"events.out.tfevents.{_second_after(before):010d}.{who}{_SUFFIX}"
        self._file = open(self.path, "xb")  # noqa: SIM115  # open until close
        self._records = RecordWriter(self._file)
        self._write(0, file_version="brain.Event:2")
        chains = "\n\n".join(f"    {chain}" for chain in facts.chains)
        plan = facts.plan.replace("\n", "\n    ")
        self._text(0, "steepest/chains", f"{facts.optimizer}:\n\n{chains}\n\nIts plan:\n\n    {plan}")

    def record(self, record: Record) -> None:
        """Write a record's losses and scalars."""
        if self._file is None:
            return
        self._begin(record.step)
        for step, loss in zip(*losses_by_step(record, self._before, self._facts.every), strict=True):
            self._scalars(int(step), {"loss": float(loss)})
        self._scalars(record.step, tagged(record, self._names, most=self.tensors))
        self._file.flush()
        self._before = record.step, record.call

    def event(self, event: Event) -> None:
        """Write an event as text."""
        if self._file is not None:
            self._begin(event.step)
            if event.kind == "rewound" and self._before is not None and event.step < self._before[0]:
                self._hide(event.step + 1)
                self._before = event.step, event.call
            of = f" ({', '.join(event.tensors)})" if event.tensors else ""
            self._text(event.step, f"events/{event.kind}", event.message + of)
            self._file.flush()

    def close(self) -> None:
        """Write what waits, and close the file."""
        if self._file is not None:
            file, self._file = self._file, None
            with file:
                check_file("TensorBoard", self.path, file)

    def _begin(self, step: int) -> None:
        """Hide what earlier sessions wrote from here on."""
        if self._replaces:
            self._replaces = False
            self._hide(begin_of(step, self._facts.every))

    def _hide(self, step: int) -> None:
        """What there is from a step on, as `SummaryWriter` does by its ``purge_step``; that of other writers would go too."""
        if all(path.name.endswith(_SUFFIX) for path in self.folder.glob("*tfevents*")):
            log = _proto().SessionLog
            self._write(step, session_log=log(status=log.START))

    def _scalars(self, step: int, values: dict[str, float]) -> None:
        proto = _proto()
        made = [proto.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(step, summary=proto.Summary(value=made))

    def _text(self, step: int, tag: str, text: str) -> None:
        proto = _proto()
        shape = proto.Shape(dim=[proto.Shape.Dim(size=1)])
        tensor = proto.Tensor(dtype="DT_STRING", string_val=[text.encode(errors="replace")], tensor_shape=shape)
        metadata = proto.Metadata(plugin_data=proto.Metadata.PluginData(plugin_name="text"))
        self._write(step, summary=proto.Summary(value=[proto.Value(tag=tag, metadata=metadata, tensor=tensor)]))

    def _write(self, step: int, **what: Any) -> None:
        assert self._file is not None
        check_file("TensorBoard", self.path, self._file)
        self._records.write(_proto().Event(wall_time=time.time(), step=step, **what).SerializeToString())


@cache
def _proto() -> SimpleNamespace:
    """What tensorboard's files consist of."""
    from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2

    return SimpleNamespace(
        Event=event_pb2.Event,
        SessionLog=event_pb2.SessionLog,
        Summary=summary_pb2.Summary,
        Value=summary_pb2.Summary.Value,
        Metadata=summary_pb2.SummaryMetadata,
        Tensor=tensor_pb2.TensorProto,
        Shape=tensor_shape_pb2.TensorShapeProto,
    )


def _second_after(names: list[str]) -> int:
    """Return the time for a new file's name, in seconds, later than the times in the names of the files before it.

    TensorBoard reads a folder's files in the order of their names. Two files can start in the same second, and a clock can go back.
    """
    return max([int(time.time()), *(int(match[1]) + 1 for name in names if (match := _SECOND.search(name)))])
