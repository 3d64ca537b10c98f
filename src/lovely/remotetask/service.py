"""`TaskService`: the verbs, in the order of a job's life."""
import uuid
from contextlib import nullcontext
from itertools import groupby
from operator import itemgetter

from BTrees.LOBTree import LOBTree
from persistent import Persistent
from zope.component import getUtilitiesFor, queryUtility
from zope.container.contained import Contained
from zope.event import notify
from zope.interface import implementer

from lovely.remotetask import (
    access, acts, admission, audit, clerk, clock, events, lifecycle, limits, processor,
    settings, unique, upgrade)
from lovely.remotetask import task as tasks
from lovely.remotetask.changing import Changing
from lovely.remotetask.clerk import Clerk
from lovely.remotetask.crew import Crew
from lovely.remotetask.desk import ALL, Desk
from lovely.remotetask.errors import (
    BadOption, BadStatus, IllegalMove, NoCronJob, NotAtItsEnd, UnknownTask)
from lovely.remotetask.interfaces import ITask, ITaskService
from lovely.remotetask.job import CronJob, Job
from lovely.remotetask.limits import Limit
from lovely.remotetask.missed import MISSED, OVERLAP
from lovely.remotetask.once import Once
from lovely.remotetask.options import CronOptions, JobOptions, one_of
from lovely.remotetask.payload import validate
from lovely.remotetask.processor import SimpleProcessor
from lovely.remotetask.reading import Reading
from lovely.remotetask.runtime import frames
from lovely.remotetask.runtime.context import JobContext
from lovely.remotetask.runtime.wakeup import ring_after_commit
from lovely.remotetask.startup import bootStrapSubscriber, getAutostartServiceNames
from lovely.remotetask.store.caps import Caps
from lovely.remotetask.store.jobs import Jobs
from lovely.remotetask.store.leases import Leases
from lovely.remotetask.store.queue import BUSY_FOLD, FOLD
from lovely.remotetask.store.shards import Shards
from lovely.remotetask.store.uniques import Uniques
from lovely.remotetask.store.wishes import Wishes
from lovely.remotetask.waiting import Waiting

TOUCHED = 86_400_000_000  # microseconds: no transaction that runs a job takes longer

__all__ = ["TaskService", "bootStrapSubscriber", "getAutostartServiceNames"]


