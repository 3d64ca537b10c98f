"""A process that indexes the library of the example, to be killed.

    python -m lovely.remotetask.tests.indexer Data.fs EXAMPLES THREADS FILES

Goes on with what the database holds, or begins.  Without lane, so that the jobs
of several threads meet.  Prints a line for each look: how many files are done.
Ends when the report is there and the books are in order.
"""
import sys

import transaction
import ZODB
from ZODB.FileStorage import FileStorage
from zope.component import provideUtility

from lovely.remotetask import processor
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.service import TaskService
from lovely.remotetask.tests.support import Commits


def main(path, examples, threads, files):
    sys.path.insert(0, examples)
    from library import tasks
    from library.shelves import Library

    for name, task in tasks.make_tasks("", None).items():
        provideUtility(task, ITask, name)
    db = ZODB.DB(FileStorage(path))
    bell = Commits(db).bell
    connection = db.open()
    root = connection.root()
    if "tasks" not in root:
        root[tasks.NAME] = Library(limit=int(files))
        root["tasks"] = service = TaskService()
        service.processorFactory = processor.MultiProcessor
        service.processorArguments = {"waitTime": 1.0, "maxThreads": int(threads)}
        transaction.commit()
        tasks.begin(service)
        transaction.commit()
    service, library = root["tasks"], root[tasks.NAME]
    service.startProcessing()
    while True:
        seen = bell.rings
        transaction.begin()
        print(library.counts()["runs"], flush=True)
        if library.reporting.last is not None:
            break
        bell.wait(seen, 1.0)
    left = processor.stop_all(db)
    transaction.begin()
    faults = service.check() + left
    transaction.abort()
    db.close()
    sys.exit("\n".join(faults) or 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
