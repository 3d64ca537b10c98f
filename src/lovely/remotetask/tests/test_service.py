"""Every verb of the service: what it does, and what it refuses."""
import threading
import unittest
from datetime import UTC, datetime, timedelta

import transaction
from persistent import Persistent
from zope.component import provideHandler
from zope.interface import Interface
from zope.interface.verify import verifyClass, verifyObject
from zope.schema import Int, TextLine
from zope.security.management import endInteraction, newInteraction

from lovely.remotetask.clerk import Want
from lovely.remotetask import interfaces, lifecycle, task
from lovely.remotetask.errors import (
    BadInput, BadOption, BadSchedule, BadSetting, BadStatus, IllegalMove, RemoteTaskError,
    UnknownJob, UnknownTask)
from lovely.remotetask.failure import Failure
from lovely.remotetask.processor import MultiProcessor, SimpleProcessor
from lovely.remotetask.runtime import frames
from lovely.remotetask.service import TaskService
from lovely.remotetask.task import SimpleTask
from lovely.remotetask.testing import simulated_clock
from lovely.remotetask.tests.support import ServiceCase, effect

START = 1_800_000_000  # a whole minute, and a whole hour


class Thing(Persistent):
    pass


class VerbCase(ServiceCase):
    """Without threads, on a clock that stands still."""

    storage = "mapping"

    def setUp(self):
        super().setUp()
        clock = simulated_clock(START)
        self.clock = clock.__enter__()
        self.addCleanup(clock.__exit__, None, None, None)
        self.task("echo", lambda input: input)
        self.task("effect", effect, wantsContext=True)
        self.task("bad", self.bad, retries=0)

    def bad(self, input):
        raise ValueError(f"bad {input}")

    def statuses(self, jobs):
        return [self.service.getStatus(jobid) for jobid in jobs]

    def fail_all(self, count, **options):
        jobs = self.service.addMany("bad", range(count), **options)
        self.service.process()
        transaction.commit()
        return jobs


class Contracts(unittest.TestCase):

    def test_they_are_kept(self):
        self.assertTrue(verifyClass(interfaces.ITaskService, TaskService))
        self.assertTrue(verifyObject(interfaces.ITaskService, TaskService()))
        self.assertTrue(verifyObject(interfaces.IServiceDesk, TaskService()))
        self.assertTrue(verifyObject(interfaces.ITask, SimpleTask(len)))
        for factory in (SimpleProcessor, MultiProcessor):
            self.assertTrue(interfaces.IProcessor.implementedBy(factory))

    def test_all_our_errors_are_the_builtins_of_release_0_5_too(self):
        for error, builtin in ((UnknownTask("x"), ValueError), (UnknownJob(5), KeyError),
                               (BadStatus("x"), ValueError)):
            self.assertIsInstance(error, builtin)
            self.assertIsInstance(error, RemoteTaskError)
        self.assertEqual(str(UnknownJob(5)),
                         "no job 5: it was never added here, or was removed")


