"""What the application tells those who listen."""
from zope.interface import Attribute, Interface


class IFirstStart(Interface):
    """An application starts for the first time: its services have been made.

    Subscribers put into the root what the application needs beside them; it is
    committed after them, before the services start.
    """

    root = Attribute("The root folder, a site.")


class IAtWork(Interface):
    """An application that was started by `run` is at work, and has said so.

    Subscribers may show on `stream` how things go, and use `running.on_stop`.
    """

    running = Attribute("The running application: db, url, directory, on_stop.")
    stream = Attribute("Where the application speaks to the one who watches.")
