"""`TaskService`: the verbs, in the order of a job's life."""
import logging
import time
import uuid
from heapq import merge

from BTrees.LOBTree import LOBTree
from persistent import Persistent
from zope.component import getUtilitiesFor, queryUtility
from zope.container.contained import Contained
from zope.event import notify
from zope.interface import implementer

from lovely.remotetask import (
    clerk, clock, events, lifecycle, processor, schedule, settings, upgrade)
from lovely.remotetask import task as tasks
from lovely.remotetask.clerk import Clerk
from lovely.remotetask.errors import (
    BadInput, BadOption, BadOutput, BadStatus, IllegalMove, NotMine, TaskError, UnknownTask)
from lovely.remotetask.failure import Failure, clean, in_log
from lovely.remotetask.interfaces import ITask, ITaskService
from lovely.remotetask.job import DEFAULT_PRIORITY, CronJob, Job, check_delay
from lovely.remotetask.payload import pack, validate
from lovely.remotetask.processor import SimpleProcessor
from lovely.remotetask.retry import policy_of
from lovely.remotetask.runtime import frames, rescue
from lovely.remotetask.runtime.context import JobContext
from lovely.remotetask.runtime.publication import Outcome
from lovely.remotetask.runtime.wakeup import ring_after_commit
from lovely.remotetask.startup import bootStrapSubscriber, getAutostartServiceNames
from lovely.remotetask.store.index import Index, object_key
from lovely.remotetask.store.jobs import Jobs
from lovely.remotetask.store.leases import Leases
from lovely.remotetask.store.queue import BUSY_FOLD, FOLD, Queue
from lovely.remotetask.store.scheduled import Scheduled

__all__ = ["TaskService", "bootStrapSubscriber", "getAutostartServiceNames"]

log = logging.getLogger(__name__)

BULK = 500             # jobs settled in one commit of a dispatcher
ALL = 1_000_000
SCAN_LIMIT = 10_000    # jobs looked at for one page
WIDTHS_SECONDS = 1.0   # how long the widths of the lanes are remembered
TEXT_LIMIT = 200       # characters of a title or a tag
MISSED, OVERLAP = schedule.MISSED, schedule.OVERLAP
LONGEST_PAUSE = 1e9    # seconds to another attempt, whatever a policy says
PRIORITIES = range(-1_000_000, 1_000_001)


