"""It is kept what people did, within bounds, and nobody gets in another's way."""
import json
import random
import unittest
from unittest import mock

import transaction
from zope.security.checker import getCheckerForInstancesOf
from zope.security.management import endInteraction

from lovely.remotetask import access, acts, clock
from lovely.remotetask.cli.verbs import perform
from lovely.remotetask.errors import TaskError
from lovely.remotetask.service import TaskService
from lovely.remotetask.store.trail import IDS_KEPT, TREES, Entry, Trail
from lovely.remotetask.tests import people
from lovely.remotetask.tests.people import acting_as
from lovely.remotetask.tests.support import ServiceCase
from lovely.remotetask.tests.test_cli import CommandCase


class Failing:
    """A task's function that fails."""

    def __call__(self, input):
        raise TaskError("as it should")


class Trails(ServiceCase):
    storage = "mapping"

    def setUp(self):
        super().setUp()
        people.set_up(self)

    def trail(self, **options):
        return self.service.listTrail(**options)[0]

    def told(self):
        return [(entry.who, entry.verb, entry.number) for entry in self.trail()]


class WhatPeopleDo(Trails):

    def test_each_act_has_who_when_what_and_to_which_jobs(self):
        ids = [self.service.add("echo", startLater=True) for _ in range(2)]
        before = clock.micros()
        with acting_as("operator"):
            self.service.cancel(ids[0])
            self.service.startJob(ids[1])
        start, cancel = self.trail()
        self.assertEqual((cancel.who, cancel.verb, cancel.jobs, cancel.number),
                         ("operator", "cancel", (ids[0],), 1))
        self.assertEqual((start.verb, start.jobs), ("start", (ids[1],)))
        self.assertLessEqual(before, cancel.moment)

    def test_every_verb_that_changes_something_is_told(self):
        service = self.service
        with acting_as("manager"):
            cron = service.addCronJob("echo", minute=(0,))
            service.pause(cron)
            service.resume(cron)
            service.reschedule(cron)
            service.runNow(cron)
            job = service.add("echo")
            service.cancel(job)
            service.retry(job)
            service.cancelOwn(job)
            service.remove(job)
            service.configure(prefetch=7, max_threads=None)
            service.stopProcessing()
            service.add("echo")
            service.process()
            service.clean()
        verbs = [entry.verb for entry in reversed(self.trail(limit=100))]
        self.assertEqual(verbs, [
            "add cron job", "pause", "resume", "reschedule", "run now", "cancel",
            "retry", "remove", "configure", "stop processing"])
        done = {entry.verb: entry for entry in self.trail(limit=100)}
        self.assertEqual(done["configure"].detail, "prefetch=7, max_threads=default")
        self.assertEqual((done["cancel"].number, done["remove"].number), (2, 3))

    def test_no_verb_that_changes_something_is_forgotten(self):
        """Each that a security proxy gives for more than looking and adding."""
        service = self.service
        job = service.add("echo", startLater=True)
        own = service.add("echo", startLater=True)
        service.jobs[own].__dict__["owner"] = "manager"
        cron = service.addCronJob("echo", minute=(0,))
        self.task("fails", Failing(), retries=0)
        service.add("fails")
        service.process()
        service.attend("worker", None, 1)
        transaction.commit()
        calls = {
            "changeJob": lambda: service.changeJob(job, title="x"),
            "startJob": lambda: service.startJob(job),
            "cancel": lambda: service.cancel(job),
            "retry": lambda: service.retry(job),
            "cancelOwn": lambda: service.cancelOwn(own),
            "retryOwn": lambda: service.retryOwn(own),
            "addCronJob": lambda: service.addCronJob("echo", minute=(5,)),
            "changeCronJob": lambda: service.changeCronJob(cron, title="x"),
            "pause": lambda: service.pause(cron),
            "resume": lambda: service.resume(cron),
            "reschedule": lambda: service.reschedule(cron),
            "runNow": lambda: service.runNow(cron),
            "retryAll": lambda: service.retryAll(task="fails"),
            "remove": lambda: (service.cancel(job), transaction.commit(),
                               service.remove(job)),
            "clean": lambda: (service.cancel(own), transaction.commit(), service.clean()),
            "configure": lambda: service.configure(prefetch=3),
            "setLimit": lambda: service.setLimit("lane:x", 2),
            "wishThreads": lambda: service.wishThreads(3),
            "wishStop": lambda: service.wishStop("worker"),
            "wishStart": lambda: service.wishStart("worker"),
            "startProcessing": lambda: (service.startProcessing(),
                                        service.stopProcessing()),
            "stopProcessing": service.stopProcessing,
            "pauseProcessing": service.pauseProcessing,
            "resumeProcessing": service.resumeProcessing,
        }
        silent = {  # they read, or are called by code that runs jobs
            "advanceUpgrade", "check", "claimNextJob", "effectiveSettings", "execute",
            "finishUpgrade", "leftOut", "listTrail", "process", "processNext",
            "processorArguments", "processorFactory", "prune", "settings",
            "taskInterface"}
        guarded = {name for name, permission in getCheckerForInstancesOf(
            TaskService).get_permissions.items() if permission in (
                access.CANCEL, access.CANCEL_OWN, access.MANAGE_SCHEDULES, access.MANAGE)}
        self.assertEqual(guarded, calls.keys() | silent)
        for name, call in calls.items():
            transaction.commit()
            before = len(self.trail(limit=100))
            with self.subTest(name), acting_as("manager"):
                call()
                self.assertGreater(len(self.trail(limit=100)), before)

    def test_a_wish_is_told_with_what_was_wished_and_for_whom(self):
        self.service.attend("worker", None, 1)
        for number, worker in ((3, None), (None, None), (2, "worker"), (None, "worker")):
            with acting_as("manager"):
                self.service.wishThreads(number, worker)
        self.assertEqual([entry.detail for entry in reversed(self.trail())],
                         ["3", "default", "2 worker", "default worker"])

    def test_what_one_does_to_many_jobs_at_once_is_one_entry(self):
        ids = self.service.addMany("echo", range(IDS_KEPT + 30))
        with acting_as("operator"):
            for id in ids:
                self.service.cancel(id)
        entry, = self.trail()
        self.assertEqual((entry.number, entry.jobs),
                         (IDS_KEPT + 30, tuple(ids[:IDS_KEPT])))

    def test_what_two_do_or_one_does_twice_is_two(self):
        for who in "operator", "manager", "manager":
            job = self.service.add("echo")
            with acting_as(who):
                self.service.cancel(job)
            transaction.commit()
        self.assertEqual(self.told(), [("manager", "cancel", 1), ("manager", "cancel", 1),
                                       ("operator", "cancel", 1)])

    def test_what_is_rolled_back_was_not_done(self):
        first, second, third = self.service.addMany("echo", range(3))
        with acting_as("operator"):
            self.service.cancel(first)
            savepoint = transaction.savepoint()
            self.service.cancel(second)
            savepoint.rollback()
            self.service.cancel(third)
        done = [job for entry in self.trail() for job in entry.jobs]
        self.assertEqual(sorted(done), sorted([first, third]))
        transaction.abort()
        self.assertEqual(self.trail(), [])

    def test_code_and_jobs_are_nobody(self):
        self.task("cancels", lambda input, context: context.service.cancel(input),
                  wantsContext=True)
        one, two = self.service.addMany("echo", range(2), delay=60)
        endInteraction()
        self.service.cancel(one)
        with acting_as("operator"):
            self.service.add("cancels", two)
        self.service.process()
        self.assertEqual(self.service.getStatus(two), "cancelled")
        self.assertEqual(self.trail(), [])

    def test_the_command_line_is_told_as_such(self):
        job = self.add("echo")
        perform(self.db, "cancel", None, dict(ids=[job]))
        transaction.begin()
        entry, = self.trail()
        self.assertTrue(entry.who.endswith(" (command line)"), entry.who)
        self.assertEqual((entry.verb, entry.jobs), ("cancel", (job,)))

    def test_who_acts_is_the_principal_before_all_else(self):
        with acts.acting("somebody"):
            self.assertEqual(acts.actor(), "somebody")
            with acting_as("viewer"):
                self.assertEqual(acts.actor(), "viewer")
        self.assertIsNone(acts.actor())

    def test_pages_of_it_come_newest_first(self):
        for _ in range(7):
            with acting_as("operator"):
                self.service.cancel(self.service.add("echo"))
            transaction.commit()
        found, after = [], None
        while True:
            page, after = self.service.listTrail(after=after, limit=3)
            found += page
            if after is None:
                break
        self.assertEqual(len(found), 7)
        moments = [entry.moment for entry in found]
        self.assertEqual(moments, sorted(moments, reverse=True))

    def test_a_service_of_before_has_none_until_something_is_done(self):
        self.assertIsNone(self.service.trail)
        self.assertEqual(self.service.listTrail(), ([], None))


