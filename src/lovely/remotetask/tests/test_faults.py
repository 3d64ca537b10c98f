"""Processes that die, storages that fail, and what was kept long enough."""
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import unittest
from contextlib import contextmanager
from unittest import mock

import transaction
from ZEO.Exceptions import ClientDisconnected
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError, StorageError

from lovely.remotetask.clerk import Want
from lovely.remotetask import lifecycle, processor
from lovely.remotetask.processor import MultiProcessor
from lovely.remotetask.runtime import dispatcher
from lovely.remotetask.runtime.context import JobContext
from lovely.remotetask.runtime.publication import Publication
from lovely.remotetask.tests.support import BOUND, Gate, ServiceCase, effect


class Victim:
    """A process of victim.py."""

    def __init__(self, path):
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lovely.remotetask.tests.victim", path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=environment)
        self.watchdog = threading.Timer(3 * BOUND, self.process.kill)
        self.watchdog.start()

    def line(self, word):
        """Wait for a line that begins with that word; None at the end."""
        for line in self.process.stdout:
            if line.startswith(word):
                return line.split()
        return None

    def must_say(self, word):
        line = self.line(word)
        if line is None:
            self.end()
            raise AssertionError(f"it has not said {word!r}, but: {self.said}")
        return line

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.end()

    def end(self):
        """Wait for the end; the exit code."""
        self.process.stdin.close()
        self.process.stdout.read()
        self.said = self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        try:
            return self.process.wait(BOUND)
        finally:
            self.watchdog.cancel()


class FaultCase(ServiceCase):
    factory = MultiProcessor
    arguments = {"maxThreads": 3}

    def setUp(self):
        super().setUp()
        for name in ("effect", "pill"):  # what these are in this process
            self.task(name, effect, wantsContext=True)

    @contextmanager
    def victim(self):
        """Another process has the database meanwhile."""
        self.assertEqual(self.close_database(), [])
        victim = Victim(self.path)
        try:
            yield victim
        finally:
            if victim.process.poll() is None:
                victim.kill()
            self.open_database()


class Killed(FaultCase):

    def test_jobs_of_a_killed_process_are_back_as_soon_as_another_starts(self):
        self.task("hold", effect, wantsContext=True)
        held = self.service.addMany("hold", range(3))
        waiting = self.service.addMany("effect", range(5))
        transaction.commit()
        with self.victim() as victim:
            self.assertEqual({int(victim.must_say("holds")[1]) for _ in held}, set(held))
            victim.kill()
        self.assertEqual({self.service.getStatus(jobid) for jobid in held}, {"processing"})
        self.assertEqual(dict(self.effects()), {})
        self.assertEqual(self.service.check(), [])
        self.start()
        self.wait_logged("3 jobs go back to the queue", logging.WARNING)
        self.wait_status(held + waiting)
        self.wait_settled()
        self.assertEqual(dict(self.effects()), dict.fromkeys(held + waiting, 1))
        for jobid in held:
            job = self.job(jobid)
            self.assertEqual(
                (job.startedCount, job.crashes, job.failures,
                 [each.outcome for each in job.attempts]), (2, 0, 0, ["process died"]))
        for jobid in waiting:
            self.assertEqual(self.job(jobid).startedCount, 1)

    def test_a_job_that_may_run_once_is_interrupted_and_not_run_again(self):
        ran = []
        self.task("once", ran.append, atMostOnce=True)
        jobid = self.service.add("once")
        transaction.commit()
        with self.victim() as victim:
            victim.must_say("holds")
            victim.kill()
        self.start()
        self.wait_status(jobid, "error")
        self.wait_settled()
        self.assertEqual((self.job(jobid).reason, ran), (lifecycle.INTERRUPTED, []))
        self.service.retry(jobid)
        transaction.commit()
        self.wait_status(jobid)
        self.assertEqual(ran, [None])

    def test_a_process_that_ends_cleanly_leaves_nothing(self):
        jobs = self.service.addMany("effect", range(20))
        transaction.commit()
        with self.victim() as victim:
            self.assertTrue(victim.line("ends"))
            self.assertEqual(victim.end(), 0, victim.said)
        self.assertEqual(list(self.service.leases.values()), [])
        self.assertEqual(dict(self.effects()), dict.fromkeys(jobs, 1))
        self.assertEqual(self.service.check(), [])


