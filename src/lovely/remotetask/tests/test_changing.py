"""Jobs that wait, and schedules, can be changed; the books go with them."""
from datetime import UTC, datetime, timedelta

import transaction
from zope.interface import Interface
from zope.schema import Int
from zope.security.management import endInteraction, newInteraction
from zope.security.testing import Principal

from lovely.remotetask import clock
from lovely.remotetask.errors import (
    BadInput, BadOption, BadSchedule, NoCronJob, NotAllowed, NotWaiting)
from lovely.remotetask.runtime.frames import Participation
from lovely.remotetask.tests.support import Gate, ServiceCase


class INumber(Interface):
    number = Int(title="Number", max=9)


class ChangingCase(ServiceCase):

    def setUp(self):
        super().setUp()
        self.ran = []
        self.task("note", self.ran.append)
        self.task("number", self.ran.append, inputSchema=INumber)

    def change(self, jobid, **changes):
        self.service.changeJob(jobid, **changes)
        transaction.commit()
        self.assertEqual(self.service.check(), [])
        return self.job(jobid)

    def process(self, now=None):
        self.service.process(now)
        transaction.commit()


class WaitingJobs(ChangingCase):

    def test_a_queued_job_takes_its_new_place_in_line(self):
        first, second = self.add("note", 1), self.add("note", 2)
        self.assertTrue(self.service.hasJobsWaiting())
        self.service.clean()          # settles what the inbox names
        transaction.commit()
        job = self.change(second, priority=1, title="urgent", input=20, retries=0,
                          timeout=5)
        self.assertEqual((job.priority, job.title, job.input, job.retries, job.timeout),
                         (1, "urgent", 20, 0, 5))
        self.process()
        self.assertEqual(self.ran, [20, 1])
        self.assertEqual(self.job(first).status, "completed")

    def test_a_job_changed_many_times_runs_once(self):
        jobid = self.add("note", 1)
        for number in range(5):
            self.change(jobid, priority=number, input=number)
            self.service.clean()
            transaction.commit()
        self.process()
        self.assertEqual(self.ran, [4])

    def test_a_later_start_is_kept(self):
        jobid = self.add("note", 1, delay=3600)
        start = datetime(2040, 1, 1, tzinfo=UTC)
        self.assertEqual(self.change(jobid, startAt=start).due, start)
        self.process((clock.now() + timedelta(days=1)).timestamp())
        self.assertEqual(self.ran, [])
        self.process((start + timedelta(seconds=1)).timestamp())
        self.assertEqual(self.ran, [1])

    def test_a_job_that_waits_to_be_started_forgets_its_time(self):
        jobid = self.add("note", 1, startLater=True, delay=3600)
        self.assertIsNone(self.change(jobid, startAt=None).due)
        self.service.startJob(jobid)
        self.process()
        self.assertEqual(self.ran, [1])

    def test_what_is_wrong_is_refused_and_changes_nothing(self):
        jobid = self.add("number", {"number": 1}, delay=60)
        for changes, error in (
                ({"priority": "high"}, BadOption), ({"tags": ("x",)}, BadOption),
                ({"startAt": None}, BadOption), ({"missed": "all"}, BadOption),
                ({"input": {"number": 10}}, BadInput), ({"timeout": -1}, BadOption),
                ({"title": "x" * 500}, BadOption)):
            with self.assertRaises(error, msg=changes):
                self.service.changeJob(jobid, **{"title": "new", **changes})
        self.assertEqual((self.job(jobid).title, self.job(jobid).input),
                         ("", {"number": 1}))
        queued = self.add("note")
        with self.assertRaises(BadOption):
            self.service.changeJob(queued, startAt=clock.now())

    def test_what_has_begun_or_ended_is_not_changed(self):
        gate = Gate(self)
        self.task("gate", gate)
        jobid = self.add("gate")
        self.start()
        gate.arrival()
        self.look()
        with self.assertRaises(NotWaiting):
            self.service.changeJob(jobid, title="late")
        transaction.abort()
        gate.open()
        self.wait_status(jobid)
        with self.assertRaises(NotWaiting):
            self.service.changeJob(jobid, title="too late")

    def test_a_claim_in_the_same_moment_is_let_go(self):
        jobid = self.add("note", 1)
        claimed = self.service.claimByHand(jobid)
        self.change(jobid, input=2)
        self.assertNotEqual(claimed.token, self.job(jobid).token)

    def test_the_input_of_somebody_elses_job_is_not_just_changed(self):
        newInteraction(Participation(Principal("anna")))
        self.addCleanup(endInteraction)
        jobid = self.add("note", 1, delay=60)
        self.change(jobid, input=2)
        endInteraction()
        newInteraction(Participation(Principal("ben")))
        self.change(jobid, title="a title is harmless")
        with self.assertRaises(NotAllowed):
            self.service.changeJob(jobid, input=3)


