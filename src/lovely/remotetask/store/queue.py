"""The inbox (zc.queue) and the ordered lanes behind it (BTrees).

Whoever adds or changes a job drops a slip into the inbox: "look at this job
again".  The clerk empties the inbox and puts the job where it belongs.  Puts
merge with puts and with pulls, so adders meet nobody; the lanes have one kind of
writer, the clerk.
"""
import random
from collections.abc import Iterator
from heapq import merge

import zc.queue
from BTrees.OOBTree import OOBTree
from persistent import Persistent

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


class Lane(OOBTree):
    """A key of a lane is one integer: priority, arrival, id.

    As tuples the keys took three times as long to be written, and leaves of 30
    were split too often.
    """

    max_leaf_size = 60
    max_internal_size = 500


class Queue(Persistent):
    """What is to be run now: per lane, (priority, arrival, id) -> token.

    Lanes hold numbers only: walking them loads no job.  An entry whose job is not
    queued with that token any more is stale, and dropped when it is met.
    """

    _v_arrival = 0

    def __init__(self):
        self.inbox = Inbox()
        self.lanes = OOBTree()  # name -> Lane

    def next_arrival(self, now: int) -> int:
        """A place in line: *now*, but later than any given out here before."""
        self._v_arrival = max(now, self._v_arrival + 1)
        return self._v_arrival

    def put(self, lane: str, key: tuple[int, int, int], token: int) -> None:
        if lane not in self.lanes:
            self.lanes[lane] = Lane()
        self.lanes[lane][_pack(key)] = token

    def remove(self, lane: str, key: tuple[int, int, int]) -> None:
        entries = self.lanes.get(lane)
        if entries is not None:
            entries.pop(_pack(key), None)

    def has(self, lane: str, key: tuple[int, int, int]) -> int | None:
        entries = self.lanes.get(lane)
        return None if entries is None else entries.get(_pack(key))

    def walk(self, lane: str) -> Iterator[tuple]:
        """(key, lane, token) of one lane, the most urgent first."""
        for packed, token in self.lanes[lane].items():
            yield _unpack(packed), lane, token

    def entries(self) -> Iterator[tuple]:
        """(key, lane, token) of all lanes, the most urgent first."""
        return merge(*map(self.walk, self.lanes))


def _pack(key: tuple[int, int, int]) -> int:
    priority, arrival, id = key
    return (priority << MOMENT_BITS | arrival) << ID_BITS | id


def _unpack(packed: int) -> tuple[int, int, int]:
    moment = packed >> ID_BITS
    return moment >> MOMENT_BITS, moment & MOMENT_MASK, packed & LARGEST
