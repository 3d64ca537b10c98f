"""The pages: the list of jobs, its filters and buttons, and the forms."""
import doctest
import html
import re
import unittest
from datetime import timedelta
from unittest import mock

import transaction
from zope.interface import Interface
from zope.schema import Bool, Choice, Int, Password, TextLine, Tuple

from lovely.remotetask import clock, lifecycle
from lovely.remotetask.browser import bulk, filters
from lovely.remotetask.browser.addcronjob import number_text, numbers
from lovely.remotetask.browser.forms import Wrong
from lovely.remotetask.browser.layout import _messages, _span
from lovely.remotetask.browser.preview import short
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.service import TaskService
from lovely.remotetask.task import SimpleTask
from lovely.remotetask.tests import catalog, web
from lovely.remotetask.tests.web import messages, rows, text_of

NASTY = """<script>alert("1")</script>'"&"""


class WebCase(unittest.TestCase):

    layer = web.Web

    def setUp(self):
        self.site = web.Site()
        self.addCleanup(self.site.close)

    def post(self, browser, path, **fields):
        browser.post(f"{browser.base}/{path}", "&".join(
            f"{name.replace('_', '-')}={value}" for name, value in fields.items()))
        return browser


class TheList(WebCase):

    def test_nothing_of_a_job_can_break_out_of_the_page(self):
        from zope.component import getGlobalSiteManager, provideUtility

        def nasty(input):
            raise ValueError(NASTY)
        provideUtility(SimpleTask(nasty, retries=0, doc=NASTY), ITask, NASTY)
        self.addCleanup(getGlobalSiteManager().unregisterUtility,
                        provided=ITask, name=NASTY)
        self.site.add(NASTY, {NASTY: NASTY}, title=NASTY, tags=(NASTY,))
        self.site.run_all()
        with self.site.changing() as service:
            service.addCronJob(NASTY, NASTY, minute=(1,), title=NASTY, tags=(NASTY,))
        browser = self.site.browser()
        for query in ("", "?state=error", "?text=%3Cscript%3E%27%22%26",
                      "?task=%3Cscript%3E%27%22%26", "?tag=%3Cscript%3E%27%22%26",
                      "?owner=%3Cscript%3E%27%22%26&from=%3Cscript%3E&sort=%3Cscript%3E"):
            browser.open(f"{browser.base}/jobs.html{query}")
            self.assertEqual(browser.headers["Status"][:3], "200")
            self.assertNotIn("<script>", browser.contents.lower(), query)
            self.assertNotIn("""'"&'""", browser.contents)
        browser.open(f"{browser.base}/jobs.html")
        self.assertIn(html.escape("<script>"), browser.contents)
        for path in ("addjob.html", "addcronjob.html"):
            browser.open(f"{browser.base}/{path}?task=%3Cscript%3Ealert(%221%22)"
                         "%3C%2Fscript%3E%27%22%26")
            self.assertNotIn("<script>", browser.contents)

    def test_a_page_holds_no_script_and_no_style_of_its_own(self):
        self.site.add()
        browser = self.site.browser()
        for path in ("jobs.html", "addjob.html?task=echo", "addcronjob.html?task=echo"):
            browser.open(f"{browser.base}/{path}")
            self.assertIsNone(re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:",
                                        browser.contents))
            self.assertIn("default-src 'self'",
                          browser.headers["Content-Security-Policy"])

    def test_pages_follow_each_other_without_gap_or_repetition(self):
        ids = [self.site.add(input=number) for number in range(25)]
        browser = self.site.browser()
        browser.open(f"{browser.base}/jobs.html?size=10")
        seen = rows(browser)
        while "Next page" in browser.contents:
            browser.getLink("Next page").click()
            self.assertLessEqual(len(rows(browser)), 10)
            seen += rows(browser)
        self.assertEqual(seen, ids[::-1])

    def test_oldest_first_is_the_same_the_other_way_round(self):
        ids = [self.site.add(input=number) for number in range(7)]
        browser = self.site.browser()
        browser.open(f"{browser.base}/jobs.html?size=3&sort=created")
        seen = rows(browser)
        while "Next page" in browser.contents:
            browser.getLink("Next page").click()
            seen += rows(browser)
        self.assertEqual(seen, ids)

    def test_the_counts_lead_to_the_jobs_of_a_state(self):
        waiting = self.site.add(startLater=True)
        self.site.add()
        self.site.run_all()
        browser = self.site.browser()
        browser.getLink(url="state=start+later").click()
        self.assertEqual(rows(browser), [waiting])

    def test_every_sort_and_filter_answers_and_shows_what_it_says(self):
        failed = self.site.add("fail", "x", tags=("night",))
        self.site.run_all()
        later = self.site.add(delay=60)
        browser = self.site.browser()
        everything = [later, failed]
        for query, wanted in {
                "sort=status": everything, "sort=-end": [failed], "sort=end": [failed],
                "sort=nonsense": everything, "tag=night": [failed], "tag=day": [],
                "task=fail": [failed], "owner=nobody": [], "state=error": [failed],
                "state=error&sort=created": [failed], "state=nonsense": everything,
                "task=fail&state=error": [failed], "task=fail&state=delayed": [],
                "task=fail&tag=night": [failed], "task=echo&tag=night": [],
                "until=1999-12-31": [], "from=1999-12-31": everything,
                "until=1999-12-31&sort=created": [], "from=nonsense": everything,
                "from=9999-12-31T23:59": everything, "size=nonsense": everything,
                "size=-1": everything, "after=nonsense": everything,
                "after=1.1": [], "after=9.1.1": everything, "looked=x&text=x": [failed],
                "text=nowhere": [], "x:int=a": everything}.items():
            browser.open(f"{browser.base}/jobs.html?{query}")
            if "x:int" in query:
                self.assertIn(browser.headers["Status"][:3], ("200", "400"))
                continue
            self.assertEqual(browser.headers["Status"][:3], "200", query)
            self.assertEqual(rows(browser), wanted, query)

    def test_progress_is_shown_while_a_job_runs(self):
        jobid = self.site.add()
        with self.site.changing() as service:
            service.claimNextJob()
            from lovely.remotetask.runtime.context import Progress
            service.progress[jobid] = record = Progress()
            record.told = (3, 4, "<three>", clock.micros())
        browser = self.site.browser()
        self.assertRegex(browser.contents, '<progress [^>]*value="0.7500"')
        self.assertIn("75% <three>", text_of(browser, "jobs"))

    def test_a_detail_view_of_a_task_is_escaped_unless_it_says_that_it_is_html(self):
        from zope.component import getGlobalSiteManager
        from zope.interface import Interface
        from zope.publisher.browser import BrowserView

        from lovely.remotetask.interfaces import IJob

        class Plain(BrowserView):
            def __call__(self):
                return f"<i>{self.context.input}</i>"

        class Rich(Plain):
            isHTML = True

        class Broken(BrowserView):
            def __call__(self):
                raise ValueError("on purpose")

        self.site.add(input="one")
        registry = getGlobalSiteManager()
        for view, seen in ((Plain, "&lt;i&gt;one&lt;/i&gt;"), (Rich, "<i>one</i>"),
                           (Broken, 'class="soft"')):
            registry.registerAdapter(view, (IJob, Interface), Interface, "echo_detail")
            self.addCleanup(registry.unregisterAdapter, view, (IJob, Interface), Interface,
                            "echo_detail")
            browser = self.site.browser()
            self.assertEqual(browser.headers["Status"][:3], "200")
            self.assertIn(seen, browser.contents)
            self.assertNotIn("one</i>", self.site.browser("viewer").contents)

    def test_live_parts_leave_messages_to_the_page(self):
        browser = self.site.browser()
        browser.getControl("Cancel selected").click()
        self.assertEqual(messages(browser), ["No jobs were selected."])
        self.post(browser, "jobs.html", do="cancel-selected")
        live = self.site.browser(X_Remotetask_Live="1")
        self.assertEqual(messages(live), [])


