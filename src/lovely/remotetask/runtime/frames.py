"""What surrounds an attempt: the site it runs in, and who it runs as.

Each frame leaves things as it found them, so that nothing leaks from one job to
the next, nor into the caller of `process`.
"""
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from zope.authentication.interfaces import IAuthentication, PrincipalLookupError
from zope.component import queryUtility, subscribers
from zope.component.hooks import getSite, setSite
from zope.component.interfaces import ISite
from zope.interface import implementer
from zope.security.interfaces import IParticipation
from zope.security.management import (
    endInteraction, newInteraction, queryInteraction, system_user, thread_local)

from lovely.remotetask.errors import PrincipalGone
from lovely.remotetask.interfaces import IAttemptFrame
from lovely.remotetask.job import Job

SYSTEM = system_user.id
INTERACTIONS = ("interaction", "previous_interaction")  # what a thread remembers


@implementer(IParticipation)
class Participation:
    """The principal of a job, taking part in an interaction."""

    interaction: Any = None

    def __init__(self, principal: Any) -> None:
        self.principal = principal


@implementer(IAttemptFrame)
class SiteFrame:
    """The job's site, or else the nearest one above its service."""

    order = 10

    def __init__(self, job: Job) -> None:
        self.site = job.site if job.site is not None else site_above(job.__parent__)

    def __enter__(self) -> None:
        self.before = getSite()
        if self.site is not None and self.site is not self.before:
            setSite(self.site)

    def __exit__(self, *error: object) -> None:
        if getSite() is not self.before:
            setSite(self.before)


@implementer(IAttemptFrame)
class PrincipalFrame:
    """An interaction for the principal who added the job.

    A job without owner runs as in release 0.5: in whatever interaction there is.
    """

    order = 20

    def __init__(self, job: Job) -> None:
        self.owner = job.owner

    def __enter__(self) -> None:
        # Also the one that was ended last: it may be restored after us.
        self.before = {name: getattr(thread_local, name)
                       for name in INTERACTIONS if hasattr(thread_local, name)}
        if self.owner is None:
            return
        principal = find_principal(self.owner)
        endInteraction()
        try:
            newInteraction(Participation(principal))
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *error: object) -> None:
        for name in INTERACTIONS:
            vars(thread_local).pop(name, None)
        vars(thread_local).update(self.before)


def find_principal(id: str) -> Any:
    """The principal of that id, asked anew.  Raises PrincipalGone."""
    if id == SYSTEM:
        return system_user
    authentication = queryUtility(IAuthentication)
    if authentication is None:
        raise PrincipalGone(
            f"principal {id!r}, who added the job, cannot be looked up: the site has "
            "no authentication utility")
    try:
        return authentication.getPrincipal(id)
    except PrincipalLookupError:
        raise PrincipalGone(f"principal {id!r}, who added the job, is gone: "
                            "retry it once the principal is back, or add it anew") from None


def present_owner() -> str | None:
    """Id of the principal of the present interaction, None without one."""
    interaction = queryInteraction()
    for participation in getattr(interaction, "participations", ()):
        if participation.principal is not None:
            return participation.principal.id
    return None


def present_site(service: object) -> Any:
    """The present site where a job of *service* must store it, else None."""
    site = getSite()
    if site is None or getattr(site, "_p_jar", None) is None \
            or site is site_above(service):
        return None
    return site


def site_above(place: object) -> Any:
    """The nearest site at or above a place, or None."""
    while place is not None:
        if ISite.providedBy(place):
            return place
        place = getattr(place, "__parent__", None)
    return None


@contextmanager
def around(job: Job) -> Iterator[None]:
    """Enter all frames of a job, the smallest order first."""
    with SiteFrame(job):
        others = subscribers((job,), IAttemptFrame)
        if not others:
            with PrincipalFrame(job):
                yield
            return
        with ExitStack() as stack:
            for frame in sorted([PrincipalFrame(job), *others],
                                key=lambda frame: frame.order):
                stack.enter_context(frame)
            yield
