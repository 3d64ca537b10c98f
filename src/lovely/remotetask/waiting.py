"""Until a job has ended: woken by its commit, wherever that was made.

FileStorage and ZEO tell of the commit itself, RelStorage of results that were brought
into the books; where nothing tells, it is looked at, soon at first and then slower.
"""
import asyncio
import time
from collections.abc import Callable
from contextlib import contextmanager

from transaction import TransactionManager
from transaction.interfaces import NoTransaction
from ZODB.mvccadapter import MVCCAdapter

from lovely.remotetask import lifecycle
from lovely.remotetask.errors import (
    JobCancelled, JobFailed, StillRunning, UnsavedChanges)
from lovely.remotetask.runtime.publication import find, path_of
from lovely.remotetask.runtime.wakeup import Bell, InvalidationListener

GLANCES = (0.02, 0.25)   # seconds between two looks where not every end is told
HEARD_SECONDS = 5.0      # the same where it is: for what nobody could tell
SLOWER = 1.5
LATE_SECONDS = 1.0       # a commit that was heard of is to be seen by then


class Ear(InvalidationListener):
    """Hears of the commits that write a job.  tid: of the last one."""

    results = True
    heard = False   # whether no end can be missed
    tid = b""

    def _invalidate(self, tid, oids):
        if not self.watched.isdisjoint(oids):
            self.tid = tid
            self.bell.ring()


class Call(Bell):
    """A bell that is rung in some thread, and wakes a coroutine of an event loop."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.event = asyncio.Event()

    def ring(self) -> None:
        """See IWakeup"""
        super().ring()
        try:
            self.loop.call_soon_threadsafe(self.event.set)
        except RuntimeError:
            pass  # the loop is over, and with it who has waited


class Waiting:
    """The part of a TaskService by which one waits for results."""

    def waitFor(self, jobid, timeout=None):
        """See ITaskService"""
        manager = self._p_jar.transaction_manager
        refuse_changes(manager)
        _begin_anew(manager)
        until = _until(timeout)
        with _hearing(self._p_jar.db(), self.jobs[jobid]._p_oid, Bell()) as ear:
            for nap in _naps(ear):
                seen = ear.bell.rings
                _catch_up(ear, self._p_jar.db())
                _begin_anew(manager)
                job = self.jobs[jobid]
                if job.recordedStatus in lifecycle.FINISHED:
                    return result_of(job)
                left = until - time.monotonic()
                if left <= 0:
                    raise StillRunning(jobid, job.status, timeout)
                ear.bell.wait(seen, min(nap, left))

    def waitAsync(self, jobid, timeout=None):
        """See ITaskService"""
        return _wait_elsewhere(self._p_jar.db(), path_of(self), jobid, timeout)


async def _wait_elsewhere(db, path, jobid, timeout):
    until, loop = _until(timeout), asyncio.get_running_loop()

    def look(ear: Ear | None) -> tuple[bytes, bool, Callable]:
        return _look(db, path, jobid, ear)

    oid, _, _ = await loop.run_in_executor(None, look, None)
    with _hearing(db, oid, call := Call()) as ear:
        for nap in _naps(ear):
            call.event.clear()
            _, ended, answer = await loop.run_in_executor(None, look, ear)
            if ended:
                return answer()
            left = until - time.monotonic()
            if left <= 0:
                raise StillRunning(jobid, answer(), timeout)
            try:
                await asyncio.wait_for(call.event.wait(), min(nap, left))
            except TimeoutError:
                pass


def _look(db, path, jobid, ear):
    """(oid, whether it has ended, what then answers), on a connection of its own: the
    coroutines of a thread share its transaction, and none may end that of another."""
    manager = TransactionManager(explicit=True)
    connection = db.open(manager)
    try:
        if ear is not None:
            _catch_up(ear, db)
        manager.begin()
        job = find(connection.root(), path).jobs[jobid]
        if job.recordedStatus not in lifecycle.FINISHED:
            status = job.status
            return job._p_oid, False, lambda: status
        try:
            output = result_of(job)
        except (JobFailed, JobCancelled) as error:
            return job._p_oid, True, _raising(error)
        return job._p_oid, True, lambda: output
    finally:
        manager.abort()
        connection.close()


def _raising(error):
    def answer():
        raise error
    return answer


def result_of(job):
    """The output of a job that has ended well.  Raises JobFailed, JobCancelled."""
    if job.recordedStatus == lifecycle.COMPLETED:
        return job.output
    kind = JobFailed if job.recordedStatus == lifecycle.ERROR else JobCancelled
    raise kind(job.id, job.error, job.reason)


def refuse_changes(manager) -> None:
    """Raise UnsavedChanges where waiting would lose what was changed."""
    try:
        present = manager.get()
    except NoTransaction:
        return
    if present._resources:
        raise UnsavedChanges(
            "the present transaction has changes, which waiting would lose: commit or "
            "abort it first")


def _begin_anew(manager):
    try:
        manager.abort()
    except NoTransaction:
        pass
    manager.begin()


def _until(timeout):
    return float("inf") if timeout is None else time.monotonic() + timeout


@contextmanager
def _hearing(db, oid, bell):
    ear = Ear(bell)
    ear.heard = ear.attach(db, (oid,)) and isinstance(
        getattr(db, "_mvcc_storage", None), MVCCAdapter)
    try:
        yield ear
    finally:
        ear.detach()


def _naps(ear):
    """How long to rest after each look."""
    nap, longest = (HEARD_SECONDS,) * 2 if ear.heard else GLANCES
    while True:
        yield nap
        nap = min(nap * SLOWER, longest)


def _catch_up(ear, db):
    """ZODB tells of a commit just before it can be seen."""
    until = time.monotonic() + LATE_SECONDS
    while ear.heard and db.lastTransaction() < ear.tid and time.monotonic() < until:
        ear.bell.wait(ear.bell.rings, 0.001)
