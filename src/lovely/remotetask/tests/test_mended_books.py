"""The books were wrong or stood still here once; each fact tells what it cost."""
import logging
import threading
from unittest import mock

import transaction
from persistent import Persistent
from persistent.mapping import PersistentMapping
from ZODB.Connection import Connection
from ZODB.POSException import ConflictError, POSKeyError, StateLoadError, StorageError
from zope.component import adapter, hooks, provideHandler, provideUtility
from zope.interface import implementer
from zope.site.folder import Folder
from zope.site.site import LocalSiteManager

from lovely.remotetask import processor
from lovely.remotetask.clerk import Claim, Want
from lovely.remotetask.errors import BadOption
from lovely.remotetask.interfaces import (
    IJobAdded, IJobExpired, IJobHandedBack, IJobQueued, IJobRemoved, IJobStarted, ITask)
from lovely.remotetask.service import TaskService
from lovely.remotetask.limits import Limit
from lovely.remotetask.task import SimpleTask, limits_of
from lovely.remotetask.testing import BOUND, simulated_clock
from lovely.remotetask.tests.support import Gate, ServiceCase


class AtMostOnce(ServiceCase):

    def test_a_stop_without_grace_does_not_run_it_a_second_time(self):
        """It was handed back to the queue, and the next process ran it again."""
        gate, ran, ended = Gate(self), [], threading.Event()

        def once(input):
            ran.append(input)
            gate(input)
            ended.set()

        self.task("once", once, atMostOnce=True)
        jobid = self.add("once")
        self.start()
        gate.arrival()
        processor.stop_all(self.db, grace=0)
        self.look()
        job = self.job(jobid)
        self.assertEqual((job.status, job.reason, len(job.attempts)),
                         ("error", "interrupted", 1))
        gate.open()
        self.assertTrue(ended.wait(BOUND))
        self.start()
        self.task("other", lambda input: input)
        self.wait_status(self.add("other"))
        self.assertEqual((len(ran), self.service.getStatus(jobid)), (1, "error"))

    def test_what_has_not_begun_goes_back_in_line(self):
        ran = []
        self.task("once", ran.append, atMostOnce=True)
        jobid = self.add("once")
        claims = self.service.dispatch("one", want=Want(1, 1, alone=True)).claims
        self.service.handBack("one", running=claims, close=True)
        transaction.commit()
        self.assertEqual(self.job(jobid).reason, "handed back")
        self.start()
        self.wait_status(jobid)
        self.assertEqual(ran, [None])

    def test_its_error_is_not_tried_again_by_hand_either(self):
        """`process` made the three more attempts of a task without a policy."""
        ran = []

        def fail(input):
            ran.append(input)
            raise ValueError("once is enough")

        self.task("once", fail, atMostOnce=True)
        self.task("thrice", fail, atMostOnce=True, retries=2)
        self.add("once", "once")
        self.add("thrice", "thrice")
        self.service.process()
        self.assertEqual(ran, ["once"] + 3 * ["thrice"])

    def test_a_repair_does_not_run_it_a_second_time(self):
        self.task("once", lambda input: input, atMostOnce=True)
        jobid = self.add("once")
        claim, = self.service.dispatch("one", want=Want(1, 1, alone=True)).claims
        self.service.startOnce(claim)
        self.service.leases.close("one")
        self.service.check(repair=True)
        self.assertEqual(self.job(jobid).reason, "interrupted")
        self.assertEqual(self.service.check(), [])


class Mishap(Exception):
    """What the subscribers of these tests raise."""


class BadSubscriber(ServiceCase):
    """One raises at each event of a kind, as long as `raising` is true."""

    raising = True

    def raise_at(self, event, error=Mishap):
        told = []

        @adapter(event)
        def subscriber(event):
            if self.raising:
                told.append(event.job.id)
                raise error("mail server away")

        provideHandler(subscriber)
        self.addCleanup(setattr, self, "raising", False)
        return told

    def tearDown(self):
        self.raising = False
        super().tearDown()


