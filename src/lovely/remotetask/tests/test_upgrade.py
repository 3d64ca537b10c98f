"""Databases of release 0.5: read as they are, upgraded, interrupted, run to their end.

What each job is and is to become stands beside the databases, written by hand.
"""
import doctest
import functools
import gc
import io
import itertools
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock
from zoneinfo import ZoneInfo

import transaction
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from ZODB.FileStorage.FileStorage import FileStorageFormatError
from ZODB.POSException import ConflictError, ReadConflictError
from zope.component import provideUtility
from zope.component.hooks import setHooks
from zope.configuration import xmlconfig
from zope.generations.generations import EVOLVEMINIMUM, evolve, generations_key
from zope.site.testing import siteSetUp, siteTearDown

import lovely.remotetask.generations
from lovely.remotetask import clock, lifecycle, processor, settings
from lovely.remotetask.clerk import Clerk, Want
from lovely.remotetask.errors import BadSetting, UnknownJob
from lovely.remotetask.generations import __main__ as generations_command
from lovely.remotetask.generations import services, upgrade_database
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.runtime.publication import find
from lovely.remotetask.store.jobs import Jobs
from lovely.remotetask.task import SimpleTask
from lovely.remotetask.testing import wait_for, wait_until_idle
from lovely.remotetask.upgrade import OLD, Upgrade, pending

HERE = Path(__file__).parent / "databases"
MANUAL = Path(__file__).parents[4] / "docs" / "upgrade.txt"
NAMES = ("all_in_root", "two_sites", "oldest", "damaged", "python2-converted")
VIENNA = ZoneInfo("Europe/Vienna")
LEFT_OUT = "left out"


class Killed(BaseException):
    """The process ends here."""


def expected(name):
    file = HERE / f"{name.removesuffix('-converted')}.json"
    return json.loads(file.read_text(encoding="utf-8"))


def echo(input):
    return input


def each_database(test):
    """The test is made with each of them."""
    @functools.wraps(test)
    def with_each(self):
        for name in NAMES:
            with self.subTest(name), self.opened(name) as db:
                test(self, name, db)
    return with_each


