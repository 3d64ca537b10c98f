"""What a job has changed, and taking it back.

    look      what the transaction wrote that completed the job, and what hinders
    undo 1    a commit of the storage's own undo: it gives every object, and the job
              too, the state from before
    undo 2    a commit of ours: the job, queued again by the first, is cancelled

Who dies between the two leaves a job that its record calls queued and the books
completed.  Nobody takes it; `check` tells of it, and any clerk who meets it, or
`check(repair=True)`, cancels it.
"""
import logging
import time
from base64 import encodebytes
from typing import NamedTuple

from transaction import TransactionManager
from transaction.interfaces import TransientError
from ZODB.POSException import POSError, ReadOnlyError, StorageError

from lovely.remotetask import acts, clock, lifecycle
from lovely.remotetask.errors import CannotUndo, NoHistory
from lovely.remotetask.failure import in_log
from lovely.remotetask.job import Attempt, CronJob, Job
from lovely.remotetask.retry import conflict_pause
from lovely.remotetask.store import history

log = logging.getLogger(__name__)

SHOWN = 50         # objects on the job's page
LOOKED_AT = 1_000  # objects whose present state is compared before an undo
NOTE = "runJob"    # in the note of a transaction, before the number of each job run in it
JOBS = frozenset(f"{kind.__module__}.{kind.__qualname__}" for kind in (Job, CronJob))


class Look(NamedTuple):
    """What a job has changed, and whether it can be taken back."""

    writing: history.Writing        # in the database of the service
    elsewhere: dict[str, history.Writing]  # in others, by name
    alone: bool                     # the transaction was this job's attempt, no more
    hindrance: CannotUndo | None    # None: nothing is known that stands in the way
    later: int                      # objects, of those looked at, written since


def changes(service, jobid: int, limit: int = SHOWN) -> history.Writing:
    """What the transaction that completed a job has written, up to *limit* objects.

    Raises UnknownJob and NoHistory.
    """
    job = service.getJob(jobid)
    if job.status != lifecycle.COMPLETED or service._p_jar is None:
        raise NoHistory("not completed", "only what completes a job changes anything")
    job._p_activate()
    return history.writing(service._p_jar.db(), job._p_serial, job._p_oid, limit)


def elsewhere(service, jobid: int, limit: int = SHOWN) -> dict[str, history.Writing]:
    """The same of the other databases that the job has written to, by their names.

    May take a while in a large file.  Raises as `changes`.
    """
    job = service.getJob(jobid)
    if not job.alsoIn:
        return {}
    tid = changes(service, jobid, 1).tid
    databases = service._p_jar.db().databases
    if gone := [name for name in job.alsoIn if name not in databases]:
        raise NoHistory("elsewhere", f"the database {gone[0]!r}, which the job has "
                        "written to, is not there")
    return {name: history.same(databases[name], tid, lambda note: jobid in _jobs(note),
                               limit)
            for name in job.alsoIn}


def is_alone(writing: history.Writing, jobid: int) -> bool:
    """Whether a transaction was an attempt of that job; else it has others' work too."""
    return _jobs(writing.note) == [jobid]


def _jobs(note: str) -> list[int]:
    """The jobs that a transaction names as run in it, each on a line of its own."""
    words = (line.split() for line in note.splitlines())
    return [int(each[1]) for each in words
            if len(each) == 2 and each[0] == NOTE and each[1].isdecimal()]


def look(service, jobid: int, limit: int = LOOKED_AT) -> Look:
    """What undoing a job would take back.  Writes nothing, raises as `changes`."""
    written = changes(service, jobid, limit)
    alone = is_alone(written, jobid)
    others = elsewhere(service, jobid, limit) if alone else {}
    later = sum(not record.current for each in (written, *others.values())
                for record in each.records)
    job = service.getJob(jobid)
    return Look(written, others, alone, _hindrance(service, job, written, alone), later)


def _hindrance(service, job, written: history.Writing, alone: bool) -> CannotUndo | None:
    databases = service._p_jar.db().databases
    if not all(db.supportsUndo() for db in (
            service._p_jar.db(), *(databases[name] for name in job.alsoIn))):
        return CannotUndo("no undo", "the storage of the database cannot undo")
    if service._p_jar.isReadOnly():
        return CannotUndo("read only", "the database is open for reading only")
    if service.leases.holder(job.id) is not None:
        return CannotUndo("settling", "the job has ended just now and is still being "
                          "entered in the books; try again in a second")
    if not alone:
        return CannotUndo("not alone", "the transaction holds other work as well: "
                          "several jobs shared it, or the job was run by hand, or its "
                          "record was written since")
    if written.packed:
        return CannotUndo("packed", "the states from before were packed away")
    kinds = ((record.oid, record.kind) for record in written.records) \
        if not written.more else history.kinds(
            service._p_jar.db(), written.tid, job._p_oid)
    if any(kind in JOBS and oid != job._p_oid for oid, kind in kinds):
        return CannotUndo("made jobs", "the job has added other jobs, which may have "
                          "run: cancel or undo these, and mend the rest by hand")
    return None


def undo(service, jobid: int, user: str = "") -> None:
    """Take back what a job has changed; the job is cancelled then, as `undone`.

    Commits, twice, on connections of its own: the caller's transaction has no part in
    it.  user: who wants it, for the history.  Raises CannotUndo, and then nothing has
    changed; UnknownJob and NoHistory.
    """
    found = look(service, jobid)
    if found.hindrance is not None:
        raise found.hindrance
    job = service.getJob(jobid)
    attempt = Attempt(job.startedCount, lifecycle.UNDONE, job.started, job.completed,
                      "Undone", f"taken back by {user}" if user else "taken back",
                      "", job.worker)
    db, place = service._p_jar.db(), service._p_oid
    parts = [(db, found.writing.tid), *(
        (db.databases[name], each.tid) for name, each in found.elsewhere.items())]
    _undo_transaction(parts, f"undo of job {jobid}", user)
    log.info("job %s (%s): what it had changed was taken back by %s",
             jobid, in_log(job.task), in_log(user or "nobody of name"))
    _cancel(db, place, jobid, attempt)


def _undo_transaction(parts, note: str, user: str) -> None:
    """Undo what one transaction has written: (database, its number there) of each."""
    manager = TransactionManager()
    transaction = manager.begin()
    try:
        transaction.note(note)
        if user:
            transaction.user = user
        for db, tid in parts:
            db.undo(encodebytes(tid).rstrip(), transaction)
        manager.commit()
    except ReadOnlyError as error:
        raise CannotUndo("read only", "the database is open for reading only") from error
    except StorageError:  # the storage does not answer: nothing is known
        raise
    except (POSError, KeyError) as error:
        raise CannotUndo(
            "changed since", "objects that it wrote have been changed since, and the "
            "changes cannot be told apart; or their history was packed away "
            f"({type(error).__name__})") from error
    finally:
        manager.abort()


def _cancel(db, place: bytes, jobid: int, attempt: Attempt) -> None:
    """Have the job, whose record is as before its run, not run by surprise."""
    manager, tries = TransactionManager(), 0
    connection = db.open(manager)
    try:
        while True:
            manager.begin().note(f"undone {jobid}")
            service = connection.get(place)
            job = service.jobs.get(jobid)
            try:
                if job is None or job.recordedStatus in lifecycle.FINISHED:
                    return
                job.take_back(clock.micros(), attempt)
                service._announce(jobid)
                acts.note(service, "undo", jobid)
                manager.commit()
                return
            except TransientError:
                tries += 1
                time.sleep(min(conflict_pause(tries), 1.0))
            finally:
                manager.abort()
    finally:
        connection.close()
