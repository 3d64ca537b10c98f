"""Keeps the books: puts each job where it belongs, and takes the next ones out.

One clerk works in one transaction.  With threads that is the dispatcher's, one
per process; without, the caller's.  Jobs are written by whoever moves them and
drop a slip into the inbox; the clerk makes index, lanes and schedule agree.
"""
import heapq
import logging
import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from functools import lru_cache
from typing import Any, NamedTuple

from transaction.interfaces import TransientError
from ZODB.POSException import POSError, POSKeyError, StateLoadError
from zodbpickle.pickle import PickleError
from zope.event import notify

from lovely.remotetask import admission, clock, events, lifecycle, limits
from lovely.remotetask.errors import NotSeen
from lovely.remotetask.failure import in_log, marked, traceback_of
from lovely.remotetask.filters import ALL as ALL_JOBS
from lovely.remotetask.filters import Filter
from lovely.remotetask.job import CronJob, Job
from lovely.remotetask.limits import SUSPECT, Limit, line_of
from lovely.remotetask.missed import ALL, ALLOW, QUEUE_ONE
from lovely.remotetask.missed import due as due_instants
from lovely.remotetask.settings import Settings
from lovely.remotetask.store.queue import Line, pack, unpack
from lovely.remotetask.store.tallies import Tallies

log = logging.getLogger(__name__)

DUE_LIMIT = 100         # scheduled jobs brought due per round; the queue gets its turn
SCATTER = 30            # entries of a line among which each helper begins, at least,
SPACES = 8              # or so many times what it takes, behind those that are
AT_HOME = Line.max_leaf_size  # left to who is at home: who takes the first of a leaf
                        # conflicts with all others there
PARKED = 500            # lines that one look sets aside: there may be as many as jobs
OPENED = 8              # lines that are opened where a slot is free, beyond the slots
WIDTHS = 32             # waiting lines that are looked at for one that wants few slots
BACKLOG = 500           # entries of a line that are more than those at home have in hand
LINES = 3               # of a shard that are looked at for that
DOUBTED = 10_000        # jobs of which it is known that they were looked for twice
LOOKED_AT = 1_000       # unfolded slips that a reader looks at one by one
# What a record that is missing or damaged raises; all else is of the storage.
UNREADABLE = (LookupError, AttributeError, TypeError, ValueError, ImportError,
              EOFError, PickleError, StateLoadError)
ENDS = {status: status for status in lifecycle.FINISHED}  # of attempts; else: retried
PRUNED = {lifecycle.COMPLETED: "retain_completed", lifecycle.CANCELLED: "retain_completed",
          lifecycle.ERROR: "retain_errors"}


def concerns_all(error: BaseException) -> bool:
    """Whether an error is a conflict or of the storage, and so of no single job."""
    return isinstance(error, TransientError) \
        or isinstance(error, POSError) \
        and not isinstance(error, (POSKeyError, StateLoadError))


def readable(service, id: int):
    """The job of that number; None where there is none, or nobody can read it."""
    job = service.jobs.get(id)
    try:
        return job if job is None or job.recordedStatus else None
    except UNREADABLE as error:
        _tell_of_unreadable(id, type(error).__name__, in_log(error))
        return None


@lru_cache(1_000)  # those who count jobs come by again and again
def _tell_of_unreadable(id: int, kind: str, text: str) -> None:
    log.error("job %s cannot be read, it is left out; `remove` removes it: %s: %s",
              id, kind, text)


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


def sure(service, ids: Iterable[int]) -> None:
    """Raise NotSeen, once for each, where there is no job of one of these numbers, and
    what names it is about to be dropped: nothing would find the job again."""
    missing = doubtful(service, ids)
    if missing:
        for id in missing:
            _doubted[service._p_oid, id] = None
        while len(_doubted) > DOUBTED:
            del _doubted[next(iter(_doubted))]
        raise NotSeen(f"no job {', '.join(map(str, missing[:10]))}: "
                      "it is looked for once more")


def doubtful(service, ids: Iterable[int]) -> list[int]:
    """Which of these were not found, and may be there.

    RelStorage's cache can show the state of a tree as it was, beside one of the inbox
    as it is (see decisions.txt).
    """
    jar = service._p_jar
    if jar is None or not type(jar._storage).__module__.startswith("relstorage"):
        return []
    return [id for id in ids
            if id not in service.jobs and (service._p_oid, id) not in _doubted]


