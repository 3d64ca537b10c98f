"""A job and what became of it; the cron job."""
from typing import NamedTuple

from persistent import Persistent
from transaction.interfaces import TransientError
from zope.event import notify
from zope.interface import implementer

from lovely.remotetask import clock, events, lifecycle, schedule
from lovely.remotetask.errors import BadOption, BadSchedule, IllegalMove
from lovely.remotetask.failure import Failure, text_of
from lovely.remotetask.interfaces import ICronJob, IJob
from lovely.remotetask.lines import Line, Written, last
from lovely.remotetask.payload import unpack
from lovely.remotetask.schedule import Foreign, Schedule

ATTEMPTS_KEPT = 20
RUNS_KEPT = 50
DEFAULT_PRIORITY = 10


class Attempt(NamedTuple):
    """One attempt that did not end well; moments are aware datetimes."""

    number: int
    outcome: str
    started: object
    ended: object
    kind: str
    error: str
    traceback: str
    worker: str


class Attempts(Persistent):
    """The failed attempts of a job, in a record of their own: tracebacks are long."""

    def __init__(self) -> None:
        self.kept: tuple[Attempt, ...] = ()

    def add(self, attempt: Attempt) -> None:
        self.kept = (*self.kept, attempt)[-ATTEMPTS_KEPT:]


class Log(Persistent):
    """What the attempts of a job have logged, in a record of its own."""

    def __init__(self) -> None:
        self.kept: tuple[tuple, ...] = ()  # plain tuples: half the bytes of Lines
        self.lost = 0

    def add(self, written: Written) -> None:
        lines = (*map(Line._make, self.kept), *written.lines)
        kept = last(lines)
        self.kept = tuple(map(tuple, kept))
        self.lost += written.lost + len(lines) - len(kept)


# Of one that ended well; not stored where the record has none yet, as they say nothing.
SILENT = {"output": None, "error": None, "suspect": False}


class Stored:
    """An attribute whose stored form may be a record of its own."""

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner=None):
        return None if instance is None else unpack(instance.__dict__.get(self.name))

    def __set__(self, instance, value):
        instance.__dict__[self.name] = value
        instance._p_changed = True


class Started(clock.Moment):
    """While a job runs its record is not written: then it is the moment of the claim."""

    def __get__(self, instance, owner=None):
        if instance is not None and instance.recordedStatus == lifecycle.QUEUED \
                and instance.__parent__ is not None:
            claimed = instance.__parent__.heldSince(instance)
            if claimed is not None:
                return clock.from_micros(claimed)
        return super().__get__(instance, owner)


