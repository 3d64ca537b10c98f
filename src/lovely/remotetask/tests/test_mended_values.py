"""Values that belong to one: inputs, schedules, options, settings and frames."""
import logging
import os
import unittest
from datetime import UTC, datetime, timedelta, timezone
from unittest import mock

import transaction
from persistent.mapping import PersistentMapping
from ZODB.blob import BlobStorage
from ZODB.FileStorage import FileStorage
from ZODB.tests.hexstorage import HexStorage
from zope.processlifetime import DatabaseOpenedWithRoot
from zope.security.management import (
    endInteraction, newInteraction, queryInteraction, restoreInteraction, system_user)

from lovely.remotetask.clerk import Want
from lovely.remotetask import settings, startup
from lovely.remotetask.errors import BadInput, BadOption, BadSchedule
from lovely.remotetask.missed import due
from lovely.remotetask.payload import lend, pack
from lovely.remotetask.runtime import frames, rescue
from lovely.remotetask.schedule import Foreign
from lovely.remotetask.service import TaskService
from lovely.remotetask.testing import simulated_clock
from lovely.remotetask.tests.support import ServiceCase

SMALL = {"names": ["a", "b"], "pair": (1, [2])}
LARGE = {"names": ["a", "b"], "rest": list(range(500))}


class InputsAreNobodysElse(ServiceCase):
    """A task, a caller or a run that changes a value changes its own."""

    storage = "mapping"

    def greedy(self, failures):
        """A task that changes its input, and fails so many times first."""
        seen = []

        @self.task("greedy", retries=failures)
        def greedy(input):
            seen.append(len(input["names"]))
            input["names"].pop()
            if len(seen) <= failures:
                raise ValueError("not yet")

        return seen

    def test_each_attempt_of_a_thread_sees_the_input_that_was_added(self):
        for input in SMALL, LARGE:
            with self.subTest(large=input is LARGE):
                seen = self.greedy(failures=2)
                jobid = self.add("greedy", input)
                self.start()
                self.wait_status(jobid)
                self.assertEqual(seen, [2, 2, 2])
                self.assertEqual(self.job(jobid).input, input)

    def test_each_attempt_by_hand_sees_the_input_that_was_added(self):
        for input in SMALL, LARGE:
            for commit in True, False:
                with self.subTest(large=input is LARGE, commit=commit):
                    seen = self.greedy(failures=2)
                    jobid = self.service.add("greedy", input)
                    if commit:
                        transaction.commit()
                    self.service.process()
                    self.assertEqual(seen, [2, 2, 2])
                    self.assertEqual(self.job(jobid).input, input)
                    transaction.commit()

    def test_each_run_of_a_cron_job_sees_the_input_that_was_added(self):
        for input in SMALL, LARGE:
            with self.subTest(large=input is LARGE):
                seen = self.greedy(failures=0)
                cron = self.service.addCronJob("greedy", input, schedule="@yearly")
                transaction.commit()
                for _ in range(3):
                    self.service.runNow(cron)
                    self.service.process()
                    transaction.commit()
                self.assertEqual(seen, [2, 2, 2])

    def test_what_the_caller_does_to_a_value_after_add_changes_no_job(self):
        for first in SMALL, LARGE:
            with self.subTest(large=first is LARGE):
                self.task("any", lambda input: None)
                input = {**first, "names": ["a"]}
                jobs = []
                for name in "bcd":
                    jobs.append(self.service.add("any", input))
                    input["names"].append(name)
                input["broken"] = lambda: None
                transaction.commit()
                self.assertEqual([len(self.job(each).input["names"]) for each in jobs],
                                 [1, 2, 3])

    def test_what_a_task_does_to_a_value_after_its_end_changes_no_output(self):
        kept = []

        @self.task("kept")
        def keep(input):
            kept.append({"names": []})
            return kept[-1]

        jobid = self.service.add("kept")
        self.service.process()
        kept[0]["names"].append("late")
        transaction.commit()
        self.assertEqual(self.job(jobid).output, {"names": []})

    def test_a_value_is_not_lost_when_it_is_lent_before_it_was_ever_stored(self):
        stored, _ = pack(LARGE, 1_000_000, "input")
        self.connection.add(stored)
        lend(stored)["names"].pop()
        self.assertEqual(lend(stored), LARGE)

    def test_a_persistent_object_in_an_input_stays_itself(self):
        given = []
        self.task("any", given.append)
        object = self.connection.root()["object"] = PersistentMapping()
        for input in object, [object], {"object": object, **LARGE}:
            self.service.add("any", input)
        for commit in False, True:
            if commit:
                transaction.commit()
            self.service.process()
        self.assertIs(given[0], object)
        self.assertIs(given[1][0], object)
        self.assertIs(given[2]["object"], object)

    def test_a_new_persistent_object_that_cannot_be_stored_is_refused_at_once(self):
        self.task("any", lambda input: None)
        for input in PersistentMapping(x=lambda: 1), [PersistentMapping(x=lambda: 1)]:
            with self.assertRaises(BadInput):
                self.service.add("any", input)
        self.assertEqual(len(self.service.jobs), 0)