@implementer(ITaskService)
class TaskService(Contained, Persistent):
    """See ITaskService"""

    taskInterface = ITask
    processorFactory = SimpleProcessor
    processorArguments = {"waitTime": 1.0}

    settings = {}  # never changed in place; `configure` replaces it
    leftOut = None   # what of release 0.5 could not be read
    _upgrade = None  # what of release 0.5 is still to be moved
    _v_settings = _v_widths = None

    def __init__(self):
        self.uuid = uuid.uuid4().hex
        self.jobs = Jobs()
        self.queue = Queue()
        self.scheduled = Scheduled()
        self.index = Index()
        self.leases = Leases()
        self.progress = LOBTree()

    def __setstate__(self, state):
        """A service of release 0.5 is read in today's shape; nothing is written."""
        if upgrade.is_old(state):
            TaskService.__init__(self)
            state = upgrade.todays(self, state)
        super().__setstate__(state)

    def _ready(self, *ids):
        """Before a write: begin what is left of an upgrade, and move these jobs."""
        if self._upgrade is not None:
            self._upgrade.touch(ids)

    def finishUpgrade(self):
        """Move all that release 0.5 has stored, in the present transaction."""
        while self._upgrade is not None:
            self._upgrade.advance(None)

    def advanceUpgrade(self, limit=upgrade.BATCH):
        """Move some of what release 0.5 has stored; True while there is more."""
        if self._upgrade is not None:
            self._upgrade.advance(limit)
        return self._upgrade is not None

    def notMoved(self):
        """Numbers of the jobs that stand where release 0.5 put them."""
        return () if self._upgrade is None else self._upgrade.unmoved()

    # -- tasks and settings

    def getAvailableTasks(self):
        """See ITaskService"""
        found = {}
        site = frames.site_above(self)
        if site is not None:
            found.update(site.getSiteManager().getUtilitiesFor(self.taskInterface))
        found.update(getUtilitiesFor(self.taskInterface))
        return found

    def findTask(self, name):
        """The task of that name, in the present site or in the service's; None without."""
        task = queryUtility(self.taskInterface, name)
        if task is None and (site := frames.site_above(self)) is not None:
            task = site.getSiteManager().queryUtility(self.taskInterface, name)
        return task

    def configure(self, **values):
        """Store settings for this service; None forgets one.  Raises BadSetting."""
        given = {**self.settings, **values}
        kept = {name: value for name, value in given.items() if value is not None}
        settings.Settings().changed(kept)
        self.settings = kept
        self._v_settings = None

    def effectiveSettings(self):
        """The settings in force: those stored here over those of the process."""
        found = self._v_settings
        base = settings.process()
        if found is None or found[0] is not base:
            found = self._v_settings = (base, base.changed(self.settings))
        return found[1]

    def execute(self, task, input=None):
        """See ITaskService"""
        utility = self._known_task(task)
        validate(getattr(utility, "inputSchema", None), input, f"input of {task!r}")
        context = JobContext(None)
        context.enter(self, None, None)
        output = self._call(utility, None, input, context)
        validate(getattr(utility, "outputSchema", None), output, f"output of {task!r}")
        return output

    # -- adding

    def add(self, task, input=None, startLater=False, **options):
        """See ITaskService"""
        return self.addMany(task, (input,), startLater, **options)[0]

    def addMany(self, task, inputs, startLater=False, **options):
        """See ITaskService"""
        utility = self._known_task(task)
        facts = _Facts(self, utility, **options)
        packed = [facts.pack(input, f"input of {task!r}") for input in inputs]
        if not packed:
            return []
        self._ready()
        now = clock.micros()
        ids = self.jobs.new_ids(len(packed))
        for id, (stored, objects) in zip(ids, packed):
            job = Job(id, task, stored, created=now)
            facts.give(job, objects, now)
            self._store(job)
            if startLater:
                continue
            due = job.micros("due")
            if due > now:
                job.delay_until(due)
            else:
                job.enqueue(self.queue.next_arrival(now))
        self._announce(ids[0], ids[-1])
        return list(ids)

    def addCronJob(self, task, input=None, minute=(), hour=(), dayOfMonth=(), month=(),
                   dayOfWeek=(), delay=None, *, schedule=None, timezone=None,
                   missed="once", overlap="skip", **options):
        """See ITaskService"""
        utility = self._known_task(task)
        _one_of("missed", missed, MISSED)
        _one_of("overlap", overlap, OVERLAP)
        facts = _Facts(self, utility, **options)
        stored, objects = facts.pack(input, f"input of {task!r}")
        self._ready()
        now = clock.micros()
        job = CronJob(self.jobs.new_ids()[0], task, stored, minute, hour, dayOfMonth,
                      month, dayOfWeek, delay, schedule=schedule, timezone=timezone,
                      created=now)
        job.missed, job.overlap = missed, overlap
        facts.give(job, objects, now)
        self._store(job)
        self._announce(job.id)
        return job.id

    def copy(self, jobid, **changes):
        """See ITaskService"""
        model = self.getJob(jobid)
        options = dict(
            title=model.title, priority=model.priority, tags=model.tags,
            concerns=model.concerns, timeout=model.timeout, retries=model.retries)
        return self.add(changes.pop("task", model.task),
                        changes.pop("input", model.input), **{**options, **changes})

    def _known_task(self, name):
        utility = self.findTask(name) if isinstance(name, str) else None
        if utility is None:
            raise UnknownTask(name, self.getAvailableTasks())
        return utility

    def _store(self, job):
        job.__parent__ = self
        self.jobs.add(job)
        notify(events.JobAdded(job))

    def _announce(self, first, last=None):
        """Have a clerk look at these jobs, and wake him once this is committed."""
        inbox = self.queue.inbox
        inbox.drop(first, last)
        # While a dispatcher is there, it is the one to fold.
        if len(inbox) > (BUSY_FOLD if self.leases else FOLD):
            self._fold(FOLD)
        ring_after_commit(self)

    def _fold(self, limit, now=None, base=None):
        with Clerk(self, clock.micros() if now is None else now, base) as books:
            books.empty_inbox(limit)

    # -- steering

    def startJob(self, jobid):
        """See ITaskService"""
        self._ready(jobid)
        job = self.getJob(jobid)
        if job.recordedStatus != lifecycle.STARTLATER:
            return False
        now, due = clock.micros(), job.micros("due")
        if due > now:
            job.delay_until(due)
        else:
            job.enqueue(self.queue.next_arrival(now))
        self._announce(jobid)
        return True

    def cancel(self, jobid):
        """See ITaskService"""
        self._ready(jobid)
        job = self.jobs.get(jobid)
        if job is not None and job.recordedStatus not in lifecycle.FINISHED:
            job.cancel(clock.micros())
            self._announce(jobid)

    def retry(self, jobid):
        """See ITaskService"""
        self._ready(jobid)
        job = self.getJob(jobid)
        if job.recordedStatus not in (lifecycle.ERROR, lifecycle.CANCELLED) \
                or isinstance(job, CronJob) and not job.delay:
            raise IllegalMove(job, lifecycle.QUEUED)
        job.requeue(self.queue.next_arrival(clock.micros()))
        self._announce(jobid)

    def retryAll(self, task=None, tag=None, errorText=None, olderThan=None, limit=None):
        """See ITaskService"""
        wanted = None if errorText is None else errorText.lower()
        before = None if olderThan is None else \
            clock.micros() - round(olderThan * 1_000_000)
        waiting, _ = clerk.unfolded(self)
        found = []
        ids = dict.fromkeys(waiting) | dict.fromkeys(
            id for _, id in self.index.oldest(lifecycle.ERROR))
        for id in ids:
            job = self.jobs.get(id)
            if job is None or job.recordedStatus != lifecycle.ERROR \
                    or task not in (None, job.task) \
                    or tag is not None and tag not in job.tags \
                    or wanted is not None and wanted not in (job.error or "").lower() \
                    or before is not None and job.since > before:
                continue
            found.append(id)
            if len(found) == limit:
                break
        for id in found:
            self.retry(id)
        return len(found)

    def reschedule(self, jobid):
        """See ITaskService"""
        self._ready(jobid)
        job = self.getJob(jobid)
        if isinstance(job, CronJob):
            self.scheduled.remove(jobid)
            job.firedUpTo = None
            self._announce(jobid)

    def pause(self, jobid):
        """See ITaskService"""
        self._cron(jobid).paused = True
        self._announce(jobid)

    def resume(self, jobid):
        """See ITaskService"""
        cron = self._cron(jobid)
        if cron.paused:
            cron.paused = False
            cron.firedUpTo = cron.scheduledFor = None
            self._announce(jobid)

    def runNow(self, jobid):
        """See ITaskService"""
        self._ready(jobid)
        job = self.getJob(jobid)
        now = clock.micros()
        if isinstance(job, CronJob) and job.recordedStatus == lifecycle.CRONJOB:
            with Clerk(self, now) as books:
                run = books.make_run(job, clock.from_micros(now))
            ring_after_commit(self)
            return run.id
        job.enqueue(self.queue.next_arrival(now))
        self._announce(jobid)
        return jobid

    def _cron(self, jobid):
        self._ready(jobid)
        job = self.getJob(jobid)
        if not isinstance(job, CronJob) or job.recordedStatus != lifecycle.CRONJOB:
            raise IllegalMove(job, "paused or resumed, that is for cron jobs")
        return job

    # -- reading

    def getJob(self, jobid):
        """See ITaskService"""
        return self.jobs[jobid]

    def getStatus(self, jobid):
        """See ITaskService"""
        return self.jobs[jobid].status

    def getResult(self, jobid):
        """See ITaskService"""
        return self._last_word(jobid).output

    def getError(self, jobid):
        """See ITaskService"""
        return str(self._last_word(jobid).error)

    def _last_word(self, jobid):
        """The job, or the last finished run of a cron job where that is still there."""
        job = self.jobs[jobid]
        for run in reversed(getattr(job, "runs", ())):
            child = self.jobs.get(run.job)
            if child is None or run.completed is not None:
                break
            if child.recordedStatus in (lifecycle.COMPLETED, lifecycle.ERROR):
                return child
        return job

    def getProgress(self, jobid):
        """See ITaskService"""
        self.getJob(jobid)
        progress = self.progress.get(jobid)
        if progress is None or progress.told is None:
            return None
        done, total, message, moment = progress.told
        return done, total, message, clock.from_micros(moment)

    def isHeld(self, job):
        """Whether this job, as it is queued now, is in somebody's hand."""
        lease = self.leases.holder(job.id)
        return lease is not None and lease.held[job.id][0] == job.token

    def counts(self):
        """See ITaskService"""
        return clerk.counts(self)

    def queueLength(self):
        """See ITaskService"""
        return self.counts()[lifecycle.QUEUED]

    def oldestWaiting(self):
        """See ITaskService"""
        now = clock.micros()
        oldest = now
        for since, id in self.index.oldest(lifecycle.QUEUED):
            job = self.jobs.get(id)
            if job is not None and job.status == lifecycle.QUEUED:
                oldest = since
                break
        ids, runs = clerk.unfolded(self)
        for id in (*ids, *(first for first, _ in runs)):
            job = self.jobs.get(id)
            if job is not None and job.status == lifecycle.QUEUED:
                oldest = min(oldest, job.since)
        return max(0, now - oldest) / 1_000_000

    def listJobs(self, status=None, task=None, owner=None, tag=None, after=None,
                 limit=50):
        """See ITaskService"""
        if status is not None:
            _one_of("status", status, lifecycle.STATUSES, BadStatus)
        facet = next((pair for pair in (("tag", tag), ("owner", owner), ("task", task))
                      if pair[1] is not None), None)
        page, key = [], None
        for number, key in enumerate(self._keys(status, facet, after)):
            job = self.jobs.get(key[1])
            if job is not None and status in (None, job.status) \
                    and task in (None, job.task) and owner in (None, job.owner) \
                    and (tag is None or tag in job.tags):
                page.append(job)
            if len(page) == limit or number == SCAN_LIMIT:
                return page, key
        return page, None

    def _keys(self, status, facet, after):
        """(moment, id) of what may match, the newest first, each id once."""
        if status == lifecycle.PROCESSING:
            keys = [(job.micros("created"), job.id) for job in
                    map(self.jobs.get, self.leases.held()) if job is not None]
            return [key for key in sorted(keys, reverse=True)
                    if after is None or key < after]
        by_state = facet is None and status is not None
        waiting, _ = clerk.unfolded(self)
        fresh = []
        for id in waiting:
            job = self.jobs.get(id)
            if job is not None:
                fresh.append((job.since if by_state else job.micros("created"), id))
        fresh = sorted((key for key in fresh if after is None or key < tuple(after)),
                       reverse=True)
        indexed = self.index.newest(status, facet, after)
        return _once(merge(fresh, indexed, reverse=True))

    def jobsFor(self, object):
        """See ITaskService"""
        key = object_key(object)
        waiting, _ = clerk.unfolded(self)
        fresh = [job for job in map(self.jobs.get, waiting)
                 if job is not None and any(
                     concern is object or key is not None and object_key(concern) == key
                     for concern in job.concerns)]
        found = {job.id: job for job in fresh}
        for _, id in () if key is None else self.index.newest(facet=("object", key)):
            job = self.jobs.get(id)
            if job is not None:
                found[id] = job
        return sorted(found.values(), key=lambda job: (job.created, job.id), reverse=True)

    def workers(self):
        """See ITaskService"""
        return [dict(name=lease.name, host=lease.host, pid=lease.pid,
                     since=clock.from_micros(lease.since), holds=sorted(lease.held),
                     alive=lease.name in rescue.living or not lease.proven_dead())
                for lease in self.leases.values()]

    # -- tidying

    def clean(self, status=(lifecycle.CANCELLED, lifecycle.ERROR, lifecycle.COMPLETED)):
        """See ITaskService"""
        wanted = (status,) if isinstance(status, str) else tuple(status)
        for word in wanted:
            _one_of("status", word, lifecycle.STATUSES, BadStatus)
        self.finishUpgrade()
        with Clerk(self, clock.micros()) as books:
            books.empty_inbox(ALL)
            found = [id for word in wanted for _, id in self.index.oldest(word)]
            jobs = [job for job in map(self.jobs.get, found) if job is not None]
            for job in jobs:
                if job.recordedStatus not in lifecycle.FINISHED:
                    raise BadStatus(
                        f"Not allowed status for removing. {job!r} is {job.status}; "
                        "only jobs at their end can be removed, cancel it first")
            for job in jobs:
                books.remove(job)
        return len(jobs)

    def remove(self, jobid):
        """See ITaskService"""
        self._ready(jobid)
        job = self.getJob(jobid)
        if job.recordedStatus not in lifecycle.FINISHED:
            raise IllegalMove(job, "removed before its end, cancel it first")
        with Clerk(self, clock.micros()) as books:
            books.settle(job)
            books.remove(job)

    def prune(self, limit=200):
        """See ITaskService"""
        with Clerk(self, clock.micros()) as books:
            return books.prune(limit)

    def check(self, repair=False):
        """See ITaskService"""
        faults = clerk.check(self)
        if repair and faults:
            self.finishUpgrade()
            clerk.repair(self, clock.micros())
        return faults

    # -- processing by hand

    def process(self, now=None):
        """See ITaskService"""
        while self.processNext(now):
            pass

    def processNext(self, now=None, jobid=None):
        """See ITaskService"""
        self.finishUpgrade()
        moment, base = _moment(now)
        if jobid is None:
            with Clerk(self, moment, base) as books:
                books.empty_inbox(ALL)
                books.bring_due()
                claims = books.claim(None, 1, {}, alone=True)
            if not claims:
                return False
            claim = claims[0]
        else:
            claim = self.claimByHand(jobid)
            if claim is None:
                return False
        self.settleByHand([self._run_by_hand(claim, moment)], moment, base)
        return True

    def hasJobsWaiting(self, now=None):
        """See ITaskService"""
        moment, _ = _moment(now)
        if self._upgrade is not None:
            return True  # there is something to do, and what that is will be seen
        if any(map(bool, self.queue.lanes.values())):
            return True
        due = self.scheduled.next_moment()
        if due is not None and due <= moment:
            return True
        ids, runs = clerk.unfolded(self)
        return bool(runs) or any(
            job is not None and job.status == lifecycle.QUEUED
            for job in map(self.jobs.get, ids))

    def claimNextJob(self, now=None):
        """See ITaskService"""
        self.finishUpgrade()
        moment, base = _moment(now)
        with Clerk(self, moment, base) as books:
            books.empty_inbox(ALL)
            books.bring_due()
            lease = self.leases.open(rescue.BY_HAND, moment)
            claims = books.claim(lease, 1, {}, alone=True)
        return claims[0].id if claims else None

    def claimByHand(self, jobid):
        """The claim of a job that was claimed before, or that is queued; else None."""
        job = self.getJob(jobid)
        if job.recordedStatus not in (lifecycle.QUEUED, lifecycle.PROCESSING):
            return None
        return clerk.Claim(job.id, job.token, clerk.lane_of(job), job.key)

    def settleByHand(self, outcomes, moment=None, base=None):
        """Bring into the books what was run by hand."""
        with Clerk(self, clock.micros() if moment is None else moment, base) as books:
            lease = self.leases.get(rescue.BY_HAND)
            if lease is not None:
                lease.release((outcome.id, outcome.token) for outcome in outcomes)
            for outcome in outcomes:
                job = self.jobs.get(outcome.id)
                if job is not None:
                    self.queue.remove(clerk.lane_of(job), job.key)
                    books.settle(job)

    def _run_by_hand(self, claim, moment):
        """Attempts in the caller's transaction, a savepoint around each."""
        while True:
            jar = self._p_jar
            savepoint = None if jar is None else jar.transaction_manager.savepoint()
            context = JobContext(claim.id)
            try:
                outcome = self.runJob(claim, context, "by hand")
                context.flush()
                return outcome
            except NotMine:
                return Outcome(claim.id, claim.token, None)
            except Exception as error:
                if savepoint is not None:
                    savepoint.rollback()
                outcome = self.failJob(claim, Failure.of(error), error, "by hand",
                                       now=moment)
                log.warning("%s: %s", context.label, outcome.note)
                if outcome.status != lifecycle.QUEUED:
                    return outcome
                claim = self.claimByHand(claim.id)

    # -- processing by threads

    def startProcessing(self):
        """See ITaskService"""
        processor.start(self)

    def stopProcessing(self):
        """See ITaskService"""
        processor.stop(self)

    def isProcessing(self):
        """See ITaskService"""
        return processor.is_processing(self)

    # -- verbs of the runtime: IServiceDesk

    def dispatch(self, name, finished=(), fold=False, wanted=0, rooms=None, alone=False,
                 unstarted=(), in_hand=None, known=(), rescuing=False):
        """The clerk's round for the dispatcher of that name: see IServiceDesk."""
        now = clock.micros()
        claims, folded = [], False
        if self._upgrade is not None and self._upgrade.advance():
            wanted = 0  # first all that was queued, for the sake of its order
        with Clerk(self, now) as books:
            if rescuing:
                for lost in rescue.lost(self.leases, self._p_jar.db()):
                    log.warning("process %s on %s is gone, %s jobs go back to the queue",
                                lost.pid, lost.host, len(lost.held))
                    books.rescue(lost, self.effectiveSettings().crash_limit)
            lease = self.leases.get(name)
            if unstarted:
                books.return_unstarted(lease, unstarted)
            settled = books.empty_inbox(BULK)
            brought = books.bring_due()
            work = wanted > 0 and any(map(bool, self.queue.lanes.values()))
            if finished and (fold or work or settled or brought):
                books.fold(lease, finished)
                folded = True
            if work or wanted > 0 and folded:
                if lease is None:
                    lease = self.leases.open(name, now)
                claims = self._strays(lease, known, finished)
                claims += books.claim(lease, wanted, self._rooms(rooms or {}), alone)
        return clerk.Round(
            claims, folded, self._gone(in_hand or {}), self._widths(claims),
            settled >= BULK or brought >= clerk.DUE_LIMIT or len(self.queue.inbox) > 0
            or self._upgrade is not None,
            self._due_in(now), self.effectiveSettings())

    def _strays(self, lease, known, finished):
        """Jobs on the lease of which their dispatcher does not know: the answer to
        the commit that claimed them was lost."""
        strays = lease.held.keys() - set(known) - {outcome.id for outcome in finished}
        return [claim for claim in map(self.claimByHand, strays) if claim is not None]

    def _gone(self, in_hand):
        jobs = ((id, token, self.jobs.get(id)) for id, token in in_hand.items())
        return frozenset(
            id for id, token, job in jobs
            if job is None or job.token != token or job.recordedStatus not in (
                lifecycle.QUEUED, lifecycle.PROCESSING))

    def _due_in(self, now):
        due = self.scheduled.next_moment()
        return None if due is None else (due - now) / 1_000_000

    def _rooms(self, rooms):
        """Rooms left, also in lanes that the dispatcher has not met yet."""
        return {**{lane: width for lane, width in self.laneWidths().items()}, **rooms}

    def _widths(self, claims):
        widths = self.laneWidths()
        return {claim.lane: widths[claim.lane] for claim in claims
                if claim.lane in widths}

    def laneWidths(self):
        """{lane: how many of its jobs run at once in a process}, where limited."""
        now = time.monotonic()
        if self._v_widths is None or now - self._v_widths[0] > WIDTHS_SECONDS:
            widths = {}
            for task in self.getAvailableTasks().values():
                width = getattr(task, "laneWidth", None)
                if width is not None:
                    lane = task.lane
                    widths[lane] = min(width, widths.get(lane, width))
            self._v_widths = now, widths
        return self._v_widths[1]

    def runJob(self, claim, context, worker="", start_once=None):
        """One attempt, up to the commit: see IServiceDesk.

        Raises NotMine when the job was taken away, and what the task raises.
        """
        job = self._mine(claim)
        now = clock.micros()
        if job.recordedStatus == lifecycle.QUEUED and clerk.passed(
                job.micros("deadline"), now):
            job.cancel(now, lifecycle.EXPIRED)
            context.enter(self, job, None)
            return Outcome.of(job, claim.token, "its start deadline had passed, it is not run")
        task = self._task_of(job)
        context.once = bool(getattr(task, "atMostOnce", False))
        if context.once and start_once is not None \
                and job.recordedStatus == lifecycle.QUEUED:
            start_once(claim, worker)
            job = self._mine(claim)
        if job.recordedStatus == lifecycle.QUEUED:
            job.start(now, worker)
        context.enter(self, job, job.timeout or getattr(task, "timeout", None))
        if not context.conflicts:
            log.info("%s: starts", context.label)
        present = self._transaction()
        with frames.around(job):
            output = self._call(task, job.id, job.input, context)
        if self._transaction() is not present:
            log.warning("%s: the task has ended the transaction itself: what it wrote "
                        "before is not one commit with its completion", context.label)
            job = self._mine(claim)
            if job.recordedStatus == lifecycle.QUEUED:
                job.start(now, worker)
        what = f"output of {job.task!r}"
        try:
            validate(getattr(task, "outputSchema", None), output, what)
            stored, _ = pack(output, self.effectiveSettings().output_limit, what)
        except BadInput as error:
            raise BadOutput(str(error)) from error
        job.complete(stored, clock.micros())
        seconds = (job.micros("completed") - now) / 1_000_000
        return Outcome.of(job, claim.token, f"completed in {seconds:.3f} s")

    def failJob(self, claim, failure, error, worker="", reason=None, silently=False,
                now=None):
        """Keep why an attempt failed, and decide what follows: see IServiceDesk.

        Raises NotMine when the job was taken away meanwhile.
        """
        job = self._mine(claim)
        job._v_silent = silently
        now = clock.micros() if now is None else now
        if job.recordedStatus == lifecycle.QUEUED:
            job.start(now, worker)
        pause = None
        if reason != lifecycle.INTERRUPTED:
            pause = self._pause_after(job, error)
        said = f"{in_log(failure.kind)}: {in_log(failure.text)}"
        if pause is None:
            job.fail(failure, now, reason)
            note = f"failed for good: {said}"
        else:
            job.fail_and_wait(failure, now, pause, reason or lifecycle.RETRY)
            note = f"failed, again in {pause:.1f} s: {said}"
        job._v_silent = False
        return Outcome.of(job, claim.token, note)

    def _pause_after(self, job, error):
        """Seconds to the next attempt; None: there is none."""
        try:
            with frames.SiteFrame(job):
                policy = policy_of(self.findTask(job.task), job.retries)
                pause = policy.delayAfter(job.failures + 1, error)
            return None if pause is None else min(max(float(pause), 0.0), LONGEST_PAUSE)
        except Exception:
            log.exception("job %s (%s): its retry policy is broken, it is not tried again",
                          job.id, in_log(job.task))
            return None

    def startOnce(self, claim, worker=""):
        """Commit that an at-most-once job begins."""
        self._mine(claim).start(clock.micros(), worker)

    def handBack(self, name, finished=(), unstarted=(), running=(), close=False):
        """The end of a dispatcher: everything it holds goes back in line."""
        with Clerk(self, clock.micros()) as books:
            lease = self.leases.get(name)
            if lease is None:
                return
            books.fold(lease, finished)
            books.return_unstarted(lease, unstarted)
            lease.release((claim.id, claim.token) for claim in running)
            for claim in running:
                try:
                    job = self._mine(claim)
                except NotMine:  # it ended, or was moved, at the same moment
                    job = self.jobs.get(claim.id)
                else:
                    if job.recordedStatus == lifecycle.QUEUED:
                        job.start(books.now)
                    job.hand_back()
                if job is not None:
                    books.settle(job)
            if close:
                left, lease.held = lease.held, {}
                for id in left:
                    job = self.jobs.get(id)
                    if job is not None:
                        books.settle(job)
                self.leases.close(name)

    def _mine(self, claim):
        """The claimed job.  Raises NotMine if it is not to be run any more."""
        job = self.jobs.get(claim.id)
        if job is None:
            raise NotMine("removed")
        if job.token != claim.token or job.recordedStatus not in (
                lifecycle.QUEUED, lifecycle.PROCESSING):
            raise NotMine(job.recordedStatus)
        return job

    def _task_of(self, job):
        with frames.SiteFrame(job):
            task = self.findTask(job.task)
        if task is None:
            raise TaskError(f'Task "{job.task}" not found!')
        return task

    def _call(self, task, jobid, input, context):
        token = tasks.enter(context)
        try:
            return task(self, jobid, input)
        except NotMine as error:  # it would say that this job was taken away
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        finally:
            tasks.leave(token)

    def _transaction(self):
        jar = self._p_jar
        return None if jar is None else jar.transaction_manager.get()


