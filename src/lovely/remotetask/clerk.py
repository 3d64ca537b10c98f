"""Keeps the books: puts each job where it belongs, and takes the next ones out.

One clerk works in one transaction.  With threads that is the dispatcher's, one
per process; without, the caller's.  Jobs are written by whoever moves them and
drop a slip into the inbox; the clerk makes index, lanes and schedule agree.
"""
import heapq
import logging
from contextlib import contextmanager
from typing import NamedTuple

from transaction.interfaces import TransientError
from ZODB.POSException import POSError, POSKeyError
from zodbpickle.pickle import PickleError
from zope.event import notify

from lovely.remotetask import clock, events, lifecycle
from lovely.remotetask.failure import in_log, marked, traceback_of
from lovely.remotetask.job import CronJob, Job
from lovely.remotetask.missed import ALL, ALLOW, QUEUE_ONE
from lovely.remotetask.missed import due as due_instants
from lovely.remotetask.settings import Settings
from lovely.remotetask.store.tallies import Tallies

log = logging.getLogger(__name__)

SUSPECTS = "!suspects"  # the lane of jobs whose process died: they run alone
DUE_LIMIT = 100         # scheduled jobs brought due per round; the queue gets its turn
LOOKED_AT = 1_000       # unfolded slips that a reader looks at one by one
# What a record that is missing or damaged raises; all else is of the storage.
UNREADABLE = (LookupError, AttributeError, TypeError, ValueError, ImportError,
              EOFError, PickleError)
ENDS = {status: status for status in lifecycle.FINISHED}  # of attempts; else: retried
PRUNED = {lifecycle.COMPLETED: "retain_completed", lifecycle.CANCELLED: "retain_completed",
          lifecycle.ERROR: "retain_errors"}


def concerns_all(error: BaseException) -> bool:
    """Whether an error is a conflict or of the storage, and so of no single job."""
    return isinstance(error, TransientError) \
        or isinstance(error, POSError) and not isinstance(error, POSKeyError)


def readable(service, id: int):
    """The job of that number; None where there is none, or nobody can read it."""
    job = service.jobs.get(id)
    try:
        return job if job is None or job.recordedStatus else None
    except UNREADABLE as error:
        log.error("job %s cannot be read, it is left out: %s: %s",
                  id, type(error).__name__, in_log(error))
        return None


@contextmanager
def guarding(job):
    """What is wrong with one job, its task or a subscriber stops nobody else.

    It is logged.  The event of a move comes last: when a subscriber raises, the move
    is made, and he is not asked again.
    """
    try:
        yield
    except Exception as error:
        if concerns_all(error):
            raise
        log.error("job %s (%s): trouble while it was moved, the books go on:\n%s",
                  job.id, in_log(job.task), marked(traceback_of(error)))


class Claim(NamedTuple):
    """A job in somebody's hand."""

    id: int
    token: int
    lane: str
    key: tuple[int, int, int]


