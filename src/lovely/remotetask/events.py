"""What happened, for whoever listens.

One class per move; `moved` names the class that belongs to a move.  They are
object events of the job, so subscribers can be registered for (IJob, event).
"""
from zope.interface import implementer
from zope.interface.interfaces import IObjectEvent

from lovely.remotetask import interfaces, lifecycle


@implementer(IObjectEvent)
class JobEvent:
    """See IJobEvent."""

    origin: str | None = None

    def __init__(self, job, origin: str | None = None):
        self.object = self.job = job
        self.origin = origin

    @property
    def service(self):
        return self.job.__parent__

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.job!r}>"


@implementer(interfaces.IJobAdded)
class JobAdded(JobEvent):
    pass


@implementer(interfaces.IJobMoved)
class JobMoved(JobEvent):
    pass


@implementer(interfaces.IJobDelayed)
class JobDelayed(JobMoved):
    pass


@implementer(interfaces.IJobQueued)
class JobQueued(JobMoved):
    pass


@implementer(interfaces.IJobStarted)
class JobStarted(JobMoved):
    pass


@implementer(interfaces.IJobRetrying)
class JobRetrying(JobMoved):
    pass


@implementer(interfaces.IJobHandedBack)
class JobHandedBack(JobMoved):
    pass


@implementer(interfaces.IJobCompleted)
class JobCompleted(JobMoved):
    pass


@implementer(interfaces.IJobFailed)
class JobFailed(JobMoved):
    pass


@implementer(interfaces.IJobCancelled)
class JobCancelled(JobMoved):
    pass


@implementer(interfaces.IJobExpired)
class JobExpired(JobCancelled):
    pass


@implementer(interfaces.IJobRemoved)
class JobRemoved(JobEvent):
    pass


@implementer(interfaces.IStartRemoteTasksEvent)
class StartRemoteTasksEvent:
    """See IStartRemoteTasksEvent."""


BY_STATUS = {
    lifecycle.STARTLATER: JobMoved,
    lifecycle.DELAYED: JobDelayed,
    lifecycle.CRONJOB: JobDelayed,
    lifecycle.QUEUED: JobQueued,
    lifecycle.PROCESSING: JobStarted,
    lifecycle.COMPLETED: JobCompleted,
    lifecycle.ERROR: JobFailed,
    lifecycle.CANCELLED: JobCancelled,
}

BY_STATUS_AND_REASON = {
    (lifecycle.CANCELLED, lifecycle.EXPIRED): JobExpired,
    (lifecycle.DELAYED, lifecycle.RETRY): JobRetrying,
    (lifecycle.DELAYED, lifecycle.TIMED_OUT): JobRetrying,
    (lifecycle.QUEUED, lifecycle.RETRY): JobRetrying,
    (lifecycle.QUEUED, lifecycle.TIMED_OUT): JobRetrying,
    (lifecycle.QUEUED, lifecycle.HANDED_BACK): JobHandedBack,
    (lifecycle.QUEUED, lifecycle.INTERRUPTED): JobHandedBack,
}


def moved(job, origin: str) -> JobEvent:
    """The event of the move that *job* has just made."""
    status, reason = job.recordedStatus, job.reason
    kind = BY_STATUS_AND_REASON.get((status, reason)) or BY_STATUS[status]
    return kind(job, origin)