@implementer(ITaskService)
class TaskService(Waiting, Reading, Once, Crew, Desk, Changing, Contained, Persistent):
    """See ITaskService"""

    taskInterface = ITask
    processorFactory = SimpleProcessor
    processorArguments = {"waitTime": 1.0}
    jobClass = Job

    settings: dict[str, object] = {}  # never changed in place; `configure` replaces it
    limits: dict[str, Limit] = {}     # the same; `setLimit` replaces it
    leftOut = None   # what of release 0.5 could not be read
    trail = None     # what people did; made with the first thing
    tallies = None   # what was done by workers; likewise
    _upgrade = None  # what of release 0.5 is still to be moved
    _v_settings = None

    def __init__(self):
        self.uuid = uuid.uuid4().hex
        self.jobs = Jobs()
        self.shards = Shards()
        self.caps = Caps()
        self.uniques = Uniques()
        self.leases = Leases()
        self.wished = Wishes()
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

    @property
    def index(self):
        """What can be read of the index of all jobs."""
        return self.shards.index

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
        acts.note(self, "configure", detail=", ".join(
            f"{name}={'default' if value is None else value}"
            for name, value in values.items()))

    def setLimit(self, name, width=None, rate=None):
        """See ITaskService"""
        kind, _, rest = str(name).partition(":")
        if kind not in ("lane", "task") or not rest:
            raise BadOption("name", name, "'lane:…' or 'task:…'")
        if width is not None and not tasks.is_width(width):
            raise BadOption("width", width, "1 or more, or None")
        limit = Limit(name, None if width is None else int(width), limits.rate(rate))
        kept = {key: each for key, each in self.limits.items() if key != name}
        if limit.width is not None or limit.rate is not None:
            kept[name] = limit
        self.limits = kept
        with Clerk(self, clock.micros()) as books:
            books.reopen(name)
        ring_after_commit(self)
        acts.note(self, "set limit", detail=f"{name}: width {width}, rate {rate}")

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
        return [jobid for jobid, made in self._add(task, inputs, startLater, options)]

    def addOrFind(self, task, input=None, startLater=False, **options):
        """See ITaskService"""
        return self._add(task, (input,), startLater, options)[0]

    def _add(self, task, inputs, startLater, options):
        """For each input the number of its job, and whether that was made now."""
        inputs = list(inputs)
        facts = JobOptions(self, self._known_task(task), **options)
        packed = [facts.pack(input, f"input of {task!r}") for input in inputs]
        if facts.unique is None:
            return [(jobid, True) for jobid in
                    self._add_packed(task, packed, startLater, facts)]
        keys = [unique.key_of(task, facts.unique, input) for input in inputs]
        return [self._add_unique(task, key, each, startLater, facts)
                for key, each in zip(keys, packed)]

    def _add_packed(self, task, packed, startLater, facts):
        """Make a job for each input; their numbers."""
        if not packed:
            return []
        self._ready()
        now = clock.micros()
        ids = self.jobs.new_ids(len(packed))
        if facts.at_limit == admission.REFUSE:
            admission.admit(self, facts.line_of(task), ids)
        places = self._places(task, facts, len(ids))
        for id, (stored, objects), shard in zip(ids, packed, places):
            job = self.jobClass(id, task, stored, created=now)
            facts.give(job, objects, now)
            if shard:
                job.shard = shard
            self._store(job)
            if startLater:
                continue
            due = job.micros("due")
            if due > now:
                job.delay_until(due)
            else:
                job.enqueue(self.shards[0].queue.next_arrival(now))
        for shard, run in groupby(zip(places, ids), itemgetter(0)):
            run = list(run)
            self._announce(run[0][1], run[-1][1], shard)
        if facts.for_somebody:
            acts.note(self, "add", *ids, detail=facts.for_somebody, also_in_tasks=True)
        return list(ids)

    def _add_unique(self, task, key, packed, startLater, facts):
        """The number of the one job of that key, and whether it was made now."""
        self._ready()
        job = unique.found(self, key, facts.duplicate)
        if job is not None:
            return job.id, False
        jobid, = self._add_packed(task, (packed,), startLater, facts)
        job = self.jobs[jobid]
        job.unique = key
        window = round((facts.uniqueFor or 0) * 1_000_000)
        self.uniques.note(key, jobid, job.micros("created") + window)
        return jobid, True

    def _places(self, task, facts, number):
        """The shards of so many new jobs of one kind, neighbours side by side."""
        shards = self.shards
        key = None
        if shards.spread > 1:
            key = limits.spread_key(
                facts.facts.get("lane", ""), task,
                facts.facts.get("locks", ()), self.knownLimits())
        if shards.spread == 1 or number == 1 or key is not None:
            return [shards.choose(key)] * number
        first, size = shards.choose(), -(-number // shards.spread)
        return [(first + position // size) % shards.spread for position in range(number)]

    def addCronJob(self, task, input=None, minute=(), hour=(), dayOfMonth=(), month=(),
                   dayOfWeek=(), delay=None, *, schedule=None, timezone=None,
                   missed="once", overlap="skip", **options):
        """See ITaskService"""
        utility = self._known_task(task)
        one_of("missed", missed, MISSED)
        one_of("overlap", overlap, OVERLAP)
        facts = CronOptions(self, utility, **options)
        stored, objects = facts.pack(input, f"input of {task!r}")
        self._ready()
        now = clock.micros()
        job = CronJob(self.jobs.new_ids()[0], task, stored, minute, hour, dayOfMonth,
                      month, dayOfWeek, delay, schedule=schedule, timezone=timezone,
                      created=now)
        job.missed, job.overlap = missed, overlap
        facts.give(job, objects, now)
        if shard := self.shards.choose():
            job.shard = shard
        self._store(job)
        self._announce(job.id, shard=shard)
        acts.note(self, "add cron job", job.id, detail=facts.for_somebody,
                  also_in_tasks=bool(facts.for_somebody))
        return job.id

    def copy(self, jobid, **changes):
        """See ITaskService"""
        model = self.getJob(jobid)
        options = dict(
            title=model.title, priority=model.priority, tags=model.tags,
            concerns=model.concerns, timeout=model.timeout, retries=model.retries,
            locks=dict(model.locks))
        return self.add(changes.pop("task", model.task),
                        changes.pop("input", model.input), **{**options, **changes})

    def _known_task(self, name):
        utility = self.findTask(name) if isinstance(name, str) else None
        if utility is None:
            raise UnknownTask(name, self.getAvailableTasks())
        access.check_task(utility, name, self)
        return utility

    def _store(self, job):
        job.__parent__ = self
        self.jobs.add(job)
        notify(events.JobAdded(job))

    def _announce(self, first, last=None, shard=None):
        """Have a clerk look at these jobs, and wake him once this is committed."""
        if shard is None:
            shard = self.shards.of(self.jobs[first]).number
        inbox = self.shards[shard].queue.inbox
        inbox.drop(first, last)
        # While a dispatcher is there, it is the one to fold.  A service that is not
        # stored yet waits for it: what its jobs concern has no oid to be found by.
        if self._p_jar is not None and \
                len(inbox) > (BUSY_FOLD if self.leases else FOLD):
            with Clerk(self, clock.micros()) as books:
                books.shorten_inbox(self.shards[shard], FOLD)
        ring_after_commit(self)

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
            job.enqueue(self.shards[0].queue.next_arrival(now))
        self._announce(jobid)
        acts.note(self, "start", jobid)
        return True

    def cancel(self, jobid):
        """See ITaskService"""
        self._ready(jobid)
        job = self.jobs.get(jobid)
        if job is not None and job.recordedStatus not in lifecycle.FINISHED:
            job.cancel(clock.micros())
            self._announce(jobid)
            acts.note(self, "cancel", jobid)

    def retry(self, jobid):
        """See ITaskService"""
        self._ready(jobid)
        job = self.getJob(jobid)
        if job.recordedStatus not in (lifecycle.ERROR, lifecycle.CANCELLED) \
                or isinstance(job, CronJob) and not job.delay:
            raise IllegalMove(job, lifecycle.QUEUED)
        job.requeue(self.shards[0].queue.next_arrival(clock.micros()))
        self._announce(jobid)
        acts.note(self, "retry", jobid)

    def cancelOwn(self, jobid):
        """See ITaskService"""
        access.require_own(self.getJob(jobid), "cancel")
        self.cancel(jobid)

    def retryOwn(self, jobid):
        """See ITaskService"""
        access.require_own(self.getJob(jobid), "retry")
        self.retry(jobid)

    def retryAll(self, task=None, tag=None, errorText=None, olderThan=None, limit=None):
        """See ITaskService"""
        wanted = None if errorText is None else errorText.lower()
        before = None if olderThan is None else \
            clock.micros() - round(olderThan * 1_000_000)
        waiting, _ = clerk.unfolded(self)
        found = []
        ids = dict.fromkeys((*waiting, *self.leases.held())) | dict.fromkeys(
            id for _, id in self.index.oldest(lifecycle.ERROR))
        for id in ids:
            if limit is not None and len(found) >= limit:
                break
            job = self._job(id)
            if job is None or job.recordedStatus != lifecycle.ERROR \
                    or task not in (None, job.task) \
                    or tag is not None and tag not in job.tags \
                    or wanted is not None and wanted not in (job.error or "").lower() \
                    or before is not None and job.since > before:
                continue
            found.append(id)
        for id in found:
            self.retry(id)
        return len(found)

    def reschedule(self, jobid):
        """See ITaskService"""
        self._ready(jobid)
        job = self.getJob(jobid)
        if isinstance(job, CronJob):
            self.shards.of(job).scheduled.remove(jobid)
            job.firedUpTo = None
            self._announce(jobid)
            acts.note(self, "reschedule", jobid)

    def pause(self, jobid):
        """See ITaskService"""
        cron = self._cron(jobid)
        cron.paused, cron.waiting, cron.late = True, None, ()
        self._announce(jobid)
        acts.note(self, "pause", jobid)

    def resume(self, jobid):
        """See ITaskService"""
        cron = self._cron(jobid)
        if cron.paused:
            cron.paused = False
            cron.firedUpTo = cron.scheduledFor = None
            self._announce(jobid)
            acts.note(self, "resume", jobid)

    def runNow(self, jobid):
        """See ITaskService"""
        self._ready(jobid)
        job = self.getJob(jobid)
        now = clock.micros()
        if isinstance(job, CronJob) and job.recordedStatus == lifecycle.CRONJOB:
            with Clerk(self, now) as books:
                run = books.make_run(job, clock.from_micros(now), guard=nullcontext)
            ring_after_commit(self)
            acts.note(self, "run now", jobid)
            return run.id
        if job.recordedStatus not in (lifecycle.STARTLATER, lifecycle.DELAYED):
            raise IllegalMove(job, lifecycle.QUEUED)
        job.enqueue(self.shards[0].queue.next_arrival(now))
        self._announce(jobid)
        acts.note(self, "run now", jobid)
        return jobid

    def _cron(self, jobid):
        self._ready(jobid)
        job = self.getJob(jobid)
        if not isinstance(job, CronJob) or job.recordedStatus != lifecycle.CRONJOB:
            raise NoCronJob(job)
        return job

    # -- tidying

    def clean(self, status=(lifecycle.CANCELLED, lifecycle.ERROR, lifecycle.COMPLETED)):
        """See ITaskService"""
        wanted = (status,) if isinstance(status, str) else tuple(status)
        for word in wanted:
            one_of("status", word, lifecycle.STATUSES, BadStatus)
        self.finishUpgrade()
        with Clerk(self, clock.micros()) as books:
            books.empty_inbox(ALL)
            books.settle_ended()
            found = [id for word in wanted for _, id in self.index.oldest(word)]
            jobs = [job for job in map(self.jobs.get, found) if job is not None]
            for job in jobs:
                if job.recordedStatus not in lifecycle.FINISHED:
                    raise BadStatus(
                        f"Not allowed status for removing. {job!r} is {job.status}; "
                        "only jobs at their end can be removed, cancel it first")
            for job in jobs:
                books.remove(job)
        if jobs:
            acts.note(self, "remove", *(job.id for job in jobs))
        return len(jobs)

    def remove(self, jobid):
        """See ITaskService"""
        self._ready(jobid)
        job = self.getJob(jobid)
        readable = self._job(jobid) is not None
        if readable and job.recordedStatus not in lifecycle.FINISHED:
            raise NotAtItsEnd(job)
        with Clerk(self, clock.micros()) as books:
            if readable:
                books.settle_first(job)
                books.remove(job)
            else:
                books.strike_unreadable(jobid)
        acts.note(self, "remove", jobid)

    def prune(self, limit=200):
        """See ITaskService"""
        now = clock.micros()
        self.caps.forget_touched(now - TOUCHED)
        with Clerk(self, now) as books:
            return books.prune(limit)

    def check(self, repair=False):
        """See ITaskService"""
        faults = audit.check(self)
        if repair and faults:
            self.finishUpgrade()
            audit.repair(self, clock.micros())
            acts.note(self, "repair", detail=f"{len(faults)} faults")
        return faults

    # -- processing by threads

    def startProcessing(self, **arguments):
        """See ITaskService"""
        processor.start(self, **arguments)
        acts.note(self, "start processing")

    def stopProcessing(self):
        """See ITaskService"""
        processor.stop(self)
        acts.note(self, "stop processing")

    def isProcessing(self):
        """See ITaskService"""
        return processor.is_processing(self)
