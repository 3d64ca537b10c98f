"""The JSON interface of a service: finds the route, asks for permission, answers.

    <service>/api/v1/jobs/17/cancel
              └────── names ──────┘
"""
import hashlib
import math
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

import transaction
from transaction.interfaces import TransientError
from zope.component import queryMultiAdapter
from zope.interface import alsoProvides, implementer
from zope.publisher.interfaces import IPublishTraverse, NotFound
from zope.publisher.interfaces.http import IMethodNotAllowed, IResult
from zope.publisher.interfaces.xmlrpc import IXMLRPCRequest
from zope.security.proxy import removeSecurityProxy

from lovely.remotetask import access, guard
from lovely.remotetask.http import problems, routes, shapes
from lovely.remotetask.http.answers import Answer, encoded
from lovely.remotetask.http.interfaces import IApi, IApiRequest
from lovely.remotetask.http.problems import Problem

VERSION = "v1"
QUERY_LIMIT = 4_000      # characters
MEMBERS = 20             # in a query


@implementer(IApi)
class Api:
    """See IApi.  One object for the whole path: it collects the names."""

    def __init__(self, context, request):
        self.__parent__ = self.context = context
        self.__name__ = "api"
        self.request = request
        self.names: tuple[str, ...] = ()
        # From here on, errors of traversal and of the commit are told as JSON.
        alsoProvides(request, IApiRequest)

    def publishTraverse(self, request, name):
        """See IPublishTraverse"""
        if not self.names and name != VERSION:
            raise NotFound(self.context, name, request)
        self.names += (name,)
        return self

    def browserDefault(self, request):
        """See IBrowserPublisher"""
        return self, ()

    def __call__(self):
        """See IApi"""
        try:
            answer = self.answer()
        except TransientError:
            raise   # the publisher begins again
        except Exception as error:
            transaction.doom()  # what was begun is not kept
            answer = of_error(error, self.request)
        return give(answer, self.request)

    # The publication of requests that are no browser's looks up the method.
    GET = HEAD = POST = PUT = PATCH = DELETE = OPTIONS = __call__

    def answer(self) -> Answer:
        request, names = self.request, self.names[1:]
        if names and names[-1] == "":
            names = names[:-1]
        allowed = routes.methods(names) if self.names else []
        if not allowed:
            raise Problem("not-found", "no such thing at this address")
        method = request.method.upper()
        if method == "OPTIONS":
            access.require(access.VIEW, self.context)
            return Answer(204, headers={"Allow": ", ".join(allowed)})
        found = routes.find(method, names)
        if found is None:
            raise guard.MethodNotAllowed(method, allowed)
        route, arguments = found
        return self.call(route, arguments)

    def call(self, route, arguments) -> Answer:
        request = self.request
        service = removeSecurityProxy(self.context)
        access.require(access.VIEW, service)
        if not route.of_job:
            access.require(route.permission, service)
        if route.method in routes.CHANGES:
            guard.require_change(request, route.method)
        query = self.query(route)
        body = None
        if route.body is not None:
            body = shapes.require(route.body, guard.json_body(request))
        call = Call(service, request, query, body, self.base())
        if route.of_job:
            call = call._replace(job=service.getJob(arguments.pop("id")))
            access.require(route.permission, call.job)
        if route.conditional:
            call.require_match(route)
        return route.handler(call, **arguments)

    def base(self) -> str:
        """The URL of `api/v1`, as it is seen from outside."""
        return self.request.getURL(len(self.names) - 1) if self.names \
            else self.request.getURL() + "/" + VERSION

    def query(self, route) -> dict[str, Any]:
        """The query, checked by its shapes.  Raises Problem 'bad-request'."""
        text = self.request.get("QUERY_STRING") or ""
        if len(text) > QUERY_LIMIT:
            raise Problem("bad-request", "the query is too long")
        found: dict[str, Any] = {}
        try:
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MEMBERS,
                              errors="strict")
        except ValueError:
            raise Problem("bad-request", "the query cannot be read") from None
        for name, given in pairs:
            shape = route.query.get(name)
            if shape is None:
                raise Problem("bad-request", f"there is no {name[:50]!r} here; known are "
                              f"{', '.join(route.query) or 'none'}")
            if name in found:
                raise Problem("bad-request", f"{name} is given twice")
            value = _of_kind(shape, given)
            for fault in shapes.faults(shape, value, name):
                raise Problem("bad-request", f"{name} {fault['detail']}")
            found[name] = value
        defaults = {name: shape["default"] for name, shape in route.query.items()
                    if "default" in shape}
        return {**defaults, **found}