class OldDatabaseCase(unittest.TestCase):

    def setUp(self):
        siteSetUp()
        setHooks()
        provideUtility(SimpleTask(echo), ITask, "echo")
        sys.path.insert(0, str(HERE))
        self.addCleanup(sys.modules.pop, "shop", None)
        self.addCleanup(sys.path.remove, str(HERE))
        self.addCleanup(siteTearDown)
        self.addCleanup(transaction.abort)
        log, silent = logging.getLogger("lovely.remotetask"), logging.NullHandler()
        log.addHandler(silent)
        self.addCleanup(log.removeHandler, silent)
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        self.addCleanup(mock.patch.stopall)
        self.set_zone("Europe/Vienna")

    def set_zone(self, name):
        changed = settings.Settings().changed({"naive_timezone": name})
        mock.patch.object(settings, "_process", changed).start()

    def fresh(self, name):
        """The path of a copy of a database."""
        path = os.path.join(self.directory, f"{name}-{random.getrandbits(40)}.fs")
        shutil.copy(HERE / f"{name}.fs", path)
        return path

    @contextmanager
    def opened(self, name):
        with self.open_file(self.fresh(name)) as db:
            yield db

    @contextmanager
    def open_file(self, path):
        db = DB(FileStorage(path))
        try:
            yield db
        finally:
            processor.stop_all(db, grace=0)
            transaction.abort()
            db.close()

    def assertComplete(self, name, db):
        """Every job is accounted for, and is what was written down for it."""
        with db.transaction() as connection:
            for noted in expected(name):
                service = find(connection.root(), noted["path"].split("/"))
                self.assertEqual(service.check(), [])
                self.assertIsNone(pending(service))
                if noted["after"] == LEFT_OUT:
                    self.assertIn(noted["id"], service.leftOut.why)
                    self.assertIn(noted["id"], service.leftOut.records)
                    with self.assertRaises(UnknownJob):
                        service.getJob(noted["id"])
                else:
                    self.assertJob(service.getJob(noted["id"]), noted)
                    left = service.leftOut.why if service.leftOut else {}
                    self.assertNotIn(noted["id"], left)

    def assertJob(self, job, noted):
        what = f"job {job.id} of {noted['path']}"
        self.assertEqual(job.recordedStatus, noted["after"], what)
        self.assertEqual(job.task, noted["task"])
        stored = job.__dict__
        self.assertIsInstance(stored["created"], int)
        self.assertIs(type(stored["task"]), str)
        self.assertIn(type(stored["error"]), (str, type(None)), what)
        if noted["error"] is None:
            if noted["after"] != lifecycle.ERROR:
                self.assertIsNone(job.error, what)
        else:
            self.assertIn(noted["error"], job.error)
        if noted["path"] != "tasks" or noted["before"] in ("start later", "delayed"):
            created = datetime.fromisoformat(noted["created"]).replace(tzinfo=VIENNA)
            self.assertEqual(job.created, created)
        self.assertIs(job.created.tzinfo, UTC)
        if noted["due"] is not None:
            self.assertEqual(job.due.timestamp(), noted["due"])
            self.assertEqual(job.scheduledFor, job.due)
            self.assertIn(job.id, job.__parent__.shards[0].scheduled)
        self.assertEqual(len(getattr(job, "runs", ())), noted["runs"], what)

    def picture(self, db):
        """All that an upgrade has to decide, without what differs from run to run."""
        with db.transaction() as connection:
            return {path: self.picture_of(service)
                    for path, service in services(connection)}

    def picture_of(self, service):
        jobs = []
        for job in service.jobs.values():
            number = job.id if job.parent is None else f"run of {job.parent}"
            if job.input == "negative":
                number = "negative"
            due = "" if job.input == "updated" else repr(job.due)
            jobs.append((str(number), job.recordedStatus, job.error, repr(job.created)
                         if job.parent is None else "", str(job.output)[:40],
                         len(getattr(job, "runs", ())), due))
        order = [service.jobs[key[2]].parent or key[2]
                 for key, *_ in service.shards[0].queue.entries()]
        return (sorted(jobs), order, service.counts(), service.settings,
                dict(service.leftOut.why) if service.leftOut else {}, service.check())


class TheDatabases(OldDatabaseCase):

    def test_they_hold_more_than_fifty_jobs_in_every_status(self):
        noted = [each for name in NAMES for each in expected(name)]
        self.assertGreaterEqual(len(noted), 100)
        self.assertLessEqual(set(lifecycle.STATUSES), {each["before"] for each in noted})

    @each_database
    def test_they_are_of_release_0_5(self, name, db):
        if name != "two_sites":
            record, _ = db.storage.load(db.open().root()[
                expected(name)[0]["path"]]._p_oid)
            self.assertIn(b"_queue", record)
            self.assertNotIn(b"leases", record)

    def test_python_3_refuses_one_of_python_2(self):
        with warnings.catch_warnings(), self.assertRaises(FileStorageFormatError):
            warnings.simplefilter("ignore", ResourceWarning)  # it leaves the file open
            FileStorage(self.fresh("python2"), read_only=True)


