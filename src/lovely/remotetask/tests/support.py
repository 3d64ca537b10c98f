"""What the tests share: a database with a service in it, bounded waits."""
import logging
import os
import shutil
import tempfile
import threading
import time
import unittest
from contextlib import contextmanager
from unittest import mock

import transaction
import ZODB
from BTrees.OOBTree import OOBTree
from transaction import TransactionManager
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage
from zope.component import provideUtility
from zope.component.hooks import setHooks, setSite
from zope.security.management import endInteraction
from zope.site.testing import siteSetUp, siteTearDown

from lovely.remotetask import processor
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.runtime import dispatcher
from lovely.remotetask.runtime.wakeup import Bell
from lovely.remotetask.service import TaskService
from lovely.remotetask.task import SimpleTask
from lovely.remotetask.testing import BOUND, EveryCommit


class Commits(EveryCommit):
    """Rings at every commit in a database, from the beginning."""

    def __init__(self, db):
        super().__init__(Bell())
        if not self.attach(db, ()):
            raise AssertionError("the storage does not tell of commits")


class Gate:
    """A door in a task: the test sees it come in, and says when it may go on."""

    def __init__(self, test=None):
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()
        if test is not None:
            test.gates.append(self)

    def __call__(self, input=None):
        self.entered.release()
        if not self.opened.wait(BOUND):
            raise AssertionError("nobody has opened the gate")
        return input

    def arrival(self) -> None:
        """Wait until one has come in."""
        if not self.entered.acquire(timeout=BOUND):
            raise AssertionError("nobody has come to the gate")

    def open(self) -> None:
        self.opened.set()


class Lines(logging.Handler):
    """Keeps the records of our loggers."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record):
        self.records.append(record)

    def texts(self, level=logging.INFO) -> list[str]:
        return [record.getMessage() for record in tuple(self.records)
                if record.levelno >= level]


class ServiceCase(unittest.TestCase):
    """A database with a committed service in its root, and a place for effects.

    Afterwards all threads must have come to an end, and the books must agree.
    """

    storage = "file"  # or "mapping"
    arguments: dict = {}
    factory = processor.SimpleProcessor
    settings: dict = {}
    stuck = False     # True: a thread that never ends is part of the test
    fold_seconds = 0.05

    def setUp(self):
        siteSetUp()
        setHooks()
        self.gates: list[Gate] = []
        self.directory = tempfile.mkdtemp()
        self.path = os.path.join(self.directory, "Data.fs")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.addCleanup(siteTearDown)
        self.addCleanup(endInteraction)
        self.addCleanup(setSite, None)
        self.addCleanup(transaction.abort)
        folding = mock.patch.object(dispatcher, "FOLD_SECONDS", self.fold_seconds)
        folding.start()
        self.addCleanup(folding.stop)
        self.lines = Lines()
        logger = logging.getLogger("lovely.remotetask")
        before = logger.level, logger.propagate
        logger.addHandler(self.lines)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        self.addCleanup(logger.setLevel, before[0])
        self.addCleanup(setattr, logger, "propagate", before[1])
        self.addCleanup(logger.removeHandler, self.lines)
        self.open_database()
        root = self.connection.root()
        self.service = root["tasks"] = TaskService()
        self.service.processorFactory = self.factory
        self.service.processorArguments = dict(self.arguments)
        root["effects"] = OOBTree()
        self.service.configure(**self.settings)
        transaction.commit()

    def make_storage(self):
        return MappingStorage() if self.storage == "mapping" else FileStorage(self.path)

    def open_database(self):
        self.db = ZODB.DB(self.make_storage())
        self.commits = Commits(self.db)
        self.connection = self.db.open()
        if "tasks" in self.connection.root():
            self.service = self.connection.root()["tasks"]

    def close_database(self):
        """Stop what runs, and close; what is wrong then is a list of texts."""
        transaction.abort()
        for gate in self.gates:
            gate.open()
        left = processor.stop_all(self.db, grace=BOUND if not self.stuck else 0)
        transaction.begin()
        faults = self.service.check()
        transaction.abort()
        self.commits.detach()
        self.connection.close()
        self.db.close()
        return left + faults

    def tearDown(self):
        if self.db is not None:
            self.assertEqual(self.close_database(), [])

    def reopen(self):
        """The same database, as a new process finds it after a clean end."""
        self.assertEqual(self.close_database(), [])
        self.open_database()

    # -- what tests do

    def task(self, name, func=None, **options):
        """Register a function as a task; usable as a decorator."""
        if func is None:
            return lambda func: self.task(name, func, **options)
        provideUtility(SimpleTask(func, **options), ITask, name=name)
        return func

    def add(self, task, input=None, **options):
        """Add a job and commit; its number."""
        jobid = self.service.add(task, input, **options)
        transaction.commit()
        return jobid

    def start(self):
        self.service.startProcessing()
        return self.processor()

    def processor(self):
        return processor._threads[self.db, self.service._p_oid][1]

    @contextmanager
    def elsewhere(self):
        """The service on another connection; what is done there is committed."""
        manager = TransactionManager()
        connection = self.db.open(manager)
        try:
            manager.begin()
            yield connection.root()["tasks"]
            manager.commit()
        finally:
            manager.abort()
            connection.close()

    def job(self, jobid):
        return self.service.getJob(jobid)

    def effects(self):
        return self.connection.root()["effects"]

    def look(self):
        """See what others have committed."""
        transaction.begin()
        return self.service

    # -- waiting

    def wait_for(self, look, what="", seconds=BOUND):
        """Look again after each commit until *look* says yes; what it says."""
        end = time.monotonic() + seconds
        while True:
            seen = self.commits.bell.rings
            transaction.begin()
            found = look()
            if found:
                return found
            left = end - time.monotonic()
            if left <= 0:
                self.fail(f"waited {seconds} s in vain {what}".rstrip())
            self.commits.bell.wait(seen, min(left, 0.1))

    def wait_status(self, jobids, status="completed"):
        jobids = [jobids] if isinstance(jobids, int) else jobids
        self.wait_for(
            lambda: all(self.service.getStatus(jobid) == status for jobid in jobids),
            f"for {status}")

    def wait_settled(self):
        """Wait until nothing is in hand or to be folded in; then the books agree."""
        self.wait_for(lambda: not self.service.leases.held()
                      and not len(self.service.shards[0].queue.inbox), "for the books")
        self.assertEqual(self.service.check(), [])

    def wait_logged(self, text, level=logging.DEBUG):
        return self.wait_for(lambda: [line for line in self.lines.texts(level)
                                      if text in line], f"for the log line {text!r}")


def effect(input, context):
    """A task that writes how often it took effect, per job."""
    effects = context.service._p_jar.root()["effects"]
    effects[context.jobid] = effects.get(context.jobid, 0) + 1
    return input
