"""Interleavings of clerks and workers that once lost a job, or held one up."""
import threading
import unittest
from collections import Counter
from unittest import mock

import transaction
from transaction.interfaces import TransientError

from lovely.remotetask import audit, clerk, clock, lifecycle
from lovely.remotetask.clerk import Claim, Clerk, Want
from lovely.remotetask.filters import Filter
from lovely.remotetask.runtime import dispatcher, rescue
from lovely.remotetask.runtime.publication import Outcome
from lovely.remotetask.store.keys import SPAN
from lovely.remotetask.testing import simulated_clock
from lovely.remotetask.tests.support import Gate, ServiceCase
from lovely.remotetask.tests.test_interleavings import Connected


class CoreCase(ServiceCase):

    def setUp(self):
        super().setUp()
        self.task("t", lambda input: input)

    def hand(self):
        each = Connected(self.db)
        self.addCleanup(each.close)
        return each

    def worker(self, name):
        """A hand that is entered as a worker which lives."""
        rescue.living.add(name)
        self.addCleanup(rescue.living.discard, name)
        each = self.hand()
        each.do("attend", name, None, 1)
        return each

    def leave(self, hand, name):
        hand.do("handBack", name, close=True)

    def stop_clock(self):
        simulated = simulated_clock(1_800_000_000)
        found = simulated.__enter__()
        self.addCleanup(simulated.__exit__, None, None, None)
        return found

    def settle(self, hand, *ids):
        with Clerk(hand.service, clock.micros()) as books:
            for id in ids:
                books.look_at(id)


class Lines(CoreCase):

    def test_a_line_with_two_heads_keeps_one(self):
        self.task("urgent", lambda input: None)
        self.task("late", lambda input: None)
        self.service.add("t")
        self.service.process()  # so that the line is there
        first = self.service.add("urgent", priority=1)
        last = self.service.add("late", priority=99)
        one, two = self.service.add("t"), self.service.add("t")
        transaction.commit()
        x, y = self.worker("x"), self.worker("y")
        x.begin()
        self.settle(x, first, last)
        x.manager.commit()
        for each, id in ((x, one), (y, two)):
            each.begin()
            self.settle(each, id)
        x.manager.commit(), y.manager.commit()
        # One mends what it does not take, the other takes what it finds.
        for each, name, tasks in ((x, "x", {"other"}), (y, "y", {"t", "late"})):
            each.begin()
            with Clerk(each.service, clock.micros()) as books:
                books.claim(each.service.leases[name],
                            Want(1, 1, filter=Filter(tasks=frozenset(tasks))))
        x.manager.commit()
        self.assertRaises(TransientError, y.manager.commit)
        y.manager.abort()
        found = y.do("dispatch", "y", fold=True, want=Want(9, 9))
        self.assertEqual({claim.id for claim in found.claims}, {first, one, two, last})
        self.leave(x, "x"), self.leave(y, "y")

    def test_a_job_changed_beside_the_clerk_who_settles_it_is_in_line_once(self):
        job = self.add("t", priority=5)
        a, b = self.hand(), self.hand()
        a.begin(), b.begin()
        b.service.changeJob(job, priority=1)
        self.settle(a, job)
        a.manager.commit()
        self.assertRaises(TransientError, b.manager.commit)
        b.manager.abort()

    def test_what_stands_behind_many_of_others_is_found(self):
        with mock.patch.object(clerk, "LOOKED_AT", 10), \
                mock.patch.object(dispatcher, "PASSED_SECONDS", 1.0):
            self.service.addMany("t", range(100), tags=["day"])
            mine = self.service.add("t", tags=["night"])
            with Clerk(self.service, clock.micros()) as books:
                books.empty_inbox(1_000)
            self.service.processorArguments = {"waitTime": 3_600.0, "tags": ["night"]}
            transaction.commit()
            self.start()
            self.wait_status(mine)

    def test_what_is_at_work_in_nobodys_hand_goes_back(self):
        job = self.add("t")
        w = self.worker("w")
        claim, = w.do("dispatch", "w", want=Want(1, 1)).claims
        w.begin().jobs[job].start(1)
        w.manager.commit()
        w.do("dispatch", "w", finished=[Outcome(job, claim.token, None)], fold=True)
        self.assertEqual(self.look().check(), [])
        self.assertEqual(self.service.getStatus(job), lifecycle.QUEUED)
        self.leave(w, "w")

    def test_an_outcome_of_another_service_at_this_place_stops_nobody(self):
        w = self.worker("w")
        w.do("dispatch", "w", fold=True, want=Want(1, 1), finished=[
            Outcome(77, 1, lifecycle.COMPLETED, 1, True, shard=5)])
        self.leave(w, "w")

    def test_a_retry_that_was_cancelled_leaves_the_schedule(self):
        job = self.add("t", startBefore=3_600)
        w = self.hand()
        w.begin()
        self.settle(w, job)
        w.manager.commit()
        self.look()
        self.service.cancel(job), self.service.retry(job), self.service.cancel(job)
        transaction.commit()
        w.begin()
        self.settle(w, job)
        w.manager.commit()
        self.assertEqual(list(self.look().shards[0].scheduled.items()), [])


