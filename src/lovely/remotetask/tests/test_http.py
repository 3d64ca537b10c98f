"""JSON over HTTP, asked as programs ask it: the whole application, no port."""
import json
import unittest
from datetime import timedelta
from unittest import mock

from ZODB.POSException import ConflictError
from zope.component import getGlobalSiteManager
from zope.interface import Interface
from zope.schema import Bytes, Choice, Date, Datetime, Int, List, Password, Set, TextLine

from lovely.remotetask import presence
from lovely.remotetask.http import problems, routes, shapes, tasks
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.service import TaskService
from lovely.remotetask.task import SimpleTask
from lovely.remotetask.tests.house import JSON, SERVICE, InTheHouse

API = SERVICE + "/api/v1"


class IMail(Interface):
    to = TextLine(title="To", max_length=20)
    copies = Int(title="Copies", min=1, max=9, default=1, required=False)
    key = Password(title="Key", required=False)
    on = Date(title="On", required=False)
    at = Datetime(title="At", required=False)
    tone = Choice(title="Tone", values=("kind", "cool"), required=False)
    body = Bytes(title="Body", required=False)
    words = Set(title="Words", value_type=TextLine(), required=False)
    numbers = List(title="Numbers", value_type=Int(), required=False)


class Api(unittest.TestCase):

    layer = InTheHouse

    def setUp(self):
        self.house = self.layer.house
        self.seen = []
        self.house.errors.records.clear()
        self.house.task("mail", self.seen.append, inputSchema=IMail)

    def tearDown(self):
        with self.house.service() as service:
            for job in list(service.jobs.values()):
                service.cancel(job.id)
            service.clean()
            service.configure(waiting_limit=None, waiting_limit_each=None)
        self.assertEqual(self.house.errors.texts(), [])

    def ask(self, method, path, who="manager", body=None, query="", **headers):
        """(status, what JSON says, headers)"""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = b"" if body is None else body if isinstance(body, bytes) \
            else json.dumps(body).encode()
        if method != "GET":
            given = {**JSON, **given}
        answer = self.house.ask(method, API + path, who, sent, given, query)
        kind = answer.headers.get("content-type", "")
        data = json.loads(answer.body) if "json" in kind and answer.body else answer.body
        return answer.status, data, answer.headers

    def add(self, who="manager", **body):
        status, data, _ = self.ask("POST", "/jobs", who, {"task": "echo", **body})
        self.assertEqual(status, 202, data)
        return data["id"]

    def schedule(self, **body):
        status, data, _ = self.ask(
            "POST", "/schedules", "manager", {"task": "echo", "hour": [3], **body})
        self.assertEqual(status, 201, data)
        return data["id"]

    def refused(self, condition, *args, **kwargs):
        """The document of a refusal."""
        status, data, headers = self.ask(*args, **kwargs)
        self.assertEqual(headers["content-type"], problems.MEDIA_TYPE, (status, data))
        self.assertEqual(data["type"], problems.TYPE + condition, data)
        self.assertEqual((data["status"], status), (status, problems.status_of(condition)))
        return data, headers

    def work(self):
        with self.house.service() as service:
            service.process()