class BeforeTheUpgrade(OldDatabaseCase):
    """A database is opened, and nobody writes."""

    @each_database
    def test_every_job_can_be_read(self, name, db):
        connection = db.open()
        for noted in expected(name):
            service = find(connection.root(), noted["path"].split("/"))
            if noted["after"] == LEFT_OUT:
                self.assertNotIn(noted["id"], service.jobs)
                continue
            status = service.getStatus(noted["id"])
            before = {"processing": "queued"}.get(noted["before"], noted["before"])
            self.assertIn(status, (before, noted["after"]))
            self.assertIn(noted["error"] or "", service.getError(noted["id"]))
            service.getResult(noted["id"])
            _ = service.getJob(noted["id"]).input

    @each_database
    def test_pages_counts_and_ages_are_those_of_all_jobs(self, name, db):
        connection = db.open()
        for _, service in services(connection):
            readable = list(service.jobs)
            self.assertEqual(sum(service.counts().values()), len(readable))
            self.assertEqual(len(service.jobs), len(readable))
            self.assertEqual(service.queueLength(), service.counts()["queued"])
            listed, key = service.listJobs(limit=1000)
            self.assertEqual(sorted(job.id for job in listed), readable)
            self.assertIsNone(key)
            errors, _ = service.listJobs(status="error", limit=1000)
            self.assertEqual(len(errors), service.counts()["error"])
            self.assertEqual(service.oldestWaiting() > 0,
                             service.queueLength() > 0)
            self.assertEqual(service.workers(), [])
            self.assertEqual(service.check(), [])

    def test_jobs_that_concern_an_object_are_found_after_it(self):
        with self.opened("all_in_root") as db:
            upgrade_database(db)
            root = db.open().root()
            self.assertEqual(len(root["tasks"].jobsFor(root["article"])), 2)

    @each_database
    def test_reading_writes_nothing(self, name, db):
        before = db.lastTransaction()
        with db.transaction() as connection:
            for _, service in services(connection):
                service.counts()
                service.listJobs()
                service.hasJobsWaiting()
                for job in service.jobs.values():
                    _ = job.status, job.error, job.created
                service.isProcessing()
        self.assertEqual(db.lastTransaction(), before)

    @each_database
    def test_a_dry_run_writes_nothing_and_says_what_will_be(self, name, db):
        before = db.lastTransaction()
        reports = upgrade_database(db, dry_run=True)
        self.assertEqual(db.lastTransaction(), before)
        self.assertEqual([str(each) for each in upgrade_database(db)],
                         [str(each) for each in reports])
        with db.transaction() as connection:
            found = dict(services(connection))
            self.assertEqual(sorted(report.path for report in reports),
                             sorted(found))
            for report in reports:
                service = found[report.path]
                self.assertEqual(set(report.left_out), set(
                    service.leftOut.why if service.leftOut else ()))
                for status, number in report.counts.items():
                    of_05 = [job for job in service.jobs.values()
                             if job.parent is None and job.recordedStatus == status]
                    self.assertEqual(len(of_05), number)
                self.assertEqual(
                    report.jobs, sum(report.counts.values()) + len(report.left_out))


