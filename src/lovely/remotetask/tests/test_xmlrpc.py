"""XML-RPC with Python's own client: in this process, and against the server."""
import datetime
import unittest
from unittest import mock
from xmlrpc.client import Binary, DateTime, Fault, MultiCall, ServerProxy, Transport

from ZODB.POSException import ConflictError

from lovely.remotetask.errors import TaskError
from lovely.remotetask.http.xmlrpc import CODES, METHODS
from lovely.remotetask.service import TaskService
from lovely.remotetask.tests.house import SERVICE, XML, InTheHouse
from lovely.remotetask.tests.test_app import TestCase


class Wire(Transport):
    """Carries calls to the application in this process."""

    def __init__(self, house, who):
        super().__init__()
        self.house, self.who = house, who

    def single_request(self, host, handler, request_body, verbose=False):
        answer = self.house.ask("POST", SERVICE, self.who, request_body, XML)
        self.status = answer.status
        parser, unmarshaller = self.getparser()
        parser.feed(answer.body)
        parser.close()
        return unmarshaller.close()


class Calls(unittest.TestCase):

    layer = InTheHouse

    def setUp(self):
        self.house = self.layer.house
        self.house.errors.records.clear()
        self.manager = self.proxy("manager")

    def tearDown(self):
        with self.house.service() as service:
            for job in list(service.jobs.values()):
                service.cancel(job.id)
            service.clean()
            service.configure(waiting_limit=None)
        self.assertEqual(self.house.errors.texts(), [])

    def proxy(self, who):
        return ServerProxy(f"http://127.0.0.1{SERVICE}", Wire(self.house, who))

    def refused(self, condition, call, *arguments):
        with self.assertRaises(Fault) as caught:
            call(*arguments)
        fault = caught.exception
        self.assertEqual(fault.faultCode, CODES[condition], fault)
        self.assertTrue(fault.faultString.startswith(f"{condition}: "), fault)
        return fault.faultString

    def result(self, value):
        """What `getResult` answers for a job that returns this."""
        self.house.task("give", lambda input: value)
        jobid = self.manager.add("give")
        with self.house.service() as service:
            service.process()
        return self.manager.getResult(jobid)

    def test_the_six_methods_of_release_05(self):
        self.assertIn("echo", self.manager.getAvailableTasks())
        self.assertEqual(self.manager.getAvailableTasks(),
                         sorted(self.manager.getAvailableTasks()))
        jobid = self.manager.add("echo", {"foo": "bär"})
        self.assertEqual(self.manager.getStatus(jobid), "queued")
        self.refused("no-result", self.manager.getResult, jobid)
        with self.house.service() as service:
            service.process()
        self.assertEqual(self.manager.getStatus(jobid), "completed")
        self.assertEqual(self.manager.getResult(jobid), {"foo": "bär"})
        self.assertEqual(self.manager.getError(jobid), "None")
        self.assertIs(self.manager.cancel(jobid), True)
        waiting = self.manager.add("echo", {})
        self.assertIs(self.manager.cancel(waiting), True)
        self.assertEqual(self.manager.getStatus(waiting), "cancelled")

    def test_errors_are_told(self):
        def fail(input):
            raise TaskError("no \x00 luck")

        self.house.task("fail", fail)
        jobid = self.manager.add("fail")
        with self.house.service() as service:
            service.process()
        self.assertIn("luck", self.manager.getError(jobid))
        self.assertIn("error", self.refused("no-result", self.manager.getResult, jobid))

    def test_what_can_be_carried(self):
        moment = datetime.datetime(2027, 1, 31, 13, 30)
        for value in (True, 2**31 - 1, -2**31, 1.5, "ü\n\t<&>", [1, [2]], {"a": {}}, ""):
            self.assertEqual(self.result(value), value)
        self.assertEqual(self.result((1, 2)), [1, 2])
        self.assertEqual(self.result(b"\0\xff"), Binary(b"\0\xff"))
        self.assertEqual(self.result(moment), DateTime(moment))

    def test_what_cannot_be_carried_is_told_so(self):
        for value in (2**31, [None], {"a": None}, "\x00", "a\x0bb", "\ud800", {"\x01": 1},
                      {1: 2}, float("inf"), float("nan"), {1, 2}, object, 1j,
                      datetime.datetime.now(datetime.UTC), datetime.date(2027, 1, 1)):
            self.refused("cannot-be-carried", self.result, value)
        self.refused("no-result", self.result, None)

    def test_persistent_objects_are_not_carried(self):
        from persistent.mapping import PersistentMapping
        told = self.refused("cannot-be-carried", self.result, PersistentMapping(a=1))
        self.assertNotIn("0x", told)

    def test_what_came_in_is_plain(self):
        seen = []
        self.house.task("see", seen.append)
        self.manager.add("see", {"on": DateTime("20270131T13:30:00"),
                                 "data": Binary(b"\0"), "many": [1, "x"]})
        with self.house.service() as service:
            service.process()
        self.assertEqual(seen, [{"on": datetime.datetime(2027, 1, 31, 13, 30),
                                 "data": b"\0", "many": [1, "x"]}])

    def test_options(self):
        jobid = self.manager.add("echo", {}, {
            "title": "t", "tags": ["a"], "priority": 1, "startLater": True,
            "startAt": DateTime("20990131T13:30:00")})
        with self.house.service() as service:
            job = service.getJob(jobid)
            self.assertEqual((job.title, job.tags, job.priority, job.status),
                             ("t", ("a",), 1, "start later"))
            self.assertEqual(job.due.isoformat(), "2099-01-31T13:30:00+00:00")
        for options in ({"title": 1}, {"nope": 1}, {"tags": "a"}, {"startLater": "yes"},
                        {"owner": "somebody"}):
            self.refused("bad-option", self.manager.add, "echo", {}, options)
        self.refused("bad-arguments", self.manager.add, "echo", {}, "options")

    def test_locks_and_one_job_for_many_adds(self):
        first = self.manager.add("echo", {}, {"locks": {"a": 2}, "unique": "x"})
        with self.house.service() as service:
            self.assertEqual(service.getJob(first).locks, (("a", 2),))
        self.assertEqual(self.manager.add("echo", {}, {"unique": "x"}), first)
        submitter = self.proxy("submitter")
        self.assertEqual(submitter.add("echo", {}, {"unique": "x"}), first)
        options = {"unique": "x", "duplicate": "replace"}
        self.refused("not-allowed", submitter.add, "echo", {}, options)
        self.assertEqual(self.manager.getStatus(first), "queued")
        second = self.manager.add("echo", {}, {**options, "locks": ["a"]})
        self.assertNotEqual(second, first)
        self.assertEqual(self.manager.getStatus(first), "cancelled")
        for options in ({"locks": {"a": 0}}, {"locks": 1}, {"unique": 5}, {"uniqueFor": 5},
                        {"unique": True, "duplicate": "perhaps"}):
            self.refused("bad-option", self.manager.add, "echo", {}, options)

    def test_what_would_rather_not_wait_is_refused(self):
        options = {"locks": ["only"], "atLimit": "refuse"}
        self.manager.add("echo", {}, options)
        self.refused("limit-reached", self.manager.add, "echo", {}, options)

    def test_a_key_means_the_same_job(self):
        first = self.manager.add("echo", {"a": 1}, {"key": "xmlrpc"})
        self.assertEqual(self.manager.add("echo", {"a": 1}, {"key": "xmlrpc"}), first)
        self.refused("key-reused", self.manager.add, "echo", {"a": 2}, {"key": "xmlrpc"})

    def test_calls_that_mean_nothing(self):
        self.refused("unknown-method", self.manager.nope)
        self.refused("unknown-method", self.manager.jobs.keys)
        self.refused("unknown-method", self.manager.api.v1)
        self.refused("unknown-task", self.manager.add, "nope")
        self.refused("unknown-task", self.manager.add, 3)
        for arguments in ((), (1, 2), ("1",), (True,), (1.0,)):
            self.refused("bad-arguments", self.manager.getStatus, *arguments)
        self.refused("unknown-job", self.manager.getStatus, 7)
        self.refused("unknown-job", self.manager.cancel, -1)

    def test_introspection(self):
        names = self.manager.system.listMethods()
        self.assertEqual(names, sorted(METHODS))
        self.assertEqual(self.manager.listMethods(), names)
        for name in names:
            self.assertGreater(len(self.manager.methodHelp(name)), 10, name)
            for signature in self.manager.system.methodSignature(name):
                self.assertGreater(len(signature), 0, name)
        self.refused("unknown-method", self.manager.system.methodHelp, "nope")

    def test_several_calls_in_one(self):
        calls = MultiCall(self.manager)
        calls.add("echo")
        calls.getStatus(7)
        calls.add("echo", {"second": True})
        results = calls()
        self.assertIsInstance(results[0], int)
        with self.assertRaises(Fault):
            results[1]
        self.assertEqual(self.manager.getStatus(results[2]), "queued")
        self.refused("bad-arguments", self.manager.system.multicall, [{}] * 101)
        self.refused("bad-arguments", self.manager.system.multicall, [
            {"methodName": "system.multicall", "params": [[]]}])

    def test_who_may_what(self):
        mine = self.proxy("submitter").add("echo", {})
        other = self.manager.add("echo", {})
        self.refused("not-allowed", self.proxy("viewer").add, "echo")
        self.refused("not-allowed", self.proxy("viewer").cancel, mine)
        self.refused("not-allowed", self.proxy("viewer").getError, mine)
        self.refused("not-allowed", self.proxy("submitter").cancel, other)
        self.assertTrue(self.proxy("submitter").cancel(mine))
        with self.house.service() as service:
            self.assertEqual(service.getJob(mine).owner, "submitter")

    def test_anonymous_hears_nothing(self):
        for body in (b"", b"<methodCall><methodName>listMethods</methodName></methodCall>"):
            answer = self.house.ask("POST", SERVICE, None, body, XML)
            self.assertEqual(answer.status, 401)
            self.assertNotIn(b"listMethods", answer.body)

    def test_no_more_may_wait_than_may(self):
        with self.house.service() as service:
            service.configure(waiting_limit=0)
        self.refused("too-many-jobs", self.manager.add, "echo")

    def test_a_conflict_that_does_not_end(self):
        with mock.patch.object(TaskService, "getAvailableTasks", side_effect=ConflictError):
            self.refused("busy", self.manager.getAvailableTasks)
        self.house.errors.records.clear()

    def test_cookies_are_no_arguments(self):
        body = b"<methodCall><methodName>getStatus</methodName></methodCall>"
        with self.house.service() as service:
            jobid = service.add("echo")
        answer = self.house.ask("POST", SERVICE, "manager", body, {
            **XML, "Cookie": f"jobid={jobid}"})
        self.assertIn(b"bad-arguments", answer.body)

    def test_faults_tell_nothing_of_what_is_inside(self):
        with self.assertLogs("lovely.remotetask.http.problems", "ERROR") as log:
            broken = METHODS["getStatus"]._replace(function=_broken)
            METHODS["broken"] = broken
            try:
                told = self.refused("internal", self.manager.broken, 1)
            finally:
                del METHODS["broken"]
        self.assertNotIn("hunter2", told)
        self.assertIn("hunter2", log.output[0])


def _broken(service, jobid):
    raise RuntimeError("hunter2")


class AgainstTheServer(TestCase):

    level = 2

    def test_a_client_goes_its_way(self):
        application = self.started()
        login = ":".join(self.kept_login())
        url = application.url.replace("//", f"//{login}@", 1).rstrip("/") + SERVICE
        with ServerProxy(url) as server:
            jobid = server.add("echo", {"a": [1, 2.5, "ü"]}, {"key": "once"})
            self.assertEqual(server.add("echo", {"a": [1, 2.5, "ü"]}, {"key": "once"}),
                             jobid)
            status, _ = self.get(
                f"{application.url.rstrip('/')}{SERVICE}/api/v1/jobs/{jobid}?wait=30",
                self.kept_login())
            self.assertEqual(status, 200)
            self.assertEqual(server.getStatus(jobid), "completed")
            self.assertEqual(server.getResult(jobid), {"a": [1, 2.5, "ü"]})
        self.assertEqual(application.stop(), 0)


if __name__ == "__main__":
    unittest.main()
