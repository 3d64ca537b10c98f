"""The pages of the documentation, run as tests."""
import doctest
import logging
import os
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

import transaction
import ZODB

from zope.component.hooks import setHooks, setSite
from zope.processlifetime import DatabaseOpenedWithRoot
from zope.site.folder import rootFolder
from zope.site.site import LocalSiteManager
from zope.site.testing import siteSetUp, siteTearDown
from zope.testing.loggingsupport import InstalledHandler

from lovely.remotetask import TaskService, lifecycle, processor, settings
from lovely.remotetask.processor import THREAD_PREFIX
from lovely.remotetask.service import bootStrapSubscriber

CHECKOUT = Path(__file__).parents[4]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
WAIT_SECONDS = 20
STORIES = ("README.txt", "docs/tasks.txt", "docs/configuration.txt",
           "docs/security.txt",
           "src/lovely/remotetask/life-of-a-job.txt",
           "src/lovely/remotetask/startlater.txt", "src/lovely/remotetask/processor.txt")


class Story:
    """What a page finds around it: an application in a database, and its helpers."""

    def __init__(self, test):
        siteSetUp()
        setHooks()
        self.db = ZODB.DB(None)
        self.connection = self.db.open()
        self.root = self.connection.root()["Application"] = rootFolder()
        self.root.setSiteManager(LocalSiteManager(self.root))
        transaction.commit()
        self.log = InstalledHandler("lovely.remotetask", level=logging.INFO)
        test.globs.update(
            root=self.root, db=self.db, log_info=self.log, configure=self.configure,
            start_with=self.start_with, stop=self.stop, show_threads=self.show_threads,
            wait_for=self.wait_for, TaskService=TaskService, transaction=transaction)
        test.story = self

    def close(self, test):
        transaction.abort()
        processor.stop_all(self.db, grace=5)
        self.log.uninstall()
        self.connection.close()
        self.db.close()
        self.configure(None)
        setSite(None)
        siteTearDown()

    def configure(self, autostart):
        """Put the directives where zope.conf would."""
        from zope.app.appsetup.product import setProductConfiguration
        setProductConfiguration(
            settings.SECTION, None if autostart is None else {"autostart": autostart})
        settings.reload()
        self.log.clear()

    def start_with(self, autostart):
        """Open the database under this configuration, and show the log."""
        self.configure(autostart)
        bootStrapSubscriber(DatabaseOpenedWithRoot(self.db))
        print(self.log)

    def stop(self, *services):
        for service in services:
            service.stopProcessing()
            assert not service.isProcessing()

    def show_threads(self):
        """The threads of services, once those that were stopped have gone."""
        stopped = [thread for thread in threading.enumerate()
                   if thread.name.startswith(THREAD_PREFIX)
                   and thread not in [pair[0] for pair in processor._threads.values()]]
        for thread in stopped:
            thread.join(WAIT_SECONDS)
        for name in sorted(thread.name for thread in threading.enumerate()
                           if thread.name.startswith(THREAD_PREFIX)):
            print(name)

    def wait_for(self, service, jobid, status):
        """Wait until a job has a status, or has come to another end."""
        for _ in range(WAIT_SECONDS * 100):
            transaction.begin()
            if service.getStatus(jobid) in (status, *lifecycle.FINISHED):
                break
            threading.Event().wait(0.01)
        assert service.getStatus(jobid) == status, service.getStatus(jobid)


def story(name):
    return doctest.DocFileSuite(
        str(CHECKOUT / name), module_relative=False, encoding="utf-8",
        optionflags=FLAGS, setUp=Story, tearDown=lambda test: test.story.close(test))


class TheMap(unittest.TestCase):

    def test_the_readme_lists_every_room_in_its_order(self):
        from lovely.remotetask.tests.test_map import FLOORS
        text = (CHECKOUT / "README.txt").read_text(encoding="utf-8")
        table = text[text.index("floor    room"):text.index("edges ")]
        listed = [line[9:32].strip() for line in table.splitlines()[2:] if line[9:].strip()]
        wanted = [room.replace(".", "/") for floor in
                  ("words", "values", "store", "runtime", "hall")
                  for room in FLOORS[floor] if room not in ("", "store", "runtime")]
        self.assertEqual(listed, wanted)


class TheScript(unittest.TestCase):

    def test_the_script_runs_its_jobs_and_ends(self):
        with tempfile.TemporaryDirectory() as directory:
            for _ in range(2):  # the second time the service is there
                done = subprocess.run(
                    [sys.executable, str(CHECKOUT / "examples" / "script.py"),
                     str(Path(directory) / "Data.fs")],
                    capture_output=True, text=True, timeout=WAIT_SECONDS * 3,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
                self.assertEqual(
                    (done.returncode, done.stdout, done.stderr),
                    (0, "Hello Ada\nHello Grace\nHello Alan\n", ""))


def test_suite():
    suite = unittest.TestSuite()
    for case in (TheMap, TheScript):
        suite.addTest(unittest.defaultTestLoader.loadTestsFromTestCase(case))
    for name in STORIES:
        suite.addTest(story(name))
    return suite
