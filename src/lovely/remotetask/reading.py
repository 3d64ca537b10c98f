"""What can be asked of a service: it writes nothing, and walks over no long list."""
from heapq import merge
from itertools import islice

from lovely.remotetask import clerk, clock, lifecycle
from lovely.remotetask.errors import BadStatus
from lovely.remotetask.finding import Finding
from lovely.remotetask.options import one_of
from lovely.remotetask.runtime import rescue
from lovely.remotetask.store import tallies
from lovely.remotetask.store.index import object_key

SCAN_LIMIT = 10_000    # jobs looked at for one page
WAITING = (lifecycle.QUEUED, lifecycle.DELAYED, lifecycle.STARTLATER)
STEPS = {"minute": tallies.MINUTE, "hour": tallies.HOUR}


class Reading(Finding):
    """The part of a TaskService that reads."""

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

    def _job(self, id):
        """The job of that number; None where there is none, or nobody can read it."""
        return clerk.readable(self, id)

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
        return self.heldSince(job) is not None

    def heldSince(self, job):
        """Microseconds: when this job, as it is queued now, was claimed; else None."""
        lease = self.leases.holder(job.id)
        token, claimed = (None, None) if lease is None else lease.held[job.id]
        return claimed if token == job.token else None

    def counts(self):
        """See ITaskService"""
        return clerk.counts(self)

    def queueLength(self):
        """See ITaskService"""
        return self.counts()[lifecycle.QUEUED]

    def statistics(self, step="minute", count=60):
        """See ITaskService"""
        one_of("step", step, STEPS)
        if self.tallies is None:
            return []
        return [
            dict(moment=clock.from_micros(moment), tasks={
                task: _in_seconds(dict(zip(tallies.FIGURES, figures)))
                for task, figures in rows.items()})
            for moment, rows in self.tallies.steps(STEPS[step], count, clock.micros())]

    def totals(self):
        """See ITaskService"""
        if self.tallies is None:
            return {}
        sums = self.tallies.sums()
        return {task: _in_seconds(dict(
            zip(tallies.FIGURES, figures), bounds=tallies.BOUNDS,
            waitedSpread=sums.waited[task], ranSpread=sums.ran[task]))
            for task, figures in sums.sums.items()}

    def waitingOf(self, owner, limit):
        """How many jobs of a principal wait, counted up to *limit*.

        Looks at the newest SCAN_LIMIT jobs of that principal, in the books alone.
        """
        found = 0
        fresh, runs = clerk.unfolded(self)
        for job in map(self._job, fresh):
            if job is not None and job.owner == owner and job.status in WAITING:
                found += 1
        for first, last in runs:  # each was added at once, and so by one
            job = self._job(first)
            if job is not None and job.owner == owner:
                found += last - first + 1
        keys = () if owner is None else self.index.newest(facet=("owner", owner))
        for _, id in islice(keys, SCAN_LIMIT):
            if found >= limit:
                break
            place = self.index.place(id)
            if id not in fresh and place is not None and place[0] in WAITING:
                found += 1
        return found

    def oldestWaiting(self):
        """See ITaskService"""
        now = clock.micros()
        oldest = now
        for since, id in self.index.oldest(lifecycle.QUEUED):
            job = self._job(id)
            if job is not None and job.status == lifecycle.QUEUED:
                oldest = since
                break
        ids, runs = clerk.unfolded(self)
        for id in (*ids, *(first for first, _ in runs)):
            job = self._job(id)
            if job is not None and job.status == lifecycle.QUEUED:
                oldest = min(oldest, job.since)
        return max(0, now - oldest) / 1_000_000

    def listJobs(self, status=None, task=None, owner=None, tag=None, after=None,
                 limit=50):
        """See ITaskService"""
        if status is not None:
            one_of("status", status, lifecycle.STATUSES, BadStatus)
        facet = next((pair for pair in (("tag", tag), ("owner", owner), ("task", task))
                      if pair[1] is not None), None)
        page, key = [], None
        for number, key in enumerate(self._keys(status, facet, after)):
            job = self._job(key[1])
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
                    map(self._job, self.leases.held()) if job is not None]
            return [key for key in sorted(keys, reverse=True)
                    if after is None or key < after]
        by_state = facet is None and status is not None
        waiting, _ = clerk.unfolded(self)
        fresh = []
        for id in waiting:
            job = self._job(id)
            if job is not None:
                fresh.append((job.since if by_state else job.micros("created"), id))
        fresh = sorted((key for key in fresh if after is None or key < tuple(after)),
                       reverse=True)
        indexed = self.index.newest(status, facet, after)
        return _once(merge(fresh, indexed, reverse=True))

    def listTrail(self, after=None, limit=50):
        """See ITaskService"""
        found = [] if self.trail is None else list(
            islice(self.trail.newest(after), limit + 1))
        page = [entry for _, entry in found[:limit]]
        return page, found[limit - 1][0] if len(found) > limit else None

    def jobsFor(self, object):
        """See ITaskService"""
        key = object_key(object)
        waiting, _ = clerk.unfolded(self)
        fresh = [job for job in map(self._job, waiting)
                 if job is not None and any(
                     concern is object or key is not None and object_key(concern) == key
                     for concern in job.concerns)]
        found = {job.id: job for job in fresh}
        for _, id in () if key is None else self.index.newest(facet=("object", key)):
            job = self._job(id)
            if job is not None:
                found[id] = job
        return sorted(found.values(), key=lambda job: (job.created, job.id), reverse=True)

    def limitsInUse(self):
        """See ITaskService"""
        known = self.knownLimits()
        return {name: (sum(holders.values()),
                       known[name].width if name in known else None, waiting)
                for name, holders, waiting in self.caps.items()}

    def madeBy(self, jobid, limit=50):
        """See ITaskService"""
        waiting, _ = clerk.unfolded(self)
        found = {job.id: job for job in map(self._job, waiting)
                 if job is not None and job.parent == jobid}
        for _, id in self.index.newest(facet=("parent", str(jobid))):
            if len(found) >= limit:
                break
            job = self._job(id)
            if job is not None:
                found[id] = job
        return sorted(found.values(), key=lambda job: (job.created, job.id),
                      reverse=True)[:limit]

    def workers(self):
        """See ITaskService"""
        limit = self.effectiveSettings().lease_seconds
        found = []
        for lease, there, silent in rescue.judge(self.leases, self._p_jar.db()).values():
            worker = lease.registration
            if there is None:  # not proven: who is idle need not say anything
                there = silent < limit or (None if not lease.held else False)
            found.append(dict(
                name=lease.name, host=lease.host, pid=lease.pid,
                since=clock.from_micros(lease.since), holds=sorted(lease.held),
                alive=there, threads=worker.threads, takes=worker.takes,
                state=worker.state))
        return found


def _once(keys):
    seen = set()
    for key in keys:
        if key[1] not in seen:
            seen.add(key[1])
            yield key


def _in_seconds(figures):
    """Figures of tallies with their durations in seconds."""
    return {**figures, "waited": figures["waited"] / 1_000_000,
            "ran": figures["ran"] / 1_000_000}