class Adding(VerbCase):

    def test_ids_fit_an_xml_rpc_int_and_are_never_zero(self):
        ids = self.service.addMany("echo", range(500))
        self.assertEqual(len(set(ids)), 500)
        self.assertTrue(all(0 < jobid < 2**31 for jobid in ids))
        self.assertEqual(ids, sorted(ids))

    def test_nothing_is_stored_when_something_is_wrong(self):
        class Schema(Interface):
            number = Int(min=0)

        self.task("strict", lambda input: input, inputSchema=Schema)
        add = self.service.add
        wrong = {
            UnknownTask: [lambda: add("unknown"), lambda: add(None), lambda: add(5),
                          lambda: self.service.addCronJob("unknown", minute=(1,))],
            BadInput: [lambda: add("echo", lambda: None), lambda: add("echo", threading.Lock()),
                       lambda: add("echo", "x" * 2_000_000),
                       lambda: self.service.addMany("echo", [1, 2, threading.Lock()]),
                       lambda: add("strict", {"number": -1}), lambda: add("strict", {}),
                       lambda: add("strict", {"number": 1, "other": 2}),
                       lambda: self.service.addCronJob("strict", {"number": "1"}, delay=5)],
            BadOption: [lambda: add("echo", priority="high"), lambda: add("echo", priority=1.5),
                        lambda: add("echo", priority=10**9), lambda: add("echo", delay=-1),
                        lambda: add("echo", delay=float("nan")),
                        lambda: add("echo", delay=float("inf")),
                        lambda: add("echo", delay="5"),
                        lambda: add("echo", delay=5, startAt=datetime.now(UTC)),
                        lambda: add("echo", startAt=datetime(2026, 1, 1)),
                        lambda: add("echo", startAt="tomorrow"),
                        lambda: add("echo", startBefore=datetime(2026, 1, 1)),
                        lambda: add("echo", startBefore=float("nan")),
                        lambda: add("echo", startBefore=float("inf")),
                        lambda: add("echo", startBefore=1e300),
                        lambda: add("echo", timeout=0), lambda: add("echo", timeout=-1),
                        lambda: add("echo", timeout=float("nan")),
                        lambda: add("echo", timeout="1"),
                        lambda: add("echo", retries=-1), lambda: add("echo", retries=0.5),
                        lambda: add("echo", title=5), lambda: add("echo", title="x" * 201),
                        lambda: add("echo", title="a\x00b"), lambda: add("echo", tags=[5]),
                        lambda: add("echo", tags=5), lambda: add("echo", tags=["\udc80"]),
                        lambda: self.service.addCronJob("echo", delay=-5),
                        lambda: self.service.addCronJob("echo", missed="perhaps"),
                        lambda: self.service.addCronJob("echo", overlap="perhaps")],
            BadSchedule: [lambda: self.service.addCronJob("echo", minute=(60,)),
                          lambda: self.service.addCronJob("echo", dayOfMonth=(30,), month=(2,)),
                          lambda: self.service.addCronJob("echo", schedule="* * *"),
                          lambda: self.service.addCronJob("echo", schedule="@daily", delay=5),
                          lambda: self.service.addCronJob("echo", minute=(1,), timezone="X/Y")],
            TypeError: [lambda: add("echo", created=5),
                        lambda: add("echo", site=None), lambda: add("echo", status="queued")],
        }
        for error, calls in wrong.items():
            for number, call in enumerate(calls):
                with self.subTest(error.__name__, number=number):
                    with self.assertRaises(error):
                        call()
        self.assertEqual(len(self.service.jobs), 0)
        self.assertEqual(len(self.service.shards[0].queue.inbox), 0)
        self.assertEqual(sum(self.service.counts().values()), 0)

    def test_errors_name_what_was_wrong(self):
        with self.assertRaisesRegex(UnknownTask, "'unknown'.*bad, echo, effect"):
            self.service.add("unknown")
        with self.assertRaisesRegex(BadInput, "input of 'echo' takes 2,000,0.. bytes"):
            self.service.add("echo", "x" * 2_000_000)

    def test_the_limit_of_inputs_is_a_setting(self):
        self.service.configure(input_limit=5_000)
        with self.assertRaises(BadInput):
            self.service.add("echo", "x" * 6_000)
        with self.assertRaises(BadSetting):
            self.service.configure(input_limit=1)
        with self.assertRaises(BadSetting):
            self.service.configure(no_such_setting=1)
        self.service.configure(input_limit=None)
        self.service.add("echo", "x" * 6_000)

    def test_what_is_recorded(self):
        newInteraction(frames.Participation(type("P", (), {"id": "ada"})()))
        jobid = self.service.add(
            "echo", 1, title="A title", priority=3, tags=["a", "b"], timeout=5, retries=2,
            delay=10, startBefore=20)
        endInteraction()
        job = self.job(jobid)
        now = datetime.fromtimestamp(START, UTC)
        self.assertEqual(
            (job.title, job.priority, job.tags, job.timeout, job.retries, job.owner,
             job.created, job.due, job.deadline, job.status, job.site, job.parent),
            ("A title", 3, ("a", "b"), 5, 2, "ada", now, now + timedelta(seconds=10),
             now + timedelta(seconds=30), "delayed", None, None))
        one_tag = self.job(self.service.add("echo", tags="only"))
        self.assertEqual((one_tag.tags, one_tag.owner), (("only",), None))

    def test_a_job_added_in_a_task_names_its_maker(self):
        self.task("mother", lambda input, context: context.service.add("echo"),
                  wantsContext=True)
        mother = self.service.add("mother")
        self.service.process()
        self.assertEqual(self.job(self.service.getResult(mother)).parent, mother)

    def test_schemas_are_enforced_at_the_end_too(self):
        class Schema(Interface):
            word = TextLine()

        self.task("say", lambda input: input, outputSchema=Schema, retries=0)
        good, bad = self.service.add("say", {"word": "yes"}), self.service.add("say", {"word": 5})
        self.service.process()
        self.assertEqual(self.statuses([good, bad]), ["completed", "error"])
        self.assertIn("output of 'say', word", self.service.getError(bad))

    def test_execute_runs_at_once_and_queues_nothing(self):
        class Schema(Interface):
            number = Int(min=0)

        self.task("twice", lambda input: {"number": input["number"] * 2}, inputSchema=Schema,
                  outputSchema=Schema)
        self.assertEqual(self.service.execute("twice", {"number": 4}), {"number": 8})
        with self.assertRaises(BadInput):
            self.service.execute("twice", {"number": -4})
        with self.assertRaises(UnknownTask):
            self.service.execute("unknown")
        with self.assertRaisesRegex(ValueError, "bad 7"):
            self.service.execute("bad", 7)
        self.assertIsNone(task.context())
        self.assertEqual(len(self.service.jobs), 0)

    def test_copy_changes_what_is_asked(self):
        model = self.service.add("echo", {"a": 1}, startLater=True, title="t", priority=3,
                                 tags=("x",), timeout=9, retries=1)
        same, other = self.service.copy(model), self.service.copy(
            model, input={"a": 2}, priority=4, startLater=True, task="bad")
        self.assertEqual(
            [(each.task, each.input, each.title, each.priority, each.tags, each.timeout,
              each.retries, each.status) for each in map(self.job, (same, other))],
            [("echo", {"a": 1}, "t", 3, ("x",), 9, 1, "queued"),
             ("bad", {"a": 2}, "t", 4, ("x",), 9, 1, "start later")])
        with self.assertRaises(UnknownJob):
            self.service.copy(5)


