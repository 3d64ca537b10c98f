"""Which workers are there, and which leases are those of the lost.

What can be proven is proven (see `presence`).  Of the rest, those on other machines,
each worker looks at the counters of the others: one that has not grown while this
process looked on for `lease_seconds` is that of a dead worker.  Only the time between
two looks counts, on this process's own clock: whoever was stopped himself, or could
not reach the storage, has seen nothing.
"""
import os
import threading
import time
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage

from lovely.remotetask import presence, settings

if TYPE_CHECKING:  # they meet in the hall only
    from lovely.remotetask.store.leases import Lease, Leases

# Storages that one process opens at a time: whoever else holds a lease is dead.
EXCLUSIVE = (FileStorage, MappingStorage, DemoStorage)

# Where wrappers keep what they wrap: those of blobs, and of what compresses or
# encrypts.
WRAPPED = ("_BlobStorage__storage", "base")
DEPTH = 10         # wrappers around one storage
LOOK_SECONDS = 2.0  # so much of the time between two looks counts, at most


def exclusive(db: DB) -> bool:
    """Whether no other process can have the database open, whatever wraps it.

    One that is open for reading only may be written by another.
    """
    storage = db.storage
    if getattr(storage, "isReadOnly", bool)():
        return False
    for _ in range(DEPTH):
        if isinstance(storage, EXCLUSIVE):
            return True
        inner = (getattr(storage, name, None) for name in WRAPPED)
        storage = next((each for each in inner if each is not None), None)
    return False


# -- names of this process

# The names of the workers of this process.
living = presence.living

# What is claimed by hand in this process stands on a lease of this name.
BY_HAND = ""


def _begin() -> None:
    global BY_HAND
    BY_HAND = "by-hand-" + uuid.uuid4().hex
    presence.enter(BY_HAND)


_begin()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin)


# -- watching those of whom nothing can be proven


class Seen(NamedTuple):
    beat: int
    silent: float   # seconds that this process has looked on
    looked: float   # on the monotonic clock


class Watch:
    """What this process has seen of the counters in one place."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.seen: dict[str, Seen] = {}

    def look(self, leases: "Iterable[Lease]") -> dict[str, float]:
        """{name: seconds of silence} of these workers."""
        now = time.monotonic()
        with self.lock:
            self.seen = {lease.name: self._look(lease, now) for lease in leases}
            return {name: seen.silent for name, seen in self.seen.items()}

    def _look(self, lease: "Lease", now: float) -> Seen:
        before = self.seen.get(lease.name)
        if before is None or lease.beat > before.beat:
            return Seen(lease.beat, 0.0, now)
        # An older beat: that of a thread whose transaction began before the other's.
        passed = min(max(now - before.looked, 0.0), LOOK_SECONDS)
        return Seen(before.beat, before.silent + passed, now)


_watches: WeakKeyDictionary[DB, dict[bytes, Watch]] = WeakKeyDictionary()
_lock = threading.Lock()


def judge(leases: "Leases", db: DB) -> "dict[str, tuple[Lease, bool | None, float]]":
    """{name: (lease, whether it is there, seconds of silence)}.

    None: nothing is proven, and then the silence tells.  Reads only.
    """
    if exclusive(db):
        return {lease.name: (lease, lease.name in living, 0.0)
                for lease in leases.values()}
    found = {lease.name: (lease, lease.proven()) for lease in leases.values()}
    doubtful = [lease for lease, there in found.values() if there is None]
    with _lock:
        place = _watches.setdefault(db, {}).setdefault(leases._p_oid or b"", Watch())
    silence = place.look(doubtful)
    return {name: (lease, there, silence.get(name, 0.0))
            for name, (lease, there) in found.items()}


def lost(leases: "Leases", db: DB, lease_seconds: float | None = None) -> "list[Lease]":
    """The leases whose worker is dead.  Reads only.

    lease_seconds: how long one may be silent; what the process's settings say by
    default.
    """
    limit = settings.process().lease_seconds if lease_seconds is None else lease_seconds
    return [lease for lease, there, silent in judge(leases, db).values()
            if there is False or there is None and silent >= limit]


def alive(leases: "Leases", db: DB, lease_seconds: float | None = None) -> list[str]:
    """The names of the workers that are registered and not known to be dead, sorted:
    all of them have the same list, but for the time that it takes to see a death."""
    gone = {lease.name for lease in lost(leases, db, lease_seconds)}
    return sorted(lease.name for lease in leases.values()
                  if lease.registration.threads and lease.name not in gone)
