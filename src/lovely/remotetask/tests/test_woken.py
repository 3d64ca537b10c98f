"""Many lines wait for one limit: some at a time take part again, and none is forgotten."""
import unittest
from unittest import mock

import transaction

from lovely.remotetask import clerk, clock
from lovely.remotetask.clerk import Clerk, Want
from lovely.remotetask.filters import Filter
from lovely.remotetask.runtime import rescue
from lovely.remotetask.runtime.context import JobContext
from lovely.remotetask.tests.support import ServiceCase

MANY = 120


class Woken(ServiceCase):

    def setUp(self):
        super().setUp()
        self.task("capped", lambda input: input, concurrency=1)
        self.task("free", lambda input: input)
        self.caps = self.service.caps
        for name in "one", "two":
            rescue.living.add(name)
            self.addCleanup(rescue.living.discard, name)
        few = mock.patch.multiple(clerk, PARKED=20, OPENED=1)
        few.start()
        self.addCleanup(few.stop)

    def close_database(self):
        for lease in list(self.service.leases.values()):
            self.service.handBack(lease.name, close=True)
        transaction.commit()
        return super().close_database()

    def look(self, name, wanted=1, finished=(), **options):
        round = self.service.dispatch(
            name, want=Want(wanted, wanted, **options), finished=finished,
            fold=bool(finished), known={claim.id for claim in self.known(name)})
        transaction.commit()
        self.assertEqual(self.service.check(), [])
        return round

    def known(self, name):
        lease = self.service.leases.get(name)
        held = {} if lease is None else lease.held
        return [clerk.Claim(id, token, "", (0, 0, 0)) for id, (token, _) in held.items()]

    def run_it(self, claim):
        outcome = self.service.runJob(claim, JobContext(claim.id), "one")
        transaction.commit()
        return outcome

    def parked(self):
        return sum(len(shard.queue.parked) for shard in self.service.shards)

    def add_keyed(self, number=MANY, task="capped"):
        jobs = [self.service.add(task, locks=[f"key-{each}"]) for each in range(number)]
        while self.service.shards[0].queue.inbox:
            with Clerk(self.service, clock.micros()) as books:
                books.empty_inbox(1000)
        transaction.commit()
        return jobs

    def hold(self, name):
        """Somebody holds the only slot of a limit."""
        self.service.leases.open("two", clock.micros()).take_slots(name, 1)
        self.caps.take(name, "two", 1)
        transaction.commit()

    def let_go(self, name):
        self.caps.take(name, "two", 0)
        self.service.leases["two"].take_slots(name, 0)
        with Clerk(self.service, clock.micros()) as books:
            books.wake(name)
        transaction.commit()


    def test_a_look_sets_no_more_than_some_aside(self):
        self.add_keyed()
        free = self.service.add("free")
        transaction.commit()
        self.hold("task:capped")
        before, looks = 0, 0
        while not (round := self.look("one")).claims:
            self.assertTrue(round.more)
            self.assertLessEqual(self.parked() - before, 20)
            before, looks = self.parked(), looks + 1
        self.assertEqual(looks, MANY // 20)
        self.assertEqual([claim.id for claim in round.claims], [free])
        self.assertEqual((self.parked(), self.caps.number_waiting("task:capped")),
                         (MANY, MANY))

    def park(self):
        while self.look("one").more:
            pass
        self.assertEqual(self.look("one").claims, [])

    def test_of_many_that_wait_few_take_part_again_the_oldest_first(self):
        jobs = self.add_keyed()
        self.hold("task:capped")
        self.park()
        self.let_go("task:capped")
        self.assertEqual(self.parked(), MANY - 2)  # OPENED, and one for the slot
        claim, = self.look("one").claims
        self.assertEqual(claim.id, jobs[0])

    def test_a_look_at_what_is_parked_loads_few_objects(self):
        self.add_keyed()
        self.hold("task:capped")
        self.park()
        with self.elsewhere() as service:
            jar = service._p_jar
            jar.cacheMinimize()
            jar.getTransferCounts(True)
            round = service.dispatch("one", want=Want(1, 1))
            self.assertEqual(round.claims, [])
            self.assertLess(jar.getTransferCounts()[0], 60)

    def test_all_of_them_run_one_after_the_other(self):
        jobs, done = self.add_keyed(), []
        finished = ()
        while len(done) < len(jobs):
            round = self.look("one", finished=finished)
            for claim in round.claims:
                done.append(claim.id)
            finished = [self.run_it(claim) for claim in round.claims]
        self.assertEqual(done, jobs)

    def test_who_cannot_use_the_slot_wakes_the_next(self):
        first, second = self.add_keyed(2)
        with mock.patch.object(clerk, "OPENED", 0):
            self.hold("task:capped")
            self.hold("lock:key-0")
            self.park()
            self.let_go("task:capped")
            round = self.look("one")
            self.assertTrue(round.claims or round.more)
            claims = round.claims or self.look("one").claims
        self.assertEqual([claim.id for claim in claims], [second])
        self.let_go("lock:key-0")
        self.assertEqual(self.service.check(), [])

    def test_if_the_woken_one_is_cancelled_the_next_is_woken(self):
        first, second = self.add_keyed(2)
        with mock.patch.object(clerk, "OPENED", 0):
            self.hold("task:capped")
            self.park()
            self.let_go("task:capped")
            self.assertEqual(self.parked(), 1)
            self.service.cancel(first)
            claim, = self.look("one").claims
        self.assertEqual(claim.id, second)

    def test_if_the_woken_one_is_for_other_workers_the_next_is_woken(self):
        with mock.patch.object(clerk, "OPENED", 0):
            self.service.add("capped", locks=["a"], tags=["others"])
            mine = self.service.add("capped", locks=["b"], tags=["mine"])
            self.service.dispatch("one")
            transaction.commit()
            self.hold("task:capped")
            self.park()
            self.let_go("task:capped")
            filter = Filter(tags=frozenset(["mine"]))
            round = self.look("one", filter=filter, passed={})
            claims = round.claims or self.look("one", filter=filter, passed={}).claims
        self.assertEqual([claim.id for claim in claims], [mine])

    def test_a_more_urgent_job_finds_its_place_among_those_that_wait(self):
        self.add_keyed()
        self.hold("task:capped")
        self.park()
        urgent = self.service.add("capped", locks=[f"key-{MANY - 1}"], priority=1)
        transaction.commit()
        self.park()
        self.let_go("task:capped")
        claim, = self.look("one").claims
        self.assertEqual(claim.id, urgent)

    def test_a_limit_that_was_taken_away_or_widened_is_seen(self):
        self.add_keyed()
        self.hold("task:capped")
        self.park()
        self.service.setLimit("task:capped", 20)
        self.assertGreaterEqual(MANY - self.parked(), 19)
        self.service._v_limits = None
        self.assertEqual(self.service.check(), [])
        self.park_what_is_open()
        self.task("capped", lambda input: input)  # declares none any more
        self.service.setLimit("task:capped")
        self.service._v_limits = None
        for _ in range(MANY):
            self.service.dispatch("one", rescuing=True)
        self.assertEqual(self.parked(), 0)

    def park_what_is_open(self):
        self.service.setLimit("task:capped", 1)
        self.park()


if __name__ == "__main__":
    unittest.main()