class Steering(VerbCase):

    def test_start_later(self):
        jobid = self.service.add("echo", startLater=True)
        self.service.process()
        self.assertEqual(self.service.getStatus(jobid), "start later")
        self.assertTrue(self.service.startJob(jobid))
        self.assertFalse(self.service.startJob(jobid))
        self.service.process()
        self.assertFalse(self.service.startJob(jobid))
        self.assertEqual(self.service.getStatus(jobid), "completed")
        with self.assertRaises(UnknownJob):
            self.service.startJob(5)

    def test_start_later_with_a_start_time_still_waits_for_it(self):
        jobid = self.service.add("echo", startLater=True, delay=100)
        self.clock.advance(50)
        self.assertTrue(self.service.startJob(jobid))
        self.assertEqual(self.service.getStatus(jobid), "delayed")
        self.service.process()
        self.assertEqual(self.service.getStatus(jobid), "delayed")
        self.clock.advance(50)
        self.service.process()
        self.assertEqual(self.service.getStatus(jobid), "completed")

    def test_a_deadline_ends_what_waits_for_its_time_or_its_turn(self):
        delayed = self.service.add("effect", delay=10, startBefore=5)
        queued = self.service.add("effect", startBefore=5)
        in_time = self.service.add("effect", delay=10, startBefore=500)
        self.service.dispatch("look")
        self.clock.advance(20)
        self.service.dispatch("look")
        self.assertEqual(self.statuses([delayed, queued, in_time]),
                         ["cancelled", "cancelled", "queued"])
        self.assertEqual({self.job(jobid).reason for jobid in (delayed, queued)},
                         {lifecycle.EXPIRED})
        self.service.process()
        self.assertEqual(dict(self.effects()), {in_time: 1})
        self.assertEqual(self.service.check(), [])

    def test_cancel_is_kind(self):
        jobid = self.service.add("echo")
        self.service.process()
        self.service.cancel(jobid)
        self.service.cancel(5)
        self.service.cancel("nonsense")
        self.assertEqual(self.service.getStatus(jobid), "completed")

    def test_retry_starts_over(self):
        jobid, = self.fail_all(1)
        self.service.retry(jobid)
        job = self.job(jobid)
        self.assertEqual((job.status, job.failures, job.completed), ("queued", 0, None))
        with self.assertRaises(IllegalMove):
            self.service.retry(jobid)
        with self.assertRaises(UnknownJob):
            self.service.retry(5)
        self.task("bad", lambda input: "good now")
        self.service.process()
        self.assertEqual(self.service.getResult(jobid), "good now")
        with self.assertRaises(IllegalMove):
            self.service.retry(jobid)

    def test_retry_all_that_match(self):
        self.task("worse", self.bad, retries=0)
        first = self.fail_all(3, tags=("x",))
        self.clock.advance(100)
        second = self.fail_all(3)
        third = self.service.addMany("worse", range(3))
        self.service.process()

        def retried(**options):
            transaction.commit()
            number = self.service.retryAll(**options)
            found = [jobid for jobid in first + second + third
                     if self.service.getStatus(jobid) == "queued"]
            self.assertEqual(number, len(found))
            transaction.abort()
            return found

        self.assertEqual(retried(), first + second + third)
        self.assertEqual(retried(task="worse"), third)
        self.assertEqual(retried(tag="x"), first)
        self.assertEqual(retried(errorText="BAD 1"), [first[1], second[1], third[1]])
        self.assertEqual(retried(olderThan=50), first)
        self.assertEqual(retried(olderThan=50, errorText="2"), [first[2]])
        self.assertEqual(len(retried(limit=4)), 4)
        self.assertEqual(retried(limit=0), [])
        self.assertEqual(retried(task="echo"), [])

    def test_run_now_is_for_what_waits(self):
        delayed = self.service.add("echo", delay=1_000)
        self.assertEqual(self.service.runNow(delayed), delayed)
        self.assertEqual(self.service.getStatus(delayed), "queued")
        for status in ("queued", "completed", "cancelled"):
            jobid = self.service.add("echo")
            if status == "completed":
                self.service.process()
            elif status == "cancelled":
                self.service.cancel(jobid)
            with self.subTest(status), self.assertRaises(IllegalMove):
                self.service.runNow(jobid)
            self.assertEqual(self.service.getStatus(jobid), status)

    def test_a_job_cancelled_and_retried_unseen_has_one_place_in_line_and_no_deadline(self):
        jobid = self.service.add("effect", startBefore=50)
        self.service.hasJobsWaiting()
        self.service.dispatch("look")  # a clerk has put it in its place
        self.clock.advance(1)
        self.service.cancel(jobid)
        self.service.retry(jobid)
        self.service.dispatch("look")
        self.assertEqual([key[2] for key, _, _ in self.service.shards[0].queue.entries()], [jobid])
        self.assertNotIn(jobid, self.service.shards[0].scheduled)
        self.clock.advance(1)
        self.service.cancel(jobid)
        self.service.retry(jobid)
        self.service.cancel(jobid)
        self.service.dispatch("look")
        self.assertEqual(list(self.service.shards[0].queue.entries()), [])
        self.assertEqual(self.service.check(), [])

    def test_what_was_cancelled_in_hand_does_not_go_back_in_line(self):
        """Handed back unstarted, it once stood in its lane again, cancelled, and the
        lane outlived it."""
        kept, cancelled = self.service.addMany("effect", range(2))
        self.service.dispatch("look")
        claims = self.service.dispatch("mine", want=Want(2, 2, alone=True)).claims
        self.service.cancel(cancelled)
        self.service.dispatch("other")  # settles the slip first
        self.service.handBack("mine", (), claims, (), close=True)
        self.assertEqual([key[2] for key, _, _ in self.service.shards[0].queue.entries()], [kept])
        self.service.clean()
        self.assertEqual(self.service.check(), [])

    def test_a_late_outcome_does_not_speak_for_a_job_that_was_retried(self):
        jobid = self.service.add("bad")
        claim, = self.service.dispatch("mine", want=Want(1, 1, alone=True)).claims
        error = ValueError("bad")
        outcome = self.service.failJob(claim, Failure.of(error), error)
        self.assertEqual(outcome.status, "error")
        self.service.retry(jobid)
        self.service.dispatch("other")  # settles the slip first
        self.service.dispatch("mine", finished=[outcome], fold=True)
        self.assertEqual(self.service.index.place(jobid)[0], "queued")
        self.assertEqual(self.service.counts()["queued"], 1)
        self.assertEqual(self.service.check(), [])