class CronRuns(BadSubscriber):

    def cron(self, **options):
        self.task("work", lambda input: input)
        cron = self.service.addCronJob("work", schedule="* * * * *", **options)
        transaction.commit()
        self.service.process()
        transaction.commit()
        return cron

    def fired(self, cron):
        self.service.process()
        transaction.commit()
        self.assertEqual(self.service.check(), [])
        job = self.job(cron)
        self.assertIsNone(job.broken)
        return [run.status for run in job.runs]

    def test_a_subscriber_that_raises_does_not_break_the_schedule(self):
        """The cron job was broken for good, and its run in no book."""
        self.fires_beside_trouble(IJobAdded)

    def test_nor_does_one_that_hears_of_its_turn(self):
        self.fires_beside_trouble(IJobQueued)

    def fires_beside_trouble(self, event):
        with simulated_clock() as clock:
            cron = self.cron()
            told = self.raise_at(event)
            clock.advance(61)
            self.assertEqual(self.fired(cron), ["completed"])
            self.assertEqual(len(told), 1)
            clock.advance(60)
            self.assertEqual(self.fired(cron), 2 * ["completed"])

    def test_a_conflict_while_it_fires_is_no_fault_of_the_schedule(self):
        with simulated_clock() as clock:
            cron = self.cron()
            self.raise_at(IJobAdded, ConflictError)
            clock.advance(61)
            with self.assertRaises(ConflictError):
                self.service.process()
            transaction.abort()
            self.raising = False
            self.assertEqual(self.fired(cron), ["completed"])

    def test_who_asks_for_a_run_now_is_told(self):
        cron = self.cron()
        self.raise_at(IJobAdded)
        with self.assertRaises(Mishap):
            self.service.runNow(cron)
        transaction.abort()