_doubted: dict[tuple[bytes, int], None] = {}  # which were looked for again


class Claim(NamedTuple):
    """A job in somebody's hand."""

    id: int
    token: int
    line: str
    key: tuple[int, int, int]
    shard: int = 0


class Want(NamedTuple):
    """What a dispatcher asks for in one look.

    wanted: how many jobs, at most; free: threads without work; ahead: how many of one
    limit may be in hand beyond its slots; lines: {line: jobs in hand}; blocked: limits
    whose slots are all in jobs that take long.
    alone: nothing is in hand; None: suspects, which want that, are not waited for.
    strays: {shard that nobody seems to look after: what waits there}.  filter: which
    jobs; passed: {(shard, line, priority): key up to which none of them is there}, kept
    between claims.  help: also take out of the shards of others.
    """

    wanted: int = 0
    free: int = 0
    ahead: int = 0
    lines: Mapping[str, int] = {}
    blocked: Collection[str] = ()
    alone: bool | None = False
    strays: Mapping[int, object] = {}
    filter: Filter = ALL_JOBS
    passed: dict[tuple[int, str, int], int] = {}
    help: bool = True


class Clerk:
    """The books of one service in one transaction, at one moment.

    base: the moment (microseconds) at which schedules that are new begin, where
    the caller plays with time; None: the moment they were made.  shards: the numbers
    of those whose books he keeps; None: all.
    """

    suspects = False  # whether a claim has met some
    looking = False   # whether it has looked at as many as it may, and there are more
    elsewhere = False  # whether others have what it could take, or it has taken that
    opened = False    # whether lines take part again that it has not looked at

    def __init__(self, service, now: int, base: int | None = None,
                 shards: Collection[int] | None = None):
        self.service = service
        self.now = now
        self.base = base
        self.shards = [shard for shard in service.shards
                       if shards is None or shard.number in shards]
        self._changes: dict[int, dict[str, int]] = {}

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if kind is None:
            for number, changes in self._changes.items():
                self.service.shards[number].index.count(changes)

    def changes(self, shard) -> dict[str, int]:
        """Differences of the counts of a shard, up to now."""
        return self._changes.setdefault(shard.number, {})

    # -- folding in

    def empty_inbox(self, limit: int) -> int:
        """Settle what the slips name; how many jobs that were."""
        settled = 0
        for shard in self.shards:
            inbox = shard.queue.inbox
            if settled < limit and len(inbox):
                settled += self._settle_all(inbox.take(limit - settled))
        return settled

    def shorten_inbox(self, shard, limit: int) -> int:
        """Settle some that were added one by one: an adder's share of the work."""
        ids = shard.queue.inbox.take_short(limit)
        left = doubtful(self.service, ids)  # for a clerk: no add is repeated for it
        for id in left:
            shard.queue.inbox.drop(id)
        return self._settle_all(id for id in ids if id not in left)

    def _settle_all(self, ids) -> int:
        ids = dict.fromkeys(ids)
        sure(self.service, ids)
        jar = self.service._p_jar
        if jar is not None and len(ids) > 1:
            found = (self.service.jobs.get(id) for id in ids)
            jar.prefetch([job._p_oid for job in found if job is not None
                          and job._p_oid is not None and job._p_changed is None])
        for id in ids:
            self.look_at(id)
        return len(ids)

    def look_at(self, id: int) -> None:
        """Settle the job of that number, as far as that can be done."""
        sure(self.service, (id,))
        job = readable(self.service, id)
        if job is not None:
            with guarding(job):
                self.settle(job)

    def settle(self, job) -> None:
        """Put *job* where it belongs."""
        service, id = self.service, job.id
        shard = service.shards.of(job)
        was = shard.index.place(id)
        if was is not None and was[0] == lifecycle.COMPLETED \
                and job.recordedStatus not in lifecycle.FINISHED:
            # No job comes back from there but by an undo of the database.
            job.take_back(self.now)
        shard.index.enter(job, self.changes(shard))
        status = job.recordedStatus
        service.leases.forget(id, job.token)
        deadline = job.micros("deadline")
        if status == lifecycle.QUEUED:
            if deadline:
                shard.scheduled.put(id, deadline + 1)
            elif was is not None:
                shard.scheduled.remove(id)
            if was is not None:
                self._leave_line(shard, job, was, job.arrival)
            if not service.isHeld(job):
                if was is not None and job._p_jar is not None:
                    # It may be cancelled already, and come back from where it was held.
                    job._p_jar.readCurrent(job)
                shard.queue.put(line_of(job), job.key, job.token)
        elif status == lifecycle.DELAYED:
            self._settle_delayed(job, is_new=was is None)
        elif status == lifecycle.CRONJOB:
            self._settle_cron(job, is_new=was is None)
        elif status == lifecycle.PROCESSING and not job._p_changed \
                and service.leases.holder(id) is None:
            self.give_back(job)  # it was left so: nobody runs it, not even we
            self.settle(job)
        elif status in lifecycle.FINISHED:
            if was is not None:
                # Also without a deadline: a retry that was cancelled has none any more.
                shard.scheduled.remove(id)
                self._leave_line(shard, job, was)
            if was != (status, job.since):
                self._tell_parent(job)

    def settle_first(self, job) -> None:
        """Settle a job that is to leave the books; who enters it at this moment, for the
        first time, must meet this."""
        shard = self.service.shards.of(job)
        if shard.index.place(job.id) is None:
            shard.queue.inbox.forget(job.id)
        self.settle(job)

    def _leave_line(self, shard, job, was, arrival: int | None = None) -> None:
        """Take a job out of the lines, but for the place that it has from *arrival*:
        it was queued, and perhaps cancelled and retried, since it was settled last."""
        if was[0] != lifecycle.QUEUED or was[1] == arrival:
            return
        for place in {was[1], job.arrival} - {arrival}:
            line = limits.line_name(job.lane, job.task, job.locks)
            for name in (line, SUSPECT + line):
                shard.queue.remove(name, (job.priority, place, job.id))
            self.wake_for(line)

    def fold(self, lease, outcomes) -> None:
        """Settle what processors are through with, and let go of it.

        What is not held any more was moved on meanwhile: then the job itself is asked.
        """
        held = {} if lease is None else lease.held
        if lease is not None:
            lease.release((outcome.id, outcome.token) for outcome in outcomes)
            self.tally(lease.name, outcomes)
        own = {shard.number for shard in self.shards}
        for outcome in outcomes:
            if outcome.shard >= len(self.service.shards):  # another service, made anew
                self.look_at(outcome.id)
            elif outcome.shard not in own and outcome.status is not None:
                # Others keep those books: they are told, and nobody is met.
                self.service.shards[outcome.shard].queue.inbox.drop(outcome.id)
            elif outcome.simple and held.get(outcome.id, (None,))[0] == outcome.token:
                self.settle_finished(outcome)
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

    def settle_finished(self, outcome) -> None:
        """Settle a job that ended, by what its processor says; loads no job."""
        shard = self.service.shards[outcome.shard]
        was = shard.index.place(outcome.id)
        if was is None:
            self.look_at(outcome.id)
        else:
            shard.index.move(outcome.id, was, (outcome.status, outcome.since),
                             self.changes(shard))

    def _settle_delayed(self, job, is_new: bool) -> None:
        due = job.micros("due")
        if not due:
            due = self._start_of(job, is_new) + round(job.delay * 1_000_000)
            job.due = job.scheduledFor = clock.from_micros(due)
        self._schedule(job).put(job.id, due)

    def _schedule(self, job):
        return self.service.shards.of(job).scheduled

    def _start_of(self, job, is_new: bool) -> int:
        """The moment from which a delay or a schedule counts."""
        if self.base is not None:
            return self.base
        return job.micros("created") if is_new else self.now

    def _settle_cron(self, cron, is_new: bool) -> None:
        if cron.paused or cron.broken:
            self._schedule(cron).remove(cron.id)
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
            self._schedule(cron).remove(cron.id)
        else:
            self._schedule(cron).put(cron.id, clock.to_micros(cron.scheduledFor))

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
        brought = 0
        for shard in self.shards:
            ids = shard.scheduled.due(self.now, max(0, limit - brought))
            brought += len(ids)
            sure(self.service, ids)
            for id in ids:
                shard.scheduled.remove(id)  # whatever is wrong with it: not due for ever
                job = readable(self.service, id)
                if job is not None:
                    with guarding(job):
                        self._bring(job)
        caps = self.service.caps
        if caps.timed and caps.next_moment() <= self.now:
            self._open(caps.due(self.now, PARKED))
        elif caps.timed and self._lies_too_far(*caps.timed.minKey()[:3]):
            self._open(caps.due(caps.timed.maxKey()[0], PARKED))
        return brought

    def _lies_too_far(self, moment: int, shard: int, line: str) -> bool:
        """Whether a line is parked longer than its rate can want: a clock was put back."""
        longest = max((limit.rate.seconds for limit in self.service.limitsOf(line)
                       if limit.rate is not None), default=0)
        return moment - self.now > 2 * longest * 1_000_000

    def _open(self, lines) -> None:
        """Have parked lines, (shard, name), take part again."""
        for number, line in lines:
            self.service.shards[number].queue.open(line)

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
        elif status == lifecycle.DELAYED and job.micros("due") > self.now:
            self.settle(job)  # it was put off, and its slip still waits
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
                     "timeout", "retries", "locks", "shard"):
            if name in cron.__dict__:
                setattr(job, name, cron.__dict__[name])
        job.parent = cron.id
        job.isRun = True
        self.service.jobs.add(job)
        with guard(job):
            notify(events.JobAdded(job))
        with guard(job):
            job.enqueue(self.service.shards.of(job).queue.next_arrival(self.now)
                        if arrival is None else arrival)
        cron.note_run(instant, job)
        self.settle(job)
        return job

    # -- taking out

    def claim(self, lease, want: Want) -> list[Claim]:
        """Move up to so many entries from the lines to the lease, most urgent first.

        While there are suspects (that this worker takes) nothing else is taken, and of
        them one, when nothing is in hand.
        """
        taking = Taking(self, lease, want)
        self.suspects = taking.has_suspects()
        claims = taking.suspect() if self.suspects and want.alone is not None \
            else taking.all()
        self.elsewhere = taking.elsewhere
        self.looking = taking.looks <= 0 or taking.parked >= PARKED
        for name in taking.met:
            if name not in taking.kept:
                self.opened = self.wake(name) or self.opened
        if lease is not None:
            lease.hold([(claim.id, claim.token, self.now) for claim in claims])
        return claims

    def trim(self, lease, lines: Mapping[str, int]) -> bool:
        """Give back the slots of limits that what is in hand, {line: jobs}, does not
        need; whether lines that waited for them take part again."""
        if lease is None or not lease.slots:
            return False
        needed: Counter[str] = Counter()
        for line, number in lines.items():
            for limit in self.service.limitsOf(line):
                needed[limit.name] += number
        for name, limit in self.service.knownLimits().items():
            if limit.width is not None and name in lease.slots:  # was it made narrower?
                over = sum(self.service.caps.taken(name).values()) - limit.width
                if over > 0:
                    needed[name] = min(needed[name], max(0, lease.slots[name] - over))
        opened = False
        for name, slots in lease.slots.items():
            if needed[name] < slots:
                self.service.caps.take(name, lease.name, needed[name])
                lease.take_slots(name, needed[name])
                opened = self.wake(name) or opened
        return opened

    def free(self, lease) -> None:
        """Give back all slots of a lease that ends."""
        for name in lease.slots:
            self.service.caps.take(name, lease.name, 0)
            self.wake(name)
        lease.slots = {}

    def wake(self, name: str) -> bool:
        """Have some of the lines that wait for a limit take part again, if it has room;
        whether any does.

        Not all: of a hundred thousand, each with a lock of its own, all but a few would
        have to be parked again.  Who looks at one and cannot use the slot wakes more.
        """
        caps, notes, opened, passed_over = self.service.caps, [], 0, 0
        if not caps.number_waiting(name):
            return False
        used = sum(caps.taken(name).values())
        for note in islice(caps.waiting(name), 2 * PARKED):
            *_, number, line = note
            width = self._width(name, line)
            if width is not None and used >= width:
                passed_over += 1
                if passed_over == WIDTHS or not name.startswith("lock:"):
                    break
                continue
            if opened >= (PARKED if width is None else OPENED + width - used):
                break
            notes.append(note)
            opened += self.service.shards[number].queue.open(line)
        caps.wait_no_more(notes)
        return opened > 0

    def _width(self, name: str, line: str) -> int | None:
        """Of a limit, as it holds for a line; None: it does not any more."""
        return next((limit.width for limit in self.service.limitsOf(line)
                     if limit.name == name), None)

    def wake_for(self, line: str) -> None:
        """A line has lost a job that would perhaps have taken free slots: others may."""
        if self.service.caps.anybody_waits():
            for name in limits.names_of(line):
                self.wake(name)

    def wake_some(self, after: str, number: int) -> str:
        """Look at some of the limits for which lines wait, whether they have room; the
        name of the last, "" at the end.

        Who changes what a task declares, say, wakes nobody.
        """
        names = list(islice(self.service.caps.names_waited_for(after), number))
        for name in names:
            self.wake(name)
        return names[-1] if len(names) == number else ""

    def reopen(self, name: str) -> None:
        """Have lines that wait for a limit take part again: it was changed."""
        self.wake(name)
        caps = self.service.caps
        self._open(caps.forget_moments(
            note for note in caps.timed if name in limits.names_of(note[2])))

    def claim_fresh(self, name: str, wanted: int, filter: Filter = ALL_JOBS) -> list[Claim]:
        """Take what was just added from the inbox at once, where nothing else waits.

        Only inbox and lease are written before the work begins: a third of the
        commit.  The books learn of these jobs when they are folded in; until then
        readers find them on the lease.  Empty when there is more to think of.
        """
        service = self.service
        found = [(shard, shard.queue.inbox.runs()) for shard in self.shards
                 if len(shard.queue.inbox)]
        number = sum(last - first + 1 for _, runs in found for first, last in runs)
        if not 0 < number <= wanted:
            return []
        for shard in service.shards:
            due = shard.scheduled.next_moment()
            if shard.queue or due is not None and due <= self.now:
                return []
        # A job that was changed twice has two slips: one claim of it is enough.
        ids = dict.fromkeys(id for _, runs in found for first, last in runs
                            for id in range(first, last + 1))
        jobs = [readable(service, id) for id in ids]
        if not all(self._is_fresh(job, filter) for job in jobs):
            return []
        for shard, runs in found:
            shard.queue.inbox.take(sum(last - first + 1 for first, last in runs))
        claims = sorted((Claim(job.id, job.token, line_of(job), job.key, job.shard)
                         for job in jobs), key=lambda claim: claim.key)
        lease = service.leases.open(name, self.now)
        lease.hold([(claim.id, claim.token, self.now) for claim in claims])
        return claims

    def _is_fresh(self, job, filter: Filter) -> bool:
        """Whether it waits, for the first time, for nothing but its turn."""
        return job is not None and job.recordedStatus == lifecycle.QUEUED \
            and not job.suspect and job.token == 1 and job.deadline is None \
            and not self.service.limitsOf(line_of(job)) and filter.admits(job) \
            and self.service.shards.of(job).index.place(job.id) is None \
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
        self.free(lease)
        sure(self.service, held)
        for id, (token, claimed) in held.items():
            job = readable(self.service, id)
            if job is None:
                continue
            if job.token == token:
                once = self._at_most_once(job)
                unbegun = job.recordedStatus == lifecycle.QUEUED
                if unbegun:
                    with guarding(job):
                        job.start(claimed, lease.name)
                if once and unbegun:
                    with guarding(job):
                        job.hand_back()  # with another token: the dead may wake up
                elif job.recordedStatus == lifecycle.PROCESSING:
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
        service, shard = self.service, self.service.shards.of(job)
        shard.index.remove(job, self.changes(shard))
        shard.scheduled.remove(job.id)
        service.leases.forget(job.id)
        service.progress.pop(job.id, None)
        if job.unique is not None:
            service.uniques.forget(job.unique, job.id)
        if job.admitted:
            admission.dismiss(service, job)
        service.jobs.remove(job.id)

    def strike_unreadable(self, id: int) -> None:
        """Take out a job that nobody can read, as far as the books know it."""
        for shard in self.shards:
            shard.index.forget(id, self.changes(shard))
            shard.scheduled.remove(id)
        self.service.leases.forget(id)
        self.service.progress.pop(id, None)
        self.service.jobs.remove(id)

    def prune(self, limit: int) -> int:
        """Remove what was kept long enough or is too much, the oldest first."""
        service, removed = self.service, 0
        if service.tallies is not None:
            service.tallies.prune(
                self.now, {lease.name for lease in service.leases.values()})
        for status, option in PRUNED.items():
            found = self._too_old(status, getattr(service_settings(service), option),
                                  limit - removed)
            removed += sum(self._prune(shard, id, status) for shard, id in found)
        return removed

    def _too_old(self, status: str, days: float, limit: int) -> list[tuple[Any, int]]:
        """(shard, id) of what is not to be kept, up to *limit*."""
        most = service_settings(self.service).retain_count
        surplus = sum(shard.index.sizes[status]() for shard in self.shards) - most \
            if most else 0
        before = self.now - days * 86_400_000_000 if days else 0
        found: list[tuple[Any, int]] = []
        for since, id, number in heapq.merge(*(
                _oldest(shard, status) for shard in self.shards)):
            if len(found) >= limit or not (since < before or surplus > len(found)):
                break
            found.append((self.service.shards[number], id))
        return found

    def _prune(self, shard, id: int, status: str) -> bool:
        """Remove it, if it is still where the books have it."""
        sure(self.service, (id,))
        job = readable(self.service, id)
        if job is None:
            shard.index.forget(id, self.changes(shard))
        elif job.recordedStatus != status:
            self.look_at(id)  # it was moved since, and its slip waits
            return False
        else:
            with guarding(job):
                notify(events.JobRemoved(job))
            self._strike(job)
        return True


