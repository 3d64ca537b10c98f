"""How many jobs may wait, of all and of one principal: for wires only."""
from zope.security.proxy import removeSecurityProxy

from lovely.remotetask.guard.refusals import TooManyJobs
from lovely.remotetask.reading import WAITING
from lovely.remotetask.runtime.frames import present_owner

RETRY_AFTER_SECONDS = 60


def require_room(service, count: int = 1) -> None:
    """Raise TooManyJobs unless *count* more jobs may wait in this service.

    Asked by pages and programs from outside before they add, not by code.  The
    limits are the settings `waiting_limit` and `waiting_limit_each`.
    """
    service = removeSecurityProxy(service)
    settings = service.effectiveSettings()
    counts = service.counts()
    waiting = sum(counts[status] for status in WAITING)
    if waiting + count > settings.waiting_limit:
        raise TooManyJobs(
            f"{waiting:,} jobs wait already, and no more than "
            f"{settings.waiting_limit:,} may", RETRY_AFTER_SECONDS)
    limit = settings.waiting_limit_each
    # Only where so many wait at all is it worth while to count whose they are.
    if waiting + count > limit \
            and service.waitingOf(present_owner(), limit) + count > limit:
        raise TooManyJobs(
            f"no more than {limit:,} jobs of one principal may wait",
            RETRY_AFTER_SECONDS)
