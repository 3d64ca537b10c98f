"""What is run by hand keeps to the limits, beside workers and beside others."""
import itertools
import threading
import unittest
from unittest import mock

import transaction
from transaction.interfaces import TransientError
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage

from lovely.remotetask import clock
from lovely.remotetask.clerk import Clerk, Want
from lovely.remotetask.errors import LimitReached
from lovely.remotetask.filters import Filter
from lovely.remotetask.processor import SimpleProcessor
from lovely.remotetask.retry import RetryPolicy
from lovely.remotetask.runtime import rescue
from lovely.remotetask.service import TOUCHED
from lovely.remotetask.testing import simulated_clock
from lovely.remotetask.tests.support import ServiceCase, effect
from lovely.remotetask.tests.test_interleavings import Connected

EARLY = 1_800_000_000  # the clock stands still


class HandCase(ServiceCase):

    def setUp(self):
        super().setUp()
        simulated = simulated_clock(EARLY)
        self.clock = simulated.__enter__()
        self.addCleanup(simulated.__exit__, None, None, None)
        self.task("echo", lambda input: input)
        self.task("one", lambda input: input, concurrency=1)
        self.task("rated", lambda input: input, rate="2/10s")

    def in_use(self):
        return list(self.service.caps.items())

    def claim(self, service=None, name="worker", tasks=None):
        """What a worker takes in one look."""
        rescue.living.add(name)
        self.addCleanup(rescue.living.discard, name)
        filter = Filter() if tasks is None else Filter(tasks=frozenset(tasks))
        return (service or self.service).dispatch(
            name, want=Want(5, 5, filter=filter)).claims

    def leave(self, claims, name="worker"):
        self.service.handBack(name, unstarted=claims, close=True)
        transaction.commit()