class Jobs(Api):

    def test_a_job_is_added_and_told(self):
        status, data, headers = self.ask("POST", "/jobs", "submitter", {
            "task": "echo", "input": {"a": [1, None, "ü"]}, "title": "Ü", "tags": ["x"],
            "priority": 3})
        self.assertEqual(status, 202)
        self.assertEqual(headers["location"], data["url"])
        self.assertTrue(data["url"].endswith(f"{API}/jobs/{data['id']}"))
        self.assertEqual((data["owner"], data["status"], data["title"], data["input"]),
                         ("submitter", "queued", "Ü", {"a": [1, None, "ü"]}))
        self.work()
        status, data, _ = self.ask("GET", f"/jobs/{data['id']}", "submitter")
        self.assertEqual((status, data["status"], data["output"]),
                         (200, "completed", {"a": [1, None, "ü"]}))

    def test_every_member_that_is_told_is_described(self):
        jobid, cron = self.add(), self.schedule()
        for path, shape in ((f"/jobs/{jobid}", routes.JOB),
                            (f"/schedules/{cron}", routes.SCHEDULE),
                            ("/jobs", routes.PAGE), ("/schedules", routes.SCHEDULE_PAGE)):
            _, data, _ = self.ask("GET", path)
            self.assertEqual(list(shapes.faults(shape, data)), [], path)

    def test_the_owner_is_who_asks_and_nobody_else(self):
        for body in ({"owner": "manager"}, {"options": {"owner": "manager"}}):
            self.refused("invalid", "POST", "/jobs", "submitter", {"task": "echo", **body})
        status, data, _ = self.ask("POST", "/jobs", "submitter", {"task": "echo"},
                                   X_Owner="manager", Remote_User="manager")
        self.assertEqual(data["owner"], "submitter")

    def test_who_may_not_read_is_not_shown(self):
        jobid = self.add(input="secret")
        self.work()
        _, data, _ = self.ask("GET", f"/jobs/{jobid}", "viewer")
        self.assertEqual(
            data["withheld"], ["input", "concerns", "output", "error", "attempts"])
        self.assertTrue(set(data["withheld"]).isdisjoint(data))
        self.refused("not-allowed", "GET", f"/jobs/{jobid}/log", "viewer")
        _, data, _ = self.ask("GET", f"/jobs/{jobid}", "operator")
        self.assertEqual((data["input"], data["output"]), ("secret", "secret"))

    def test_pages_follow_one_another(self):
        ids = [self.add(tags=["page"]) for _ in range(5)]
        found, query = [], "limit=2&tag=page"
        while query is not None:
            _, data, _ = self.ask("GET", "/jobs", query=query)
            self.assertLessEqual(len(data["jobs"]), 2)
            found += [job["id"] for job in data["jobs"]]
            query = data["next"] and data["next"].partition("?")[2]
        self.assertEqual(found, ids[::-1])

    def test_filters(self):
        mine = self.add("submitter")
        later = self.add(startLater=True, title="Later", input="hidden")
        for query, wanted in (("owner=submitter", [mine]), ("task=nope", []),
                              ("status=queued", [mine]), ("text=later", [later]),
                              ("createdFrom=2099-01-01T00:00:00Z", []),
                              ("createdBefore=2099-01-01T00:00:00Z&status=queued", [mine])):
            _, data, _ = self.ask("GET", "/jobs", query=query)
            self.assertEqual([job["id"] for job in data["jobs"]], wanted, query)

    def test_a_search_tells_nobody_what_he_may_not_read(self):
        jobid = self.add(input="hidden")
        for who, wanted in (("operator", [jobid]), ("viewer", [])):
            _, data, _ = self.ask("GET", "/jobs", who, query="text=hidden")
            self.assertEqual([job["id"] for job in data["jobs"]], wanted, who)

    def test_a_query_that_means_nothing(self):
        for query in ("status=nope", "limit=0", "limit=201", "limit=x", "limit=1&limit=2",
                      "after=1", "after=:", "what=1", "limit:int=3", "tag=%ff",
                      "status=queued%00", "createdFrom=yesterday", "text=a&text=b",
                      "a" * 5000, "limit=1e999", "limit=%F0%9F%98%80"):
            self.refused("bad-request", "GET", "/jobs", query=query)

    def test_a_body_that_means_nothing(self):
        for body, condition in (
                (b"", "bad-request"), (b"{", "bad-request"), (b"\xff", "bad-request"),
                (b'{"task":"echo","task":"echo"}', "bad-request"),
                (b'{"task":"echo","input":' + b"[" * 60 + b"]" * 60 + b"}", "bad-request"),
                (b'{"task":"echo","input":NaN}', "bad-request"),
                (b'{"task":"echo","input":1e999}', "bad-request"),
                (b'{"task":"echo","input":"\\ud800"}', "bad-request"),
                (b"[]", "invalid"), (b"{}", "invalid"), (b'{"task":1}', "invalid"),
                (b'{"task":"echo","priority":"1"}', "invalid"),
                (b'{"task":"echo","priority":true}', "invalid"),
                (b'{"task":"echo","tags":"x"}', "invalid"),
                (b'{"task":"echo","title":"a\\nb"}', "invalid"),
                (b'{"task":"echo","startAt":"2027-01-01"}', "invalid"),
                (b'{"task":"echo","startAt":"2027-13-01T00:00:00Z"}', "invalid"),
                (b'{"task":"echo","nope":1}', "invalid"),
                (b'{"task":"echo","delay":1,"startAt":"2027-01-01T00:00:00Z"}',
                 "bad-option"),
                (b'{"task":"nope"}', "unknown-task")):
            self.refused(condition, "POST", "/jobs", body=body)
        with self.house.service() as service:
            self.assertEqual(sum(service.counts().values()), 0)

    def test_what_is_wrong_is_pointed_at(self):
        data, _ = self.refused("invalid", "POST", "/jobs", body={
            "task": "echo", "tags": ["x", 3], "a/b": 1})
        self.assertEqual({fault["pointer"] for fault in data["errors"]},
                         {"/tags/1", "/a~1b"})

    def test_the_input_keeps_to_the_schema_of_the_task(self):
        data, _ = self.refused("bad-input", "POST", "/jobs", body={
            "task": "mail", "input": {"to": "x" * 21}})
        self.assertIn("to", data["detail"])
        data, _ = self.refused("bad-input", "POST", "/jobs", body={
            "task": "mail", "input": {"to": "me", "at": "noon"}})
        self.assertEqual(data["errors"][0]["pointer"], "/input/at")

    def test_the_task_gets_what_its_schema_says(self):
        jobid = self.add(task="mail", input={
            "to": "me", "on": "2027-01-31", "at": "2027-01-31T13:30:00+01:00",
            "body": "AAE=", "words": ["a", "b"], "numbers": [1.0], "key": "s3cret"})
        with self.house.service() as service:
            input = service.getJob(jobid).input
        self.assertEqual(input["at"].utcoffset(), timedelta(hours=1))
        self.assertEqual((input["on"].day, input["body"], input["words"]),
                         (31, b"\0\1", {"a", "b"}))
        self.assertIs(type(input["numbers"][0]), int)
        self.assertNotIn("s3cret", json.dumps(self.ask("GET", f"/jobs/{jobid}")[1]))

    def test_results_that_json_cannot_say_are_shown(self):
        self.house.task("odd", lambda input: [
            10**5000, float("nan"), "\ud800", b"x", {1: 2}, 2**70])
        jobid = self.add(task="odd")
        self.work()
        status, data, _ = self.ask("GET", f"/jobs/{jobid}")
        self.assertEqual(status, 200)
        self.assertEqual(data["output"][5], 2**70)
        self.assertIn("repr", data["output"][0])

    def test_a_job_is_steered(self):
        jobid = self.add(startLater=True)
        self.assertEqual(self.ask("POST", f"/jobs/{jobid}/start")[1]["status"], "queued")
        self.assertEqual(self.ask("POST", f"/jobs/{jobid}/cancel")[1]["status"],
                         "cancelled")
        self.refused("illegal-move", "POST", f"/jobs/{jobid}/cancel")
        self.assertEqual(self.ask("POST", f"/jobs/{jobid}/retry")[1]["status"], "queued")
        self.refused("illegal-move", "DELETE", f"/jobs/{jobid}")
        self.work()
        self.assertEqual(self.ask("DELETE", f"/jobs/{jobid}")[0], 204)
        self.refused("unknown-job", "GET", f"/jobs/{jobid}")

    def test_a_job_that_waits_can_be_changed(self):
        jobid = self.add(startLater=True)
        status, data, _ = self.ask("PATCH", f"/jobs/{jobid}", body={
            "title": "new", "priority": 1, "input": [2]})
        self.assertEqual((status, data["title"], data["priority"], data["input"]),
                         (200, "new", 1, [2]))
        self.refused("invalid", "PATCH", f"/jobs/{jobid}", body={})
        self.refused("invalid", "PATCH", f"/jobs/{jobid}", body={"status": "completed"})
        self.ask("POST", f"/jobs/{jobid}/cancel")
        self.refused("illegal-move", "PATCH", f"/jobs/{jobid}", body={"title": "x"})

    def test_own_jobs_are_ones_own(self):
        mine, other = self.add("submitter"), self.add("operator")
        self.assertEqual(self.ask("POST", f"/jobs/{mine}/cancel", "submitter")[0], 200)
        self.refused("not-allowed", "POST", f"/jobs/{other}/cancel", "submitter")
        self.refused("not-allowed", "DELETE", f"/jobs/{mine}", "submitter")
        self.refused("not-allowed", "PATCH", f"/jobs/{other}", "submitter",
                     {"input": "mine"})

    def test_what_fails_halfway_leaves_nothing(self):
        with mock.patch.object(TaskService, "noteMade", side_effect=RuntimeError), \
                self.assertLogs("lovely.remotetask.http.problems", "ERROR"):
            self.refused("internal", "POST", "/jobs", body={"task": "echo"},
                         Idempotency_Key="halfway")
        with self.house.service() as service:
            self.assertEqual(sum(service.counts().values()), 0)

    def test_who_may_not_add_does_not(self):
        self.refused("not-allowed", "POST", "/jobs", "viewer", {"task": "echo"})
        self.refused("not-allowed", "POST", "/schedules", "submitter", {"task": "echo"})
        self.refused("not-allowed", "POST", "/jobs", "viewer", {})

    def test_what_changes_is_told_by_its_tag(self):
        jobid = self.add(startLater=True)
        _, _, headers = self.ask("GET", f"/jobs/{jobid}")
        tag = headers["etag"]
        self.assertEqual(
            self.ask("GET", f"/jobs/{jobid}", If_None_Match=tag)[:2], (304, b""))
        self.refused("changed-meanwhile", "POST", f"/jobs/{jobid}/cancel",
                     If_Match='"other"')
        self.assertEqual(
            self.ask("POST", f"/jobs/{jobid}/start", If_Match=tag)[0], 200)
        self.refused("changed-meanwhile", "POST", f"/jobs/{jobid}/cancel", If_Match=tag)
        self.assertEqual(self.ask("GET", f"/jobs/{jobid}", If_None_Match=tag)[0], 200)
        self.assertEqual(self.ask("POST", f"/jobs/{jobid}/cancel", If_Match="*")[0], 200)

    def test_no_more_may_wait_than_may(self):
        with self.house.service() as service:
            service.configure(waiting_limit=2)
        ids = [self.add(), self.add(startLater=True)]
        _, headers = self.refused("too-many-jobs", "POST", "/jobs", body={"task": "echo"})
        self.assertGreater(int(headers["retry-after"]), 0)
        self.ask("POST", f"/jobs/{ids[0]}/cancel")
        self.add()
        with self.house.service() as service:   # code of the application may
            service.add("echo")

    def test_a_job_holds_locks(self):
        for given, told in ((["b", "a"], {"a": 1, "b": 1}), ({"a": 2.0}, {"a": 2})):
            jobid = self.add(locks=given)
            self.assertEqual(self.ask("GET", f"/jobs/{jobid}")[1]["locks"], told)
        cron = self.schedule(locks=["a"])
        self.assertEqual(self.ask("GET", f"/schedules/{cron}")[1]["locks"], {"a": 1})
        for locks in ("a", [""], [1], {"a": 0}, {"a": "1"}, {"": 1}, {"a\nb": 1}, ["x"] * 21,
                      {str(number): 1 for number in range(21)}):
            self.refused("invalid", "POST", "/jobs", body={"task": "echo", "locks": locks})
        self.refused("bad-option", "POST", "/jobs", body={"task": "echo", "locks": ["\xad"]})

    def test_one_job_stands_for_many_adds(self):
        body = {"task": "echo", "input": {"a": 1}, "unique": True, "uniqueFor": 3600}
        _, first, _ = self.ask("POST", "/jobs", "submitter", body)
        for who in "submitter", "operator":
            status, data, headers = self.ask("POST", "/jobs", who, body)
            self.assertEqual((status, data["id"]), (200, first["id"]))
            self.assertEqual(headers["location"], first["url"])
        self.assertEqual((data["owner"], data["merged"]), ("submitter", 2))
        self.work()
        self.assertEqual(self.ask("POST", "/jobs", "submitter", body)[0], 200)
        self.assertEqual(self.ask("POST", "/jobs", "submitter", {
            **body, "uniqueFor": None})[0], 200)
        self.assertNotEqual(self.add(input={"a": 1}, unique=False), first["id"])
        self.assertNotEqual(self.add(input={"a": 2}, unique=True), first["id"])

    def test_what_would_rather_not_wait_is_refused(self):
        body = {"task": "echo", "locks": ["a"], "atLimit": "refuse"}
        _, first, _ = self.ask("POST", "/jobs", "submitter", body)
        document, headers = self.refused("limit-reached", "POST", "/jobs", body=body)
        self.assertEqual((document["status"], headers["retry-after"]), (429, "1"))
        self.assertIn("lock:a is reached: 1 of 1", document["detail"])
        self.refused("invalid", "POST", "/jobs", body={**body, "atLimit": "explode"})
        self.ask("POST", f"/jobs/{first['id']}/cancel")
        self.assertEqual(self.ask("POST", "/jobs", "submitter", body)[0], 202)

    def test_an_input_and_its_form_in_python_are_one(self):
        with self.house.service() as service:
            theirs = service.add("mail", {"to": "ada", "words": {"a", "b"}}, unique=True)
        status, data, _ = self.ask("POST", "/jobs", body={
            "task": "mail", "input": {"words": ["b", "a"], "to": "ada"}, "unique": True})
        self.assertEqual((status, data["id"]), (200, theirs))

    def test_one_that_is_found_is_told_as_who_asks_may_read_it(self):
        self.add("manager", input="hidden", unique="x")
        status, data, _ = self.ask("POST", "/jobs", "submitter", {
            "task": "echo", "unique": "x"})
        self.assertEqual((status, data["owner"]), (200, "manager"))
        self.assertNotIn("input", data)
        self.assertIn("input", data["withheld"])

    def test_only_who_may_cancel_a_job_replaces_it(self):
        body = {"task": "echo", "unique": "x", "duplicate": "replace"}
        others = self.add("manager", unique="x")
        document, _ = self.refused("not-allowed", "POST", "/jobs", "submitter", body)
        self.assertIn(f"replace job {others}", document["detail"])
        self.assertEqual(self.ask("GET", f"/jobs/{others}")[1]["status"], "queued")
        self.assertNotEqual(self.add("operator", unique="x", duplicate="replace"), others)
        _, data, _ = self.ask("GET", f"/jobs/{others}")
        self.assertEqual((data["status"], data["reason"]), ("cancelled", "replaced"))

    def test_unique_options_that_mean_nothing(self):
        for options, condition in (
                ({"unique": ""}, "invalid"), ({"unique": 1}, "invalid"),
                ({"unique": "x" * 1001}, "invalid"), ({"unique": None}, "invalid"),
                ({"unique": True, "uniqueFor": 0}, "invalid"),
                ({"unique": True, "duplicate": "perhaps"}, "invalid"),
                ({"uniqueFor": 5}, "bad-option"), ({"duplicate": "replace"}, "bad-option")):
            self.refused(condition, "POST", "/jobs", body={"task": "echo", **options})
        self.refused("invalid", "POST", "/schedules", body={
            "task": "echo", "hour": [3], "unique": True})

    def test_one_principal_has_a_share(self):
        with self.house.service() as service:
            service.configure(waiting_limit_each=1)
        self.add("submitter")
        self.refused("too-many-jobs", "POST", "/jobs", "submitter", {"task": "echo"})
        self.add("operator")


