"""Workers that take only some jobs."""
import unittest
from unittest import mock

import transaction

from lovely.remotetask import clerk, processor, settings
from lovely.remotetask.clerk import Want
from lovely.remotetask.errors import BadOption, BadSetting
from lovely.remotetask.runtime import dispatcher
from lovely.remotetask.tests.support import ServiceCase


class Taking(ServiceCase):


    def setUp(self):
        super().setUp()
        # What a worker has passed over it remembers beyond the end of the test.
        memory = mock.patch.object(dispatcher, "PASSED_SECONDS", 3000.0)
        memory.start()
        self.addCleanup(memory.stop)
        for name in ("a", "b", "c"):
            self.task(name, lambda input: input)

    def start(self, **arguments):
        self.service.startProcessing(**arguments)
        return self.processor()

    def waits(self, *jobids):
        """None of them is taken, though the worker has looked at them."""
        last = self.add("a", tags=("t",), priority=3)
        self.wait_status(last)
        self.assertEqual({self.service.getStatus(id) for id in jobids}, {"queued"})

    def test_a_worker_takes_jobs_of_its_tasks_only(self):
        others = [self.add("b") for _ in range(3)]
        self.start(tasks="a,c")
        self.wait_status([self.add("a"), self.add("c")])
        others.append(self.add("b"))     # while nothing else waits
        self.waits(*others)
        self.assertEqual(self.look().workers()[0]["takes"], "task a,c")

    def test_a_worker_takes_jobs_of_its_priorities_only(self):
        others = [self.add("a", priority=priority) for priority in (-1, 6, 10)]
        self.start(priorities="0-5")
        self.wait_status([self.add("a", priority=priority) for priority in (0, 3, 5)])
        self.waits(*others)

    def test_a_worker_takes_jobs_with_one_of_its_tags_only(self):
        others = [self.add("a"), self.add("a", tags=("u", "v"))]
        self.start(tags=["t", "s"])
        self.wait_status([self.add("a", tags=("t", "u")), self.add("b", tags=("s",))])
        self.waits(*others)

    def test_many_that_it_does_not_take_do_not_hide_what_it_takes(self):
        few = mock.patch.object(clerk, "LOOKED_AT", 100)  # in one look
        few.start()
        self.addCleanup(few.stop)
        self.service.addMany("a", range(350))
        transaction.commit()
        wanted = self.add("a", tags=("t",))
        self.start(tags="t")
        self.wait_status(wanted)
        more = self.add("a", tags=("t",))
        self.wait_status(more)
        self.assertEqual(self.service.counts()["queued"], 350)

    def test_what_is_more_urgent_than_what_was_passed_over_is_seen(self):
        others = [self.add("a") for _ in range(3)]
        self.start(tags="t")
        self.wait_status(self.add("a", tags=("t",)))
        self.wait_status(self.add("a", tags=("t",), priority=-5))
        self.wait_status(self.add("a", tags=("t",), priority=20))
        self.waits(*others)

    def test_what_one_leaves_another_takes(self):
        jobs = [self.add(name) for name in "abc"]
        self.start(tasks="a")
        self.wait_status(jobs[0])
        self.service.stopProcessing()
        self.start()
        self.wait_status(jobs)
        self.wait_settled()

    def test_suspects_that_are_not_for_it_do_not_stop_a_worker(self):
        suspect = self.add("b")
        self.service.dispatch("gone", want=Want(1, 1, alone=True))
        transaction.commit()
        with self.elsewhere() as service:
            self.assertEqual(list(service.leases.held()), [suspect])
            service.dispatch("another", rescuing=True)
        self.assertTrue(self.look().getJob(suspect).suspect)
        self.start(tasks="a")
        self.waits(suspect)
        self.service.stopProcessing()
        self.start(tasks="b")
        self.wait_status(suspect)

    def test_it_may_be_an_argument_that_is_stored_with_the_service(self):
        self.service.processorArguments = {"tasks": ["a"]}
        transaction.commit()
        other = self.add("b")
        self.start()
        self.waits(other)

    def test_or_a_setting_of_the_process(self):
        before = settings._process
        settings._process = settings.process().changed({"take-priorities": "0-5"})
        try:
            self.start()
            self.assertEqual(self.processor().dispatcher.takes, "priority 0..5")
            other = self.add("a")
            self.waits(other)
        finally:
            settings._process = before

    def test_what_means_nothing_is_refused_before_a_thread_starts(self):
        with self.assertRaises(BadOption):
            self.start(priorities="high")
        self.assertFalse(self.service.isProcessing())
        with self.assertRaises(BadSetting):
            self.service.configure(take_priorities="high")


class TakingWithThreads(Taking):
    level = 2
    factory = processor.MultiProcessor


if __name__ == "__main__":
    unittest.main()
