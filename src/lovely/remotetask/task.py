"""What a task is made from."""
import contextvars
import logging
from functools import cache

import zope.component
from zope.interface import implementer

from lovely.remotetask import limits
from lovely.remotetask.errors import BadOption, TaskError
from lovely.remotetask.failure import in_log
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.limits import Limit
from lovely.remotetask.retry import RetryPolicy, backoff

log = logging.getLogger(__name__)

__all__ = ["RetryPolicy", "SimpleTask", "TaskError", "backoff", "context", "task"]

GROUP_LIMIT = 1_000

_running: contextvars.ContextVar = contextvars.ContextVar(
    "lovely.remotetask.context", default=None)


def context():
    """The IJobContext of the attempt that runs in this thread, or None."""
    return _running.get()


def enter(found):
    """An attempt begins in this thread; what `leave` needs."""
    return _running.set(found)


def leave(token) -> None:
    _running.reset(token)


@implementer(ITask)
class SimpleTask:
    """A task made from a function of the input.

    wantsContext: the function takes the IJobContext as its second argument.
    The other options are those of ITask.
    """

    def __init__(self, func, inputSchema=None, outputSchema=None, *,
                 wantsContext=False, retries=None, retryPolicy=None, timeout=None,
                 lane="", laneWidth=None, concurrency=None, rate=None, group=None,
                 atMostOnce=False, permission=None, doc=None):
        if not callable(func):
            raise BadOption("func", func, "it must be callable")
        if timeout is not None and not timeout > 0:
            raise BadOption("timeout", timeout, "seconds, more than 0, or None")
        if not isinstance(lane or "", str):
            raise BadOption("lane", lane, "a text")
        if laneWidth is not None and not (lane and is_width(laneWidth)):
            raise BadOption("laneWidth", laneWidth, "1 or more, and only with a lane")
        if concurrency is not None and not is_width(concurrency):
            raise BadOption("concurrency", concurrency, "1 or more")
        if group is not None and not (is_width(group) and group <= GROUP_LIMIT):
            raise BadOption("group", group, f"1 to {GROUP_LIMIT} jobs in a transaction")
        if retries is not None and not (isinstance(retries, int) and retries >= 0):
            raise BadOption("retries", retries, "a whole number from 0 on, or None")
        if permission is not None and not (isinstance(permission, str) and permission):
            raise BadOption("permission", permission, "the id of a permission, or None")
        self.func = func
        self.inputSchema = inputSchema
        self.outputSchema = outputSchema
        self.wantsContext = wantsContext
        self.retries = retries
        self.retryPolicy = retryPolicy
        self.timeout = timeout
        self.lane = lane
        self.laneWidth = laneWidth
        self.concurrency = concurrency
        self.rate = limits.rate(rate)
        self.group = group
        self.atMostOnce = atMostOnce
        self.permission = permission
        self.doc = doc or func.__doc__ or ""

    def __call__(self, service, jobid, input):
        """See ITask"""
        if self.wantsContext:
            return self.func(input, context())
        return self.func(input)

    def __repr__(self) -> str:
        return f"<SimpleTask {self.func!r}>"


def lane_of(task):
    """The name of the lane of a task; '' where that cannot be a lane."""
    lane = getattr(task, "lane", None) or ""
    return lane if isinstance(lane, str) else ""


def group_of(task):
    """How many jobs of a task may share one transaction."""
    return _width(task, "group") or 1


def limits_of(available):
    """{name: Limit} that tasks, {name: task}, declare for themselves and their lanes.

    Of several widths of a lane the smallest holds.  What cannot be a limit counts for
    nothing, and is logged once: a task may be any object, and all services of the
    process meet it.
    """
    found = {}
    for name, task in available.items():
        lane, width = lane_of(task), _width(task, "laneWidth")
        if width is not None and lane:
            key = f"lane:{lane}"
            before = found.get(key, Limit(key)).width
            found[key] = Limit(key, width if before is None else min(width, before))
        elif width is not None:
            _tell_of_limit(type(task).__qualname__, "laneWidth", "without a lane")
        most, rate = _width(task, "concurrency"), _rate(task)
        if most is not None or rate is not None:
            found[f"task:{name}"] = Limit(f"task:{name}", most, rate)
    return found


def _width(task, attribute):
    width = getattr(task, attribute, None)
    if width is None or is_width(width):
        return None if width is None else int(width)
    _tell_of_limit(type(task).__qualname__, attribute, in_log(repr(width)))
    return None


def _rate(task):
    given = getattr(task, "rate", None)
    try:
        return limits.rate(given)
    except BadOption:
        _tell_of_limit(type(task).__qualname__, "rate", in_log(repr(given)))
        return None


def is_width(width):
    return isinstance(width, (int, float)) and not isinstance(width, bool) \
        and 1 <= width < limits.MOST


@cache
def _tell_of_limit(task, attribute, value):
    log.error("task of %s: %s %s is ignored; a lane is a text, a width is a number from 1 "
              "on, a rate is '100/h' or (number, seconds)", task, attribute, value)


def task(name, **options):
    """Register a function as a task under an explicit name; the function is returned.

        @task("thumbnails.make", timeout=60, retries=5)
        def make(input):
            ...

    The name is what jobs store: it can stay when the function moves.  Options as
    of SimpleTask; `wantsContext=True` passes the context as second argument.
    The registration is global and happens on import.
    """
    if not isinstance(name, str) or not name:
        raise BadOption("name", name, "a task needs a name of its own, a text")

    def register(func):
        utility = SimpleTask(func, **options)
        zope.component.getGlobalSiteManager().registerUtility(
            utility, ITask, name=name, info=f"{func.__module__}.{func.__qualname__}")
        func.task = utility
        func.taskName = name
        return func
    return register


def echo(input):
    """Return the input."""
    return input


echoTask = SimpleTask(echo)
