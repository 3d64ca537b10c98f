"""Services that start with the database: directives, right and wrong ones."""
import os
import unittest
from unittest import mock

import transaction
from zope.component import getGlobalSiteManager, provideUtility
from zope.processlifetime import DatabaseOpenedWithRoot
from zope.site.folder import Folder, rootFolder
from zope.site.site import LocalSiteManager

from lovely.remotetask import settings, startup
from lovely.remotetask.interfaces import ITask, ITaskService
from lovely.remotetask.service import TaskService, bootStrapSubscriber
from lovely.remotetask.task import SimpleTask
from lovely.remotetask.tests.support import ServiceCase


def site(parent, name):
    parent[name] = place = Folder()
    place.setSiteManager(LocalSiteManager(place))
    return place


def service_in(place, name, registered=None):
    manager = place.getSiteManager()
    manager["default"][name] = service = TaskService()
    manager.registerUtility(service, ITaskService, name=registered or name)
    return service


class Starting(ServiceCase):

    storage = "mapping"

    def setUp(self):
        super().setUp()
        provideUtility(SimpleTask(str), ITask, name="echo")
        self.root = self.connection.root()["Application"] = rootFolder()
        self.root.setSiteManager(LocalSiteManager(self.root))
        self.one, self.two = site(self.root, "one"), site(self.root, "two")
        self.in_root = service_in(self.root, "mail")
        self.mail, self.print = service_in(self.one, "mail"), service_in(self.one, "print")
        self.nested = service_in(site(self.two, "inner"), "mail")
        transaction.commit()
        self.addCleanup(settings.reload)

    def start_with(self, directives):
        with mock.patch.dict(os.environ, REMOTETASK_AUTOSTART=directives):
            bootStrapSubscriber(DatabaseOpenedWithRoot(self.db))

    def running(self):
        return [name for name in ("in_root", "mail", "print", "nested")
                if getattr(self, name).isProcessing()]

    def said(self, level="ERROR"):
        return [record.getMessage() for record in self.lines.records
                if record.levelname == level]

    def test_directives_come_from_the_environment_as_well(self):
        with mock.patch.dict(os.environ, REMOTETASK_AUTOSTART="a@b, @c"):
            settings.reload()
            self.assertEqual(startup.getAutostartServiceNames(), ["a@b", "@c"])

    def test_each_form_starts_what_it_names(self):
        for directive, expected in (
                ("one@mail", ["mail"]), ("one@*", ["mail", "print"]),
                ("@mail", ["in_root"]), ("*@mail", ["in_root", "mail"]),
                ("*@print", ["print"]), ("*@*", ["in_root", "mail", "print"]),
                ("two/inner@mail", ["nested"])):
            with self.subTest(directive):
                self.start_with(directive)
                self.assertEqual(self.running(), expected)
                for name in expected:
                    getattr(self, name).stopProcessing()

    def test_a_wrong_directive_is_one_line_and_the_rest_start(self):
        for directive, line in (
                ("mail", "directive mail is not understood"),
                ("a@b@c", "directive a@b@c is not understood"),
                ("one@", "directive one@ is not understood"),
                ("three@mail", "site three not found"),
                ("one@fax", "service fax on site one not found"),
                ("@fax", "service fax on site root not found")):
            with self.subTest(directive):
                self.lines.records.clear()
                self.start_with(f"{directive}, one@print")
                self.assertEqual(self.running(), ["print"])
                self.assertEqual(len(self.said()), 1)
                self.assertTrue(self.said()[0].startswith(line), self.said())
                self.print.stopProcessing()

    def test_a_wrong_name_cannot_forge_a_line(self):
        self.start_with("one\x0b@mail")
        self.assertNotIn("\x0b", "".join(self.said()))

    def test_starting_again_changes_nothing(self):
        self.start_with("one@mail")
        first = self.threads()
        self.start_with("one@mail")
        self.assertEqual(self.threads(), first)
        self.assertEqual(self.said("WARNING"), [])

    def threads(self):
        import threading
        return sorted((thread.name, thread.ident) for thread in threading.enumerate()
                      if thread.name.startswith("remotetasks."))

    def test_a_service_that_cannot_start_is_one_line_and_the_rest_start(self):
        self.mail.processorArguments = {"nonsense": 1}
        transaction.commit()
        self.start_with("one@*")
        self.assertEqual(self.running(), ["print"])
        self.assertIn("service mail on site one could not be started", self.said()[0])

    def test_a_removed_service_with_a_registration_does_not_stop_the_start(self):
        del self.one.getSiteManager()["default"]["mail"]
        transaction.commit()
        self.start_with("one@*")
        self.assertEqual(self.running(), ["print"])

    def unknown(self):
        """What is said of tasks that nobody has registered."""
        return [line for line in self.said("WARNING") if "not known here" in line]

    def test_jobs_of_tasks_not_registered_are_one_line_before_work_begins(self):
        for name in ("mine.short", "mine.long"):
            provideUtility(SimpleTask(str), ITask, name=name)
        for task, options in (("mine.long", {}), ("mine.long", {"delay": 3600}),
                              ("mine.short", {"startLater": True}), ("echo", {})):
            self.mail.add(task, **options)
        self.mail.addCronJob("mine.long", schedule="0 2 30 jan *")
        done = self.mail.add("mine.short")
        self.mail.cancel(done)
        self.print.add("echo")
        transaction.commit()
        for name in ("mine.short", "mine.long"):
            getGlobalSiteManager().unregisterUtility(provided=ITask, name=name)
        for folded in (False, True):
            with self.subTest(folded=folded):
                if folded:
                    self.mail.stopProcessing()
                    self.mail.process()
                    self.mail.retry(done)
                    transaction.commit()
                self.assertEqual(
                    startup.waiting_for_unknown_tasks(self.mail),
                    {"mine.long": 2 if folded else 3, "mine.short": 2 if folded else 1})
                self.assertEqual(startup.waiting_for_unknown_tasks(self.print), {})
        self.start_with("one@*")
        self.assertEqual(len(self.unknown()), 1, self.unknown())
        self.assertIn("service mail: 4 waiting jobs are of tasks not known here: "
                      "mine.long, mine.short; register them", self.unknown()[0])

    def test_without_directives_the_database_is_not_even_opened(self):
        bootStrapSubscriber(DatabaseOpenedWithRoot(None))


if __name__ == "__main__":
    unittest.main()
