"""What the package's ZCML registers: tasks, permissions, the start."""
import unittest

from zope.component import getUtility, handle, queryUtility
from zope.component.testing import setUp, tearDown
from zope.configuration import xmlconfig
from zope.configuration.exceptions import ConfigurationError
from zope.interface import Interface
from zope.schema import Int
from zope.security.checker import CheckerPublic, getCheckerForInstancesOf

import lovely.remotetask
from lovely.remotetask import access, interfaces
from lovely.remotetask.job import CronJob, Job
from lovely.remotetask.retry import RetryPolicy
from lovely.remotetask.service import TaskService

PERMISSIONS = {"View", "ReadInput", "ReadResult", "Submit", "Cancel", "Manage"}


class INumber(Interface):
    number = Int(title="Number")


def work(input):
    """Work."""
    return input


class Component:
    inputSchema = outputSchema = None

    def __call__(self, service, jobid, input):
        return "component"


component = Component()


class Configured(unittest.TestCase):

    def setUp(self):
        setUp()
        self.context = xmlconfig.file("configure.zcml", lovely.remotetask)

    def tearDown(self):
        tearDown()

    def configure(self, attributes):
        xmlconfig.string(f"""
            <configure xmlns:remotetask="http://namespaces.zope.org/remotetask">
              <remotetask:task {attributes} />
            </configure>""", self.context)

    def task(self, name):
        return getUtility(interfaces.ITask, name)


class Directive(Configured):

    def test_a_function_becomes_a_task_with_its_options(self):
        self.configure(f"""name="work" function="{__name__}.work" timeout="60"
            retries="5" retryDelay="10" lane="narrow" laneWidth="1"
            inputSchema="{__name__}.INumber" """)
        task = self.task("work")
        self.assertEqual(task(None, 1, 7), 7)
        self.assertEqual(
            (task.timeout, task.lane, task.laneWidth, task.inputSchema),
            (60.0, "narrow", 1, INumber))
        self.assertEqual((task.retryPolicy.retries, task.retryPolicy.delay), (5, 10.0))
        self.assertIsInstance(task.retryPolicy, RetryPolicy)

    def test_a_task_is_limited_in_zcml_too(self):
        self.configure(f"""name="few" function="{__name__}.work" concurrency="2"
            rate="100/h" group="20" """)
        task = self.task("few")
        self.assertEqual((task.concurrency, task.rate, task.group), (2, (100, 3600.0), 20))

    def test_a_component_and_a_factory_are_registered_as_they_are(self):
        self.configure(f'name="one" component="{__name__}.component"')
        self.configure(f'name="two" factory="{__name__}.Component"')
        self.assertIs(self.task("one"), component)
        self.assertIsInstance(self.task("two"), Component)

    def test_what_contradicts_itself_is_refused_and_named(self):
        for attributes, said in (
                ("", "needs one of"),
                (f'function="{__name__}.work" component="{__name__}.component"',
                 "needs one of"),
                (f'component="{__name__}.component" timeout="3"', "timeout"),
                (f'function="{__name__}.work" rate="often"', "rate"),
                (f'function="{__name__}.work" laneWidth="1"', "laneWidth")):
            with self.subTest(attributes), self.assertRaises(ConfigurationError) as caught:
                self.configure(f'name="wrong" {attributes}')
            self.assertIn(said, str(caught.exception))
            self.assertIn("wrong", str(caught.exception))
            self.assertIsNone(queryUtility(interfaces.ITask, "wrong"))

    def test_the_demo_task_runs(self):
        service = TaskService()
        jobid = service.add("echo", {"foo": "bar"})
        service.process()
        self.assertEqual(service.getResult(jobid), {"foo": "bar"})


class Permissions(Configured):
    """Nothing is public, and nothing that an interface names is forgotten."""

    def check(self, kind, interface, but=()):
        checker = getCheckerForInstancesOf(kind)
        for name in interface.names(all=True):
            if name in but:
                continue
            with self.subTest(name):
                permission = checker.get_permissions.get(name)
                self.assertIsNotNone(permission, f"{name} has no permission")
                self.assertIsNot(permission, CheckerPublic)
                self.assertIn(permission, access.PERMISSIONS)
        self.assertEqual(checker.set_permissions, {})

    def test_each_verb_of_the_service_needs_one(self):
        self.check(TaskService, interfaces.ITaskService)

    def test_each_attribute_of_a_job_needs_one(self):
        self.check(Job, interfaces.IJob)
        self.check(CronJob, interfaces.ICronJob)

    def test_input_and_results_need_their_own(self):
        checker = getCheckerForInstancesOf(Job)
        self.assertEqual(checker.get_permissions["input"], "lovely.remotetask.ReadInput")
        for name in ("output", "error", "attempts"):
            self.assertEqual(
                checker.get_permissions[name], "lovely.remotetask.ReadResult")

    def test_the_verbs_of_the_runtime_are_nobodys(self):
        checker = getCheckerForInstancesOf(TaskService)
        for name in interfaces.IServiceDesk.names():
            self.assertNotIn(name, checker.get_permissions)


class Started(Configured):

    def test_an_opened_database_reaches_the_startup(self):
        from zope.processlifetime import DatabaseOpenedWithRoot
        handle(DatabaseOpenedWithRoot(object()))  # no directives: nothing is opened


if __name__ == "__main__":
    unittest.main()