class Keys(Api):

    def twice(self, *bodies, who=("submitter", "submitter"), key="k"):
        return [self.ask("POST", "/jobs", person, body, Idempotency_Key=key)
                for person, body in zip(who, bodies)]

    def test_a_repetition_means_the_same_job(self):
        first, again = self.twice({"task": "echo", "input": 1, "title": "t"},
                                  {"title": "t", "input": 1, "task": "echo"})
        self.assertEqual(first[0], again[0])
        self.assertEqual(first[1]["id"], again[1]["id"])
        self.assertEqual(again[2]["idempotency-replayed"], "true")
        self.assertNotIn("idempotency-replayed", first[2])

    def test_also_when_the_job_is_gone_and_when_there_is_no_room(self):
        (_, first, _), = self.twice({"task": "echo"}, key="gone")
        with self.house.service() as service:
            service.cancel(first["id"])
            service.remove(first["id"])
            service.configure(waiting_limit=0)
        (status, again, _), = self.twice({"task": "echo"}, key="gone")
        self.assertEqual((status, again["id"]), (202, first["id"]))

    def test_another_body_is_refused(self):
        self.twice({"task": "echo", "input": 1}, key="other")
        self.refused("key-reused", "POST", "/jobs", "submitter",
                     {"task": "echo", "input": 2}, Idempotency_Key="other")

    def test_a_key_is_its_owners(self):
        first, second = self.twice({"task": "echo"}, {"task": "echo"},
                                   who=("submitter", "operator"), key="each")
        self.assertNotEqual(first[1]["id"], second[1]["id"])

    def test_a_key_that_is_none(self):
        for key in ("", "k" * 201, "\xff"):
            self.refused("bad-request", "POST", "/jobs", body={"task": "echo"},
                         Idempotency_Key=key)