class TheButtons(WebCase):

    def test_a_link_changes_nothing(self):
        jobid = self.site.add()
        browser = self.site.browser()
        for query in (f"do=cancel:{jobid}", f"do=cancel-selected&ids={jobid}",
                      "do=go:cancel&number=1", "do=start", "do=cancel-all"):
            browser.open(f"{browser.base}/jobs.html?{query}")
            self.assertEqual(self.site.status(jobid), "queued")
        self.assertFalse(self.site.service.isProcessing())

    def test_a_page_of_another_site_changes_nothing(self):
        jobid = self.site.add()
        browser = self.site.browser(source="cross-site")
        self.post(browser, "jobs.html", do=f"cancel:{jobid}")
        self.assertEqual(browser.headers["Status"][:3], "403")
        self.assertEqual(self.site.status(jobid), "queued")

    def test_a_viewer_sees_jobs_and_no_buttons_inputs_or_errors(self):
        self.site.add("fail", "the secret reason")
        self.site.run_all()
        jobid = self.site.add("echo", "another secret")
        browser = self.site.browser("viewer")
        self.assertEqual(len(rows(browser)), 2)
        self.assertNotIn("secret", browser.contents)
        self.assertNotIn("Cancel selected", browser.contents)
        self.assertNotIn("Start Processing", browser.contents)
        browser.open(f"{browser.base}/jobs.html?text=secret")
        self.assertEqual(rows(browser), [])
        for do in (f"cancel:{jobid}", "matching:cancel", "go:cancel", "remove-all",
                   "go:remove", "start", f"cancel-selected&ids={jobid}"):
            self.post(browser, "jobs.html", do=do)
            self.assertEqual(self.site.status(jobid), "queued")
        self.assertEqual(len(self.site.statuses()), 2)

    def test_a_submitter_cancels_own_jobs_only_also_all_that_match(self):
        others = self.site.add("echo", "of the system")
        browser = self.site.browser("submitter")
        browser.open(f"{browser.base}/addjob.html?task=echo")
        browser.getControl("Add job").click()
        transaction.begin()
        own, = (job.id for job in self.site.service.jobs.values() if job.id != others)
        self.assertEqual(self.site.service.jobs[own].owner, "submitter")
        browser.getControl(name="ids").value = [str(others)]
        browser.getControl("Cancel selected").click()
        self.assertEqual(self.site.status(others), "queued")
        browser.getControl("Cancel matching jobs").click()
        self.assertIn("One job will be cancelled", text_of(browser))
        browser.getControl("Cancel one job").click()
        self.assertEqual((self.site.status(own), self.site.status(others)),
                         ("cancelled", "queued"))

    def test_all_that_match_are_counted_exactly_and_no_others_touched(self):
        wanted = [self.site.add(tags=("night",)) for _number in range(5)]
        others = [self.site.add(tags=("day",)) for _number in range(3)]
        browser = self.site.browser()
        browser.open(f"{browser.base}/jobs.html?tag=night")
        browser.getControl("Cancel matching jobs").click()
        self.assertIn("5 jobs will be cancelled", text_of(browser))
        late = self.site.add(tags=("night",))  # not among those that were counted
        browser.getControl("Cancel 5 jobs").click()
        self.assertEqual(messages(browser), ["5 jobs were cancelled."])
        self.assertEqual({self.site.status(id) for id in wanted}, {"cancelled"})
        self.assertEqual({self.site.status(id) for id in [*others, late]}, {"queued"})

    def test_long_work_goes_on_in_steps(self):
        self.addCleanup(setattr, bulk, "STEP", bulk.STEP)
        self.addCleanup(setattr, bulk, "BATCH", bulk.BATCH)
        bulk.STEP, bulk.BATCH = 0.0, 2
        ids = [self.site.add() for _number in range(5)]
        browser = self.site.browser()
        browser.getControl("Cancel all").click()
        browser.getControl("Cancel 5 jobs").click()
        steps = 0
        while "data-next" in browser.contents:
            steps += 1
            self.assertLess(steps, 20)
            browser.getControl("Continue").click()
        bulk.STEP = 1.0
        if messages(browser) != ["All jobs cancelled"]:
            self.fail(text_of(browser))
        self.assertEqual({self.site.status(id) for id in ids}, {"cancelled"})

    def test_counting_goes_on_in_steps_and_is_exact(self):
        from lovely.remotetask import finding
        self.addCleanup(setattr, bulk, "COUNTING", bulk.COUNTING)
        self.addCleanup(setattr, finding, "TICK", finding.TICK)
        bulk.COUNTING, finding.TICK = -1.0, 3
        for _number in range(10):
            self.site.add(tags=("night",))
        browser = self.site.browser()
        browser.open(f"{browser.base}/jobs.html?tag=night")
        browser.getControl("Cancel matching jobs").click()
        steps = 0
        while "data-next" in browser.contents:
            steps += 1
            self.assertLess(steps, 20)
            browser.getControl("Continue").click()
        self.assertGreater(steps, 1)
        self.assertIn("10 jobs will be cancelled", text_of(browser))

    def test_each_job_offers_what_can_be_done_to_it(self):
        delayed = self.site.add(delay=3600)
        failed = self.site.add("fail", "x")
        self.site.run_all()
        browser = self.site.browser()
        self.post(browser, "jobs.html", do=f"run:{delayed}")
        self.assertEqual(messages(browser), ["One job was queued."])
        self.post(browser, "jobs.html", do=f"retry:{failed}")
        self.assertEqual(self.site.status(failed), "queued")
        self.post(browser, "jobs.html", do=f"cancel:{failed}")
        self.assertEqual(self.site.status(failed), "cancelled")
        self.post(browser, "jobs.html", do=f"cancel:{failed}")
        self.assertIn("Nothing was to be done", messages(browser)[0])
        for odd in ("cancel:", "cancel:x", "cancel:999999999999999999", "nonsense"):
            self.post(browser, "jobs.html", do=odd)
            self.assertIn(browser.headers["Status"][:3], ("200", "400"), odd)


