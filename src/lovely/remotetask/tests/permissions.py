"""The table of permissions, made from the registrations.

    python -m lovely.remotetask.tests.permissions > docs/permissions.txt

What pages and methods ask for inside, where no registration tells, is said here; the
test then asks the application itself, as everybody, whether it is true.
"""
from typing import NamedTuple

from zope.component import getGlobalSiteManager
from zope.publisher.interfaces import IDefaultViewName, IRequest
from zope.security.checker import CheckerPublic, getCheckerForInstancesOf

from lovely.remotetask import access
from lovely.remotetask.browser.layout import Page
from lovely.remotetask.http.routes import ROUTES
from lovely.remotetask.http.xmlrpc import METHODS
from lovely.remotetask.job import CronJob, Job
from lovely.remotetask.service import TaskService
from lovely.remotetask.store.jobs import Jobs
from lovely.remotetask.tests.people import PEOPLE

PUBLIC = "public"
LOGGED_IN = "logged in"
EVERYBODY = ("anonymous", *PEOPLE)
YES, OWN, NO = "yes", "own", "-"

#: What a page that is public by its registration asks for itself.
PAGES = {
    "ISite services.html": LOGGED_IN,
    "ISite index.html": LOGGED_IN,
    "IRootFolder index.html": LOGGED_IN,
}

#: Buttons that ask for more than the page does, of each job: (permission, of a job).
BUTTONS = {
    "jobs.html retry": (access.CANCEL, True),
    "jobs.html cancel": (access.CANCEL, True),
    "jobs.html run": (access.CANCEL, True),
    "jobs.html retry-selected": (access.CANCEL, True),
    "jobs.html cancel-selected": (access.CANCEL, True),
    "jobs.html run-selected": (access.CANCEL, True),
    "jobs.html go": (access.CANCEL, True),
    "job.html retry": (access.CANCEL, True),
    "job.html cancel": (access.CANCEL, True),
    "job.html start": (access.CANCEL, True),
    "job.html copy": (access.READ_INPUT, True),
    "editjob save": (access.CANCEL, True),
}

#: Methods of XML-RPC, which ask inside.
CALLS = {
    "getAvailableTasks": (access.VIEW, False),
    "add": (access.SUBMIT, False),
    "cancel": (access.CANCEL, True),
    "getStatus": (access.VIEW, True),
    "getResult": (access.READ_RESULT, True),
    "getError": (access.READ_RESULT, True),
    "listMethods": (access.VIEW, False),
    "methodHelp": (access.VIEW, False),
    "methodSignature": (access.VIEW, False),
    "system.multicall": (access.VIEW, False),
    "system.listMethods": (access.VIEW, False),
    "system.methodHelp": (access.VIEW, False),
    "system.methodSignature": (access.VIEW, False),
}


class Row(NamedTuple):
    """One thing that can be asked for."""

    kind: str
    name: str
    permission: str
    of_job: bool = False

    def mark(self, who: str) -> str:
        """What it is for somebody: yes, for own jobs, or no."""
        if self.permission == PUBLIC or self.permission == LOGGED_IN \
                and who != "anonymous":
            return YES
        has = access.ROLES.get(PEOPLE.get(who, ""), ())
        if self.permission in has:
            return YES
        lesser = access.OF_ONES_OWN.get(self.permission)
        return OWN if self.of_job and lesser in has else NO


def rows() -> list[Row]:
    """The whole table.  The ZCML of the application must be loaded."""
    return [*pages(), *buttons(), *calls(), *routes(), *verbs()]


def registrations():
    """Views that our ZCML registers: (name of what it is for, name, factory)."""
    for each in getGlobalSiteManager().registeredAdapters():
        where = (getattr(each.info, "file", "") or "").replace("\\", "/")
        if "/lovely/remotetask/" not in where or each.provided is IDefaultViewName \
                or not any(kind.isOrExtends(IRequest) for kind in each.required):
            continue
        if type(each.factory).__name__ == "MenuItemFactory":
            continue  # what it leads to is a view itself
        if len(each.required) == 1:
            yield "", f"++resource++{each.name}", each.factory
        else:
            yield each.required[0].__name__, each.name, each.factory


