"""XML-RPC on the URL of a service: the six methods of release 0.5, and what tells
of them.  Faults have stable codes; docs/http.txt has the table.
"""
import hashlib
import json
import math
import re
from datetime import UTC, datetime
from inspect import getdoc
from typing import Any, NamedTuple
from xmlrpc.client import Binary, DateTime, Fault

import transaction
from transaction.interfaces import TransientError
from zope.interface import alsoProvides, implementer
from zope.publisher.interfaces.xmlrpc import IXMLRPCPublisher
from zope.security.proxy import removeSecurityProxy

from lovely.remotetask import access, guard, lifecycle
from lovely.remotetask.errors import BadOption, UnknownJob
from lovely.remotetask.failure import clean
from lovely.remotetask.http import problems
from lovely.remotetask.http.interfaces import IXMLRPCCall
from lovely.remotetask.http.problems import Problem

#: Condition -> code of the fault.  What they have in common with HTTP is said so.
CODES = {
    "unknown-method": -32601,
    "bad-arguments": -32602,
    "bad-request": 400,
    "not-logged-in": 401,
    "not-allowed": 403,
    "foreign-site": 403,
    "unknown-job": 404,
    "not-found": 404,
    "illegal-move": 409,
    "too-large": 413,
    "wrong-content-type": 415,
    "too-many-jobs": 429,
    "limit-reached": 4291,
    "invalid": 422,
    "unknown-task": 4221,
    "bad-input": 4222,
    "bad-option": 4223,
    "key-reused": 4224,
    "cannot-be-carried": 4225,
    "no-result": 4226,
    "internal": 500,
    "busy": 503,
}
MULTICALL_LIMIT = 100
INTEGERS = range(-2**31, 2**31)
UNCLEAN = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
OPTIONS = frozenset("title priority tags delay startAt startBefore startLater timeout "
                    "retries locks unique uniqueFor duplicate atLimit key".split())


class Refused(Problem):
    """A condition that HTTP has no problem document for."""


class Method(NamedTuple):
    """A method: what it does, and its signatures as introspection tells them."""

    function: Any
    signatures: tuple[tuple[str, ...], ...]
    least: int    # arguments

    @property
    def most(self) -> int:
        return max(map(len, self.signatures)) - 1


METHODS: dict[str, Method] = {}


def method(name: str, *signatures: str):
    """Enter a function into the table; a signature is 'result argument argument'."""
    def enter(function):
        split = tuple(tuple(each.split()) for each in signatures)
        METHODS[name] = Method(function, split, min(map(len, split)) - 1)
        return function
    return enter


# -- jobs


@method("getAvailableTasks", "array")
def get_available_tasks(service):
    """The names of the tasks that can be added, in order."""
    access.require(access.VIEW, service)
    return sorted(service.getAvailableTasks())


@method("add", "int string", "int string struct", "int string struct struct")
def add(service, task, input=None, options=None):
    """Add a job for a task, with its input; the number of the job.

    options: title, priority, tags, delay (seconds), startAt and startBefore
    (dateTime, UTC), startLater, timeout, retries; locks (an array of names, or a struct:
    how many jobs may hold each at once); unique (true, or a text), uniqueFor (seconds)
    and duplicate: where there is one already its number is returned; atLimit ('wait' or
    'refuse'); and key, a text of your own: with the same key the same job is meant, so
    that a call whose answer was lost can be made again.
    """
    access.require(access.SUBMIT, service)
    options = _options(options)
    key = options.pop("key", None)
    if key is None:
        guard.require_room(service)
        return service.add(task, input, **options)
    fingerprint = _fingerprint(task, input, options)
    known = service.madeUnder(key, fingerprint)
    if known is None:
        guard.require_room(service)
        known = service.add(task, input, **options)
        service.noteMade(key, fingerprint, known)
    return known