class Shown(CommandCase):
    """On the command line."""

    level = 2

    def setUp(self):
        super().setUp()
        self.task("echo", lambda input: input)

    def test_the_newest_comes_first(self):
        _, out, _ = self.run_cli("add", "echo", "--delay", "1h")
        self.run_cli("cancel", out.strip())
        self.run_cli("retry", out.strip())
        code, shown, _ = self.run_cli("trail")
        self.assertEqual(code, 0)
        head, retry, cancel = shown.splitlines()
        self.assertEqual(head.split(), ["WHEN", "WHO", "DID", "JOBS", "DETAIL"])
        self.assertIn("(command line)", cancel)
        self.assertIn(f"retry   {out.strip()}", retry)

    def test_many_jobs_are_a_number(self):
        ids = [self.run_cli("add", "echo", "--delay", "1h")[1].strip() for _ in "1234"]
        self.run_cli("cancel", *ids)
        self.assertIn("4 jobs", self.run_cli("trail")[1])
        found = json.loads(self.run_cli("trail", "--json")[1])
        self.assertEqual([entry["number"] for entry in found["entries"]], [4])
        self.assertEqual(sorted(found["entries"][0]["jobs"]), sorted(map(int, ids)))

    def test_pages_of_it(self):
        for _ in range(3):
            self.run_cli("cancel", self.run_cli("add", "echo", "--delay", "1h")[1].strip())
        page = json.loads(self.run_cli("trail", "--limit", "2", "--json")[1])
        self.assertEqual(len(page["entries"]), 2)
        page = json.loads(self.run_cli("trail", "--after", page["after"], "--json")[1])
        self.assertEqual((len(page["entries"]), page["after"]), (1, None))
        self.assertEqual(self.run_cli("trail", "--after", "x")[0], 2)

    def test_nobody_has_done_anything_yet(self):
        self.assertEqual(self.run_cli("trail")[1], "Nobody has done anything.\n")


