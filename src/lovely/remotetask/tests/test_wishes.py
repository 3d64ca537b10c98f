"""Wishes: paused, stopped, so many threads; kept with the service, and obeyed."""
import unittest
from unittest import mock

import transaction
from zope.security.management import endInteraction, newInteraction
from zope.security.testing import Participation, Principal

from lovely.remotetask import acts, processor
from lovely.remotetask.errors import BadOption, UnknownWorker
from lovely.remotetask.runtime import attendance
from lovely.remotetask.tests.support import Gate, ServiceCase


class WishesCase(ServiceCase):

    storage = "file"  # a MappingStorage resolves no conflicts between adder and worker
    # Nothing but a call lets it look before the test ends.
    arguments = {"waitTime": 3000.0}

    def setUp(self):
        super().setUp()
        patient = mock.patch.object(attendance, "ATTEND_SECONDS", 3000.0)
        patient.start()
        self.addCleanup(patient.stop)
        self.task("work", lambda input: input)
        self.gate = Gate(self)
        self.task("wait", self.gate)

    def start(self):
        found = super().start()
        self.wait_for(self.workers, "for the worker")
        return found

    def workers(self):
        return self.look().workers()

    def worker(self):
        found, = self.workers()
        return found

    def wish(self, verb, *args, **options):
        getattr(self.service, verb)(*args, **options)
        transaction.commit()

    def wait_obeyed(self):
        return self.wait_for(lambda: all(
            wish["concerns"] == wish["obeyedBy"] for wish in self.look().wishes()))

    def wait_worker(self, **facts):
        self.wait_for(lambda: all(
            each[name] == value for each in self.workers()
            for name, value in facts.items()), facts)


class Pausing(WishesCase):

    def test_a_paused_service_starts_nothing_until_it_is_resumed(self):
        self.start()
        self.wish("pauseProcessing")
        self.assertTrue(self.service.isPaused())
        self.wait_worker(state="paused")
        jobid = self.add("work")
        before = self.processor().dispatcher.attendance.attended
        self.processor().dispatcher.attendance.call.ring()
        self.wait_for(lambda: self.processor().dispatcher.attendance.attended > before
                      and not len(self.look().shards[0].queue.inbox), "for a look at the job")
        self.assertEqual(self.service.getStatus(jobid), "queued")
        self.wish("resumeProcessing")
        self.wait_status(jobid)
        self.assertEqual(self.worker()["state"], "")
        self.assertFalse(self.service.isPaused())

    def test_what_runs_goes_on_and_what_was_claimed_ahead_waits(self):
        self.start()
        for number in range(20):   # short ones, so that it claims ahead
            self.add("work", number)
        first = self.add("wait")
        rest = [self.add("work", number) for number in range(20)]
        self.gate.arrival()
        self.wish("pauseProcessing")
        self.wait_worker(state="paused")
        self.gate.open()
        self.wait_status(first)
        self.wait_for(lambda: not self.look().leases.held(), "for the rest to go back")
        self.assertEqual({self.service.getStatus(each) for each in rest}, {"queued"})
        self.wish("resumeProcessing")
        self.wait_status(rest)
        self.wait_settled()

    def test_it_lasts_beyond_the_process(self):
        self.wish("pauseProcessing")
        self.start()
        self.wait_worker(state="paused")
        jobid = self.add("work")
        processor.stop_all(self.db)
        self.assertEqual(self.look().getStatus(jobid), "queued")

    def test_schedules_go_on(self):
        self.start()
        self.wish("pauseProcessing")
        self.wait_worker(state="paused")
        jobid = self.add("work", delay=0.01)
        self.wait_status(jobid, "queued")

    def test_by_hand_it_goes_on(self):
        self.wish("pauseProcessing")
        jobid = self.service.add("work")
        self.service.process()
        self.assertEqual(self.service.getStatus(jobid), "completed")
        transaction.commit()


class Stopping(WishesCase):

    def test_a_worker_stops_and_starts_again(self):
        self.start()
        name = self.worker()["name"]
        self.wish("wishStop", name[:6])
        self.wait_worker(state="stopped")
        jobid = self.add("work")
        self.wish("pauseProcessing")      # a paused service has it stopped all the same
        self.wish("resumeProcessing")
        self.wait_for(lambda: self.processor().dispatcher.state == "stopped")
        self.assertTrue(self.service.isProcessing())
        self.assertEqual(self.service.getStatus(jobid), "queued")
        self.wish("wishStart", name)
        self.wait_status(jobid)

    def test_a_name_that_nobody_has_is_refused(self):
        with self.assertRaises(UnknownWorker) as caught:
            self.service.wishStop("nobody")
        self.assertIn("there are: none", str(caught.exception))
        with self.assertRaises(UnknownWorker):
            self.service.wishThreads(2, "nobody")

    def test_a_wish_for_who_is_gone_can_be_taken_back(self):
        self.start()
        name = self.worker()["name"]
        self.wish("wishStop", name)
        self.wish("wishThreads", 3, name)
        processor.stop_all(self.db)
        self.wait_for(lambda: not self.workers())
        for verb, *given in (("wishStop", name), ("wishThreads", 2, name),
                             ("wishStart", "nobody"), ("wishStart", "")):
            with self.assertRaises(UnknownWorker, msg=verb):
                getattr(self.service, verb)(*given)
        self.assertEqual(len(self.service.wishes()), 2)
        self.wish("wishStart", name[:6])
        self.wish("wishThreads", None, name)
        self.assertEqual(self.service.wishes(), [])

    def test_wishes_for_who_is_gone_are_forgotten(self):
        self.start()
        self.wish("wishStop", self.worker()["name"])
        processor.stop_all(self.db)
        self.wait_for(lambda: not self.workers())
        self.wish("pauseProcessing")
        self.assertEqual([wish["what"] for wish in self.service.wishes()], ["pause"])


