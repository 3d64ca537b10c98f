"""Adds that are refused where a limit is reached, instead of waiting for it."""
from lovely.remotetask import clock, lifecycle, limits
from lovely.remotetask.errors import LimitReached

WAIT, REFUSE = "wait", "refuse"
AT_LIMIT = (WAIT, REFUSE)


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


def dismiss(service, job) -> None:
    """A job that was let in is removed."""
    for name in limits.names_of(limits.line_of(job)):
        left = tuple(id for id in service.caps.admitted(name) if id != job.id)
        service.caps.admit(name, left)


def _counts(service, id) -> bool:
    job = service.jobs.get(id)
    return job is not None and job.recordedStatus not in lifecycle.FINISHED