class Limits(CoreCase):

    def test_jobs_go_on_when_their_limit_is_removed(self):
        gate = Gate(self)
        self.task("gated", gate)
        self.service.setLimit("task:gated", 1)
        transaction.commit()
        self.start()
        first = self.add("gated")
        gate.arrival()
        gate.open()
        self.wait_status(first)
        self.service.setLimit("task:gated")
        self.wait_status(self.add("gated"))

    def test_a_narrower_limit_is_obeyed_beside_a_backlog(self):
        self.service.setLimit("task:t", 3)
        self.service.addMany("t", range(60))
        transaction.commit()
        w, ahead = self.worker("w"), []

        def look(finished=(), free=0, wanted=0):
            found = w.do(
                "dispatch", "w", finished=finished, fold=True, want=Want(
                    wanted, free, 10, Counter(claim.line for claim in ahead)),
                known={claim.id for claim in ahead})
            ahead.extend(found.claims)
            return found.slots

        self.assertEqual(look(free=3, wanted=10), {"task:t": 3})
        w.do("setLimit", "task:t", 1)
        claim = ahead.pop(0)
        w.do("cancel", claim.id)
        done = Outcome.of(w.begin().jobs[claim.id], claim.token)
        w.manager.abort()
        self.assertEqual(look([done], free=1, wanted=5), {"task:t": 1})
        self.leave(w, "w")

    def test_what_was_claimed_ahead_goes_back_when_others_have_all_of_its_limit(self):
        """Nobody ran it: its worker had no slot for it, and kept it."""
        one, other = dispatcher.Dispatcher(self.db, ("tasks",), slots=2), "\x1fother"
        ahead = [Claim(1, 1, "\x1ft", (10, 1, 1)), Claim(2, 1, other, (10, 2, 2))]
        one.limits = {"\x1ft": ("task:t",), other: ("task:other",)}
        one.allowed = {"task:t": 1, "task:other": 1}
        one.ahead = list(ahead)
        self.assertEqual(one._overtaken(0.0), [])
        one.allowed = {"task:other": 1}
        self.assertEqual(one._overtaken(0.0), ahead[:1])
        self.assertEqual(one.ahead, ahead[1:])

    def test_a_rate_holds_though_the_clocks_of_two_hosts_differ(self):
        time = self.stop_clock()
        self.task("rated", lambda input: None, rate="4/10s")
        self.service.addMany("rated", range(20))
        transaction.commit()
        hands, begun = {"a": self.worker("a"), "b": self.worker("b")}, {"a": [], "b": []}
        for name, ahead in (("b", 0.3), ("a", 0.0)) * 5:
            time.advance(0.02 + ahead)
            begun[name] += [claim.id for claim in hands[name].do(
                "dispatch", name, fold=True, want=Want(1, 1), known=begun[name]).claims]
            time.advance(-ahead)
        self.assertEqual(len(begun["a"]) + len(begun["b"]), 4)
        for name, each in hands.items():
            self.leave(each, name)

    def test_a_rate_is_open_again_though_the_clock_was_put_back(self):
        time = self.stop_clock()
        self.task("rated", lambda input: None, rate="1/10s")
        self.service.addMany("rated", range(3))
        transaction.commit()
        w, begun = self.worker("w"), []

        def look():
            found = w.do("dispatch", "w", fold=True, want=Want(5, 5), known=begun).claims
            begun.extend(claim.id for claim in found)
        look(), look()
        self.assertEqual(len(begun), 1)
        time.advance(-3_600)
        for _ in range(30):
            time.advance(1)
            look()
        self.assertGreater(len(begun), 1)
        self.leave(w, "w")


