"""The helpers for tests of applications: their story, and what it leaves out."""
import doctest
import threading
import unittest

import transaction
import ZODB
from zope.component import provideUtility
from zope.component.hooks import setHooks
from zope.interface.verify import verifyObject
from zope.site.testing import siteSetUp, siteTearDown

from lovely.remotetask import TaskService, clock, processor
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.runtime.dispatcher import WORKER_PREFIX
from lovely.remotetask.task import SimpleTask
from lovely.remotetask.testing import (
    ExceptionTask, ITaskStub, StillWaiting, TaskServiceStub, simulated_clock,
    stop_cleanly, wait_for, wait_for_job, wait_until_idle)
from lovely.remotetask.tests.support import BOUND, Gate


def set_up(test):
    siteSetUp()
    setHooks()
    test.globs["gate"] = test.gate = Gate()
    test.db = test.globs["db"] = ZODB.DB(None)
    test.connection = test.db.open()
    test.globs["tasks"] = test.connection.root()["tasks"] = TaskService()
    test.globs["transaction"] = transaction
    transaction.commit()


def tear_down(test):
    test.gate.open()
    transaction.abort()
    processor.stop_all(test.db, grace=5)
    for thread in threading.enumerate():
        if thread.name.startswith(WORKER_PREFIX):
            thread.join(BOUND)
    test.connection.close()
    test.db.close()
    siteTearDown()


class TestingCase(unittest.TestCase):

    def setUp(self):
        self.globs = {}
        set_up(self)
        self.addCleanup(tear_down, self)
        self.service = self.globs["tasks"]
        provideUtility(SimpleTask(lambda input: input), ITask, "echo")
        provideUtility(SimpleTask(self.gate), ITask, "gate")

    def add(self, task, input=None):
        jobid = self.service.add(task, input)
        transaction.commit()
        return jobid


class Stubs(TestingCase):

    def test_the_task_that_raises_is_a_task(self):
        self.assertTrue(verifyObject(ITaskStub, ExceptionTask()))
        with self.assertRaisesRegex(Exception, "An error occurred"):
            ExceptionTask()(None, 1, None)

    def test_stubbed_tasks_are_for_stubs_only(self):
        provideUtility(SimpleTask(len), ITaskStub, "stubbed")
        self.assertNotIn("stubbed", self.service.getAvailableTasks())
        stub = TaskServiceStub()
        self.assertEqual(set(stub.getAvailableTasks()), {"stubbed", "echo", "gate"})

    def test_a_stub_keeps_its_books_like_the_real_one(self):
        stub = TaskServiceStub()
        stub.addMany("echo", range(5))
        stub.cancel(stub.add("echo", startLater=True))
        stub.process()
        self.assertEqual(stub.counts()["completed"], 5)
        self.assertEqual(stub.check(), [])


class Clock(TestingCase):

    def test_it_is_put_back_after_an_error(self):
        before = clock.current
        with self.assertRaises(ZeroDivisionError), simulated_clock(0) as simulated:
            self.assertIs(clock.current, simulated)
            raise ZeroDivisionError
        self.assertIs(clock.current, before)

    def test_it_stands_still(self):
        with simulated_clock(1000) as simulated:
            self.assertEqual(clock.micros(), clock.micros())
            simulated.advance(1.5)
            self.assertEqual(clock.micros(), 1_001_500_000)
            simulated.set(7)
            self.assertEqual(clock.micros(), 7_000_000)


class Waits(TestingCase):

    def test_a_wait_ends_with_the_commit_that_brings_it(self):
        self.service.startProcessing()
        jobid = self.add("gate", "in")
        self.gate.arrival()
        opener = threading.Timer(0.01, self.gate.open)
        opener.start()
        self.addCleanup(opener.join)
        self.assertEqual(wait_for_job(self.service, jobid, "completed").output, "in")

    def test_a_wait_that_is_in_vain_says_how_things_are(self):
        self.add("echo")
        with self.assertRaisesRegex(StillWaiting, "1 queued"):
            wait_until_idle(self.service, timeout=0.01)

    def test_a_wait_rests_until_something_is_committed(self):
        looks = []
        with self.assertRaises(StillWaiting):
            wait_for(self.service, looks.append, timeout=0.2)
        self.assertLess(len(looks), 10)

    def test_an_unexpected_end_is_told_before_the_time_is_over(self):
        self.service.startProcessing()
        jobid = self.add("echo")
        with self.assertRaisesRegex(StillWaiting, "is completed, not error"):
            wait_for_job(self.service, jobid, "error", timeout=600)

    def test_an_error_in_the_condition_is_the_caller_s(self):
        with self.assertRaises(KeyError):
            wait_for(self.service, lambda service: service.getJob(1))

    def test_stopping_ends_the_threads(self):
        self.service.startProcessing()
        self.add("echo")
        wait_until_idle(self.service)
        stop_cleanly(self.db)
        self.assertEqual([thread.name for thread in threading.enumerate()
                          if thread.name.startswith(processor.THREAD_PREFIX)], [])

    def test_a_job_that_ends_in_its_grace_time_is_no_trouble(self):
        self.service.startProcessing()
        jobid = self.add("gate")
        self.gate.arrival()
        opener = threading.Timer(0.01, self.gate.open)
        opener.start()
        self.addCleanup(opener.join)
        stop_cleanly(self.db, grace=20)
        transaction.begin()
        self.assertEqual(self.service.getStatus(jobid), "completed")


def test_suite():
    suite = unittest.TestSuite(
        map(unittest.defaultTestLoader.loadTestsFromTestCase, (Stubs, Clock, Waits)))
    suite.addTest(doctest.DocFileSuite(
        "TESTING.txt", package="lovely.remotetask", encoding="utf-8", setUp=set_up,
        tearDown=tear_down, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE))
    return suite


if __name__ == "__main__":
    unittest.main()
