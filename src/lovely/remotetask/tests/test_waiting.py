"""Waiting for the result of a job: woken by its commit, in any process."""
import asyncio
import threading
import unittest
from unittest import mock

import transaction
from transaction import TransactionManager

from lovely.remotetask import waiting
from lovely.remotetask.errors import (
    JobCancelled, JobFailed, StillRunning, UnknownJob, UnsavedChanges)
from lovely.remotetask.task import TaskError
from lovely.remotetask.tests.support import BOUND, Gate, ServiceCase
from lovely.remotetask.tests.test_workers import WorkersCase


class WaitingCase(ServiceCase):


    def setUp(self):
        super().setUp()
        # Nothing but the commit itself can end a wait in time.
        patient = mock.patch.object(waiting, "HEARD_SECONDS", 3000.0)
        patient.start()
        self.addCleanup(patient.stop)
        self.gate = Gate(self)
        self.task("wait", self.gate)
        self.task("echo", lambda input: input)

        def fail(input):
            raise TaskError("no good")
        self.task("fail", fail)

    def later(self, function, *args):
        """Call it in another thread once the gate has been come to."""
        def run():
            self.gate.arrival()
            function(*args)
        thread = threading.Thread(target=run)
        thread.start()
        self.addCleanup(thread.join, BOUND)


class TheResult(WaitingCase):

    def test_it_is_the_output(self):
        self.start()
        jobid = self.add("wait", {"a": [1]})
        self.later(self.gate.open)
        self.assertEqual(self.service.waitFor(jobid, BOUND), {"a": [1]})
        self.assertEqual(self.service.getStatus(jobid), "completed")

    def test_of_a_job_that_has_ended_it_is_there_at_once(self):
        jobid = self.service.add("echo", 5)
        self.service.process()
        transaction.commit()
        self.assertEqual(self.service.waitFor(jobid, 0), 5)
        self.assertEqual(self.service.getJob(jobid).wait(0), 5)

    def test_a_job_can_be_asked_itself(self):
        self.start()
        job = self.job(self.add("wait", 7))
        self.later(self.gate.open)
        self.assertEqual(job.wait(timeout=BOUND), 7)

    def test_an_error_is_raised_with_its_text(self):
        self.start()
        jobid = self.add("fail")
        with self.assertRaises(JobFailed) as caught:
            self.service.waitFor(jobid, BOUND)
        self.assertEqual((caught.exception.jobid, caught.exception.text),
                         (jobid, "no good"))

    def test_a_cancelled_job_raises(self):
        self.start()
        jobid = self.add("wait")

        def cancel():
            with self.elsewhere() as service:
                service.cancel(jobid)
        self.later(cancel)
        with self.assertRaises(JobCancelled):
            self.service.waitFor(jobid, BOUND)
        self.gate.open()

    def test_a_job_that_is_removed_is_unknown(self):
        jobid = self.add("echo")
        with self.elsewhere() as service:
            service.cancel(jobid)
            service.remove(jobid)
        with self.assertRaises(UnknownJob):
            self.service.waitFor(jobid, BOUND)

    def test_who_does_not_wait_long_enough_is_told(self):
        jobid = self.add("echo")
        with self.assertRaises(TimeoutError) as caught:
            self.service.waitFor(jobid, 0.01)
        self.assertIsInstance(caught.exception, StillRunning)
        self.assertIn("still queued", str(caught.exception))

    def test_it_goes_on_over_an_attempt_that_fails(self):
        tries = []

        def second(input):
            tries.append(1)
            if len(tries) == 1:
                raise ValueError("once")
            return "then"
        self.task("second", second)
        self.start()
        self.assertEqual(self.service.waitFor(self.add("second"), BOUND), "then")


