"""What release 0.5 stored: read as it lies there, and moved into today's shape.

    a record of 0.5 ── loaded ──> today's attributes, in memory; nothing is written
           │ the first write to its service
           v
        begun    0.5's things stand on an `Upgrade`; jobs are found there by number
           │ in batches: what was queued, in its order; then the rest, by number
           v
        done     nothing of 0.5 is left but what nobody can read: `service.leftOut`

Each batch is part of the transaction that makes it: one that is lost is made again.
"""
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, tzinfo
from heapq import merge
from itertools import islice

from BTrees.IOBTree import IOBTree
from persistent import Persistent
from transaction.interfaces import TransientError
from ZODB.broken import Broken
from ZODB.POSException import StorageError
from ZODB.serialize import ObjectReader

from lovely.remotetask import clock, lifecycle
from lovely.remotetask.clerk import Clerk
from lovely.remotetask.errors import BadInput
from lovely.remotetask.failure import clean, in_log, text_of
from lovely.remotetask.job import CronJob, Job
from lovely.remotetask.payload import pack
from lovely.remotetask.store.jobs import LARGEST, Jobs

log = logging.getLogger(__name__)

BATCH = 100   # jobs moved in one commit
OLD = ("_queue", "_scheduledJobs", "_scheduledQueue")
RETENTION_OFF = {"retain_completed": 0.0, "retain_errors": 0.0, "retain_count": 0}
MOMENTS = ("created", "started", "completed", "scheduledFor", "due")
FIELDS = {"minute": (0, 59), "hour": (0, 23), "dayOfMonth": (1, 31), "month": (1, 12),
          "dayOfWeek": (0, 6)}
ANY_SIZE = 2**40


class Unreadable(Exception):
    """A record that release 0.5 has left and that cannot be read as a job."""


class LeftOut(Persistent):
    """The jobs that could not be read: why, and the records as they are.

    why: {number: text}; records: 0.5's tree, with nothing else in it any more.
    """

    def __init__(self, why, records):
        self.why, self.records = why, records


# -- a service, as it is loaded


def is_old(state) -> bool:
    """Whether release 0.5 has stored this state of a service."""
    return isinstance(state, dict) and "jobs" in state and "leases" not in state


def pending(service) -> "Upgrade | None":
    """What of a service is still to be moved."""
    return service._upgrade


def todays(service, state: dict) -> dict:
    """A state of 0.5 in today's shape; *service* has the attributes of a new one."""
    state = dict(state)
    old = {name: state.pop(name, None) for name in OLD}
    upgrade = Upgrade(service, state.pop("jobs"), *old.values())
    today = {**service.__dict__, **state}
    today["settings"] = {**RETENTION_OFF, **state.get("settings", {})}
    today["jobs"] = MovingJobs(upgrade)
    today["_upgrade"] = upgrade
    return today


class MovingJobs(Jobs):
    """All jobs by number while some of them still stand where 0.5 put them."""

    def __init__(self, upgrade: "Upgrade"):
        super().__init__()
        self._upgrade = upgrade

    def get(self, id, default=None):
        job = super().get(id)
        if job is None:
            job = self._upgrade.find(id)
        return default if job is None else job

    def __iter__(self):
        return merge(super().__iter__(), self._upgrade.unmoved())

    def __bool__(self):
        return super().__bool__() or any(True for _ in self._upgrade.unmoved())

    def __len__(self):
        return super().__len__() + sum(1 for _ in self._upgrade.unmoved())

    def _free(self, first, count):
        return super()._free(first, count) \
            and not self._upgrade.jobs.keys(first, first + count - 1)

    def settled(self) -> Jobs:
        jobs = Jobs()
        jobs._trees = self._trees
        return jobs