class OneBadJob(BadSubscriber):
    """What is wrong with one job made the dispatcher stumble each second, and all
    the others waited."""

    def setUp(self):
        super().setUp()
        self.task("work", lambda input: input)

    def others_run(self):
        self.wait_status(self.add("work"))
        self.assertEqual(self.stumbled(), [])

    def stumbled(self):
        return [line for line in self.lines.texts(logging.ERROR) if "stumbled" in line]

    def test_a_subscriber_that_raises_when_a_job_is_due_is_passed_over(self):
        told = self.raise_at(IJobQueued)
        self.raising = False
        jobid = self.add("work", delay=0.01)
        self.raising = True
        self.start()
        self.wait_status(jobid)
        self.raising = False
        self.assertEqual(told, [jobid])
        self.others_run()
        self.wait_settled()

    def test_so_is_one_that_raises_when_a_deadline_has_passed(self):
        told = self.raise_at(IJobExpired)
        with simulated_clock() as clock:
            jobid = self.add("work", startBefore=5)
            clock.advance(10)
            self.service.process()
            transaction.commit()
        self.assertEqual((told, self.job(jobid).reason), ([jobid], "expired"))

    def test_a_subscriber_that_raises_at_a_hand_back_does_not_hold_up_a_stop(self):
        gate = Gate(self)
        self.task("gate", gate)
        jobid = self.add("gate")
        self.start()
        gate.arrival()
        told = self.raise_at(IJobHandedBack)
        self.assertEqual(processor.stop_all(self.db, grace=0), [])
        self.look()
        self.assertEqual((told, self.job(jobid).status), ([jobid], "queued"))

    def test_nor_one_that_raises_at_the_start_of_what_is_handed_back(self):
        jobid = self.add("work")
        claims = self.service.dispatch("one", want=Want(1, 1, alone=True)).claims
        self.raise_at(IJobStarted)
        self.service.handBack("one", running=claims, close=True)
        self.assertEqual(self.job(jobid).reason, "handed back")
        self.assertEqual(self.service.check(), [])

    def test_what_a_dead_process_held_is_rescued_beside_a_subscriber_that_raises(self):
        jobids = [self.add("work"), self.add("work")]
        self.service.dispatch("dead", want=Want(2, 2, alone=True))
        transaction.commit()
        back, started = self.raise_at(IJobHandedBack), self.raise_at(IJobStarted)
        self.service.dispatch("one", rescuing=True)
        transaction.commit()
        self.assertEqual([self.job(id).reason for id in jobids], 2 * ["interrupted"])
        self.assertEqual((back, started), (jobids, jobids))
        self.raising = False
        self.start()
        self.wait_status(jobids)

    def test_retention_goes_on_beside_a_subscriber_that_raises(self):
        jobids = [self.add("work") for _ in range(3)]
        self.service.process()
        self.service.configure(retain_count=1)
        transaction.commit()
        told = self.raise_at(IJobRemoved)
        self.assertEqual(self.service.prune(), 2)
        transaction.commit()
        self.assertEqual((told, list(self.service.jobs)), (jobids[:2], jobids[2:]))

    def test_who_removes_a_job_is_told(self):
        jobid = self.add("work")
        self.service.process()
        transaction.commit()
        self.raise_at(IJobRemoved)
        with self.assertRaises(Mishap):
            self.service.remove(jobid)
        transaction.abort()

    def lose(self, jobid, error=None):
        """The record of that job is missing from now on, until the test ends."""
        oid = self.job(jobid)._p_oid
        load = Connection.setstate

        def setstate(connection, object):
            if object._p_oid == oid:
                raise error or POSKeyError(oid)
            load(connection, object)

        lost = mock.patch.object(Connection, "setstate", setstate)
        lost.start()
        self.addCleanup(lost.stop)
        self.job(jobid)._p_deactivate()
        self.found = lost.stop

    def test_a_job_whose_record_is_missing_is_left_out(self):
        lost = self.add("work")
        self.lose(lost)
        self.start()
        self.others_run()
        self.wait_logged(f"job {lost} cannot be read")
        processor.stop_all(self.db)
        self.found()
        self.assertEqual(self.look().check(repair=True),
                         [f"job {lost} is queued, the index has nothing"])
        transaction.commit()

    def test_one_whose_state_is_no_pickle_stops_nobody_and_can_be_removed(self):
        """The dispatcher stumbled over it at every look, and nothing ran any more."""
        lost = self.add("work")
        self.lose(lost, StateLoadError())
        self.start()
        self.others_run()
        self.assertEqual(self.look().counts()["queued"], 0)
        self.assertNotIn(lost, [job.id for job in self.service.listJobs()[0]])
        self.assertIn(f"job {lost} cannot be read", self.service.check()[0])
        self.service.remove(lost)
        transaction.commit()
        self.assertEqual(self.service.check(), [])

    def test_so_is_one_that_is_due_or_in_hand_or_old(self):
        with simulated_clock() as clock:
            for options in {"delay": 5}, {}:
                lost = self.add("work", **options)
                self.service.dispatch("one", want=Want(2, 2, alone=True))
                transaction.commit()
                self.lose(lost)
                clock.advance(10)
                for _ in range(2):
                    self.service.dispatch("one", in_hand=[(lost, 1)])
                    transaction.commit()
                self.service.handBack("one", running=[Claim(lost, 1, "", (10, 1, lost))],
                                      close=True)
                self.found()
                self.service.check(repair=True)
                transaction.commit()
        self.service.process()
        transaction.commit()
        self.lose(lost)
        self.service.configure(retain_completed=1e-9)
        self.service.prune()
        self.found()
        self.service.check(repair=True)
        transaction.commit()

    def test_an_outage_is_not_one_bad_job(self):
        self.lose(self.add("work"), StorageError("away"))
        with self.assertRaises(StorageError):
            self.service.dispatch("one", want=Want(1, 1))
        transaction.abort()
        self.found()


@implementer(ITask)
class Odd:
    """A task that says of its lane what a test gives it."""

    inputSchema = outputSchema = None

    def __init__(self, **facts):
        vars(self).update(facts)

    def __call__(self, service, jobid, input):
        return input