class AfterTheUpgrade(OldDatabaseCase):

    @each_database
    def test_every_job_is_accounted_for(self, name, db):
        upgrade_database(db)
        db.pack()
        self.assertComplete(name, db)

    @each_database
    def test_nothing_of_the_old_service_is_stored(self, name, db):
        upgrade_database(db)
        for _, service in services(db.open()):
            record, _ = db.storage.load(service._p_oid)
            for old in OLD:
                self.assertNotIn(old.encode(), record)
            self.assertIs(type(service.jobs), Jobs)
            self.assertNotIn("_upgrade", service.__dict__)

    @each_database
    def test_a_second_time_there_is_nothing_to_do(self, name, db):
        upgrade_database(db)
        before = db.lastTransaction()
        self.assertEqual(upgrade_database(db), [])
        self.assertEqual(db.lastTransaction(), before)

    @each_database
    def test_what_stood_in_the_queue_keeps_its_order(self, name, db):
        upgrade_database(db)
        with db.transaction() as connection:
            queued = {}
            for noted in expected(name):
                if noted.get("queued") and noted["after"] in ("queued", "cronjob"):
                    queued.setdefault(noted["path"], []).append(noted["id"])
            for path, ids in queued.items():
                service = find(connection.root(), path.split("/"))
                claims = iter(service.claimNextJob, None)
                claimed = [service.jobs[id].parent or id for id in claims]
                self.assertEqual([id for id in claimed if id in ids], ids)

    def test_values_are_what_they_were(self):
        import shop
        with self.opened("all_in_root") as db:
            upgrade_database(db)
            db.pack()
            root = db.open().root()
            by_input = {str(job.input): job for job in root["tasks"].jobs.values()}
            self.assertIn("(1, 2.5, None, True)", by_input)
            outputs = [job.output for job in root["tasks"].jobs.values()]
            self.assertIn(shop.Order("nail"), outputs)
            self.assertIn("x" * 5000, outputs)
            self.assertIn(b"\x00\xff", outputs)
            about = [job.input["about"] for job in root["tasks"].jobs.values()
                     if isinstance(job.input, dict) and "about" in job.input]
            self.assertEqual(about[0][1], shop.Order("nail", "screw"))
            self.assertIs(about[0][0], root["article"])
            self.assertEqual(root["tasks"].__annotations__, {"zope.dublincore": "Tasks"})
            self.assertEqual(root["tasks"].processorArguments, {"waitTime": 0.5})

    def test_stars_of_the_old_form_mean_every_day_and_month(self):
        with self.opened("all_in_root") as db:
            upgrade_database(db)
            jobs = db.open().root()["tasks"].jobs.values()
            starred = [job for job in jobs if len(getattr(job, "dayOfMonth", ())) > 1]
            self.assertEqual(starred[0].dayOfMonth, tuple(range(1, 32)))
            self.assertEqual(starred[0].month, tuple(range(1, 13)))

    @each_database
    def test_cron_jobs_wait_for_their_next_time_and_broken_ones_stop_nobody(self, name, db):
        upgrade_database(db)
        now = datetime.now(UTC)
        for _, service in services(db.open()):
            for job in service.jobs.values():
                if job.recordedStatus != lifecycle.CRONJOB:
                    continue
                if job.broken:
                    self.assertTrue(job.month == (2,) or 61 in job.minute)
                else:
                    self.assertGreater(job.scheduledFor, now)
                    self.assertIn(job.id, service.shards[0].scheduled)

    def test_a_delayed_job_that_was_rescheduled_waits_anew(self):
        with self.opened("all_in_root") as db:
            before = clock.micros()
            upgrade_database(db)
            jobs = db.open().root()["tasks"].jobs.values()
            job, = [job for job in jobs if job.input == "updated"]
            self.assertGreaterEqual(job.micros("due"), before + 600_000_000)
            self.assertLessEqual(job.micros("due"), clock.micros() + 600_000_000)

    def test_retention_is_off_but_can_be_had(self):
        with self.opened("oldest") as db:
            upgrade_database(db)
            service = db.open().root()["missing"]
            found = service.effectiveSettings()
            self.assertEqual((found.retain_completed, found.retain_errors,
                              found.retain_count), (0, 0, 0))
            self.assertEqual(service.prune(), 0)
            service.configure(retain_completed=7, retain_errors=None)
            self.assertEqual(service.prune(), 3)
            self.assertEqual(service.check(), [])

    def test_a_number_that_is_none_today_is_given_a_new_one(self):
        with self.opened("damaged") as db:
            before = db.open().root()["tasks"]
            self.assertEqual(before.getStatus(-5), "completed")
            upgrade_database(db)
            service = db.open().root()["tasks"]
            self.assertNotIn(-5, service.jobs)
            renamed = [job for job in service.jobs.values() if job.input == "negative"]
            self.assertGreater(renamed[0].id, 0)

    def test_times_without_zone_are_read_in_the_zone_that_is_set(self):
        self.set_zone("Asia/Tokyo")
        with self.opened("oldest") as db:
            upgrade_database(db)
            job = db.open().root()["missing"].jobs[1001]
            self.assertEqual(
                job.created, datetime(2011, 1, 17, 0, 1, tzinfo=UTC))
        with self.assertRaisesRegex(BadSetting, "there is no time zone 'Vienna'"):
            settings.Settings().changed({"naive_timezone": "Vienna"})


