"""Only one job of a kind."""
import datetime
import unittest

import transaction
from persistent import Persistent

from lovely.remotetask import lifecycle, unique
from lovely.remotetask.errors import BadInput, BadOption
from lovely.remotetask.tests.support import Gate, ServiceCase
from lovely.remotetask.testing import simulated_clock


class Thing(Persistent):
    pass


class UniqueCase(ServiceCase):

    def setUp(self):
        super().setUp()
        self.task("work", lambda input: input)
        self.task("other", lambda input: input)


class ByHand(UniqueCase):

    def setUp(self):
        super().setUp()
        simulated = simulated_clock(1_800_000_000)
        self.clock = simulated.__enter__()
        self.addCleanup(simulated.__exit__, None, None, None)

    def test_a_second_add_finds_the_first(self):
        first = self.service.add("work", {"a": 1, "b": 2}, unique=True)
        self.assertEqual(self.service.add("work", {"b": 2, "a": 1}, unique=True), first)
        self.assertNotEqual(self.service.add("work", {"a": 1}, unique=True), first)
        self.assertNotEqual(self.service.add("other", {"a": 1, "b": 2}, unique=True), first)
        self.assertNotEqual(self.service.add("work", {"a": 1, "b": 2}), first)
        self.assertEqual((self.job(first).merged, len(self.service.jobs)), (1, 4))

    def test_a_key_may_be_given(self):
        first = self.service.add("work", 1, unique="nightly")
        self.assertEqual(self.service.add("work", 2, unique="nightly"), first)
        self.assertNotEqual(self.service.add("other", 2, unique="nightly"), first)

    def test_many_of_one_key_are_one(self):
        ids = self.service.addMany("work", [1, 2, 1, 1], unique=True)
        self.assertEqual((ids[0], ids[0]), (ids[2], ids[3]))
        self.assertEqual(len(set(ids)), 2)

    def test_one_that_is_finished_does_not_count(self):
        first = self.service.add("work", 1, unique=True)
        self.service.process()
        self.assertNotEqual(self.service.add("work", 1, unique=True), first)

    def test_within_its_window_a_completed_one_counts(self):
        first = self.service.add("work", 1, unique=True, uniqueFor=60)
        self.service.process()
        self.clock.advance(59)
        self.assertEqual(self.service.add("work", 1, unique=True), first)
        self.clock.advance(2)
        self.assertNotEqual(self.service.add("work", 1, unique=True), first)

    def test_one_that_was_cancelled_does_not_count_in_any_window(self):
        first = self.service.add("work", 1, unique=True, uniqueFor=60)
        self.service.cancel(first)
        self.assertNotEqual(self.service.add("work", 1, unique=True), first)

    def test_replace_cancels_the_one_that_waits(self):
        first = self.service.add("work", 1, unique="x", delay=5)
        second = self.service.add("work", 2, unique="x", duplicate="replace")
        self.assertEqual(self.service.getStatus(first), lifecycle.CANCELLED)
        self.assertEqual(self.job(first).reason, lifecycle.REPLACED)
        self.clock.advance(10)
        self.service.process()
        self.assertEqual(self.service.getResult(second), 2)
        self.assertEqual(self.service.add("work", 3, unique="x", startLater=True),
                         self.service.add("work", 4, unique="x"))

    def test_it_is_told_whether_one_was_made(self):
        first, made = self.service.addOrFind("work", 1, unique=True)
        self.assertTrue(made)
        self.assertEqual(self.service.addOrFind("work", 1, unique=True), (first, False))
        second, made = self.service.addOrFind("work", 1, unique=True, duplicate="replace")
        self.assertTrue(made and second != first)
        self.assertEqual([self.service.addOrFind("work", 1)[1],
                          self.service.addOrFind("work", 1, unique=False)[1]], [True] * 2)

    def test_an_input_that_cannot_be_stored_replaces_nothing(self):
        first = self.service.add("work", 1, unique="x")
        for add in (lambda: self.service.add(
                        "work", lambda: None, unique="x", duplicate="replace"),
                    lambda: self.service.addMany(
                        "work", [2, lambda: None], unique="x", duplicate="replace")):
            with self.assertRaises(BadInput):
                add()
        self.assertEqual(self.service.getStatus(first), lifecycle.QUEUED)
        self.assertEqual(len(self.service.jobs), 1)

    def test_a_removed_one_leaves_no_key(self):
        jobid = self.service.add("work", 1, unique=True, uniqueFor=3600)
        self.service.process()
        self.service.remove(jobid)
        key = unique.key_of("work", True, 1)
        self.assertIsNone(self.service.uniques.find(key))

    def test_what_has_no_stable_form_needs_a_key(self):
        thing = self.connection.root()["thing"] = Thing()
        transaction.savepoint()
        moment = datetime.datetime(2027, 1, 1)
        for input in thing, [moment], {"of": {3, 1}}, b"bytes":
            self.assertEqual(self.service.add("work", input, unique=True),
                             self.service.add("work", input, unique=True))
        with self.assertRaises(BadOption):
            self.service.add("work", Thing(), unique=True)

    def test_wrong_options_are_told_and_nothing_is_stored(self):
        for options in (dict(unique=""), dict(unique=7), dict(unique="x" * 1_001),
                        dict(uniqueFor=5), dict(unique=True, uniqueFor=-1),
                        dict(unique=True, duplicate="perhaps"),
                        dict(duplicate="replace")):
            with self.assertRaises(BadOption, msg=options):
                self.service.add("work", 1, **options)
        with self.assertRaises(BadOption):
            self.service.addCronJob("work", minute=(0,), unique=True)
        self.assertEqual(len(self.service.jobs), 0)