def permission_of(factory) -> str:
    """The permission that a view is registered with; several are a list."""
    if type(factory).__name__ == "DirectoryResourceFactory":
        return PUBLIC if factory._DirectoryResourceFactory__checker.get_permissions[
            "GET"] is CheckerPublic else "resources that are not public"
    checker = getattr(factory, "checker", None) or (
        getCheckerForInstancesOf(factory) if isinstance(factory, type) else None)
    if checker is None:
        return "NOT GUARDED"
    found = {PUBLIC if each is CheckerPublic else each
             for each in checker.get_permissions.values()}
    return ", ".join(sorted(found)) or "NOT GUARDED"


def pages() -> list[Row]:
    found = set()
    for what, name, factory in registrations():
        if what == "IApi":
            continue  # the methods of HTTP: one table of routes answers them
        if not name:
            found.add(Row("traversal", what, permission_of(factory)))
            continue
        title = f"{what} {name}".strip()
        found.add(Row("page", title, PAGES.get(title) or permission_of(factory)))
    return sorted(found)


def page_classes() -> dict[str, type]:
    """{name: class} of the pages with buttons."""
    return {name: factory for _, name, factory in registrations()
            if isinstance(factory, type) and issubclass(factory, Page)}


def buttons() -> list[Row]:
    found = []
    for what, name, factory in registrations():
        if isinstance(factory, type) and issubclass(factory, Page):
            for button, action in factory.actions.items():
                title = f"{name} {button}"
                if what == "ICronJob":
                    title = f"schedule {title}"
                found.append(Row("button", title, *BUTTONS.get(
                    title, (action.permission, False))))
    return sorted(set(found))


def calls() -> list[Row]:
    return [Row("XML-RPC", name, *CALLS.get(name, ("NOT GUARDED", False)))
            for name in METHODS]


def routes() -> list[Row]:
    return [Row("JSON", f"{route.method} /{route.path}", route.permission, route.of_job)
            for route in ROUTES]


def verbs() -> list[Row]:
    """What Python code reaches through a security proxy."""
    found = []
    for kind in TaskService, Job, CronJob, Jobs:
        checker = getCheckerForInstancesOf(kind)
        for name, permission in sorted(checker.get_permissions.items()):
            found.append(Row("Python", f"{kind.__name__}.{name}",
                             PUBLIC if permission is CheckerPublic else permission))
        for name in checker.set_permissions:
            found.append(Row("Python", f"{kind.__name__}.{name} =", "SETTABLE"))
    return found


HEAD = """\
===================
Who may do what
===================

This table is made from the registrations of the package (pages and their buttons,
XML-RPC methods, JSON routes, and what Python code reaches through a security proxy),
and a test compares it with them and then asks the application, as each of these, for
every line of it.  What is registered anew and does not stand here fails that test.

    python -m lovely.remotetask.tests.permissions > docs/permissions.txt

makes it anew; read the difference before you commit it.  "own": of jobs that the
principal has added.  The permissions are those of access.zcml, without their
"lovely.remotetask." in front.

"""


def text(found: list[Row]) -> str:
    """The table, for people."""
    def short(permission):
        return permission.replace("lovely.remotetask.", "")
    widths = [max(len(row.name) for row in found), max(
        len(short(row.permission)) for row in found), *(max(len(who), 4) for who in EVERYBODY)]
    rule = "  ".join("=" * width for width in widths)
    lines = [HEAD.rstrip("\n")]
    for kind in dict.fromkeys(row.kind for row in found):
        title = {"page": "Pages", "button": "Buttons", "traversal": "Traversal"}.get(
            kind, kind)
        lines += ["", "", title, "-" * len(title), "", rule, _line(
            widths, ["", "permission", *EVERYBODY]), rule]
        lines += [_line(widths, [row.name, short(row.permission),
                                 *map(row.mark, EVERYBODY)])
                  for row in found if row.kind == kind]
        lines.append(rule)
    return "\n".join(lines) + "\n"


def _line(widths, cells):
    return "  ".join((cell or "\\").ljust(width)
                     for cell, width in zip(cells, widths, strict=True)).rstrip()


def main():
    from lovely.remotetask.tests.house import House
    house = House()
    try:
        print(text(rows()), end="")
    finally:
        house.close()


if __name__ == "__main__":
    main()
