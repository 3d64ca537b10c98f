"""Faults that a reader has found in the runtime, each as it was met."""
import errno
import logging
import threading
import unittest
from unittest import mock

import transaction
from ZEO.Exceptions import ClientDisconnected
from ZODB.Connection import Connection
from ZODB.POSException import POSKeyError, StorageError
from zope.component import adapter, getGlobalSiteManager, provideHandler

from lovely.remotetask.clerk import Want
from lovely.remotetask import interfaces, processor
from lovely.remotetask.errors import StorageClosed
from lovely.remotetask.job import Attempts, Log
from lovely.remotetask.retry import RetryPolicy
from lovely.remotetask.runtime import dispatcher, publication
from lovely.remotetask.runtime.publication import OUTAGE_TRIES
from lovely.remotetask.service import TaskService
from lovely.remotetask.tests.support import Gate, ServiceCase
from lovely.remotetask.testing import BOUND


class Refused:
    """A data manager of something else, which cannot be reached at the commit."""

    transaction_manager = transaction.manager

    def nothing(self, txn):
        pass

    abort = tpc_begin = commit = tpc_finish = tpc_abort = nothing

    def tpc_vote(self, txn):
        raise ConnectionRefusedError("nobody listens")

    def sortKey(self):
        return "another"


class Outages(ServiceCase):

    settings = {"retain_interval": 3600}

    def setUp(self):
        super().setUp()
        short = mock.patch.object(publication, "LONGEST_PAUSE", 0.02)
        short.start()
        self.addCleanup(short.stop)

    def test_a_subscriber_that_cannot_reach_its_server_is_asked_once(self):
        """An OSError of a subscriber was taken for the storage's, without end."""
        calls = []

        @adapter(interfaces.IJobFailed)
        def tell(event):
            calls.append(event)
            raise ConnectionRefusedError("no mail today")
        provideHandler(tell)
        self.addCleanup(getGlobalSiteManager().unregisterHandler, tell)
        self.task("fails", lambda input: 1 / 0, retries=0)
        jobid = self.add("fails")
        self.start()
        self.wait_status(jobid, "error")
        self.assertEqual(len(calls), 1)
        self.assertIn("division", self.job(jobid).error)

    def test_another_database_that_is_down_is_the_jobs_own_trouble_in_the_end(self):
        """The job was run again and again, with all its effects elsewhere."""
        ran = []

        @self.task("elsewhere", retries=0)
        def elsewhere(input):
            ran.append(input)
            transaction.get().join(Refused())
        jobid = self.add("elsewhere")
        self.start()
        self.wait_status(jobid, "error")
        self.assertEqual(len(ran), OUTAGE_TRIES)
        self.assertIn("nobody listens", self.job(jobid).error)

    def test_a_full_disk_charges_nothing_and_is_not_asked_in_a_hurry(self):
        """Thousands of commits were tried a second, and no line told of it."""
        self.task("fine", lambda input: input)
        jobid = self.add("fine", 7)
        full, votes = [True], []
        vote = self.db.storage.tpc_vote

        def refuse(txn):
            if full and (b"runJob" in txn.description or b"failJob" in txn.description):
                votes.append(txn.description)
                if len(votes) > OUTAGE_TRIES + 2:
                    full.clear()
                raise OSError(errno.ENOSPC, "No space left on device")
            return vote(txn)
        with mock.patch.object(self.db.storage, "tpc_vote", refuse):
            self.start()
            self.wait_status(jobid, "completed")
        self.assertEqual(self.job(jobid).failures, 0)
        self.assertIn("No space left", "".join(self.lines.texts(logging.WARNING)))

    def test_a_server_that_comes_back_while_it_is_tried_charges_nothing(self):
        """Five times in vain: then its failure was kept as soon as that could be done,
        though it was the server's, which had just come back."""
        ran = []

        @self.task("fine", retries=0)
        def fine(input):
            ran.append(input)
            if len(ran) <= OUTAGE_TRIES + 1:
                raise StorageError("the server does not answer")
        jobid = self.add("fine")
        vote = self.db.storage.tpc_vote

        def refuse(txn):
            if b"touchJob" in txn.description and len(ran) == OUTAGE_TRIES:
                raise StorageError("the server does not answer yet")
            return vote(txn)
        with mock.patch.object(self.db.storage, "tpc_vote", refuse):
            self.start()
            self.wait_status(jobid, "completed")
        self.assertEqual((len(ran), self.job(jobid).failures), (OUTAGE_TRIES + 2, 0))

    def test_a_zeo_server_may_be_lost_any_number_of_times(self):
        ran = []

        @self.task("fine", retries=0)
        def fine(input):
            ran.append(input)
            if len(ran) <= 2 * OUTAGE_TRIES:
                raise ClientDisconnected("lost again")
        jobid = self.add("fine")
        self.start()
        self.wait_status(jobid, "completed")
        self.assertEqual((len(ran), self.job(jobid).failures), (2 * OUTAGE_TRIES + 1, 0))

    def test_a_storage_that_fails_while_the_task_reads_charges_nothing(self):
        ran = []

        @self.task("reads", retries=0)
        def reads(input):
            ran.append(input)
            if len(ran) == 1:
                raise StorageError("the server does not answer")
        jobid = self.add("reads")
        self.start()
        self.wait_status(jobid, "completed")
        self.assertEqual((len(ran), self.job(jobid).failures), (2, 0))


