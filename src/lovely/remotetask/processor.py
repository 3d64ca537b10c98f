"""What a service's thread runs: one job at a time, or several.

A processor is made from a database and the path of a service, and is called in a
thread of its own; without thread its verbs make one step each, in transactions
of their own.
"""
import logging
import threading
from collections.abc import Callable

from zope.component.hooks import setHooks
from zope.interface import implementer

from lovely.remotetask import filters, settings
from lovely.remotetask.errors import NotCommitted
from lovely.remotetask.failure import in_log
from lovely.remotetask.interfaces import IProcessor
from lovely.remotetask.runtime.context import JobContext
from lovely.remotetask.runtime.dispatcher import Dispatcher
from lovely.remotetask.runtime.publication import Publication, path_of

log = logging.getLogger(__name__)

THREAD_STARTUP_WAIT = 0.05  # of release 0.5: kept for those who set it
THREAD_PREFIX = "remotetasks."
UNSAVED = b"\0" * 8

# (database, oid of a service) -> (thread, processor), of this process.
_threads: dict = {}
# The same of those that were told to stop and have not come to an end.
_ending: list = []
_lock = threading.Lock()


@implementer(IProcessor)
class SimpleProcessor:
    """Runs one job at a time, in the order of the queue.

    waitTime: seconds of the longest nap where nothing can wake it.  maxThreads: how
    many jobs it runs at once.  tasks, tags, priorities: which jobs it takes, as
    `filters.read` understands it; all of them by default.
    """

    maxThreads = 1

    def __init__(self, db, servicePath, waitTime=1.0, maxThreads=None, tasks=None,
                 tags=None, priorities=None):
        self.db = db
        self.servicePath = tuple(servicePath)
        self.waitTime = waitTime
        if maxThreads is not None:
            self.maxThreads = maxThreads
        self.dispatcher = Dispatcher(
            db, self.servicePath, slots=self.maxThreads, wait_seconds=waitTime,
            filter=filters.read(tasks, tags, priorities))

    def __call__(self):
        """See IProcessor"""
        self.dispatcher()

    @property
    def running(self):
        """See IProcessor"""
        return self.dispatcher.running

    @running.setter
    def running(self, value):
        if not value:
            self.dispatcher.stop()

    @property
    def threads(self):
        """The threads that have a job in hand."""
        return [worker.thread for worker in tuple(self.dispatcher.workers)
                if worker.claim is not None]

    def stop(self, grace=None):
        self.dispatcher.stop(grace)

    def hasJobsWaiting(self, now=None):
        """Whether there is a job to claim."""
        return self._call("hasJobsWaiting", now)

    def claimNextJob(self, now=None):
        """Claim a job, in a transaction of its own; its number, or None."""
        return self._call("claimNextJob", now)

    def processNext(self, jobid=None, now=None):
        """Run a claimed job, or claim one first; False if there was none."""
        if jobid is None:
            jobid = self.claimNextJob(now)
            if jobid is None:
                return False
        publication = Publication(self.db, self.servicePath)
        try:
            claim = publication.transact("claimByHand", jobid)
            if claim is None:
                return False
            outcome = publication.attempt(claim, JobContext(jobid), "by hand")
            publication.transact("settleByHand", [outcome])
            return True
        finally:
            publication.close()

    def _call(self, verb, *args):
        publication = Publication(self.db, self.servicePath)
        try:
            return publication.transact(verb, *args)
        finally:
            publication.close()


class MultiProcessor(SimpleProcessor):
    """Runs up to *maxThreads* jobs at once; as many as the settings say by default."""

    def __init__(self, db, servicePath, waitTime=1.0, maxThreads=None, **takes):
        if maxThreads is None:
            maxThreads = settings.process().max_threads
        super().__init__(db, servicePath, waitTime, maxThreads, **takes)


# -- the threads of this process