class IGreeting(Interface):

    to = TextLine(title="To whom", min_length=2)
    times = Int(title="How often", min=1, max=9, default=1)
    loud = Bool(title="Loud", required=False)
    manner = Choice(title="Manner", values=("polite", "rude"), required=False)
    words = Tuple(title="Words", value_type=TextLine(), required=False)
    key = Password(title="Key", required=False)


class TheForms(WebCase):

    def setUp(self):
        super().setUp()
        from zope.component import getGlobalSiteManager, provideUtility
        provideUtility(SimpleTask(lambda input: input, IGreeting), ITask, "greet")
        self.addCleanup(getGlobalSiteManager().unregisterUtility,
                        provided=ITask, name="greet")
        self.browser = self.site.browser()

    def open(self, query="task=greet", page="addjob.html"):
        self.browser.open(f"{self.browser.base}/{page}?{query}")
        return self.browser.getControl

    def newest(self):
        transaction.begin()
        return self.site.service.listJobs(limit=1)[0][0]

    def test_the_fields_of_the_schema_become_the_input(self):
        field = self.open()
        self.assertEqual(field("How often").value, "1")
        field("To whom").value = "Ada"
        field("How often").value = "3"
        field("Loud").selected = True
        field("Manner").value = ["rude"]
        field("Words").value = "hello\nthere"
        field("Key").value = "sesame"
        field(name="tags").value = "night, mail"
        field(name="priority").value = "5"
        field("Add job").click()
        job = self.newest()
        self.assertEqual(job.input, {
            "to": "Ada", "times": 3, "loud": True, "manner": "rude",
            "words": ("hello", "there"), "key": "sesame"})
        self.assertEqual((job.tags, job.priority, job.owner),
                         (("night", "mail"), 5, "zope.manager"))
        self.assertNotIn("sesame", self.browser.contents)

    def test_a_wrong_field_is_explained_beside_it_and_nothing_is_lost(self):
        field = self.open()
        field("How often").value = "12"
        field("Words").value = "kept"
        field(name="timeout").value = "soon"
        field("Add job").click()
        text = text_of(self.browser)
        self.assertIn("Something is wanted here.", text)
        self.assertIn("It goes from 1 to 9.", text)
        self.assertIn("A number of seconds is wanted.", text)
        field = self.browser.getControl
        self.assertEqual((field("How often").value, field("Words").value,
                          field(name="timeout").value), ("12", "kept", "soon"))
        self.assertEqual(self.site.statuses(), [])

    def test_what_the_service_refuses_is_said_beside_its_field(self):
        field = self.open("task=echo")
        field(name="priority").value = "99999999999"
        field("Add job").click()
        self.assertIn("priority cannot be 99999999999", text_of(self.browser))
        field = self.browser.getControl
        field(name="priority").value = "1"
        field(name="start").value = ["at"]
        field("Add job").click()
        self.assertIn("Something is wanted here.", text_of(self.browser))
        self.assertEqual(self.site.statuses(), [])

    def test_a_job_can_wait_for_a_time_or_for_somebody(self):
        field = self.open("task=echo")
        field(name="start").value = ["delay"]
        field(name="startAfter").value = "60"
        field("Add job").click()
        self.assertEqual(self.newest().status, lifecycle.DELAYED)
        field = self.open("task=echo")
        field(name="start").value = ["later"]
        field("Add job").click()
        self.assertEqual(self.newest().status, lifecycle.STARTLATER)

    def test_a_job_holds_locks_and_a_copy_holds_them_too(self):
        field = self.open("task=echo")
        field(name="locks").value = "customer-7, importers=3"
        field("Add job").click()
        self.assertEqual(self.newest().locks, (("customer-7", 1), ("importers", 3)))
        model = self.site.add("echo", locks={"a, b": 1, "c": 2})
        field = self.open(f"copy={model}")
        self.assertEqual(field(name="locks").value, "a, b, c=2")
        field("Add job").click()
        copy = self.newest()
        self.assertEqual((copy.id != model, copy.locks), (True, (("a, b", 1), ("c", 2))))
        field = self.open("task=echo", "addcronjob.html")
        field(name="schedule").value = "@daily"
        field(name="locks").value = "nightly"
        field("Add cron job").click()
        self.assertEqual(self.newest().locks, (("nightly", 1),))
        field = self.open("task=echo")
        field(name="locks").value = "importers=0"
        field("Add job").click()
        self.assertIn("how many jobs may hold it", text_of(self.browser))

    def test_one_job_stands_for_many_adds(self):
        first = self.site.add("echo", unique=True)
        field = self.open("task=echo")
        field(name="duplicate").value = ["ignore"]
        field(name="uniqueFor").value = "60"
        field("Add job").click()
        self.assertIn(f"Job {first} is there already", text_of(self.browser))
        self.assertEqual((self.newest().id, self.newest().merged), (first, 1))
        field = self.open("task=echo")
        field(name="uniqueKey").value = "ignored without a choice"
        field("Add job").click()
        self.assertNotEqual(self.newest().id, first)
        field = self.open("task=echo")
        field(name="duplicate").value = ["replace"]
        field("Add job").click()
        self.assertEqual(self.site.service.getStatus(first), lifecycle.CANCELLED)
        field = self.open("task=echo")
        field(name="duplicate").value = ["allow running"]
        field(name="uniqueKey").value = "nightly"
        field(name="uniqueFor").value = "0"
        field("Add job").click()
        self.assertIn("uniqueFor cannot be 0", text_of(self.browser))
        field = self.browser.getControl
        field(name="uniqueFor").value = ""
        field("Add job").click()
        self.assertEqual(self.site.add("echo", 7, unique="nightly"), self.newest().id)

    def test_a_submitter_replaces_nobody_else_s_job(self):
        first = self.site.add("echo", unique=True)
        self.browser = self.site.browser("submitter")
        field = self.open("task=echo")
        field(name="duplicate").value = ["replace"]
        field("Add job").click()
        self.assertIn(f"may not do replace job {first}", text_of(self.browser))
        self.assertEqual(self.site.statuses(), ["queued"])

    def test_a_copy_takes_over_what_is_left_as_it_is_secrets_too(self):
        model = self.site.add("greet", {"to": "Ada", "times": 2, "key": "sesame"},
                              title="first")
        field = self.open(f"copy={model}")
        self.assertNotIn("sesame", self.browser.contents)
        field("To whom").value = "Grace"
        field("Add job").click()
        job = self.newest()
        self.assertEqual((job.input["to"], job.input["times"], job.input["key"], job.title),
                         ("Grace", 2, "sesame", "first"))

    def test_a_copy_of_an_input_that_is_no_json_keeps_it(self):
        model = self.site.add("echo", {"day": timedelta(days=1)})
        field = self.open(f"copy={model}")
        self.assertIn("&lt;timedelta&gt;", self.browser.contents)
        field("Add job").click()
        self.assertEqual(self.newest().input, {"day": timedelta(days=1)})

    def test_an_unknown_task_and_an_odd_copy_show_the_choice(self):
        for query in ("task=nothing", "copy=x", "copy=999", "task="):
            self.open(query)
            self.assertEqual(self.browser.headers["Status"][:3], "200")
        self.post(self.browser, "addjob.html", task="nothing", do="add")
        self.assertIn("Choose a task that there is.", text_of(self.browser))

    def test_too_many_waiting_jobs_are_refused_with_429(self):
        with self.site.changing() as service:
            service.configure(waiting_limit=1)
        self.site.add()
        field = self.open("task=echo")
        field("Add job").click()
        self.assertEqual(self.browser.headers["Status"][:3], "429")
        self.assertEqual(len(self.site.statuses()), 1)

    def test_a_cron_job_keeps_its_input_and_its_times(self):
        field = self.open(page="addcronjob.html")
        field("To whom").value = "Ada"
        field("Days of the month").value = "*"
        field("Months").value = "*"
        field("Weekdays").value = "mon-fri"
        field("Hours").value = "*/6"
        field("Add cron job").click()
        job = self.newest()
        self.assertEqual((job.input["to"], job.dayOfMonth, job.month, job.dayOfWeek, job.hour),
                         ("Ada", tuple(range(1, 32)), tuple(range(1, 13)),
                          (0, 1, 2, 3, 4), (0, 6, 12, 18)))

    def test_a_wrong_schedule_is_explained_beside_its_box(self):
        for name, typed in {"schedule": "every day", "timezone": "Europe/Nowhere",
                            "delay": "-1"}.items():
            field = self.open("task=echo", "addcronjob.html")
            field(name=name).value = typed
            if name == "timezone":
                field(name="schedule").value = "@daily"
            field("Add cron job").click()
            self.assertEqual(self.browser.getControl(name=name).value, typed)
            self.assertRegex(self.browser.contents, f'class="wrong" id="b-{name}-wrong"')
        field = self.open("task=echo", "addcronjob.html")
        field("Add cron job").click()
        self.assertIn("say when", text_of(self.browser))
        self.assertEqual(self.site.statuses(), [])