class Waiting(ServiceCase):

    factory = processor.MultiProcessor
    arguments = {"waitTime": 0.05, "maxThreads": 3}
    settings = {"retain_interval": 3600}

    def test_a_suspect_that_hangs_does_not_hold_up_the_others_for_ever(self):
        gate = Gate(self)
        self.task("hangs", gate)
        self.task("quick", lambda input: input)
        suspect = self.add("hangs")
        self.service.dispatch("a process that died", want=Want(1, 1))
        transaction.commit()
        with mock.patch.object(dispatcher, "SUSPECT_SECONDS", 0.2):
            self.start()
            gate.arrival()
            self.look()
            self.assertTrue(self.job(suspect).suspect)
            self.wait_status(self.add("quick"), "completed")
        gate.open()
        self.wait_status(suspect, "completed")

    def test_what_a_full_lane_blocks_goes_back_to_its_place_in_line(self):
        """It stayed `processing`, and what was more urgent had to wait behind it."""
        gate, order = Gate(self), []

        @self.task("narrow", lane="narrow", laneWidth=1)
        def narrow(input):
            if input == "long":
                gate()
            order.append(input)
        self.task("quick", lambda input: input)
        self.start()
        quick = self.service.addMany("quick", range(60))
        transaction.commit()
        self.wait_status(quick)  # now it claims ahead
        self.add("narrow", "long")
        gate.arrival()
        jobs = self.service.addMany("narrow", range(20))
        transaction.commit()
        working = self.processor().dispatcher
        self.wait_for(lambda: "lane:narrow" in working._blocked
                      and self.service.counts()["queued"] == 20)
        urgent = self.add("narrow", "urgent", priority=1)
        gate.open()
        self.wait_status([*jobs, urgent])
        self.assertEqual(order[:2], ["long", "urgent"])


class Ending(ServiceCase):

    stuck = True
    settings = {"retain_interval": 3600}

    def test_the_shortest_of_several_grace_times_counts(self):
        gate = Gate(self)
        self.task("gate", gate)
        jobid = self.add("gate")
        self.start()
        gate.arrival()
        self.service.stopProcessing()
        self.assertEqual(processor.stop_all(self.db, grace=0), [])
        self.look()
        self.assertEqual(self.job(jobid).reason, "handed back")

    def test_a_thread_closes_its_connection_before_the_end(self):
        """The database is closed next: SQLite crashed with a thread still in it."""
        closing = Gate(self)
        self.addCleanup(closing.open)
        self.task("quick", lambda input: input)
        self.wait_status_of_first()
        [worker] = self.processor().dispatcher.workers
        abort, join = publication.Publication.abort, worker.thread.join

        def slowly(this):
            if threading.current_thread() is worker.thread:
                closing()
            abort(this)

        def joined(timeout):
            closing.arrival()
            closing.open()
            join(timeout)

        with mock.patch.object(publication.Publication, "abort", slowly), \
                mock.patch.object(worker.thread, "join", joined):
            self.assertEqual(processor.stop_all(self.db), [])
        self.assertFalse(worker.thread.is_alive())

    def test_a_removed_service_ends_with_one_line(self):
        self.task("quick", lambda input: input)
        self.wait_status_of_first()
        service = self.service
        thread = processor._threads[self.db, service._p_oid][0]
        with mock.patch.object(dispatcher, "STUMBLE_SECONDS", 0.01):
            del self.connection.root()["tasks"]
            transaction.commit()
            self.processor().dispatcher.bell.ring()
            thread.join(20)
        self.assertFalse(thread.is_alive())
        self.assertFalse(service.isProcessing())
        errors = self.lines.texts(logging.ERROR)
        self.assertEqual(len(errors), 1, errors)
        self.assertIn("not in the database any more", errors[0])
        self.connection.root()["tasks"] = service
        transaction.commit()

    def wait_status_of_first(self):
        jobid = self.add("quick")
        self.start()
        self.wait_status(jobid)


