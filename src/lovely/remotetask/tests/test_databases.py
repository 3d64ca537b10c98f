"""A service in a database of its own, beside the one of the data."""
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

import transaction
import zope.component.testing
from persistent.mapping import PersistentMapping
from transaction import TransactionManager
from ZODB.DB import DB
from zope.component import provideUtility
from zope.component.hooks import setHooks
from zope.site.folder import rootFolder
from zope.site.site import LocalSiteManager

from lovely.remotetask import TaskService, processor, startup, uris
from lovely.remotetask.interfaces import ITask, ITaskService
from lovely.remotetask.runtime.publication import find, path_of
from lovely.remotetask.task import SimpleTask
from lovely.remotetask.testing import wait_for_job
from lovely.remotetask.tests import servers
from lovely.remotetask.tests.test_cli_processes import ProcessCase


class TwoDatabases:
    """The data in one database, the jobs in another; each on a storage of its own."""

    storages = ("file", "file")

    def setUp(self):
        zope.component.testing.setUp()
        setHooks()
        self.addCleanup(zope.component.testing.tearDown)
        self.directory = tempfile.mkdtemp(prefix="remotetask-two-")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.uris = [servers.SHARED.uri(self, kind) for kind in self.storages]
        self.db = self.open()
        self.connection = self.connect(self.db)
        self.root = self.connection.root()
        self.place()
        transaction.commit()

    def open(self):
        databases = {}
        for name, uri in zip(("main", "tasks"), self.uris):
            factory, _ = uris.resolve(uri)
            db = DB(factory(), databases=databases, database_name=name)
            self.addCleanup(db.close)
        self.addCleanup(lambda: self.assertEqual(processor.stop_all(
            databases.get("main"), grace=1), []))
        return databases["main"]

    def connect(self, db):
        connection = db.open()
        self.addCleanup(connection.close)
        self.addCleanup(transaction.abort)
        return connection

    @property
    def beside(self):
        return self.connection.get_connection("tasks").root()

    def place(self):
        self.root["stock"] = PersistentMapping()
        self.beside["tasks"] = self.service = TaskService()

    def task(self, name, function):
        provideUtility(SimpleTask(function, wantsContext=True), ITask, name)

    def sell(self, input, context):
        """What a task does with the data: in the main database, by the service."""
        data = context.service._p_jar.get_connection("main").root()["stock"]
        data[input] = data.get(input, 0) + 1
        return data[input]


class WithoutThreads(TwoDatabases):

    def test_it_stands_in_the_other_database(self):
        self.assertEqual(self.service._p_jar.db().database_name, "tasks")
        self.assertEqual(path_of(self.service), ("tasks",))
        self.assertIs(find(self.beside, ("tasks",)), self.service)

    def test_data_and_job_come_in_one_commit_or_not_at_all(self):
        self.task("sell", self.sell)
        self.root["stock"]["lamp"] = 7
        self.service.add("sell", "lamp")
        transaction.abort()
        self.assertEqual((dict(self.root["stock"]), len(self.service.jobs)), ({}, 0))
        self.root["stock"]["lamp"] = 7
        jobid = self.service.add("sell", "lamp")
        transaction.commit()
        with self.db.transaction() as other:
            self.assertEqual(dict(other.root()["stock"]), {"lamp": 7})
            there = other.get_connection("tasks").root()["tasks"]
            self.assertEqual(there.getStatus(jobid), "queued")

    def test_startup_finds_it_as_one_of_the_root(self):
        self.assertEqual(
            [(site, name) for site, name, _ in startup.services(self.root)],
            [("root", "tasks")])


class WithThreads(TwoDatabases):

    def run_one(self):
        jobid = self.service.add("sell", "lamp")
        transaction.commit()
        return wait_for_job(self.service, jobid)

    def test_effects_and_completion_are_there_together(self):
        self.task("sell", self.sell)
        self.service.startProcessing()
        for number in (1, 2, 3):
            self.assertEqual(self.run_one().output, number)
        transaction.begin()
        self.assertEqual(dict(self.root["stock"]), {"lamp": 3})
        self.assertEqual(self.service.check(), [])

    def test_a_failure_leaves_nothing_in_either(self):
        def fail(input, context):
            self.sell(input, context)
            raise ValueError("no luck")
        provideUtility(SimpleTask(fail, wantsContext=True, retries=0), ITask, "sell")
        self.service.startProcessing()
        self.assertEqual(self.run_one().error, "no luck")
        transaction.begin()
        self.assertEqual(dict(self.root["stock"]), {})

    def test_jobs_may_have_objects_of_the_main_database(self):
        self.root["lamp"] = PersistentMapping(sold=0)
        transaction.commit()

        def sell(input, context):
            lamp = context.service._p_jar.get_connection("main").root()["lamp"]
            lamp["sold"] += 1
        self.task("sell", sell)
        self.service.startProcessing()
        self.run_one()
        transaction.begin()
        self.assertEqual(self.root["lamp"]["sold"], 1)

    def test_stopping_all_of_the_main_database_stops_it(self):
        self.task("sell", self.sell)
        self.service.startProcessing()
        self.assertTrue(self.service.isProcessing())
        self.assertEqual(processor.stop_all(self.db, grace=1), [])
        self.assertFalse(self.service.isProcessing())

    def test_it_can_be_processed_by_hand(self):
        self.task("sell", self.sell)
        self.service.add("sell", "lamp")
        self.service.process()
        transaction.commit()
        self.assertEqual(dict(self.root["stock"]), {"lamp": 1})

    def test_a_service_of_a_site_may_stand_there_too(self):
        """Its site, by which it is found, is in the main database."""
        self.task("sell", self.sell)
        application = self.root["Application"] = rootFolder()
        application.setSiteManager(LocalSiteManager(application))
        transaction.commit()
        service = TaskService()
        self.connection.get_connection("tasks").add(service)  # said, not guessed
        application.getSiteManager()["default"]["jobs"] = service
        application.getSiteManager().registerUtility(service, ITaskService, "jobs")
        transaction.commit()
        self.assertEqual(service._p_jar.db().database_name, "tasks")
        self.assertEqual(path_of(service), ("++etc++site", "default", "jobs"))
        self.assertIn(("root", "jobs"), [each[:2] for each in
                                         startup.services(application)])
        service.startProcessing()
        jobid = service.add("sell", "lamp")
        transaction.commit()
        self.assertEqual(wait_for_job(service, jobid).output, 1)


