"""The guard around the whole application, as clients meet it."""
import json
import re
import unittest
import xmlrpc.client

from zope.component import getGlobalSiteManager
from zope.interface import Interface, implementer
from zope.publisher.browser import BrowserView
from zope.publisher.interfaces.browser import IBrowserPublisher, IBrowserRequest
from zope.security.checker import NamesChecker, defineChecker, undefineChecker
from zope.security.proxy import removeSecurityProxy
from zope.site.interfaces import IRootFolder

from lovely.remotetask.app.web import calm
from lovely.remotetask.guard.body import BODY_LIMIT
from lovely.remotetask.tests.house import (
    FORM, JSON, SERVICE, XML, InTheHouse, form)
from lovely.remotetask.tests.people import acting_as

INLINE = re.compile(
    r"<script(?![^>]*\bsrc=)[^>]*>|\son[a-z]+\s*=\s*[\"']|\sstyle\s*=\s*[\"']|javascript:",
    re.IGNORECASE)


class Case(unittest.TestCase):
    layer = InTheHouse

    def setUp(self):
        self.house = self.layer.house
        self.ask = self.house.ask
        self.house.errors.records.clear()
        self.house.task("work", lambda input: input)

    def assert_no_errors(self):
        """In the log there is nothing but what requests have done wrong."""
        self.assertEqual([record.getMessage() for record in self.house.errors.records
                          if calm(record) and record.exc_info], [])


class BeforeTheLogin(Case):

    def test_nothing_that_cannot_be_read_is_an_error_of_ours(self):
        for path, query in ((b"/\xff\xfe", ""), ("/", "x:int=a"), ("/", "x:float="),
                            ("/", "x:required="), (SERVICE, "x:int=a"),
                            (SERVICE + "/api/v1/jobs", "x:int=a"),
                            (SERVICE.encode() + b"/api/v1/\xff", ""),
                            ("/++vh++http:evil.example:80", ""), ("/x/++skin++A", "")):
            for who in None, "manager":
                for method in "GET", "POST", "DELETE":
                    answer = self.ask(method, path, who, query=query,
                                      headers={"Sec-Fetch-Site": "none"})
                    self.assertIn(answer.status, (400, 401, 403, 404, 405),
                                  (method, path, query))
        self.assertEqual(self.ask("GET", "/", query="x:int=a").status, 400)
        self.assertEqual(self.ask("GET", b"/\xff").status, 400)

    def test_a_call_is_not_read(self):
        """What would be refused if it were read is answered by the question who asks."""
        for body in (b"", b"<", b"<a>" * 1_000, b"a\n" * 500_000, b"<!DOCTYPE a>"):
            for path in SERVICE, "/", "/nosuch":
                answer = self.ask("POST", path, None, body, XML)
                self.assertEqual(answer.status, 401, (path, body[:20]))
                self.assertIn("www-authenticate", answer.headers)
            answer = self.ask("POST", SERVICE, "viewer", body, XML)
            self.assertNotEqual(answer.status, 401)

    def test_a_call_that_is_too_large_is_not_read_either(self):
        for who in None, "manager":
            answer = self.ask("POST", SERVICE, who, b"a" * (BODY_LIMIT + 1), XML)
            self.assertEqual(answer.status, 413)

    def test_a_call_that_another_site_has_caused_is_refused(self):
        body = xmlrpc.client.dumps((), "getAvailableTasks").encode()
        for header in {"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://a.example"}:
            answer = self.ask("POST", SERVICE, "manager", body, {**XML, **header})
            self.assertEqual(answer.status, 403, header)

    def test_a_call_of_another_content_type_is_none(self):
        body = xmlrpc.client.dumps(("work",), "add").encode()
        before = self.house.tid()
        for kind in "text/plain", "application/xml", "application/json", "":
            answer = self.ask("POST", SERVICE, "manager", body, {
                "Content-Type": kind, "Sec-Fetch-Site": "same-origin"})
            self.assertIn(answer.status, (400, 403, 404, 405, 415), kind)
        self.assertEqual(self.house.tid(), before)


class InTheSkin(Case):

    def test_programs_that_name_the_skin_are_answered_in_words(self):
        """Found by chaos/fuzz.py: pages for browsers were made for other requests."""
        for method in "DELETE", "PUT", "PATCH":
            for path in "/nosuch", SERVICE + "/nosuch", "/@@contents.html":
                answer = self.ask(method, "/++skin++RemoteTask" + path, "viewer",
                                  headers={"Sec-Fetch-Site": "none"})
                self.assertIn(answer.status, (401, 403, 404, 405), (method, path))
        self.assert_no_errors()


class BelowTheApi(Case):

    def test_views_of_others_are_not_there(self):
        """Found by chaos/fuzz.py: such a view has no methods that the api could name."""
        for method in "PUT", "DELETE":
            answer = self.ask(method, f"{SERVICE}/api/v1/x/@@manage", "manager",
                              headers={"Sec-Fetch-Site": "none"})
            self.assertIn(answer.status, (404, 405), method)
        self.assert_no_errors()