class Running(OldDatabaseCase):

    def assertEnded(self, name, service, path):
        """All that was queued has run: with its task to the end, without in error."""
        path = path.removeprefix("Application/")
        for noted in expected(name):
            if noted["path"] == path and noted["after"] == "queued":
                job = service.getJob(noted["id"])
                wanted = "error" if noted["task"] == "nobody" else "completed"
                self.assertEqual(job.status, wanted, (job, job.error))
        for job in service.jobs.values():
            if job.parent is not None:
                self.assertEqual(job.status, "completed")
        self.assertEqual(service.check(), [])

    @each_database
    def test_by_hand_each_runs_to_its_end_without_an_upgrade_before(self, name, db):
        with db.transaction() as connection:
            paths = dict(services(connection))
            for service in paths.values():
                service.process()
        for path, service in services(db.open()):
            self.assertEnded(name, service, path)

    @each_database
    def test_threads_run_each_to_its_end_without_an_upgrade_before(self, name, db):
        self.work(name, db)

    @each_database
    def test_threads_run_each_to_its_end_after_an_upgrade(self, name, db):
        upgrade_database(db)
        self.work(name, db)

    def work(self, name, db):
        connection = db.open()
        found = [service for _, service in services(connection)]
        for service in found:
            service.startProcessing()
        for service in found:
            wait_for(service, lambda service: pending(service) is None and not (
                service.counts()["queued"] or service.counts()["processing"]))
        self.assertEqual(processor.stop_all(db, grace=10), [])
        connection.sync()
        for path, service in services(connection):
            self.assertEnded(name, service, path)
        connection.close()


class RunningWhileItMoves(OldDatabaseCase):
    """A dispatcher moves one job with each of its commits."""

    def setUp(self):
        super().setUp()
        mock.patch.object(Upgrade.advance, "__defaults__", (1,)).start()
        self.ran = []
        provideUtility(SimpleTask(self.ran.append), ITask, "echo")

    def test_nothing_is_claimed_before_all_that_was_queued_is_moved(self):
        with self.opened("oldest") as db:
            with db.transaction() as connection:
                connection.root()["missing"].add("echo", "new")
            claimed = {}
            for _ in range(20):
                with db.transaction() as connection:
                    service = connection.root()["missing"]
                    round = service.dispatch("a dispatcher", want=Want(10, 10), known=claimed)
                    for claim in round.claims:
                        claimed[claim.id] = service.jobs[claim.id].input
            self.assertEqual(list(claimed.values()), ["one", "two", "three", "new", None])

    def test_threads_run_what_is_old_and_what_is_new(self):
        with self.opened("oldest") as db:
            connection = db.open()
            service = connection.root()["missing"]
            service.add("echo", "new")
            transaction.commit()
            self.until_all_has_run(service)
            self.assertEqual(self.ran[:3], ["one", "two", "three"])
            self.assertEqual(len(self.ran), 5)
            connection.close()

    def test_it_goes_on_without_being_woken(self):
        with self.opened("oldest") as db:
            connection = db.open()
            service = connection.root()["none"]
            service.processorArguments = {"waitTime": 3600}
            transaction.commit()
            self.until_all_has_run(service)
            self.assertEqual(self.ran, ["one", "two", "three", None])
            self.assertEqual(service.check(), [])
            connection.close()

    def until_all_has_run(self, service):
        service.startProcessing()
        wait_for(service, lambda service: pending(service) is None)
        wait_until_idle(service)