class Reading(VerbCase):

    def test_of_an_unknown_job_there_is_nothing_to_tell(self):
        for verb in ("getJob", "getStatus", "getResult", "getError", "getProgress"):
            for jobid in (5, "5", None, -1, 2**40):
                with self.subTest(verb, jobid=jobid), self.assertRaises(KeyError):
                    getattr(self.service, verb)(jobid)

    def test_results_and_errors(self):
        good, bad = self.service.add("echo", [1]), self.service.add("bad", 1)
        self.assertEqual((self.service.getResult(good), self.service.getError(good)),
                         (None, "None"))
        self.service.process()
        self.assertEqual((self.service.getResult(good), self.service.getError(good)),
                         ([1], "None"))
        self.assertEqual((self.service.getResult(bad), self.service.getError(bad)),
                         (None, "bad 1"))

    def test_counts_and_lengths_and_ages(self):
        self.service.addMany("echo", range(3))
        self.clock.advance(7)
        self.service.addMany("echo", range(2), startLater=True)
        self.service.add("echo", delay=5)
        self.service.addCronJob("echo", minute=(0,))
        self.assertEqual(self.service.queueLength(), 3)
        self.assertEqual(self.service.oldestWaiting(), 7.0)
        expected = dict.fromkeys(lifecycle.STATUSES, 0)
        expected.update({"queued": 3, "start later": 2, "delayed": 1, "cronjob": 1})
        self.assertEqual(self.service.counts(), expected)
        self.service.process()
        expected.update({"queued": 0, "completed": 3})
        self.assertEqual(self.service.counts(), expected)
        self.assertEqual((self.service.queueLength(), self.service.oldestWaiting()), (0, 0.0))

    def test_pages_are_complete_and_newest_first(self):
        jobs = []
        for number in range(60):
            jobs += self.service.addMany(
                ("echo", "bad")[number % 2], [number], tags=("odd",) * (number % 2),
                startLater=number % 3 == 0)
            self.clock.advance(1)
            if number == 40:
                self.service.process()
        newest = [self.job(jobid) for jobid in reversed(jobs)]

        def pages(**options):
            found, after = [], None
            for _ in range(100):
                page, after = self.service.listJobs(after=after, limit=7, **options)
                self.assertLessEqual(len(page), 7)
                found += page
                if after is None:
                    return found

        self.assertEqual(pages(), newest)
        self.assertEqual(pages(task="bad"), [job for job in newest if job.task == "bad"])
        self.assertEqual(pages(tag="odd"), [job for job in newest if job.tags])
        self.assertEqual(pages(owner="nobody"), [])
        for status in lifecycle.STATUSES:
            self.assertEqual(set(pages(status=status)),
                             {job for job in newest if job.status == status})
            self.assertEqual(set(pages(status=status, task="echo")),
                             {job for job in newest if job.status == status
                              and job.task == "echo"})
        with self.assertRaises(BadStatus):
            self.service.listJobs(status="unheard of")

    def test_the_jobs_that_concern_an_object(self):
        root = self.connection.root()
        one, two = root["one"], root["two"] = Thing(), Thing()
        transaction.commit()
        by_input = self.service.add("echo", {"thing": one})
        self.clock.advance(1)
        named = self.service.add("echo", concerns=[one, two])
        self.service.add("echo")
        for _ in range(2):
            self.assertEqual([job.id for job in self.service.jobsFor(one)], [named, by_input])
            self.assertEqual([job.id for job in self.service.jobsFor(two)], [named])
            self.assertEqual(self.service.jobsFor(Thing()), [])
            self.service.process()
        self.service.clean()
        self.assertEqual(self.service.jobsFor(one), [])


