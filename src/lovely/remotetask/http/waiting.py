"""Waiting for the end of a job: the answer comes when it has ended, or in time."""
import time
from contextlib import contextmanager
from typing import Any

from zope.component.hooks import getSite, setSite
from zope.security.management import endInteraction, newInteraction

from lovely.remotetask import access, lifecycle
from lovely.remotetask.errors import PrincipalGone
from lovely.remotetask.http import problems, watch
from lovely.remotetask.http.answers import encoded
from lovely.remotetask.http.lines import Stream
from lovely.remotetask.http.problems import Problem
from lovely.remotetask.runtime.frames import (
    Participation, find_principal, site_above)

WAITING_LIMIT = 1_000    # clients that wait at once in a process


def until_ended(call, whole, seconds: float) -> Stream:
    """The body of the answer that tells a job once it has ended, or then."""
    if len(watch.over(call.service._p_jar.db())) >= WAITING_LIMIT:
        raise Problem("too-many-streams", "too many wait already; ask without waiting",
                      headers={"Retry-After": "5"})

    def follow(line, patient):
        watcher = Waiter(call, whole, seconds if patient else 0, line)
        watch.over(watcher.db).join(watcher)
    return Stream(follow)


class Waiter(watch.Follower):
    """Writes the job once, when it has ended or the time is over."""

    def __init__(self, call, whole, seconds, line):
        super().__init__(call.service, line)
        self.jobid = call.job.id
        self.whole = whole
        self.principal = call.request.principal
        self.call = call._replace(service=None, job=None, request=None)
        self.until = time.monotonic() + seconds

    def look(self, service: Any, shared: dict) -> bool:
        job = service.jobs.get(self.jobid)
        if job is not None and job.recordedStatus not in lifecycle.FINISHED \
                and time.monotonic() < self.until:
            return True
        with acting_as(self.principal, service):
            self.line.write(encoded(self._told(service, job)))
        return False

    def _told(self, service, job):
        try:
            access.require(access.VIEW, service)
        except access.NotAllowed as error:
            return problems.document("not-allowed", str(error))
        if job is None:
            return problems.document("unknown-job", "it was removed meanwhile")
        return self.whole(self.call._replace(service=service, job=job), job)


@contextmanager
def acting_as(principal, service):
    """An interaction of a principal, asked for anew where it can be."""
    before = getSite()
    setSite(site_above(service))
    try:
        if not problems.is_anonymous(principal):
            try:
                principal = find_principal(principal.id)
            except PrincipalGone:
                raise Problem("not-logged-in", "you are not known any more") from None
        newInteraction(Participation(principal))
        try:
            yield
        finally:
            endInteraction()
    finally:
        setSite(before)