class Taking:
    """One claim: the most urgent entries of the open lines, within their limits."""

    def __init__(self, clerk: Clerk, lease, want: Want):
        self.service, self.now = clerk.service, clerk.now
        self.lease, self.want = lease, want
        self.shards = clerk.shards
        self.left = want.wanted
        self.free = want.free
        self.looks = LOOKED_AT   # at jobs, where a filter wants that
        self.scatter = 0         # begin behind up to so many entries of a line
        self.struck: dict[tuple[int, str], list[int]] = {}
        self.full: list[tuple[int, str]] = []  # lines to park
        self.parked = 0          # lines, up to now
        self.elsewhere = False   # see Clerk
        # Limits of lines that were taken of or set aside: others that wait for them may
        # be next; and those of lines that stay as they are, and are the next.
        self.waited_for = clerk.service.caps.anybody_waits()
        self.met: dict[str, None] = {}
        self.kept: set[str] = set()
        self.stale: list[tuple[int, int, str]] = []  # heads that are not of their lines
        self.limits: dict[str, tuple[Limit, ...]] = {}
        self.in_hand: Counter[str] = Counter()
        for line, number in want.lines.items():
            for limit in self._limits_of(line):
                self.in_hand[limit.name] += number

    def all(self) -> list[Claim]:
        """From the own shards; from those of others when nothing waits there."""
        claims = self._from(self.shards)
        own = {shard.number for shard in self.shards}
        others = [shard for shard in self.service.shards if shard.number not in own]
        # What is claimed ahead shall not be taken out of the hands of those at home,
        # unless more waits there than they can have in hand.
        if claims or not any(map(_is_long, others)):
            self.left = min(self.left, max(0, self.want.free - len(claims)))
        if self.left and not self.want.help:
            self.elsewhere = any(shard.queue for shard in others)
        elif self.left:
            helpers = max(1, len(self.service.leases.workers()) - 1)
            self.scatter = max(SCATTER, SPACES * self.left) * helpers
            found = self._from(others)
            self.elsewhere = bool(found)
            claims += found
        return claims

    def has_suspects(self) -> bool:
        return any(True for shard in self.service.shards
                   for line in shard.queue.suspects()
                   for _ in self._entries(shard.number, line))

    def suspect(self) -> list[Claim]:
        """One suspect, if nothing else is in hand."""
        if not self.want.alone or self.left <= 0:
            return []
        self.left = 1
        return self._from(self.service.shards, suspects=True)

    def _from(self, shards, suspects: bool = False) -> list[Claim]:
        claims = list(self._take(shards, suspects))
        for (number, line), keys in self.struck.items():
            self.service.shards[number].queue.strike(line, keys)
        self.parked += len(self.full)
        for number, line in self.full:
            self.service.shards[number].queue.park(line)
        self.struck, self.full = {}, []
        if self.stale:
            stale, self.stale = self.stale, []
            for number, head, line in stale:
                self.service.shards[number].queue.mend_head(head, line)
            claims += self._from(shards, suspects)
        return claims

    def _take(self, shards, suspects: bool) -> Iterator[Claim]:
        """A merge of the lines by their keys; one joins when its head is reached.

        The trees that are walked here are changed afterwards.
        """
        heads = heapq.merge(*map(_heads, shards))
        upcoming = next(heads, None)
        open_lines: list = []  # (packed key, shard, line, token, what follows)
        while self.left > 0:
            while upcoming is not None and (
                    not open_lines or upcoming[0] <= open_lines[0][0]):
                head, number, line = upcoming
                upcoming = next(heads, None)
                if not self.service.shards[number].queue.is_head(head, line):
                    self.stale.append((number, head, line))
                    continue
                if line.startswith(SUSPECT) != suspects:
                    continue
                entries = _scattered(self._entries(number, line), self.scatter)
                for packed, token in entries:
                    heapq.heappush(open_lines, (packed, number, line, token, entries))
                    break
                else:
                    self._meet(line)
            if not open_lines or len(self.full) + self.parked >= PARKED:
                return
            packed, number, line, token, entries = open_lines[0]
            if not self._admit(number, line, packed):
                heapq.heappop(open_lines)
                continue
            self.left -= 1
            self.struck.setdefault((number, line), []).append(packed)
            key = unpack(packed)
            yield Claim(key[2], token, line, key, number)
            following = next(entries, None)
            if following is None:
                heapq.heappop(open_lines)
            else:
                heapq.heapreplace(
                    open_lines, (following[0], number, line, following[1], entries))

    def _entries(self, shard: int, line: str) -> Iterator[tuple[int, int]]:
        """(packed key, token) of what this worker takes of a line."""
        entries, filter = self.service.shards[shard].queue.lines[line], self.want.filter
        if not filter:
            yield from entries.items()
            return
        if not filter.admits_task(limits.parts(line)[1]):
            return
        start = None if filter.lowest is None else pack((filter.lowest, 0, 0))
        if filter.tags is not None:
            yield from self._tagged(shard, line, start)
            return
        for packed, token in entries.items(start):
            if filter.highest is not None and unpack(packed)[0] > filter.highest:
                return
            yield packed, token

    def _tagged(self, shard: int, line: str, start: int | None
                ) -> Iterator[tuple[int, int]]:
        """The same, where the tags decide: they stand in the jobs.

        What was passed over is remembered by priority: what is new of a priority
        comes behind it.
        """
        entries, filter = self.service.shards[shard].queue.lines[line], self.want.filter
        while (first := next(iter(entries.keys(start)), None)) is not None:
            priority = unpack(first)[0]
            if filter.highest is not None and priority > filter.highest:
                return
            start = pack((priority + 1, 0, 0))
            place, none_yet = (shard, line, priority), True
            for packed, token in entries.items(
                    max(first, self.want.passed.get(place, first)), start,
                    excludemax=True):
                if self.looks <= 0:
                    return
                self.looks -= 1
                job = readable(self.service, unpack(packed)[2])
                if job is None or not filter.admits_tags(job.tags):
                    if none_yet:
                        self.want.passed[place] = packed
                    continue
                none_yet = False
                yield packed, token

    def _limits_of(self, line: str) -> tuple[Limit, ...]:
        if line not in self.limits:
            self.limits[line] = self.service.limitsOf(line)
        return self.limits[line]

    def _admit(self, shard: int, line: str, packed: int) -> bool:
        """Whether the next one of a line may be taken; takes slots where that needs them."""
        found = self._limits_of(line)
        if not found or self.lease is None and not self._is_full(found):
            return True
        caps, more = self.service.caps, []
        for limit in found:
            if limit.rate is not None:
                if self.free <= 0:
                    return self._keep(line)
                if not caps.may_begin(limit, self.now):
                    caps.wait_until(caps.free_at(limit, self.now), shard, line)
                    return self._set_aside(shard, line)
            if limit.width is None:
                continue
            taken = caps.taken(limit.name)
            mine = 0 if self.lease is None else taken.get(self.lease.name, 0)
            if self.in_hand[limit.name] < mine:
                continue
            full = sum(taken.values()) >= limit.width
            if not full and self.free > 0:
                more.append((limit.name, mine + 1))
            elif full and not mine:
                caps.wait(limit.name, packed, shard, line)
                return self._set_aside(shard, line)
            elif not mine or limit.name in self.want.blocked \
                    or self.in_hand[limit.name] >= max(mine, self.want.ahead):
                return self._keep(line)
        for name, slots in more:
            if self.lease is not None:
                caps.take(name, self.lease.name, slots)
                self.lease.take_slots(name, slots)
        for limit in found:
            self.in_hand[limit.name] += 1
            if limit.rate is not None:
                caps.begin(limit, self.now)
        self.free -= 1
        self._meet(line)
        return True

    def _set_aside(self, shard: int, line: str) -> bool:
        self.full.append((shard, line))
        self._meet(line)
        return False

    def _keep(self, line: str) -> bool:
        if self.waited_for:
            self.kept.update(limits.names_of(line))
        return False

    def _meet(self, line: str) -> None:
        if self.waited_for:
            self.met.update(dict.fromkeys(limits.names_of(line)))

    def _is_full(self, found) -> bool:
        return any(limit.width is not None and sum(
            self.service.caps.taken(limit.name).values()) >= limit.width
            or limit.rate is not None for limit in found)


