"""The bell, and how it hears of work from this process and from others."""
import tempfile
import threading
import unittest
from pathlib import Path

import transaction
import ZEO
import ZODB
import zope.component
import zope.component.testing
from ZODB.MappingStorage import MappingStorage
from zope.interface.verify import verifyObject

from lovely.remotetask import SimpleTask, TaskService, processor
from lovely.remotetask.interfaces import ITask, IWakeup
from lovely.remotetask.runtime import wakeup
from lovely.remotetask.runtime.wakeup import Bell, InvalidationListener

LONG = 60  # seconds: a nap that only the bell can end in time
BOUND = 20


class TheBell(unittest.TestCase):

    def test_it_is_a_wakeup(self):
        self.assertTrue(verifyObject(IWakeup, Bell()))

    def test_a_ring_while_one_looks_ends_the_wait_at_once(self):
        bell = Bell()
        seen = bell.rings
        bell.ring()
        self.assertTrue(bell.wait(seen, LONG))

    def test_without_a_ring_the_wait_ends_in_time(self):
        bell = Bell()
        self.assertFalse(bell.wait(bell.rings, 0.01))

    def test_a_ring_wakes_everybody(self):
        bell, woken = Bell(), threading.Barrier(3, timeout=BOUND)

        def wait():
            bell.wait(0, LONG)
            woken.wait()
        threads = [threading.Thread(target=wait, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        bell.ring()
        woken.wait()
        for thread in threads:
            thread.join(BOUND)

    def test_a_listener_answers_no_where_the_storage_is_unknown(self):
        self.assertFalse(InvalidationListener(Bell()).attach(object(), ()))


class AfterTheCommit(unittest.TestCase):

    def setUp(self):
        self.db = ZODB.DB(MappingStorage())
        self.connection = self.db.open()
        self.service = self.connection.root()["tasks"] = TaskService()
        transaction.commit()
        self.bell = Bell()
        wakeup.listen(self.db, self.service._p_oid, self.bell)

    def tearDown(self):
        transaction.abort()
        self.connection.close()
        self.db.close()

    def test_it_rings_once_for_any_number_of_adds(self):
        for _ in range(5):
            wakeup.ring_after_commit(self.service)
        self.assertEqual(self.bell.rings, 0)
        transaction.commit()
        self.assertEqual(self.bell.rings, 1)

    def test_an_abort_rings_nothing(self):
        wakeup.ring_after_commit(self.service)
        transaction.abort()
        self.assertEqual(self.bell.rings, 0)


class ThroughZEO(unittest.TestCase):
    """Two clients of a real server: one adds, the other works and naps for long."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        zope.component.testing.setUp()
        self.address, self.stop = ZEO.server(
            path=str(Path(self.folder.name) / "Data.fs"), threaded=False)
        self.adding = ZEO.DB(self.address)
        self.connection = self.adding.open()
        self.service = self.connection.root()["tasks"] = TaskService()
        self.service.processorArguments = {"waitTime": LONG}
        transaction.commit()
        self.working = ZEO.DB(self.address)  # opened now, it sees the service
        self.ran = threading.Event()
        zope.component.provideUtility(
            SimpleTask(lambda input: self.ran.set()), ITask, "ran")

    def tearDown(self):
        processor.stop_all(self.working, grace=1)
        transaction.abort()
        self.connection.close()
        self.adding.close()
        self.working.close()
        self.stop()
        zope.component.testing.tearDown()
        self.folder.cleanup()

    def test_a_job_added_by_another_client_ends_the_nap(self):
        connection = self.working.open()
        service = connection.root()["tasks"]
        service.startProcessing()
        dispatcher = processor._threads[processor._key(service)][1].dispatcher
        connection.close()
        for number in range(3):
            self.ran.clear()
            seen = dispatcher.bell.rings
            self.service.add("ran", number)
            transaction.commit()
            self.assertTrue(self.ran.wait(BOUND), "it slept through the job")
            self.assertNotEqual(dispatcher.bell.rings, seen)


if __name__ == "__main__":
    unittest.main()
