"""What an attempt tells its task, and the task tells of its work."""
import logging
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Any

from persistent import Persistent
from transaction import TransactionManager
from transaction.interfaces import TransientError
from ZODB.Connection import Connection
from zope.interface import implementer

from lovely.remotetask import clock, lifecycle, lines
from lovely.remotetask import task as tasks
from lovely.remotetask.failure import clean, in_log, traceback_of
from lovely.remotetask.interfaces import IJobContext
from lovely.remotetask.job import Job
from lovely.remotetask.lines import Line, Written

PROGRESS_PAUSE = 0.5  # seconds between two writes of progress, at least
PROGRESS_TRIES = 5
MESSAGE_LIMIT = 1_000

KEPT = "remotetask_kept"  # on a record of the log: its text is with the job already

log = logging.getLogger("lovely.remotetask.job")

_waiting = threading.Lock()  # guards who waits for a stop, and who stops

# How far it is: done, of how much (None: unknown), and in words.
Told = tuple[float, float | None, str]

# Opens another connection to the database, with a way to find the service on it.
Elsewhere = Callable[[TransactionManager], tuple[Connection, Callable[[Connection], Any]]]


class Progress(Persistent):
    """How far a job is, in a record of its own."""

    def __init__(self) -> None:
        self.told: tuple[float, float | None, str, int] | None = None

    def tell(self, done: float, total: float | None, message: str, now: int) -> None:
        self.told = (done, total, message, now)


class Lines(logging.LoggerAdapter[logging.Logger]):
    """Begins each line with job, task and attempt; each entry stays on one line.

    keep: is told the level and the whole text of each, whatever goes into the log.
    """

    def __init__(self, label: str, keep: Callable[[int, str], None] | None = None
                 ) -> None:
        super().__init__(log)
        self.label = label
        self.keep = keep

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        enabled = self.isEnabledFor(level)
        if self.keep is not None and (enabled or level >= logging.INFO):
            self.keep(level, _filled(msg, args) + _trace(kwargs.get("exc_info")))
        if enabled:
            kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
            kwargs["extra"] = {**(kwargs.get("extra") or {}), KEPT: True}
            self.logger.log(level, "%s: %s", self.label,
                            in_log(_filled(msg, args), MESSAGE_LIMIT), **kwargs)


def _filled(message: object, args: tuple) -> str:
    """What logging makes of a message and its arguments; never raises."""
    try:
        if len(args) == 1 and isinstance(args[0], Mapping) and args[0]:
            return str(message) % args[0]
        return str(message) % args if args else str(message)
    except Exception:
        return f"{message!r} {args!r}"


def _trace(error: object) -> str:
    """The traceback of what `exc_info` names, on lines of its own."""
    if isinstance(error, tuple):
        error = error[1] if len(error) > 1 else None
    elif error and not isinstance(error, BaseException):
        error = sys.exc_info()[1]
    return "\n" + traceback_of(error) if isinstance(error, BaseException) else ""


