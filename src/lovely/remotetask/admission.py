"""What is refused where a limit is reached, instead of waiting for it: adds that say so,
and jobs that are to be run by hand."""
from lovely.remotetask import clock, lifecycle, limits
from lovely.remotetask.errors import LimitReached

WAIT, REFUSE = "wait", "refuse"
AT_LIMIT = (WAIT, REFUSE)
RUN_LATER = "run the job later, or let a worker run it"


def admit(service, line: str, ids) -> None:
    """Let new jobs of a line in, all of them or none.  Raises LimitReached.

    Counted are those that were let in here before and have not ended, and slots in use.
    Two who are let in to the same limit at once write the same entry: one of them is
    told to look again.
    """
    now, admitted = clock.micros(), {}
    for limit in service.limitsOf(line):
        there = [id for id in service.caps.admitted(limit.name) if _counts(service, id)]
        if limit.width is not None:
            used = max(len(there), sum(service.caps.taken(limit.name).values()))
            if used + len(ids) > limit.width:
                raise LimitReached(limit.name, used, str(limit.width))
        if limit.rate is not None:
            left = service.caps.may_begin(limit, now)
            to_begin = sum(not service.jobs[id].startedCount for id in there)
            if to_begin + len(ids) > left:
                raise LimitReached(limit.name, limit.rate.number - left + to_begin,
                                   str(limit.rate))
        admitted[limit.name] = *there, *ids
    for name, all_of_them in admitted.items():
        service.caps.admit(name, all_of_them)


def begin(service, line: str, now: int) -> list[str]:
    """Ask the limits of a line whether a job of it may begin now (microseconds), and
    count its start.  Names of those of which it needs a slot; raises LimitReached.
    """
    found = service.limitsOf(line)
    for limit in found:
        used = sum(service.caps.taken(limit.name).values())
        if limit.width is not None and used >= limit.width:
            raise LimitReached(limit.name, used, str(limit.width), RUN_LATER)
    if not begin_again(service, line, now):
        limit = next(each for each in found if each.rate is not None
                     and not service.caps.may_begin(each, now))
        raise LimitReached(limit.name, limit.rate.number, str(limit.rate), RUN_LATER)
    return [limit.name for limit in found if limit.width is not None]


def begin_again(service, line: str, now: int) -> bool:
    """Count the start of one more attempt, if the rates of its line admit it."""
    rates = [limit for limit in service.limitsOf(line) if limit.rate is not None]
    if not all(service.caps.may_begin(limit, now) for limit in rates):
        return False
    for limit in rates:
        service.caps.begin(limit, now)
    return True


def dismiss(service, job) -> None:
    """A job that was let in is removed."""
    for name in limits.names_of(limits.line_of(job)):
        left = tuple(id for id in service.caps.admitted(name) if id != job.id)
        service.caps.admit(name, left)


def _counts(service, id) -> bool:
    job = service.jobs.get(id)
    return job is not None and job.recordedStatus not in lifecycle.FINISHED
