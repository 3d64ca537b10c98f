"""The ZCML directives of the namespace http://namespaces.zope.org/remotetask."""
from zope.component.zcml import utility
from zope.configuration.exceptions import ConfigurationError
from zope.configuration.fields import Bool, GlobalInterface, GlobalObject
from zope.interface import Interface
from zope.schema import Float, Int, TextLine
from zope.security.zcml import Permission

from lovely.remotetask.errors import BadOption
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.retry import backoff
from lovely.remotetask.task import SimpleTask


class ITaskDirective(Interface):
    """Register a task under an explicit name, which is what jobs store."""

    name = TextLine(title="Name", description="Stays when the code moves.")
    function = GlobalObject(
        title="Function", description="A function of the input.", required=False)
    component = GlobalObject(
        title="Component", description="An object that provides ITask.", required=False)
    factory = GlobalObject(
        title="Factory", description="Makes an object that provides ITask.",
        required=False)
    inputSchema = GlobalInterface(title="Schema of the input", required=False)
    outputSchema = GlobalInterface(title="Schema of the output", required=False)
    wantsContext = Bool(
        title="The function takes the context as second argument", required=False)
    retries = Int(title="Attempts after the first", min=0, required=False)
    retryDelay = Float(
        title="Seconds before the second attempt, doubled for each later one", min=0.0,
        required=False)
    timeout = Float(title="Seconds that an attempt may run", required=False)
    lane = TextLine(title="Lane in which its jobs wait", required=False)
    laneWidth = Int(title="Jobs of that lane that run at once", min=1, required=False)
    concurrency = Int(title="Jobs of this task that run at once", min=1, required=False)
    rate = TextLine(
        title="Jobs of this task that begin in any such period, as 100/h", required=False)
    group = Int(
        title="Jobs of this task that may share one transaction", min=1, required=False)
    atMostOnce = Bool(title="Never run again after a crash", required=False)
    permission = Permission(
        title="Permission that adding and running its jobs needs", required=False)


def task(_context, name, function=None, component=None, factory=None, retryDelay=None,
         **options):
    """See ITaskDirective"""
    if sum(each is not None for each in (function, component, factory)) != 1:
        raise ConfigurationError(
            f"task {name!r} needs one of function, component and factory")
    if function is None and (options or retryDelay is not None):
        raise ConfigurationError(
            f"task {name!r}: {', '.join(options) or 'retryDelay'} can be given for a "
            "function; a component or factory has such attributes itself")
    if retryDelay is not None:
        retries = options.pop("retries", None)
        options["retryPolicy"] = backoff(
            delay=retryDelay, **({} if retries is None else {"retries": retries}))
    try:
        made = component if component is not None else \
            factory() if factory is not None else SimpleTask(function, **options)
    except BadOption as error:
        raise ConfigurationError(f"task {name!r}: {error}") from error
    utility(_context, provides=ITask, component=made, name=name)