class Places(WebCase):

    def test_the_pages_work_below_a_virtual_host_and_a_prefix(self):
        self.site.add()
        browser = self.site.browser()
        browser.open(f"{web.HOST}/++vh++https:tasks.example.org:443/jobs/++/"
                     f"++skin++RemoteTask{web.SERVICE}/jobs.html")
        links = re.findall(r'(?:href|src|action)="([^"#]+)"', browser.contents)
        self.assertGreater(len(links), 20)
        self.assertEqual([link for link in links if not link.startswith(
            "https://tasks.example.org/jobs/")], [])

    def test_the_start_page_lists_what_one_may_see(self):
        self.site.add()
        browser = self.site.browser()
        browser.open(web.HOST + web.SKIN + "/")
        self.assertIn("tasks", text_of(browser))
        browser.getLink("tasks").click()
        self.assertEqual(len(rows(browser)), 1)
        anonymous = self.site.browser(None)
        anonymous.open(web.HOST + web.SKIN + "/")
        self.assertEqual(anonymous.headers["Status"][:3], "401")

    def test_a_paused_service_is_seen_to_be_paused(self):
        browser = self.site.browser()
        places = (web.HOST + web.SKIN + "/", f"{browser.base}/jobs.html")
        for verb, seen in (("pauseProcessing", True), ("resumeProcessing", False)):
            with self.site.changing() as service:
                getattr(service, verb)()
            for place in places:
                browser.open(place)
                self.assertEqual(">paused<" in browser.contents, seen, (verb, place))

    def test_what_cannot_be_answered_is_said_in_the_frame_of_the_pages(self):
        browser = self.site.browser()
        for path, status, said in (
                ("nosuch.html", "404", "There is nothing here"),
                ("999", "404", "There is nothing here")):
            browser.open(f"{browser.base}/{path}")
            self.assertEqual(browser.headers["Status"][:3], status)
            self.assertIn(said, text_of(browser))
            self.assertIn("Content-Security-Policy", browser.headers)
            self.assertEqual(browser.getLink("All services", index=0).url,
                             web.HOST + web.SKIN)
        viewer = self.site.browser("viewer")
        viewer.open(f"{viewer.base}/settings.html")
        self.assertIn(viewer.headers["Status"][:3], ("401", "403"))
        self.assertIn("This is not for everybody", text_of(viewer))
        anonymous = self.site.browser(None)
        self.assertEqual(anonymous.headers["Status"][:3], "401")
        self.assertIn("basic", anonymous.headers["WWW-Authenticate"].lower())
        self.assertIn("This is not for everybody", text_of(anonymous))

    def test_an_error_of_ours_is_a_page_too_and_tells_nothing_of_itself(self):
        browser = self.site.browser()
        with mock.patch.object(TaskService, "counts", side_effect=ValueError("secret")):
            browser.open(f"{browser.base}/jobs.html")
        self.assertEqual(browser.headers["Status"][:3], "500")
        self.assertIn("Something went wrong", text_of(browser))
        self.assertNotIn("secret", browser.contents)

    def test_style_and_script_are_served_to_be_kept(self):
        browser = self.site.browser()
        for name in ("style.css", "pages.js", "icon.svg"):
            url = re.search(rf'"([^"]+/{name}\?v=\w+)"', browser.contents)[1]
            browser.open(url)
            self.assertEqual(browser.headers["Status"][:3], "200")
            browser.open(f"{browser.base}/jobs.html")

    def test_our_tabs_come_first_in_the_zmi_and_its_own_follow(self):
        browser = self.site.browser(skin=False)
        tabs = re.search(r'<nav class="tabs".*?</nav>', browser.contents, re.DOTALL)[0]
        self.assertLess(tabs.index("Jobs"), tabs.index("Metadata"))
        self.assertEqual(tabs.count(">Jobs<"), 1)