class OddLanes(ServiceCase):
    """One task with a bad lane stopped every service of the process."""

    def setUp(self):
        super().setUp()
        self.task("work", lambda input: input)

    def assert_all_run(self):
        self.start()
        jobids = [self.add("work"), self.add("odd"), self.add("work")]
        self.wait_status(jobids)
        self.wait_settled()
        self.assertEqual({self.job(id).lane for id in jobids}, {""})
        self.assertEqual(self.service.knownLimits(), {})

    def test_a_width_without_a_lane_is_ignored(self):
        provideUtility(Odd(laneWidth=1), ITask, "odd")
        self.assert_all_run()

    def test_a_lane_that_is_no_text_is_ignored(self):
        provideUtility(Odd(lane=5), ITask, "odd")
        self.assert_all_run()

    def test_a_width_that_is_no_number_is_ignored(self):
        for lane, width in ("narrow", "2"), ("narrow", 0), (5, 1):
            self.assertEqual(limits_of({"odd": Odd(lane=lane, laneWidth=width)}), {})
        self.assertEqual(limits_of({"odd": Odd(lane="narrow", laneWidth=1)}),
                         {"lane:narrow": Limit("lane:narrow", 1)})

    def test_it_is_logged_once(self):
        odd = Odd(lane="narrow", laneWidth=b"one")
        self.assertEqual([limits_of({"odd": odd}), limits_of({"odd": odd})], [{}, {}])
        line, = self.lines.texts(logging.ERROR)
        self.assertIn("b'one'", line)

    def test_a_simple_task_does_not_take_it(self):
        for options in dict(lane=5), dict(lane="narrow", laneWidth="2"):
            with self.assertRaises(BadOption):
                SimpleTask(str, **options)


class TwoSlips(ServiceCase):

    def test_a_job_of_two_slips_is_claimed_once(self):
        """It ran on two threads at the same time."""
        self.task("work", lambda input: input)
        jobid = self.service.add("work", startLater=True)
        self.service.startJob(jobid)
        other = self.service.add("work")
        transaction.commit()
        claims = self.service.dispatch("one", want=Want(5, 5, alone=True)).claims
        transaction.commit()
        self.assertEqual([claim.id for claim in claims], [jobid, other])
        self.assertEqual(len(self.service.shards[0].queue.inbox), 0)
        self.service.handBack("one", unstarted=claims, close=True)
        self.service.process()
        transaction.commit()


class CatchingUp(ServiceCase):
    """With missed='all' the first missed instant was run, and all others skipped as
    overlapping with it."""

    def setUp(self):
        super().setUp()
        self.ran = []
        self.task("work", self.ran.append)

    def after_ten_minutes(self, clock, **options):
        cron = self.service.addCronJob("work", schedule="* * * * *", missed="all",
                                       **options)
        self.service.process()
        clock.advance(600)
        return self.job(cron)

    def instants(self, cron):
        return [run.instant.minute for run in cron.runs]

    def test_every_missed_run_is_made(self):
        for overlap in "skip", "queue one", "allow":
            with self.subTest(overlap), simulated_clock() as clock:
                cron = self.after_ten_minutes(clock, overlap=overlap)
                self.service.process()
                self.assertEqual(self.instants(cron), [*range(1, 11)])
                self.assertEqual({run.status for run in cron.runs}, {"completed"})
                clock.advance(60)
                self.service.process()
                self.assertEqual(self.instants(cron), [*range(1, 12)])
                self.service.cancel(cron.id)
                self.assertEqual(self.service.check(), [])
        transaction.commit()

    def test_one_after_the_other(self):
        with simulated_clock() as clock:
            cron = self.after_ten_minutes(clock)
            for number in range(1, 4):
                self.assertTrue(self.service.processNext())
                self.assertEqual(self.service.counts()["queued"], 1)
                self.assertEqual(len(self.ran), number)
            clock.advance(60)  # on time, and the run before it is not finished
            self.service.process()
            self.assertEqual(self.instants(cron), [*range(1, 11)])
        transaction.commit()

    def test_what_waits_is_bounded_and_gone_with_a_pause(self):
        self.service.configure(missed_bound=4)
        with simulated_clock() as clock:
            cron = self.after_ten_minutes(clock)
            self.service.processNext()
            self.assertEqual((self.instants(cron), len(cron.late)), ([7, 8], 2))
            self.service.pause(cron.id)
            self.service.process()
            self.assertEqual(self.instants(cron), [7, 8])
        transaction.commit()