def _is_long(shard) -> bool:
    """Whether a line of that shard is a backlog."""
    return any(len(list(islice(shard.queue.lines[line], BACKLOG))) == BACKLOG
               for _, line in islice(shard.queue.heads, LINES))


def _scattered(entries: Iterator, most: int) -> Iterator:
    """The same entries, the first ones last: helpers do not all take the same."""
    if not most:
        return entries
    number = AT_HOME + random.randrange(most)
    passed = list(islice(entries, number))
    if len(passed) < number:  # a short line
        start = random.randrange(len(passed) or 1)
        return iter(passed[start:] + passed[:start])
    return chain(entries, passed)


def _oldest(shard, status: str) -> Iterator[tuple[int, int, int]]:
    for since, id in shard.index.oldest(status):
        yield since, id, shard.number


def _heads(shard) -> Iterator[tuple[int, int, str]]:
    for packed, line in shard.queue.heads:
        yield packed, shard.number, line


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
    limits: dict[str, tuple[str, ...]]  # {line: names of limits} of what was claimed
    slots: dict[str, int]     # of each limit that this worker may use
    more: bool                # there is more to fold in or bring due at once
    due_in: float | None      # seconds until the next scheduled job
    strays: dict[int, object]  # foreign shards in which something waits: what it is
    watched: frozenset[bytes]  # oids of what is changed when there is work
    shared: bool              # other workers have shards of their own
    settings: Settings
    suspects: bool = False    # there were some that this worker takes
    looking: bool = False     # not all that waits was looked at
    elsewhere: bool = False   # others have what could be taken, or was taken


def unfolded(service) -> tuple[dict[int, None], list[tuple[int, int]]]:
    """What the books may not know: ids to look at one by one, and long runs of new
    ones.  They are in the inbox, or on a lease."""
    ids: dict[int, None] = dict.fromkeys(service.leases.held())
    runs = []
    for first, last in (run for shard in service.shards
                        for run in shard.queue.inbox.runs()):
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
        job = readable(service, first)
        if job is not None:
            found[job.recordedStatus] += last - first + 1
    for id in ids:
        job, was = readable(service, id), index.place(id)
        if was is not None:
            found[was[0]] -= 1
        if job is not None:
            found[job.status] += 1
    return found
