"""What an attempt tells its task, and the task tells of its work."""
import logging
import threading
import time
from collections.abc import Mapping

from persistent import Persistent
from transaction import TransactionManager
from transaction.interfaces import TransientError
from zope.interface import implementer

from lovely.remotetask import clock, lifecycle
from lovely.remotetask.failure import clean, in_log
from lovely.remotetask.interfaces import IJobContext

PROGRESS_PAUSE = 0.5  # seconds between two writes of progress, at least
PROGRESS_TRIES = 5
MESSAGE_LIMIT = 1_000

log = logging.getLogger("lovely.remotetask.job")


class Progress(Persistent):
    """How far a job is, in a record of its own."""

    def __init__(self):
        self.told = None

    def tell(self, done, total, message, now: int) -> None:
        self.told = (done, total, message, now)


class Lines(logging.LoggerAdapter):
    """Begins each line with job, task and attempt; each entry stays on one line."""

    def log(self, level, message, *args, **kwargs):
        if self.isEnabledFor(level):
            kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
            self.logger.log(level, "%s: %s", self.extra["label"],
                            in_log(_filled(message, args), MESSAGE_LIMIT), **kwargs)


def _filled(message, args) -> str:
    """What logging makes of a message and its arguments; never raises."""
    try:
        if len(args) == 1 and isinstance(args[0], Mapping) and args[0]:
            args = args[0]
        return str(message) % args if args else str(message)
    except Exception:
        return f"{message!r} {args!r}"


@implementer(IJobContext)
class JobContext:
    """See IJobContext.  One per attempt; `service` is set by each try."""

    service = None
    task = "execute"
    once = False    # at most once: no try is repeated
    conflicts = 0   # tries that were repeated because of conflicts

    def __init__(self, jobid, elsewhere=None, limit_set=None):
        """elsewhere: opens another connection to the database, for progress."""
        self.jobid = jobid
        self.attempt = 1
        self.expires: float | None = None  # on the monotonic clock
        self._elsewhere = elsewhere
        self._limit_set = limit_set
        self._stop = threading.Event()
        self._told: float | None = None
        self._untold = None

    def enter(self, service, job, seconds: float | None) -> None:
        """A try begins.  The time limit counts from the first try."""
        self.service = service
        if job is not None:
            self.meet(job)
        if seconds is not None and self.expires is None:
            self.expires = time.monotonic() + seconds
            if self._limit_set is not None:
                self._limit_set()

    def meet(self, job) -> None:
        """Know the job by its texts: other threads ask for them, and must not load it."""
        self.task = job.task
        self.attempt = job.startedCount + (job.recordedStatus != lifecycle.PROCESSING)

    @property
    def idempotency_key(self) -> str:
        return f"{self.service.uuid}-{self.jobid}"

    @property
    def logger(self):
        return Lines(log, {"label": self.label})

    @property
    def label(self) -> str:
        return f"job {self.jobid} ({in_log(self.task)}) attempt {self.attempt}"

    @property
    def should_stop(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        self._stop.set()

    def wait(self, seconds: float) -> bool:
        """Rest, but not longer than until the job should stop; True if it should."""
        return self._stop.wait(seconds)

    def progress(self, done, total=None, message=""):
        """See IJobContext"""
        now = time.monotonic()
        self._untold = (done, total, clean(str(message))[:MESSAGE_LIMIT])
        if self._told is None or now - self._told >= PROGRESS_PAUSE:
            self.flush()

    def flush(self) -> None:
        """Write what was told last, if that is not done yet."""
        untold, self._untold = self._untold, None
        if untold is None or self.jobid is None:
            return
        self._told = time.monotonic()
        if self._elsewhere is None:
            tell(self.service, self.jobid, untold)
            return
        manager = TransactionManager(explicit=True)
        connection, find = self._elsewhere(manager)
        try:
            for _ in range(PROGRESS_TRIES):
                manager.begin()
                try:
                    tell(find(connection), self.jobid, untold)
                    manager.commit()
                    return
                except TransientError:
                    manager.abort()
                except BaseException:
                    manager.abort()
                    raise
        finally:
            connection.close()


def tell(service, jobid: int, told) -> None:
    progress = service.progress.get(jobid)
    if progress is None:
        if jobid not in service.jobs:
            return
        progress = service.progress[jobid] = Progress()
    progress.tell(*told, clock.micros())
