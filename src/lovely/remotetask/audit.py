"""Whether the books agree with the jobs, and how they are made again from them."""
import logging
from itertools import chain

from lovely.remotetask import clerk, lifecycle, limits
from lovely.remotetask.failure import in_log, marked, traceback_of
from lovely.remotetask.limits import line_of
from lovely.remotetask.store.index import CODES, facets_of

log = logging.getLogger(__name__)


def check(service, step=None) -> list[str]:
    """What the books say against the jobs, one text per fault.  Walks all jobs.

    I1: every job is in exactly one place.  I2: every entry points to a job that
    agrees.  I3: the counters are what counting gives.  What waits in the inbox or
    is in somebody's hand is still to be folded in: no fault.  *step* is called with
    the number of jobs looked at so far.
    """
    faults: list[str] = []
    ids, runs = clerk.unfolded(service)
    held = service.leases.held()

    def excused(id):
        return id in ids or id in held or any(a <= id <= b for a, b in runs)

    sizes = [dict.fromkeys(lifecycle.STATUSES, 0) for _ in service.shards]
    for number, id in enumerate(service.jobs, 1):
        faults.extend(_faults_of(service, id, excused(id), sizes))
        if step is not None:
            step(number)
    for shard in service.shards:
        faults.extend(_faults_of_index(service, shard.index, sizes[shard.number]))
        faults.extend(_faults_of_queue(service, shard.queue, held))
        for id, _ in shard.scheduled.items():
            job = service.jobs.get(id)
            if job is None or not excused(id) and job.recordedStatus not in (
                    lifecycle.DELAYED, lifecycle.CRONJOB) and not (
                    job.recordedStatus == lifecycle.QUEUED and job.deadline):
                faults.append(f"job {id} is scheduled, but is "
                              f"{'gone' if job is None else job.recordedStatus}")
    for id in held:
        if id not in service.jobs:
            faults.append(f"job {id} is in somebody's hand and does not exist")
    return faults + list(_faults_of_limits(service))


def _faults_of_index(service, index, sizes):
    for id in index.places:
        if id not in service.jobs:
            yield f"the index has a job {id} that does not exist"
    for status, entries in index.states.items():
        if len(entries) != sizes[status]:
            yield (f"the index lists {len(entries)} jobs as {status}, "
                   f"and places {sizes[status]}")
        if index.sizes[status]() != sizes[status]:
            yield (f"the counter of {status} is {index.sizes[status]()}, "
                   f"counted are {sizes[status]}")
    if len(index.ages) != len(index.places):
        yield f"the index has {len(index.ages)} ages for {len(index.places)} jobs"
    for (kind, value), entries in index.facets.items():
        for _, id in entries.ascending():
            if id not in service.jobs:
                yield f"{kind} {in_log(value)} lists a job {id} that does not exist"


def _faults_of_queue(service, queue, held):
    for key, line, token in queue.entries():
        job = service.jobs.get(key[2])
        if key[2] in held and held[key[2]][0] == token:
            yield f"job {key[2]} is in line {in_log(line)} and in somebody's hand"
        elif job is None:
            yield f"line {in_log(line)} has a job {key[2]} that does not exist"
    # A head beside the right one is no fault: a claim that meets it takes it out.
    for line, entries in queue.lines.items():
        if entries and line not in queue.parked \
                and (entries.minKey(), line) not in queue.heads:
            yield f"line {in_log(line)} is not found by its first job"


def limits_taking_part(service) -> set[str]:
    """The names of the limits of all lines that a claim looks at."""
    return {name for shard in service.shards
            for line, entries in shard.queue.lines.items()
            if entries and line not in shard.queue.parked
            for name in limits.names_of(line)}


def _faults_of_limits(service):
    """Slots that nobody holds any more, and lines that nobody would open."""
    caps, waiting = service.caps, set()
    taking_part = limits_taking_part(service)
    for name, holders, number in caps.items():
        waiting.update((shard, line) for _, _, shard, line in caps.waiting(name))
        for lease_name, slots in holders.items():
            lease = service.leases.get(lease_name)
            if lease is None or lease.slots.get(name) != slots:
                yield f"limit {in_log(name)} has {slots} slots in nobody's hand"
        if number and not holders and name not in taking_part:
            yield f"limit {in_log(name)} is free, and lines wait for it"
    for lease in service.leases.values():
        for name, slots in lease.slots.items():
            if caps.taken(name).get(lease.name) != slots:
                yield f"limit {in_log(name)} does not know of {slots} slots in use"
    waiting.update((number, line) for _, number, line, *_ in caps.timed)
    for shard in service.shards:
        for line in shard.queue.parked:
            if (shard.number, line) not in waiting:
                yield f"line {in_log(line)} is parked, and nothing will open it"


def _faults_of(service, id, excused, sizes):
    """What is wrong with the places of one job; counts its place in *sizes*."""
    try:
        job = service.jobs[id]
        status, since = job.recordedStatus, job.since
    except Exception as error:
        if clerk.concerns_all(error):
            raise
        yield f"job {id} cannot be read: {type(error).__name__}: {error}"
        return
    shard = service.shards.of(job)
    index = shard.index
    was = index.place(id)
    if was is not None:
        sizes[shard.number][was[0]] += 1
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
    if status == lifecycle.QUEUED and shard.queue.has(line_of(job), job.key) != job.token:
        yield f"job {id} is queued, but in no line"
    if status == lifecycle.PROCESSING:
        yield f"job {id} is processing in nobody's hand"
    if status == lifecycle.DELAYED and id not in shard.scheduled:
        yield f"job {id} is delayed, but not scheduled"
    if status == lifecycle.CRONJOB and id not in shard.scheduled and not (
            job.paused or job.broken or job.scheduledFor is None):
        yield f"cron job {id} is not scheduled"


def repair(service, now: int) -> None:
    """Make the books again from the jobs, in the present transaction."""
    held = service.leases.held()
    places = dict(chain.from_iterable(
        shard.index.places.items() for shard in service.shards))
    for shard in service.shards:
        shard.index.__init__()
        shard.scheduled.__init__()
        shard.queue.empty()
    service.caps.__init__()
    for lease in service.leases.values():
        lease._p_changed = True  # whoever claims at this moment must meet this
        for name, slots in lease.slots.items():
            service.caps.take(name, lease.name, slots)
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
                if clerk.concerns_all(error):
                    raise
                log.error("job %s cannot be read, it is left out of the books:\n%s", id,
                          marked(traceback_of(error)))
