"""The verbs: what can be asked of a service from outside, as plain data.

A verb is called in a transaction of its own, here or in the process that has the
database; it takes and returns what JSON can carry.  `perform` is the only way in.
"""
import inspect
import os
import pwd
import time
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from transaction.interfaces import TransientError
from ZODB.POSException import ReadOnlyError

from lovely.remotetask import acts, audit, clock, lifecycle, plain
from lovely.remotetask.cli.problems import (
    FAILED, BadArgument, BadRequest, Problem, kind_of)
from lovely.remotetask.cli.services import choose, find_all
from lovely.remotetask.errors import RemoteTaskError, UnknownJob
from lovely.remotetask.job import CronJob
from lovely.remotetask.retry import conflict_pause

TRIES = 30           # a commit that conflicts is made again so often
BATCH = 200          # jobs touched in one commit of a long work
PAGE = 500
CRONS = 1_000        # cron jobs looked at for the next times
TOLD_EVERY = 500     # jobs between two words of progress


class Conflict(Problem):
    """Others wrote the same things at the same time, too often."""

    exit_code = FAILED


class Verb(NamedTuple):
    function: Callable
    writes: bool
    of_one: bool     # of one service; else of the database


VERBS: dict[str, Verb] = {}


def verb(name: str, writes: bool = False, of_one: bool = True):
    """Enter a function into the table.

    It is called with a service (or, where it is not of one, the connection) and
    `tell(done, total)`, and with the arguments of the request by name.
    """
    def enter(function):
        VERBS[name] = Verb(function, writes, of_one)
        return function
    return enter


def silent(done, total) -> None:
    """Nobody wants to know how far it is."""


def perform(db, name: str, service: str | None = None, arguments=None, tell=silent):
    """Call a verb in a transaction of its own, again over conflicts; its answer.

    Raises BadRequest for what is not in the table, Conflict, and what the verb
    raises.
    """
    if not isinstance(name, str) or name not in VERBS:
        raise BadRequest(f"there is no verb {name!r}; there are {', '.join(VERBS)}")
    found, arguments = VERBS[name], arguments or {}
    try:
        inspect.signature(found.function).bind(None, tell, **arguments)
    except TypeError as error:
        raise BadRequest(f"{name}: {error}") from None
    # The thread's own transactions: subscribers of events may ask for the present one.
    connection = db.open()
    manager = connection.transaction_manager
    try:
        for tries in range(1, TRIES + 1):
            manager.begin().note(f"remotetask {name}")
            try:
                place = choose(connection, service).service if found.of_one else connection
                with acts.acting(f"{_user()} (command line)"):
                    answer = found.function(place, tell, **arguments)
                if found.writes:
                    manager.commit()
                return answer
            except TransientError:
                time.sleep(conflict_pause(tries))
            except ReadOnlyError:
                raise BadRequest(f"{name} writes, and the database is open for "
                                 "reading only") from None
            finally:
                manager.abort()
    finally:
        connection.close()
    raise Conflict(f"{name}: others wrote to the same jobs {TRIES} times in a row; "
                   "nothing was done, try again")