class WithWorkers(UniqueCase):

    def test_two_who_add_the_same_at_once_make_one(self):
        transaction.begin()
        self.service.jobs, self.service.uniques.find(b"0" * 16)
        with self.elsewhere() as service:
            theirs = service.add("work", 1, unique=True)
        self.service.add("work", 1, unique=True)
        with self.assertRaises(transaction.interfaces.TransientError):
            transaction.commit()
        transaction.abort()
        self.assertEqual(self.add("work", 1, unique=True), theirs)
        self.assertEqual(len(self.service.jobs), 1)

    def test_while_one_runs_it_counts_or_not_as_is_wished(self):
        gate = Gate(self)
        self.task("gate", gate)
        self.start()
        running = self.add("gate", 1, unique="x")
        gate.arrival()
        self.look()
        self.assertEqual(self.add("gate", 2, unique="x"), running)
        self.assertEqual(self.job(running).merged, 0)
        waiting = self.add("gate", 2, unique="x", duplicate="allow running")
        self.assertNotEqual(waiting, running)
        self.assertEqual(
            self.add("gate", 3, unique="x", duplicate="allow running"), waiting)
        gate.open()
        self.wait_status([running, waiting])
        self.wait_settled()

    def test_what_is_merged_is_seen_by_the_run(self):
        """The add is told 'there is one', while that one has just begun and has not
        seen what the adder is about to commit: the run meets a conflict and sees it."""
        seen, gate = [], Gate(self)
        self.connection.root()["order"] = Thing()
        self.connection.root()["order"].text = "old"
        transaction.commit()

        def read(input, context):
            if not seen:
                seen.append(context.service._p_jar.root()["order"].text)
                gate()
            else:
                seen.append(context.service._p_jar.root()["order"].text)
        self.task("read", read, wantsContext=True)
        jobid = self.add("read", None, unique="order")
        transaction.begin()
        self.connection.root()["order"].text = "new"
        self.assertEqual(self.service.add("read", None, unique="order"), jobid)
        with self.elsewhere() as service:
            service.startProcessing()
        gate.arrival()
        transaction.commit()  # the run has begun since, and was not seen here
        gate.open()
        self.wait_status(jobid)
        self.assertEqual(seen, ["old", "new"])


if __name__ == "__main__":
    unittest.main()