class OnFiles(WithoutThreads, WithThreads, unittest.TestCase):
    pass


class FromAnotherProcess(TwoDatabases):
    """Two multi-databases stand for two processes."""

    def test_work_ends_the_nap(self):
        ran = threading.Event()
        self.task("sell", lambda input, context: ran.set())
        self.service.processorArguments = {"waitTime": 3600.0}
        transaction.commit()
        there = self.open()
        manager = TransactionManager()
        working = there.open(manager)
        service = working.get_connection("tasks").root()["tasks"]
        service.startProcessing()
        manager.abort()
        working.close()
        for number in range(3):
            ran.clear()
            self.service.add("sell", number)
            transaction.commit()
            self.assertTrue(ran.wait(servers.BOUND), "it slept through the job")


class OnZEOAndPostgreSQL(WithoutThreads, WithThreads, FromAnotherProcess,
                         unittest.TestCase):
    layer = servers.SHARED
    level = 2
    storages = ("zeo", "postgresql")


class OnPostgreSQLAndSQLite(WithoutThreads, WithThreads, FromAnotherProcess,
                            unittest.TestCase):
    layer = servers.SHARED
    level = 2
    storages = ("postgresql", "sqlite")


CONF = """
<zodb>
  <filestorage>
    path $var/Data.fs
  </filestorage>
</zodb>
<zodb tasks>
  {}
</zodb>
"""
FILE = "<filestorage>\npath $var/Tasks.fs\n</filestorage>"


class InAZopeConf(ProcessCase):

    level = 2
    layer = servers.SHARED

    def test_workers_and_commands_find_it_in_a_second_file(self):
        self.configure(FILE)
        self.work()

    def test_workers_and_commands_find_it_on_another_storage(self):
        uri = servers.SHARED.postgresql_uri(self)
        self.configure("%import lovely.remotetask.app\n"
                       f"<uristorage>\nuri {uri}\n</uristorage>")
        self.work()

    def configure(self, section):
        """An application whose only service stands in the database "tasks"."""
        for name in list(self.environment):
            if name in ("REMOTETASK_DB", "REMOTETASK_AUTOSTART"):
                del self.environment[name]
        application = self.start("run", "--no-example", "--port", 0)
        application.wait_for("Ctrl-C stops it")
        self.assertEqual(application.stop(), 0)
        conf = Path(self.directory, "var", "zope.conf")
        text = conf.read_text()
        main = text[text.index("<zodb>"):text.index("</zodb>") + len("</zodb>")]
        imports = "".join(line + "\n" for line in section.splitlines()
                          if line.startswith("%"))
        rest = "\n".join(line for line in section.splitlines()
                         if not line.startswith("%"))
        conf.write_text(text.replace(main, imports + CONF.format(rest)).replace(
            "autostart @tasks", "autostart @work"))
        (self.directory / "mount.py").write_text(MOUNT)
        done = self.process_of("mount.py")
        self.assertEqual(done.returncode, 0, done.stderr)

    def process_of(self, script):
        return subprocess.run([sys.executable, script], cwd=self.directory, text=True,
                              env=self.environment, capture_output=True)

    def work(self):
        worker = self.start("work")
        self.assertIn("@work", worker.wait_for("At work on"))
        self.assertEqual(
            self.done("add", "echo", '"x"', "--service", "@work", "--wait", "30s"),
            '"x"\n')
        found = {each["name"]: each for each in self.answer("status")}
        self.assertEqual(found["work"]["counts"]["completed"], 1)
        self.assertEqual(
            self.answer("list", "--service", "@work")["jobs"][0]["status"], "completed")
        self.assertEqual(worker.stop(signal.SIGTERM), 0)
        self.assertIn("@work: 1 job, no faults", self.done("check"))


MOUNT = """
from lovely.remotetask import TaskService
from lovely.remotetask.cli import databases
db = databases.find("var").open()
with db.transaction() as connection:
    connection.get_connection("tasks").root()["work"] = TaskService()
for each in list(db.databases.values()):
    each.close()
"""


if __name__ == "__main__":
    unittest.main()
