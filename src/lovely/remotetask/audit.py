"""Whether the books agree with the jobs, and how they are made again from them."""
import logging

from lovely.remotetask import clerk, lifecycle
from lovely.remotetask.failure import in_log, marked, traceback_of
from lovely.remotetask.store.index import CODES, facets_of

log = logging.getLogger(__name__)


def check(service, step=None) -> list[str]:
    """What the books say against the jobs, one text per fault.  Walks all jobs.

    I1: every job is in exactly one place.  I2: every entry points to a job that
    agrees.  I3: the counters are what counting gives.  What waits in the inbox or
    is in somebody's hand is still to be folded in: no fault.  *step* is called with
    the number of jobs looked at so far.
    """
    index, queue, faults = service.index, service.queue, []
    ids, runs = clerk.unfolded(service)
    held = service.leases.held()

    def excused(id):
        return id in ids or id in held or any(a <= id <= b for a, b in runs)

    sizes = dict.fromkeys(lifecycle.STATUSES, 0)
    for number, id in enumerate(service.jobs, 1):
        faults.extend(_faults_of(service, id, excused(id), sizes))
        if step is not None:
            step(number)
    for id in index.places:
        if id not in service.jobs:
            faults.append(f"the index has a job {id} that does not exist")
    for status, entries in index.states.items():
        if len(entries) != sizes[status]:
            faults.append(f"the index lists {len(entries)} jobs as {status}, "
                          f"and places {sizes[status]}")
        if index.sizes[status]() != sizes[status]:
            faults.append(f"the counter of {status} is {index.sizes[status]()}, "
                          f"counted are {sizes[status]}")
    if len(index.ages) != len(index.places):
        faults.append(f"the index has {len(index.ages)} ages for {len(index.places)} jobs")
    for (kind, value), entries in index.facets.items():
        for _, id in entries.ascending():
            if id not in service.jobs:
                faults.append(f"{kind} {in_log(value)} lists a job {id} that does not exist")
    for key, lane, token in queue.entries():
        job = service.jobs.get(key[2])
        if key[2] in held and held[key[2]][0] == token:
            faults.append(f"job {key[2]} is in lane {lane!r} and in somebody's hand")
        elif job is None:
            faults.append(f"lane {lane!r} has a job {key[2]} that does not exist")
    for id, _ in service.scheduled.items():
        job = service.jobs.get(id)
        if job is None or not excused(id) and job.recordedStatus not in (
                lifecycle.DELAYED, lifecycle.CRONJOB) and not (
                job.recordedStatus == lifecycle.QUEUED and job.deadline):
            faults.append(f"job {id} is scheduled, but is "
                          f"{'gone' if job is None else job.recordedStatus}")
    for id in held:
        if id not in service.jobs:
            faults.append(f"job {id} is in somebody's hand and does not exist")
    return faults


def _faults_of(service, id, excused, sizes):
    """What is wrong with the places of one job; counts its place in *sizes*."""
    index = service.index
    try:
        job = service.jobs[id]
        status, since = job.recordedStatus, job.since
    except Exception as error:
        yield f"job {id} cannot be read: {type(error).__name__}: {error}"
        return
    was = index.place(id)
    if was is not None:
        sizes[was[0]] += 1
    if excused:
        return
    if was != (status, since):
        yield f"job {id} is {status}, the index has {was[0] if was else 'nothing'}"
        return
    if not index.states[status].has(since, id):
        yield f"job {id} is not listed as {status}"
    if not index.ages.has(job.micros("created"), id):
        yield f"job {id} has no place in the order of age"
    for facet in facets_of(job):
        entries = index.facets.get(facet)
        if entries is None or not entries.has(job.micros("created"), id):
            yield f"job {id} is not listed for {facet[0]} {in_log(facet[1])}"
    if status == lifecycle.QUEUED and service.queue.has(
            clerk.lane_of(job), job.key) != job.token:
        yield f"job {id} is queued, but in no lane"
    if status == lifecycle.PROCESSING:
        yield f"job {id} is processing in nobody's hand"
    if status == lifecycle.DELAYED and id not in service.scheduled:
        yield f"job {id} is delayed, but not scheduled"
    if status == lifecycle.CRONJOB and id not in service.scheduled and not (
            job.paused or job.broken or job.scheduledFor is None):
        yield f"cron job {id} is not scheduled"


def repair(service, now: int) -> None:
    """Make the books again from the jobs, in the present transaction."""
    held = service.leases.held()
    places = service.index.places
    service.index.__init__()
    service.scheduled.__init__()
    service.queue.lanes.clear()
    while len(service.queue.inbox):
        service.queue.inbox.pull()
    with clerk.Clerk(service, now) as books:
        for id in service.jobs:
            try:
                job = service.jobs[id]
                if job.recordedStatus not in lifecycle.FINISHED \
                        and places.get(id, 0) & 7 == CODES[lifecycle.COMPLETED]:
                    job.take_back(now)  # its completion was undone in the database
                elif job.recordedStatus == lifecycle.PROCESSING and id not in held:
                    books.give_back(job)
                books.settle(job)
            except Exception as error:
                log.error("job %s cannot be read, it is left out of the books:\n%s", id,
                          marked(traceback_of(error)))