class Schedules(ChangingCase):

    def setUp(self):
        super().setUp()
        self.cron = self.service.addCronJob("note", 1, minute=(0,), hour=(2,),
                                            timezone="Europe/Berlin")
        self.process()

    def change(self, **changes):
        self.service.changeCronJob(self.cron, **changes)
        self.service.process()
        transaction.commit()
        self.assertEqual(self.service.check(), [])
        return self.job(self.cron)

    def test_fields_that_are_not_named_stay(self):
        job = self.change(minute=(30,))
        self.assertEqual((job.minute, job.hour, job.timezone),
                         ((30,), (2,), "Europe/Berlin"))
        self.assertEqual(job.scheduledFor.minute, 30)

    def test_cron_text_and_fields_take_each_others_place(self):
        job = self.change(schedule="@daily")
        self.assertEqual((job.text, job.minute, job.timezone),
                         ("@daily", (), "Europe/Berlin"))
        job = self.change(timezone="UTC")
        self.assertEqual((job.text, job.timezone), ("@daily", "UTC"))
        job = self.change(hour=(4,))
        self.assertEqual((job.text, job.hour), (None, (4,)))
        job = self.change(delay=60)
        self.assertEqual((job.status, job.delay, job.hour), ("delayed", 60, ()))
        job = self.change(timezone="UTC")
        self.assertEqual((job.status, job.delay), ("delayed", 60))
        job = self.change(schedule="0 3 * * *")
        self.assertEqual((job.status, job.delay), ("cronjob", None))

    def test_policies_and_options_change_without_another_time(self):
        before = self.job(self.cron).scheduledFor
        job = self.change(missed="all", overlap="allow", title="nightly", input=2,
                          priority=3)
        self.assertEqual((job.missed, job.overlap, job.title, job.input, job.priority),
                         ("all", "allow", "nightly", 2, 3))
        self.assertEqual(job.scheduledFor, before)
        run = self.service.runNow(self.cron)
        self.assertEqual((self.job(run).title, self.job(run).priority), ("nightly", 3))
        self.process()
        self.assertEqual(self.ran, [2])

    def test_what_is_wrong_is_refused(self):
        for changes, error in (
                ({"missed": "never"}, BadOption), ({"schedule": "every noon"}, BadSchedule),
                ({"timezone": "Berlin"}, BadSchedule), ({"hour": (24,)}, BadSchedule),
                ({"startAt": clock.now()}, BadOption)):
            with self.assertRaises(error, msg=changes):
                self.service.changeCronJob(self.cron, **changes)
        self.assertEqual(self.job(self.cron).hour, (2,))

    def test_only_schedules_that_are_in_force_are_changed(self):
        with self.assertRaises(NoCronJob):
            self.service.changeCronJob(self.add("note", delay=60), missed="all")
        self.service.cancel(self.cron)
        with self.assertRaises(NoCronJob):
            self.service.changeCronJob(self.cron, hour=(3,))
        with self.assertRaises(NotWaiting):
            self.service.changeJob(self.cron, hour=(3,))