class TheWay(Case):
    """Who may see a service walks to it, and to nothing beside it."""

    def status(self, path, who):
        return self.ask("GET", path, who).status

    def test_to_the_service(self):
        for who in "viewer", "submitter", "operator", "manager", "admin":
            self.assertEqual(self.status(SERVICE + "/jobs.html", who), 200, who)

    def test_to_nothing_else(self):
        for path in ("/++etc++site/@@contents.html", "/++etc++site/default/",
                     "/++etc++site/default/@@contents.html", "/++etc++site/nosuch",
                     "/++etc++site/default/nosuch", "/@@contents.html",
                     "/++etc++site/default/RootErrorReportingUtility"):
            for who in None, "viewer", "operator", "manager":
                self.assertIn(self.status(path, who), (401, 403), (path, who))

    def test_who_may_not_see_it_learns_nothing(self):
        """The same answer, whether there is a service of that name or not."""
        for name in "tasks", "nosuch":
            for rest in "", "/jobs.html", "/api/v1/jobs", "/17":
                path = f"/++etc++site/default/{name}{rest}"
                self.assertEqual(self.status(path, None), 401, path)



@implementer(IBrowserPublisher)
class Writing(BrowserView):
    """A view of somebody else's that writes whenever it is asked for."""

    def browserDefault(self, request):
        return self, ()

    def __call__(self):
        root = removeSecurityProxy(self.context)
        root.written = getattr(root, "written", 0) + 1
        return "written"


class TheDoor(Case):
    """Pages that are not ours have to do with it too."""

    def setUp(self):
        super().setUp()

        registry, what = getGlobalSiteManager(), (IRootFolder, IBrowserRequest)
        registry.registerAdapter(Writing, what, Interface, "write.html")
        self.addCleanup(registry.unregisterAdapter, Writing, what, Interface, "write.html")
        defineChecker(Writing, NamesChecker(["__call__", "browserDefault"]))
        self.addCleanup(undefineChecker, Writing)

    def written(self):
        with self.house.root() as root:
            return getattr(root, "written", 0)

    def test_what_a_get_writes_is_not_kept(self):
        before = self.written()
        for method in "GET", "HEAD":
            answer = self.ask(method, "/@@write.html", "admin")
            self.assertEqual(answer.status, 200)
        self.assertEqual(self.written(), before)

    def test_what_a_post_writes_is_unless_another_site_asks(self):
        before = self.written()
        answer = self.ask("POST", "/@@write.html", "admin", b"a=1", FORM)
        self.assertEqual((answer.status, self.written()), (200, before + 1))
        for header in {"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://a.example"}, {}:
            answer = self.ask("POST", "/@@write.html", "admin", b"a=1",
                              {"Content-Type": FORM["Content-Type"], **header})
            self.assertEqual(answer.status, 403)
        self.assertEqual(self.written(), before + 1)

    def test_every_answer_has_the_headers_that_suit_every_page(self):
        for path in "/", "/@@contents.html", SERVICE + "/jobs.html", "/nosuch":
            headers = self.ask("GET", path, "admin").headers
            self.assertEqual(headers["x-content-type-options"], "nosniff", path)
            self.assertEqual(headers["x-frame-options"], "SAMEORIGIN", path)


class OurPages(Case):

    def pages(self):
        with self.house.service() as service, acting_as("manager"):
            job = service.add("work", {"a": "<script>alert(1)</script>"}, title="<b>x")
            cron = service.addCronJob("work", minute=(0,))
        for name in ("jobs.html", "addjob.html", "addcronjob.html", "schedules.html",
                     "workers.html", "settings.html", "trail.html"):
            yield f"{SERVICE}/{name}"
        yield from (f"{SERVICE}/{job}", f"{SERVICE}/{job}/editjob",
                    f"{SERVICE}/{cron}", f"{SERVICE}/{cron}/editjob",
                    "/++skin++RemoteTask/", f"{SERVICE}/api/v1/jobs")

    def test_they_have_a_policy_and_nothing_that_it_forbids(self):
        for path in self.pages():
            answer = self.ask("GET", path, "manager")
            self.assertEqual(answer.status, 200, path)
            policy = answer.headers["content-security-policy"]
            self.assertIn("default-src 'self'", policy)
            self.assertNotIn("unsafe", policy)
            if "html" in answer.headers["content-type"]:
                self.assertEqual(INLINE.findall(answer.text), [], path)
                self.assertNotIn("<script>alert", answer.text)
                self.assertNotIn("<b>x", answer.text)

    def test_no_other_site_may_read_them(self):
        for path in self.pages():
            headers = self.ask("GET", path, "manager", headers={
                "Origin": "http://a.example"}).headers
            self.assertNotIn("access-control-allow-origin", headers)


class TheCaps(Case):

    def setUp(self):
        super().setUp()
        with self.house.service() as service:
            service.configure(waiting_limit_each=0)
        self.addCleanup(self.lift)

    def lift(self):
        with self.house.service() as service:
            service.configure(waiting_limit_each=None)

    def test_a_job_too_many_is_answered_by_429(self):
        before = self.house.tid()
        answer = self.ask("POST", SERVICE + "/api/v1/jobs", "submitter",
                          json.dumps({"task": "work"}).encode(), JSON)
        self.assertEqual(answer.status, 429)
        self.assertIn("retry-after", answer.headers)
        answer = self.ask("POST", SERVICE + "/addjob.html", "submitter",
                          form(do="add", task="work"), FORM)
        self.assertEqual(answer.status, 429)
        answer = self.ask("POST", SERVICE, "submitter",
                          xmlrpc.client.dumps(("work",), "add").encode(), XML)
        with self.assertRaises(xmlrpc.client.Fault) as caught:
            xmlrpc.client.loads(answer.body)
        self.assertEqual(caught.exception.faultCode, 429)
        self.assertEqual(self.house.tid(), before)


if __name__ == "__main__":
    unittest.main()