class Interrupted(OldDatabaseCase):
    """Whatever is cut off, running it again brings the same end."""

    batch = 12
    samples = 3  # jobs of each database at which it stumbles

    def undisturbed(self, name):
        with self.opened(name) as db:
            upgrade_database(db)
            return self.picture(db)

    def test_before_and_after_each_commit(self):
        for name in NAMES:
            wanted = self.undisturbed(name)
            for after in (False, True):
                commits = self.commits_of(name)
                for number in range(1, commits + 1):
                    with self.subTest(name, number=number, after=after):
                        self.interrupt(name, number, after, wanted)

    def commits_of(self, name):
        made = []
        with self.opened(name) as db:
            upgrade_database(db, batch=self.batch,
                             commit=lambda commit: made.append(commit()))
        return len(made)

    def interrupt(self, name, number, after, wanted):
        made = []

        def commit(really):
            made.append(1)
            if len(made) == number and not after:
                raise Killed
            really()
            if len(made) == number:
                raise Killed

        path = self.fresh(name)
        with self.open_file(path) as db, self.assertRaises(Killed):
            upgrade_database(db, batch=self.batch, commit=commit)
        with self.open_file(path) as db:
            self.assertReadable(db, wanted)
            upgrade_database(db, batch=self.batch + 2)
            self.assertEqual(self.picture(db), wanted)
            self.assertComplete(name, db)

    def assertReadable(self, db, wanted):
        """In between, every job is there and the books do not contradict it."""
        for path, service in services(db.open()):
            jobs, *_ = wanted[path]
            of_05 = [job for job in service.jobs.values() if job.parent is None]
            self.assertEqual(len(of_05), sum("run of" not in job[0] for job in jobs))
            self.assertEqual(sum(service.counts().values()), len(service.jobs))
            self.assertEqual(service.check(), [])

    def test_by_an_error_at_any_job(self):
        for name in NAMES:
            wanted = self.undisturbed(name)
            jobs = len(expected(name))
            for number in random.Random(name).sample(
                    range(jobs), min(jobs, self.samples)):
                with self.subTest(name, number=number), self.opened(name) as db:
                    self.stumble(db, number)
                    self.assertReadable(db, wanted)
                    upgrade_database(db, batch=self.batch)
                    self.assertEqual(self.picture(db), wanted)

    def stumble(self, db, number):
        settle, calls = Clerk.settle, []

        def settle_or_not(clerk, job):
            calls.append(job)
            if len(calls) == number + 1:
                raise MemoryError("in the middle")
            settle(clerk, job)

        with mock.patch.object(Clerk, "settle", settle_or_not):
            try:
                upgrade_database(db, batch=self.batch)
            except MemoryError:
                return
        self.assertLessEqual(len(calls), number)

    def test_by_conflicts_with_others(self):
        wanted = self.undisturbed("oldest")
        with self.opened("oldest") as db:
            answers = itertools.cycle((ConflictError, ReadConflictError, None))

            def commit(really):
                if (answer := next(answers)) is not None:
                    raise answer
                really()

            upgrade_database(db, batch=self.batch, commit=commit)
            self.assertEqual(self.picture(db), wanted)

    def test_by_conflicts_that_never_end(self):
        def commit(really):
            raise ConflictError

        with self.opened("oldest") as db, self.assertRaises(ConflictError):
            upgrade_database(db, commit=commit)


class InterruptedEverywhere(Interrupted):

    level = 2
    batch = 2
    samples = 30

    def test_by_a_kill_again_and_again(self):
        wanted = self.undisturbed("all_in_root")
        path = self.fresh("all_in_root")
        deaths = 0
        while True:
            process = subprocess.run(
                [sys.executable, "-c", KILLED_SOON, path, str(HERE)], timeout=60,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path),
                     "REMOTETASK_NAIVE_TIMEZONE": "Europe/Vienna"})
            if process.returncode == 0:
                break
            self.assertEqual(process.returncode, -signal.SIGKILL)
            deaths += 1
        self.assertGreaterEqual(deaths, 3)
        with self.open_file(path) as db:
            self.assertEqual(self.picture(db), wanted)
            self.assertComplete("all_in_root", db)


KILLED_SOON = """
import logging, os, signal, sys
logging.disable()
sys.path.insert(0, sys.argv[2])
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from lovely.remotetask.generations import upgrade_database

made = []

def commit(really):
    made.append(1)
    if len(made) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    really()

upgrade_database(DB(FileStorage(sys.argv[1])), batch=10, commit=commit)
"""


