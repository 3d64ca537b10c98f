"""One call of the service, published on a connection of its own, as one transaction.

    begin ── the job is still mine? ── run ── commit ──> done
      ^            │ no                 │        │
      │            └──> leave it        │        ├ conflict: again, after a pause
      │                                 │        └ any other error: the outcome is
      │                                 │          looked up, never guessed
      └── conflict: again ──────────────┤
                                        └ error: abort, keep why in a commit of its own
"""
import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import chain
from typing import Any, NamedTuple

from transaction import TransactionManager
from transaction.interfaces import TransientError
from ZODB.Connection import Connection
from ZODB.DB import DB
from ZODB.POSException import POSKeyError, StorageError

from lovely.remotetask import clock, lifecycle
from lovely.remotetask.clerk import Claim
from lovely.remotetask.errors import (
    NotMine, NotSeen, ServiceGone, StorageClosed, TaskError)
from lovely.remotetask.failure import Failure, in_log, marked, traceback_of
from lovely.remotetask.job import Job
from lovely.remotetask.retry import CONFLICT_TRIES, conflict_pause
from lovely.remotetask.runtime import engine
from lovely.remotetask.runtime.context import JobContext

log = logging.getLogger(__name__)

ROOT = "Application"  # the name of the application in Zope's database root
STALE_TRIES = 3       # conflicts in a row after which the cache is not believed
OUTAGE_TRIES = 5      # so often in a row the storage could be written right after
GROUP_SECONDS = 0.05  # after so long no other job joins a transaction
LONGEST_PAUSE = 5.0   # seconds between two looks at a storage that does not answer
DRIVERS = ("psycopg2", "pg8000", "sqlite3", "MySQLdb", "relstorage", "ZEO")


class Outcome(NamedTuple):
    """What became of one claim: the facts that the clerk and the log need."""

    id: int
    token: int
    status: str | None    # None: it was not mine any more
    since: int = 0
    simple: bool = False  # it ended, and nobody but the index needs to know
    note: str = ""        # for the log, after the commit
    shard: int = 0        # in which its books are
    task: str = ""
    conflicts: int = 0    # how often the attempt was repeated
    waited: int = 0       # microseconds in line, and at work
    ran: int = 0

    @classmethod
    def of(cls, job: Job, token: int, note: str = "", conflicts: int = 0) -> "Outcome":
        status, started = job.recordedStatus, job.micros("started")
        finished = status in lifecycle.FINISHED
        ended = job.micros("completed") if finished else 0
        since, ended = ended or job.since, ended or clock.micros()
        return cls(
            job.id, token, status, since, note=note, shard=job.shard, task=job.task,
            conflicts=conflicts, ran=max(0, ended - started) if started else 0,
            waited=max(0, started - job.arrival) if started and job.arrival else 0,
            simple=finished and not job.isRun and job.deadline is None)


def find(root: Any, path: Sequence[str]) -> Any:
    """The object at a path (sequence of names) below a database root.

    What stands in this database may be reached from the root of one beside it: a
    service in a database of its own, whose site is in the main one.
    """
    try:
        return _below(root, path)
    except (KeyError, TypeError, AttributeError) as error:
        if isinstance(error, POSKeyError):
            raise
        for beside in roots_beside(root):
            with suppress(KeyError, TypeError, AttributeError):
                found = _below(beside, path)
                if found._p_jar is root._p_jar:
                    return found
        raise


def roots_beside(root: Any) -> Iterator[Any]:
    """The roots of the other databases of a multi-database."""
    jar = getattr(root, "_p_jar", None)
    if jar is not None:
        for name in sorted(jar.db().databases):
            if name != jar.db().database_name:
                yield jar.get_connection(name).root()


def _below(root: Any, path: Sequence[str]) -> Any:
    place = root.get(ROOT, root)
    if path and place is not root and path[0] in root and path[0] not in place:
        place = root
    for name in path:
        place = place.getSiteManager() if name == "++etc++site" else place[name]
    return place


def path_of(service: Any) -> tuple[str, ...]:
    """The names that lead from the database root to a stored service.

    A service without `__parent__` may stand in the root of the database itself, or of
    one beside it.
    """
    names: list[str] = []
    place = service
    while getattr(place, "__parent__", None) is not None and place.__name__:
        names.append(place.__name__)
        place = place.__parent__
    if not names and service._p_jar is not None:
        root = service._p_jar.root()
        for each in chain((root,), roots_beside(root)):
            for name, value in each.items():
                if value is service:
                    return (name,)
    return tuple(reversed(names))


