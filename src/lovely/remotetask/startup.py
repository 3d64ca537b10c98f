"""Which services start with the database.

    site@name   a service in a site of the root      *@name   of that name in any site
    site@*      all services of a site               *@*      all services
    @name       a service in the root itself

A directive that means nothing is one line in the log, and the rest start.
"""
import logging
import re
from itertools import chain, islice

from zope.component import adapter
from zope.component.interfaces import ISite
from zope.processlifetime import IDatabaseOpenedWithRoot

from lovely.remotetask import clerk, lifecycle, settings
from lovely.remotetask.failure import in_log, marked, traceback_of
from lovely.remotetask.interfaces import ITaskService
from lovely.remotetask.runtime.publication import ROOT, roots_beside

log = logging.getLogger("lovely.remotetask")

ROOT_SITE = "root"  # what the log calls the root
LOOKED_AT = 1_000   # jobs of each kind that are looked at before a service starts
NAMED = 5           # tasks that one line names


def getAutostartServiceNames():
    """The directives of the configuration, in order."""
    given = {**settings.product_configuration(), **{
        key.lower(): text for key, text in settings.environment().items()}}
    text = given.get("autostart")
    if text is None:
        text = settings.process().autostart
    return [name for name in re.split(r"[,\s]+", text or "") if name]


@adapter(IDatabaseOpenedWithRoot)
def bootStrapSubscriber(event):
    """Start the services that the configuration names.

    Does nothing to services that run already, so it can be called again and again.
    """
    settings.reload()
    directives = getAutostartServiceNames()
    if not directives:
        return
    log.info("handling event IStartRemoteTasksEvent")
    connection = event.database.open()
    try:
        root = application(connection)
        for directive in directives:
            try:
                start_by(root, directive)
            except Exception as error:
                log.error("directive %s could not be obeyed:\n%s", in_log(directive),
                          marked(traceback_of(error)))
    finally:
        connection.transaction_manager.abort()
        connection.close()


def application(connection):
    """The application in a database, or the root of a database without one."""
    root = connection.root()
    return root.get(ROOT, root)


def start_by(root, directive: str) -> int:
    """Start what a directive names; how many services it names."""
    parts = directive.split("@")
    if len(parts) != 2 or not parts[1]:
        log.error("directive %s is not understood: write site@name, site@*, *@name, "
                  "*@* or @name", in_log(directive))
        return 0
    site, name = parts
    if site not in ("", "*") and find_site(root, site) is None:
        log.error("site %s not found", in_log(site))
        return 0
    found = list(services(root, site or ROOT_SITE, name))
    for site_name, service_name, service in found:
        start(site_name, service_name, service)
    if not found and "*" in parts:
        log.warning("no services started by directive %s", in_log(directive))
    elif not found:
        log.error("service %s on site %s not found", in_log(name), in_log(site or ROOT_SITE))
    return len(found)


def start(site_name: str, name: str, service, **arguments) -> None:
    """Start a service, and say so; arguments: see `startProcessing`."""
    if service.isProcessing():
        return
    warn_of_unknown_tasks(name, service)
    try:
        service.startProcessing(**arguments)
    except Exception as error:
        log.error("service %s on site %s could not be started: %s",
                  in_log(name), in_log(site_name), in_log(error))
    else:
        log.info("service %s on site %s started", in_log(name), in_log(site_name))


def warn_of_unknown_tasks(name: str, service) -> None:
    """One line about jobs that wait, and whose tasks nobody has registered here."""
    try:
        found = waiting_for_unknown_tasks(service)
    except Exception as error:  # it must not keep the service from its work
        log.warning("what waits in service %s could not be looked at: %s",
                    in_log(name), in_log(error))
        return
    number = sum(found.values())
    if number:
        names = [in_log(task, 80) for task in sorted(found, key=str)]
        log.warning(
            "service %s: %s of tasks not known here: %s; register them with --import "
            "or --zcml, or in site.zcml", in_log(name),
            "1 waiting job is" if number == 1 else f"{number:,} waiting jobs are",
            ", ".join(names[:NAMED] + ["..."] * (len(names) > NAMED)))


def waiting_for_unknown_tasks(service) -> dict[str, int]:
    """{task: how many jobs wait for it}, for tasks that are not registered.

    Looks at the names of tasks, then at some of the jobs of unknown ones only: the
    newest, the cron jobs, and those that the books do not know yet.
    """
    known, index = service.getAvailableTasks(), service.index
    unknown = [task for task in index.values("task") if task not in known]
    fresh, runs = clerk.unfolded(service)
    ids = set(islice(chain(fresh, (first for first, _ in runs)), LOOKED_AT))
    if unknown:
        ids.update(id for _, id in islice(index.oldest(lifecycle.CRONJOB), LOOKED_AT))
    for task in unknown:
        for _, id in islice(index.newest(facet=("task", task)), LOOKED_AT):
            status, _ = index.place(id) or (None, 0)
            if status in lifecycle.WAITING:
                ids.add(id)
    found: dict[str, int] = {}
    for id in ids:
        job = clerk.readable(service, id)
        if job is not None and job.task not in known \
                and job.recordedStatus in lifecycle.WAITING:
            found[job.task] = found.get(job.task, 0) + 1
    return found


def services(root, site: str = "*", name: str = "*"):
    """(site name, service name, service) of what matches, the root's first."""
    seen = set()  # one that stands in another database may be registered in this one
    for site_name, place in sites(root, site):
        for service_name, service in services_in(place):
            if name in ("*", service_name) and id(service) not in seen:
                seen.add(id(service))
                yield site_name, service_name, service


def sites(root, wanted: str = "*"):
    """(name, site): the root, and the sites in it; or the one that is wanted.

    The roots of the databases beside it, in a multi-database, count as the root.
    """
    if wanted not in ("*", ROOT_SITE):
        place = find_site(root, wanted)
        if place is not None:
            yield wanted, place
        return
    yield ROOT_SITE, root
    for beside in roots_beside(_database_root(root)):
        yield ROOT_SITE, beside
    if wanted == "*":
        for name, place in root.items():
            if ISite.providedBy(place):
                yield name, place


def _database_root(root):
    jar = getattr(root, "_p_jar", None)
    return None if jar is None else jar.root()


def find_site(root, path: str):
    """The site at a path of names with slashes below the root, or None."""
    place = root
    for name in path.split("/"):
        try:
            place = place[name]
        except (KeyError, TypeError, AttributeError):
            return None
    return place if ISite.providedBy(place) else None


def services_in(place):
    """(name, service) of the services of one site, those above it left out.

    They are found by their registration as ITaskService utility; in a place that is
    no site, by their own names.
    """
    found = {}
    if ISite.providedBy(place):
        for each in place.getSiteManager().registeredUtilities():
            if each.provided.isOrExtends(ITaskService):
                found[each.name] = each.component
    known = {id(service) for service in found.values()}
    for name, value in _items(place):
        if ITaskService.providedBy(value) and id(value) not in known:
            found.setdefault(name, value)
    return sorted(found.items())


def _items(place):
    try:
        return list(place.items())
    except AttributeError:
        return []