class KilledOften(FaultCase):
    level = 2

    def test_any_number_of_kills_loses_and_doubles_nothing(self):
        jobs = self.service.addMany("effect", range(600))
        transaction.commit()
        chance = random.Random(7)
        kills = 0
        while kills < 12 and self.service.counts()["queued"]:
            with self.victim() as victim:
                for _ in range(chance.randrange(1, 80)):
                    if victim.line("works") is None:
                        break
                else:
                    kills += 1
                victim.kill()
            self.assertEqual(self.service.check(), [])
            done = {jobid for jobid in jobs
                    if self.service.getStatus(jobid) == "completed"}
            self.assertEqual(dict(self.effects()), dict.fromkeys(done, 1))
        self.assertGreaterEqual(kills, 8)
        self.start()
        self.wait_status(jobs)
        self.wait_settled()
        self.assertEqual(dict(self.effects()), dict.fromkeys(jobs, 1))
        self.assertEqual({self.job(jobid).failures for jobid in jobs}, {0})

    def test_a_poison_pill_is_set_aside_after_four_deaths_and_nobody_else_is_charged(self):
        before = self.service.addMany("effect", range(4))
        pill = self.service.add("pill")
        after = self.service.addMany("effect", range(4))
        transaction.commit()
        deaths = 0
        while deaths < 10:
            with self.victim() as victim:
                victim.line("ends")
                code = victim.end()
            if code == 0:
                break
            self.assertEqual(code, -signal.SIGABRT, victim.said)
            deaths += 1
        self.assertEqual(deaths, 4)
        job = self.job(pill)
        self.assertEqual((job.status, job.reason, job.crashes),
                         ("error", lifecycle.CRASHED, 3))
        self.assertIn("set aside: 3 processes died", job.error)
        self.assertEqual(dict(self.effects()), dict.fromkeys(before + after, 1))
        for jobid in before + after:
            job = self.job(jobid)
            self.assertEqual((job.status, job.crashes, job.failures),
                             ("completed", 0, 0))
        self.assertEqual(self.service.check(), [])

    def test_two_pills_among_others_are_both_found(self):
        jobs = []
        for number in range(4):
            jobs += self.service.addMany("effect", range(3))
            if number in (1, 2):
                self.service.add("pill")
        transaction.commit()
        deaths = 0
        while deaths < 12:
            with self.victim() as victim:
                victim.line("ends")
                code = victim.end()
            if code == 0:
                break
            deaths += 1
        self.assertLessEqual(deaths, 8)
        self.assertEqual(dict(self.effects()), dict.fromkeys(jobs, 1))
        self.assertEqual(self.service.counts()["error"], 2)


class AtMostOnce(FaultCase):

    def test_what_was_claimed_and_not_begun_is_run(self):
        ran = []
        self.task("once", ran.append, atMostOnce=True)
        jobid = self.add("once")
        self.service.dispatch("dead", want=Want(1, 1, alone=True))
        transaction.commit()
        self.start()
        self.wait_status(jobid)
        self.assertEqual(ran, [None])

    def test_an_error_is_not_tried_again_unless_the_task_says_so(self):
        ran = []

        def fail(input):
            ran.append(input)
            raise ValueError("once is enough")

        self.task("once", fail, atMostOnce=True)
        self.task("thrice", fail, atMostOnce=True, retries=2)
        self.start()
        once, thrice = self.add("once", "once"), self.add("thrice", "thrice")
        self.wait_status([once, thrice], "error")
        self.assertEqual((ran.count("once"), ran.count("thrice")), (1, 3))

    def test_a_conflict_is_not_tried_again(self):
        ran = []

        def conflict(input):
            ran.append(input)
            raise ConflictError("late")

        self.task("once", conflict, atMostOnce=True)
        self.start()
        jobid = self.add("once")
        self.wait_status(jobid, "error")
        self.assertEqual(len(ran), 1)

    def test_who_was_taken_for_dead_does_not_begin_it_any_more(self):
        """It was queued again with the same token: the one who was only slow found it
        processing, with his token, and ran it too."""
        ran = []
        self.task("once", ran.append, atMostOnce=True)
        jobid = self.add("once")
        before, = self.service.dispatch("slow", want=Want(1, 1, alone=True)).claims
        transaction.commit()
        self.service.dispatch("other", rescuing=True)
        transaction.commit()
        now, = self.service.dispatch("other", want=Want(1, 1, alone=True)).claims
        transaction.commit()
        self.assertEqual(self.job(jobid).reason, lifecycle.HANDED_BACK)
        for claim in (before, now, before, now):
            publication = Publication(self.db, ("tasks",))
            publication.attempt(claim, JobContext(jobid), "some worker")
            publication.close()
        self.assertEqual(ran, [None])
        transaction.begin()
        self.assertEqual(self.job(jobid).status, "completed")
        self.service.handBack("other", close=True)
        transaction.commit()

    def test_it_is_known_by_its_start_though_its_task_is_gone(self):
        jobid = self.add("effect")
        claim, = self.service.dispatch("dead", want=Want(1, 1, alone=True)).claims
        self.service.startOnce(claim)
        transaction.commit()
        self.start()
        self.wait_status(jobid, "error")
        self.assertEqual(self.job(jobid).reason, lifecycle.INTERRUPTED)
        self.assertEqual(dict(self.effects()), {})