START = datetime(2027, 1, 15, 8, tzinfo=UTC)
SECOND, MICROSECOND = timedelta(seconds=1), timedelta(microseconds=1)


class TooOften(BaseException):
    """A schedule is asked again and again."""


class Odd:
    """A schedule that answers well to the first question, and then in an odd way."""

    def __init__(self, way, asked=0):
        self.way, self.asked = way, asked

    def next_after(self, moment):
        self.asked += 1
        if self.asked > 20_000:
            raise TooOften
        return moment + SECOND if self.asked == 1 else WAYS[self.way](moment, self.asked)

    def describe(self):
        return "Odd"


WAYS = {
    "standing": lambda moment, asked: moment.replace(microsecond=0),
    "back": lambda moment, asked: moment - SECOND,
    "naive": lambda moment, asked: moment.replace(tzinfo=None) + SECOND,
    "number": lambda moment, asked: 5,
}


class Fitful(Odd):
    """Goes on in tiny steps from its last answer, and names nothing after others."""

    last = None

    def next_after(self, moment):
        super().next_after(moment)
        if self.asked > 2 and moment != self.last:
            return None
        self.last = moment + MICROSECOND
        return self.last


class SchedulesOfOthers(ServiceCase):
    """A schedule that is odd breaks itself, and holds up nobody."""

    storage = "mapping"

    def setUp(self):
        super().setUp()
        simulated = simulated_clock(START.timestamp())
        self.clock = simulated.__enter__()
        self.addCleanup(simulated.__exit__, None, None, None)
        self.task("any", lambda input: None)

    def run_for(self, seconds):
        self.service.process()
        self.clock.advance(seconds)
        self.service.process()
        transaction.commit()

    def test_what_is_no_schedule_is_refused(self):
        class Wordless:
            def next_after(self, moment):
                return moment + SECOND

        for wrong in 5, b"* * * * *", object, Odd, Wordless():
            with self.subTest(schedule=wrong), self.assertRaises(BadSchedule):
                self.service.addCronJob("any", schedule=wrong)
        cron = self.job(self.service.addCronJob("any", schedule="@daily"))
        with self.assertRaises(BadSchedule):
            cron.update(schedule=5)
        self.assertEqual(cron.text, "@daily")

    def test_a_schedule_whose_first_answer_is_odd_is_refused(self):
        for way in WAYS:
            with self.subTest(way), self.assertRaises(BadSchedule):
                self.service.addCronJob("any", schedule=Odd(way, asked=1))

    def test_a_schedule_that_turns_odd_is_broken_and_the_rest_go_on(self):
        odd = [self.service.addCronJob("any", schedule=Odd(way)) for way in WAYS]
        good = self.service.addCronJob("any", schedule="* * * * *")
        transaction.commit()
        self.run_for(60)
        self.run_for(60)
        for jobid in odd:
            self.assertIn("BadSchedule: Odd.next_after has answered",
                          self.job(jobid).broken)
        self.assertEqual(len(self.job(good).runs), 2)

    def test_a_schedule_that_answers_otherwise_each_time_is_not_asked_for_ever(self):
        schedule = Fitful("back")
        found = due(Foreign(schedule), START, START + 3_600 * SECOND, missed="all")
        self.assertEqual(len(found.fire), 1)

    def test_the_instants_of_a_schedule_of_others_are_in_utc(self):
        class Berlin(Odd):
            def next_after(self, moment):
                return (moment + SECOND).astimezone(timezone(3_600 * SECOND))

        found = Foreign(Berlin("back")).next_after(START)
        self.assertEqual((found, found.tzinfo), (START + SECOND, UTC))


