"""Schedules behind the numbers of parameter groups, whatever the framework.

A group shows a number for each schedule: the value that the next step uses. So whatever reads groups finds numbers: schedulers,
trainers, loggers, checkpoints. The schedules are kept here, beside the groups. A chain holds a `Scheduled` in a number's place.

Another number in a group was written by somebody else. That number counts. The schedule waits until the very number that was shown
comes back, because tools that borrow a group (torch's distributed checkpoints, range tests) write back what they have read. A
scheduler of torch doesn't borrow: it notes ``initial_lr`` in the group, and replaces the schedule of ``lr`` for good.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steepest.checks import warn
from steepest.schedules import Schedule
from steepest.step.groups import frozen

__all__ = ["Scheduled", "Schedules", "numbers_of"]

Group = dict[str, Any]


@dataclass(slots=True, eq=False, repr=False)
class Scheduled:
    """A hyperparameter of a group, or an element of one (``betas[0]``), that a schedule gives.

    Called with the number of steps taken so far, it is the value to use: the schedule's, or a number that was written to the
    group.
    """

    schedule: Callable[[int], Any]
    what: str
    group: int
    name: str
    place: int | None
    initial: Any
    """The group's ``initial_lr`` when the schedule came."""
    shown: float = math.nan
    given: Any = None
    """What the schedule gave last, as it is."""
    steps: int = -1
    """The number of steps for which it gave that."""
    written: float | None = None
    """The number in force that somebody else has written."""
    paused: bool = False
    """Whether a step was made with a written 0."""
    told: bool = False

    def __call__(self, steps: int) -> Any:
        if self.written is not None:
            return self.written
        return self.given if steps == self.steps else self.schedule(steps)

    def __repr__(self) -> str:
        return repr(self.schedule) if self.written is None else f"{self.written:g}"

    @property
    def where(self) -> str:
        """The value's place as code."""
        return f"param_groups[{self.group}][{self.name!r}]" + ("" if self.place is None else f"[{self.place}]")

    @property
    def said(self) -> str:
        """What a message calls a written number; nothing for the schedule's."""
        return "" if self.written is None else f"{self.what}: {self.where}"

    def found(self, group: Mapping[str, Any]) -> Any:
        """What stands in the group at this place."""
        value = group.get(self.name)
        if self.place is None:
            return value
        return value[self.place] if isinstance(value, (tuple, list)) and self.place < len(value) else None

    def put(self, group: Group, value: Any) -> None:
        """Write a value to the group at this place."""
        if self.place is None:
            group[self.name] = value
        else:
            several = list(group[self.name])
            several[self.place] = value
            group[self.name] = tuple(several)

    def show(self, group: Group, steps: int) -> None:
        """Let the group show what the schedule gives after so many steps; an invalid value stays for the step to refuse."""
        if not self.is_current(steps):
            self.given, self.steps = self.schedule(steps), steps
            number = _number(self.given)
            if number is not None and number != self.shown:
                self.shown = number
        if self.found(group) != self.shown:
            self.put(group, self.shown)

    def is_current(self, steps: int) -> bool:
        """Whether a schedule of the library gives after so many steps what is known; anything else may have changed meanwhile."""
        return steps == self.steps and self.written is None and type(self.schedule) is Schedule

    def is_back(self, number: float) -> bool:
        """Whether a number in the group is the one that was shown there.

        After a warning an equal number can be a coincidence, so it must be the same object.
        """
        return number is self.shown if self.written is not None and self.told else number == self.shown


