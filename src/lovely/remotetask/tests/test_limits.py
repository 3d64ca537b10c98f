"""Limits of what runs at once and of what begins in a time, over several workers."""
import threading
import unittest
from collections import Counter

import transaction

from lovely.remotetask import limits
from lovely.remotetask.clerk import Want
from lovely.remotetask.errors import BadOption
from lovely.remotetask.limits import Limit, Rate, Starts
from lovely.remotetask.processor import SimpleProcessor
from lovely.remotetask.runtime import rescue
from lovely.remotetask.runtime.context import JobContext
from lovely.remotetask.runtime.publication import Outcome, Publication, path_of
from lovely.remotetask.tests.support import Gate, ServiceCase
from lovely.remotetask.testing import BOUND, simulated_clock


class Words(unittest.TestCase):

    def test_rates_are_read_in_all_their_forms(self):
        for given, rate in [("100/h", (100, 3600)), ("5/10s", (5, 10)), ("1/min", (1, 60)),
                            ("7/2.5", (7, 2.5)), ((3, 9), (3, 9)), ("2/day", (2, 86_400))]:
            self.assertEqual(limits.rate(given), Rate(*rate), given)
        self.assertIsNone(limits.rate(None))

    def test_what_is_no_rate_is_told(self):
        for given in "often", "5", "0/s", "5/0s", "5/fortnight", (1,), (1.5, 2), (-1, 2), 7:
            with self.assertRaises(BadOption, msg=given):
                limits.rate(given)

    def test_locks_are_names_or_widths(self):
        self.assertEqual(limits.locks("a"), (("a", 1),))
        self.assertEqual(limits.locks(["b", "a"]), (("a", 1), ("b", 1)))
        self.assertEqual(limits.locks({"a": 3}), (("a", 3),))
        for given in ["a\x1f"], [""], {"a": 0}, {"a": True}, [7], 7, ["x" * 201], \
                [str(n) for n in range(21)]:
            with self.assertRaises(BadOption, msg=given):
                limits.locks(given)

    def test_the_name_of_a_line_says_what_its_jobs_have_in_common(self):
        name = limits.line_name("mail", "send", (("a", 1), ("b", 2)))
        self.assertEqual(limits.parts(name), ("mail", "send", (("a", 1), ("b", 2))))
        self.assertEqual(limits.parts(limits.SUSPECT + name), limits.parts(name))
        known = {"lane:mail": Limit("lane:mail", 3), "task:other": Limit("task:other", 1)}
        self.assertEqual([limit.name for limit in limits.of_line(name, known)],
                         ["lane:mail", "lock:a", "lock:b"])
        self.assertEqual(limits.of_line(limits.line_name("", "send"), {}), ())

    def test_no_window_holds_more_starts_than_its_rate(self):
        rate, starts, moments = Rate(5, 10), Starts(), []
        for now in range(0, 60_000_000, 37_000):
            if starts.left(rate, now):
                starts = starts.begun(rate, now)
                moments.append(now)
        for first in moments:
            within = [each for each in moments if first <= each < first + 10_000_000]
            self.assertLessEqual(len(within), 5)
        self.assertGreater(len(moments), 5 * 5)  # and it is made use of
        self.assertLessEqual(len(starts.slices), limits.SLICES + 1)

    def test_a_clock_put_back_does_not_close_a_rate(self):
        rate = Rate(1, 10)
        starts = Starts().begun(rate, 5_000_000_000)
        self.assertEqual(starts.left(rate, 5_000_000_000), 0)
        self.assertEqual(starts.left(rate, 1_000_000_000), 1)


class Busy:
    """How many run at once, by a key, and the most that ever did."""

    def __init__(self):
        self.lock, self.now, self.most = threading.Lock(), Counter(), Counter()

    def __call__(self, key, rest=0.002):
        with self.lock:
            self.now[key] += 1
            self.most[key] = max(self.most[key], self.now[key])
        threading.Event().wait(rest)
        with self.lock:
            self.now[key] -= 1