class WrappedStorages(ServiceCase):
    """What one process holds for itself is seen through what is wrapped around it."""

    def make_storage(self):
        return HexStorage(BlobStorage(f"{self.directory}/blobs", FileStorage(self.path)))

    def test_a_file_in_wrappers_is_the_processs_own(self):
        self.assertTrue(rescue.exclusive(self.db))

    def test_what_a_dead_process_held_in_a_wrapped_file_is_rescued(self):
        self.task("any", lambda input: input)
        jobid = self.add("any")
        with mock.patch.dict(os.environ, REMOTETASK_HOST="another-host"):
            self.service.dispatch("dead", want=Want(1, 1))
            transaction.commit()
        self.assertEqual(self.service.getStatus(jobid), "processing")
        self.start()
        self.wait_status(jobid)

    def test_a_storage_that_others_may_open_is_not_the_processs_own(self):
        class Shared:
            def __getattr__(self, name):
                if name == "base":
                    return self
                raise AttributeError(name)

        class Database:
            storage = Shared()

        self.assertFalse(rescue.exclusive(Database()))


class Somebody:
    id = "somebody"


class Interactions(ServiceCase):
    """The caller of `process` finds both of a thread's interactions as they were."""

    storage = "mapping"

    def setUp(self):
        super().setUp()
        self.task("any", lambda input: None)
        newInteraction(frames.Participation(system_user))
        self.service.add("any")
        endInteraction()
        endInteraction()  # nor is there one to restore

    def test_one_that_was_ended_is_restored_after_a_job(self):
        newInteraction(frames.Participation(Somebody))
        endInteraction()
        self.service.process()
        self.assertIsNone(queryInteraction())
        restoreInteraction()
        self.assertEqual(frames.present_owner(), "somebody")

    def test_where_there_was_none_none_is_restored(self):
        self.service.process()
        restoreInteraction()
        self.assertIsNone(queryInteraction())

    def test_the_present_one_is_there_again_when_that_of_the_job_cannot_be_made(self):
        newInteraction(frames.Participation(Somebody))
        with mock.patch.object(frames, "newInteraction", side_effect=ValueError("no")):
            self.service.processNext()
        self.assertEqual(frames.present_owner(), "somebody")


class Autostart(unittest.TestCase):

    def test_the_environment_wins_over_zope_conf(self):
        self.addCleanup(settings.reload)
        conf = {"autostart": "@conf"}
        with mock.patch.object(settings, "product_configuration", lambda: conf):
            settings.reload()
            self.assertEqual(startup.getAutostartServiceNames(), ["@conf"])
            with mock.patch.dict(os.environ, REMOTETASK_AUTOSTART="@here"):
                settings.reload()
                self.assertEqual(startup.getAutostartServiceNames(), ["@here"])
                self.assertEqual(settings.process().autostart, "@here")


class LogOfTheStart(ServiceCase):

    storage = "mapping"

    def test_the_text_of_an_error_cannot_forge_lines(self):
        def starts(service):
            raise ValueError("no\n2026-01-01 INFO all is well")

        self.addCleanup(settings.reload)
        with mock.patch.dict(os.environ, REMOTETASK_AUTOSTART="@tasks"), \
                mock.patch.object(TaskService, "isProcessing", starts):
            startup.bootStrapSubscriber(DatabaseOpenedWithRoot(self.db))
        entry, = [each for each in self.lines.records if each.levelname == "ERROR"]
        first, *rest = logging.Formatter().format(entry).splitlines()
        self.assertEqual(first, "directive @tasks could not be obeyed:")
        self.assertIn("all is well", rest[-1])
        self.assertEqual({line[:4] for line in rest}, {"  | "})


class OptionsThatDoNothing(ServiceCase):

    storage = "mapping"

    def test_a_cron_job_has_no_start_of_its_own(self):
        self.task("any", lambda input: None)
        for option in dict(startAt=START), dict(startBefore=5), dict(startBefore=START):
            for when in dict(minute=(1,)), dict(delay=60):
                with self.subTest(**option, **when), self.assertRaises(BadOption):
                    self.service.addCronJob("any", **when, **option)
        self.assertEqual(len(self.service.jobs), 0)
        self.service.addCronJob("any", minute=(1,), startAt=None, retries=5)

    def test_retries_without_end_are_refused(self):
        self.task("any", lambda input: None)
        for retries in 10**12, -1, 1_000_001:
            with self.subTest(retries=retries), self.assertRaises(BadOption):
                self.service.add("any", retries=retries)
        self.service.add("any", retries=1_000_000)
