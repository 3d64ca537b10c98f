"""What the first start of an application makes: the services that it starts."""
import transaction
from zope.app.publication.zopepublication import ZopePublication
from zope.component.hooks import site
from zope.event import notify
from zope.interface import implementer

from lovely.remotetask import TaskService
from lovely.remotetask.app.interfaces import IFirstStart
from lovely.remotetask.interfaces import ITaskService
from lovely.remotetask.startup import ROOT_SITE, getAutostartServiceNames, services

#: In the root of the database, once that was done.
MARK = "lovely.remotetask.app"


@implementer(IFirstStart)
class FirstStart:

    def __init__(self, root):
        self.root = root


def first_start(event):
    """Handles IDatabaseOpenedWithRoot, before the services are started."""
    transactions = transaction.TransactionManager()
    connection = event.database.open(transactions)
    try:
        if MARK not in connection.root():
            root = connection.root()[ZopePublication.root_name]
            with transactions, site(root):
                make_services(root)
                notify(FirstStart(root))
                connection.root()[MARK] = True
    finally:
        transactions.abort()
        connection.close()


def make_services(root):
    """One for each ``@name`` that is to be started."""
    for directive in getAutostartServiceNames():
        site, _, name = directive.partition("@")
        if not site and name != "*" and not _has_service(root, name):
            add_service(root, name)


def _has_service(root, name):
    return any(services(root, ROOT_SITE, name))


def add_service(site, name):
    """A new service in *site*, registered under *name*."""
    manager = site.getSiteManager()
    manager["default"][name] = service = TaskService()
    manager.registerUtility(service, ITaskService, name)
    return service
