"""Which jobs are where: kept by the clerk, so that nobody walks over all jobs.

    places    id -> since * 8 + status     what the books say of a job
    states    status -> (since, id)        for retention, and the oldest of each
    ages      (created, id)                for paging, newest first
    facets    (kind, value) -> (created, id)     by task, owner, tag, object
    sizes     status -> Length             counts, kept and never counted

Everything can be made again from the jobs; `enter` makes the books agree with one.
"""
from collections.abc import Iterator
from itertools import islice

from BTrees.Length import Length
from BTrees.LLBTree import LLBTree
from BTrees.OOBTree import OOBTree, OOTreeSet
from persistent import Persistent
from persistent.mapping import PersistentMapping

from lovely.remotetask import lifecycle
from lovely.remotetask.store.jobs import ID_BITS, LARGEST

CODES = {status: code for code, status in enumerate(lifecycle.STATUSES)}


class Moments(OOTreeSet):
    """(moment, id) in order, each in one integer: a third of the time to write."""

    max_leaf_size = 60
    max_internal_size = 500

    def enter(self, moment: int, id: int) -> None:
        self.add(moment << ID_BITS | id)

    def strike(self, moment: int, id: int) -> None:
        try:
            self.remove(moment << ID_BITS | id)
        except KeyError:
            pass

    def has(self, moment: int, id: int) -> bool:
        return moment << ID_BITS | id in self

    def ascending(self) -> Iterator[tuple[int, int]]:
        return map(_unpack, self)

    def behind(self, key=None) -> Iterator[tuple[int, int]]:
        """Forwards from behind *key*."""
        packed = self if key is None else self.keys(
            (key[0] << ID_BITS) + key[1] + 1)
        return map(_unpack, packed)

    def descending(self, before=None) -> Iterator[tuple[int, int]]:
        """Backwards from below *before*, loading only what is read.

        BTrees do not walk back, but maxKey finds the largest key up to a bound.
        """
        bound = None if before is None else before[0] << ID_BITS | before[1]
        while self:
            try:
                bound = self.maxKey() if bound is None else self.maxKey(bound - 1)
            except ValueError:
                return
            yield _unpack(bound)


def _unpack(packed: int) -> tuple[int, int]:
    return packed >> ID_BITS, packed & LARGEST


class Index(Persistent):

    def __init__(self):
        self.places = LLBTree()
        self.ages = Moments()
        self.states = PersistentMapping(
            {status: Moments() for status in lifecycle.STATUSES})
        self.sizes = PersistentMapping(
            {status: Length() for status in lifecycle.STATUSES})
        self.facets = OOBTree()

    def place(self, id: int) -> tuple[str, int] | None:
        """(status, since) as the books have it."""
        packed = self.places.get(id)
        return None if packed is None else (lifecycle.STATUSES[packed & 7], packed >> 3)

    def enter(self, job, changes: dict[str, int]) -> bool:
        """Make the books agree with *job*; True if it is new to them.

        Differences of counts are added to *changes*, for `count`.
        """
        id, status, since = job.id, job.recordedStatus, job.since
        was = self.place(id)
        if was == (status, since):
            return False
        if was is not None:
            self.move(id, was, (status, since), changes)
            return False
        self._arrive(id, status, since, changes)
        created = job.micros("created")
        self.ages.enter(created, id)
        for facet in facets_of(job):
            entries = self.facets.get(facet)
            if entries is None:
                entries = self.facets[facet] = Moments()
            entries.enter(created, id)
        return True

    def move(self, id: int, was: tuple[str, int], now: tuple[str, int],
             changes: dict[str, int]) -> None:
        """A job that stood at *was* stands at *now*, both (status, since)."""
        self._leave(id, *was, changes)
        self._arrive(id, *now, changes)

    def forget(self, id: int, changes: dict[str, int]) -> None:
        """Leave out a job that cannot be found any more."""
        was = self.place(id)
        if was is not None:
            self._leave(id, *was, changes)
            del self.places[id]

    def remove(self, job, changes: dict[str, int]) -> None:
        was = self.place(job.id)
        if was is None:
            return
        self._leave(job.id, *was, changes)
        del self.places[job.id]
        created = job.micros("created")
        self.ages.strike(created, job.id)
        for facet in facets_of(job):
            entries = self.facets.get(facet)
            if entries is not None:
                entries.strike(created, job.id)
                if not entries:
                    del self.facets[facet]

    def count(self, changes: dict[str, int]) -> None:
        for status, difference in changes.items():
            if difference:
                self.sizes[status].change(difference)
        changes.clear()

    def _leave(self, id: int, status: str, since: int, changes: dict[str, int]) -> None:
        self.states[status].strike(since, id)
        changes[status] = changes.get(status, 0) - 1

    def _arrive(self, id: int, status: str, since: int, changes: dict[str, int]) -> None:
        self.places[id] = since << 3 | CODES[status]
        self.states[status].enter(since, id)
        changes[status] = changes.get(status, 0) + 1

    def oldest(self, status: str) -> Iterator[tuple[int, int]]:
        """(since, id), the oldest first."""
        return self.states[status].ascending()

    def newest(self, status=None, facet=None, before=None) -> Iterator[tuple[int, int]]:
        """Keys from new to old, of one status or one facet or all; in slices."""
        moments = self.ages
        if facet is not None:
            moments = self.facets.get(facet)
        elif status is not None:
            moments = self.states[status]
        return iter(()) if moments is None else moments.descending(before)

    def walk(self, status=None, facet=None, start=None,
             ascending=False) -> Iterator[tuple[int, int]]:
        """As `newest`, or from old to new; from behind the key *start*."""
        if not ascending:
            return self.newest(status, facet, start)
        moments = self.ages if facet is None else self.facets.get(facet)
        if status is not None and facet is None:
            moments = self.states[status]
        return iter(()) if moments is None else moments.behind(start)

    def has_facet(self, facet, created: int, id: int) -> bool:
        entries = self.facets.get(facet)
        return entries is not None and entries.has(created, id)

    def values(self, kind: str, limit: int | None = None) -> list[str]:
        """What jobs can be found by: the tasks, owners or tags there are, up to *limit*."""
        return [value for _, value in islice(
            self.facets.keys((kind,), (kind + "\0",), excludemax=True), limit)]


def facets_of(job) -> Iterator[tuple[str, object]]:
    """What a job can be found by."""
    yield "task", job.task
    if job.owner is not None:
        yield "owner", job.owner
    for tag in job.tags:
        yield "tag", tag
    for object in job.concerns:
        if (name := object_key(object)) is not None:
            yield "object", name
    if job.parent is not None:
        yield "parent", str(job.parent)


def object_key(object) -> str | None:
    """A stored object as a text to find it by; None while it is not stored."""
    oid = getattr(object, "_p_oid", None)
    if oid is None:
        return None
    jar = getattr(object, "_p_jar", None)
    name = jar.db().database_name if jar is not None else ""
    return f"{name}:{oid.hex()}"
