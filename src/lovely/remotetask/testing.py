"""Helpers for tests of applications: a service without threads, a clock, waits.

Nothing here sleeps: what waits is woken by the next commit, and what takes time is
moved on by hand.
"""
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import transaction
from zope.component import getUtilitiesFor, queryUtility
from zope.interface import Attribute, Interface, implementer

from lovely.remotetask import clock, lifecycle, processor, service
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.job import Job
from lovely.remotetask.runtime.wakeup import Bell, InvalidationListener

BOUND = 30.0         # seconds a wait takes at most
LAST_STEPS = 1.0     # seconds a thread may take to end when its job has ended
GLANCE = 0.05        # seconds between two looks where commits cannot be heard


# -- without threads


class ITaskStub(Interface):
    """Tasks of a stubbed service: nobody else finds them.  See ITask."""

    inputSchema = Attribute("Schema of the input, or None.")
    outputSchema = Attribute("Schema of the output, or None.")

    def __call__(service, jobid, input):
        """Do the work and return the output."""


class QueueStub:
    """A queue in memory with the verbs of zc.queue: `put`, `pull`, `len`, iteration."""

    def __init__(self, items=()):
        self._items = list(items)

    def put(self, item):
        self._items.append(item)

    def pull(self, index=0):
        """Take out one item.  Raises IndexError when there is none."""
        return self._items.pop(index)

    def __len__(self):
        return len(self._items)

    def __iter__(self):
        return iter(tuple(self._items))

    def __getitem__(self, index):
        return self._items[index]


class TaskServiceStub(service.TaskService):
    """A task service that needs no database and starts no thread.

    Its jobs run when `process()` is called, one after the other, in order.  Tasks
    are utilities for ITaskStub, or else those of the application.  jobClass: what
    `add` makes, a subclass of Job.
    """

    taskInterface = ITaskStub
    jobClass = Job

    def __init__(self, jobClass=None):
        super().__init__()
        if jobClass is not None:
            self.jobClass = jobClass

    def findTask(self, name):
        """The stubbed task of that name, or else the application's."""
        return super().findTask(name) or queryUtility(ITask, name)

    def getAvailableTasks(self):
        """See ITaskService"""
        return {**dict(getUtilitiesFor(ITask)), **super().getAvailableTasks()}

    def startProcessing(self, **arguments):
        """There are no threads here: call `process()`."""
        raise NotImplementedError("a stub starts no threads: call process()")

    def stopProcessing(self):
        """There are no threads here."""
        raise NotImplementedError("a stub has no threads to stop")

    def isProcessing(self):
        """Never."""
        return False


@implementer(ITaskStub)
class ExceptionTask:
    """A task that raises what it was given, each time; `calls` counts them."""

    inputSchema = outputSchema = None

    def __init__(self, error=None):
        self.error = Exception("An error occurred.") if error is None else error
        self.calls = 0

    def __call__(self, service, jobid, input):
        self.calls += 1
        raise self.error


# -- time


class SimulatedClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, seconds: float):
        self._micros = round(seconds * 1_000_000)

    def micros(self) -> int:
        return self._micros

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self._micros += round(seconds * 1_000_000)

    def set(self, moment) -> None:
        """Let it be that moment: an aware datetime, or seconds since 1970."""
        self._micros = clock.to_micros(moment)


@contextmanager
def simulated_clock(moment=1_800_000_000.0) -> Iterator[SimulatedClock]:
    """Everybody asks a simulated clock, which starts at *moment*.

    moment: an aware datetime, or seconds since 1970.
    """
    before = clock.current
    clock.current = simulated = SimulatedClock(clock.to_micros(moment) / 1_000_000)
    try:
        yield simulated
    finally:
        clock.current = before


# -- threads


class StillWaiting(AssertionError):
    """What was waited for has not come in time."""


def wait_for(service, condition: Callable, timeout: float = BOUND):
    """Wait until *condition*, called with the service, is true; what it returned.

    Looks again after each commit in this process, in a new transaction each time:
    the caller must have committed or aborted what it did.  timeout: seconds, then
    StillWaiting is raised.
    """
    by = time.monotonic() + timeout
    with _commits(service._p_jar.db()) as (bell, nap):
        while True:
            seen = bell.rings
            service._p_jar.transaction_manager.begin()
            found = condition(service)
            if found:
                return found
            left = by - time.monotonic()
            if left <= 0:
                raise StillWaiting(
                    f"not within {timeout} s; jobs by status: {_said(service)}")
            bell.wait(seen, min(nap, left))


def wait_for_job(service, jobid: int, status=lifecycle.FINISHED, timeout: float = BOUND):
    """Wait until a job has that status (a word or several); the job.

    Raises StillWaiting at once when it ends in another one, naming its error.
    """
    wanted = {status} if isinstance(status, str) else frozenset(status)

    def reached(service):
        job = service.getJob(jobid)
        if job.status in wanted:
            return job
        if job.status in lifecycle.FINISHED:
            raise StillWaiting(f"{job!r} is {job.status}, not {' or '.join(wanted)}: "
                               f"{job.error or job.reason or 'no error'}")
        return None

    return wait_for(service, reached, timeout)


def wait_until_idle(service, timeout: float = BOUND) -> None:
    """Wait until nothing is queued and nothing runs."""
    def idle(service):
        counts = service.counts()
        return not counts[lifecycle.QUEUED] and not counts[lifecycle.PROCESSING]

    wait_for(service, idle, timeout)


def stop_cleanly(db=None, grace: float = 5.0) -> None:
    """Stop all services (of one database), and see their threads end.

    Raises AssertionError with the names of those that will not stop and of the jobs
    in their hands.  grace: seconds that running jobs are given.
    """
    transaction.abort()
    working = processor.in_hand(db)
    left = processor.stop_all(db, grace=grace, wait=BOUND)
    for thread, _ in working:
        thread.join(LAST_STEPS)
    stuck = [label for thread, label in working if thread.is_alive()]
    if left or stuck:
        raise AssertionError("will not stop: " + ", ".join([*left, *stuck]))


def _said(service) -> str:
    counts = {status: number for status, number in service.counts().items() if number}
    return ", ".join(f"{number} {status}" for status, number in counts.items()) or "none"


@contextmanager
def _commits(db) -> Iterator[tuple[Bell, float]]:
    """A bell that rings at every commit, and the longest nap beside it."""
    listener = EveryCommit(Bell())
    heard = listener.attach(db, ())
    try:
        yield listener.bell, 1.0 if heard else GLANCE
    finally:
        if heard:
            listener.detach()


class EveryCommit(InvalidationListener):
    """Rings whatever was changed."""

    results = True

    def _invalidate(self, tid, oids) -> None:
        self.bell.ring()