class Clerk:
    """The books of one service in one transaction, at one moment.

    base: the moment (microseconds) at which schedules that are new begin, where
    the caller plays with time; None: the moment they were made.
    """

    def __init__(self, service, now: int, base: int | None = None):
        self.service = service
        self.now = now
        self.base = base
        self.changes: dict[str, int] = {}

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if kind is None:
            self.service.index.count(self.changes)

    # -- folding in

    def empty_inbox(self, limit: int) -> int:
        """Settle what the slips name; how many jobs that were."""
        inbox = self.service.queue.inbox
        return self._settle_all(inbox.take(limit)) if len(inbox) else 0

    def shorten_inbox(self, limit: int) -> int:
        """Settle some that were added one by one: an adder's share of the work."""
        return self._settle_all(self.service.queue.inbox.take_short(limit))

    def _settle_all(self, ids) -> int:
        ids = dict.fromkeys(ids)
        for id in ids:
            self.look_at(id)
        return len(ids)

    def look_at(self, id: int) -> None:
        """Settle the job of that number, as far as that can be done."""
        job = readable(self.service, id)
        if job is not None:
            with guarding(job):
                self.settle(job)

    def settle(self, job) -> None:
        """Put *job* where it belongs."""
        service, id = self.service, job.id
        was = service.index.place(id)
        if was is not None and was[0] == lifecycle.COMPLETED \
                and job.recordedStatus not in lifecycle.FINISHED:
            # No job comes back from there but by an undo of the database.
            job.take_back(self.now)
        service.index.enter(job, self.changes)
        status = job.recordedStatus
        service.leases.forget(id, job.token)
        deadline = job.micros("deadline")
        if status == lifecycle.QUEUED:
            if deadline:
                service.scheduled.put(id, deadline + 1)
            elif was is not None:
                service.scheduled.remove(id)
            if was is not None:
                self._leave_line(job, was, job.arrival)
            if not service.isHeld(job):
                service.queue.put(lane_of(job), job.key, job.token)
        elif status == lifecycle.DELAYED:
            self._settle_delayed(job, is_new=was is None)
        elif status == lifecycle.CRONJOB:
            self._settle_cron(job, is_new=was is None)
        elif status in lifecycle.FINISHED:
            if deadline or was and was[0] in (lifecycle.DELAYED, lifecycle.CRONJOB):
                service.scheduled.remove(id)
            if was is not None:
                self._leave_line(job, was)
            if was != (status, job.since):
                self._tell_parent(job)

    def _leave_line(self, job, was, arrival: int | None = None) -> None:
        """Take a job out of the lanes, but for the place that it has from *arrival*:
        it was queued, and perhaps cancelled and retried, since it was settled last."""
        if was[0] != lifecycle.QUEUED or was[1] == arrival:
            return
        for place in {was[1], job.arrival} - {arrival}:
            for lane in (job.lane, SUSPECTS):
                self.service.queue.remove(lane, (job.priority, place, job.id))

    def fold(self, lease, outcomes) -> None:
        """Settle what processors are through with, and let go of it.

        What is not held any more was moved on meanwhile: then the job itself is asked.
        """
        held = {} if lease is None else lease.held
        if lease is not None:
            lease.release((outcome.id, outcome.token) for outcome in outcomes)
            self.tally(lease.name, outcomes)
        for outcome in outcomes:
            if outcome.simple and held.get(outcome.id, (None,))[0] == outcome.token:
                self.settle_finished(outcome.id, outcome.status, outcome.since)
            else:
                self.look_at(outcome.id)

    def tally(self, worker: str, outcomes) -> None:
        """Count what a worker has done."""
        told = [(each.task, ENDS.get(each.status, "retried"), each.conflicts,
                 each.waited, each.ran) for each in outcomes if each.status is not None]
        if told:
            if self.service.tallies is None:
                self.service.tallies = Tallies()
            self.service.tallies.note(worker, told, self.now)

    def settle_ended(self) -> None:
        """Settle what is on a lease and has ended, before its dispatcher does."""
        for id in self.service.leases.held():
            job = readable(self.service, id)
            if job is not None and job.recordedStatus in lifecycle.FINISHED:
                self.settle(job)

    def settle_finished(self, id: int, status: str, since: int) -> None:
        """Settle a job that ended, by what its processor says; loads no job."""
        was = self.service.index.place(id)
        if was is None:
            self.look_at(id)
        else:
            self.service.index.move(id, was, (status, since), self.changes)

    def _settle_delayed(self, job, is_new: bool) -> None:
        due = job.micros("due")
        if not due:
            due = self._start_of(job, is_new) + round(job.delay * 1_000_000)
            job.due = job.scheduledFor = clock.from_micros(due)
        self.service.scheduled.put(job.id, due)

    def _start_of(self, job, is_new: bool) -> int:
        """The moment from which a delay or a schedule counts."""
        if self.base is not None:
            return self.base
        return job.micros("created") if is_new else self.now

    def _settle_cron(self, cron, is_new: bool) -> None:
        if cron.paused or cron.broken:
            self.service.scheduled.remove(cron.id)
            return
        if cron.firedUpTo is None:
            cron.firedUpTo = self._start_of(cron, is_new)
            cron.scheduledFor = self._ask(cron, lambda: cron.schedule.next_after(
                clock.from_micros(cron.firedUpTo)))
        self._await_next(cron)

    def _ask(self, cron, question):
        """What its schedule answers; None from one that is broken."""
        try:
            return question()
        except Exception as error:
            if concerns_all(error):
                raise
            cron.broken = f"{type(error).__name__}: {error}"
            log.error("schedule of job %s (%s) is broken, it does not fire until it is "
                      "updated:\n%s", cron.id, in_log(cron.task),
                      marked(traceback_of(error)))
            return None

    def _await_next(self, cron) -> None:
        if cron.scheduledFor is None:
            self.service.scheduled.remove(cron.id)
        else:
            self.service.scheduled.put(cron.id, clock.to_micros(cron.scheduledFor))

    def _tell_parent(self, job) -> None:
        cron = readable(self.service, job.parent) if job.isRun else None
        if not isinstance(cron, CronJob):
            return
        cron.note_end(job)
        if cron.recordedStatus == lifecycle.CRONJOB and not cron.paused:
            self._next_run(cron)

    def _next_run(self, cron) -> None:
        """Make the run that waits for the one before it, if that is finished."""
        if not cron.late and cron.waiting is None or self._unfinished(cron):
            return
        if cron.late:
            instant, cron.late = cron.late[0], cron.late[1:]
        else:
            instant, cron.waiting = cron.waiting, None
        self.make_run(cron, instant)

    # -- time

    def bring_due(self, limit: int = DUE_LIMIT) -> int:
        """Queue what has become due, and fire the cron jobs; how many."""
        service = self.service
        ids = service.scheduled.due(self.now, limit)
        for id in ids:
            service.scheduled.remove(id)  # whatever is wrong with it: not due for ever
            job = readable(service, id)
            if job is not None:
                with guarding(job):
                    self._bring(job)
        return len(ids)

    def _bring(self, job) -> None:
        status = job.recordedStatus
        if status == lifecycle.CRONJOB:
            self.fire(job)
        elif passed(job.micros("deadline"), self.now) and (
                status == lifecycle.DELAYED
                or status == lifecycle.QUEUED and not self.service.isHeld(job)):
            with guarding(job):
                job.cancel(self.now, lifecycle.EXPIRED)
            self.settle(job)
        elif status == lifecycle.DELAYED:
            with guarding(job):
                job.enqueue(job.micros("due"), job.reason)
            self.settle(job)

    def fire(self, cron) -> None:
        """Make the runs that are due; advancing the cron job is the same commit."""
        if cron.paused or cron.broken or cron.firedUpTo is None:
            self._settle_cron(cron, is_new=False)  # it was changed just now
            return
        settings = service_settings(self.service)
        due = self._ask(cron, lambda: due_instants(
            cron.schedule, clock.from_micros(cron.firedUpTo),
            clock.from_micros(self.now), missed=cron.missed,
            bound=settings.missed_bound, grace=settings.missed_grace))
        cron.firedUpTo = self.now
        cron.scheduledFor = None if due is None else due.next
        self._await_next(cron)
        if due is None or not due.fire:
            return
        late = clock.to_micros(due.fire[0]) < self.now - settings.missed_grace * 1_000_000
        if late and cron.missed == ALL and cron.overlap != ALLOW:
            # They are all to run, so those of one downtime wait for each other.
            before = () if cron.waiting is None else (cron.waiting,)
            cron.late = (*cron.late, *before, *due.fire)[-settings.missed_bound:]
            cron.waiting = None
            self._next_run(cron)
            return
        self._next_run(cron)
        left_out = [instant for instant in due.fire if not self._fire_one(cron, instant)]
        if left_out:
            log.info("job %s (%s): %s left out, up to that of %s: the run before is not "
                     "finished", cron.id, in_log(cron.task),
                     "1 run" if len(left_out) == 1 else f"{len(left_out)} runs",
                     left_out[-1].isoformat())

    def _fire_one(self, cron, instant) -> bool:
        """Make a run or have it wait; False if it is left out."""
        if cron.overlap == ALLOW or not self._unfinished(cron):
            self.make_run(cron, instant)
        elif cron.overlap == QUEUE_ONE:
            cron.waiting = instant
        else:
            return False
        return True

    def _unfinished(self, cron) -> bool:
        for run in reversed(cron.runs):
            job = readable(self.service, run.job)
            if job is not None and job.recordedStatus not in lifecycle.FINISHED:
                return True
        return False

    def make_run(self, cron, instant, arrival=None, guard=guarding):
        """The child job that does the work of one firing; *arrival*: its place in
        line, where that is not the end.  guard: what surrounds each event."""
        job = Job(self.service.jobs.new_ids()[0], cron.task, cron.__dict__.get("input"),
                  created=self.now)
        job.__parent__ = self.service
        for name in ("title", "priority", "tags", "concerns", "lane", "owner", "site",
                     "timeout", "retries"):
            if name in cron.__dict__:
                setattr(job, name, cron.__dict__[name])
        job.parent = cron.id
        job.isRun = True
        self.service.jobs.add(job)
        with guard(job):
            notify(events.JobAdded(job))
        with guard(job):
            job.enqueue(self.service.queue.next_arrival(self.now)
                        if arrival is None else arrival)
        cron.note_run(instant, job)
        self.settle(job)
        return job

    # -- taking out

    def claim(self, lease, wanted: int, rooms: dict[str, int],
              alone: bool | None) -> list[Claim]:
        """Move up to *wanted* entries from the lanes to the lease, most urgent first.

        rooms: how many more of a lane may be taken, where that is limited.  alone:
        nothing else is in hand; then, and only then, one suspect may be taken, and
        while there are suspects nothing else is.  None: they are not waited for.
        """
        queue = self.service.queue
        if alone is not None and queue.lanes.get(SUSPECTS):
            wanted, lanes = int(alone), [SUSPECTS]
        else:
            lanes = [name for name in queue.lanes
                     if name != SUSPECTS and rooms.get(name, 1) > 0]
        claims = list(_take(queue, lanes, wanted, rooms))
        for claim in claims:
            queue.remove(claim.lane, claim.key)
        if lease is not None:
            lease.hold([(claim.id, claim.token, self.now) for claim in claims])
        return claims

    def claim_fresh(self, name: str, wanted: int, widths) -> list[Claim]:
        """Take what was just added from the inbox at once, where nothing else waits.

        Only inbox and lease are written before the work begins: a third of the
        commit.  The books learn of these jobs when they are folded in; until then
        readers find them on the lease.  Empty when there is more to think of.
        """
        service = self.service
        inbox, lanes = service.queue.inbox, service.queue.lanes
        runs, due = inbox.runs(), service.scheduled.next_moment()
        number = sum(last - first + 1 for first, last in runs)
        if not 0 < number <= wanted or any(map(bool, lanes.values())) \
                or due is not None and due <= self.now:
            return []
        # A job that was changed twice has two slips: one claim of it is enough.
        ids = dict.fromkeys(id for first, last in runs for id in range(first, last + 1))
        jobs = [readable(service, id) for id in ids]
        if not all(self._is_fresh(job, widths) for job in jobs):
            return []
        inbox.take(number)
        claims = sorted((Claim(job.id, job.token, job.lane, job.key) for job in jobs),
                        key=lambda claim: claim.key)
        lease = service.leases.open(name, self.now)
        lease.hold([(claim.id, claim.token, self.now) for claim in claims])
        return claims

    def _is_fresh(self, job, widths) -> bool:
        """Whether it waits, for the first time, for nothing but its turn."""
        return job is not None and job.recordedStatus == lifecycle.QUEUED \
            and not job.suspect and job.deadline is None and job.lane not in widths \
            and self.service.index.place(job.id) is None \
            and not self.service.isHeld(job)

    def return_unstarted(self, lease, claims) -> None:
        """Put claimed jobs that nobody has begun back in their places in line."""
        if not claims:
            return
        claims = [claim for claim in claims
                  if lease.held.get(claim.id, (None,))[0] == claim.token]
        lease.release((claim.id, claim.token) for claim in claims)
        for claim in claims:  # one may have been cancelled meanwhile, or be new
            self.look_at(claim.id)

    def return_strays(self, lease, known) -> None:
        """Put back what is on a lease and its dispatcher does not know of: the answer
        to the commit that claimed it was lost, and nobody has begun it."""
        strays = [(id, lease.held[id][0]) for id in lease.held.keys() - known]
        if strays:
            lease.release(strays)
        for id, _ in strays:
            self.look_at(id)

    def give_back(self, job) -> None:
        """Return a job to its place in line: its process stops.

        If it may run at most once, and its start is on record, its code may have had
        effects: it ends.
        """
        if job.recordedStatus == lifecycle.PROCESSING and job.once:
            with guarding(job):
                job.interrupt(self.now)
            return
        if job.recordedStatus == lifecycle.QUEUED:
            with guarding(job):
                job.start(self.now)
        with guarding(job):
            job.hand_back()

    def rescue(self, lease, limit: int) -> int:
        """Give what a dead process held back to the queue; how many jobs."""
        held, lease.held, lease.dead = lease.held, {}, True
        for id, (token, claimed) in held.items():
            job = readable(self.service, id)
            if job is None:
                continue
            if job.token == token:
                once = self._at_most_once(job)
                if job.recordedStatus == lifecycle.QUEUED and not once:
                    with guarding(job):
                        job.start(claimed, lease.name)
                if job.recordedStatus == lifecycle.PROCESSING:
                    with guarding(job):
                        job.lose_process(self.now, limit, once)
            self.look_at(id)
        self.service.leases.close(lease.name)
        return len(held)

    def _at_most_once(self, job) -> bool:
        """Such a task commits its start first: still queued means that it did not begin."""
        once = job.once
        with guarding(job):
            once = once or bool(getattr(self.service.taskOf(job), "atMostOnce", False))
        return once

    # -- removing

    def remove(self, job) -> None:
        """Take a finished job out of everything.

        The job is written too, so that a retry at the same time meets a conflict.
        """
        notify(events.JobRemoved(job))
        self._strike(job)

    def _strike(self, job) -> None:
        job.removed = True
        service = self.service
        service.index.remove(job, self.changes)
        service.scheduled.remove(job.id)
        service.leases.forget(job.id)
        service.progress.pop(job.id, None)
        service.jobs.remove(job.id)

    def prune(self, limit: int) -> int:
        """Remove what was kept long enough or is too much, the oldest first."""
        settings, index = service_settings(self.service), self.service.index
        removed = 0
        if self.service.tallies is not None:
            self.service.tallies.prune(
                self.now, {lease.name for lease in self.service.leases.values()})
        for status, option in PRUNED.items():
            days = getattr(settings, option)
            most = settings.retain_count
            surplus = index.sizes[status]() - most if most else 0
            oldest: list[int] = []
            for since, id in index.oldest(status):
                old = days and since < self.now - days * 86_400_000_000
                if removed + len(oldest) >= limit or not (old or surplus > len(oldest)):
                    break
                oldest.append(id)
            for id in oldest:
                job = readable(self.service, id)
                if job is None:
                    index.forget(id, self.changes)
                elif job.recordedStatus != status:
                    self.look_at(id)  # it was moved since, and its slip waits
                else:
                    with guarding(job):
                        notify(events.JobRemoved(job))
                    self._strike(job)
            removed += len(oldest)
        return removed