class Asking(HandCase):
    """One after the other."""

    def test_a_job_at_its_limit_is_passed_over(self):
        held, waits = self.service.addMany("one", range(2))
        free = self.service.add("echo", priority=99)
        claims = self.claim(tasks=["one"])
        self.assertEqual([claim.id for claim in claims], [held])
        self.assertTrue(self.service.processNext())
        self.assertEqual(self.service.getStatus(free), "completed")
        self.assertFalse(self.service.processNext())
        self.assertEqual(self.service.getStatus(waits), "queued")
        self.leave(claims)
        self.service.process()
        self.assertEqual([self.service.getStatus(id) for id in (held, waits)],
                         ["completed"] * 2)
        self.assertEqual(self.in_use(), [])

    def test_a_named_job_at_its_limit_is_refused(self):
        held, waits = self.service.addMany("one", range(2))
        claims = self.claim()
        for verb in (lambda: self.service.processNext(jobid=waits),
                     lambda: self.service.claimByHand(waits)):
            with self.assertRaises(LimitReached) as caught:
                verb()
            self.assertEqual((caught.exception.limit, caught.exception.used),
                             ("task:one", 1))
            self.assertIn("run the job later", str(caught.exception))
        self.assertEqual(self.service.getStatus(waits), "queued")
        self.leave(claims)
        self.assertTrue(self.service.processNext(jobid=waits))
        self.assertEqual(self.service.getStatus(waits), "completed")

    def test_a_named_job_is_not_begun_before_its_rate_admits_it(self):
        jobs = self.service.addMany("rated", range(3))
        for id in jobs[:2]:
            self.assertTrue(self.service.processNext(jobid=id))
        with self.assertRaises(LimitReached) as caught:
            self.service.processNext(jobid=jobs[2])
        self.assertEqual(caught.exception.limit, "task:rated")
        self.assertFalse(self.service.processNext())
        self.clock.advance(11)
        self.assertTrue(self.service.processNext(jobid=jobs[2]))
        self.assertEqual(self.service.getStatus(jobs[2]), "completed")

    def test_a_worker_waits_for_a_rate_that_is_used_up_by_hand(self):
        jobs = self.service.addMany("rated", range(3))
        for id in jobs[:2]:
            self.service.processNext(jobid=id)
        self.assertEqual(self.claim(), [])

    def test_each_attempt_counts_as_a_start(self):
        begun = []

        @self.task("breaks", rate="2/10s", retryPolicy=RetryPolicy(5, 0))
        def breaks(input):
            begun.append(input)
            raise ValueError("again")

        jobid = self.service.add("breaks")
        self.service.process()
        self.assertEqual(len(begun), 2)
        self.assertEqual(self.service.getStatus(jobid), "queued")
        self.clock.advance(11)
        self.service.process()
        self.assertEqual(len(begun), 4)

    def test_a_task_that_runs_others_by_hand_holds_its_own_limits(self):
        """Neither its own lock nor the slot of its task is free for what it runs."""
        tried = []

        @self.task("outer", wantsContext=True, concurrency=2)
        def outer(input, context):
            service = context.service
            tried.append(service.limitsInUse()["lock:x"][0])
            with self.assertRaises(LimitReached):
                service.processNext(jobid=same)
            while service.processNext():
                tried.append(True)

        self.service.add("outer", locks=["x"], priority=1)
        same = self.service.add("echo", locks=["x"])
        other = self.service.add("echo", locks=["y"])
        self.assertTrue(self.service.processNext())
        self.assertEqual(tried, [1, True])
        self.assertEqual([self.service.getStatus(id) for id in (same, other)],
                         ["queued", "completed"])
        self.assertEqual(self.in_use(), [])
        self.service.process()
        self.assertEqual(self.service.getStatus(same), "completed")
        self.assertEqual(self.service.check(), [])

    def test_a_task_that_one_may_run_twice_may_run_one_more_inside(self):
        depths = []

        @self.task("nested", wantsContext=True, concurrency=2)
        def nested(input, context):
            depths.append(context.service.limitsInUse()["task:nested"][0])
            while context.service.processNext():
                pass

        self.service.addMany("nested", range(3))
        self.service.process()
        self.assertEqual(depths, [1, 2, 2])
        self.assertEqual(self.in_use(), [])

    def test_a_task_that_ends_badly_keeps_no_slot(self):
        @self.task("ends", concurrency=1)
        def ends(input):
            raise KeyboardInterrupt

        self.service.add("ends")
        with self.assertRaises(KeyboardInterrupt):
            self.service.processNext()
        self.assertEqual(self.in_use(), [])
        transaction.abort()

    def test_what_was_claimed_by_hand_has_its_slot_already(self):
        first, second = self.service.addMany("one", range(2))
        self.assertEqual(self.service.claimNextJob(), first)
        self.assertTrue(self.service.processNext(jobid=first))
        self.assertTrue(self.service.processNext(jobid=second))
        self.assertEqual(self.in_use(), [])

    def test_a_processor_claims_a_named_job_with_its_slot(self):
        """Its attempt is a transaction of its own: others see the slot meanwhile."""
        seen = []

        @self.task("looks", wantsContext=True)
        def looks(input, context):
            with self.elsewhere() as service:
                seen.append(service.limitsInUse())
                seen.append([claim.id for claim in self.claim(service)])

        first, second = (self.service.add("looks", locks=["x"]) for _ in range(2))
        transaction.commit()
        processor = SimpleProcessor(self.db, ["tasks"])
        self.assertTrue(processor.processNext(first))
        self.assertEqual(seen, [{"lock:x": (1, None, 0)}, []])
        self.look()
        claims = self.claim()
        self.assertEqual([claim.id for claim in claims], [second])
        transaction.commit()
        self.assertFalse(processor.processNext(second))  # it is in the worker's hand
        self.leave(claims)
        self.assertTrue(processor.processNext(second))
        self.look()
        self.assertEqual(self.in_use(), [])
        self.assertEqual(self.service.getStatus(second), "completed")

    def test_what_was_touched_is_forgotten_a_day_later(self):
        """There may be as many locks as there are jobs."""
        self.service.add("echo", locks=["x", "y"])
        self.service.process()
        self.assertEqual(self.in_use(), [])
        self.assertEqual(len(self.service.caps._caps), 2)
        self.service.prune()
        self.assertEqual(len(self.service.caps._caps), 2)
        self.clock.advance(TOUCHED / 1_000_000 + 1)
        held = self.service.add("echo", locks=["x"])
        claims = self.claim()
        self.assertEqual([claim.id for claim in claims], [held])
        self.service.prune()
        self.assertEqual([name for name in self.service.caps._caps], ["lock:x"])
        self.assertEqual(self.service.limitsInUse(), {"lock:x": (1, None, 0)})
        self.leave(claims)
        self.service.prune()
        self.assertEqual(len(self.service.caps._caps), 0)


