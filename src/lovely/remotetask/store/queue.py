"""The inbox (zc.queue) and the ordered lines behind it (BTrees).

Whoever adds or changes a job drops a slip into the inbox: "look at this job
again".  The clerk empties the inbox and puts the job where it belongs.  Puts
merge with puts and with pulls, so adders meet nobody; the lines have one kind of
writer, the clerk.
"""
import random
from collections.abc import Iterator
from heapq import merge

import zc.queue
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree, OOTreeSet
from persistent import Persistent

from lovely.remotetask.limits import SUSPECT, WIDTH, is_bounded
from lovely.remotetask.store.jobs import ID_BITS, LARGEST

MOMENT_BITS = 60  # microseconds since 1970, for 36,000 years
MOMENT_MASK = 2**MOMENT_BITS - 1
FOLD = 100  # slips; an adder that finds more folds them in itself,
BUSY_FOLD = 1_000  # or rather leaves so many to the dispatcher where there is one.


class Inbox(zc.queue.Queue):
    """Slips: nonce, first id and last id in one integer.

    The nonce makes each slip its own: zc.queue loses one of two equal items when
    they are put and pulled at once.  One integer: the inbox is written with each
    add, and as tuples of three its slips took a fifth of an add's time.
    """

    def drop(self, first: int, last: int | None = None) -> None:
        last = first if last is None else last
        self.put((random.getrandbits(40) << ID_BITS | first) << ID_BITS | last)

    def first(self) -> int | None:
        """The slip that waits the longest, whatever it says; None without."""
        return next(iter(self), None)

    def runs(self) -> list[tuple[int, int]]:
        """(first id, last id) of each slip."""
        return [_read(slip) for slip in self]

    def take(self, limit: int) -> list[int]:
        """Pull slips for about *limit* ids; the rest of a long slip goes back."""
        ids: list[int] = []
        while len(ids) < limit and len(self):
            first, last = _read(self.pull())
            end = min(last, first + limit - len(ids) - 1)
            ids.extend(range(first, end + 1))
            if end < last:
                self.drop(end + 1, last)
        return ids

    def forget(self, id: int) -> None:
        """Pull all that concerns one job; the rest of a long slip goes back.

        Who settles that job at the same moment pulls the same slip, and one of both
        meets a conflict.
        """
        for first, last in self._pull_those(id):
            if first < id:
                self.drop(first, id - 1)
            if id < last:
                self.drop(id + 1, last)

    def _pull_those(self, id: int) -> list[tuple[int, int]]:
        found = [place for place, (first, last) in enumerate(self.runs())
                 if first <= id <= last]
        return [_read(self.pull(place)) for place in reversed(found)]

    def take_short(self, limit: int) -> list[int]:
        """Pull about *limit* ids of slips shorter than that, and join the long ones.

        For an adder, who shall not pay for a bulk add before his: what that added
        waits for a clerk.  `take`, where nothing gets shorter so.
        """
        ids: list[int] = []
        left: list[tuple[int, int]] = []
        runs = self.runs()
        for first, last in sorted(runs):
            if last - first < limit and len(ids) < limit:
                ids.extend(range(first, last + 1))
            elif left and first <= left[-1][1] + 1:
                left[-1] = left[-1][0], max(last, left[-1][1])
            else:
                left.append((first, last))
        if not ids and len(left) == len(runs):
            return self.take(limit)
        for _ in runs:
            self.pull()
        for first, last in left:
            self.drop(first, last)
        return ids


def _read(slip: int) -> tuple[int, int]:
    return slip >> ID_BITS & LARGEST, slip & LARGEST


class Line(OOBTree):
    """A key of a line is one integer: priority, arrival, id.

    As tuples the keys took three times as long to be written.  Where eight processes
    took from one line, leaves of 60, which are soon empty or split, caused twice the
    conflicts; it is the tree that has to be written then.
    """

    max_leaf_size = 200
    max_internal_size = 500