class Upgrade(Persistent):
    """What is left of a service of 0.5, and how far its upgrade has come."""

    begun = None      # microseconds: the first write
    position = 0      # entries of the queue that are dealt with
    beyond = None     # numbers up to here are moved or left out
    arrival = 0       # place in line of the last one from the queue

    def __init__(self, service, jobs, queue, scheduled, added) -> None:
        self.service = service
        self.jobs = jobs if isinstance(jobs, IOBTree) else IOBTree()
        self.queue, self.scheduled, self.added = queue, scheduled, added
        self.left_out: dict[int, str] = {}

    # -- reading: nothing here writes

    def find(self, id):
        """The job of that number in today's shape; None without, or if unreadable."""
        if not isinstance(id, int) or not -LARGEST <= id <= LARGEST \
                or id not in self.jobs:
            return None
        try:
            return self.read(id)
        except Unreadable:
            return None

    def unmoved(self) -> Iterator[int]:
        """The numbers of those that still stand here and can be read."""
        return (id for id in self.jobs.keys() if self.find(id) is not None)

    def read(self, id: int) -> Job:
        """The job in today's shape, in memory.  Raises Unreadable."""
        job = self.jobs[id]
        wake(job)
        if not getattr(job, "_v_today", False):
            modernize(job, id, self.service)
        return job

    def queued(self) -> Iterator[int | None]:
        """Numbers in the order of the queue; None for entries that tell nothing."""
        for item in self._entries():
            try:
                wake(item)
                yield item.__dict__.get("id")
            except Unreadable:
                yield None

    def _entries(self) -> tuple:
        try:
            return () if self.queue is None else tuple(self.queue)
        except (TransientError, StorageError):
            raise
        except Exception as error:
            log.error("the queue of %s cannot be read (%s): its jobs are queued by the "
                      "time they were added", path_of(self.service), in_log(error))
            return ()

    def _seconds(self) -> dict[bytes, int | None]:
        """When 0.5 would have looked at its scheduled jobs, by their oid; None for
        those that it was to schedule anew."""
        found = getattr(self, "_v_seconds", None)
        if found is None:
            found = self._v_seconds = dict[bytes, int | None]()
            try:
                for second, jobs in (self.scheduled or {}).items():
                    for job in jobs:
                        found[job._p_oid] = second
                for job in self.added or ():
                    found[job._p_oid] = None
            except (TransientError, StorageError):
                raise
            except Exception as error:
                log.error("the schedule of %s cannot be read (%s): its jobs are "
                          "scheduled anew", path_of(self.service), in_log(error))
        return found

    # -- moving

    def begin(self) -> int:
        """Store what was read: from now on this is a service of today.

        The moment (microseconds) of the first call, in this and in every later one.
        """
        if self.begun is None:
            self.begun = clock.micros()
            self.service._p_changed = True
            log.info("service %s: begins the upgrade of %s jobs from release 0.5",
                     path_of(self.service), len(self.jobs))
        return self.begun

    def touch(self, ids) -> None:
        """Move these jobs now: somebody is about to change them."""
        begun = self.begin()
        if any(id in self.jobs for id in ids if self.find(id) is not None):
            with Clerk(self.service, begun, begun) as books:
                for id in ids:
                    if self.find(id) is not None:
                        self._move(id, books)

    def advance(self, limit: int | None = BATCH) -> bool:
        """Move up to *limit* jobs (None: all); False when all that was queued is."""
        begun = self.begin()
        with Clerk(self.service, begun, begun) as books:
            limit = len(self.jobs) + 1 if limit is None else limit
            entries = self._entries()
            limit -= self._advance_queue(entries, limit, books)
            if self.position < len(entries):
                return True
            ids = list(islice(
                self.jobs.keys(self.beyond, excludemin=self.beyond is not None), limit))
            for id in ids:
                self._move(id, books)
                self.beyond = id
        if len(ids) < limit:
            self._finish()
        return False

    def _advance_queue(self, entries, limit, books) -> int:
        moved = 0
        while self.position < len(entries) and moved < limit:
            item = entries[self.position]
            self.position += 1
            try:
                wake(item)
            except Unreadable:
                continue  # told about when its turn comes by number
            id = item.__dict__.get("id")
            if isinstance(id, int) and self.jobs.get(id) is item:
                self._move(id, books, self._place(item, len(entries) - self.position))
                moved += 1
        return moved

    def _place(self, job, behind: int) -> int:
        """A place in line after those before it, and before all that came since."""
        added = micros_of(job.__dict__.get("created"), zone_of(self.service))
        latest = self.begin() - behind - 1
        self.arrival = max(
            self.arrival + 1, latest if added is None else min(added, latest))
        return self.arrival

    def _move(self, id: int, books: Clerk, place: int | None = None) -> None:
        """Bring one job over; *place*: its place in line, if it stood in the queue."""
        try:
            job = self.read(id)
        except Unreadable as why:
            self.left_out = {**self.left_out, id: str(why)}
            log.error("service %s: job %s of release 0.5 cannot be read and is left "
                      "out: %s", path_of(self.service), id, in_log(why))
            return
        del self.jobs[id]
        if not 0 < id <= LARGEST:
            job.__dict__["id"] = self.service.jobs.new_ids()[0]
            log.warning("service %s: job %s has the new number %s",
                        path_of(self.service), id, job.__dict__["id"])
        run_at = self._fit(job, place)
        job._p_changed = True
        self.service.jobs.add(job)
        books.settle(job)
        if run_at is not None:
            arrival = self._orphan_place(run_at) if place is None else place
            books.make_run(job, clock.from_micros(run_at), arrival)

    def _fit(self, job, place) -> int | None:
        """Give a job its place; the moment of a cron job's run that is due, or None."""
        state = job.__dict__
        for name in ("input", "output"):
            self._apart(state, name)
        second, start = self._seconds().get(job._p_oid), state["created"]
        if job._p_oid in self._seconds() and second is None:
            if state.get("scheduledFor"):
                start = self.begun  # updated since it was scheduled first
            state["scheduledFor"] = None
        due = None if second is None else second * 1_000_000
        lost = state.pop("lost", False)
        if state["status"] == lifecycle.CRONJOB:
            state.update(scheduledFor=None, due=None)
            begun = self.begin()
            if place is not None or lost or due is not None and due <= begun:
                return begun if due is None else min(due, begun)
            return None
        if place is not None and state["status"] in lifecycle.WAITING:
            state["status"] = lifecycle.QUEUED
        if state["status"] == lifecycle.DELAYED:
            if due is None:
                due = state.get("scheduledFor") or start + round(
                    (state.get("delay") or 0) * 1_000_000)
            state["due"] = due
            if isinstance(job, CronJob):
                state["scheduledFor"] = due
        elif state["status"] == lifecycle.QUEUED:
            state["arrival"] = self._orphan_place(state["created"]) \
                if place is None else place
            state["token"] = job.token + 1
            state["lane"] = getattr(
                self.service.findTask(job.task), "lane", "") or ""
        return None

    def _orphan_place(self, moment: int) -> int:
        """For what was queued in no queue: 0.5 had taken it before the others."""
        return min(moment, self.begin() - 1)

    def _apart(self, state, name) -> None:
        """Give a value that is not small and plain a record of its own."""
        try:
            state[name], objects = pack(state.get(name), ANY_SIZE, name)
        except BadInput as error:
            log.warning("job %s: %s is kept as it is: %s",
                        state["id"], name, in_log(error))
        else:
            if name == "input" and objects:
                state["concerns"] = objects

    def _finish(self) -> None:
        service = self.service
        service.jobs = service.jobs.settled()
        if self.left_out:
            service.leftOut = LeftOut(self.left_out, self.jobs)
        del service._upgrade
        log.info("service %s: has finished the upgrade from release 0.5, %s jobs "
                 "are left out", path_of(service), len(self.left_out))


