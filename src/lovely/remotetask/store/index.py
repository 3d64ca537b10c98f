"""Which jobs are where: kept by the clerk, so that nobody walks over all jobs.

    places    id -> since * 8 + status     what the books say of a job
    states    status -> (since, id)        for retention, and the oldest of each
    ages      (created, id)                for paging, newest first
    facets    (kind, value) -> (created, id)     by task, owner, tag, object
    sizes     status -> Length             counts, kept and never counted

Everything can be made again from the jobs; `enter` makes the books agree with one.
"""
from collections.abc import Iterator

from BTrees.Length import Length
from BTrees.LLBTree import LLBTree
from BTrees.OOBTree import OOBTree, OOTreeSet
from persistent import Persistent
from persistent.mapping import PersistentMapping

from lovely.remotetask import lifecycle

CODES = {status: code for code, status in enumerate(lifecycle.STATUSES)}


class Index(Persistent):

    def __init__(self):
        self.places = LLBTree()
        self.ages = OOTreeSet()
        self.states = PersistentMapping(
            {status: OOTreeSet() for status in lifecycle.STATUSES})
        self.sizes = PersistentMapping(
            {status: Length() for status in lifecycle.STATUSES})
        self.facets = OOBTree()

    def place(self, id: int) -> tuple[str, int] | None:
        """(status, since) as the books have it."""
        packed = self.places.get(id)
        return None if packed is None else (lifecycle.STATUSES[packed & 7], packed >> 3)

    def enter(self, job, changes: dict) -> bool:
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
        key = (job.micros("created"), id)
        self.ages.add(key)
        for facet in facets_of(job):
            entries = self.facets.get(facet)
            if entries is None:
                entries = self.facets[facet] = OOTreeSet()
            entries.add(key)
        return True

    def move(self, id: int, was, now, changes: dict) -> None:
        """A job that stood at *was* stands at *now*, both (status, since)."""
        self._leave(id, *was, changes)
        self._arrive(id, *now, changes)

    def remove(self, job, changes: dict) -> None:
        was = self.place(job.id)
        if was is None:
            return
        self._leave(job.id, *was, changes)
        del self.places[job.id]
        key = (job.micros("created"), job.id)
        _discard(self.ages, key)
        for facet in facets_of(job):
            entries = self.facets.get(facet)
            if entries is not None:
                _discard(entries, key)
                if not entries:
                    del self.facets[facet]

    def count(self, changes: dict) -> None:
        for status, difference in changes.items():
            if difference:
                self.sizes[status].change(difference)
        changes.clear()

    def _leave(self, id: int, status: str, since: int, changes: dict) -> None:
        _discard(self.states[status], (since, id))
        changes[status] = changes.get(status, 0) - 1

    def _arrive(self, id: int, status: str, since: int, changes: dict) -> None:
        self.places[id] = since << 3 | CODES[status]
        self.states[status].add((since, id))
        changes[status] = changes.get(status, 0) + 1

    def oldest(self, status: str) -> Iterator[tuple[int, int]]:
        """(since, id), the oldest first."""
        return iter(self.states[status])

    def newest(self, status=None, facet=None, before=None) -> Iterator[tuple[int, int]]:
        """Keys from new to old, of one status or one facet or all; in slices."""
        tree = self.ages
        if facet is not None:
            tree = self.facets.get(facet, ())
        elif status is not None:
            tree = self.states[status]
        return descending(tree, before)


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


def descending(tree, before=None) -> Iterator:
    """The keys of a TreeSet below *before*, backwards, loading only what is read.

    BTrees do not walk back, but maxKey finds the largest key up to a bound.
    """
    while tree:
        try:
            key = tree.maxKey() if before is None \
                else tree.maxKey((before[0], before[1] - 1))
        except ValueError:
            return
        yield key
        before = key


def _discard(tree, key) -> None:
    try:
        tree.remove(key)
    except KeyError:
        pass