class SeveralWorkers(ServiceCase):
    """Three workers with three threads each, on one database."""

    def setUp(self):
        super().setUp()
        self.busy = Busy()
        self.workers = []

    def start_workers(self, number=3):
        for _ in range(number):
            processor = SimpleProcessor(self.db, ["tasks"], maxThreads=3)
            thread = threading.Thread(target=processor, daemon=True)
            thread.start()
            self.workers.append((processor, thread))
        self.wait_for(lambda: len(self.service.leases.workers()) == number)

    def close_database(self):
        for processor, _ in self.workers:
            processor.stop(grace=10)
        for _, thread in self.workers:
            thread.join(30)
        return super().close_database()

    def finish(self, jobs):
        self.wait_status(jobs)
        self.wait_for(lambda: not self.service.leases.held() and not any(
            len(shard.queue.inbox) for shard in self.service.shards))
        self.assertEqual(self.service.check(), [])

    def test_a_task_never_runs_more_often_at_once_than_it_says(self):
        together = threading.Event()

        def free(input):
            """Stay until three are here."""
            with self.busy.lock:
                self.busy.now["free"] += 1
                if self.busy.now["free"] > 2:
                    together.set()
            together.wait(BOUND)
            with self.busy.lock:
                self.busy.now["free"] -= 1
        self.task("capped", lambda input: self.busy("capped"), concurrency=2)
        self.task("free", free)
        self.start_workers()
        jobs = self.service.addMany("capped", range(30))
        jobs += self.service.addMany("free", range(30))
        transaction.commit()
        jobs += [self.add("capped") for _ in range(10)]
        self.finish(jobs)
        self.assertEqual(self.busy.most["capped"], 2)
        self.assertTrue(together.is_set())

    def test_jobs_with_a_lock_run_one_at_a_time_and_others_beside_them(self):
        self.task("work", lambda input: self.busy(input))
        self.start_workers()
        jobs = []
        for _ in range(12):
            for key in "abc":
                jobs.append(self.service.add("work", key, locks=[key]))
        transaction.commit()
        self.finish(jobs)
        self.assertEqual(dict(self.busy.most), dict.fromkeys("abc", 1))
        self.assertEqual(list(self.service.caps.items()), [])

    def test_a_job_takes_all_its_locks_or_none(self):
        self.task("work", lambda input: [self.busy(key) for key in input])
        self.start_workers()
        jobs = [self.service.add("work", keys, locks=list(keys))
                for _ in range(8) for keys in ("ab", "bc", "ca")]
        transaction.commit()
        self.finish(jobs)
        self.assertEqual(set(self.busy.most.values()), {1})

    def test_a_limit_set_for_the_service_wins_over_what_the_task_says(self):
        self.task("capped", lambda input: self.busy("capped"), concurrency=5)
        self.service.setLimit("task:capped", 1)
        transaction.commit()
        self.start_workers()
        jobs = self.service.addMany("capped", range(12))
        transaction.commit()
        self.finish(jobs)
        self.assertEqual(self.busy.most["capped"], 1)


