"""What was done: how many attempts of which task, how long they waited and ran.

    sheets     worker -> Sheet: its sums, and those of the minute that goes on
    minutes    (minute, worker) -> {task: figures}      hours    the same by hours
    gone       the sums of workers that have ended

A sheet has one writer, the clerk of its worker, who writes with what he settles: no
reader walks over jobs, and no two writers meet.  Figures are tuples, see FIGURES.
"""
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from BTrees.OOBTree import OOBTree
from persistent import Persistent

MINUTE, HOUR = 60_000_000, 3_600_000_000  # microseconds
MINUTES_KEPT, HOURS_KEPT = 240, 24 * 15
TASKS_KEPT = 500       # in one sheet; what is more counts as OTHER
OTHER = "(other tasks)"

#: Upper bounds of what is told apart of waiting and running, in seconds.
BOUNDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 3600.0)

#: How attempts ended, conflicts on the way, and microseconds in all.
ENDS = ("completed", "error", "cancelled", "retried")
FIGURES = (*ENDS, "conflicts", "waited", "ran")
NOTHING = (0,) * len(FIGURES)
NO_SPREAD = (0,) * (len(BOUNDS) + 1)

Rows = dict[str, tuple[int, ...]]


class Sheet(Persistent):
    """The sums of one worker, or of those that are gone."""

    def __init__(self) -> None:
        self.minute = 0
        self.now: Rows = {}
        self.sums: Rows = {}
        self.waited: Rows = {}   # task -> how many waited up to each of the bounds
        self.ran: Rows = {}

    def add(self, told: Iterable[tuple[str, str, int, int, int]]) -> None:
        """Attempts: (task, how it ended, conflicts, waited, ran), in microseconds."""
        known = set(self.sums)
        news: dict[str, tuple[list[int], ...]] = {}
        for task, end, conflicts, waited, ran in told:
            if task not in known:
                if len(known) >= TASKS_KEPT:
                    task = OTHER
                known.add(task)
            if task not in news:
                news[task] = list(NOTHING), list(NO_SPREAD), list(NO_SPREAD)
            facts, waits, runs = news[task]
            facts[FIGURES.index(end)] += 1
            for place, figure in enumerate((conflicts, waited, ran), len(ENDS)):
                facts[place] += figure
            waits[bisect_left(BOUNDS, waited / 1_000_000)] += 1
            runs[bisect_left(BOUNDS, ran / 1_000_000)] += 1
        for place, names in enumerate((("now", "sums"), ("waited",), ("ran",))):
            for name in names:
                rows = dict(getattr(self, name))
                for task, found in news.items():
                    _add(rows, task, found[place])
                setattr(self, name, rows)

    def take(self, other: "Sheet") -> None:
        """Add the sums of another sheet."""
        for name in ("sums", "waited", "ran"):
            mine = dict(getattr(self, name))
            for task, facts in getattr(other, name).items():
                _add(mine, task if task in mine or len(mine) < TASKS_KEPT else OTHER,
                     facts)
            setattr(self, name, mine)


def _add(rows: Rows, task: str, facts: Sequence[int]) -> None:
    before = rows.get(task)
    rows[task] = tuple(facts if before is None else map(sum, zip(before, facts)))


class Tallies(Persistent):

    def __init__(self) -> None:
        self.sheets = OOBTree()
        self.minutes = OOBTree()
        self.hours = OOBTree()
        self.gone = Sheet()

    def note(self, worker: str, told, now: int) -> None:
        """Attempts of a worker: see Sheet.add."""
        sheet = self.sheets.get(worker)
        if sheet is None:
            sheet = self.sheets[worker] = Sheet()
        minute = now // MINUTE
        if sheet.minute != minute:
            self._turn(worker, sheet)
            sheet.minute = minute
        sheet.add(told)

    def _turn(self, worker: str, sheet: Sheet) -> None:
        """The minute of a sheet is over."""
        if not sheet.now:
            return
        self.minutes[sheet.minute, worker] = sheet.now
        hour = sheet.minute * MINUTE // HOUR, worker
        rows = dict(self.hours.get(hour, {}))
        for task, facts in sheet.now.items():
            _add(rows, task, facts)
        self.hours[hour] = rows
        sheet.now = {}

    def prune(self, now: int, workers: set[str]) -> None:
        """Forget what is too old, and the sheets of those that are not there any more."""
        for tree, first in ((self.minutes, now // MINUTE - MINUTES_KEPT),
                            (self.hours, now // HOUR - HOURS_KEPT)):
            for key in list(tree.keys(None, (first, ""))):
                del tree[key]
        for worker in set(self.sheets).difference(workers):
            sheet = self.sheets[worker]
            self._turn(worker, sheet)
            self.gone.take(sheet)
            del self.sheets[worker]

    # -- reading

    def steps(self, size: int, count: int, now: int) -> Iterator[tuple[int, Rows]]:
        """(moment, {task: figures}) of the last steps of MINUTE or HOUR, oldest first."""
        last = now // size
        found: dict[int, Rows] = {last - back: {} for back in range(count)}
        tree = self.minutes if size == MINUTE else self.hours
        for (number, _), rows in tree.items((last - count + 1, "")):
            self._put(found.get(number), rows)
        for sheet in self.sheets.values():
            self._put(found.get(sheet.minute * MINUTE // size), sheet.now)
        for number in sorted(found):
            yield number * size, found[number]

    def _put(self, found: Rows | None, rows: Rows) -> None:
        if found is not None:
            for task, facts in rows.items():
                _add(found, task, facts)

    def sums(self) -> Sheet:
        """The sums of all workers that ever were, in a sheet that is not stored."""
        total = Sheet()
        for sheet in (self.gone, *self.sheets.values()):
            total.take(sheet)
        return total