def start(service, **given) -> None:
    """Start the thread of a stored service, unless it runs already.

    given: arguments of the processor that take the place of those stored.
    """
    jar = service._p_jar
    path = path_of(service) if jar is not None else ()
    if jar is None or service._p_serial == UNSAVED or not path:
        raise NotCommitted(
            f"{service!r} cannot be processed: give it a place (parent and name, or "
            "a name in the database root) and commit it first")
    setHooks()
    with _lock:
        if _is_processing(service):
            return
        arguments = {**_from_settings(service), **service.processorArguments, **given}
        if "processorArguments" not in vars(service) and "waitTime" not in given:
            arguments["waitTime"] = service.effectiveSettings().wait_seconds
        processor = service.processorFactory(jar.db(), list(path), **arguments)
        thread = threading.Thread(
            target=processor, daemon=True, name=THREAD_PREFIX + ".".join(path))
        key = _key(service)
        before = _threads.get(key)
        if before is not None and before[0].is_alive():
            _ending.append((key[0], *before))  # it was moved, and winds up at its old path
        _threads[key] = thread, processor
        thread.start()


def _from_settings(service) -> dict:
    """What the settings say of the jobs that it takes, where they say something."""
    found = service.effectiveSettings()
    said = dict(tasks=found.take_tasks, tags=found.take_tags,
                priorities=found.take_priorities)
    return {name: text for name, text in said.items() if text}


def stop(service, grace=None) -> None:
    """Ask the thread of a service to come to an end."""
    key = _key(service)
    with _lock:
        found = _threads.pop(key, None)
        _ending[:] = [each for each in _ending if each[1].is_alive()]
        if found is not None:
            _ending.append((key[0], *found))
    if found is not None:
        _stop(found[1], grace)


def is_processing(service) -> bool:
    with _lock:
        return _is_processing(service)


def failed() -> BaseException | None:
    """The error that has ended a service of this process for good, or None."""
    with _lock:
        processors = [processor for _, processor in _threads.values()]
    for processor in processors:
        error = getattr(getattr(processor, "dispatcher", None), "failed", None)
        if error is not None:
            return error
    return None


def _meant(db) -> Callable:
    """Whether a database is meant by *db*: it, or one beside it in a multi-database;
    any, if that is None."""
    return lambda there: db is None or there is db or (
        there is not None and there in db.databases.values())


def in_hand(db=None) -> list[tuple[threading.Thread, str]]:
    """The attempts under way in this process: the thread of each, and its name in
    the log."""
    meant = _meant(db)
    with _lock:
        found = [processor for (there, _), (_, processor) in _threads.items()
                 if meant(there)]
        found += [processor for there, _, processor in _ending if meant(there)]
    workers = [worker for processor in found for worker in
               tuple(getattr(getattr(processor, "dispatcher", None), "workers", ()))]
    return [(worker.thread, context.label) for worker in workers
            if worker.claim is not None and (context := worker.context) is not None]


def stop_all(db=None, grace: float | None = None, wait: float = 5.0) -> list[str]:
    """Stop all services of this process (of one database and those beside it) and
    wait for the end.

    Waits for the grace time and *wait* seconds more.  The names of threads that
    have not come to an end; their jobs are given back by the next process.
    """
    meant = _meant(db)
    with _lock:
        keys = [key for key in _threads if meant(key[0])]
        running = [_threads.pop(key) for key in keys]
        ending = [each[1:] for each in _ending if meant(each[0])]
    for _, processor in running + ending:
        _stop(processor, grace)
    left = []
    for thread, processor in running + ending:
        found = getattr(getattr(processor, "dispatcher", None), "_settings", None)
        allowed = grace if grace is not None else getattr(found, "grace_seconds", 10.0)
        thread.join(allowed + wait)
        if thread.is_alive():
            left.append(thread.name)
            log.error("%s has not come to an end", in_log(thread.name))
    return left


def _stop(processor, grace) -> None:
    if hasattr(processor, "stop"):
        processor.stop(grace)
    else:
        processor.running = False


def _is_processing(service) -> bool:
    thread, processor = _threads.get(_key(service), (None, None))
    return thread is not None and thread.is_alive() and bool(processor.running)


def _key(service):
    jar = service._p_jar
    return (None if jar is None else jar.db()), service._p_oid