# -- a job, as 0.5 has stored it


def wake(job) -> None:
    """Load a job's record, leniently if it must be.  Raises Unreadable."""
    if isinstance(job, Broken):
        kind = type(job)
        raise Unreadable(f"its class {kind.__module__}.{kind.__name__} is gone")
    if not isinstance(job, Job):
        raise Unreadable(f"it is a {type(job).__name__}, not a job")
    try:
        with _unheard():
            job._p_activate()
    except (TransientError, StorageError):
        raise
    except Exception:
        _wake_leniently(job)


@contextmanager
def _unheard():
    """ZODB logs a traceback for each record it cannot load; here that is expected."""
    here = threading.get_ident()

    def other(record):
        return record.thread != here

    noise = logging.getLogger("ZODB.Connection")
    noise.addFilter(other)
    try:
        yield
    finally:
        noise.removeFilter(other)


def _wake_leniently(job) -> None:
    """Load a record in which exceptions stand that cannot be made again."""
    connection = job._p_jar
    reader = connection._reader
    connection._reader = ObjectReader(
        connection, connection._cache, _lenient(connection.db().classFactory))
    try:
        with _unheard():
            job._p_activate()
    except (TransientError, StorageError):
        raise
    except Exception as error:
        cause = error.__cause__ or error
        raise Unreadable(f"{type(cause).__name__}: {text_of(cause)}") from error
    finally:
        connection._reader = reader