class _Facts:
    """The options of one add, checked before anything is stored."""

    def __init__(self, service, task, *, title="", priority=DEFAULT_PRIORITY, delay=None,
                 startAt=None, startBefore=None, tags=(), concerns=(), timeout=None,
                 retries=None):
        self.service, self.task = service, task
        self.limit = service.effectiveSettings().input_limit
        if not isinstance(priority, int) or priority not in PRIORITIES:
            raise BadOption("priority", priority, "a whole number; smaller is more urgent")
        if timeout is not None and not (_is_number(timeout) and timeout > 0):
            raise BadOption("timeout", timeout, "seconds, more than 0")
        if retries is not None and not (isinstance(retries, int) and retries >= 0):
            raise BadOption("retries", retries, "how many attempts after the first")
        tags = (tags,) if isinstance(tags, str) else tuple(tags)
        for text in (title, *tags):
            if not isinstance(text, str) or len(text) > TEXT_LIMIT \
                    or clean(text) != text:
                raise BadOption("title" if text is title else "tags", text,
                                f"plain text of up to {TEXT_LIMIT} characters")
        if delay is not None and startAt is not None:
            raise BadOption("startAt", startAt, "give a delay or a start time, not both")
        self.delay = check_delay(delay)
        self.startAt = _aware("startAt", startAt)
        self.startBefore = startBefore if _is_number(startBefore) \
            else _aware("startBefore", startBefore)
        self.concerns = tuple(concerns)
        self.facts = {name: value for name, value in dict(
            title=title, priority=priority, tags=tags, timeout=timeout, retries=retries,
            owner=frames.present_owner(), site=frames.present_site(service),
            lane=getattr(task, "lane", "") or "").items()
            if value != getattr(Job, name)}

    def pack(self, input, what):
        validate(getattr(self.task, "inputSchema", None), input, what)
        return pack(input, self.limit, what)

    def give(self, job, objects, now):
        """Write the facts into a new job, which nobody else has seen yet."""
        job.__dict__.update(self.facts)
        start = now
        if self.startAt is not None:
            start = clock.to_micros(self.startAt)
        elif self.delay:
            start = now + round(self.delay * 1_000_000)
        if start > now:
            job.__dict__["due"] = start
        if self.startBefore is not None:
            deadline = self.startBefore
            job.__dict__["deadline"] = clock.to_micros(deadline) \
                if not _is_number(deadline) else start + round(deadline * 1_000_000)
        concerns = (*self.concerns, *objects)
        context = tasks.context()
        if context is not None and context.service is self.service \
                and context.jobid is not None:
            job.__dict__["parent"] = context.jobid
        if concerns:
            job.__dict__["concerns"] = concerns
            jar = self.service._p_jar
            for object in concerns:
                if jar is not None and getattr(object, "_p_jar", jar) is None:
                    jar.add(object)


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _aware(option, moment):
    if moment is not None and getattr(moment, "tzinfo", None) is None:
        raise BadOption(option, moment, "a datetime with a time zone")
    return moment


def _one_of(option, value, allowed, error=None):
    if value not in allowed:
        text = f"one of {', '.join(map(repr, allowed))}"
        if error is not None:
            raise error(f"{option} cannot be {value!r}: {text}")
        raise BadOption(option, value, text)


def _moment(now):
    """(microseconds, the same if it was given): where a caller plays with time."""
    if now is None:
        return clock.micros(), None
    moment = clock.to_micros(now)
    return moment, moment


def _once(keys):
    seen = set()
    for key in keys:
        if key[1] not in seen:
            seen.add(key[1])
            yield key