class Schedules(Api):

    def test_a_schedule_is_added_changed_and_removed(self):
        cron = self.schedule(title="nightly", timezone="Europe/Vienna")
        _, data, headers = self.ask("GET", f"/schedules/{cron}")
        self.assertEqual((data["hour"], data["timezone"], data["paused"]),
                         ([3], "Europe/Vienna", False))
        self.assertEqual(len(data["next"]), 5)
        status, data, _ = self.ask("PATCH", f"/schedules/{cron}", body={
            "schedule": "@daily", "missed": "skip"}, If_Match=headers["etag"])
        self.assertEqual((status, data["cronText"], data["missed"], data["title"]),
                         (200, "@daily", "skip", "nightly"))
        _, data, _ = self.ask("GET", "/schedules")
        self.assertEqual([each["id"] for each in data["schedules"]], [cron])
        self.assertEqual(self.ask("DELETE", f"/schedules/{cron}")[0], 204)
        self.refused("unknown-job", "GET", f"/schedules/{cron}")

    def test_it_pauses_resumes_and_runs(self):
        cron = self.schedule()
        self.assertTrue(self.ask("POST", f"/schedules/{cron}/pause")[1]["paused"])
        self.assertFalse(self.ask("POST", f"/schedules/{cron}/resume")[1]["paused"])
        status, run, headers = self.ask("POST", f"/schedules/{cron}/run")
        self.assertEqual((status, run["parent"]), (202, cron))
        self.assertEqual(headers["location"], run["url"])

    def test_a_schedule_that_means_nothing(self):
        for body in ({"schedule": "nope"}, {"schedule": "0 0 31 2 *"},
                     {"timezone": "Mars/Phobos"}, {"hour": [1], "schedule": "@daily"}):
            self.refused("bad-schedule", "POST", "/schedules",
                         body={"task": "echo", **body})
        for body in ({"hour": [24]}, {"hour": 3}, {"missed": "never"}):
            self.refused("invalid", "POST", "/schedules", body={"task": "echo", **body})

    def test_a_job_is_no_schedule(self):
        jobid = self.add(startLater=True)
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/pause"),
                             ("POST", "/run")):
            self.refused("unknown-job", method, f"/schedules/{jobid}{path}")
        self.refused("illegal-move", "POST", f"/jobs/{self.schedule()}/start")

    def test_who_may(self):
        cron = self.schedule()
        self.refused("not-allowed", "POST", f"/schedules/{cron}/run", "submitter")
        self.assertEqual(self.ask("GET", f"/schedules/{cron}", "viewer")[0], 200)
        self.assertEqual(self.ask("POST", f"/schedules/{cron}/pause", "operator")[0], 200)