class TheFirstWrite(OldDatabaseCase):
    """Without a generation, a service is upgraded by whoever writes to it first."""

    def verbs(self):
        return {
            "add": lambda service: service.add("echo"),
            "addMany": lambda service: service.addMany("echo", range(3)),
            "addCronJob": lambda service: service.addCronJob("echo", minute=(3,)),
            "copy": lambda service: service.copy(1002),
            "startJob": lambda service: service.startJob(1001),
            "cancel": lambda service: service.cancel(1005),
            "cancel queued": lambda service: service.cancel(1008),
            "retry": lambda service: service.retry(1004),
            "retryAll": lambda service: service.retryAll(),
            "reschedule": lambda service: service.reschedule(1011),
            "pause": lambda service: service.pause(1011),
            "resume": lambda service: (service.pause(1011), service.resume(1011)),
            "runNow": lambda service: service.runNow(1011),
            "clean": lambda service: service.clean(),
            "remove": lambda service: service.remove(1002),
            "process": lambda service: service.process(),
            "processNext": lambda service: service.processNext(),
            "claimNextJob": lambda service: service.claimNextJob(),
            "configure": lambda service: service.configure(max_threads=2),
        }

    def test_every_verb_that_writes_upgrades_first(self):
        for verb, call in self.verbs().items():
            with self.subTest(verb), self.opened("all_in_root") as db:
                with db.transaction() as connection:
                    call(connection.root()["tasks"])
                connection = db.open()
                service = connection.root()["tasks"]
                record, _ = db.storage.load(service._p_oid)
                self.assertIn(b"leases", record)
                self.assertNotIn(b"_queue", record)
                self.assertEqual(service.check(), [])
                counts, uuid = service.counts(), service.uuid
                connection.close()
                upgrade_database(db, batch=5)
                with db.transaction() as connection:
                    service = connection.root()["tasks"]
                    self.assertEqual(service.check(), [])
                    self.assertIsNone(pending(service))
                    self.assertEqual(service.uuid, uuid)
                    if verb == "cancel queued":
                        self.assertEqual(service.getStatus(1008), "cancelled")
                        self.assertNotEqual(counts, None)
                    service.process()
                    self.assertEqual(service.counts()["queued"], 0)
                    self.assertEqual(service.check(), [])

    def test_an_abort_leaves_the_service_as_it_was(self):
        with self.opened("all_in_root") as db:
            before = db.lastTransaction()
            connection = db.open()
            service = connection.root()["tasks"]
            counts = service.counts()
            service.add("echo")
            service.cancel(1008)
            transaction.abort()
            self.assertEqual(service.counts(), counts)
            self.assertEqual(service.getStatus(1008), "queued")
            self.assertEqual(db.lastTransaction(), before)
            connection.close()
            upgrade_database(db)
            self.assertComplete("all_in_root", db)

    def test_an_old_job_is_claimed_before_one_added_since(self):
        with self.opened("oldest") as db:
            with db.transaction() as connection:
                new = connection.root()["missing"].add("echo", "new")
            with db.transaction() as connection:
                service = connection.root()["missing"]
                self.assertIsNotNone(pending(service))
                inputs = [service.jobs[id].input
                          for id in iter(service.claimNextJob, None)]
            self.assertEqual(inputs, ["one", "two", "three", None, "new"])
            self.assertNotIn(new, (1001, 1002, 1003))

    def test_readers_and_writers_go_on_between_two_batches(self):
        path = self.fresh("all_in_root")
        with self.open_file(path) as db:
            added, cancelled = [], []

            def commit(really):
                really()
                with db.transaction() as connection:
                    service = connection.root()["tasks"]
                    added.append(service.add("echo", len(added)))
                    waiting = [id for id in service.notMoved()
                               if service.getStatus(id) == "queued"]
                    if waiting:
                        service.cancel(waiting[-1])
                        cancelled.append(waiting[-1])
                    self.assertEqual(service.check(), [])
                    self.assertEqual(sum(service.counts().values()), len(service.jobs))

            upgrade_database(db, batch=3, commit=commit)
            with db.transaction() as connection:
                service = connection.root()["tasks"]
                self.assertGreater(len(added), 3)
                self.assertGreater(len(cancelled), 3)
                self.assertEqual({service.getStatus(id) for id in cancelled},
                                 {"cancelled"})
                service.process()
                self.assertEqual({service.getStatus(id) for id in added}, {"completed"})
                self.assertEqual(service.check(), [])

    def test_new_numbers_stay_clear_of_those_not_moved_yet(self):
        with self.opened("all_in_root") as db:
            service = db.open().root()["tasks"]
            service._ready()
            service.jobs._v_next = 999
            self.assertEqual([service.add("echo") for _ in range(2)], [999, 1000])
            third = service.add("echo")
            self.assertNotIn(third, range(1001, 1040))
            transaction.abort()


