"""Who may do what with a service and its jobs.

    role        may, beside what stands above it
    Viewer      see jobs, their states, schedules and workers
    Submitter   add jobs; of own jobs also read input and result, cancel and retry
    Operator    read every input and result, cancel and retry any job, keep schedules
    Manager     start, stop, clean, remove, configure; add jobs for somebody else

Nothing is public.  Code that holds a service without a security proxy is trusted,
as everywhere in Zope; what people and programs reach through the web asks here.
"""
from typing import Any

from zope.security.management import checkPermission, queryInteraction
from zope.security.proxy import removeSecurityProxy

from lovely.remotetask.errors import NotAllowed
from lovely.remotetask.interfaces import IJob
from lovely.remotetask.masking import masked
from lovely.remotetask.runtime.frames import SYSTEM, find_principal, present_owner

VIEW = "lovely.remotetask.View"
READ_INPUT = "lovely.remotetask.ReadInput"
READ_RESULT = "lovely.remotetask.ReadResult"
SUBMIT = "lovely.remotetask.Submit"
CANCEL_OWN = "lovely.remotetask.CancelOwn"
CANCEL = "lovely.remotetask.Cancel"
MANAGE_SCHEDULES = "lovely.remotetask.ManageSchedules"
MANAGE = "lovely.remotetask.Manage"
ACT_FOR = "lovely.remotetask.ActForOthers"

PERMISSIONS = (VIEW, READ_INPUT, READ_RESULT, SUBMIT, CANCEL_OWN, CANCEL,
               MANAGE_SCHEDULES, MANAGE, ACT_FOR)

#: What each role may; access.zcml says the same to the security policy of Zope.
VIEWER = "lovely.remotetask.Viewer"
SUBMITTER = "lovely.remotetask.Submitter"
OPERATOR = "lovely.remotetask.Operator"
MANAGER = "lovely.remotetask.Manager"

ROLES = {
    VIEWER: (VIEW,),
    SUBMITTER: (VIEW, SUBMIT, CANCEL_OWN),
    OPERATOR: (VIEW, SUBMIT, CANCEL_OWN, READ_INPUT, READ_RESULT, CANCEL,
               MANAGE_SCHEDULES),
    MANAGER: PERMISSIONS,
}

#: What is enough for one's own jobs, where the first is wanted for anybody's.
OF_ONES_OWN = {READ_INPUT: SUBMIT, READ_RESULT: SUBMIT, CANCEL: CANCEL_OWN}


def may(permission: str, obj: Any) -> bool:
    """Whether the present principal has a permission on a service or a job.

    Of a job that is the principal's own, the lesser permission of OF_ONES_OWN is
    enough.  Without an interaction nobody may anything.
    """
    if queryInteraction() is None:
        return False
    if checkPermission(permission, obj):
        return True
    lesser = OF_ONES_OWN.get(permission)
    return lesser is not None and is_own(obj) and bool(checkPermission(lesser, obj))


def require(permission: str, obj: Any) -> None:
    """Raise NotAllowed, an Unauthorized, unless the present principal may."""
    if not may(permission, obj):
        raise NotAllowed(permission, present_owner())


def may_cancel(job: Any) -> bool:
    """Whether the present principal may cancel and retry this job."""
    return may(CANCEL, job)


def is_own(obj: Any) -> bool:
    """Whether *obj* is a job that the present principal has added."""
    job = removeSecurityProxy(obj)
    return IJob.providedBy(job) and job.owner is not None \
        and job.owner == present_owner()


def check_task(task: Any, name: str, service: Any) -> None:
    """Raise NotAllowed where the present principal may not have this task run.

    A task names the permission that it needs in its attribute `permission`.  Where
    there is no interaction, the code is trusted: nobody asks for it but itself.
    """
    permission = getattr(task, "permission", None)
    if permission is not None and queryInteraction() is not None \
            and not checkPermission(permission, service):
        raise NotAllowed(str(permission), present_owner(), f"run task {name!r}")


def owner_for(service: Any, owner: str | None) -> str | None:
    """Who is to own a job that is added now: the present principal, or *owner*.

    Raises NotAllowed where the present principal may not act for somebody else, and
    for the system itself, for which nobody may.
    """
    present = present_owner()
    if owner is None or owner == present:
        return present
    require_to_act_for(service, owner)
    find_principal(owner)
    return owner


def require_to_act_for(service: Any, owner: str | None) -> None:
    """Raise NotAllowed where the present principal may not say what a job of *owner*
    does.  A job without owner runs as trusted code does: nobody's own."""
    present = present_owner()
    if owner == SYSTEM != present or queryInteraction() is not None \
            and present != owner and not checkPermission(ACT_FOR, service):
        raise NotAllowed(ACT_FOR, present, f"act for {owner or 'the system'!r}")


def input_of(job: Any) -> Any:
    """The input of a job as the present principal may see it: secrets are hidden.

    Raises NotAllowed.
    """
    return _seen(READ_INPUT, job, "input", "inputSchema")


def output_of(job: Any) -> Any:
    """What a job has returned, as the present principal may see it."""
    return _seen(READ_RESULT, job, "output", "outputSchema")


def _seen(permission: str, job: Any, name: str, schema: str) -> Any:
    require(permission, job)
    job = removeSecurityProxy(job)
    service = job.__parent__
    return masked(getattr(service.taskOf(job), schema, None), getattr(job, name),
                  service.effectiveSettings().secret_names)


def require_to_replace(job: Any) -> None:
    """Raise NotAllowed where the present principal may not cancel a job that an add is
    to replace.  Where there is no interaction, the code is trusted."""
    if queryInteraction() is not None and not may_cancel(job):
        raise NotAllowed(CANCEL, present_owner(), f"replace job {job.id}")


def require_own(job: Any, what: str) -> None:
    """Raise NotAllowed unless the present principal has added this job."""
    if not is_own(job):
        raise NotAllowed(CANCEL, present_owner(), f"{what} job {job.id}")