class _Overhears(logging.Filter):
    """Keeps what a task writes into our logger by its name; lets all of it pass.

    A filter and no handler: with a handler of ours, Python would not print warnings
    any more where no logging is set up.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        context = tasks.context()
        if isinstance(context, JobContext) and not hasattr(record, KEPT):
            args = record.args if isinstance(record.args, tuple) else (record.args,)
            context.keep(record.levelno,
                         _filled(record.msg, args) + _trace(record.exc_info))
        return True


log.addFilter(_Overhears())


@implementer(IJobContext)
class JobContext:
    """See IJobContext.  One per attempt; `service` is set by each try."""

    service: Any = None
    task = "execute"
    once = False    # at most once: no try is repeated
    group = 1       # so many jobs of its task may share a transaction
    secrets: Collection[str] = ()  # texts of its input that no error may show
    conflicts = 0   # tries that were repeated because of conflicts

    @cached_property
    def mark(self) -> str:
        """What the start of a job that runs at most once is known by, as this one's."""
        return uuid.uuid4().hex

    def __init__(self, jobid: int | None, elsewhere: Elsewhere | None = None,
                 limit_set: Callable[[], None] | None = None) -> None:
        """elsewhere: opens another connection to the database, for progress."""
        self.jobid = jobid
        self.attempt = 1
        self.expires: float | None = None  # on the monotonic clock
        self._elsewhere = elsewhere
        self._limit_set = limit_set
        self._stopped = False
        self._stop: threading.Event | None = None  # made by the first who waits
        self._lines: deque[Line] | None = None  # made by the first line
        self._logged = 0
        self._told: float | None = None
        self._untold: Told | None = None

    @property
    def entered(self) -> bool:
        """Whether a try has begun."""
        return self.service is not None

    def begin_anew(self) -> None:
        """Forget the first try: nothing of it is kept, and its time does not count."""
        self.service = self.expires = None
        self._lines, self._logged, self._untold = None, 0, None

    def enter(self, service: Any, job: Job | None, seconds: float | None) -> None:
        """A try begins.  The time limit counts from the first try."""
        self.service = service
        self._lines, self._logged = None, 0
        if job is not None:
            self.meet(job)
        if seconds is not None and self.expires is None:
            self.expires = time.monotonic() + seconds
            if self._limit_set is not None:
                self._limit_set()

    def meet(self, job: Job) -> None:
        """Know the job by its texts: other threads ask for them, and must not load it."""
        self.task = job.task
        self.attempt = job.startedCount + (job.recordedStatus != lifecycle.PROCESSING)

    @property
    def idempotency_key(self) -> str:
        return f"{self.service.uuid}-{self.jobid}"

    @property
    def logger(self) -> Lines:
        return Lines(self.label, self.keep)

    def keep(self, level: int, text: str) -> None:
        """Keep an entry of the log with the job, if this try ends on record."""
        kept = self._lines
        if kept is None:
            kept = self._lines = deque(maxlen=lines.KEPT)
        kept.append(Line(self.attempt, clock.micros(), level,
                         clean(text[:lines.LONGEST])))
        self._logged += 1

    def written(self) -> Written | None:
        """What this try has logged so far; None if that is nothing."""
        if self._lines is None:
            return None
        kept = tuple(self._lines)
        return Written(kept, max(0, self._logged - len(kept)))

    @property
    def label(self) -> str:
        return f"job {self.jobid} ({in_log(self.task)}) attempt {self.attempt}"

    @property
    def should_stop(self) -> bool:
        return self._stopped

    def stop(self) -> None:
        with _waiting:
            self._stopped = True
            if self._stop is not None:
                self._stop.set()

    def wait(self, seconds: float) -> bool:
        """Rest, but not longer than until the job should stop; True if it should."""
        with _waiting:
            if self._stop is None:
                self._stop = threading.Event()
                if self._stopped:
                    self._stop.set()
        return self._stop.wait(seconds)

    def progress(self, done: float, total: float | None = None,
                 message: object = "") -> None:
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
        try:
            _tell_elsewhere(self._elsewhere, self.jobid, untold)
        except Exception as error:
            # Nobody's work fails because it could not tell how far it is.
            log.warning("%s: progress could not be told: %s", self.label, in_log(error))


def _tell_elsewhere(elsewhere: Elsewhere, jobid: int, told: Told) -> None:
    """Commit it on a connection of its own."""
    manager = TransactionManager(explicit=True)
    connection, find = elsewhere(manager)
    try:
        for _ in range(PROGRESS_TRIES):
            manager.begin()
            try:
                tell(find(connection), jobid, told)
                manager.commit()
                return
            except TransientError:
                manager.abort()
            except BaseException:
                manager.abort()
                raise
    finally:
        connection.close()


def tell(service: Any, jobid: int, told: Told) -> None:
    progress = service.progress.get(jobid)
    if progress is None:
        if jobid not in service.jobs:
            return
        progress = service.progress[jobid] = Progress()
    progress.tell(*told, clock.micros())