class Tidying(VerbCase):

    def test_clean_takes_what_is_at_its_end(self):
        kept = self.service.add("echo", startLater=True)
        done, cancelled = self.service.add("echo"), self.service.add("echo", startLater=True)
        self.service.cancel(cancelled)
        failed, = self.fail_all(1)
        with self.assertRaises(BadStatus):
            self.service.clean("queued or so")
        with self.assertRaises(BadStatus):
            self.service.clean(["completed", "start later"])
        self.assertEqual(len(self.service.jobs), 4)
        self.assertEqual(self.service.clean("error"), 1)
        self.assertNotIn(failed, self.service.jobs)
        self.assertEqual(self.service.clean(), 2)
        self.assertEqual(set(self.service.jobs), {kept})
        self.assertNotIn(done, self.service.jobs)
        self.assertEqual(self.service.clean(), 0)

    def test_remove_takes_one(self):
        jobid, waiting = self.service.add("echo"), self.service.add("echo", startLater=True)
        with self.assertRaises(IllegalMove):
            self.service.remove(waiting)
        self.service.process()
        self.service.remove(jobid)
        with self.assertRaises(UnknownJob):
            self.service.remove(jobid)
        self.assertEqual(set(self.service.jobs), {waiting})

    def test_retention_by_age_and_number(self):
        day = 86_400
        self.service.configure(retain_completed=2, retain_errors=4, retain_count=5)
        self.service.addMany("echo", range(3))
        self.service.process()
        self.fail_all(3)
        self.clock.advance(1 * day)
        self.assertEqual(self.service.prune(), 0)
        self.clock.advance(1.5 * day)
        self.assertEqual(self.service.prune(), 3)
        self.assertEqual(self.service.counts()["error"], 3)
        self.clock.advance(2 * day)
        self.assertEqual(self.service.prune(limit=2), 2)
        self.assertEqual(self.service.prune(limit=2), 1)
        jobs = self.service.addMany("echo", range(9))
        self.service.process()
        self.assertEqual(self.service.prune(), 4)
        self.assertEqual(len(set(jobs) & set(self.service.jobs)), 5)
        self.service.configure(retain_completed=0, retain_count=0)
        self.clock.advance(1_000 * day)
        self.assertEqual(self.service.prune(), 0)

    def test_retention_counts_the_jobs_of_all_shards_together(self):
        """Of five to be kept eight shards kept none."""
        self.service.configure(retain_count=5)
        self.service.shards.use(8)
        jobs = self.service.addMany("echo", range(9))
        self.service.process()
        self.assertEqual(self.service.prune(limit=3), 3)
        self.assertEqual(self.service.prune(), 1)
        self.assertEqual(self.service.prune(), 0)
        self.assertEqual(len(set(jobs) & set(self.service.jobs)), 5)
        self.assertEqual(self.service.check(), [])

    def test_retention_leaves_what_was_retried_just_now(self):
        self.service.configure(retain_errors=1)
        jobs = self.fail_all(2)
        self.clock.advance(2 * 86_400)
        self.service.retry(jobs[0])  # no clerk has seen it yet
        self.service.prune()
        self.assertEqual(set(self.service.jobs), {jobs[0]})
        self.service.dispatch("look")
        self.assertEqual(self.service.counts()["queued"], 1)
        self.assertEqual(self.service.counts()["error"], 0)
        self.assertEqual(self.service.check(), [])

    def test_repair_makes_the_books_again(self):
        jobs = self.service.addMany("echo", range(5))
        self.service.add("echo", delay=100)
        cron = self.service.addCronJob("echo", minute=(5,))
        self.fail_all(2)
        waiting = self.service.add("echo")
        self.service.dispatch("look")
        for status in lifecycle.STATUSES:
            self.service.index.sizes[status].change(3)
        self.service.shards[0].queue.empty()
        self.service.shards[0].scheduled.remove(cron)
        faults = self.service.check()
        self.assertGreater(len(faults), 8)
        self.assertEqual(self.service.check(repair=True), faults)
        self.assertEqual(self.service.check(), [])
        self.service.process()
        self.assertEqual(self.statuses([*jobs, waiting]), ["completed"] * 6)
        self.clock.advance(400)
        self.service.process()
        self.assertEqual(len(self.job(cron).runs), 1)