def _of_kind(shape, given: str) -> Any:
    """A value of a query as what it should be; a wrong one as it is."""
    try:
        if shape["type"] == "integer" and given.isascii() and len(given) < 20:
            return int(given)
        if shape["type"] == "number" and given.isascii() and len(given) < 40:
            value = float(given)
            return value if math.isfinite(value) else given
    except ValueError:
        pass
    return given


class Call(NamedTuple):
    """What a handler gets."""

    service: Any          # without security proxy: permissions have been asked for
    request: Any
    query: dict[str, Any]
    body: Any
    base: str
    job: Any = None

    def url(self, *names: object, **query: object) -> str:
        path = "".join("/" + quote(str(name), safe="") for name in names)
        given = {name: value for name, value in query.items() if value is not None}
        return self.base + path + ("?" + urlencode(given) if given else "")

    def require_match(self, route) -> None:
        """Raise Problem 'changed-meanwhile' unless If-Match holds, where it is said."""
        wanted = self.request.getHeader("If-Match")
        if not wanted:
            return
        shown = routes.find("GET", (route.names[0], "1"))
        assert shown is not None
        tag = etag(encoded(shown[0].handler(self._replace(query={})).data))
        if not matches(wanted, tag, weak=False):
            raise Problem("changed-meanwhile",
                          "it is not as you have seen it; read it again")


def of_error(error: BaseException, request) -> Answer:
    data, headers = problems.of_error(error, request)
    return Answer(data["status"], data, {**headers, "Content-Type": problems.MEDIA_TYPE})


def give(answer: Answer, request):
    """Put an answer into the response of its request; what the publisher returns."""
    response = request.response
    guard.secure(response)
    response.setHeader("Content-Type", "application/json")
    body = b""
    if answer.stream is None and answer.data is not None:
        body = answer.data if isinstance(answer.data, bytes) else encoded(answer.data)
        if answer.status == 200 and request.method in ("GET", "HEAD") and answer.tagged:
            tag = etag(body)
            response.setHeader("ETag", tag)
            response.setHeader("Cache-Control", "private, no-cache")
            if matches(request.getHeader("If-None-Match") or "", tag, weak=True):
                answer, body = answer._replace(status=304), b""
    for name, value in answer.headers.items():
        response.setHeader(name, value)
    if request.method == "HEAD" and answer.status >= 400:
        # The publisher puts in a text in place of the body, and knows no other type.
        response.setHeader("Content-Type", "application/json")
    response.setStatus(answer.status)
    if answer.stream is not None:
        if request.method == "HEAD":
            return b""
        alsoProvides(answer.stream, IResult)
        return answer.stream
    return body


def etag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def matches(header: str, tag: str, weak: bool) -> bool:
    """Whether an If-Match or If-None-Match names this tag."""
    for each in header.split(","):
        each = each.strip()
        if each == "*" or each == tag or weak and each.removeprefix("W/") == tag:
            return True
    return False


@implementer(IPublishTraverse)
class Traverser:
    """The way of a request that is no browser's: to the api, and nowhere else."""

    def __init__(self, context, request):
        self.context, self.request = context, request

    def publishTraverse(self, request, name):
        """See IPublishTraverse"""
        if name in ("api", "@@api") and not IXMLRPCRequest.providedBy(request):
            return Api(self.context, request)
        view = queryMultiAdapter((self.context, request), name=name)
        if view is None:
            raise NotFound(self.context, name, request)
        return view


def same(api, request):
    """What answers a method: the api itself."""
    return api


# -- errors outside of `__call__`: of traversal, and of the commit


class ProblemView:
    """An exception of a request that had come to the api, told as JSON."""

    def __init__(self, context, request):
        self.context, self.request = context, request

    def __call__(self):
        error = removeSecurityProxy(self.context)
        if IMethodNotAllowed.providedBy(error):  # of a method that nobody knows
            api = removeSecurityProxy(error.object)
            error = guard.MethodNotAllowed(
                self.request.method, routes.methods(api.names[1:])) \
                if isinstance(api, Api) else Problem(
                    "not-found", "no such thing at this address")
        return give(of_error(error, self.request), self.request)
