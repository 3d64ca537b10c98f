"""Errors as problem documents: RFC 9457, application/problem+json.

`type` is what programs go by: it names the condition and stays.  `detail` is for
people.  What went wrong inside is told in the log, under the `reference` given.
"""
import logging
import secrets
from typing import Any

from transaction.interfaces import TransientError
from zope.authentication.interfaces import IAuthentication, IUnauthenticatedPrincipal
from zope.component import queryUtility
from zope.publisher.interfaces import ITraversalException
from zope.publisher.interfaces.http import IMethodNotAllowed
from zope.security.interfaces import IForbidden, IUnauthorized

from lovely.remotetask import errors, guard
from lovely.remotetask.failure import in_log, marked, traceback_of

log = logging.getLogger(__name__)

TYPE = "urn:lovely.remotetask:problem:"
MEDIA_TYPE = "application/problem+json"

#: condition -> (status, title).  All that `type` can end in.
CONDITIONS = {
    "bad-request": (400, "The request cannot be understood"),
    "not-logged-in": (401, "Who are you?"),
    "not-allowed": (403, "You may not do that"),
    "foreign-site": (403, "A change that another site asks for"),
    "not-found": (404, "There is nothing of that name"),
    "unknown-job": (404, "There is no such job"),
    "method-not-allowed": (405, "That cannot be done here"),
    "illegal-move": (409, "The job is not in a state for that"),
    "changed-meanwhile": (412, "It has changed meanwhile"),
    "too-large": (413, "Too many bytes"),
    "wrong-content-type": (415, "A body of another kind is wanted"),
    "invalid": (422, "The body does not say what is wanted"),
    "unknown-task": (422, "There is no such task"),
    "bad-input": (422, "The task does not take this input"),
    "bad-option": (422, "An option means nothing"),
    "bad-schedule": (422, "The schedule means nothing"),
    "key-reused": (422, "The idempotency key was used for something else"),
    "limit-reached": (429, "A limit of the job is reached"),
    "too-many-jobs": (429, "Too many jobs are waiting"),
    "too-many-streams": (429, "Too many event streams are open"),
    "internal": (500, "Something went wrong here"),
    "busy": (503, "Others are changing the same things"),
    "not-ready": (503, "Nobody works for this service"),
}

#: The first that fits is taken.
OF_ERRORS: tuple[tuple[type, str], ...] = (
    (errors.UnknownJob, "unknown-job"),
    (errors.UnknownTask, "unknown-task"),
    (errors.KeyReused, "key-reused"),
    (errors.LimitReached, "limit-reached"),
    (errors.BadInput, "bad-input"),
    (errors.BadOption, "bad-option"),
    (errors.BadSchedule, "bad-schedule"),
    (errors.BadStatus, "bad-request"),
    (errors.IllegalMove, "illegal-move"),
    (errors.NotWaiting, "illegal-move"),
    (guard.ForeignSite, "foreign-site"),
    (guard.MethodNotAllowed, "method-not-allowed"),
    (guard.TooLarge, "too-large"),
    (guard.WrongContentType, "wrong-content-type"),
    (guard.TooManyJobs, "too-many-jobs"),
    (guard.Refusal, "bad-request"),
    (errors.RemoteTaskError, "invalid"),
    (TransientError, "busy"),
)

OF_INTERFACES = (
    (ITraversalException, "not-found"),
    (IMethodNotAllowed, "method-not-allowed"),
)


class Problem(errors.RemoteTaskError):
    """A condition of the table above; `more` are members of the document."""

    def __init__(self, condition: str, detail: str, headers: dict[str, str] | None = None,
                 **more: Any):
        self.condition, self.more = condition, more
        self.headers = headers or {}
        super().__init__(detail)


def status_of(condition: str) -> int:
    return CONDITIONS[condition][0]


def document(condition: str, detail: str, **more: Any) -> dict[str, Any]:
    status, title = CONDITIONS[condition]
    return dict(type=TYPE + condition, title=title, status=status, detail=detail, **more)


def of_error(error: BaseException, request) -> tuple[dict[str, Any], dict[str, str]]:
    """The document that tells an error to whoever made the request, and headers."""
    if isinstance(error, Problem):
        return document(error.condition, str(error), **error.more), error.headers
    if IUnauthorized.providedBy(error) or IForbidden.providedBy(error):
        return _refused(error, request)
    for kind, condition in OF_ERRORS:
        if isinstance(error, kind):
            headers = dict(getattr(error, "headers", {}))
            if condition in ("busy", "limit-reached"):
                headers["Retry-After"] = "1"
            if condition == "busy":
                return document(condition, "nothing was done, try again"), headers
            return document(condition, str(error)), headers
    for interface, condition in OF_INTERFACES:
        if interface.providedBy(error):
            return document(condition, "no such thing at this address"), {}
    reference = secrets.token_hex(6)
    where = "several calls" if request is None else request.get("PATH_INFO", "?")
    log.error("request to %s failed, reference %s:\n%s", in_log(where), reference,
              marked(traceback_of(error)))
    return document("internal", "the log of the server says more under this reference",
                    reference=reference), {}


def is_anonymous(principal) -> bool:
    return principal is None or IUnauthenticatedPrincipal.providedBy(principal)


def _refused(error, request) -> tuple[dict[str, Any], dict[str, str]]:
    """Whoever is not logged in is asked to; who is hears what is missing.  Who has
    come to one of several calls (request: None) is logged in."""
    if request is None or not is_anonymous(request.principal):
        text = str(error) if isinstance(error, errors.NotAllowed) else \
            "your roles here do not allow it"
        return document("not-allowed", text), {}
    authentication = queryUtility(IAuthentication)
    if authentication is not None:
        authentication.unauthorized(getattr(request.principal, "id", None), request)
    headers = {}
    if not request.response.getHeader("WWW-Authenticate"):
        headers["WWW-Authenticate"] = 'Basic realm="lovely.remotetask"'
    return document("not-logged-in", "log in to see anything here"), headers