class Schedules:
    """All schedules of an optimizer's groups, which may be moved and taken out by hand.

    Parameters
    ----------
    what : str
        Name of the optimizer's class, for messages.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._groups: list[Group] = []
        self._rows: list[list[Scheduled]] = []
        self._replaced: list[Scheduled] = []

    def __bool__(self) -> bool:
        return any(self._rows) or bool(self._replaced)

    def __iter__(self) -> Iterator[Scheduled]:
        return (one for row in self._rows for one in row)

    def take(
        self,
        groups: Sequence[Group],
        names: Sequence[Iterable[str]],
        steps: int,
        accept: Callable[[int, Mapping[str, Any]], object],
    ) -> bool:
        """Take the schedules that stand in groups, and return whether there was one; numbers stand there from now on.

        A schedule that ``accept`` refuses, or that gives no finite number now, stays in its group: the next step raises the
        error.
        """
        self._find(groups)
        taken = False
        for number, (group, own) in enumerate(zip(groups, names, strict=True)):
            for name in own:
                value = group.get(name)
                several = value if isinstance(value, (tuple, list)) else (value,)
                if not any(map(callable, several)):
                    continue
                initial = group.get("initial_lr")
                made = [
                    Scheduled(one, self.what, number, name, None if several is not value else place, initial)
                    for place, one in enumerate(several)
                    if callable(one)
                ]
                try:
                    accept(number, self.whole(number, group))
                    given = [one.schedule(steps) for one in made]
                except Exception:
                    continue
                if None in map(_number, given):
                    continue
                taken = True
                for one in made:
                    self._drop(one)
                    self._rows[number].append(one)
                    one.show(group, steps)
        return taken

    def sync(self, groups: Sequence[Group], steps: int, strict: bool = False) -> None:
        """Bring the groups' numbers up to date, and see which numbers somebody else has written.

        An error that a schedule raises is raised if ``strict``; otherwise the next step raises it.
        """
        self._find(groups)
        for one in list(self):
            group = groups[one.group]
            found = one.found(group)
            if found is one.shown and one.is_current(steps) and group.get("initial_lr") is one.initial:
                continue
            number = found if type(found) is float else _number(frozen(found), finite=False)
            replaced = one.name == "lr" and not _same(group.get("initial_lr"), one.initial)
            if number is None or replaced:
                self._drop(one)
                if number is not None and not one.told:
                    self._replaced.append(one)
            elif not one.is_back(number):
                one.written = number
            else:
                one.written, one.paused = None, False
                one.shown = number  # the object that readers get
                try:
                    one.show(group, steps)
                except Exception:
                    if strict:
                        raise
                    one.steps = -1

    def warn(self, groups: Sequence[Mapping[str, Any]]) -> None:
        """Say once which schedules the coming step does not follow, because numbers were written in their places.

        A first step with a written 0 passes in silence: torch's distributed checkpoints make one to create states.
        """
        if not self._replaced and all(one.written is None or one.told for one in self):
            return
        taken = {one.where for one in self}
        news = [one for one in self._replaced if one.where not in taken and one.group < len(groups)]
        self._replaced = []
        for one in self:
            if one.written is None or one.told:
                continue
            if one.written == 0 and not one.paused:
                one.paused = True
            else:
                one.told = True
                news.append(one)
        if news:
            said = [f"{one.where} is {one.found(groups[one.group])!r} instead of {one.schedule!r}" for one in news[:4]]
            more = f", and {len(news) - 4} more" if len(news) > 4 else ""
            warn(
                f"{self.what}: numbers written to param_groups replace schedules: {', '.join(said)}{more}. Use a schedule or a "
                f"scheduler, not both. To return to a schedule, assign it to its group again."
            )

    def placed(self, number: int, group: Mapping[str, Any]) -> Mapping[str, Any]:
        """A group's values with each `Scheduled` in the place of its number."""
        return self._with(number, group, lambda one: one)

    def whole(self, number: int, group: Mapping[str, Any]) -> Mapping[str, Any]:
        """A group's values with the schedules that are in force in the places of their numbers."""
        return self._with(number, group, lambda one: one.schedule if one.written is None else one.written)

    def in_force(self, number: int, group: Mapping[str, Any]) -> dict[str, Any]:
        """Those values of a group that a schedule gives, with the schedules."""
        row = self._rows[number] if number < len(self._rows) else ()
        names = {one.name: None for one in row if one.written is None}
        whole = self.whole(number, group)
        return {name: whole[name] for name in names}

    def give_back(self, groups: Sequence[Group]) -> None:
        """Put the schedules into the groups, for another optimizer to take."""
        for number, row in enumerate(self._rows):
            self.forget(number, {one.name for one in row}, groups[number])

    def forget(self, number: int, names: Iterable[str], group: Group | None = None) -> None:
        """Forget the schedules of these values; they go back to ``group`` if it is given."""
        for one in list(self):
            if one.group == number and one.name in names:
                if group is not None and one.written is None:
                    one.put(group, one.schedule)
                self._drop(one)
        self._replaced = [one for one in self._replaced if one.group != number or one.name not in names]

    def _with(self, number: int, group: Mapping[str, Any], of: Callable[[Scheduled], Any]) -> Mapping[str, Any]:
        row = self._rows[number] if number < len(self._rows) else ()
        if not row:
            return group
        made = dict(group)
        for one in row:
            found = one.found(group)
            if found is not None and not callable(found):
                one.put(made, of(one))
        return made

    def _drop(self, old: Scheduled) -> None:
        row = self._rows[old.group]
        row[:] = [one for one in row if (one.name, one.place) != (old.name, old.place)]

    def _find(self, groups: Sequence[Group]) -> None:
        """Give each group its schedules: those of the very group, or of the one that it replaces."""
        if len(groups) == len(self._groups) and all(map(operator.is_, groups, self._groups)):
            return
        known = {id(group): row for group, row in zip(self._groups, self._rows, strict=True)}
        moved = {id(group) for group in groups}
        replaces = len(groups) == len(self._groups)
        rows = []
        for number, group in enumerate(groups):
            row = known.get(id(group), [])
            if id(group) not in known and replaces and id(self._groups[number]) not in moved:
                row = self._rows[number]
            for one in row:
                one.group = number
            rows.append(row)
        self._groups, self._rows = list(groups), rows


def numbers_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values whose schedules are numbers: those of the first step."""

    def number(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(number, value))
        if not callable(value):
            return value
        try:
            return float(value(0))
        except Exception:
            return value

    return {name: number(value) for name, value in values.items()}


def _number(value: Any, finite: bool = True) -> float | None:
    """The value as a float; None if it is not a number."""
    if isinstance(value, (str, bytes, bool)) or value is None:
        return None
    try:
        number = float(value)
    except Exception:
        return None
    return number if not finite or math.isfinite(number) else None


def _same(first: Any, second: Any) -> bool:
    return first is second or bool(first == second)
