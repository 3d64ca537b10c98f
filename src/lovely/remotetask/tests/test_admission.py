"""Adds that are refused where a limit is reached."""
import unittest

import transaction
from ZODB.POSException import ConflictError

from lovely.remotetask import lifecycle
from lovely.remotetask.errors import BadOption, LimitReached
from lovely.remotetask.testing import simulated_clock
from lovely.remotetask.tests.support import Gate, ServiceCase


class AdmissionCase(ServiceCase):

    def setUp(self):
        super().setUp()
        self.task("work", lambda input: input, concurrency=2)
        self.task("free", lambda input: input)

    def let_in(self, task="work", **options):
        return self.service.add(task, 1, **{"atLimit": "refuse", **options})


class ByHand(AdmissionCase):

    def setUp(self):
        super().setUp()
        simulated = simulated_clock(1_800_000_000)
        self.clock = simulated.__enter__()
        self.addCleanup(simulated.__exit__, None, None, None)

    def test_what_is_beyond_the_limit_is_refused_and_not_stored(self):
        self.let_in(), self.let_in()
        with self.assertRaises(LimitReached) as caught:
            self.let_in()
        self.assertEqual((caught.exception.limit, caught.exception.used),
                         ("task:work", 2))
        self.assertIn("the limit task:work is reached: 2 of 2", str(caught.exception))
        self.assertEqual(len(self.service.jobs), 2)

    def test_others_wait_as_ever_and_what_waits_so_is_not_counted(self):
        for _ in range(5):
            self.service.add("work", 1)
        self.let_in(), self.let_in()
        self.assertEqual(self.service.counts()[lifecycle.QUEUED], 7)

    def test_one_that_has_ended_makes_room(self):
        first = self.let_in()
        self.let_in()
        self.service.cancel(first)
        third = self.let_in()
        self.assertRaises(LimitReached, self.let_in)
        self.service.process()
        self.assertEqual(self.service.getStatus(third), lifecycle.COMPLETED)
        self.let_in(), self.let_in()

    def test_one_that_waits_for_its_time_has_its_place(self):
        self.let_in(delay=60), self.let_in(startLater=True)
        self.assertRaises(LimitReached, self.let_in)

    def test_many_are_let_in_together_or_not_at_all(self):
        self.assertRaises(LimitReached, self.service.addMany, "work", [1, 2, 3],
                          atLimit="refuse")
        self.assertEqual(len(self.service.jobs), 0)
        self.assertEqual(len(self.service.addMany("work", [1, 2], atLimit="refuse")), 2)

    def test_a_lock_is_a_limit(self):
        self.let_in("free", locks=["a"])
        with self.assertRaises(LimitReached) as caught:
            self.let_in("work", locks={"a": 1, "b": 1})
        self.assertEqual(caught.exception.limit, "lock:a")
        # Who was refused by one of its limits took no place of the others.
        self.let_in("work", locks=["b"]), self.let_in()

    def test_a_rate_is_a_limit(self):
        self.service.setLimit("task:free", rate="2/min")
        self.let_in("free")
        self.service.process()
        self.let_in("free")
        self.assertRaises(LimitReached, self.let_in, "free")
        self.service.process()
        self.assertRaises(LimitReached, self.let_in, "free")
        self.clock.advance(62)
        self.let_in("free")

    def test_where_there_is_no_limit_nobody_is_refused(self):
        self.assertEqual(len({self.let_in("free") for _ in range(20)}), 20)

    def test_one_that_is_there_already_is_found_also_at_the_limit(self):
        first = self.let_in(unique=True)
        self.service.add("work", 2, atLimit="refuse")
        self.assertEqual(self.let_in(unique=True), first)

    def test_a_removed_job_is_forgotten(self):
        id = self.let_in(locks=["a"])
        self.service.process()
        self.service.remove(id)
        self.assertEqual({name: self.service.caps.admitted(name) for name in (
            "task:work", "lock:a")}, {"task:work": (), "lock:a": ()})

    def test_what_means_nothing_is_told(self):
        self.assertRaises(BadOption, self.let_in, atLimit="explode")
        self.assertRaises(BadOption, self.let_in, unique=True, duplicate="replace")
        self.assertRaises(BadOption, self.service.addCronJob, "work", minute=(0,),
                          atLimit="refuse")


class AtOnce(AdmissionCase):

    def test_of_two_who_take_the_last_place_one_is_told_to_look_again(self):
        self.let_in()
        transaction.commit()
        manager = transaction.TransactionManager()
        connection = self.db.open(manager)
        self.addCleanup(connection.close)
        self.addCleanup(manager.abort)
        manager.begin()
        there = connection.root()["tasks"]
        there.add("work", 1, atLimit="refuse")
        self.let_in()
        transaction.commit()
        self.assertRaises(ConflictError, manager.commit)
        manager.abort()
        manager.begin()
        self.assertRaises(LimitReached, there.add, "work", 1, atLimit="refuse")

    def test_a_job_that_runs_has_its_place_whoever_added_it(self):
        gate = Gate(self)
        self.task("gated", gate, concurrency=1)
        first = self.add("gated", 1)
        self.start()
        gate.arrival()
        self.look()
        self.assertRaises(LimitReached, self.let_in, "gated")
        gate.open()
        self.wait_status([first])
        self.wait_for(lambda: self.look().limitsInUse().get("task:gated") is None,
                      "the slot to be free")
        self.let_in("gated")


if __name__ == "__main__":
    unittest.main()