class Queue(Persistent):
    """What is to be run now: per line, (priority, arrival, id) -> token.

    A line holds the jobs that are alike to whoever claims: of one lane, task and set
    of locks.  The heads of the lines that are open stand in order, so a claim finds
    the most urgent without looking at the others; a line whose limit is reached is
    parked, out of the way, however long it is.

    Lines hold numbers only: walking them loads no job.  An entry whose job is not
    queued with that token any more is stale, and dropped when it is met.
    """

    _v_arrival = 0

    def __init__(self):
        self.inbox = Inbox()
        self.lines = OOBTree()    # name -> Line
        self.heads = OOTreeSet()  # (first key, name) of each line that is open
        self.parked = OOBTree()   # name -> a number that changes with each put
        self.signal = Length()    # changed to call workers that have nothing to do

    def empty(self) -> None:
        """Forget everything, slips too."""
        while len(self.inbox):
            self.inbox.pull()
        self.lines.clear()
        self.heads.clear()
        self.parked.clear()

    def __bool__(self) -> bool:
        """Whether there is something to claim."""
        return bool(self.heads)

    def next_arrival(self, now: int) -> int:
        """A place in line: *now*, but later than any given out here before."""
        self._v_arrival = max(now, self._v_arrival + 1)
        return self._v_arrival

    def put(self, name: str, key: tuple[int, int, int], token: int) -> None:
        line = self.lines.get(name)
        if line is None:
            line = self.lines[name] = Line()
        packed = pack(key)
        first = line.minKey() if line else None
        if name in self.parked and first is not None and packed < first:
            self.open(name)  # it is more urgent now, and shall wait at another place
        if name in self.parked:
            # Opening it at the same moment must meet this, or nobody would find it.
            self.parked[name] += 1
        elif first is None or packed < first:
            self._set_head(name, first, packed)
        line[packed] = token

    def remove(self, name: str, key: tuple[int, int, int]) -> None:
        self.strike(name, [pack(key)])

    def strike(self, name: str, packed_keys: list[int]) -> None:
        """Take entries out of a line."""
        line = self.lines.get(name)
        if not line:
            return
        first = line.minKey()
        for packed in packed_keys:
            line.pop(packed, None)
        now_first = line.minKey() if line else None
        if now_first == first:
            return
        if name in self.parked:
            self.parked[name] += 1  # as in `put`: opening it would note the old head
        else:
            self._set_head(name, first, now_first)
        if now_first is None and is_bounded(name):
            del self.lines[name]  # there may be as many of them as keys
            self.parked.pop(name, None)

    def _set_head(self, name: str, before: int | None, now: int | None) -> None:
        if before is not None and (before, name) in self.heads:
            self.heads.remove((before, name))
        if now is not None:
            if (now, name) in self.heads:
                # It would write nothing: who takes that one out must meet this.
                self._p_changed = True
            self.heads.add((now, name))

    def is_head(self, packed: int, name: str) -> bool:
        """Whether an entry of the heads is that of its line."""
        line = self.lines.get(name)
        return bool(line) and name not in self.parked and line.minKey() == packed

    def mend_head(self, packed: int, name: str) -> None:
        """Put the right one in the place of a head that is not that of its line: no
        claim is to stumble over it.
        """
        line = self.lines.get(name)
        self._p_changed = True  # who leaves the right one in place must meet this
        self._set_head(name, packed, line.minKey()
                       if line and name not in self.parked else None)

    def park(self, name: str) -> None:
        """Set a line aside until `open`."""
        line = self.lines.get(name)
        if line is not None and name not in self.parked:
            self._set_head(name, line.minKey() if line else None, None)
            self.parked[name] = 0

    def open(self, name: str) -> bool:
        """Have a parked line take part again; whether it does."""
        if self.parked.pop(name, None) is None:
            return False
        line = self.lines.get(name)
        if line:
            self.heads.add((line.minKey(), name))
        return bool(line)

    def has(self, name: str, key: tuple[int, int, int]) -> int | None:
        """The token of an entry; None without."""
        line = self.lines.get(name)
        return None if line is None else line.get(pack(key))

    def suspects(self) -> list[str]:
        """The open lines of jobs that are to run alone."""
        return [name for name in self.lines.keys(SUSPECT, WIDTH, excludemax=True)
                if name not in self.parked]

    def walk(self, name: str) -> Iterator[tuple]:
        """(key, line, token) of one line, the most urgent first."""
        for packed, token in self.lines[name].items():
            yield unpack(packed), name, token

    def entries(self) -> Iterator[tuple]:
        """(key, line, token) of all lines, the most urgent first."""
        return merge(*map(self.walk, self.lines))


def pack(key: tuple[int, int, int]) -> int:
    """(priority, arrival, id) as one integer of the same order."""
    priority, arrival, id = key
    return (priority << MOMENT_BITS | arrival) << ID_BITS | id


def unpack(packed: int) -> tuple[int, int, int]:
    """(priority, arrival, id) of a packed key."""
    moment = packed >> ID_BITS
    return moment >> MOMENT_BITS, moment & MOMENT_MASK, packed & LARGEST