# -- storages that fail


class Forgetful(FileStorage):
    """Loses its answer to a commit: after it was done, or instead of doing it."""

    def __init__(self, path):
        super().__init__(path)
        self.armed: list[tuple[str, bool, BaseException]] = []
        self.failed = 0

    def tpc_finish(self, transaction, f=None):
        for each in self.armed:
            verb, applied, error = each
            if transaction.description.startswith(verb.encode()):
                self.armed.remove(each)
                self.failed += 1
                if applied:
                    super().tpc_finish(transaction, f)
                else:
                    self.tpc_abort(transaction)
                raise error
        return super().tpc_finish(transaction, f)


class LostAnswers(FaultCase):

    def make_storage(self):
        return Forgetful(self.path)

    def setUp(self):
        super().setUp()
        logger = logging.getLogger("txn")
        handler = logging.NullHandler()
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        self.addCleanup(setattr, logger, "propagate", logger.propagate)
        logger.propagate = False
        with_short_pauses = mock.patch.object(dispatcher, "STUMBLE_SECONDS", 0.01)
        with_short_pauses.start()
        self.addCleanup(with_short_pauses.stop)

    ERRORS = (lambda: StorageError("lost"), lambda: OSError(5, "lost"),
              lambda: ClientDisconnected("lost"))

    def every_way(self, verb):
        """Lose the answers to a verb's commit in every way."""
        for applied in (True, False):
            for make in self.ERRORS:
                error = make()
                with self.subTest(verb=verb, applied=applied, error=type(error).__name__):
                    failed = self.db.storage.failed
                    self.db.storage.armed.append((verb, applied, error))
                    yield
                    self.assertEqual(self.db.storage.failed, failed + 1)
                    self.db.storage.armed.clear()

    def test_of_a_run_the_outcome_is_looked_up(self):
        self.start()
        for _ in self.every_way("runJob"):
            jobs = [self.add("effect") for _ in range(3)]
            self.wait_status(jobs)
            self.wait_settled()
            for jobid in jobs:
                job = self.job(jobid)
                self.assertEqual((self.effects()[jobid], job.startedCount, job.failures),
                                 (1, 1, 0))
        self.assertEqual({*self.effects().values()}, {1})

    def test_of_a_claim_the_job_is_not_forgotten(self):
        self.start()
        for _ in self.every_way("dispatch"):
            jobid = self.add("effect")
            self.wait_status(jobid)
            self.wait_settled()
            self.assertEqual(self.job(jobid).startedCount, 1)
        self.assertEqual({*self.effects().values()}, {1})

    def test_of_a_failure_it_is_charged_once(self):
        self.task("fail", lambda input: 1 / 0, retries=1)
        self.start()
        for _ in self.every_way("failJob"):
            jobid = self.add("fail")
            self.wait_status(jobid, "error")
            self.wait_settled()
            job = self.job(jobid)
            self.assertEqual((job.startedCount, job.failures, len(job.attempts)),
                             (2, 2, 2))

    def test_of_the_start_of_a_job_that_runs_at_most_once_it_runs_all_the_same(self):
        """It ended in error, "processing, it cannot become processing", or was charged
        with the outage, and none of its code had run."""
        ran = []
        self.task("once", ran.append, atMostOnce=True)
        self.start()
        for number, _ in enumerate(self.every_way("startOnce")):
            jobid = self.add("once", number)
            self.wait_for(
                lambda id=jobid: self.service.getStatus(id) in lifecycle.FINISHED)
            self.wait_settled()
            job = self.job(jobid)
            self.assertEqual((job.status, job.startedCount, job.failures),
                             ("completed", 1, 0))
        self.assertEqual(ran, list(range(6)))

    def test_of_the_adder_nothing_is_doubled(self):
        self.start()
        self.db.storage.armed.append(("", True, StorageError("lost")))
        jobid = self.service.add("effect")
        with self.assertRaises(StorageError):
            transaction.commit()
        transaction.abort()
        after = self.add("effect")
        self.wait_status([jobid, after])
        self.assertEqual(dict(self.effects()), {jobid: 1, after: 1})