class ByHand(ServiceCase):
    """Dispatchers whose looks the test makes, one by one."""

    def setUp(self):
        super().setUp()
        simulated = simulated_clock(1_800_000_000)
        self.clock = simulated.__enter__()
        self.addCleanup(simulated.__exit__, None, None, None)
        self.task("capped", lambda input: input, concurrency=1)
        self.task("rated", lambda input: input, rate="3/10s")
        self.task("free", lambda input: input)
        self.in_hand = {"one": [], "two": []}
        for name in self.in_hand:
            rescue.living.add(name)
            self.addCleanup(rescue.living.discard, name)

    def close_database(self):
        for name, claims in self.in_hand.items():
            self.service.handBack(name, unstarted=claims, close=True)
        transaction.commit()
        return super().close_database()

    def look_as(self, name, wanted=1, finished=(), service=None):
        through = {each.id for each in finished}
        self.in_hand[name] = [claim for claim in self.in_hand[name]
                              if claim.id not in through]
        lines = Counter(claim.line for claim in self.in_hand[name])
        claims = (service or self.service).dispatch(
            name, finished=finished, fold=bool(finished),
            want=Want(wanted, wanted, 0, lines, alone=not lines),
            known=[claim.id for claim in self.in_hand[name]]).claims
        self.in_hand[name] += claims
        return claims

    def work_off(self, claim):
        return self.service.runJob(claim, JobContext(claim.id))

    def test_of_two_workers_at_once_one_gets_the_only_slot(self):
        """C14: the decision and the taking are one key, so that the other conflicts."""
        self.service.addMany("capped", range(4))
        transaction.commit()
        transaction.begin()
        with self.assertRaises(transaction.interfaces.TransientError):
            with self.elsewhere() as service:
                self.assertEqual(len(self.look_as("two", 2, service=service)), 1)
                self.assertEqual(len(self.look_as("one", 2)), 1)
                transaction.commit()
        self.in_hand["two"] = []
        self.look()
        self.assertEqual(self.look_as("two", 2), [])
        transaction.commit()
        self.assertEqual(self.service.limitsInUse(), {"task:capped": (1, 1, 1)})
        self.assertEqual(self.service.check(), [])

    def test_a_slot_that_is_given_back_opens_the_line_to_others(self):
        self.service.addMany("capped", range(3))
        transaction.commit()
        claim, = self.look_as("one")
        self.assertEqual(self.look_as("two"), [])
        outcome = self.work_off(claim)
        self.look_as("one", 0, [outcome])
        self.assertEqual(self.service.limitsInUse(), {})
        self.assertEqual(len(self.look_as("two")), 1)
        transaction.commit()
        self.assertEqual(self.service.check(), [])

    def test_a_dead_worker_gives_its_slots_back(self):
        self.service.addMany("capped", range(2))
        transaction.commit()
        self.look_as("one")
        self.assertEqual(self.look_as("two"), [])
        transaction.commit()
        rescue.living.discard("one")
        self.in_hand["one"] = []
        self.service.dispatch("two", rescuing=True)
        transaction.commit()
        self.assertEqual(self.service.limitsInUse(), {})
        self.assertEqual(self.service.check(), [])
        self.assertEqual(len(self.look_as("two")), 1)

    def test_a_suspect_is_under_its_limit_like_any_other(self):
        suspect, = self.service.addMany("capped", range(1))
        transaction.commit()
        self.look_as("one")
        rescue.living.discard("one")
        self.in_hand["one"] = []
        self.service.dispatch("two", rescuing=True)
        self.assertTrue(self.job(suspect).suspect)
        self.service.setLimit("task:capped", 1)
        self.service.caps.take("task:capped", "somebody", 1)
        self.assertEqual(self.look_as("two"), [])
        self.service.caps.take("task:capped", "somebody", 0)
        self.service.setLimit("task:capped")
        self.assertEqual([claim.id for claim in self.look_as("two")], [suspect])

    def test_no_more_begin_than_the_rate_allows(self):
        self.service.addMany("rated", range(8))
        free = self.service.add("free")
        self.assertEqual([claim.id for claim in self.look_as("one", 20)].count(free), 1)
        self.assertEqual(len(self.in_hand["one"]), 4)
        self.assertEqual(self.look_as("two", 20), [])
        self.clock.advance(9)
        self.assertEqual(self.look_as("two", 20), [])
        self.clock.advance(2)
        self.assertEqual(len(self.look_as("two", 20)), 3)
        transaction.commit()
        self.assertEqual(self.service.check(), [])

    def test_what_a_full_limit_blocks_is_not_looked_at(self):
        """A hundred thousand jobs behind one lock cost a claim as much as one."""
        self.service.addMany("free", range(3_000), locks=["one"])
        wanted = self.service.add("free", priority=20)
        transaction.commit()
        self.look_as("one", 0)
        while any(len(shard.queue.inbox) for shard in self.service.shards):
            self.look_as("one", 0)
        transaction.commit()
        self.look_as("one", 1)
        claimed = self.look_as("two", 2)
        transaction.commit()
        self.assertEqual([claim.id for claim in claimed], [wanted])
        with self.elsewhere() as service:
            jar = service._p_jar
            jar.cacheMinimize()
            jar.getTransferCounts(True)
            self.assertEqual(self.look_as("two", 2, service=service), [])
            self.assertLess(jar.getTransferCounts()[0], 60)

    def test_a_copy_needs_the_same_locks(self):
        model = self.service.add("free", locks={"a": 2})
        self.assertEqual(self.job(self.service.copy(model)).locks, (("a", 2),))

    def test_who_is_paused_is_at_home_nowhere(self):
        """It emptied everybody's inboxes, and met all who were at home."""
        for name in ("one", "two", "three"):
            self.service.leases.open(name, 0).registration.tell(threads=1)
            self.addCleanup(rescue.living.discard, name)
            rescue.living.add(name)
        self.service.spreadOut()
        self.service.leases["two"].registration.tell(state="paused")
        homes = [self.service._home(name) for name in ("one", "two", "three")]
        self.assertEqual(homes[1], set())
        self.assertEqual(homes[0] | homes[2], set(range(8)))
        self.assertFalse(homes[0] & homes[2])
        self.service.leases.close("three")

    def test_a_line_with_locks_goes_with_its_last_job(self):
        for number in range(50):
            self.service.add("free", locks=[f"key-{number}"])
        claims = self.look_as("one", 50)
        self.assertEqual(len(claims), 50)
        outcomes = [self.work_off(claim) for claim in claims]
        self.look_as("one", 0, outcomes)
        transaction.commit()
        self.assertEqual(list(self.service.shards[0].queue.lines), [])
        self.assertEqual(self.service.limitsInUse(), {})
        self.assertIsInstance(outcomes[0], Outcome)