def elsewhere(db: DB, path: Sequence[str], manager: TransactionManager
              ) -> tuple[Connection, Callable[[Connection], Any]]:
    """Another connection to the database, and how to find the service on it."""
    return db.open(manager), lambda connection: find(connection.root(), path)


class Publication:
    """A thread's connection, on which it calls verbs of the service.

    It uses the thread's own transaction manager: a task that asks for the present
    transaction gets the one that its job will be committed with.
    """

    conflicts = 0  # transactions of `transact` that were repeated
    turn: Callable[[], AbstractContextManager[Any]] = nullcontext  # for each try
    committing = False        # whether the last call of `transact` came to its commit
    oid: bytes | None = None  # of the service, where it is not at its path any more

    def __init__(self, db: DB, path: Iterable[str],
                 stopping: threading.Event | None = None) -> None:
        self.db, self.path = db, tuple(path)
        self.stopping = stopping or threading.Event()
        self.connection = db.open()
        self.manager = self.connection.transaction_manager

    def close(self) -> None:
        self.manager.abort()
        self.connection.close()

    def service(self) -> Any:
        """The service, in the present transaction.  Raises ServiceGone."""
        if self.oid is not None:
            return self.connection.get(self.oid)
        root = self.connection.root()
        try:
            return find(root, self.path)
        except (KeyError, TypeError, AttributeError) as error:
            if isinstance(error, POSKeyError):
                raise
            raise ServiceGone(f"no service at {'/'.join(self.path)}") from error

    def begin(self, note: str) -> Any:
        self.manager.begin().note(note)
        return self.service()

    def abort(self) -> None:
        try:
            self.manager.abort()
        except Exception:
            log.debug("abort failed", exc_info=True)

    def rest(self) -> None:
        """Let go of the state that was seen last, before a wait.

        ZODB begins anew after each transaction, and in a relational database that is
        a transaction too: held through hours of idleness, it would keep PostgreSQL
        from removing what is old.
        """
        for each in tuple(self.connection.connections.values()):
            storage = each._storage
            if type(storage).__module__.startswith("relstorage"):
                try:
                    storage.sync()
                except Exception:
                    log.debug("the storage does not answer", exc_info=True)

    def transact(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        """Call a verb in a transaction of its own, again and again over conflicts."""
        tries = 0
        while True:
            self.committing = False
            try:
                with self.turn():
                    return self._try(verb, *args, **kwargs)
            except TransientError as error:
                tries += 1
                self.conflicts += 1
                self._see_anew(error, tries)
                self.stopping.wait(min(conflict_pause(tries), LONGEST_PAUSE))
                if tries > 200 and self.stopping.is_set():
                    raise

    def _see_anew(self, error: BaseException, tries: int) -> None:
        """Read all again, where old states may be what stands in the way."""
        if isinstance(error, NotSeen) or tries == STALE_TRIES:
            engine.forget(self.connection)

    def _try(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        try:
            result = getattr(self.begin(verb), verb)(*args, **kwargs)
            self.committing = True
            self.manager.commit()
            return result
        except BaseException:
            self.abort()
            raise

    # -- one attempt

    def attempt_some(self, claim: Claim, context: JobContext,
                     more: Callable[[], tuple[Claim, JobContext] | None],
                     worker: str = "", conflict_tries: int = CONFLICT_TRIES
                     ) -> list[Outcome]:
        """Run a claimed job once; where its task allows it, others with it in one
        transaction.

        more: gives another claim of the same line, or None.  When one of several fails
        or their commit does, each is run again in a transaction of its own.
        """
        members, committing = [(claim, context)], False
        try:
            service = self.begin(f"runJob {claim.id}")
            outcomes = [service.runJob(claim, context, worker, self.start_once)]
            context.flush()
            if context.group > 1:
                self._join(service, members, outcomes, more, worker)
            committing = True
            self.manager.commit()
        except BaseException as error:
            self.abort()
            trouble = error
        else:
            if log.isEnabledFor(logging.INFO):
                for outcome, member in zip(outcomes, members):
                    log.info("%s: %s", member[1].label, outcome.note)
            return outcomes
        if len(members) == 1:
            return [self.attempt(claim, context, worker, conflict_tries,
                                 (trouble, committing))]
        log.debug("%s and %s others are taken apart: %s", context.label,
                  len(members) - 1, in_log(trouble))
        for member in members:
            member[1].begin_anew()
        return [self._attempt_apart(*member, worker, conflict_tries)
                for member in members]

    def _attempt_apart(self, claim: Claim, context: JobContext, worker: str,
                       conflict_tries: int) -> Outcome:
        """Run what was one of several; not what was told to stop, which was cancelled,
        or is in the hands of another thread since this one was left to itself."""
        if context.should_stop:
            return Outcome(claim.id, claim.token, None)
        return self.attempt(claim, context, worker, conflict_tries)

    def _join(self, service: Any, members: list[tuple[Claim, JobContext]],
              outcomes: list[Outcome],
              more: Callable[[], tuple[Claim, JobContext] | None], worker: str) -> None:
        """Run others in the present transaction, as long as they are short."""
        context, until = members[0][1], time.monotonic() + GROUP_SECONDS
        while len(members) < context.group and time.monotonic() < until:
            context.expires = None  # it has come to its end, but for the commit
            following = more()
            if following is None:
                return
            members.append(following)
            self.manager.get().note(f"runJob {following[0].id}")
            context = following[1]
            try:
                outcomes.append(service.runJob(*following, worker, _not_shared))
            except NotMine as gone:
                if context.entered:
                    raise
                outcomes.append(_not_mine(following[0], gone))
            context.flush()

    def attempt(self, claim: Claim, context: JobContext, worker: str = "",
                conflict_tries: int = CONFLICT_TRIES,
                before: tuple[BaseException, bool] | None = None) -> Outcome:
        """Run a claimed job once; conflicts and outages are not attempts.

        before: what ended a first try, and whether that was committing.
        """
        conflicts = outages = unexplained = 0
        began = time.monotonic()
        while True:
            trouble, committing = before or (None, False)
            if trouble is None:
                began = time.monotonic()
                try:
                    service = self.begin(f"runJob {claim.id}")
                    outcome = service.runJob(claim, context, worker, self.start_once)
                    context.flush()
                    committing = True
                    self.manager.commit()
                    log.info("%s: %s", context.label, outcome.note)
                    return outcome
                except BaseException as error:
                    self.abort()
                    trouble = error
            before = None
            if isinstance(trouble, NotMine) and not committing:
                return _not_mine(claim, trouble)
            if isinstance(trouble, TransientError) and not disconnected(trouble):
                if conflicts >= conflict_tries or context.once:
                    return self.fail(claim, context, trouble, worker)
                conflicts += 1
                context.conflicts += 1
                self._see_anew(trouble, conflicts)
                context.wait(min(LONGEST_PAUSE, conflict_pause(
                    conflicts, time.monotonic() - began)))
                continue
            if not is_outage(trouble, committing):
                if committing:
                    self.look_up(claim)  # if it is done after all, `fail` finds so
                return self.fail(claim, context, trouble, worker)
            if self.look_up(claim) is None and context.once:
                return self.fail(claim, context, trouble, worker, lifecycle.INTERRUPTED)
            if self.stopping.is_set():
                return Outcome(claim.id, claim.token, None)
            outages += 1
            # Where it can be written each time right after, the trouble is not the
            # storage's but the attempt's own: that of another database, say.  A ZEO
            # server that was lost is nobody's own, however often it is lost.
            unexplained = unexplained + 1 if not (
                disconnected(trouble) or disk_full(trouble)) \
                and self._writable(claim) else 0
            if unexplained >= OUTAGE_TRIES:
                return self.fail(claim, context, trouble, worker)
            # Not charged: the next try sees whether it is done after all.
            log.warning("%s: trouble with the storage, looking again: %s",
                        context.label, in_log(trouble))
            self.stopping.wait(min(0.05 * 2 ** min(outages, 10), LONGEST_PAUSE))

    def fail(self, claim: Claim, context: JobContext, error: BaseException,
             worker: str = "", reason: str | None = None) -> Outcome:
        """Keep why an attempt failed, in a transaction of its own."""
        failure = Failure.of(error, context.written(), context.secrets)
        silently, outages = False, 0
        while True:
            try:
                outcome = self.transact(
                    "failJob", claim, failure, error, worker, reason, silently)
            except NotMine as gone:
                return _not_mine(claim, gone)
            except BaseException as trouble:
                if is_outage(trouble, self.committing):
                    outages += 1
                    log.warning("%s: its failure could not be kept yet: %s",
                                context.label, in_log(trouble))
                    self.stopping.wait(min(0.05 * 2 ** min(outages, 10), LONGEST_PAUSE))
                    self.look_up(claim)
                elif silently:
                    raise
                else:
                    # A subscriber of the event must not keep the job from ending.
                    log.error("%s: trouble while its failure was kept:\n%s",
                              context.label, marked(traceback_of(trouble)))
                    silently = True
            else:
                _tell(context, outcome, error, failure)
                return outcome

    def _writable(self, claim: Claim) -> bool:
        """Whether the storage can be written at this moment: the job is, as it is."""
        try:
            self.begin("touchJob").touchJob(claim)
            self.manager.commit()
            return True
        except Exception:
            self.abort()
            return False

    def start_once(self, claim: Claim, worker: str, mark: str) -> None:
        """Commit that an at-most-once job begins, before its task's code runs.

        As none has run yet, this is repeated after an outage; *mark* tells whether it
        was done after all.
        """
        outages = 0
        while True:
            try:
                self.transact("startOnce", claim, worker, mark)
                break
            except BaseException as trouble:
                if not is_outage(trouble, self.committing):
                    raise
                if self.stopping.is_set():
                    raise NotMine("its process stops") from trouble
                log.warning("job %s: its start could not be kept yet: %s",
                            claim.id, in_log(trouble))
            outages += 1
            self.stopping.wait(min(0.05 * 2 ** min(outages, 10), LONGEST_PAUSE))
            self.look_up(claim)
        self.begin(f"runJob {claim.id}")

    def look_up(self, claim: Claim) -> str | None:
        """After a doubtful commit: None if the job is still mine, else its status.

        Waits until the storage answers.  Raises StorageClosed if it never will.
        """
        pause = 0.1
        while True:
            try:
                self.manager.begin()
                for each in tuple(self.connection.connections.values()):
                    sync = getattr(each._storage, "sync", None)
                    if sync is not None:
                        sync()
                job = self.service().jobs.get(claim.id)
                mine = job is not None and job.token == claim.token \
                    and job.recordedStatus in (lifecycle.QUEUED, lifecycle.PROCESSING)
                return None if mine else "" if job is None else job.recordedStatus
            except Exception as error:
                if storage_closed(self.db) or self.stopping.is_set():
                    raise StorageClosed(
                        "the storage has closed itself after an error; start a new "
                        "process, it will look up what was committed") from error
                log.warning("storage does not answer, looking again in %.1f s: %s",
                            pause, in_log(error))
                self.stopping.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            finally:
                self.abort()


def _not_shared(claim: Claim, worker: str, mark: str) -> None:
    """At most once means a start of its own: another site has another task of that
    name.  None of its code has run; raised, so that the group is taken apart."""
    raise RuntimeError(f"job {claim.id} runs at most once, and by itself")


def _tell(context: JobContext, outcome: Outcome, error: BaseException,
          failure: Failure) -> None:
    """The line for a failed attempt, and what led to it, if that is not expected."""
    if outcome.status != lifecycle.ERROR:
        log.warning("%s: %s", context.label, outcome.note)
    elif isinstance(error, TaskError):
        log.error("%s: %s", context.label, outcome.note)
    else:
        log.error("%s: %s\n%s", context.label, outcome.note, marked(failure.traceback))


def _not_mine(claim: Claim, gone: NotMine) -> Outcome:
    if gone.args and gone.args[0] == lifecycle.COMPLETED:
        log.info("job %s is completed: only the answer to its commit was lost", claim.id)
    return Outcome(claim.id, claim.token, None)


def disconnected(error: BaseException) -> bool:
    return type(error).__name__ == "ClientDisconnected" \
        and str(type(error).__module__).startswith("ZEO")


def is_outage(error: BaseException, committing: bool) -> bool:
    """Whether an error tells of a storage that does not answer, not of the task.

    Out of a commit that is any error of a storage, a driver or the system; before,
    while the task reads, only what ZODB's storages themselves raise, or let through: a
    task may use a driver of its own.
    """
    if disconnected(error) or isinstance(error, StorageError):
        return True
    of_driver = str(type(error).__module__).startswith(DRIVERS)
    if committing:
        return of_driver or isinstance(error, OSError)
    return of_driver and _through_relstorage(error)


def _through_relstorage(error: BaseException) -> bool:
    return any(str(frame.f_globals.get("__name__", "")).startswith("relstorage.")
               for frame, _ in traceback.walk_tb(error.__traceback__))


def disk_full(error: BaseException) -> bool:
    """Whether an error tells of a full disk, on this machine or on that of a server:
    a small commit may find room where the next one finds none."""
    text = str(error)
    return "No space left" in text or "disk is full" in text


def storage_closed(db: DB) -> bool:
    """Whether a FileStorage has closed itself, as it does when fsync fails, that of
    this database or of one beside it."""
    return any(_closed(each) for each in {db, *db.databases.values()})


def _closed(db: DB) -> bool:
    file = getattr(db.storage, "_file", None)
    return getattr(file, "closed", False) or getattr(
        db, "_mvcc_storage", None) is None