class Bounds(unittest.TestCase):

    def entry(self, moment):
        return Entry(moment, "ada", "cancel", (), 0, "")

    def test_there_are_about_as_many_as_are_wanted(self):
        trail = Trail()
        for moment in range(1, 2_001):
            trail.add(self.entry(moment), 80, 0)
        kept = [entry.moment for _, entry in trail.newest()]
        self.assertEqual(len(kept), len(trail))
        self.assertLessEqual(len(kept), 80)
        self.assertGreater(len(kept), 60)
        self.assertEqual(kept[:5], [2_000, 1_999, 1_998, 1_997, 1_996])

    def test_what_is_too_old_goes(self):
        trail = Trail()
        for moment in range(1, 101):
            trail.add(self.entry(moment), 0, 0)
        for _ in range(50 * TREES):
            trail.add(self.entry(1_000), 0, 900)
        self.assertTrue(all(entry.moment == 1_000 for _, entry in trail.newest()))

    def test_nothing_goes_where_nothing_is_bounded(self):
        trail = Trail()
        for moment in range(1, 501):
            trail.add(self.entry(moment), 0, 0)
        self.assertEqual(len(trail), 500)

    def test_those_of_one_moment_are_all_kept(self):
        trail = Trail()
        for _ in range(600):
            trail.add(self.entry(5), 0, 0)
        self.assertEqual(len({key for key, _ in trail.newest()}), 600)


class TwoAtOnce(Trails):
    """Two people who act in the same instant."""

    level = 2
    storage = "file"  # which lets trees reconcile what was written at once

    def conflicts(self, count, pairs=200):
        """How many of so many pairs of acts met each other."""
        self.service.configure(trail_count=count)
        self.service.trail = Trail()
        transaction.commit()
        random.seed(7)
        met = 0
        for number in range(pairs):
            managers = [transaction.TransactionManager() for _ in range(2)]
            connections = [self.db.open(manager) for manager in managers]
            try:
                for manager, connection in zip(managers, connections, strict=True):
                    manager.begin()
                    service = connection.root()["tasks"]
                    with mock.patch.object(clock, "micros", return_value=1_000 + number):
                        with acts.acting("ada"):
                            acts.note(service, "cancel", number)
                managers[0].commit()
                try:
                    managers[1].commit()
                except transaction.interfaces.TransientError:
                    met += 1
            finally:
                for manager, connection in zip(managers, connections, strict=True):
                    manager.abort()
                    connection.close()
        transaction.begin()
        return met

    def test_they_seldom_meet(self):
        self.assertLess(self.conflicts(0), 6)

    def test_nor_when_the_oldest_have_to_go(self):
        self.assertLess(self.conflicts(80), 20)

    def test_none_of_what_is_committed_is_lost(self):
        met = self.conflicts(0, 100)
        entries = self.trail(limit=1_000)
        self.assertEqual(len(entries), 200 - met)
        self.assertEqual(len(self.service.trail), 200 - met)


if __name__ == "__main__":
    unittest.main()