def _fingerprint(*said) -> bytes:
    """The same for calls that say the same."""
    text = json.dumps(said, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


@method("cancel", "boolean int")
def cancel(service, jobid):
    """See to it that a job does not take effect; true, also where it has ended."""
    job = _job(service, jobid)
    access.require(access.CANCEL, job)
    service.cancel(job.id)
    return True


@method("getStatus", "string int")
def get_status(service, jobid):
    """The status of a job: queued, processing, completed, error, cancelled, delayed,
    cronjob or start later."""
    job = _job(service, jobid)
    access.require(access.VIEW, job)
    return job.status


@method("getResult", "struct int")
def get_result(service, jobid):
    """What the task has returned.  A fault where there is nothing (yet), and where
    XML-RPC has no such value."""
    job = _job(service, jobid)
    found = access.output_of(job)
    if found is None:
        what = "it returned nothing" if job.recordedStatus == lifecycle.COMPLETED \
            else f"it is {job.status}"
        raise Refused("no-result", f"job {job.id} has no result: {what}")
    return carried(found)


@method("getError", "string int")
def get_error(service, jobid):
    """The text of a job's error; 'None' when there is none."""
    job = _job(service, jobid)
    access.require(access.READ_RESULT, job)
    return UNCLEAN.sub("?", clean(service.getError(job.id)))


def _job(service, jobid):
    if isinstance(jobid, bool) or not isinstance(jobid, int):
        raise Refused("bad-arguments", "the number of a job is an int")
    access.require(access.VIEW, service)
    job = service.jobs.get(jobid)
    if job is None:
        raise UnknownJob(jobid)
    return job


def _options(given) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise Refused("bad-arguments", "the options are a struct")
    for name in given:
        if name not in OPTIONS:
            raise BadOption(name, given[name], f"options are {', '.join(sorted(OPTIONS))}")
    found = {name: _plain(value) for name, value in given.items()}
    for name in ("startAt", "startBefore"):
        if isinstance(found.get(name), datetime):
            found[name] = found[name].replace(tzinfo=UTC)
    if "tags" in found:
        if not isinstance(found["tags"], list):
            raise BadOption("tags", found["tags"], "an array of strings")
        found["tags"] = tuple(found["tags"])
    if not isinstance(found.get("startLater", False), bool):
        raise BadOption("startLater", found["startLater"], "a boolean")
    return found


def _plain(value: Any) -> Any:
    """A value of a call as plain Python, however it was read."""
    if isinstance(value, DateTime):
        return datetime.strptime(value.value, "%Y%m%dT%H:%M:%S")
    if isinstance(value, Binary):
        return value.data
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value


# -- what tells of the methods


@method("listMethods", "array")
def list_methods(service):
    """The names of the methods, in order."""
    return sorted(METHODS)


@method("methodHelp", "string string")
def method_help(service, name):
    """What a method does."""
    return getdoc(_known(name).function) or ""


@method("methodSignature", "array string")
def method_signature(service, name):
    """The signatures of a method: arrays of types, that of the result first."""
    return [list(each) for each in _known(name).signatures]


@method("system.multicall", "array array")
def multicall(service, calls):
    """Several calls in one, 100 at most: structs with methodName and params.

    An array of results: [result] for each, or the struct of a fault.  They are one
    transaction: when something cannot be stored, nothing is.
    """
    if not isinstance(calls, list) or len(calls) > MULTICALL_LIMIT:
        raise Refused("bad-arguments", f"an array of {MULTICALL_LIMIT} calls at most")
    found: list[Any] = []
    for each in calls:
        name = each.get("methodName") if isinstance(each, dict) else None
        params = each.get("params") if isinstance(each, dict) else None
        if not isinstance(name, str) or not isinstance(params, list) \
                or name == "system.multicall":
            raise Refused("bad-arguments", "a call is a struct of methodName and params")
        savepoint = transaction.savepoint()
        try:
            found.append([perform(service, name, tuple(params))])
        except TransientError:
            raise
        except Exception as error:
            savepoint.rollback()
            fault = fault_of(error, None)
            found.append({"faultCode": fault.faultCode, "faultString": fault.faultString})
    return found


for _name in ("listMethods", "methodHelp", "methodSignature"):
    METHODS[f"system.{_name}"] = METHODS[_name]


def _known(name) -> Method:
    if not isinstance(name, str) or name not in METHODS:
        raise Refused("unknown-method", f"there is no method {str(name)[:100]!r}; "
                      "system.listMethods tells which there are")
    return METHODS[name]


# -- what XML-RPC can carry


def carried(value: Any, depth: int = 0) -> Any:
    """The value.  Raises Refused 'cannot-be-carried' for what XML-RPC has no form for."""
    kind = type(value)
    if kind in (bool, bytes):
        return value
    if kind is int and value in INTEGERS:
        return value
    if kind is float and math.isfinite(value):
        return value
    if kind is str:
        if UNCLEAN.search(value):
            _no("a text with control characters or half surrogate pairs")
        return value
    if kind is datetime:
        if value.tzinfo is not None or value.microsecond:
            _no("a moment with a zone or parts of a second")
        return DateTime(value)
    if depth < 50:
        if kind in (list, tuple):
            return [carried(each, depth + 1) for each in value]
        if kind is dict and all(type(key) is str for key in value):
            return {carried(key): carried(each, depth + 1) for key, each in value.items()}
    _no("None" if value is None else "a whole number of more than 32 bits"
        if kind is int else "a number that is none, or endless" if kind is float
        else "something nested too deeply" if depth >= 50
        else f"an object ({kind.__name__})")


def _no(what: str):
    raise Refused("cannot-be-carried",
                  f"the result holds {what}: XML-RPC cannot carry that, JSON over HTTP can")


# -- calls


def perform(service, name: str, arguments: tuple) -> Any:
    """Call a method; its result, as it can be sent."""
    found = _known(name)
    if not found.least <= len(arguments) <= found.most:
        few = f"{found.least} to {found.most}" if found.least < found.most else found.most
        raise Refused("bad-arguments", f"{name} takes {few} arguments")
    return found.function(service, *map(_plain, arguments))


def fault_of(error: BaseException, request) -> Fault:
    """The fault that tells an error; it says nothing of what is inside."""
    if isinstance(error, Refused):
        return Fault(CODES[error.condition], f"{error.condition}: {error}")
    told, headers = problems.of_error(error, request)
    condition = told["type"].removeprefix(problems.TYPE)
    detail = told["detail"]
    if "reference" in told:
        detail += f" {told['reference']}"
    return Fault(CODES.get(condition, told["status"]),
                 UNCLEAN.sub("?", f"{condition}: {detail}"[:2_000]))


@implementer(IXMLRPCPublisher)
class ServiceTraverser:
    """Every name below a service is a method of ours, or a fault of ours."""

    def __init__(self, context, request):
        self.context, self.request = context, request

    def publishTraverse(self, request, name):
        """See IPublishTraverse"""
        # The publisher would match them to the parameters of `__call__`, by count and
        # by name: a missing one it would look for among the cookies.
        arguments, request._args = tuple(request.getPositionalArguments()), ()
        return Call(self.context, request, name, arguments)


@implementer(IXMLRPCPublisher)
class Call:
    """A method of a service, to be called with the arguments of the request."""

    def __init__(self, service, request, name, arguments):
        self.__parent__ = self.service = service
        self.__name__ = name
        self.request = request
        self.arguments = arguments
        if not IXMLRPCCall.providedBy(request):
            alsoProvides(request, IXMLRPCCall)

    def publishTraverse(self, request, name):
        """See IPublishTraverse"""
        return Call(self.service, request, f"{self.__name__}.{name}", self.arguments)

    def __call__(self):
        request = self.request
        service = removeSecurityProxy(self.service)
        try:
            guard.require_change(request)
            access.require(access.VIEW, service)
            return perform(service, self.__name__, self.arguments)
        except TransientError:
            raise
        except Exception as error:
            transaction.doom()
            return give(fault_of(error, request), request)


def give(fault: Fault, request) -> Fault:
    """A fault as the answer: 200, but for who is to log in first."""
    guard.secure(request.response)
    request.response.setStatus(401 if fault.faultCode == CODES["not-logged-in"] else 200)
    return fault


class FaultView:
    """An exception of a call that had come to a service, told as a fault."""

    def __init__(self, context, request):
        self.context, self.request = context, request

    def __call__(self):
        return give(fault_of(removeSecurityProxy(self.context), self.request),
                    self.request)
