"""What the first start of an application makes: the services that it starts."""
import transaction
from zope.app.publication.zopepublication import ZopePublication
from zope.component.hooks import site
from zope.event import notify
from zope.interface import Attribute, Interface, implementer

from lovely.remotetask import TaskService
from lovely.remotetask.interfaces import ITaskService
from lovely.remotetask.settings import product_configuration

#: In the root of the database, once that was done.
MARK = "lovely.remotetask.app"


class IFirstStart(Interface):
    """An application starts for the first time: its services have been made.

    Subscribers put into the root what the application needs beside them; it is
    committed after them, before the services start.
    """

    root = Attribute("The root folder, a site.")


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
    words = product_configuration().get("autostart", "").replace(",", " ").split()
    for name in (word[1:] for word in words if word.startswith("@")):
        if name != "*" and root.getSiteManager().queryUtility(ITaskService, name) is None:
            add_service(root, name)


def add_service(site, name):
    """A new service in *site*, registered under *name*."""
    manager = site.getSiteManager()
    manager["default"][name] = service = TaskService()
    manager.registerUtility(service, ITaskService, name)
    return service
