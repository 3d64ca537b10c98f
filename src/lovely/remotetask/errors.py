"""What can go wrong, and how it is said.

Each error is named for its condition, carries its facts as attributes, and also
is the builtin that release 0.5 raised in its place, so old `except` clauses hold.
"""
from collections.abc import Iterable

from transaction.interfaces import TransientError
from zope.security.interfaces import Unauthorized


class RemoteTaskError(Exception):
    """Anything that this package says no to."""

    __str__ = Exception.__str__  # KeyError would quote the text.


class TaskError(Exception):
    """Raised by a task that has failed for good: no other attempt is made."""


class UnknownTask(RemoteTaskError, ValueError):
    """No task is registered under that name."""

    def __init__(self, name: object, known: Iterable[object] = ()):
        self.name = name
        names = ", ".join(sorted(map(str, known))[:20]) or "none"
        super().__init__(
            f"Task does not exist: {name!r}; tasks that are registered: {names}")


class UnknownJob(RemoteTaskError, KeyError):
    """The service has no job of that number."""

    def __init__(self, id: object):
        self.id = id
        super().__init__(f"no job {id!r}: it was never added here, or was removed")


class IllegalMove(RemoteTaskError, ValueError):
    """A job was asked to go where its status does not lead."""

    def __init__(self, job, move: str):
        self.job, self.status, self.move = job, job.status, move
        super().__init__(f"{job!r} is {job.status}, it cannot become {move}")


class NotAtItsEnd(IllegalMove):
    """A job was to be removed that has not come to its end."""

    def __init__(self, job):
        super().__init__(job, "removed")
        what = "a cron job" if self.status == "cronjob" else self.status
        self.args = (f"job {job.id} is {what}: cancel it before you remove it",)


class NoCronJob(IllegalMove):
    """A job was to be paused or resumed that is no cron job, or one at its end."""

    def __init__(self, job):
        super().__init__(job, "paused or resumed")
        self.args = (f"job {job.id} is no cron job that fires: only those can be "
                     "paused and resumed",)


class BadInput(RemoteTaskError, ValueError):
    """A value cannot be stored as a job's input or output, or breaks its schema."""


class BadOutput(BadInput, TaskError):
    """What a task returned cannot be stored or breaks its schema: it would do so again."""


class BadOption(RemoteTaskError, ValueError):
    """An option of a verb has a value that means nothing."""

    def __init__(self, option: str, value: object, wanted: str):
        self.option, self.value = option, value
        super().__init__(f"{option} cannot be {value!r}: {wanted}")


class BadStatus(RemoteTaskError, ValueError):
    """A status was named that does not exist or is not allowed here."""


class BadSchedule(RemoteTaskError, ValueError):
    """A schedule that is malformed or would never be due."""


class BadSetting(RemoteTaskError, ValueError):
    """A setting has a wrong name or value."""


class KeyReused(RemoteTaskError, ValueError):
    """An idempotency key was given with something else than at its first use."""

    def __init__(self, key: str):
        self.key = key
        super().__init__(f"the key {key!r} was used for another job: take a new one")


class LimitReached(RemoteTaskError, RuntimeError):
    """An add was to be refused where a limit is reached, and one is; or a job of such a
    limit was to be run by hand.  advice: what to do."""

    def __init__(self, name: str, used: int, limit: str,
                 advice: str = "add the job later, or let it wait"):
        self.limit, self.used = name, used
        super().__init__(f"the limit {name} is reached: {used} of {limit}; {advice}")


class NotCommitted(RemoteTaskError, ValueError):
    """A service was started before it was stored in a database."""


class PrincipalGone(RemoteTaskError, TaskError, LookupError):
    """The principal who added a job does not exist any more."""


class NotAllowed(RemoteTaskError, TaskError, Unauthorized):
    """The principal lacks a permission.  A task that is refused is not tried again."""

    def __init__(self, permission: str, principal: object, what: str = "this"):
        self.permission, self.principal = permission, principal
        who = "who is not logged in" if principal is None else f"principal {principal!r}"
        super().__init__(f"{who} may not do {what}: it needs {permission}")


class NotWaiting(RemoteTaskError, ValueError):
    """A job is to be changed, and it does not wait any more."""

    def __init__(self, job: object):
        self.job = job
        super().__init__(f"{job!r} is {getattr(job, 'status', '?')}: only a job that "
                         "waits can be changed; copy it instead")


class NoHistory(RemoteTaskError, LookupError):
    """The database does not tell what a job has changed.  code: one word for it."""

    def __init__(self, code: str, text: str):
        self.code = code
        super().__init__(text)


class CannotUndo(RemoteTaskError, ValueError):
    """What a job has changed cannot be taken back.  code: one word for why."""

    def __init__(self, code: str, text: str):
        self.code = code
        super().__init__(text)


class ServiceGone(RemoteTaskError, LookupError):
    """There is no service where there was one."""


class UnknownWorker(RemoteTaskError, KeyError):
    """No worker of a service has this name, or several have names that begin so."""

    def __init__(self, name: object, workers: Iterable[str]):
        self.worker = name
        known = ", ".join(sorted(workers)) or "none"
        super().__init__(f"no single worker is called {name!r}; there are: {known}")


class UnsavedChanges(RemoteTaskError, ValueError):
    """Somebody would wait in a transaction that has changes."""


class JobFailed(RemoteTaskError, RuntimeError):
    """The job that was waited for has ended in error: its text."""

    def __init__(self, jobid: int, text: str | None, reason: str | None = None):
        self.jobid, self.text, self.reason = jobid, text, reason
        super().__init__(f"job {jobid} has failed: {text or reason or 'no text'}")


class JobCancelled(RemoteTaskError, RuntimeError):
    """The job that was waited for was cancelled, or has expired."""

    def __init__(self, jobid: int, text: str | None, reason: str | None = None):
        self.jobid, self.text, self.reason = jobid, text, reason
        super().__init__(f"job {jobid} was cancelled: {reason or text or 'no reason'}")


class StillRunning(RemoteTaskError, TimeoutError):
    """The job that was waited for has not ended in time; it goes on."""

    def __init__(self, jobid: int, status: str, seconds: float | None):
        self.jobid, self.status = jobid, status
        super().__init__(f"job {jobid} is still {status} after {seconds} s")


class NotMine(RemoteTaskError):
    """An attempt found that its job was taken away or is done already."""


class NotSeen(RemoteTaskError, TransientError):
    """Jobs that something names were not found: perhaps an old state was read.

    Who tries again sees what there is; only then they are taken for removed.
    """


class StorageClosed(RemoteTaskError):
    """The storage has closed itself; only a new process can go on."""
