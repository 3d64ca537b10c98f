"""The books in shards, so that workers do not meet.

One process keeps everything in the first shard.  Where several share the work, each
is home to some of the shards and keeps the books of these; a job stays in the shard
in which it was added.
"""
import random
from collections.abc import Iterator, Mapping
from heapq import merge
from itertools import chain
from zlib import crc32

from persistent import Persistent

from lovely.remotetask.store.index import Index
from lovely.remotetask.store.queue import Queue
from lovely.remotetask.store.scheduled import Scheduled

SHARDS = 8  # of a cluster: measured 0.001 conflicts a job with four workers


class Shard(Persistent):
    """Queue, schedule and index of some of the jobs."""

    def __init__(self, number: int):
        self.number = number
        self.queue = Queue()
        self.scheduled = Scheduled()
        self.index = Index()


class Shards(Persistent):
    """The shards by number; new jobs go into the first *spread* of them."""

    spread = 1
    _v_next = None

    def __init__(self):
        self._shards = (Shard(0),)

    def __len__(self) -> int:
        return len(self._shards)

    def __iter__(self) -> Iterator[Shard]:
        return iter(self._shards)

    def __getitem__(self, number: int) -> Shard:
        return self._shards[number]

    def of(self, job) -> Shard:
        """The shard that keeps the books of a job."""
        number = job.shard
        return self._shards[number if number < len(self._shards) else 0]

    def use(self, spread: int) -> None:
        """Put new jobs into so many shards; those that are there stay."""
        if spread > len(self._shards):
            self._shards += tuple(map(Shard, range(len(self._shards), spread)))
        if spread != self.spread:
            self.spread = spread

    def choose(self, key: str | None = None) -> int:
        """The shard for new jobs, in turns; by their key if they have one."""
        if self.spread == 1:
            return 0
        if key is not None:
            return crc32(key.encode("utf-8", "surrogatepass")) % self.spread
        if self._v_next is None:
            self._v_next = random.randrange(self.spread)
        self._v_next = (self._v_next + 1) % self.spread
        return self._v_next

    @property
    def index(self):
        """What can be read of the index of all shards."""
        return self._shards[0].index if len(self._shards) == 1 else Merged(self)

    def holds(self) -> bool:
        """Whether anything is in the lines, open or parked."""
        return any(any(map(bool, shard.queue.lines.values())) for shard in self)


class Merged:
    """The indexes of several shards, to be read as one."""

    def __init__(self, shards: Shards):
        self._indexes = [shard.index for shard in shards]

    def place(self, id: int) -> tuple[str, int] | None:
        return next((place for index in self._indexes
                     if (place := index.place(id)) is not None), None)

    @property
    def places(self) -> Iterator[int]:
        """All numbers."""
        return chain.from_iterable(index.places for index in self._indexes)

    @property
    def sizes(self) -> Mapping:
        """{status: what gives the number}."""
        return {status: _Sum([index.sizes[status] for index in self._indexes])
                for status in self._indexes[0].sizes}

    def oldest(self, status: str) -> Iterator[tuple[int, int]]:
        return merge(*(index.oldest(status) for index in self._indexes))

    def newest(self, status=None, facet=None, before=None) -> Iterator[tuple[int, int]]:
        return merge(*(index.newest(status, facet, before) for index in self._indexes),
                     reverse=True)

    def walk(self, status=None, facet=None, start=None,
             ascending=False) -> Iterator[tuple[int, int]]:
        return merge(*(index.walk(status, facet, start, ascending)
                       for index in self._indexes), reverse=not ascending)

    def ended(self, status: str, begin: int) -> Iterator[tuple[int, int]]:
        return merge(*(index.ended(status, begin) for index in self._indexes))

    def has_facet(self, facet, created: int, id: int) -> bool:
        return any(index.has_facet(facet, created, id) for index in self._indexes)

    def values(self, kind: str, limit: int | None = None) -> list[str]:
        found = set(chain.from_iterable(
            index.values(kind, limit) for index in self._indexes))
        return sorted(found)[:limit]


class _Sum:
    """Counters, read as one."""

    def __init__(self, counters: list):
        self.counters = counters

    def __call__(self) -> int:
        return sum(counter() for counter in self.counters)