class Events(VerbCase):

    def setUp(self):
        super().setUp()
        self.heard = []
        provideHandler(lambda event: self.heard.append(event), (interfaces.IJobEvent,))

    def names(self):
        names = [type(event).__name__ for event in self.heard]
        del self.heard[:]
        return names

    def test_one_interface_for_each_end(self):
        ends = {"completed": interfaces.IJobCompleted, "error": interfaces.IJobFailed,
                "cancelled": interfaces.IJobCancelled, "expired": interfaces.IJobExpired}
        jobs = {"completed": self.service.add("echo"), "error": self.service.add("bad"),
                "cancelled": self.service.add("echo", startLater=True),
                "expired": self.service.add("echo", startBefore=1)}
        self.service.cancel(jobs["cancelled"])
        self.clock.advance(2)
        self.service.process()
        for end, jobid in jobs.items():
            event, = [event for event in self.heard if event.job.id == jobid
                      and interfaces.IJobEnded.providedBy(event)]
            self.assertTrue(ends[end].providedBy(event), end)
            self.assertEqual([each for each in ends if ends[each].providedBy(event)],
                             [end] if end != "expired" else ["cancelled", "expired"])
            self.assertIs(event.object, self.job(jobid))
            self.assertIs(event.service, self.service)
            self.assertTrue(event.origin)

    def test_the_life_of_a_job(self):
        jobid = self.service.add("echo")
        self.assertEqual(self.names(), ["JobAdded", "JobQueued"])
        self.service.process()
        self.assertEqual(self.names(), ["JobStarted", "JobCompleted"])
        self.service.remove(jobid)
        self.assertEqual(self.names(), ["JobRemoved"])
        jobid = self.service.add("echo", delay=5)
        self.assertEqual(self.names(), ["JobAdded", "JobDelayed"])
        self.clock.advance(5)
        self.service.process()
        self.assertEqual(self.names(), ["JobQueued", "JobStarted", "JobCompleted"])