class Groups(ServiceCase):
    """Several short jobs in one transaction."""

    def run_all(self, inputs, name="short"):
        jobs = self.service.addMany(name, inputs)
        transaction.commit()
        tids = {}
        self.start()
        self.wait_for(lambda: all(
            self.service.getStatus(each) in ("completed", "error") for each in jobs))
        self.wait_settled()
        for each in jobs:
            tids.setdefault(self.job(each)._p_serial, []).append(each)
        return jobs, tids

    def note(self, input, context):
        effects = context.service._p_jar.root()["effects"]
        effects[context.jobid] = effects.get(context.jobid, 0) + 1
        if input == "bad":
            raise ValueError(input)

    def test_they_are_committed_together_each_once(self):
        self.task("short", self.note, wantsContext=True, group=20)
        jobs, tids = self.run_all(range(100))
        self.assertLess(len(tids), 60)
        self.assertGreater(max(map(len, tids.values())), 1)
        self.assertLessEqual(max(map(len, tids.values())), 20)
        self.assertEqual(dict(self.effects()), dict.fromkeys(jobs, 1))

    def test_one_that_fails_takes_none_of_the_others_with_it(self):
        self.task("short", self.note, wantsContext=True, group=50, retries=1)
        jobs, _ = self.run_all([None] * 40 + ["bad"] + [None] * 40)
        bad = jobs[40]
        self.assertEqual(self.service.getStatus(bad), "error")
        self.assertEqual(self.job(bad).failures, 2)
        good = [each for each in jobs if each != bad]
        self.assertEqual(dict(self.effects()), dict.fromkeys(good, 1))

    def test_a_conflict_takes_them_apart(self):
        once, runs = threading.Event(), []

        def meet(input, context):
            self.note(input, context)
            runs.append(input)
            effects = context.service._p_jar.root()["effects"]
            effects[-1] = effects.get(-1, 0) + 1
            if not once.is_set():
                once.set()
                with self.elsewhere() as service:
                    service._p_jar.root()["effects"][-1] = 100
        self.task("short", meet, wantsContext=True, group=50)
        jobs, _ = self.run_all(range(30))
        self.assertGreater(len(runs), 30)
        self.assertEqual(dict(self.effects()), {**dict.fromkeys(jobs, 1), -1: 130})

    def test_who_is_left_to_himself_is_told_to_stop_with_all_of_his_group(self):
        gate, contexts = Gate(self), []

        def wait(input, context):
            self.note(input, context)
            contexts.append((context.jobid, threading.get_ident(), context))
            if input == "long":
                gate()
        self.task("short", wait, wantsContext=True, group=50, retries=0)
        warm = self.service.addMany("short", range(100))
        transaction.commit()
        self.start()
        self.wait_status(warm)  # now it claims ahead, and groups
        jobs = [*self.service.addMany("short", [None, None]),
                self.service.add("short", "long", timeout=0.3)]
        transaction.commit()
        gate.arrival()
        self.wait_status(jobs[:2])
        self.wait_status(jobs[2], "error")
        left, = {thread for id, thread, _ in contexts if id == jobs[2]}
        given = {id for id, thread, _ in contexts if thread != left} | {jobs[2]}
        self.assertEqual({context.should_stop for id, thread, context in contexts
                          if thread == left and id in given}, {True})
        gate.open()
        self.wait_settled()
        self.assertEqual([self.effects().get(each) for each in jobs], [1, 1, None])

    def test_what_was_told_to_stop_is_not_run_again_by_itself(self):
        """It ran in two threads: that which was given it, and that which was left."""
        ran, contexts = [], []

        def work(input):
            ran.append(input)
            if input == 1:
                for context in contexts:
                    context.stop()
                raise ValueError("together")
        self.task("short", work, group=50)
        publication, members = self.two_claims()
        contexts.extend(context for _, context in members)
        outcomes = publication.attempt_some(*members[0], lambda: members[1])
        self.assertEqual((ran, [each.status for each in outcomes]), ([0, 1], [None, None]))

    def test_what_runs_at_most_once_shares_no_transaction(self):
        """Its site may have another task of that name than that of the job before."""
        self.task("short", lambda input: input, group=50)
        publication, members = self.two_claims()
        began = []

        def more():
            self.task("short", lambda input: began.append(
                self.look().jobs[members[1][0].id].recordedStatus), atMostOnce=True)
            return members[1]
        outcomes = publication.attempt_some(*members[0], more)
        self.assertEqual([each.status for each in outcomes], 2 * ["completed"])
        self.assertEqual(began[-1], "processing")  # its start was on record

    def two_claims(self):
        self.service.addMany("short", range(2))
        claims = self.service.dispatch("one", want=Want(2, 2, alone=True)).claims
        transaction.commit()
        publication = Publication(self.db, path_of(self.service))
        self.addCleanup(publication.close)
        return publication, [(claim, JobContext(claim.id)) for claim in claims]

    def test_one_that_is_cancelled_in_a_group_leaves_no_effect(self):
        gate = Gate(self)

        def wait(input, context):
            self.note(input, context)
            if input == "last":
                gate()
        self.task("short", wait, wantsContext=True, group=50)
        warm = self.service.addMany("short", range(100))
        transaction.commit()
        self.start()
        self.wait_status(warm)  # now it claims ahead, and groups
        jobs = self.service.addMany("short", [None, None, "last"])
        transaction.commit()
        gate.arrival()
        self.look().cancel(jobs[0])
        transaction.commit()
        gate.open()
        self.wait_status(jobs[1:])
        self.wait_settled()
        self.assertEqual(self.service.getStatus(jobs[0]), "cancelled")
        self.assertNotIn(jobs[0], self.effects())
        self.assertEqual([self.effects()[each] for each in jobs[1:]], [1, 1])