def _take(queue, lanes, wanted, rooms):
    """The *wanted* most urgent entries of some lanes, within the rooms left."""
    rooms = dict(rooms)
    heap = []
    for name in lanes:
        entries = queue.walk(name)
        for key, _, token in entries:
            heap.append((key, name, token, entries))
            break
    heapq.heapify(heap)
    while heap and wanted > 0:
        key, name, token, entries = heap[0]
        yield Claim(key[2], token, name, key)
        wanted -= 1
        rooms[name] = rooms.get(name, wanted + 1) - 1
        following = next(entries, None) if rooms[name] > 0 else None
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (following[0], name, following[2], entries))


def lane_of(job) -> str:
    return SUSPECTS if job.suspect else job.lane


def passed(deadline: int, now: int) -> bool:
    return bool(deadline) and deadline < now


def service_settings(service):
    return service.effectiveSettings()


# -- looking without writing


class Round(NamedTuple):
    """What one look of a dispatcher has brought."""

    claims: list[Claim]
    folded: bool              # what was finished is in the books now
    gone: frozenset[tuple[int, int]]  # (id, token) in hand, but taken away meanwhile
    widths: dict[str, int | None]
    more: bool                # there is more to fold in or bring due at once
    due_in: float | None      # seconds until the next scheduled job
    settings: Settings


def unfolded(service) -> tuple[dict[int, None], list[tuple[int, int]]]:
    """What the books may not know: ids to look at one by one, and long runs of new
    ones.  They are in the inbox, or on a lease."""
    ids: dict[int, None] = dict.fromkeys(service.leases.held())
    runs = []
    for first, last in service.queue.inbox.runs():
        if last - first < LOOKED_AT and len(ids) < LOOKED_AT:
            ids.update(dict.fromkeys(range(first, last + 1)))
        else:
            runs.append((first, last))
    ids.update(dict.fromkeys(service.notMoved()))
    return ids, runs


def counts(service) -> dict[str, int]:
    """{status: number}, exact as long as no bulk add waits to be folded in."""
    index = service.index
    found = {status: size() for status, size in index.sizes.items()}
    ids, runs = unfolded(service)
    for first, last in runs:
        job = service.jobs.get(first)
        if job is not None:
            found[job.recordedStatus] += last - first + 1
    for id in ids:
        job, was = service.jobs.get(id), index.place(id)
        if was is not None:
            found[was[0]] -= 1
        if job is not None:
            found[job.status] += 1
    return found
