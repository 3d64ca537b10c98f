"""Which services a database has, and which one is meant.

    @name        the service of that name in the root     /path/to/service
    site@name    the one in a site                         name, where it is unique
"""
from typing import NamedTuple

from ZODB.interfaces import IBroken

from lovely.remotetask import startup
from lovely.remotetask.cli.problems import NoSuchService
from lovely.remotetask.interfaces import ITaskService
from lovely.remotetask.plain import address
from lovely.remotetask.runtime.publication import find

NONE = """\
the database has no task service.  An application makes one at its first start \
(remotetask run); in a script:
    connection.root()['tasks'] = lovely.remotetask.TaskService()
    transaction.commit()"""


class Found(NamedTuple):
    site: str | None   # None: in the database root, beside an application
    name: str
    service: object

    @property
    def address(self) -> dict:
        return address(self.site, self.name, self.service)


def find_all(connection) -> list[Found]:
    """The services of a database, those of the root first."""
    application = startup.application(connection)
    if IBroken.providedBy(application):
        raise NoSuchService(
            f"the application in this database is a {type(application).__name__} of "
            f"{type(application).__module__}, which is not installed here; use the "
            "environment that it was made in")
    found = [Found(*each) for each in startup.services(application)]
    if application is not connection.root():
        found += [Found(None, name, value) for name, value in connection.root().items()
                  if ITaskService.providedBy(value)]
    return found


def choose(connection, wanted: str | None) -> Found:
    """The one service that *wanted* names; or, when nothing is wanted, the only
    one, or the one that starts by itself.  Raises NoSuchService."""
    every = find_all(connection)
    if wanted is None:
        return _default(every)
    found = [each for each in every if wanted in _names(each)] or _at(connection, wanted)
    if len(found) == 1:
        return found[0]
    if not found:
        raise NoSuchService(
            f"there is no service {wanted!r}; {_choices(every)}")
    raise NoSuchService(f"several services are called {wanted!r}; {_choices(found)}")


def _default(every):
    if len(every) == 1:
        return every[0]
    started = [each for directive in startup.getAutostartServiceNames()
               for each in every if directive == each.address["directive"]]
    if len(started) == 1:
        return started[0]
    raise NoSuchService(f"say which service is meant, by --service; {_choices(every)}")


def _choices(found) -> str:
    if not found:
        return NONE
    return "there are " + ", ".join(each.address["directive"] for each in found)


def _names(found):
    known = found.address
    return known["directive"], known["path"], found.name, f"{found.site}@{found.name}"


def _at(connection, path: str):
    """The service at a path: some stand deeper than `find_all` looks."""
    names = [name for name in path.split("/") if name]
    if "/" in path:
        try:
            service = find(connection.root(), names)
        except (KeyError, TypeError, AttributeError):
            return []
        if ITaskService.providedBy(service):
            return [Found(None, names[-1], service)]
    if path.count("@") == 1:  # a site that is no direct child of the root
        site, name = path.split("@")
        return [Found(*each) for each in startup.services(
            startup.application(connection), site or startup.ROOT_SITE, name)]
    return []