class TheGeneration(OldDatabaseCase):

    def setUp(self):
        super().setUp()
        xmlconfig.file("meta.zcml", __import__("zope.component").component)
        context = xmlconfig.file("meta.zcml", __import__("zope.component").component)
        xmlconfig.file("configure.zcml", lovely.remotetask.generations, context)

    def test_a_database_that_knew_this_package_is_evolved(self):
        with self.opened("two_sites") as db:
            with db.transaction() as connection:
                connection.root()["zope.app.generations"] = type(connection.root())(
                    {"lovely.remotetask": 0})
            evolve(db, EVOLVEMINIMUM)
            self.assertComplete("two_sites", db)
            with db.transaction() as connection:
                self.assertEqual(
                    connection.root()[generations_key]["lovely.remotetask"], 1)

    @each_database
    def test_one_that_did_not_is_looked_through_as_well(self, name, db):
        evolve(db, EVOLVEMINIMUM)
        self.assertComplete(name, db)
        before = db.lastTransaction()
        evolve(db, EVOLVEMINIMUM)
        with db.transaction() as connection:
            self.assertEqual(
                connection.root()[generations_key]["lovely.remotetask"], 1)
        self.assertEqual([record.description for record in
                          db.storage.iterator(before)][1:], [])


class TheCommand(OldDatabaseCase):
    """python -m lovely.remotetask.generations"""

    def run_command(self, *words):
        """(exit code, standard output, standard error)"""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = generations_command.main([str(word) for word in words])
        return code, out.getvalue(), err.getvalue()

    def test_a_dry_run_writes_nothing_and_then_there_is_work_once(self):
        path = self.fresh("all_in_root")
        before = Path(path).read_bytes()
        code, told, err = self.run_command("--dry-run", path)
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(told, r"\d+ jobs \(")
        self.assertEqual(Path(path).read_bytes(), before)
        self.assertEqual(self.run_command(path), (0, told, ""))
        code, told, err = self.run_command(f"file://{path}")
        self.assertEqual((code, err), (0, ""))
        self.assertTrue(told.startswith("nothing to do"), told)

    def test_what_is_no_database_is_one_line_and_is_not_made(self):
        for where, part in (("missing.fs", "there is no"),
                            ("file://missing.fs", "there is no"),
                            (self.fresh("python2"), "zodbupdate")):
            with self.subTest(where), warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                where = where.replace("missing.fs", f"{self.directory}/missing.fs")
                code, told, err = self.run_command(where)
                gc.collect()  # FileStorage leaves the file of Python 2 open
                self.assertEqual((code, told), (3, ""))
                self.assertEqual(err.count("\n"), 1, err)
                self.assertIn(part, err)
        self.assertFalse(os.path.exists(f"{self.directory}/missing.fs"))


class Story(OldDatabaseCase):
    """What docs/upgrade.txt finds around it."""

    def __init__(self, test):
        super().__init__("setUp")
        self.dbs = []
        self.setUp()
        test.story = self
        test.globs.update(open_copy=self.open_copy, copy_of=self.copy_of,
                          open_file=FileStorage, transaction=transaction)

    def copy_of(self, name):
        return shutil.copy(HERE / f"{name}.fs", self.directory)

    def open_copy(self, name):
        self.dbs.append(DB(FileStorage(self.copy_of(name))))
        return self.dbs[-1]

    def close(self):
        transaction.abort()
        for db in self.dbs:
            db.close()
        self.doCleanups()


def test_suite():
    loader = unittest.defaultTestLoader
    suite = unittest.TestSuite(map(loader.loadTestsFromTestCase, (
        TheDatabases, BeforeTheUpgrade, AfterTheUpgrade, Running, RunningWhileItMoves,
        Interrupted, InterruptedEverywhere, TheFirstWrite, TheGeneration,
        TheCommand)))
    suite.addTest(doctest.DocFileSuite(
        str(MANUAL), module_relative=False, encoding="utf-8", setUp=Story,
        tearDown=lambda test: test.story.close(),
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE))
    return suite


if __name__ == "__main__":
    unittest.main()