class TheTransaction(WaitingCase):

    def test_changes_are_not_lost_it_is_refused(self):
        jobid = self.add("echo")
        self.connection.root()["mine"] = 1
        with self.assertRaises(UnsavedChanges):
            self.service.waitFor(jobid, 0)
        self.assertEqual(self.connection.root()["mine"], 1)
        transaction.commit()

    def test_a_job_that_is_not_committed_is_not_waited_for(self):
        jobid = self.service.add("echo")
        with self.assertRaises(UnsavedChanges):
            self.service.waitFor(jobid, 0)
        transaction.commit()
        self.assertIn(jobid, self.service.jobs)

    def test_a_task_that_waits_for_a_job_does_not_lose_what_it_did(self):
        other = self.add("wait")

        def nested(input, context):
            context.service.waitFor(other)
        self.task("nested", nested, wantsContext=True)
        self.gate.open()
        jobid = self.add("nested", retries=0)
        self.service.process()
        self.assertIn("UnsavedChanges", self.service.getJob(jobid).attempts[-1].kind)
        transaction.commit()

    def test_another_transaction_has_begun_that_sees_the_end(self):
        self.start()
        jobid = self.add("wait")
        before = transaction.get()
        self.later(self.gate.open)
        self.service.waitFor(jobid, BOUND)
        self.assertIsNot(transaction.get(), before)
        self.assertEqual(self.service.getStatus(jobid), "completed")

    def test_managers_that_want_to_be_told_are_served(self):
        jobid = self.service.add("echo", 1)
        self.service.process()
        transaction.commit()
        manager = TransactionManager(explicit=True)
        connection = self.db.open(manager)
        with manager:
            service = connection.root()["tasks"]
            self.assertEqual(service.waitFor(jobid, 0), 1)
        self.assertEqual(service.waitFor(jobid, 0), 1)
        manager.abort()
        connection.close()


class InAsyncio(WaitingCase):

    def run_async(self, coroutine):
        async def bounded():
            return await asyncio.wait_for(coroutine, BOUND)
        return asyncio.run(bounded())

    def test_results_are_awaited_side_by_side(self):
        self.start()
        jobs = [self.add("wait", number) for number in range(3)]
        self.later(self.gate.open)

        async def all_of_them():
            return await asyncio.gather(*map(self.service.waitAsync, jobs))
        self.assertEqual(self.run_async(all_of_them()), [0, 1, 2])

    def test_the_callers_transaction_is_left_alone(self):
        self.start()
        jobid = self.add("echo", 1)
        self.connection.root()["mine"] = 1
        before = transaction.get()
        self.assertEqual(self.run_async(self.service.waitAsync(jobid)), 1)
        self.assertIs(transaction.get(), before)
        self.assertEqual(self.connection.root()["mine"], 1)

    def test_errors_are_raised(self):
        self.start()
        with self.assertRaises(JobFailed):
            self.run_async(self.service.waitAsync(self.add("fail")))
        with self.assertRaises(UnknownJob):
            self.run_async(self.service.waitAsync(4711))
        self.look()
        jobid = self.add("wait")
        with self.assertRaises(TimeoutError):
            self.run_async(self.service.waitAsync(jobid, 0.01))

    def test_who_is_cancelled_leaves_nobody_listening(self):
        jobid = self.add("echo")

        async def give_up():
            waiter = asyncio.ensure_future(self.service.waitAsync(jobid))
            done, _ = await asyncio.wait([waiter], timeout=0.05)
            self.assertEqual(done, set())
            self.assertEqual(len(self.ears()), 1)
            waiter.cancel()
            await asyncio.gather(waiter, return_exceptions=True)
        self.run_async(give_up())
        self.assertEqual(self.ears(), [])

    def ears(self):
        return [each for each in self.db._mvcc_storage._instances
                if isinstance(each, waiting.Ear)]


class OverZeo(WorkersCase):
    """The job runs in another process."""

    level = 2
    storage = "zeo"
    heard = True

    def setUp(self):
        super().setUp()
        if self.heard:   # nothing but the commit itself can end a wait in time
            patient = mock.patch.object(waiting, "HEARD_SECONDS", 3000.0)
            patient.start()
            self.addCleanup(patient.stop)

    def test_results_of_another_process_are_waited_for(self):
        worker = self.worker()
        jobid = self.add("hold")
        worker.wait("holds", jobid)
        connection = self.db.open()
        self.addCleanup(connection.close)
        service = connection.root()["tasks"]
        threading.Timer(0.2, worker.go).start()
        self.assertIsNone(service.waitFor(jobid, BOUND))
        transaction.abort()

    def test_results_of_another_process_are_awaited(self):
        worker = self.worker()
        jobid = self.add("hold")
        worker.wait("holds", jobid)
        with self.there() as root:
            waiter = root["tasks"].waitAsync(jobid)
        threading.Timer(0.2, worker.go).start()

        async def bounded():
            return await asyncio.wait_for(waiter, BOUND)
        self.assertIsNone(asyncio.run(bounded()))
        self.wait_ended(jobid)


class OverPostgres(OverZeo):
    storage, heard = "postgresql", False


class OverSqlite(OverZeo):
    storage, heard = "sqlite", False


if __name__ == "__main__":
    unittest.main()