class AtOnce(HandCase):
    """Two transactions of which neither sees the other, in shards of their own."""

    def setUp(self):
        super().setUp()
        for task in "ab":
            self.task(task, effect, wantsContext=True)
        self.service.add("one", locks=["held"])
        self.claims = self.claim(name="other")  # so that no tree is ever empty
        for name in "worker", "other":
            self.service.attend(name, None, 1)
        self.service.spreadOut()
        self.first = self.service.add("a", locks=["k", "x"], priority=1)
        self.second = self.service.add("b", locks=["x"], priority=2)
        self.service.add("echo")
        for name in "by-hand-there", rescue.BY_HAND:  # there are counts of both
            with mock.patch.object(rescue, "BY_HAND", name):
                self.service.processNext(jobid=self.service.add("echo"))
        self.settle()
        self.assertEqual(len(self.claims), 1)
        self.assertNotEqual(*(self.service.shards.of(self.job(id)).number
                              for id in (self.first, self.second)))

    def settle(self):
        """No slip is left on which two could meet."""
        with Clerk(self.service, clock.micros()) as books:
            books.empty_inbox(100)
        transaction.commit()

    def close_database(self):
        transaction.abort()
        self.leave(self.claims, "other")
        self.leave([])
        return super().close_database()

    def play(self, order, *acts):
        """Each acts and commits in its turn; the numbers of those that could."""
        db = DB(DemoStorage(base=self.db.storage, close_base_on_close=False))
        hands, begun, through = [Connected(db) for _ in acts], set(), []
        try:
            for hand in hands:
                hand.begin()
            for number in order:
                hand = hands[number]
                if number not in begun:
                    begun.add(number)
                    acts[number](hand.service)
                    continue
                try:
                    hand.manager.commit()
                    through.append(number)
                except TransientError:
                    pass
        finally:
            for hand in hands:
                hand.close()
            db.close()
        return through

    def run_first(self, service):
        self.assertTrue(service.processNext(jobid=self.first))

    def run_next(self, service):
        self.assertTrue(service.processNext())
        self.assertEqual(service.jobs[self.first].recordedStatus, "completed")

    def run_second(self, service):
        """As another process does: its counts are its own."""
        with mock.patch.object(rescue, "BY_HAND", "by-hand-there"):
            self.assertTrue(service.processNext(jobid=self.second))

    def claim_second(self, service):
        self.assertEqual([claim.id for claim in self.claim(service, tasks="b")],
                         [self.second])

    def assert_one_of_two(self, *acts):
        for order in (0, 1, 0, 1), (0, 1, 1, 0):
            with self.subTest(order=order):
                self.assertEqual(self.play(order, *acts), [order[2]])

    def test_of_a_worker_and_who_runs_the_next_job_one_is_told_to_look_again(self):
        self.assert_one_of_two(self.run_next, self.claim_second)

    def test_of_a_worker_and_who_runs_a_named_job_one_is_told_to_look_again(self):
        self.assert_one_of_two(self.run_first, self.claim_second)

    def test_of_two_by_hand_one_is_told_to_look_again(self):
        self.assert_one_of_two(self.run_first, self.run_second)

    def test_and_so_where_the_lock_was_used_before(self):
        """The clock stands still: the entry is there, and changes nevertheless."""
        before = self.service.add("echo", locks=["x"])
        self.service.processNext(jobid=before)
        self.settle()
        self.assert_one_of_two(self.run_next, self.claim_second)
        self.assert_one_of_two(self.run_first, self.run_second)

    def test_where_the_locks_differ_both_go_on(self):
        """Else the other tests would show nothing."""
        other = self.service.add("b", locks=["z"])
        self.settle()

        def claim_other(service):
            with Clerk(service, clock.micros()) as books:
                lease = service.leases["worker"]
                filter = Filter(tasks=frozenset("b"), lowest=10)
                claim, = books.claim(lease, Want(1, 1, filter=filter))
                self.assertEqual(claim.id, other)

        for order in (0, 1, 0, 1), (0, 1, 1, 0):
            with self.subTest(order=order):
                self.assertEqual(self.play(order, self.run_first, claim_other),
                                 list(order[2:]))


class BesideAWorker(ServiceCase):
    """Threads that run jobs by hand, over conflicts, beside a worker with threads."""

    def test_no_two_attempts_that_stand_had_the_lock_at_once(self):
        ticks, errors = itertools.count(), []

        @self.task("work", wantsContext=True)
        def work(input, context):
            begin = next(ticks)
            threading.Event().wait(0.001)
            context.service._p_jar.root()["effects"][context.jobid] = (begin, next(ticks))

        jobs = [self.service.add("work", locks=["x"]) for _ in range(24)]
        transaction.commit()

        def by_hand():
            hand = Connected(self.db)
            try:
                while True:
                    hand.begin()
                    try:
                        found = hand.service.processNext()
                        hand.manager.commit()
                    except TransientError:
                        hand.manager.abort()
                        continue
                    if not found and not hand.begin().counts()["queued"]:
                        return
            except Exception as error:
                errors.append(error)
            finally:
                hand.close()

        self.service.startProcessing(maxThreads=2)
        threads = [threading.Thread(target=by_hand, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        self.wait_status(jobs)
        self.assertEqual(errors, [])
        spans = sorted(self.effects().values())
        self.assertEqual(len(spans), len(jobs))
        for (_, end), (begin, _) in itertools.pairwise(spans):
            self.assertLess(end, begin)


if __name__ == "__main__":
    unittest.main()