class Schedules(VerbCase):

    def cron(self, **options):
        jobid = self.service.addCronJob(options.pop("task", "echo"), **{
            "minute": tuple(range(60)), **options})
        self.service.dispatch("look")
        return jobid

    def instants(self, jobid):
        return [round(run.instant.timestamp()) - START for run in self.job(jobid).runs]

    def test_each_instant_makes_one_run(self):
        jobid = self.cron()
        for _ in range(300):
            self.clock.advance(1)
            self.service.process()
        self.assertEqual(self.instants(jobid), [60, 120, 180, 240, 300])
        self.assertEqual({run.status for run in self.job(jobid).runs}, {"completed"})
        self.assertEqual(self.service.getStatus(jobid), "cronjob")

    def test_what_was_missed_is_made_up_for_by_its_policy(self):
        hours = [3_600, 7_200, 10_800]
        crons = {policy: self.cron(minute=(0,), missed=policy, overlap="allow")
                 for policy in ("skip", "once", "all")}
        self.clock.advance(3.5 * 3_600)  # nobody looks all that time
        self.service.process()
        self.assertEqual({policy: self.instants(jobid) for policy, jobid in crons.items()},
                         {"skip": [], "once": hours[-1:], "all": hours})
        self.clock.advance(0.5 * 3_600)
        self.service.process()
        for jobid in crons.values():
            self.assertEqual(self.instants(jobid)[-1], 14_400)

    def test_a_bound_is_kept_for_missed_runs(self):
        self.service.configure(missed_bound=5)
        jobid = self.cron(missed="all", overlap="allow")
        self.clock.advance(86_400)
        self.service.process()
        self.assertLessEqual(len(self.job(jobid).runs), 6)
        self.assertGreaterEqual(len(self.job(jobid).runs), 5)

    def test_overlap(self):
        found = {}
        for policy in ("allow", "skip", "queue one"):
            jobid = self.cron(overlap=policy)
            for _ in range(4):
                self.clock.advance(60)
                self.service.dispatch("look")  # nobody runs anything
            before = len(self.job(jobid).runs)
            self.service.process()
            found[policy] = before, len(self.job(jobid).runs)
            self.service.cancel(jobid)
            self.service.process()
        self.assertEqual(found, {"allow": (4, 4), "skip": (1, 1), "queue one": (1, 2)})

    def test_a_run_that_waits_is_not_made_once_its_cron_job_is_cancelled_or_paused(self):
        for verb in ("cancel", "pause"):
            jobid = self.cron(overlap="queue one")
            for _ in range(3):
                self.clock.advance(60)
                self.service.dispatch("look")
            getattr(self.service, verb)(jobid)
            self.service.process()
            self.assertEqual([run.status for run in self.job(jobid).runs], ["completed"])
            self.service.cancel(jobid)

    def test_pause_and_resume(self):
        jobid = self.cron()
        self.service.pause(jobid)
        self.clock.advance(300)
        self.service.process()
        self.assertEqual(self.job(jobid).runs, ())
        self.service.resume(jobid)
        self.service.process()
        self.assertEqual(self.job(jobid).runs, ())  # from now on
        self.clock.advance(60)
        self.service.process()
        self.assertEqual(self.instants(jobid), [360])
        for verb in ("pause", "resume"):
            with self.assertRaises(IllegalMove):
                getattr(self.service, verb)(self.service.add("echo"))
            with self.assertRaises(UnknownJob):
                getattr(self.service, verb)(5)

    def test_a_pause_counts_also_while_much_else_waits_to_be_settled(self):
        jobid = self.cron()
        self.clock.advance(60)
        self.service.addMany("echo", range(2_000))
        self.service.pause(jobid)
        for _ in range(6):
            self.service.dispatch("look")
        self.assertEqual([run for run in self.job(jobid).runs
                          if run.instant.timestamp() > START + 60], [])
        self.clock.advance(300)
        self.service.dispatch("look")
        self.assertLessEqual(len(self.job(jobid).runs), 1)

    def test_run_now_makes_a_run_beside_the_schedule(self):
        jobid = self.cron(minute=(30,))
        run = self.service.runNow(jobid)
        self.assertNotEqual(run, jobid)
        self.service.process()
        self.assertEqual((self.service.getStatus(run), self.job(run).parent),
                         ("completed", jobid))
        self.assertEqual(len(self.job(jobid).runs), 1)
        self.assertEqual(self.job(jobid).scheduledFor.minute, 30)

    def test_update_is_in_force_with_reschedule_and_without_it_breaks_nothing(self):
        jobid = self.cron()
        self.job(jobid).update(minute=(30,))
        self.clock.advance(120)
        self.service.process()
        self.assertIsNone(self.job(jobid).broken)
        self.service.reschedule(jobid)
        self.service.process()
        self.assertEqual(self.job(jobid).scheduledFor.minute, 30)
        self.clock.advance(3_600)
        self.service.process()
        self.assertEqual(self.instants(jobid), [1_800])

    def test_a_broken_schedule_stops_nobody_else(self):
        class Broken:
            def next_after(self, moment):
                if moment > datetime.fromtimestamp(START, UTC):
                    raise RuntimeError("no idea")
                return moment + timedelta(seconds=30)

            def describe(self):
                return "broken"

        globals()["Broken"] = Broken
        Broken.__qualname__ = "Broken"
        good = self.cron()
        jobid = self.service.addCronJob("echo", schedule=Broken())
        self.clock.advance(60)
        self.service.process()
        self.clock.advance(60)
        self.service.process()
        self.assertEqual(len(self.job(good).runs), 2)
        self.assertIn("no idea", self.job(jobid).broken)
        self.job(jobid).update(minute=tuple(range(60)))
        self.service.reschedule(jobid)
        self.service.process()
        self.clock.advance(60)
        self.service.process()
        self.assertEqual(len(self.job(jobid).runs), 1)

    def test_the_error_of_a_run_does_not_stop_the_schedule_and_success_clears_it(self):
        jobid = self.cron(task="bad")
        for _ in range(2):
            self.clock.advance(60)
            self.service.process()
        self.assertEqual((len(self.job(jobid).runs), self.service.getError(jobid)),
                         (2, "bad None"))
        self.task("bad", lambda input: "fine")
        self.clock.advance(60)
        self.service.process()
        self.assertEqual((self.service.getError(jobid), self.service.getResult(jobid)),
                         ("None", "fine"))

    def test_cron_and_queue_do_not_starve_each_other(self):
        crons = [self.service.addCronJob("echo", minute=tuple(range(60)), overlap="allow")
                 for _ in range(150)]
        jobs = self.service.addMany("echo", range(20))
        self.service.dispatch("look")
        self.clock.advance(60)
        round = self.service.dispatch("look", want=Want(30, 30, alone=True))
        self.assertTrue({claim.id for claim in round.claims} >= set(jobs))
        self.assertTrue(round.more)
        self.service.dispatch("look")
        self.assertEqual({len(self.job(jobid).runs) for jobid in crons}, {1})
        self.service.handBack("look", (), round.claims, (), close=True)

    def test_an_instant_fires_once_however_many_dispatchers_race(self):
        def look(number, ready, fired):
            by_hand = SimpleProcessor(self.db, ["tasks"])
            ready.wait(10)
            by_hand._call("dispatch", f"dispatcher {number}")
            fired.append(number)

        jobid = self.cron()
        transaction.commit()
        for minute in range(1, 30):
            self.clock.advance(60)
            ready, fired = threading.Barrier(4), []
            threads = [threading.Thread(target=look, args=(number, ready, fired))
                       for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10)
            self.assertEqual(len(fired), 4)
            self.look().process()
            transaction.commit()
            self.assertEqual(len(self.job(jobid).runs), minute)
        self.assertEqual(self.instants(jobid), [60 * each for each in range(1, 30)])


