"""What was done is counted while it is done, and told without looking at jobs."""
import unittest

import transaction

from lovely.remotetask.errors import BadOption, TaskError
from lovely.remotetask.store.tallies import HOUR, MINUTE, OTHER, TASKS_KEPT, Tallies
from lovely.remotetask.testing import simulated_clock, wait_for, wait_for_job
from lovely.remotetask.tests.support import ServiceCase

NOON = 1_800_000_000_000_000 // HOUR * HOUR


def done(task="mail", end="completed", conflicts=0, waited=20_000, ran=300_000):
    return task, end, conflicts, waited, ran


class Sums(unittest.TestCase):

    def setUp(self):
        self.tallies = Tallies()

    def steps(self, size=MINUTE, count=3, now=NOON + 2 * MINUTE):
        return list(self.tallies.steps(size, count, now))

    def test_a_minute_is_told_while_it_goes_on_and_after_it(self):
        self.tallies.note("one", [done(), done(end="error")], NOON)
        self.tallies.note("two", [done()], NOON)
        self.tallies.note("one", [done(end="retried", conflicts=2)], NOON + MINUTE)
        found = self.steps()
        self.assertEqual([moment for moment, _ in found],
                         [NOON, NOON + MINUTE, NOON + 2 * MINUTE])
        self.assertEqual(found[0][1], {"mail": (2, 1, 0, 0, 0, 60_000, 900_000)})
        self.assertEqual(found[1][1], {"mail": (0, 0, 0, 1, 2, 20_000, 300_000)})
        self.assertEqual(found[2][1], {})

    def test_hours_are_the_sums_of_their_minutes(self):
        for minute in range(61):
            self.tallies.note("one", [done()], NOON + minute * MINUTE)
        found = self.steps(HOUR, 2, NOON + HOUR)
        self.assertEqual([rows["mail"][0] for _, rows in found], [60, 1])

    def test_how_long_they_took_is_told_apart(self):
        self.tallies.note("one", [done(waited=0, ran=10_000), done(ran=10_001),
                                  done(ran=10**12)], NOON)
        sums = self.tallies.sums()
        self.assertEqual(sums.ran["mail"], (1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1))
        self.assertEqual(sums.waited["mail"], (1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0))

    def test_sums_outlive_their_worker_and_what_is_old(self):
        self.tallies.note("one", [done()], NOON)
        self.tallies.note("two", [done()], NOON)
        before = self.tallies.sums().sums
        self.tallies.prune(NOON + 400 * HOUR, {"two"})
        self.assertEqual(list(self.tallies.sheets), ["two"])
        self.assertEqual(self.tallies.sums().sums, before)
        self.tallies.note("two", [done()], NOON + 400 * HOUR)
        self.tallies.prune(NOON + 400 * HOUR, {"two"})
        self.assertEqual(len(self.tallies.minutes) + len(self.tallies.hours), 0)

    def test_many_tasks_are_counted_together(self):
        for number in range(TASKS_KEPT + 5):
            self.tallies.note("one", [done(f"task {number}")], NOON)
        sums = self.tallies.sums().sums
        self.assertEqual(len(sums), TASKS_KEPT + 1)
        self.assertEqual(sums[OTHER][0], 5)


class OfAService(ServiceCase):

    def test_what_threads_have_done_is_told(self):
        self.task("good", lambda input: input)

        @self.task("bad", retries=0)
        def bad(input):
            raise TaskError("no")

        self.start()
        jobs = [self.add("good"), self.add("good"), self.add("bad")]
        for jobid in jobs:
            wait_for_job(self.service, jobid, ("completed", "error"))
        totals = wait_for(self.service, lambda service: sum(
            each["completed"] + each["error"]
            for each in service.totals().values()) == 3 and service.totals())
        self.assertEqual(totals["good"]["completed"], 2)
        self.assertEqual((totals["bad"]["completed"], totals["bad"]["error"]), (0, 1))
        self.assertEqual(sum(totals["good"]["ranSpread"]), 2)
        steps = self.service.statistics(count=5)
        self.assertEqual(len(steps), 5)
        self.assertEqual(sum(step["tasks"].get("good", {}).get("completed", 0)
                             for step in steps), 2)

    def test_what_is_run_by_hand_is_told_too(self):
        self.task("good", lambda input: input)
        with simulated_clock() as clock:
            self.add("good")
            clock.advance(30)
            self.service.process()
            transaction.commit()
            self.assertEqual(self.service.totals()["good"]["waited"], 30)
            self.assertEqual(len(self.service.statistics("hour", 24)), 24)

    def test_there_are_no_other_steps(self):
        with self.assertRaises(BadOption):
            self.service.statistics("day")


class Once(ServiceCase):

    def setUp(self):
        super().setUp()
        self.task("good", lambda input: input)

    def test_the_same_key_makes_one_job(self):
        first = self.service.addOnce("k", "good", {"a": 1}, title="x")
        transaction.commit()
        self.reopen()
        self.assertEqual(self.service.addOnce("k", "good", {"a": 1}, title="x"), first)
        self.assertEqual(sum(self.service.counts().values()), 1)

    def test_a_key_is_not_for_something_else(self):
        self.service.addOnce("k", "good", 1)
        with self.assertRaisesRegex(ValueError, "used for another job"):
            self.service.addOnce("k", "good", 2)

    def test_a_key_is_forgotten_in_time(self):
        with simulated_clock() as clock:
            first = self.service.addOnce("k", "good")
            clock.advance(24 * 3600)
            self.assertEqual(self.service.addOnce("k", "good"), first)
            clock.advance(12 * 3600)
            self.assertNotEqual(self.service.addOnce("k", "good"), first)
            self.assertLessEqual(len(self.service.keys.spans), 7)

    def test_two_who_use_it_at_once_make_one_job(self):
        self.service.addOnce("other", "good")
        transaction.commit()
        first = self.service.addOnce("k", "good")
        with self.elsewhere() as service:
            second = service.addOnce("k", "good")
        with self.assertRaises(transaction.interfaces.TransientError):
            transaction.commit()
        transaction.abort()
        self.assertEqual(self.service.addOnce("k", "good"), second)
        self.assertNotEqual(first, second)

    def test_keys_are_texts(self):
        for key in (None, "", "k" * 201, 7):
            with self.assertRaises(BadOption):
                self.service.addOnce(key, "good")