class Languages(unittest.TestCase):

    def test_every_text_of_the_pages_is_said_in_german(self):
        german = catalog.read(catalog.LOCALES / "de/LC_MESSAGES" / f"{catalog.DOMAIN}.po")
        texts = catalog.texts()
        self.assertGreater(len(texts), 400)
        self.assertEqual([text for text in texts if not german.get(text)], [])

    def test_translations_keep_what_is_filled_in(self):
        for path in catalog.languages():
            for text, translation in catalog.read(path).items():
                for pattern in (r"\$\{\w+\}", r"</?\w+>"):
                    self.assertEqual(sorted(set(re.findall(pattern, text))),
                                     sorted(set(re.findall(pattern, translation))), text)

    def test_what_is_used_was_made_from_what_is_read(self):
        for path in catalog.languages():
            self.assertEqual(path.with_suffix(".mo").read_bytes(), catalog.compiled(path))


class SmallThings(unittest.TestCase):

    def test_numbers_of_a_field_are_read_as_people_write_them(self):
        minutes, weekdays = numbers(0, 59), numbers(0, 6, weekdays=True)
        self.assertEqual(minutes("5 1,3"), (1, 3, 5))
        self.assertEqual(minutes("*"), tuple(range(60)))
        self.assertEqual(minutes("10-12 */20"), (0, 10, 11, 12, 20, 40))
        self.assertEqual(weekdays("Mon wed-friday"), (0, 2, 3, 4))
        self.assertEqual(minutes(""), ())
        for wrong in ("60", "-1", "5-1", "*/0", "a", "1-", "٣"):
            with self.assertRaises(Wrong, msg=wrong):
                minutes(wrong)
        self.assertEqual(number_text((1, 2), 0, 59), "1 2")
        self.assertEqual(number_text(tuple(range(60)), 0, 59), "*")

    def test_filters_read_what_they_have_written(self):
        given = dict(state="error", task="a&b", owner="ü", tag="x y", text='"', size="50",
                     sort="-end", after="5.7", looked="12")
        found = filters.read({**given, "from": "2026-01-02T03:04"}, clock.EPOCH.tzinfo)
        self.assertEqual(found.fields(), {**given, "from": "2026-01-02T03:04"})
        self.assertEqual(found.key, (5, 7))
        self.assertEqual(filters.read({"from": "x", "size": "0", "after": "a.b"}, None),
                         filters.Filters(size=1, zone=clock.EPOCH.tzinfo))

    def test_a_day_means_all_of_it(self):
        found = filters.read({"from": "2026-01-02", "until": "2026-01-02"},
                             clock.EPOCH.tzinfo).asked
        self.assertEqual(found["createdBefore"] - found["createdFrom"], timedelta(days=1))

    def test_messages_from_elsewhere_are_no_messages(self):
        for cookie in (None, "", "nonsense", "bnVsbA==", "WzFd", "W1siaW5mbyJdXQ=="):
            self.assertEqual(_messages(cookie), [])

    def test_spans_of_time_are_said_in_two_units_at_most(self):
        said = [str(_span(seconds)) + str(sorted((_span(seconds).mapping or {}).values(),
                                                 key=str))
                for seconds in (0.0123, 2.34, 61, 7_300, 200_000)]
        self.assertEqual(said, [
            "${n} ms[12]", "${n} s['2.3']", "${m} min ${s} s[1, 1]",
            "${h} h ${m} min[1, 2]", "${d} d ${h} h[2, 7]"])

    def test_a_preview_is_short_whatever_the_value_is(self):
        deep = []
        for _number in range(1000):
            deep = [deep]
        for value in (deep, "x" * 10_000, {n: "y" * 100 for n in range(1000)},
                      [object()] * 1000, 10**400, b"\xff" * 999):
            self.assertLessEqual(len(short(value)), 140)
        self.assertEqual(short({"a": [1, None, "b"], "c": True}),
                         'a: 1, None, "b", c: True')


def test_suite():
    suite = unittest.TestSuite()
    for case in (TheList, TheButtons, TheForms, Places, Languages, SmallThings):
        suite.addTest(unittest.defaultTestLoader.loadTestsFromTestCase(case))
    suite.addTest(story("jobs.txt"))
    return suite


def story(name):
    """A page of this room, read as a test before the application."""
    def set_up(test):
        test.site = web.Site()
        test.globs.update(site=test.site, text_of=text_of, messages=messages, rows=rows,
                          root=web.HOST, service=web.HOST + web.SERVICE)
    found = doctest.DocFileSuite(
        name, package="lovely.remotetask.browser", encoding="utf-8",
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        | doctest.REPORT_ONLY_FIRST_FAILURE, setUp=set_up,
        tearDown=lambda test: test.site.close())
    found.layer = web.Web
    return found


if __name__ == "__main__":
    unittest.main(defaultTest="test_suite")