class Times(CoreCase):

    def test_a_round_brings_no_more_than_its_bound(self):
        self.service.shards.use(8)
        for _ in range(8):
            self.service.addMany("t", range(200), delay=0.001)
        with Clerk(self.service, clock.micros()) as books:
            books.empty_inbox(10_000)
        transaction.commit()
        with Clerk(self.service, clock.micros() + 10_000_000) as books:
            self.assertEqual(books.bring_due(100), 100)
        transaction.abort()

    def test_a_job_that_was_put_off_does_not_start_at_its_old_time(self):
        time = self.stop_clock()
        job = self.add("t", delay=60)
        w = self.worker("w")
        w.do("dispatch", "w", want=Want(1, 1), fold=True)
        self.look()
        self.service.addMany("t", range(2_000))
        self.service.changeJob(job, startAt=clock.from_micros(
            clock.micros() + 3_600_000_000))
        transaction.commit()
        time.advance(61)
        w.do("dispatch", "w", want=Want(1, 1), fold=True)
        self.assertEqual(self.look().getStatus(job), lifecycle.DELAYED)
        self.leave(w, "w")

    def add_on_both_sides_of_a_span(self, earlier=None):
        """Two who add with one key; earlier: spans since a key was noted."""
        with simulated_clock(SPAN * 80_000 / 1e6 - 1) as time:
            if earlier is not None:
                time.advance(-SPAN / 1e6 * earlier)
                self.service.addOnce("other", "t")
                transaction.commit()
                time.advance(SPAN / 1e6 * earlier)
            a, b = self.hand(), self.hand()
            a.begin(), b.begin()
            a.service.addOnce("key", "t")
            time.advance(2)
            b.service.addOnce("key", "t")
            a.manager.commit()
            self.assertRaises(TransientError, b.manager.commit)
            b.manager.abort()

    def test_a_key_is_one_in_two_spans(self):
        self.add_on_both_sides_of_a_span(earlier=0.5)

    def test_a_key_is_one_in_two_spans_of_which_neither_was_there(self):
        self.add_on_both_sides_of_a_span(earlier=1.5)

    def test_a_key_is_one_though_it_is_the_first(self):
        self.add_on_both_sides_of_a_span()


class Others(CoreCase):

    def test_what_was_held_before_is_not_claimed_past_the_books(self):
        """Who rescues it puts it in line, and would meet nobody who takes its slip."""
        self.service.add("t")
        self.service.process()
        jobid = self.service.add("t")
        transaction.commit()
        dead = self.worker("dead")
        self.assertEqual(len(dead.do("dispatch", "dead", want=Want(1, 1)).claims), 1)
        worker, third = self.worker("at home"), self.worker("third")
        self.look()
        self.service.cancel(jobid)
        self.service.retry(jobid)
        transaction.commit()
        worker.begin(), third.begin()
        with Clerk(third.service, clock.micros()) as books:
            books.rescue(third.service.leases["dead"], 3)
        claims = worker.service.dispatch("at home", want=Want(5, 5)).claims
        self.assertEqual([claim.id for claim in claims], [jobid])
        third.manager.commit()
        with self.assertRaises(TransientError):
            worker.manager.commit()
        worker.manager.abort()
        self.assertEqual(self.look().check(), [])
        self.leave(worker, "at home")
        self.leave(third, "third")
        self.look()
        self.service.process()
        self.assertEqual(self.service.getStatus(jobid), "completed")

    def test_who_repairs_meets_who_claims_at_that_moment(self):
        """The job came back into its line, and was in the worker's hand."""
        self.service.add("t")
        self.service.process()
        jobid = self.service.add("t")
        self.task("urgent", lambda input: input)
        self.service.add("urgent", priority=1)
        for name in "abcdefg":
            self.service.add("t", locks=[name], priority=50)
        with Clerk(self.service, clock.micros()) as books:
            books.empty_inbox(100)
        transaction.commit()
        worker, operator = self.worker("w"), self.hand()
        worker.begin(), operator.begin()
        claims = worker.service.dispatch(
            "w", want=Want(1, 1, filter=Filter(tasks=frozenset("t")))).claims
        self.assertEqual([claim.id for claim in claims], [jobid])
        audit.repair(operator.service, clock.micros())
        worker.manager.commit()
        with self.assertRaises(TransientError):
            operator.manager.commit()
        operator.manager.abort()
        self.assertEqual(self.look().check(), [])
        worker.do("handBack", "w", unstarted=claims, close=True)

    def test_a_neighbour_that_is_gone_does_not_silence_the_rest(self):
        w = self.worker("w")
        w.do("beat", [(("gone",), "v"), (("tasks",), "w")])
        self.assertEqual(self.look().leases["w"].beat, 1)
        self.leave(w, "w")

    def test_a_thread_that_cannot_start_is_tried_again(self):
        start, refused = threading.Thread.start, []

        def refuse_once(thread):
            if thread.name.startswith(dispatcher.WORKER_PREFIX) and not refused:
                refused.append(thread)
                raise RuntimeError("can't start new thread")
            start(thread)
        with mock.patch.object(threading.Thread, "start", refuse_once), \
                mock.patch.object(dispatcher, "STUMBLE_SECONDS", 0.01):
            self.start()
            self.wait_status(self.add("t"))
        self.assertTrue(refused)


if __name__ == "__main__":
    unittest.main()