class Closed(FaultCase):
    """fsync fails: the FileStorage writes, does not know, and closes itself."""

    def fail_in(self, prefix):
        """Let fsync fail once in a thread of that name; a pair of events."""
        armed = threading.Event()
        real = os.fsync

        def fsync(number):
            if armed.is_set() and threading.current_thread().name.startswith(prefix):
                armed.clear()
                raise OSError(5, "Input/output error")
            real(number)

        patch = mock.patch("ZODB.FileStorage.FileStorage.fsync", fsync)
        patch.start()
        self.addCleanup(patch.stop)
        return armed

    def broken(self, prefix):
        logger = logging.getLogger("ZODB.FileStorage")
        txn = logging.getLogger("txn")
        for each in (logger, txn):
            self.addCleanup(setattr, each, "propagate", each.propagate)
            each.propagate = False
            each.addHandler(logging.NullHandler())
        armed, gate = self.fail_in(prefix), Gate(self)

        @self.task("last", wantsContext=True)
        def last(input, context):
            effect(input, context)
            gate()
            if not again:  # it may have to run again in the next process
                again.append(True)
                armed.set()

        again = []
        self.start()
        first = self.add("effect")
        self.wait_status(first)
        self.wait_settled()
        jobs = [self.add("last"), *self.service.addMany("effect", range(20))]
        transaction.commit()
        gate.arrival()
        thread = processor._threads[self.db, self.service._p_oid][0]
        gate.open()
        thread.join(BOUND)
        self.assertFalse(thread.is_alive())
        critical = self.lines.texts(logging.CRITICAL)
        self.assertEqual(len(critical), 1, critical)
        self.assertIn("service tasks stops", critical[0])
        self.assertIsNotNone(processor.failed())
        self.connection.transaction_manager.abort()
        self.assertFalse(self.service.isProcessing())
        self.assertEqual(processor.stop_all(self.db, grace=0), [])
        self.commits.detach()
        for close in (self.connection.close, self.db.close):
            try:
                close()
            except Exception:
                pass
        # As if in a new process:
        self.open_database()
        self.assertEqual(self.service.check(), [])
        self.start()
        self.wait_status([first, *jobs])
        self.wait_settled()
        self.assertEqual(dict(self.effects()), dict.fromkeys([first, *jobs], 1))
        self.assertEqual({self.job(jobid).failures for jobid in jobs}, {0})

    def test_under_a_run_the_service_gives_up_and_the_next_process_knows(self):
        self.broken(dispatcher.WORKER_PREFIX)

    def test_under_a_claim_the_service_gives_up_and_the_next_process_knows(self):
        self.broken(processor.THREAD_PREFIX)


# -- what was kept long enough


class Retention(FaultCase):
    level = 2

    def test_a_hundred_thousand_finished_jobs_go_in_small_commits(self):
        for _ in range(20):
            for jobid in self.service.addMany("effect", ["x" * 50] * 5_000):
                self.service.cancel(jobid)
            transaction.commit()
        self.service.clean(status="completed")
        transaction.commit()
        self.assertEqual(self.service.counts()["cancelled"], 100_000)
        self.service.configure(retain_count=10, retain_interval=0.01)
        transaction.commit()
        self.db.pack()
        first = self.db.lastTransaction()
        self.start()
        marker = self.add("effect")
        self.wait_for(lambda: self.service.counts()["cancelled"] == 10,
                      "for the old to go", seconds=10 * BOUND)
        self.assertEqual(self.service.getStatus(marker), "completed")
        self.wait_settled()
        largest = 0
        for each in self.db.storage.iterator(first):
            largest = max(largest, sum(len(record.data or b"") for record in each))
        self.assertLess(largest, 1_000_000)
        self.assertGreater(largest, 0)


def test_suite():
    return unittest.defaultTestLoader.loadTestsFromName(__name__)