class Everything(Api):

    def test_the_whole_is_told(self):
        _, data, _ = self.ask("GET", "")
        for name, url in data["links"].items():
            path = url.partition(API)[2]
            if name not in ("events", "ready"):
                self.assertEqual(self.ask("GET", path)[0], 200, name)
        self.refused("not-ready", "GET", "/health/ready")
        self.assertEqual(self.ask("GET", "/health/live", "viewer")[1]["status"], "live")

    def test_who_is_ready_says_whether_it_is_paused(self):
        def lasting(wish):
            with self.house.service() as service:
                wish(service)
            status, data, _ = self.ask("GET", "/health/ready", "viewer")
            return status, data["workers"], data["paused"]
        name = "a worker of this process"
        presence.enter(name)
        self.addCleanup(presence.leave, name)
        try:
            self.assertEqual(
                lasting(lambda service: service.attend(name, None, 1)), (200, 1, False))
            self.assertEqual(
                lasting(lambda service: service.pauseProcessing()), (200, 1, True))
            self.assertEqual(
                lasting(lambda service: service.resumeProcessing()), (200, 1, False))
        finally:
            with self.house.service() as service:
                service.leases.close(name)

    def test_statistics(self):
        self.add()
        self.work()
        _, data, _ = self.ask("GET", "/statistics", query="step=hour&count=3")
        self.assertEqual(len(data["steps"]), 3)
        self.assertEqual(data["steps"][-1]["tasks"]["echo"]["completed"] > 0, True)
        self.assertEqual(data["counts"]["completed"], 1)

    def test_tasks_are_told_with_their_schemas(self):
        _, data, _ = self.ask("GET", "/tasks/mail")
        schema = data["inputSchema"]
        self.assertEqual(schema["required"], ["to"])
        self.assertEqual(schema["properties"]["to"],
                         {"type": "string", "title": "To", "maxLength": 20})
        self.assertEqual(schema["properties"]["copies"]["default"], 1)
        self.assertEqual(schema["properties"]["tone"]["enum"], ["kind", "cool", None])
        self.assertTrue(schema["properties"]["key"]["writeOnly"])
        self.refused("not-found", "GET", "/tasks/nope")

    def test_tasks_are_told_with_their_limits(self):
        told = tasks.described("few", SimpleTask(
            repr, lane="narrow", laneWidth=2, concurrency=3, rate="100/h", group=20))
        self.assertEqual(
            [told[each] for each in ("lane", "laneWidth", "concurrency", "rate", "group")],
            ["narrow", 2, 3, "100/3600s", 20])

    def test_anonymous_sees_nothing(self):
        for route in routes.ROUTES:
            path = route.path.replace("{id}", "7").replace("{name}", "echo")
            answer = self.house.ask(route.method, f"{API}/{path}", None, b"", JSON)
            self.assertEqual(answer.status, 401, route)
            self.assertIn("www-authenticate", answer.headers)
        self.house.errors.records.clear()  # they were refused on the way already

    def test_a_change_that_another_site_asks_for(self):
        with self.house.service() as service:
            before = service.counts()
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"},
                        {"Sec-Fetch-Site": "same-site"}):
            answer = self.house.ask("POST", f"{API}/jobs", "manager",
                                    b'{"task":"echo"}', {**JSON, **headers})
            self.assertEqual(answer.status, 403)
        with self.house.service() as service:
            self.assertEqual(service.counts(), before)

    def test_the_api_asks_for_itself_too_where_a_change_comes_from(self):
        with mock.patch.object(self.house, "wsgi", self.house.wsgi.application):
            self.refused("foreign-site", "POST", "/jobs", body={"task": "echo"},
                         Sec_Fetch_Site="cross-site")

    def test_a_form_is_no_json(self):
        for kind in ("application/x-www-form-urlencoded", "text/plain",
                     "multipart/form-data; boundary=x", "text/json", ""):
            answer = self.house.ask(
                "POST", f"{API}/jobs", "manager", b'{"task":"echo"}',
                {"Content-Type": kind, "Sec-Fetch-Site": "same-origin"})
            self.assertEqual(answer.status // 100, 4, kind)
        with self.house.service() as service:
            self.assertEqual(sum(service.counts().values()), 0)

    def test_a_get_changes_nothing(self):
        jobid, cron = self.add(startLater=True), self.schedule()
        before = self.house.tid()
        for route in routes.ROUTES:
            path = route.path.replace("{name}", "echo").replace(
                "{id}", str(cron if "schedules" in route.path else jobid))
            for method in ("GET", "HEAD", "OPTIONS"):
                answer = self.house.ask(method, f"{API}/{path}", "manager",
                                        headers={"X-HTTP-Method-Override": "POST"})
                self.assertIn(answer.status, (200, 204, 405, 503), (method, path))
        self.assertEqual(self.house.tid(), before)

    def test_methods_and_places_that_there_are_not(self):
        _, headers = self.refused("method-not-allowed", "PUT", "/jobs")
        self.assertEqual(headers["allow"], "GET, HEAD, POST")
        self.refused("method-not-allowed", "DELETE", "/jobs")
        _, headers = self.refused("method-not-allowed", "TRACE", "/jobs/7/cancel")
        self.assertEqual(headers["allow"], "POST")
        self.refused("method-not-allowed", "GET", "/jobs/7/cancel")
        for path in ("/nope", "/jobs/x", "/jobs/-1", "/jobs/7/nope", "/jobs/7/log/x",
                     "/jobs/" + "9" * 40, "/tasks/a/b"):
            self.refused("not-found", "GET", path)
        self.refused("unknown-job", "GET", "/jobs/9999999999")
        status, _, headers = self.ask("OPTIONS", "/jobs")
        self.assertEqual((status, headers["allow"]), (204, "GET, HEAD, POST"))
        self.assertEqual(self.house.ask(
            "GET", SERVICE + "/api/v2/jobs", "manager").status, 404)
        self.house.errors.records.clear()

    def test_an_error_inside_is_not_told(self):
        class Broken(SimpleTask):
            @property
            def doc(self):
                raise RuntimeError("the password is hunter2")

            @doc.setter
            def doc(self, value):
                pass

        manager = getGlobalSiteManager()
        manager.registerUtility(Broken(print), ITask, "broken")
        try:
            with self.assertLogs("lovely.remotetask.http.problems", "ERROR") as log:
                data, _ = self.refused("internal", "GET", "/tasks/broken")
        finally:
            manager.unregisterUtility(provided=ITask, name="broken")
        self.assertNotIn("hunter2", json.dumps(data))
        self.assertIn(data["reference"], log.output[0])
        self.assertIn("hunter2", log.output[0])

    def test_a_conflict_that_does_not_end(self):
        with mock.patch.object(TaskService, "queueLength", side_effect=ConflictError):
            _, headers = self.refused("busy", "GET", "/statistics")
        self.assertEqual(headers["retry-after"], "1")
        self.assertTrue(self.house.errors.texts())
        self.house.errors.records.clear()

    def test_a_conflict_that_ends(self):
        length, times = TaskService.queueLength, []

        def once(service):
            times.append(1)
            if len(times) < 3:
                raise ConflictError
            return length(service)

        with mock.patch.object(TaskService, "queueLength", once):
            self.assertEqual(self.ask("GET", "/statistics")[0], 200)
        self.assertEqual(len(times), 3)

    def test_it_works_behind_a_proxy_with_another_path(self):
        host = "/++vh++https:jobs.example:443/base/++" + API
        answer = self.house.ask("GET", host + "/jobs", "manager")
        self.assertEqual(answer.status, 200)
        answer = self.house.ask("POST", host + "/jobs", "manager", b'{"task":"echo"}', JSON)
        self.assertTrue(answer.headers["location"].startswith(
            "https://jobs.example/base/"), answer.headers["location"])

    def test_every_answer_says_what_browsers_may_do_with_it(self):
        for status, _, headers in (self.ask("GET", "/jobs"), self.ask("GET", "/nope")):
            self.assertEqual(headers["x-content-type-options"], "nosniff", status)
            self.assertIn("default-src", headers["content-security-policy"])
            self.assertNotIn("access-control-allow-origin", headers)

    def test_each_route_has_a_permission_and_an_operation_of_its_own(self):
        operations = [route.operation for route in routes.ROUTES]
        self.assertEqual(len(set(operations)), len(operations))
        for route in routes.ROUTES:
            self.assertTrue(route.permission.startswith("lovely.remotetask."), route)
            self.assertTrue(set(route.problems) <= set(problems.CONDITIONS), route)


class ShapesOfValues(unittest.TestCase):

    def test_moments(self):
        self.assertEqual(
            shapes.parse_moment("2027-01-31T13:30:00.1234567Z").microsecond, 123456)
        for text in ("2027-01-31", "2027-01-31T13:30:00", "x", "2027-02-31T00:00:00Z"):
            self.assertIsNone(shapes.parse_moment(text), text)

    def test_a_field_of_any_type_can_be_told(self):
        from zope import schema
        for name in ("Bool", "Int", "Float", "Decimal", "Datetime", "Date", "Time",
                     "Timedelta", "URI", "Password", "TextLine", "Bytes", "Set", "Tuple",
                     "Dict", "List"):
            found = tasks.json_schema(getattr(schema, name)(title="x"))
            self.assertIn("type", found, name)
        self.assertEqual(tasks.json_schema(None), {})


if __name__ == "__main__":
    unittest.main()
