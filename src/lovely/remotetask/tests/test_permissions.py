"""The table of permissions: it is what is registered, and what the application does."""
import difflib
import json
import unittest
import xmlrpc.client
from pathlib import Path
from urllib.parse import urlencode

from zope.security import canAccess
from zope.security.interfaces import Forbidden, Unauthorized
from zope.security.proxy import ProxyFactory

import lovely.remotetask
from lovely.remotetask import processor
from lovely.remotetask.http.routes import CHANGES, ROUTES
from lovely.remotetask.tests import permissions
from lovely.remotetask.tests.house import (
    FORM, JSON, SERVICE, XML, InAnotherHouse, InTheHouse, form)
from lovely.remotetask.tests.people import acting_as
from lovely.remotetask.tests.permissions import EVERYBODY, NO, YES

TABLE = Path(lovely.remotetask.__path__[0]).parents[2] / "docs" / "permissions.txt"
REFUSED = (401, 403)

#: The state of a job in which a button, route or call has something to do to it.
STATES = {"retry": "error", "retry-selected": "error", "start": "start later",
          "run": "start later", "run-selected": "start later", "remove": "cancelled",
          "getResult": "completed", "resume": "paused"}

#: What a button needs beside its job.  {id} is its number.
FIELDS = {
    "jobs.html retry": {"do": "retry:{id}"},
    "jobs.html cancel": {"do": "cancel:{id}"},
    "jobs.html run": {"do": "run:{id}"},
    "jobs.html retry-selected": {"ids": "{id}"},
    "jobs.html cancel-selected": {"ids": "{id}"},
    "jobs.html run-selected": {"ids": "{id}"},
    "jobs.html go": {"do": "go:cancel", "number": "1"},
    "schedules.html run": {"do": "run:{cron}"},
    "schedules.html pause": {"do": "pause:{cron}"},
    "schedules.html resume": {"do": "resume:{cron}"},
    "schedules.html remove": {"do": "remove:{cron}"},
    "editjob save": {"priority": "3", "title": "changed"},
}

BODIES = {
    "POST /jobs": {"task": "work"},
    "POST /schedules": {"task": "work", "minute": [5]},
    "PATCH /schedules/{id}": {"minute": [6]},
    "PATCH /jobs/{id}": {"priority": 5},
}
ARGUMENTS = {
    "add": ["work"], "cancel": ["id"], "getStatus": ["id"], "getResult": ["id"],
    "getError": ["id"], "methodHelp": ["add"], "methodSignature": ["add"],
    "system.multicall": [[]], "system.methodHelp": ["add"],
    "system.methodSignature": ["add"],
}
#: Shown when something else was refused; or the way to a page, which is asked for.
NOT_ASKED_FOR = ("IRefusal", "IException", "INotFound", "IUnauthorized",
                 "ISite index.html")


class TheTable(unittest.TestCase):
    layer = InTheHouse

    @unittest.skipUnless(TABLE.exists(), "the project's docs are not here")
    def test_it_is_what_is_registered(self):
        """A newcomer fails here: python -m lovely.remotetask.tests.permissions"""
        told, made = TABLE.read_text(), permissions.text(permissions.rows())
        self.assertEqual("".join(difflib.unified_diff(
            told.splitlines(True), made.splitlines(True), "docs/permissions.txt",
            "as registered", n=0)), "")

    def test_everything_is_guarded(self):
        known = {*lovely.remotetask.access.PERMISSIONS, permissions.LOGGED_IN,
                 permissions.PUBLIC}
        for row in permissions.rows():
            self.assertIn(row.permission, known, row)

    def test_what_is_public_is_these_and_no_more(self):
        self.assertEqual(
            {(row.kind, row.name) for row in permissions.rows()
             if row.permission == permissions.PUBLIC}, {
                ("page", "++resource++remotetask"), ("page", "IException index.html"),
                ("page", "INotFound index.html"), ("page", "IUnauthorized index.html"),
                ("page", "IRefusal refused.html"),
                ("page", "IRefusal refused.txt"), ("page", "IRefusal refused.xml"),
                ("traversal", "ILocalSiteManager"), ("traversal", "ISiteManagementFolder"),
                ("traversal", "ITaskService")})

    def test_an_unguarded_newcomer_is_seen(self):
        """A view, a button, a call, a route and a verb that nobody has entered."""
        from zope.component import getGlobalSiteManager
        from zope.interface import Interface
        from zope.publisher.interfaces.browser import IBrowserRequest

        from lovely.remotetask.interfaces import ITaskService

        class Naked:
            pass

        class Info:
            file = "/any/where/lovely/remotetask/browser/pages.zcml"

        registry = getGlobalSiteManager()
        registry.registerAdapter(Naked, (ITaskService, IBrowserRequest), Interface,
                                 "naked.html", info=Info())
        try:
            found = {row.name: row for row in permissions.pages()}
        finally:
            registry.unregisterAdapter(
                Naked, (ITaskService, IBrowserRequest), Interface, "naked.html")
        self.assertEqual(found["ITaskService naked.html"].permission, "NOT GUARDED")