def _lenient(factory):
    def find(connection, module, name):
        found = factory(connection, module, name)
        if isinstance(found, type) and issubclass(found, BaseException):
            return lambda *args: UnreadError.of(
                name, args, "this error cannot be read back")
        return found
    return find


class UnreadError(str):
    """The text of an exception that cannot be made again; stored as plain text."""

    @classmethod
    def of(cls, name, args, why):
        try:
            said = ", ".join(map(str, args))
        except Exception:
            said = ""
        return cls(clean(f"{name}: {said} ({why})" if said else f"{name} ({why})"))

    def __setstate__(self, state):
        pass

    def __reduce_ex__(self, protocol):
        return str, (str(self),)


def modernize(job, id: int, service) -> None:
    """Change a loaded job into today's shape, in memory."""
    state, zone = job.__dict__, zone_of(service)
    state.pop("__name__", None)
    state.update(id=id, __parent__=service, task=text(state.get("task", "")),
                 error=error_text(state.get("error")))
    for name in MOMENTS:
        if name in state:
            state[name] = micros_of(state[name], zone)
    if state.get("created") is None:
        state["created"] = state.get("started") or state.get("completed") or 0
    status = text(state.get("status", lifecycle.STARTLATER))
    if isinstance(job, CronJob):
        status = _modernize_cron(state, status, id)
    elif status == lifecycle.CRONJOB:
        status = f"{status} without a schedule"
    if status == lifecycle.PROCESSING:
        status = lifecycle.QUEUED
    if status not in lifecycle.STATUSES:
        state["error"] = f"release 0.5 has left it in an unknown status: {clean(status)}"
        status = lifecycle.ERROR
    state["status"] = status
    job._v_today = True


def _modernize_cron(state, status, id) -> str:
    for name, (low, high) in FIELDS.items():
        given = tuple(state.get(name) or ())
        state[name] = given if all(
            isinstance(n, int) and low <= n <= high for n in given) \
            else _mended(name, given, low, high, id)
    state["delay"] = state.get("delay") or None
    if state["delay"] is None and status in (
            lifecycle.QUEUED, lifecycle.PROCESSING, lifecycle.DELAYED):
        # Taken by a processor of 0.5 that lost it: one run of it is due.
        state["lost"] = status != lifecycle.DELAYED
        return lifecycle.CRONJOB
    return status


def _mended(name, given, low, high, id):
    """The form of 0.5 stored `*` as one number too low: 0 to 30 for days."""
    if given == tuple(range(low - 1, high)):
        return tuple(range(low, high + 1))
    kept = tuple(n for n in given if isinstance(n, int) and low <= n <= high)
    log.warning("job %s: %s %r goes from %s to %s", id, name, given, low, high)
    return kept or given


def error_text(error) -> str | None:
    """Errors of 0.5 were exception objects."""
    if error is None:
        return None
    if isinstance(error, UnreadError):
        return str(error)
    if isinstance(error, Broken):
        kind = type(error)
        args = error.__dict__.get("__Broken_newargs__", ())
        return str(UnreadError.of(f"{kind.__module__}.{kind.__name__}", args,
                                  "the class of this error is gone"))
    if isinstance(error, bytes):
        return text(error)
    return error if isinstance(error, str) else text_of(error)


def text(value) -> str:
    """Text of Python 2 may still be bytes."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def micros_of(value, zone: tzinfo | None) -> int | None:
    """A moment of 0.5, naive in *zone* (None: that of this machine), as stored today."""
    if isinstance(value, int):
        return value
    if not isinstance(value, datetime):
        return None
    try:
        if value.tzinfo is None and zone is not None:
            value = value.replace(tzinfo=zone)
        return clock.to_micros(value)
    except (OverflowError, ValueError, OSError):
        return None


def zone_of(service) -> tzinfo | None:
    return clock.zone(service.effectiveSettings().naive_timezone)


def path_of(service) -> str:
    names = []
    while service is not None:
        names.append(str(getattr(service, "__name__", None) or ""))
        service = getattr(service, "__parent__", None)
    return "/".join(reversed(names)) or "(in the root)"
