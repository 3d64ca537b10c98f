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

FOLD = 100  # slips; an adder that finds more folds them in itself.


class Inbox(zc.queue.Queue):
    """Slips: (first id, last id, nonce).

    The nonce makes each slip its own: zc.queue loses one of two equal items when
    they are put and pulled at once.
    """

    def drop(self, first: int, last: int | None = None) -> None:
        self.put((first, first if last is None else last, random.getrandbits(40)))

    def take(self, limit: int) -> list[int]:
        """Pull slips for about *limit* ids; the rest of a long slip goes back."""
        ids: list[int] = []
        while len(ids) < limit and len(self):
            first, last, _ = self.pull()
            end = min(last, first + limit - len(ids) - 1)
            ids.extend(range(first, end + 1))
            if end < last:
                self.drop(end + 1, last)
        return ids


class Queue(Persistent):
    """What is to be run now: per lane, (priority, arrival, id) -> token.

    Lanes hold numbers only: walking them loads no job.  An entry whose job is not
    queued with that token any more is stale, and dropped when it is met.
    """

    _v_arrival = 0

    def __init__(self):
        self.inbox = Inbox()
        self.lanes = OOBTree()  # name -> OOBTree

    def next_arrival(self, now: int) -> int:
        """A place in line: *now*, but later than any given out here before."""
        self._v_arrival = max(now, self._v_arrival + 1)
        return self._v_arrival

    def put(self, lane: str, key: tuple[int, int, int], token: int) -> None:
        if lane not in self.lanes:
            self.lanes[lane] = OOBTree()
        self.lanes[lane][key] = token

    def remove(self, lane: str, key: tuple[int, int, int]) -> None:
        entries = self.lanes.get(lane)
        if entries is not None:
            entries.pop(key, None)

    def has(self, lane: str, key: tuple[int, int, int]) -> int | None:
        entries = self.lanes.get(lane)
        return None if entries is None else entries.get(key)

    def entries(self, closed=frozenset()) -> Iterator[tuple]:
        """(key, lane, token) over the lanes that are not closed, most urgent first."""
        def walk(name, lane):
            for key, token in lane.items():
                yield key, name, token
        return merge(*(walk(name, lane) for name, lane in self.lanes.items()
                       if lane and name not in closed))