@implementer(IJob)
class Job(Persistent):
    """See IJob.

    The methods are the moves of lifecycle.py; a move and the facts that come with
    it are one step, and the event comes last.  Every move writes the job itself:
    whoever else moves it at the same time meets a conflict, and one of them wins.
    """

    # Kept on the class, so that jobs stored by older releases have them too.
    __parent__ = None
    title = ""
    priority = DEFAULT_PRIORITY
    tags: tuple[str, ...] = ()
    concerns: tuple = ()
    lane = ""
    owner = site = parent = None
    timeout = retries = None
    reason = None
    locks: tuple[tuple[str, int], ...] = ()  # (name, how many may hold it at once)
    shard = 0          # the one that keeps its books
    arrival = 0        # microseconds; its place in line among equal priorities
    token = 0
    startedCount = failures = crashes = handbacks = 0
    suspect = False    # its process died while it was in hand: it runs alone
    removed = False
    once = False       # its start was committed: it may not run a second time
    admitted = False   # it would have been refused at a limit
    unique = None      # the key under which there is only one
    merged = 0         # adds that found it waiting, and made no job of their own
    isRun = False      # one run of a cron job, its parent
    worker = ""
    _attempts = None
    _log = None
    alsoIn: tuple[str, ...] = ()  # other databases that its run has written to
    _v_silent = False  # a subscriber has raised: end without telling

    created = clock.Moment()
    started = Started()
    completed = clock.Moment()
    due = clock.Moment()
    deadline = clock.Moment()
    input = Stored()
    output = Stored()

    def __init__(self, id, task, input=None, created=None):
        self.id = id
        self.task = task
        self.input = input
        self.__dict__["created"] = clock.micros() if created is None else created

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    @property
    def __name__(self):
        return str(self.id)

    @property
    def recordedStatus(self) -> str:
        """The status in this record.  A claim writes the lease, not the job."""
        return self.__dict__.get("status", lifecycle.STARTLATER)

    @property
    def status(self) -> str:
        """See IJob"""
        status = self.recordedStatus
        if status == lifecycle.QUEUED and self.__parent__ is not None \
                and self.__parent__.isHeld(self):
            return lifecycle.PROCESSING
        return status

    @property
    def error(self):
        error = self.__dict__.get("error")
        return text_of(error) if isinstance(error, BaseException) else error

    @property
    def attempts(self):
        """See IJob"""
        return self._attempts.kept if self._attempts is not None else ()

    @property
    def log(self):
        """See IJob"""
        return tuple(map(Line._make, self._log.kept)) if self._log is not None else ()

    @property
    def logLost(self):
        """See IJob"""
        return self._log.lost if self._log is not None else 0

    @property
    def since(self) -> int:
        """Microseconds: when it came to where it is, as far as order needs it."""
        status = self.recordedStatus
        if status in lifecycle.FINISHED:
            return self.micros("completed") or self.micros("created")
        if status == lifecycle.QUEUED:
            return self.arrival or self.micros("created")
        return self.micros("created")

    @property
    def key(self) -> tuple[int, int, int]:
        """Its place in its lane."""
        return self.priority, self.arrival, self.id

    def micros(self, name: str) -> int:
        """A moment in its stored form; 0 when there is none."""
        self._p_activate()
        value = self.__dict__.get(name)
        return 0 if value is None else clock.to_micros(value) \
            if not isinstance(value, int) else value

    def wait(self, timeout=None):
        """See IJob"""
        return self.__parent__.waitFor(self.id, timeout)

    # -- moves; *now* is in microseconds

    def enqueue(self, now: int, reason: str | None = None) -> None:
        """Wait for a turn."""
        self._allow(lifecycle.QUEUED, lifecycle.STARTLATER, lifecycle.DELAYED)
        self._move(lifecycle.QUEUED, reason, arrival=now, token=self.token + 1)

    def delay_until(self, due: int) -> None:
        """Wait for a moment."""
        self._allow(lifecycle.DELAYED, lifecycle.STARTLATER)
        self._move(lifecycle.DELAYED, None, due=due)

    def start(self, now: int, worker: str = "") -> None:
        """Begin an attempt."""
        self._move(lifecycle.PROCESSING, self.reason, started=now, worker=worker,
                   startedCount=self.startedCount + 1)

    def complete(self, output, now: int) -> None:
        """End well."""
        known = self.__dict__
        facts = {name: value for name, value in SILENT.items() if name in known}
        if output is not None:
            facts["output"] = output
        self._move(lifecycle.COMPLETED, None, completed=now, **facts)

    def fail(self, failure: Failure, now: int, reason: str | None = None) -> None:
        """End in error."""
        self._allow(lifecycle.ERROR, lifecycle.PROCESSING)
        self.note_attempt(failure, now, reason or "error")
        self._move(lifecycle.ERROR, reason, completed=now, suspect=False,
                   error=failure.text, failures=self.failures + 1)

    def fail_and_wait(self, failure: Failure, now: int, pause: float,
                      reason: str = lifecycle.RETRY) -> None:
        """This attempt failed; another follows after *pause* seconds."""
        self._allow(lifecycle.DELAYED if pause > 0 else lifecycle.QUEUED,
                    lifecycle.PROCESSING)
        self.note_attempt(failure, now, reason)
        facts = dict(error=failure.text, failures=self.failures + 1, suspect=False,
                     token=self.token + 1)
        if pause > 0:
            self._move(lifecycle.DELAYED, reason,
                       due=now + round(pause * 1_000_000), **facts)
        else:
            self._move(lifecycle.QUEUED, reason, **facts)

    def hand_back(self) -> None:
        """Return to its place in line: its process stops.  Charges nothing."""
        self._allow(lifecycle.QUEUED, lifecycle.PROCESSING)
        self._move(lifecycle.QUEUED, lifecycle.HANDED_BACK, token=self.token + 1,
                   handbacks=self.handbacks + 1, startedCount=self.startedCount - 1)

    def interrupt(self, now: int) -> None:
        """End in error: its process stops, and it may run at most once."""
        self._allow(lifecycle.ERROR, lifecycle.PROCESSING)
        failure = Failure("ProcessStopped", "the process that ran it was stopped")
        self.note_attempt(failure, now, lifecycle.INTERRUPTED)
        self._move(lifecycle.ERROR, lifecycle.INTERRUPTED, completed=now,
                   suspect=False, error=failure.text)

    def lose_process(self, now: int, limit: int, once: bool) -> None:
        """Its process died.  The first time it only becomes a suspect."""
        self._allow(lifecycle.QUEUED, lifecycle.PROCESSING)
        convicted = self.suspect
        crashes = self.crashes + 1 if convicted else self.crashes
        failure = Failure("ProcessDied", "the process that ran it died")
        if once:
            reason = lifecycle.INTERRUPTED
        elif crashes >= limit:
            reason = lifecycle.CRASHED
            failure = Failure("ProcessDied", (
                f"set aside: {crashes} processes died while they ran this job alone"))
        else:
            self.note_attempt(failure, now, "process died")
            self._move(lifecycle.QUEUED, lifecycle.INTERRUPTED, suspect=True,
                       crashes=crashes, token=self.token + 1)
            return
        self.note_attempt(failure, now, reason)
        self._move(lifecycle.ERROR, reason, completed=now, error=failure.text,
                   crashes=crashes)

    def cancel(self, now: int, reason: str = lifecycle.BY_HAND) -> None:
        """Never take effect.  A job in hand keeps when it was claimed."""
        claimed = self.started
        facts = {} if claimed is None else {"started": clock.to_micros(claimed)}
        self._move(lifecycle.CANCELLED, reason, completed=now, **facts)

    def amend(self, facts: dict) -> None:
        """Learn other facts, already looked at, while it waits."""
        self._p_activate()
        self.__dict__.update(facts)
        self._p_changed = True

    def note_databases(self, names: tuple[str, ...]) -> None:
        """Keep that the present transaction writes to these databases as well."""
        if names != self.alsoIn:
            self.alsoIn = names

    def take_back(self, now: int, attempt: Attempt | None = None) -> None:
        """Its completion was undone in the database: do not run by surprise.

        attempt: the one that was undone, to be remembered.
        """
        if attempt is not None:
            if self._attempts is None:
                self._attempts = Attempts()
            self._attempts.add(attempt)
            self.__dict__.update(startedCount=attempt.number)
        self._move(lifecycle.CANCELLED, lifecycle.UNDONE, completed=now)

    def requeue(self, now: int) -> None:
        """Start over, with full budgets."""
        self._allow(lifecycle.QUEUED, lifecycle.ERROR, lifecycle.CANCELLED)
        self._move(lifecycle.QUEUED, lifecycle.BY_HAND, arrival=now,
                   token=self.token + 1, failures=0, crashes=0, suspect=False,
                   once=False, deadline=None, completed=None)

    def merge(self) -> None:
        """Stand for another add with the same key; whoever runs it just now conflicts."""
        self.merged = self.merged + 1

    def note_attempt(self, failure: Failure, now: int, outcome: str) -> None:
        if self._attempts is None:
            self._attempts = Attempts()
        self.write_down(failure.written)
        self._attempts.add(Attempt(
            self.startedCount, outcome, self.started, clock.from_micros(now),
            failure.kind, failure.text, failure.traceback, self.worker))

    def write_down(self, written: Written | None) -> None:
        """Keep what an attempt has logged; a job that logs nothing pays nothing."""
        if written is not None:
            if self._log is None:
                self._log = Log()
            self._log.add(written)

    def _allow(self, status: str, *origins: str) -> None:
        """Raise IllegalMove, before anything is changed, unless it is at one of these."""
        if self.recordedStatus not in origins:
            raise IllegalMove(self, status)

    def _move(self, status: str, reason: str | None, **facts) -> None:
        """Enter *status*, and learn the facts that come with it."""
        origin = self.recordedStatus
        if status not in lifecycle.MOVES[origin]:
            raise IllegalMove(self, status)
        self._enter(status, reason, **facts)
        if not self._v_silent:
            notify(events.moved(self, origin))

    def _enter(self, status: str, reason: str | None, **facts) -> None:
        self._p_activate()
        self.__dict__.update(facts, status=status)
        if reason is not None or self.reason is not None:
            self.__dict__["reason"] = reason
        self._p_changed = True