class NewDelays(ServiceCase):

    def test_a_delay_given_later_counts_from_then(self):
        """It counted from the moment the job was added, and the job ran at once."""
        ran = []
        self.task("work", ran.append)
        with simulated_clock() as clock:
            cron = self.service.addCronJob("work", minute=(5,))
            self.service.dispatch("one")
            clock.advance(86_400)
            self.job(cron).update(delay=600)
            self.service.reschedule(cron)
            for seconds, status, times in (0, "delayed", 0), (599, "delayed", 0), \
                    (1, "completed", 1):
                clock.advance(seconds)
                self.service.dispatch("one")
                self.service.process()
                self.assertEqual((self.service.getStatus(cron), len(ran)),
                                 (status, times))
        transaction.commit()


class FullLane(ServiceCase):

    def test_a_look_that_finds_no_room_writes_nothing(self):
        """Each look committed the lease as it was, once a second for as long as a
        job kept its lane full."""
        self.task("narrow", lambda input: input, lane="narrow", laneWidth=1)
        first, second = self.add("narrow"), self.add("narrow")
        claims = self.service.dispatch("one", want=Want(1, 1, alone=True)).claims
        transaction.commit()
        for _ in range(2):
            before = self.db.lastTransaction()
            found = self.service.dispatch(
                "one", want=Want(1, 1, lines={claims[0].line: 1}), unstarted=[],
                in_hand=[(first, 1)], known=[first]).claims
            transaction.commit()
            self.assertEqual((found, self.db.lastTransaction()), ([], before))
        self.service.handBack("one", unstarted=claims, close=True)
        self.service.process()
        transaction.commit()
        self.assertEqual(self.service.getStatus(second), "completed")


class ClaimedAhead(ServiceCase):

    def test_a_job_cancelled_meanwhile_does_not_come_back_into_its_lane(self):
        """The entry stayed in the lane, also when the job was removed."""
        self.task("work", lambda input: input)
        jobids = [self.add("work") for _ in range(3)]
        self.service.dispatch("one")  # in the books before they are claimed
        transaction.commit()
        claims = self.service.dispatch("one", want=Want(3, 3, alone=True)).claims
        self.service.cancel(jobids[1])
        self.service.dispatch("one", known=jobids)
        transaction.commit()
        self.service.handBack("one", unstarted=claims, close=True)
        transaction.commit()
        waiting = [key[2] for key, _, _ in self.service.shards[0].queue.entries()]
        self.assertEqual(waiting, [jobids[0], jobids[2]])
        self.service.remove(jobids[1])
        transaction.commit()
        self.assertEqual(self.service.check(), [])
        self.service.process()
        transaction.commit()
        self.assertFalse(self.service.hasJobsWaiting())


class NewService(ServiceCase):

    def test_what_many_jobs_concern_is_found_though_the_service_was_new(self):
        """An adder folded the first hundred while the object had no oid."""
        self.task("work", lambda input: input)
        root = self.connection.root()
        service = root["new"] = TaskService()
        root["page"] = page = PersistentMapping()
        for number in range(150):
            service.add("work", number, concerns=[page])
        transaction.commit()
        service.dispatch("one")
        transaction.commit()
        self.assertEqual(len(service.jobsFor(page)), 150)
        self.assertEqual(service.check(), [])


class LanesOfSites(ServiceCase):

    def test_a_width_known_in_the_service_counts_for_tasks_of_sites_below(self):
        site = self.connection.root()["site"] = Folder()
        site.setSiteManager(LocalSiteManager(site))
        site.getSiteManager().registerUtility(LocalTask(), ITask, name="local")
        self.task("global", lambda input: input, lane="narrow", laneWidth=1)
        with hooks.site(site):
            jobids = [self.service.add("local"), self.service.add("local")]
        transaction.commit()
        claims = self.service.dispatch("one", want=Want(2, 2, alone=True)).claims
        transaction.commit()
        self.assertEqual([claim.id for claim in claims], jobids[:1])
        self.service.handBack("one", unstarted=claims, close=True)
        self.service.process()
        transaction.commit()


@implementer(ITask)
class LocalTask(Persistent):

    inputSchema = outputSchema = None
    lane = "narrow"

    def __call__(self, service, jobid, input):
        return input