def _user() -> str:
    """Who this process works for: the socket lets nobody else in."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


# -- reading


@verb("services", of_one=False)
def services(connection, tell):
    """Every service, and whether this process works for it."""
    return [dict(each.address, processing=each.service.isProcessing(), pid=os.getpid())
            for each in find_all(connection)]


@verb("status", of_one=False)
def status(connection, tell, service=None):
    found = find_all(connection) if service is None else [choose(connection, service)]
    return [dict(each.address, **_status(each.service)) for each in found]


def _status(service) -> dict:
    crons = sorted((when, job.id, job.task) for job in _crons(service)
                   for when in plain.next_times(job, 1))
    return dict(
        counts=service.counts(), queueLength=service.queueLength(),
        oldestWaiting=service.oldestWaiting(),
        workers=[dict(each, since=plain.moment(each["since"]), holds=len(each["holds"]))
                 for each in service.workers()],
        wishes=_wishes(service),
        next=[dict(id=id, task=task, moment=plain.moment(when))
              for when, id, task in crons[:5]])


def _crons(service):
    return service.listJobs(status=lifecycle.CRONJOB, limit=CRONS)[0]


@verb("list")
def list_jobs(service, tell, status=None, task=None, owner=None, tag=None, after=None,
              limit=50):
    jobs, key = service.listJobs(status, task, owner, tag, _key(after), limit)
    return dict(jobs=[plain.summary(job) for job in jobs],
                after=None if key is None else "{}:{}".format(*key))


def _key(text):
    """The key of a page from its text, or None."""
    if text is None:
        return None
    try:
        moment, id = text.split(":")
        return int(moment), int(id)
    except (ValueError, AttributeError):
        raise BadArgument(
            f"--after cannot be {text!r}: give what the page before has named") from None


@verb("show")
def show(service, tell, id):
    return plain.whole(service, service.getJob(id))


@verb("outcome")
def outcome(service, tell, id):
    """The little that somebody who waits for a job wants to know."""
    job = service.getJob(id)
    finished = job.recordedStatus in lifecycle.FINISHED
    return dict(id=id, status=job.status, finished=finished, reason=job.reason,
                output=plain.part(job, "output") if finished else None,
                error=job.error if finished else None,
                progress=plain.progress(service.getProgress(id)))


@verb("crons")
def crons(service, tell):
    return [dict(plain.summary(job), **plain.cron(job)) for job in _crons(service)]


@verb("matching")
def matching(service, tell, task=None, tag=None, errorText=None, olderThan=None,
             after=None):
    """A page of the ids of jobs in error that match, as `retryAll` sees it."""
    jobs, key = service.listJobs(
        lifecycle.ERROR, task=task, tag=tag, after=_key(after), limit=PAGE)
    wanted = (errorText or "").lower()
    before = clock.micros() - round((olderThan or 0) * 1_000_000)
    return dict(ids=[job.id for job in jobs if wanted in (job.error or "").lower()
                     and job.since <= before],
                after=None if key is None else "{}:{}".format(*key))


@verb("trail")
def trail(service, tell, after=None, limit=50):
    """A page of what people did."""
    if after is not None and not (isinstance(after, str) and after.isascii()
                                  and after.isdigit() and len(after) < 20):
        raise BadArgument(f"--after cannot be {after!r}: give what the page before has named")
    entries, key = service.listTrail(None if after is None else int(after), limit)
    return dict(
        entries=[dict(entry._asdict(), jobs=list(entry.jobs),
                      moment=plain.moment(clock.from_micros(entry.moment)))
                 for entry in entries],
        after=None if key is None else str(key))


@verb("check")
def check(service, tell):
    """Compare the books with the jobs: faults as texts."""
    return dict(jobs=_number(service), faults=_check(service, tell))


def _number(service) -> int:
    return sum(service.counts().values())


def _check(service, tell):
    total = _number(service)

    def step(done):
        if done % TOLD_EVERY == 0:
            tell(done, total)
            service._p_jar.cacheGC()  # within a transaction nobody else does it
    return audit.check(service, step)


# -- writing


@verb("repair", writes=True)
def repair(service, tell):
    """Check; where there are faults, make the books again and check once more."""
    faults = _check(service, tell)
    if faults:
        audit.repair(service, clock.micros())
        acts.note(service, "repair", detail=f"{len(faults)} faults")
    return dict(jobs=_number(service), faults=faults,
                left=_check(service, silent) if faults else [])


@verb("add", writes=True)
def add(service, tell, task, input=None, startLater=False, **options):
    id, made = service.addOrFind(task, input, startLater, **_options(options))
    return dict(id=id, made=made)


@verb("cron_add", writes=True)
def cron_add(service, tell, task, input=None, **options):
    return dict(id=service.addCronJob(task, input, **_options(options)))


WIRE_OPTIONS = frozenset((
    "title priority delay startAt startBefore tags timeout retries schedule timezone "
    "missed overlap locks unique uniqueFor duplicate atLimit").split())


def _options(options: dict) -> dict:
    """The options of `add` from their plain form: moments are ISO texts."""
    if strays := options.keys() - WIRE_OPTIONS:
        raise BadRequest(f"there is no option {min(strays)!r}")
    found = dict(options)
    for name in ("startAt", "startBefore"):
        if isinstance(found.get(name), str):
            try:
                found[name] = datetime.fromisoformat(found[name])
            except ValueError:
                raise BadArgument(f"{name} cannot be {found[name]!r}") from None
    return found


def _each(ids, function):
    """Call *function* for each id; what became of each, in order."""
    found = []
    for id in ids:
        try:
            answer, error = function(id), None
        except RemoteTaskError as problem:
            answer, error = None, dict(kind=kind_of(problem), text=str(problem))
        found.append(dict(id=id, answer=answer, error=error))
    return found


@verb("cancel", writes=True)
def cancel(service, tell, ids):
    def one(id):
        job = service.getJob(id)
        if job.recordedStatus in lifecycle.FINISHED:
            raise _Finished(f"job {id} is {job.status}, there is nothing to cancel")
        before = job.status
        service.cancel(id)
        return before
    return _each(ids, one)


class _Finished(Problem):
    kind = "IllegalMove"


@verb("retry", writes=True)
def retry(service, tell, ids):
    return _each(ids, service.retry)


@verb("start", writes=True)
def start(service, tell, ids):
    def one(id):
        if not service.startJob(id):
            raise _Finished(f"job {id} is {service.getStatus(id)}, it was not waiting "
                            "to be started")
    return _each(ids, one)


@verb("remove", writes=True)
def remove(service, tell, ids):
    return _each(ids, service.remove)


@verb("clean", writes=True)
def clean(service, tell, status, before):
    """Remove a batch of the jobs that came to this end before a moment
    (microseconds since 1970); how many, and how many are left with this status."""
    jobs, _ = service.listJobs(status=status, after=(before, 0), limit=BATCH)
    for job in jobs:
        service.remove(job.id)
    return dict(removed=len(jobs), left=service.counts()[status])


@verb("pause", writes=True)
def pause(service, tell, ids):
    return _each(ids, service.pause)


@verb("resume", writes=True)
def resume(service, tell, ids):
    return _each(ids, service.resume)


@verb("run_now", writes=True)
def run_now(service, tell, ids):
    def one(id):
        if not isinstance(service.getJob(id), CronJob):
            raise UnknownCron(id)
        return service.runNow(id)
    return _each(ids, one)


class UnknownCron(UnknownJob):
    """There is a job of that number, but no cron job."""

    def __init__(self, id):
        super().__init__(id)
        self.args = (f"job {id} is no cron job; remotetask cron list shows them",)


# -- workers, and what they are to do


@verb("workers")
def workers(service, tell):
    """Who works, and the wishes in force."""
    return dict(
        workers=[dict(each, since=plain.moment(each["since"]))
                 for each in service.workers()],
        wishes=_wishes(service))


def _wishes(service) -> list[dict]:
    return [dict(each, since=plain.moment(each["since"])) for each in service.wishes()]


@verb("pause_processing", writes=True)
def pause_processing(service, tell):
    service.pauseProcessing()
    return dict(paused=True)


@verb("resume_processing", writes=True)
def resume_processing(service, tell):
    service.resumeProcessing()
    return dict(paused=False)


@verb("wish_threads", writes=True)
def wish_threads(service, tell, number, worker=None):
    service.wishThreads(number, worker)
    return dict(number=number, worker=worker)


@verb("stop_worker", writes=True)
def stop_worker(service, tell, worker):
    service.wishStop(worker)
    return dict(worker=worker)


@verb("start_worker", writes=True)
def start_worker(service, tell, worker):
    service.wishStart(worker)
    return dict(worker=worker)
