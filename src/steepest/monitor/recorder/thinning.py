"""Which of a run's records go when its file is full, and how: the file stays small, the curves keep their shape.

What later sessions have replaced, or a rewind has undone, goes first. Then of each 2 consecutive records the first is kept,
from the oldest on, until a quarter of all has gone; where that is not enough, of each 4, 8 … The newest quarter stays whole. So
the past has an even spacing, which doubles little by little. (Dropping every second of the older half, again and again, would
leave a handful of records of the first three quarters of a run.) The losses of a record that goes are handed to the next one
that stays: the curve of losses stays complete as long as it takes less than a given number of bytes; after that they go with it.
"""

from __future__ import annotations

import sqlite3

import numpy as np
from numpy.typing import NDArray

from steepest.monitor.records import standing

__all__ = ["LEAST", "superseded", "thin_events", "thin_records", "thinned"]

LEAST = 16
"""So many records are left, however large they are: a table with less than twice as many is not thinned."""
_PORTION = 512
_Row = tuple[int, int, int, int, float, bytes, bytes, bytes]


def superseded(sessions: NDArray[np.int64], steps: NDArray[np.int64], first_steps: dict[int, int]) -> NDArray[np.bool_]:
    """The records that a later session has replaced, those from its first step on; and those that a later record has."""
    replaced = ~standing(steps)
    for session, first in first_steps.items():
        replaced |= (sessions < session) & (steps >= first)
    return replaced


def thinned(ids: NDArray[np.int64], kept: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Which of the records stay when a quarter has to go; those in ``kept`` and the newest quarter do in any case.

    >>> ids = np.arange(16)
    >>> ids[thinned(ids)]
    array([ 0,  2,  4,  6,  8,  9, 10, 11, 12, 13, 14, 15])
    """
    quarter = len(ids) // 4
    always = np.ones(len(ids), dtype=bool)
    always[: len(ids) - quarter] = False if kept is None else kept[: len(ids) - quarter]
    stay, spacing = np.ones(len(ids), dtype=bool), 1
    while (short := quarter - int((~stay).sum())) > 0 and spacing <= ids[-1]:
        spacing *= 2
        cells = ids // spacing
        closer, stay = stay, always | np.concatenate([[True], cells[1:] != cells[:-1]])
        stay[np.flatnonzero(closer & ~stay)[short:]] = True
    return stay


def thin_records(connection: sqlite3.Connection, loss_bytes: int) -> None:
    """Thin the table; dropped losses are handed on while all of them take at most ``loss_bytes``. Inside a transaction."""
    rows = connection.execute("SELECT id, session, step, length(losses) FROM records ORDER BY id").fetchall()
    ids, sessions, steps, sizes = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    firsts = dict(
        connection.execute("SELECT session, first_step FROM sessions WHERE first_step IS NOT NULL").fetchall()
    )
    stay = ~superseded(sessions, steps, firsts)
    if len(ids) - stay.sum() < len(ids) // 4:
        begins = np.concatenate([[True], sessions[1:] != sessions[:-1]])
        stay[stay] = thinned(ids[stay], begins[stay])
    _rewrite(connection, ids, stay, hand_on=int(sizes[stay].sum()) <= loss_bytes)


def thin_events(connection: sqlite3.Connection) -> None:
    """Thin the table in the same way. Inside a transaction."""
    ids = np.array([one for (one,) in connection.execute("SELECT id FROM events ORDER BY id")], dtype=np.int64)
    dropped = ids[~thinned(ids)].tolist()
    connection.executemany("DELETE FROM events WHERE id = ?", ((one,) for one in dropped))


def _rewrite(connection: sqlite3.Connection, ids: NDArray[np.int64], stay: NDArray[np.bool_], *, hand_on: bool) -> None:
    """Delete rows and write those that stay again, portion by portion.

    Deleting every second row alone would free no page: each would be left half full.
    """
    kept = set(ids[stay].tolist())
    last = int(np.flatnonzero(~stay)[-1]) + 1 if not stay.all() else 0
    waiting: tuple[int, int, bytes] = (
        0,
        0,
        b"",
    )  # session, last call and losses of the dropped records before this one
    for start in range(0, last + 1, _PORTION):
        if not waiting[0] and stay[start : start + _PORTION].all():
            continue
        between = (int(ids[start]), int(ids[min(start + _PORTION, len(ids)) - 1]))
        rows: list[_Row] = connection.execute(
            "SELECT * FROM records WHERE id BETWEEN ? AND ? ORDER BY id", between
        ).fetchall()
        connection.execute("DELETE FROM records WHERE id BETWEEN ? AND ?", between)
        again = []
        for one in rows:
            number, session, step, call, seconds, losses, *rest = one
            if hand_on and waiting[:2] == (session, call - len(losses) // 8):
                losses = waiting[2] + losses
            if number in kept:
                again.append((number, session, step, call, seconds, losses, *rest))
                waiting = (0, 0, b"")
            else:
                waiting = (session, call, losses)
        connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", again)