class Threads(WishesCase):

    factory = processor.MultiProcessor
    arguments = {"waitTime": 3000.0, "maxThreads": 2}

    def inside(self, number):
        """Have so many come to the gate, and one more stay outside."""
        jobs = [self.add("wait") for _ in range(number + 1)]
        for _ in range(number):
            self.gate.arrival()
        self.wait_for(lambda: sum(self.look().getStatus(job) == "processing"
                                  for job in jobs) == number)
        self.assertFalse(self.gate.entered.acquire(blocking=False))
        return jobs

    def test_more_threads_take_more_jobs_at_once(self):
        self.start()
        self.assertEqual(self.worker()["threads"], 2)
        jobs = self.inside(2)
        self.wish("wishThreads", 3)
        self.gate.arrival()
        self.wait_worker(threads=3)
        self.gate.open()
        self.wait_status(jobs)

    def test_fewer_threads_end_what_they_have_first(self):
        self.start()
        jobs = self.inside(2)
        self.wish("wishThreads", 1)
        self.wait_worker(threads=1)
        self.gate.open()
        self.wait_status(jobs)
        self.gate.arrival()               # of the one that waited outside
        self.gate.opened.clear()
        dispatcher = self.processor().dispatcher
        self.wait_for(lambda: len(dispatcher.workers) <= 1)
        jobs = self.inside(1)
        self.wish("wishThreads", None)    # as it was started
        self.gate.arrival()
        self.wait_worker(threads=2)
        self.gate.open()
        self.wait_status(jobs)
        self.assertEqual(self.service.wishes(), [])

    def test_a_wish_for_one_wins_over_that_for_all(self):
        self.start()
        self.wish("wishThreads", 5)
        self.wait_worker(threads=5)
        self.wish("wishThreads", 4, self.worker()["name"])
        self.wait_worker(threads=4)
        self.wish("wishThreads", 6)
        for_one, for_all = self.service.wishes()
        self.assertEqual((for_one["number"], for_one["obeyedBy"]),
                         (4, [self.worker()["name"]]))
        self.assertEqual((for_all["number"], for_all["concerns"]), (6, []))

    def test_numbers_that_mean_nothing_are_refused(self):
        for number in (0, -1, 1001, 2.5, "3", True):
            with self.assertRaises(BadOption):
                self.service.wishThreads(number)
        self.assertEqual(self.service.wishes(), [])


class Whose(WishesCase):

    def test_it_is_that_of_the_principal(self):
        newInteraction(Participation(Principal("operator")))
        self.wish("pauseProcessing")
        endInteraction()
        wish, = self.service.wishes()
        self.assertEqual((wish["what"], wish["worker"], wish["by"]),
                         ("pause", None, "operator"))
        self.assertIsNotNone(wish["since"].tzinfo)
        entries, _ = self.service.listTrail()
        self.assertEqual([(each.who, each.verb) for each in entries],
                         [("operator", "pause processing")])

    def test_or_of_who_is_at_the_command_line_or_is_named(self):
        with acts.acting("somebody (command line)"):
            self.wish("pauseProcessing")
        self.assertEqual(self.service.wishes()[0]["by"], "somebody (command line)")
        self.wish("pauseProcessing", by="a\nname")
        self.assertNotIn("\n", self.service.wishes()[0]["by"])

    def test_who_obeys_is_told(self):
        self.wish("pauseProcessing")
        self.assertEqual(self.service.wishes()[0]["concerns"], [])
        self.start()
        self.wait_obeyed()
        wish, = self.service.wishes()
        self.assertEqual(wish["obeyedBy"], [self.worker()["name"]])

    def test_it_writes_the_wishes_and_nothing_that_a_claim_writes(self):
        self.start()
        jobid = self.add("wait")
        self.gate.arrival()
        self.service.pauseProcessing()
        with self.elsewhere() as service:   # as a claim does it
            lease, = service.leases.values()
            lease.hold([(4711, 1, 1)])
            service.shards[0].queue.inbox.drop(4711)
        with self.elsewhere() as service:
            lease, = service.leases.values()
            lease.release([(4711, 1)])
            service.shards[0].queue.inbox.take(1)
        transaction.commit()                # no conflict
        self.gate.open()
        self.wait_status(jobid)


if __name__ == "__main__":
    unittest.main()