class Behaviour(unittest.TestCase):
    """Each cell of the table, asked of the application."""

    layer = InTheHouse
    level = 2

    def setUp(self):
        self.house = self.layer.house
        self.house.task("work", lambda input: input)
        self.house.task("fail", self.fail_task)

    def tearDown(self):
        processor.stop_all(self.house.db, grace=10)

    @staticmethod
    def fail_task(input):
        raise lovely.remotetask.TaskError("as it should")

    def rows(self, kind):
        return [row for row in permissions.rows() if row.kind == kind]

    def make(self, owner, state="queued"):
        """A job in a state, owned by somebody; the job's number."""
        with self.house.service() as service, acting_as(owner):
            if state in ("cronjob", "paused"):
                jobid = service.addCronJob("work", minute=(0,))
                if state == "paused":
                    service.pause(jobid)
                return jobid
            jobid = service.add("fail" if state == "error" else "work", {"a": 1},
                                startLater=state not in ("queued",))
            if state == "cancelled":
                service.cancel(jobid)
            elif state in ("error", "completed"):
                service.startJob(jobid)
        if state in ("error", "completed"):
            with self.house.service() as service:
                service.process()
        return jobid

    def look(self):
        """What buttons and calls can change, without what only a clerk notes."""
        with self.house.service() as service:
            jobs = [(id, job.status, job.token, job.title, getattr(job, "paused", None))
                    for id, job in sorted(service.jobs.items())]
            return jobs, dict(service.settings), service.isProcessing()

    def cases(self, row, state="queued"):
        """(who, number of a job, whether it should be allowed)"""
        for who in EVERYBODY:
            mark = row.mark(who)
            if not row.of_job:
                yield who, self.make("operator", state), mark == YES
                continue
            yield who, self.make("operator" if who == "manager" else "manager", state), \
                mark == YES
            if who != "anonymous":
                yield who, self.make(who, state), mark != NO

    def check(self, row, who, expected, allowed, answer):
        with self.subTest(row.name, who=who):
            self.assertNotEqual(answer.status // 100, 5, answer.text[:2_000])
            self.assertEqual(allowed, expected, (answer.status, answer.text[:500]))

    def test_pages(self):
        for row in self.rows("page"):
            if row.name.startswith(NOT_ASKED_FOR):
                continue
            what, _, name = row.name.rpartition(" ")
            state = "cronjob" if what == "ICronJob" else "start later"
            for who, jobid, expected in self.cases(row, state):
                path = {
                    "": f"/{name}/style.css",
                    "ITaskService": f"{SERVICE}/{name}",
                    "IRootFolder": "/++skin++RemoteTask/", "ISite": f"/@@{name}",
                }.get(what, f"{SERVICE}/{jobid}/{name}")
                if name == "api":
                    path += "/v1"
                answer = self.house.ask("GET", path, who)
                allowed = answer.status not in REFUSED
                self.check(row, who, expected, allowed, answer)
                if allowed:
                    self.assertIn(answer.status, (200, 302, 303), (row, who))

    def press(self, row, who, jobid, cron=None, **headers):
        words = row.name.removeprefix("schedule ").split()
        page, button = words
        fields = {"do": button, **{
            name: value.format(id=jobid, cron=cron)
            for name, value in FIELDS.get(f"{page} {button}", {}).items()}}
        place = f"{SERVICE}/{jobid}/{page}" if page in (
            "job.html", "editjob", "undo.html") else f"{SERVICE}/{page}"
        return place, fields

    def state_of(self, row):
        if row.name.startswith("schedule "):
            return "cronjob"
        page, button = row.name.split()
        if page == "undo.html":
            return "completed"
        if page == "editjob":
            return "start later"
        return STATES.get(button, "queued")

    def test_buttons(self):
        for row in self.rows("button"):
            state = self.state_of(row)
            for who, jobid, expected in self.cases(row, state):
                cron = self.make("operator", "cronjob")
                place, fields = self.press(row, who, jobid, cron)
                if row.name == "jobs.html go":
                    self.only(jobid)
                before = self.look()
                answer = self.house.ask("POST", place, who, form(**fields), FORM)
                refused = answer.status in REFUSED
                changed = self.look() != before
                self.assertFalse(refused and changed, (row, who))
                self.check(row, who, expected,
                           changed if row.of_job else not refused, answer)
                processor.stop_all(self.house.db, grace=10)

    def only(self, jobid):
        """Let this job be the only one that is not at its end."""
        with self.house.service() as service:
            for id, job in service.jobs.items():
                if id != jobid and job.recordedStatus not in (
                        "cancelled", "error", "completed"):
                    service.cancel(id)

    def test_who_keeps_schedules_has_no_say_on_other_jobs(self):
        """Found by chaos/fuzz.py: the page of schedules removed any job at its end."""
        for state in "completed", "queued", "start later":
            for button in "remove", "run", "pause", "resume":
                jobid = self.make("manager", state)
                before = self.look()
                answer = self.house.ask(
                    "POST", f"{SERVICE}/schedules.html", "operator",
                    form(do=f"{button}:{jobid}"), FORM)
                self.assertEqual(answer.status, 303)
                self.assertEqual(self.look(), before, (state, button))

    def test_several_calls_in_one_are_each_asked_for(self):
        """Found by chaos/fuzz.py: a refusal among them was a fault of 500."""
        jobid = self.make("manager")
        calls = [{"methodName": name, "params": [jobid]} for name in
                 ("getStatus", "cancel", "getResult")]
        answer = self.house.ask("POST", SERVICE, "viewer", xmlrpc.client.dumps(
            (calls,), "system.multicall").encode(), XML)
        (status, cancel, result), = xmlrpc.client.loads(answer.body)[0]
        self.assertEqual(status, ["queued"])
        self.assertEqual((cancel["faultCode"], result["faultCode"]), (403, 403))

    def test_no_button_works_by_get_or_for_another_site(self):
        for row in self.rows("button"):
            jobid = self.make("manager", self.state_of(row))
            cron = self.make("manager", "cronjob")
            place, fields = self.press(row, "manager", jobid, cron)
            before = self.house.tid()
            self.house.ask("GET", place, "manager", query=urlencode(fields))
            self.assertEqual(self.house.tid(), before, row)
            for header in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
                           {"Origin": "http://evil.example"}, {"Origin": "null"},
                           {"Referer": "http://evil.example/"}, {}):
                answer = self.house.ask(
                    "POST", place, "manager", form(**fields),
                    {"Content-Type": FORM["Content-Type"], **header})
                self.assertEqual(answer.status, 403, (row, header))
                self.assertEqual(self.house.tid(), before, (row, header))

    def test_calls(self):
        for row in self.rows("XML-RPC"):
            for who, jobid, expected in self.cases(row, STATES.get(row.name, "queued")):
                arguments = tuple(jobid if each == "id" else each
                                  for each in ARGUMENTS.get(row.name, []))
                body = xmlrpc.client.dumps(arguments, row.name).encode()
                before = self.house.tid()
                answer = self.house.ask("POST", SERVICE, who, body, XML)
                code = None
                if answer.status == 200:
                    try:
                        xmlrpc.client.loads(answer.body)
                    except xmlrpc.client.Fault as fault:
                        code = fault.faultCode
                allowed = answer.status == 200 and code not in REFUSED
                self.assertIn(code, (None, *REFUSED), (row, who, answer.text))
                if not allowed:
                    self.assertEqual(self.house.tid(), before, (row, who))
                self.check(row, who, expected, allowed, answer)

    def test_no_call_changes_anything_for_another_site(self):
        jobid = self.make("manager")
        before = self.house.tid()
        for header in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
                       {"Origin": "http://evil.example"}, {"Origin": "null"}):
            for name, arguments in ("add", ("work",)), ("cancel", (jobid,)):
                answer = self.house.ask("POST", SERVICE, "manager", xmlrpc.client.dumps(
                    arguments, name).encode(), {**XML, **header})
                if answer.status == 200:
                    with self.assertRaises(xmlrpc.client.Fault) as caught:
                        xmlrpc.client.loads(answer.body)
                    self.assertEqual(caught.exception.faultCode, 403)
                else:
                    self.assertEqual(answer.status, 403)
                self.assertEqual(self.house.tid(), before, (name, header))

    def call(self, route, who, jobid, **headers):
        path = f"{SERVICE}/api/v1/{route.path}".replace("{id}", str(jobid)).replace(
            "{name}", "work")
        body = BODIES.get(f"{route.method} /{route.path}")
        return self.house.ask(
            route.method, path, who, b"" if body is None else json.dumps(body).encode(),
            {**(JSON if body is not None else {}), "Sec-Fetch-Site": "same-origin",
             **headers})

    def state_for(self, route):
        last = route.path.rpartition("/")[2]
        if route.path.startswith("schedules/"):
            return "paused" if last == "resume" else "cronjob"
        return {"DELETE": "cancelled"}.get(
            route.method, STATES.get(last, "queued"))

    def test_routes(self):
        for row, route in zip(permissions.routes(), ROUTES, strict=True):
            for who, jobid, expected in self.cases(row, self.state_for(route)):
                before = self.house.tid()
                answer = self.call(route, who, jobid)
                allowed = answer.status not in REFUSED
                if answer.status != 503:  # nobody works here, says health/ready
                    self.check(row, who, expected, allowed, answer)
                    self.assertTrue(answer.status < 300 or not allowed,
                                    (row, who, answer.status, answer.text[:300]))
                if route.method in CHANGES:
                    self.assertEqual(self.house.tid() != before, allowed, (row, who))

    def test_no_route_changes_anything_for_another_site_or_by_get(self):
        for route in ROUTES:
            jobid = self.make("manager", self.state_for(route))
            before = self.house.tid()
            if route.method == "GET":
                self.call(route, "manager", jobid)
                self.assertEqual(self.house.tid(), before, route.path)
                continue
            for header in ({"Sec-Fetch-Site": "cross-site"},
                           {"Sec-Fetch-Site": "", "Origin": "http://evil.example"}):
                answer = self.call(route, "manager", jobid, **header)
                self.assertEqual(answer.status, 403, (route.path, header))
                self.assertEqual(self.house.tid(), before, (route.path, header))

    def test_what_a_viewer_is_shown_has_no_input_result_or_error(self):
        """Wherever it looks: pages, JSON, XML-RPC."""
        word = "v3ry-pr1vate"

        def tell(input):
            raise lovely.remotetask.TaskError(f"{word} as error")

        self.house.task("private", lambda input: f"{word} as output")
        self.house.task("private-error", tell)
        with self.house.service() as service, acting_as("manager"):
            ids = [service.add(task, {"word": word}) for task in
                   ("private", "private-error")]
            ids.append(service.addCronJob("private", {"word": word}, minute=(0,)))
            ids.append(service.add("private", {"word": word}, startLater=True))
            for task in "private", "private-error":
                cron = service.addCronJob(task, {"word": word}, minute=(0,))
                ids += [cron, service.runNow(cron)]
        with self.house.service() as service:
            service.process()
        places = ["", "/jobs.html", "/jobs.html?text=" + word, "/schedules.html",
                  "/workers.html", "/addjob.html", "/api/v1/jobs", "/api/v1/schedules",
                  "/api/v1/statistics", "/api/v1/metrics"]
        for id in ids:
            places += [f"/{id}{name}" for name in (
                "", "/job.html", "/detail", "/editjob")]
            places += [f"/api/v1/jobs/{id}", f"/api/v1/schedules/{id}",
                       f"/api/v1/jobs/{id}/log", f"/addjob.html?model={id}",
                       f"/addjob.html?copy={id}", f"/addjob.html?job={id}"]
        for who in "viewer", "submitter":
            for place in places:
                path, _, query = place.partition("?")
                answer = self.house.ask("GET", SERVICE + path, who, query=query)
                text = answer.text.replace(f'value="{word}"', "").replace(
                    f"text={word}", "").replace(f"<dd>{word}</dd>", "")
                self.assertNotIn(word, text, (who, place))
        shown = self.house.ask("GET", f"{SERVICE}/api/v1/jobs/{ids[0]}", "operator")
        self.assertIn(word, shown.text)

    def test_python_behind_security_proxies(self):
        with self.house.service() as service:
            with acting_as("operator"):
                things = {"TaskService": service,
                          "Job": service.jobs[service.add("work")],
                          "CronJob": service.jobs[service.addCronJob("work", minute=(0,))],
                          "Jobs": service.jobs}
            for row in self.rows("Python"):
                kind, name = row.name.split(".")
                for who in EVERYBODY:
                    with acting_as(who), self.subTest(row.name, who=who):
                        proxied = ProxyFactory(things[kind])
                        expected = row.mark(who) == YES
                        self.assertIs(canAccess(proxied, name), expected)
                        try:
                            getattr(proxied, name)
                        except (Unauthorized, Forbidden):
                            self.assertFalse(expected)
                        else:
                            self.assertTrue(expected)

    def test_whatever_else_there_is_is_nobodys(self):
        """A public method that no declaration names stays out of reach."""
        with self.house.service() as service:
            job = service.jobs[service.add("work")]
            declared = {row.name for row in self.rows("Python")}
            for kind, thing in ("TaskService", service), ("Job", job):
                for name in dir(type(thing)):
                    if name.startswith("_") or f"{kind}.{name}" in declared:
                        continue
                    with acting_as("manager"), self.subTest(f"{kind}.{name}"):
                        with self.assertRaises((Forbidden, AttributeError)):
                            getattr(ProxyFactory(thing), name)


class Embedded(Behaviour):
    """The same in an application that has nothing of ours around its publisher."""

    layer = InAnotherHouse


if __name__ == "__main__":
    unittest.main()