class Stumbling(ServiceCase):
    """Who stumbles tries again at once."""

    settings = {"retain_interval": 3600}

    def setUp(self):
        super().setUp()
        short = mock.patch.object(dispatcher, "STUMBLE_SECONDS", 0.01)
        short.start()
        self.addCleanup(short.stop)


class Beginnings(Stumbling):
    """The storage is away when a thread begins."""

    def setUp(self):
        super().setUp()
        self.task("fine", lambda input: input)

    def refuse(self, method, thread, error, times=3):
        """Have a method of publications fail so often in threads of that prefix."""
        real, refused = getattr(publication.Publication, method), []

        def call(made, *args):
            if threading.current_thread().name.startswith(thread) \
                    and len(refused) < times:
                refused.append(args)
                raise error
            return real(made, *args)
        patched = mock.patch.object(publication.Publication, method, call)
        patched.start()
        self.addCleanup(patched.stop)
        return refused

    def is_done_all_the_same(self, refused):
        jobid = self.add("fine")
        self.start()
        self.wait_status(jobid)
        self.assertEqual((len(refused), self.job(jobid).failures), (3, 0))
        self.assertIsNone(processor.failed())

    def test_a_service_waits_for_a_storage_that_does_not_answer_yet(self):
        """Its thread ended for good, and nobody was told that nothing runs."""
        self.is_done_all_the_same(self.refuse(
            "begin", processor.THREAD_PREFIX, ClientDisconnected("away")))
        told = [line for line in self.lines.texts(logging.ERROR) if "tried again" in line]
        self.assertEqual(len(told), 1)

    def test_a_service_waits_for_a_connection(self):
        self.is_done_all_the_same(self.refuse(
            "__init__", processor.THREAD_PREFIX, ClientDisconnected("away")))

    def test_a_worker_that_gets_no_connection_charges_nothing(self):
        self.is_done_all_the_same(self.refuse(
            "__init__", dispatcher.WORKER_PREFIX, ClientDisconnected("away")))

    def test_a_service_may_be_stopped_while_it_waits_for_its_storage(self):
        refused = self.refuse("begin", processor.THREAD_PREFIX,
                              ClientDisconnected("away"), times=1_000_000)
        self.start()
        self.wait_logged("tried again")
        self.assertEqual(processor.stop_all(self.db), [])
        self.assertTrue(refused)

    def test_a_storage_that_is_closed_at_the_beginning_ends_the_process(self):
        self.refuse("begin", processor.THREAD_PREFIX, StorageClosed("for good"))
        self.start()
        thread = processor._threads[self.db, self.service._p_oid][0]
        thread.join(BOUND)
        self.assertFalse(thread.is_alive())
        self.assertIsInstance(processor.failed(), StorageClosed)


