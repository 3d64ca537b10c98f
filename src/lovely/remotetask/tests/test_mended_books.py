"""The books were wrong or stood still here once; each fact tells what it cost."""
import threading

import transaction
from ZODB.POSException import ConflictError
from zope.component import adapter, provideHandler

from lovely.remotetask import processor
from lovely.remotetask.interfaces import IJobAdded, IJobQueued
from lovely.remotetask.testing import BOUND, simulated_clock
from lovely.remotetask.tests.support import Gate, ServiceCase


class AtMostOnce(ServiceCase):

    def test_a_stop_without_grace_does_not_run_it_a_second_time(self):
        """It was handed back to the queue, and the next process ran it again."""
        gate, ran, ended = Gate(self), [], threading.Event()

        def once(input):
            ran.append(input)
            gate(input)
            ended.set()

        self.task("once", once, atMostOnce=True)
        jobid = self.add("once")
        self.start()
        gate.arrival()
        processor.stop_all(self.db, grace=0)
        self.look()
        job = self.job(jobid)
        self.assertEqual((job.status, job.reason, len(job.attempts)),
                         ("error", "interrupted", 1))
        gate.open()
        self.assertTrue(ended.wait(BOUND))
        self.start()
        self.task("other", lambda input: input)
        self.wait_status(self.add("other"))
        self.assertEqual((len(ran), self.service.getStatus(jobid)), (1, "error"))

    def test_what_has_not_begun_goes_back_in_line(self):
        ran = []
        self.task("once", ran.append, atMostOnce=True)
        jobid = self.add("once")
        claims = self.service.dispatch("one", wanted=1, alone=True).claims
        self.service.handBack("one", running=claims, close=True)
        transaction.commit()
        self.assertEqual(self.job(jobid).reason, "handed back")
        self.start()
        self.wait_status(jobid)
        self.assertEqual(ran, [None])

    def test_its_error_is_not_tried_again_by_hand_either(self):
        """`process` made the three more attempts of a task without a policy."""
        ran = []

        def fail(input):
            ran.append(input)
            raise ValueError("once is enough")

        self.task("once", fail, atMostOnce=True)
        self.task("thrice", fail, atMostOnce=True, retries=2)
        self.add("once", "once")
        self.add("thrice", "thrice")
        self.service.process()
        self.assertEqual(ran, ["once"] + 3 * ["thrice"])

    def test_a_repair_does_not_run_it_a_second_time(self):
        self.task("once", lambda input: input, atMostOnce=True)
        jobid = self.add("once")
        claim, = self.service.dispatch("one", wanted=1, alone=True).claims
        self.service.startOnce(claim)
        self.service.leases.close("one")
        self.service.check(repair=True)
        self.assertEqual(self.job(jobid).reason, "interrupted")
        self.assertEqual(self.service.check(), [])


class Mishap(Exception):
    """What the subscribers of these tests raise."""


class BadSubscriber(ServiceCase):
    """One raises at each event of a kind, as long as `raising` is true."""

    raising = True

    def raise_at(self, event, error=Mishap):
        told = []

        @adapter(event)
        def subscriber(event):
            if self.raising:
                told.append(event.job.id)
                raise error("mail server away")

        provideHandler(subscriber)
        self.addCleanup(setattr, self, "raising", False)
        return told

    def tearDown(self):
        self.raising = False
        super().tearDown()


class CronRuns(BadSubscriber):

    def cron(self, **options):
        self.task("work", lambda input: input)
        cron = self.service.addCronJob("work", schedule="* * * * *", **options)
        transaction.commit()
        self.service.process()
        transaction.commit()
        return cron

    def fired(self, cron):
        self.service.process()
        transaction.commit()
        self.assertEqual(self.service.check(), [])
        job = self.job(cron)
        self.assertIsNone(job.broken)
        return [run.status for run in job.runs]

    def test_a_subscriber_that_raises_does_not_break_the_schedule(self):
        """The cron job was broken for good, and its run in no book."""
        self.fires_beside_trouble(IJobAdded)

    def test_nor_does_one_that_hears_of_its_turn(self):
        self.fires_beside_trouble(IJobQueued)

    def fires_beside_trouble(self, event):
        with simulated_clock() as clock:
            cron = self.cron()
            told = self.raise_at(event)
            clock.advance(61)
            self.assertEqual(self.fired(cron), ["completed"])
            self.assertEqual(len(told), 1)
            clock.advance(60)
            self.assertEqual(self.fired(cron), 2 * ["completed"])

    def test_a_conflict_while_it_fires_is_no_fault_of_the_schedule(self):
        with simulated_clock() as clock:
            cron = self.cron()
            self.raise_at(IJobAdded, ConflictError)
            clock.advance(61)
            with self.assertRaises(ConflictError):
                self.service.process()
            transaction.abort()
            self.raising = False
            self.assertEqual(self.fired(cron), ["completed"])

    def test_who_asks_for_a_run_now_is_told(self):
        cron = self.cron()
        self.raise_at(IJobAdded)
        with self.assertRaises(Mishap):
            self.service.runNow(cron)
        transaction.abort()