class ByHand(VerbCase):

    def test_one_after_the_other(self):
        ran = []
        self.task("note", ran.append)
        self.service.addMany("note", range(3))
        self.assertTrue(self.service.hasJobsWaiting())
        self.assertTrue(self.service.processNext())
        self.assertEqual(ran, [0])
        self.service.process()
        self.assertFalse(self.service.processNext())
        self.assertFalse(self.service.hasJobsWaiting())

    def test_a_claim_is_processed_by_its_number(self):
        jobid = self.service.add("echo", 5)
        self.assertEqual(self.service.claimNextJob(), jobid)
        self.assertEqual(self.service.getStatus(jobid), "processing")
        self.assertIsNone(self.service.claimNextJob())
        self.assertTrue(self.service.processNext(jobid=jobid))
        self.assertEqual(self.service.getResult(jobid), 5)
        self.assertFalse(self.service.processNext(jobid=jobid))
        self.assertEqual(self.service.check(), [])

    def test_an_error_rolls_back_what_the_attempt_wrote_and_nothing_else(self):
        @self.task("half", wantsContext=True, retries=0)
        def half(input, context):
            effect(input, context)
            raise ValueError("in the middle")

        self.connection.root()["mine"] = 1
        bad, good = self.service.add("half"), self.service.add("effect")
        self.service.process()
        self.assertEqual(self.statuses([bad, good]), ["error", "completed"])
        self.assertEqual(dict(self.effects()), {good: 1})
        self.assertEqual(self.connection.root()["mine"], 1)
        transaction.abort()
        self.assertEqual(len(self.service.jobs), 0)

    def test_without_any_database(self):
        service = TaskService()
        good, bad = service.add("echo", 1), service.add("bad", 2)
        service.process()
        self.assertEqual((service.getResult(good), service.getError(bad)), (1, "bad 2"))
        self.assertEqual(service.check(), [])

    def test_a_task_that_is_gone_is_an_error(self):
        jobid = self.service.add("echo")
        from zope.component import getGlobalSiteManager
        getGlobalSiteManager().unregisterUtility(provided=interfaces.ITask, name="echo")
        self.service.process()
        self.assertEqual((self.service.getStatus(jobid), self.service.getError(jobid)),
                         ("error", 'Task "echo" not found!'))
