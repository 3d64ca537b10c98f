"""A job and what became of it; the cron job."""
import unittest
from datetime import UTC, datetime, timedelta, timezone

from zope.interface.verify import verifyClass, verifyObject

from lovely.remotetask import clock, lifecycle
from lovely.remotetask.errors import BadOption, BadSchedule
from lovely.remotetask.failure import Failure
from lovely.remotetask.interfaces import ICronJob, IJob
from lovely.remotetask.job import (
    ATTEMPTS_KEPT, RUNS_KEPT, CronJob, Job, check_delay)
from lovely.remotetask.payload import Payload
from lovely.remotetask.tests.support import ServiceCase

SECOND = 1_000_000
FAILURE = Failure("ValueError", "text", "traceback")


class Attributes(unittest.TestCase):

    def test_they_keep_their_contracts(self):
        self.assertTrue(verifyObject(IJob, Job(1, "task")))
        self.assertTrue(verifyObject(ICronJob, CronJob(1, "task")))
        self.assertTrue(verifyClass(ICronJob, CronJob))

    def test_what_an_old_pickle_lacks_stands_on_the_class(self):
        bare = Job.__new__(Job)
        bare.__setstate__({"id": 5, "task": "task"})
        for name in IJob.names():
            getattr(bare, name)
        self.assertEqual((bare.status, bare.priority, bare.title, bare.tags, bare.token,
                          bare.owner, bare.error, bare.output, bare.created, bare.attempts),
                         ("start later", 10, "", (), 0, None, None, None, None, ()))
        cron = CronJob.__new__(CronJob)
        cron.__setstate__({"id": 5, "task": "task", "delay": 5})
        for name in ICronJob.names():
            getattr(cron, name)
        self.assertEqual((cron.missed, cron.overlap, cron.paused, cron.runs),
                         ("once", "skip", False, ()))

    def test_a_new_job_stores_little(self):
        job = Job(5, "task", {"a": 1}, created=SECOND)
        self.assertEqual(set(vars(job)), {"id", "task", "input", "created"})

    def test_moments_are_aware_and_utc(self):
        job = Job(1, "task", created=SECOND)
        self.assertEqual(job.created, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
        job.due = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
        self.assertEqual((job.due, job.due.tzname()),
                         (datetime(2026, 1, 1, 10, tzinfo=UTC), "UTC"))
        job.due = None
        self.assertIsNone(job.due)

    def test_naive_moments_of_release_0_5_are_read_in_the_zone_that_is_set(self):
        job = Job(1, "task")
        job.__dict__["created"] = datetime(2026, 1, 1, 12)
        before, clock.naive_zone = clock.naive_zone, timezone(timedelta(hours=3))
        try:
            self.assertEqual(job.created, datetime(2026, 1, 1, 9, tzinfo=UTC))
        finally:
            clock.naive_zone = before

    def test_an_exception_stored_by_release_0_5_reads_as_text(self):
        job = Job(1, "task")
        job.__dict__["error"] = ValueError("old")
        self.assertEqual(job.error, "old")

    def test_an_attempt_that_fails_is_kept_beside_the_job(self):
        job = Job(1, "task", created=0)
        for number in range(ATTEMPTS_KEPT + 5):
            job.enqueue(number) if not number else None
            job.start(number * SECOND, "worker")
            job.fail_and_wait(FAILURE, number * SECOND + 5, 0)
        self.assertEqual(len(job.attempts), ATTEMPTS_KEPT)
        last = job.attempts[-1]
        self.assertEqual((last.number, last.outcome, last.kind, last.error,
                          last.traceback, last.worker),
                         (ATTEMPTS_KEPT + 5, "retry", "ValueError", "text",
                          "traceback", "worker"))
        self.assertEqual((last.ended - last.started).microseconds, 5)
        self.assertEqual(job.failures, ATTEMPTS_KEPT + 5)
        self.assertNotIn("traceback", repr(vars(job)))

    def test_a_handed_back_job_is_charged_nothing_and_keeps_its_place(self):
        job = Job(1, "task", created=0)
        job.enqueue(100)
        job.start(200)
        job.hand_back()
        self.assertEqual((job.startedCount, job.failures, job.crashes, job.handbacks),
                         (0, 0, 0, 1))
        self.assertEqual(job.key, (10, 100, 1))

    def test_the_first_death_suspects_and_three_more_convict(self):
        job = Job(1, "task", created=0)
        job.enqueue(0)
        found = []
        for number in range(4):
            job.start(number)
            job.lose_process(number, 3, False)
            found.append((job.status, job.reason, job.crashes, job.suspect))
        self.assertEqual(found, [
            ("queued", "interrupted", 0, True), ("queued", "interrupted", 1, True),
            ("queued", "interrupted", 2, True), ("error", "crashed", 3, True)])
        job.requeue(9)
        self.assertEqual((job.status, job.crashes, job.suspect, job.failures),
                         ("queued", 0, False, 0))

    def test_one_that_ends_is_acquitted(self):
        job = Job(1, "task", created=0)
        job.enqueue(0)
        job.start(0)
        job.lose_process(0, 3, False)
        job.start(0)
        job.complete(1, 0)
        self.assertFalse(job.suspect)

    def test_what_may_run_once_is_interrupted_at_the_first_death(self):
        job = Job(1, "task", created=0)
        job.enqueue(0)
        job.start(0)
        job.lose_process(0, 3, True)
        self.assertEqual((job.status, job.reason), ("error", lifecycle.INTERRUPTED))

    def test_a_cron_job_keeps_its_last_runs(self):
        cron = CronJob(1, "task", minute=(0,), created=0)
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        for number in range(RUNS_KEPT + 3):
            run = Job(100 + number, "task", created=0)
            run.parent = 1
            run.enqueue(0)
            cron.note_run(moment + timedelta(minutes=number), run)
            run.start(SECOND)
            run.complete(number, 2 * SECOND)
            cron.note_end(run)
        self.assertEqual(len(cron.runs), RUNS_KEPT)
        self.assertEqual(cron.runs[-1].instant, moment + timedelta(minutes=RUNS_KEPT + 2))
        self.assertEqual((cron.runs[-1].status, cron.output, cron.error),
                         ("completed", RUNS_KEPT + 2, None))
        failed = Job(900, "task", created=0)
        failed.enqueue(0)
        cron.note_run(moment, failed)
        failed.start(0)
        failed.fail(FAILURE, SECOND)
        cron.note_end(failed)
        self.assertEqual((cron.status, cron.error, cron.runs[-1].error),
                         ("cronjob", "text", "text"))

    def test_the_end_of_a_run_does_not_move_the_end_of_a_cancelled_cron_job(self):
        cron = CronJob(1, "task", minute=(0,), created=0)
        run = Job(2, "task", created=0)
        run.enqueue(0)
        cron.note_run(datetime(2026, 1, 1, tzinfo=UTC), run)
        cron.cancel(5 * SECOND)
        run.start(0)
        run.complete(None, 9 * SECOND)
        cron.note_end(run)
        self.assertEqual(cron.micros("completed"), 5 * SECOND)
        self.assertEqual(cron.runs[0].status, "completed")

    def test_a_bad_update_changes_nothing(self):
        cron = CronJob(1, "task", minute=(5,), created=0)
        before = dict(vars(cron))
        for bad in (dict(minute=(60,)), dict(month=(2,), dayOfMonth=(30,)),
                    dict(schedule="nonsense"), dict(schedule="@daily", minute=(1,)),
                    dict(delay=-1), dict(delay="soon"), dict(minute=(1,), timezone="No/Where")):
            with self.subTest(bad), self.assertRaises((BadSchedule, BadOption)):
                cron.update(**bad)
            self.assertEqual(vars(cron), before)

    def test_a_delay_is_seconds(self):
        self.assertEqual((check_delay(None), check_delay(0), check_delay(1.5)),
                         (None, None, 1.5))
        for bad in (-1, "1", True, float("nan"), float("inf"), 1e11, []):
            with self.subTest(bad), self.assertRaises(BadOption):
                check_delay(bad)

    def test_the_seconds_of_the_next_call(self):
        self.assertEqual(CronJob(1, "task", delay=10).timeOfNextCall(5), 15)
        self.assertEqual(CronJob(1, "task", minute=(10,)).timeOfNextCall(0), 600)


class Stored(ServiceCase):
    storage = "mapping"

    def test_small_plain_values_stand_in_the_job_and_others_beside_it(self):
        self.task("task", lambda input: input)
        plain = self.add("task", {"a": [1, 2.5, None, True, "text", b"bytes", (1,)]})
        large = self.add("task", "x" * 10_000)
        odd = self.add("task", {1, 2})
        self.assertNotIsInstance(vars(self.job(plain))["input"], Payload)
        for jobid in (large, odd):
            self.assertIsInstance(vars(self.job(jobid))["input"], Payload)
        self.assertEqual((self.job(large).input, self.job(odd).input),
                         ("x" * 10_000, {1, 2}))
        record, _ = self.db.storage.load(self.job(large)._p_oid)
        self.assertLess(len(record), 300)

    def test_a_job_whose_input_cannot_be_read_can_still_be_read_and_ends(self):
        self.task("task", lambda input: input, retries=0)
        jobid = self.add("task", Vanishing())
        global_name, real = "Vanishing", globals()["Vanishing"]
        self.connection.cacheMinimize()
        try:
            globals()[global_name] = None
            job = self.job(jobid)
            self.assertEqual((job.status, job.task), ("queued", "task"))
            self.service.process()
            self.assertEqual(job.status, "error")
            self.assertEqual(self.service.listJobs()[0], [job])
        finally:
            globals()[global_name] = real


class Vanishing:
    """Its class goes away in a test."""

    def __reduce__(self):
        return _vanishing, ()


def _vanishing():
    return globals()["Vanishing"]()
