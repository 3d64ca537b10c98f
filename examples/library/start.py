"""What the application does with this example, as configure.zcml asks it to."""
from library import tasks
from library.progress import Display
from library.shelves import Library

from lovely.remotetask.interfaces import ITaskService


def at_first_start(event):
    """Put an empty library into the root and have its service fill it."""
    root = event.root
    if tasks.NAME not in root:
        root[tasks.NAME] = Library()
        tasks.begin(root.getSiteManager().getUtility(ITaskService, tasks.NAME))


def at_work(event):
    """Show on the terminal how far it is."""
    display = Display(event.running.db, event.stream,
                      event.running.directory.database)
    event.running.on_stop(display.stop)
    display.start()