class Moved(Stumbling):
    """A service gets another name, or none, while it works."""

    stuck = True

    def setUp(self):
        super().setUp()
        self.gate = Gate(self)

    def close_database(self):
        root = self.connection.root()
        if "tasks" not in root:
            root["tasks"] = root.pop("elsewhere", self.service)
            transaction.commit()
        return super().close_database()

    def at_work(self, grace):
        """The number of a job whose task is at the gate, and the service's thread."""
        self.service.configure(grace_seconds=grace)
        jobid = self.add("gated")
        self.start()
        self.gate.arrival()
        return jobid, processor._threads[self.db, self.service._p_oid][0]

    def move(self, name="elsewhere"):
        """Give the service another name, or none; wait until its thread knows."""
        root = self.connection.root()
        service = root.pop("tasks")
        if name:
            root[name] = service
        transaction.commit()
        self.processor().dispatcher.bell.ring()
        self.wait_logged("not in the database any more")

    def rescued(self, jobid):
        """The job as it is when somebody has looked after the dead."""
        self.look().dispatch("another", rescuing=True)
        transaction.commit()
        return self.job(jobid)

    def test_what_is_in_hand_is_handed_back_and_told_to_stop(self):
        """It was taken for that of a dead process, and was a suspect."""
        self.task("gated", self.gate)
        jobid, thread = self.at_work(grace=0)
        context = self.processor().dispatcher.workers[0].context
        self.move()
        thread.join(BOUND)
        self.assertTrue(context.should_stop)
        job = self.rescued(jobid)
        self.assertEqual((job.status, job.reason, job.suspect, job.attempts),
                         ("queued", "handed back", False, ()))
        self.assertEqual(self.service.leases.held(), {})

    def test_what_is_in_hand_may_end_within_the_grace_time(self):
        self.task("gated", self.gate)
        jobid, thread = self.at_work(grace=BOUND)
        self.move()
        self.gate.open()
        thread.join(BOUND)
        self.assertEqual(self.rescued(jobid).status, "completed")

    def test_a_suspect_whose_task_raises_is_charged_no_crash(self):
        def bad(input):
            self.gate()
            raise ValueError("bad")
        self.task("gated", bad)
        jobid = self.add("gated")
        self.service.dispatch("gone", want=Want(1, 1, alone=True))
        transaction.commit()
        self.assertTrue(self.rescued(jobid).suspect)
        self.start()
        self.gate.arrival()
        thread = processor._threads[self.db, self.service._p_oid][0]
        self.move()
        self.gate.open()
        thread.join(BOUND)
        self.assertEqual(self.rescued(jobid).crashes, 0)

    def test_one_that_works_under_its_new_name_leaves_nobody_behind(self):
        """The old thread was forgotten, and the process did not wait for its end."""
        self.task("gated", self.gate)
        jobid, thread = self.at_work(grace=BOUND)
        self.move()
        self.start()
        self.assertEqual(processor.stop_all(self.db, grace=0), [])
        self.assertFalse(thread.is_alive())
        self.assertEqual(self.rescued(jobid).reason, "handed back")

    def test_one_that_was_removed_and_packed_away_ends_quietly(self):
        self.task("gated", self.gate)
        _, thread = self.at_work(grace=0)
        oid = self.service._p_oid
        with mock.patch.object(dispatcher, "GONE_TRIES", 1_000_000):
            del self.connection.root()["tasks"]
            transaction.commit()
            self.db.pack()
            self.connection.cacheMinimize()
        thread.join(BOUND)
        self.assertFalse(thread.is_alive())
        errors = self.lines.texts(logging.ERROR)
        self.assertEqual(len(errors), 1, errors)
        with self.assertRaises(POSKeyError):
            self.connection.get(oid)._p_activate()
        self.gate.open()
        self.connection.root()["tasks"] = self.service = TaskService()
        transaction.commit()


class Unkept(ServiceCase):
    """A failure that cannot be kept as it is."""

    settings = {"retain_interval": 3600}

    def lose(self, jobid, name, record):
        """Give a job a record, and have the storage lose it."""
        setattr(self.job(jobid), name, record)
        transaction.commit()
        oid, load = record._p_oid, Connection.setstate

        def setstate(connection, found):
            if found._p_oid == oid:
                raise POSKeyError(oid)
            load(connection, found)
        lost = mock.patch.object(Connection, "setstate", setstate)
        lost.start()
        self.addCleanup(lost.stop)
        record._p_deactivate()

    def fails_as_often_as_it_may(self, name, record):
        ran = []

        @self.task("bad", wantsContext=True, retryPolicy=RetryPolicy(2, 0.01))
        def bad(input, context):
            context.logger.log(logging.INFO, "here")
            ran.append(input)
            if len(ran) > 10:
                return  # enough: it is run without end
            raise ValueError("bad")
        jobid = self.add("bad")
        self.lose(jobid, name, record)
        with mock.patch.object(dispatcher, "STUMBLE_SECONDS", 0.01):
            self.start()
            self.wait_for(lambda: self.job(jobid).completed, "for an end")
        job = self.job(jobid)
        self.assertEqual((job.status, len(ran), job.failures), ("error", 3, 3))
        self.assertEqual([each.error for each in job.attempts], ["bad"] * 3)

    def test_a_job_ends_though_the_record_of_its_attempts_is_lost(self):
        """It was run again and again, once a second, and charged nothing."""
        self.fails_as_often_as_it_may("_attempts", Attempts())

    def test_a_job_ends_though_the_record_of_its_log_is_lost(self):
        self.fails_as_often_as_it_may("_log", Log())


if __name__ == "__main__":
    unittest.main()