class Run(NamedTuple):
    """One firing of a cron job."""

    instant: object   # the aware moment for which it was due
    job: int          # number of the job that it made
    status: str
    completed: object
    error: str | None


@implementer(ICronJob)
class CronJob(Job):
    """See ICronJob"""

    minute: tuple[int, ...] = ()
    hour: tuple[int, ...] = ()
    dayOfMonth: tuple[int, ...] = ()
    month: tuple[int, ...] = ()
    dayOfWeek: tuple[int, ...] = ()
    delay = None
    timezone = None
    text = None             # cron text or ISchedule, where given instead
    missed = "once"
    overlap = "skip"
    paused = False
    waiting = None          # moment of a run that waits for the one before it
    late: tuple = ()        # missed moments that all fire, one run after the other
    firedUpTo = None        # microseconds: instants up to here are dealt with
    broken = None           # why its schedule cannot be worked out any more
    runs: tuple[Run, ...] = ()

    scheduledFor = clock.Moment()

    def __init__(self, id, task, input=None, minute=(), hour=(), dayOfMonth=(),
                 month=(), dayOfWeek=(), delay=None, *, schedule=None, timezone=None,
                 created=None):
        super().__init__(id, task, input, created)
        self.update(minute, hour, dayOfMonth, month, dayOfWeek, delay,
                    schedule, timezone)

    def update(self, minute=(), hour=(), dayOfMonth=(), month=(), dayOfWeek=(),
               delay=None, schedule=None, timezone=None):
        """See ICronJob"""
        fields = dict(minute=tuple(minute or ()), hour=tuple(hour or ()),
                      dayOfMonth=tuple(dayOfMonth or ()), month=tuple(month or ()),
                      dayOfWeek=tuple(dayOfWeek or ()))
        delay = check_delay(delay)
        if schedule is not None and (delay or any(fields.values())):
            raise BadSchedule("give a schedule, or fields, or a delay: only one of them")
        fields.update(delay=delay, text=schedule, timezone=timezone)
        made = make_schedule(**fields, anchor=self.created)
        if isinstance(made, Foreign):
            try_schedule(made, self.created)
        status = lifecycle.CRONJOB if made is not None else lifecycle.DELAYED
        if self.recordedStatus in (lifecycle.STARTLATER, status):
            self._enter(status, None)
        else:
            self._move(status, None)
        self.__dict__.update(fields, due=None, scheduledFor=None, firedUpTo=None,
                             broken=None)
        self._v_schedule = made

    @property
    def schedule(self):
        """See ICronJob"""
        made = getattr(self, "_v_schedule", None)
        if made is None and not self.delay:
            made = self._v_schedule = make_schedule(
                self.minute, self.hour, self.dayOfMonth, self.month, self.dayOfWeek,
                self.delay, self.text, self.timezone, self.created)
        return made

    def timeOfNextCall(self, now=None):
        """See ICronJob"""
        micros = clock.micros() if now is None else clock.to_micros(now)
        if self.delay:
            return int(micros / 1_000_000 + self.delay)
        moment = self.schedule.next_after(clock.from_micros(micros))
        return None if moment is None else int(moment.timestamp())

    def note_run(self, instant, job) -> None:
        """Keep that *job* was made for *instant*."""
        run = Run(instant, job.id, job.recordedStatus, None, None)
        self.runs = (*self.runs, run)[-RUNS_KEPT:]

    def note_end(self, job) -> None:
        """Keep how one of its runs ended: output and error are the last run's."""
        ended = Run(None, job.id, job.recordedStatus, job.completed, job.error)
        self.runs = tuple(
            ended._replace(instant=run.instant) if run.job == job.id else run
            for run in self.runs)
        self._p_changed = True
        if self.recordedStatus in lifecycle.FINISHED:
            return  # its own end stays what it was
        self.__dict__["completed"] = job.micros("completed")
        self.__dict__["started"] = job.micros("started") or None
        if job.recordedStatus == lifecycle.COMPLETED:
            self.__dict__.update(output=job.__dict__.get("output"), error=None)
        elif job.recordedStatus == lifecycle.ERROR:
            self.__dict__["error"] = job.error


def check_delay(delay):
    """Seconds, or None; 0 is none, as in release 0.5."""
    if delay is None or delay == 0:
        return None
    if isinstance(delay, bool) or not isinstance(delay, (int, float)) \
            or not 0 < delay < 1e10:
        raise BadOption("delay", delay, "seconds, a number from 0 on")
    return delay


def make_schedule(minute, hour, dayOfMonth, month, dayOfWeek, delay, text, timezone,
                  anchor=None):
    """The ISchedule of these fields; None for a job that only waits.

    anchor: the moment that intervals in cron text count from.
    """
    if delay:
        return None
    if text is None:
        return Schedule(minute, hour, dayOfMonth, month, dayOfWeek, timezone)
    if isinstance(text, str):
        return schedule.parse(text, timezone, anchor)
    return Foreign(text)


def try_schedule(made: Foreign, moment) -> None:
    """Raise BadSchedule where what was given does not answer like an ISchedule."""
    try:
        made.next_after(moment)
        made.describe()
    except (BadSchedule, TransientError):
        raise
    except Exception as error:
        raise BadSchedule(
            f"{made.given!r} is no schedule: give cron text or an ISchedule"
            f" ({type(error).__name__}: {error})") from error
