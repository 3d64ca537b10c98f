"""The table of moves, walked at random; a job makes exactly these."""
import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from lovely.remotetask import lifecycle
from lovely.remotetask.errors import IllegalMove
from lovely.remotetask.failure import Failure
from lovely.remotetask.interfaces import (
    CANCELLED, COMPLETED, CRONJOB, DELAYED, ERROR, PROCESSING, QUEUED, STARTLATER)
from lovely.remotetask.job import CronJob, Job

FAILURE = Failure("ValueError", "text", "traceback")
WAITING, ENDED = {STARTLATER, DELAYED}, {ERROR, CANCELLED}
# What a job can be asked to do: from where, and where that leads.
STEPS = {
    "enqueue": (WAITING, QUEUED, lambda job, now: job.enqueue(now)),
    "delay": ({STARTLATER}, DELAYED, lambda job, now: job.delay_until(now + 5)),
    "start": ({QUEUED}, PROCESSING, lambda job, now: job.start(now, "worker")),
    "complete": ({PROCESSING}, COMPLETED, lambda job, now: job.complete("output", now)),
    "fail": ({PROCESSING}, ERROR, lambda job, now: job.fail(FAILURE, now)),
    "fail and wait": (
        {PROCESSING}, DELAYED, lambda job, now: job.fail_and_wait(FAILURE, now, 1.5)),
    "fail, again at once": (
        {PROCESSING}, QUEUED, lambda job, now: job.fail_and_wait(FAILURE, now, 0)),
    "hand back": ({PROCESSING}, QUEUED, lambda job, now: job.hand_back()),
    "interrupt": ({PROCESSING}, ERROR, lambda job, now: job.interrupt(now)),
    "lose the process": (
        {PROCESSING}, QUEUED, lambda job, now: job.lose_process(now, 3, False)),
    "cancel": ({STARTLATER, DELAYED, QUEUED, PROCESSING}, CANCELLED,
               lambda job, now: job.cancel(now)),
    "requeue": (ENDED, QUEUED, lambda job, now: job.requeue(now)),
}
SET_ASIDE = "lose the process"


def facts(job):
    return {name: value for name, value in vars(job).items() if name != "_attempts"} \
        | {"attempts": job.attempts}


class Moves(unittest.TestCase):

    def test_the_eight_words_are_those_of_release_0_5(self):
        self.assertEqual(set(lifecycle.STATUSES), {
            "queued", "processing", "cancelled", "error", "completed", "delayed",
            "cronjob", "start later"})
        self.assertEqual(set(lifecycle.MOVES), set(lifecycle.STATUSES))

    def test_nothing_leaves_what_is_completed(self):
        self.assertEqual(lifecycle.MOVES[COMPLETED], frozenset())
        self.assertEqual(lifecycle.FINISHED, {COMPLETED, ERROR, CANCELLED})

    def test_every_status_can_be_reached_and_every_one_leads_to_an_end(self):
        for start in lifecycle.STATUSES:
            reached, todo = set(), [start]
            while todo:
                for status in lifecycle.MOVES[todo.pop()] - reached:
                    reached.add(status)
                    todo.append(status)
            if start != COMPLETED:
                self.assertTrue(reached & lifecycle.FINISHED, start)
        reached = {STARTLATER, DELAYED, CRONJOB}.union(*lifecycle.MOVES.values())
        self.assertEqual(reached, set(lifecycle.STATUSES))


    def test_the_steps_of_a_job_make_every_move_of_the_table(self):
        made = {(origin, target) for origins, target, _ in STEPS.values()
                for origin in origins}
        table = {(origin, target) for origin, targets in lifecycle.MOVES.items()
                 for target in targets}
        of_cron_jobs = {(DELAYED, CRONJOB), (CRONJOB, DELAYED), (CRONJOB, CANCELLED)}
        self.assertEqual(made | of_cron_jobs, table)


class Walks(unittest.TestCase):

    def walk(self, steps):
        job = Job(7, "task", {"a": 1}, created=1_000_000)
        now = 1_000_000
        for name in steps:
            now += 1_000
            origins, target, step = STEPS[name]
            origin, before, token = job.recordedStatus, facts(job), job.token
            crashes = job.crashes + job.suspect
            if origin in origins:
                if name == SET_ASIDE and crashes >= 3:
                    target = ERROR
                self.assertIn(target, lifecycle.MOVES[origin])
                step(job, now)
                self.assertEqual(job.recordedStatus, target)
                self.assertGreaterEqual(job.token, token)
                if target == QUEUED:
                    self.assertGreater(job.token, token)
            else:
                with self.assertRaises(IllegalMove) as caught:
                    step(job, now)
                error = caught.exception
                self.assertIsInstance(error, ValueError)
                self.assertEqual((error.job, error.status, error.move),
                                 (job, origin, target))
                self.assertEqual(
                    str(error), f"<Job 7> is {origin}, it cannot become {target}")
                self.assertEqual(facts(job), before, name)
            self.check(job)

    def check(self, job):
        if job.recordedStatus in lifecycle.FINISHED:
            self.assertIsNotNone(job.completed)
        if job.recordedStatus == COMPLETED:
            self.assertEqual((job.output, job.error, job.suspect), ("output", None, False))
        if job.recordedStatus == ERROR:
            self.assertTrue(job.error)
        if job.recordedStatus == PROCESSING:
            self.assertIsNotNone(job.started)
        self.assertGreaterEqual(job.startedCount, 0)
        self.assertLessEqual(len(job.attempts), 20)
        self.assertEqual((job.id, job.task, job.input), (7, "task", {"a": 1}))

    steps = st.lists(st.sampled_from(sorted(STEPS)), max_size=60)

    @settings(max_examples=200, deadline=None, database=None, derandomize=True)
    @given(steps)
    def test_legal_moves_are_made_and_illegal_ones_change_nothing(self, steps):
        self.walk(steps)

    @settings(max_examples=200, deadline=None, database=None, derandomize=True)
    @given(st.data())
    def test_walks_along_legal_moves_go_anywhere(self, data):
        job, seen = Job(7, "task", created=0), set()
        for now in range(data.draw(st.integers(1, 40))):
            legal = [name for name, (origins, _, _) in sorted(STEPS.items())
                     if job.recordedStatus in origins]
            if not legal:
                self.assertEqual(job.recordedStatus, COMPLETED)
                return
            STEPS[data.draw(st.sampled_from(legal))][2](job, now)
            seen.add(job.recordedStatus)

    def test_a_cron_job_is_never_processed_itself(self):
        cron = CronJob(1, "task", minute=(5,))
        self.assertEqual(cron.status, CRONJOB)
        for name in ("enqueue", "start", "complete", "fail", "requeue"):
            with self.assertRaises(IllegalMove):
                STEPS[name][2](cron, 0)
        cron.update(delay=5)
        self.assertEqual(cron.status, DELAYED)
        cron.update(hour=(5,))
        self.assertEqual(cron.status, CRONJOB)
        cron.cancel(5)
        with self.assertRaises(IllegalMove):
            cron.update(delay=5)
        self.assertEqual((cron.status, cron.hour, cron.delay), (CANCELLED, (5,), None))