if __name__ == "__main__":
    unittest.main()


class GivenBack(ServiceCase):
    """Slots that nobody needs any more go back, whatever has ended or not."""

    def setUp(self):
        super().setUp()
        self.task("one", lambda input: input, concurrency=1)

    def parked(self):
        return [line for shard in self.service.shards for line in shard.queue.parked]

    def test_a_claim_whose_answer_was_lost_leaves_no_slot_behind(self):
        """Its lane stood still until its worker had ended something else."""
        self.service.addMany("one", range(2))
        transaction.commit()
        for name in "ab":
            self.service.leases.open(name, 0).registration.tell(threads=1)
        lost, = self.service.dispatch("a", want=Want(1, 1, alone=True)).claims
        self.service.dispatch("b", want=Want(1, 1, alone=True))
        self.assertEqual(len(self.parked()), 1)
        self.service.dispatch("a")     # knows of no claim
        self.assertEqual(self.parked(), [])
        self.assertEqual(list(self.service.caps.items()), [])
        claim, = self.service.dispatch("b", want=Want(1, 1, alone=True)).claims
        self.assertEqual(claim.id, lost.id)

    def test_what_is_claimed_by_hand_keeps_to_its_limit_and_gives_it_back(self):
        """A second claim was given, and the slot was kept for as long as the process."""
        self.service.addMany("one", range(2))
        first = self.service.claimNextJob()
        self.assertIsNone(self.service.claimNextJob())
        self.service.processNext(jobid=first)
        self.assertEqual(list(self.service.caps.items()), [])
        self.assertEqual(self.service.check(), [])
        self.assertIsNotNone(self.service.claimNextJob())
