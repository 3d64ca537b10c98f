"""The pages of jobs, schedules, workers and settings: what they show, what they do."""
import re
import shutil
import tempfile
import unittest
from base64 import b64encode
from collections import Counter
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from unittest import mock

import transaction
from persistent import Persistent
from ZODB.Connection import Connection
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from zope.app.folder import Folder
from zope.i18n import translate
from zope.interface import Interface
from zope.publisher.browser import TestRequest
from zope.schema import Int, Password, TextLine
from zope.testbrowser.wsgi import Browser

import lovely.remotetask
from lovely.remotetask import clock, lifecycle, processor
from lovely.remotetask.acts import acting
from lovely.remotetask.browser import job as jobpage
from lovely.remotetask.browser import schedules, trail, values, words
from lovely.remotetask.clerk import Clerk
from lovely.remotetask.job import CronJob
from lovely.remotetask.processor import SimpleProcessor
from lovely.remotetask.runtime.context import tell
from lovely.remotetask.runtime.publication import path_of
from lovely.remotetask.task import TaskError, context
from lovely.remotetask.testing import wait_for
from lovely.remotetask.tests.house import FORM, SERVICE, House, form
from lovely.remotetask.zones import zone

EVIL = "<script>alert('evil')</script>"
SECRET = "s3cr3t-w0rd"


class IMail(Interface):
    to = TextLine(title="To")
    copies = Int(title="Copies", min=1, max=9, default=1)
    password = Password(title="Password of the mail server", required=False)


class OnFiles:
    """A layer: the application on a FileStorage of its own, with tasks."""

    __bases__ = ()

    def __init__(self, name):
        self.__name__, self.__module__ = name, __name__

    def setUp(self):
        self.directory = tempfile.mkdtemp()
        self.house = House(FileStorage(str(Path(self.directory) / "Data.fs")))
        for name, task in TASKS.items():
            self.house.task(name, task)
        self.house.task("mail", mail, inputSchema=IMail, retries=1)
        self.beside = DB(FileStorage(str(Path(self.directory) / "Beside.fs")),
                         databases=self.house.db.databases, database_name="beside")
        with self.house.root() as root:
            root["reports"] = Folder()

    def tearDown(self):
        self.house.close()
        self.beside.close()
        shutil.rmtree(self.directory)


Details = OnFiles("Details")


def mail(input):
    context().logger.info("to %s with %s", input["to"], input.get("password"))
    if "fail" in input["to"]:
        raise ValueError(f"refused {input['to']} {input.get('password')}")
    return {"sent": input["copies"]}


def report(input):
    """Write a folder, and tell of it."""
    root = context().service._p_jar.root()["Application"]
    for number in range(2):
        context().logger.info("chapter %d", number)
    name = f"report-{context().jobid}"
    root["reports"][name] = Folder()
    return root["reports"][name]


def mother(input):
    for number in range(input):
        context().service.add("give", number, startLater=True)


def elsewhere(input):
    there = context().service._p_jar.get_connection("beside").root()
    there[input] = Folder()


def fail(input):
    raise TaskError(str(input))


TASKS = {"give": lambda input: input, "report": report, "mother": mother, "fail": fail,
         "elsewhere": elsewhere}


class DetailsCase(unittest.TestCase):
    layer = Details

    def setUp(self):
        self.house = Details.house
        with self.house.service() as service:
            self.path = path_of(service)

    def tearDown(self):
        with self.house.service() as service:
            for jobid in list(service.jobs):
                service.cancel(jobid)
            service.clean()
            self.assertEqual(service.check(), [])

    def add(self, task, input=None, **options):
        with self.house.service() as service:
            return service.add(task, input, **options)

    def cron(self, task="give", input=None, **options):
        with self.house.service() as service:
            jobid = service.addCronJob(task, input, **options)
            service.process()
            return jobid

    def run_job(self, task, input=None, **options):
        """Add a job and have it run as a worker does; its number."""
        jobid = self.add(task, input, **options)
        worker = SimpleProcessor(self.house.db, self.path)
        while worker.processNext():
            pass
        return jobid

    def ask(self, path, who="manager", **query):
        return self.house.ask("GET", f"{SERVICE}/{path}", who,
                              query=form(**query).decode())

    def page(self, path, who="manager", **query):
        answer = self.ask(path, who, **query)
        self.assertEqual(answer.status, 200, answer.text[-2000:])
        return answer.text

    def text(self, path, who="manager"):
        """What can be read on a page."""
        return " ".join(unescape(re.sub(r"<[^>]+>", " ", self.page(path, who))).split())

    def press(self, path, do, who="manager", **fields):
        """Press a button; the answer to the request."""
        return self.house.ask("POST", f"{SERVICE}/{path}", who,
                              body=form(do=do, **fields), headers=FORM)

    def pressed(self, path, do, who="manager", **fields):
        """Press a button that leads to another page: its address."""
        answer = self.press(path, do, who, **fields)
        self.assertEqual(answer.status, 303, answer.text[-2000:])
        return answer.headers["location"]

    def job(self, jobid, *names):
        with self.house.service() as service:
            job = service.getJob(jobid)
            return tuple(getattr(job, name) for name in names)


class AJob(DetailsCase):

    def test_the_number_below_the_service_is_its_page(self):
        jobid = self.run_job("give", {"answer": 42}, title="The question",
                             tags=("deep",))
        text = self.text(f"{jobid}")
        for said in (f"Job {jobid}", "completed", "give", "The question", "deep",
                     '"answer": 42', "attempt 1 began"):
            self.assertIn(said, text)
        self.assertIn("The question", self.text(f"{jobid}/job.html"))

    def test_no_other_name_is_a_job(self):
        jobid = self.add("give")
        for name in (f"0{jobid}", f"-{jobid}", "1", "99999999999999", f"{jobid}.0",
                     "\N{ARABIC-INDIC DIGIT THREE}"):
            self.assertEqual(self.ask(name).status, 404, name)

    def test_each_attempt_is_shown_with_its_lines_and_traceback(self):
        jobid = self.run_job("mail", {"to": "fail@here", "copies": 1})
        page = self.page(f"{jobid}")
        text = self.text(f"{jobid}")
        self.assertEqual(page.count('class="attempt"'), 2)
        self.assertEqual(page.count("to fail@here with"), 2)
        self.assertEqual(page.count("Traceback (most recent call last)"), 2)
        self.assertIn("ValueError: refused fail@here", text)
        self.assertIn("failed: 2", text)

    def test_what_it_changed_is_named_with_place_and_size(self):
        jobid = self.run_job("report")
        text = self.text(f"{jobid}")
        self.assertIn(f"/reports/report-{jobid}", text)
        self.assertIn("part of /reports", text)
        self.assertIn("What this job changed", text)
        self.assertIn(f'reports/report-{jobid}">Folder', self.page(f"{jobid}"))

    def test_objects_of_other_databases_are_shown_when_asked_for(self):
        jobid = self.run_job("elsewhere", "shelf")
        page = self.page(f"{jobid}")
        self.assertIn("It has written to other databases as well:", self.text(f"{jobid}"))
        self.assertNotIn("/shelf", page)
        page = self.page(f"{jobid}", everywhere="1")
        self.assertIn('<span class="tag">beside</span>', page)
        self.assertIn("/shelf", page)
        self.assertIn("/shelf", self.page(f"{jobid}/undo.html"))
        self.pressed(f"{jobid}/undo.html", "undo")
        with self.house.service() as service:
            self.assertNotIn("shelf", service._p_jar.get_connection("beside").root())

    def test_parent_and_children_are_linked(self):
        jobid = self.run_job("mother", 3)
        page = self.page(f"{jobid}")
        with self.house.service() as service:
            children = [job.id for job in service.madeBy(jobid)]
        self.assertEqual(len(children), 3)
        for child in children:
            self.assertIn(f'{SERVICE}/{child}"', page)
        self.assertIn(f'{SERVICE}/{jobid}"', self.page(f"{children[0]}"))

    def test_progress_is_shown_while_it_is_not_completed(self):
        jobid = self.add("give", startLater=True)
        with self.house.service() as service:
            tell(service, jobid, (3, 4, "nearly there"))
        page = self.page(f"{jobid}")
        self.assertIn("nearly there", page)
        self.assertIn("75 %", page)
        self.assertIn('value="0.75"', page)

    def test_a_persistent_object_is_a_link(self):
        with self.house.service() as service:
            folder = service._p_jar.root()["Application"]["reports"]
            jobid = service.add("give", {"where": folder})
        page = self.page(f"{jobid}")
        self.assertIn('<a href="http://127.0.0.1:8080/reports">Folder reports</a>', page)

    def test_what_cannot_be_read_any_more_does_not_spoil_the_page(self):
        jobid = self.run_job("give", "x" * 5_000)
        with self.house.service() as service:
            oid = service.getJob(jobid).__dict__["input"]._p_oid
        storage = self.house.db.storage
        load = storage.load

        def broken(given, version=""):
            if given == oid:
                raise KeyError("damaged")
            return load(given, version)

        self.house.db.cacheMinimize()
        storage.load, before = broken, storage.loadBefore
        storage.loadBefore = lambda given, tid: broken(given) if given == oid \
            else before(given, tid)
        try:
            text = self.text(f"{jobid}")
        finally:
            del storage.load, storage.loadBefore
        self.assertIn("It cannot be read any more:", text)

    def test_buttons_do_what_they_say(self):
        jobid = self.add("give", 1, startLater=True)
        self.assertTrue(self.pressed(f"{jobid}/job.html", "start").endswith(f"/{jobid}"))
        self.assertEqual(self.job(jobid, "status"), (lifecycle.QUEUED,))
        self.pressed(f"{jobid}/job.html", "cancel")
        self.assertEqual(self.job(jobid, "status"), (lifecycle.CANCELLED,))
        self.pressed(f"{jobid}/job.html", "retry")
        self.assertEqual(self.job(jobid, "status"), (lifecycle.QUEUED,))
        copy = int(self.pressed(f"{jobid}/job.html", "copy").rpartition("/")[2])
        self.assertEqual(self.job(copy, "input"), (1,))
        self.pressed(f"{jobid}/job.html", "cancel")
        self.assertTrue(self.pressed(f"{jobid}/job.html", "remove").endswith("/jobs.html"))
        self.assertEqual(self.ask(f"{jobid}").status, 404)

    def test_a_button_that_comes_too_late_says_why(self):
        jobid = self.run_job("give")
        for do in "retry", "start":
            answer = self.press(f"{jobid}/job.html", do)
            self.assertEqual(answer.status, 303)
            self.assertIn("remotetask-messages=", answer.headers["set-cookie"])
        self.assertEqual(self.job(jobid, "status"), (lifecycle.COMPLETED,))

    def test_a_cron_job_has_its_page_and_no_buttons_of_jobs(self):
        jobid = self.cron(schedule="@daily")
        page = self.page(f"{jobid}")
        self.assertIn("see the schedules", page)
        self.assertNotIn('value="copy"', page)
        self.assertNotIn('value="start"', page)


class Undoing(DetailsCase):

    def test_first_the_list_then_the_button(self):
        jobid = self.run_job("report")
        text = self.text(f"{jobid}/undo.html")
        self.assertIn(f"/reports/report-{jobid}", text)
        self.assertIn("Take it all back", text)
        self.assertTrue(self.pressed(f"{jobid}/undo.html", "undo").endswith(f"/{jobid}"))
        self.assertEqual(self.job(jobid, "status", "reason"),
                         (lifecycle.CANCELLED, lifecycle.UNDONE))
        with self.house.root() as root:
            self.assertNotIn(f"report-{jobid}", root["reports"])
        text = self.text(f"{jobid}")
        self.assertIn("what it had changed was taken back", text)
        self.assertIn("taken back by manager", text)

    def test_a_refusal_explains_itself_and_offers_no_button(self):
        jobid = self.run_job("mother", 1)
        text = self.text(f"{jobid}/undo.html")
        self.assertIn("The job has added other jobs", text)
        self.assertNotIn("Take it all back", text)
        answer = self.press(f"{jobid}/undo.html", "undo")
        self.assertTrue(answer.headers["location"].endswith("undo.html"))
        self.assertEqual(self.job(jobid, "status"), (lifecycle.COMPLETED,))

    def test_later_changes_are_told_before(self):
        first, second = self.run_job("report"), self.run_job("report")
        text = self.text(f"{first}/undo.html")
        self.assertIn("have been changed since", text)
        self.assertIn("Take it all back", text)
        self.pressed(f"{second}/undo.html", "undo")
        self.pressed(f"{first}/undo.html", "undo")
        self.assertEqual(self.job(first, "reason"), (lifecycle.UNDONE,))

    def test_only_a_manager_may(self):
        jobid = self.run_job("report")
        for who in "viewer", "submitter", "operator":
            self.assertEqual(self.press(f"{jobid}/undo.html", "undo", who).status, 403)
            self.assertNotIn("undo.html", self.page(f"{jobid}", who))
        self.assertEqual(self.job(jobid, "status"), (lifecycle.COMPLETED,))

    def test_it_is_kept_who_did_it(self):
        jobid = self.run_job("report")
        self.pressed(f"{jobid}/undo.html", "undo")
        with self.house.service() as service:
            entries, _ = service.listTrail()
        self.assertIn(("manager", "undo", (jobid,)),
                      [(entry.who, entry.verb, entry.jobs) for entry in entries])


class EditingAJob(DetailsCase):

    def test_what_is_not_typed_anew_stays(self):
        jobid = self.add("mail", {"to": "anna", "copies": 2, "password": SECRET},
                         delay=3600, priority=5)
        self.pressed(f"{jobid}/editjob", "save", title="a letter")
        self.assertEqual(self.job(jobid, "title", "priority", "input"), (
            "a letter", 5, {"to": "anna", "copies": 2, "password": SECRET}))

    def test_the_form_round_trip_keeps_a_secret_that_nobody_sees(self):
        jobid = self.add("mail", {"to": "anna", "copies": 2, "password": SECRET},
                         delay=3600)
        browser = Browser(wsgi_app=self.house.wsgi)
        browser.addHeader("Authorization",
                          f"Basic {b64encode(b'manager:manager').decode()}")
        browser.open(f"http://127.0.0.1:8080{SERVICE}/{jobid}/editjob")
        self.assertNotIn(SECRET, browser.contents)
        browser.getControl("Copies").value = "3"
        browser.getControl("Save").click()
        self.assertEqual(self.job(jobid, "input"),
                         ({"to": "anna", "copies": 3, "password": SECRET},))

    def test_what_is_wrong_stands_beside_its_field_with_what_was_typed(self):
        jobid = self.add("mail", {"to": "anna", "copies": 2}, delay=3600)
        answer = self.press(f"{jobid}/editjob", "save", **{
            "input.to": "ben", "input.copies": "12", "priority": "high"})
        self.assertEqual(answer.status, 200)
        self.assertIn("It goes from 1 to 9.", answer.text)
        self.assertIn("A whole number is wanted.", answer.text)
        self.assertIn('value="high"', answer.text)
        self.assertIn('value="ben"', answer.text)
        self.assertEqual(self.job(jobid, "input"), ({"to": "anna", "copies": 2},))

    def test_the_start_can_be_moved(self):
        jobid = self.add("give", delay=3600)
        self.pressed(f"{jobid}/editjob", "save", startAt="2040-01-01T12:00")
        due, = self.job(jobid, "due")
        self.assertEqual((due.year, due.minute), (2040, 0))

    def test_what_has_ended_is_not_changed(self):
        jobid = self.run_job("give")
        self.assertNotIn('value="save"', self.page(f"{jobid}/editjob"))
        answer = self.press(f"{jobid}/editjob", "save", title="late")
        self.assertEqual(answer.status, 200)
        self.assertEqual(self.job(jobid, "title"), ("",))

    def test_a_viewer_changes_nothing(self):
        jobid = self.add("give", 1, delay=3600)
        self.assertEqual(self.press(f"{jobid}/editjob", "save", "viewer",
                                    title="no").status, 403)


class TheSchedules(DetailsCase):

    def test_each_is_shown_in_words_with_zone_and_next_times(self):
        jobid = self.cron(hour=(2,), minute=(30,), timezone="Europe/Berlin",
                          title="Nightly")
        page, text = self.page("schedules.html"), self.text("schedules.html")
        self.assertIn("every day at 02:30", text)
        self.assertIn("Europe/Berlin", text)
        self.assertIn("Nightly", text)
        self.assertIn(f'id="s{jobid}"', page)
        self.assertEqual(len(re.findall("<time ", page.partition('class="times"')[2]
                                        .partition("</ol>")[0])), 5)

    def test_runs_are_shown_with_their_results(self):
        jobid = self.cron("fail", "it broke", schedule="@yearly")
        with self.house.service() as service:
            service.runNow(jobid)
            service.process()
        page = self.page("schedules.html")
        self.assertIn('class="s-error"', page)
        self.assertIn("it broke", page)

    def test_buttons_do_what_they_say(self):
        jobid = self.cron(schedule="@daily")
        self.pressed("schedules.html", f"pause:{jobid}")
        self.assertEqual(self.job(jobid, "paused"), (True,))
        self.assertIn("none while it is paused", self.text("schedules.html"))
        self.pressed("schedules.html", f"resume:{jobid}")
        self.assertEqual(self.job(jobid, "paused"), (False,))
        self.pressed("schedules.html", f"run:{jobid}")
        runs, = self.job(jobid, "runs")
        self.assertEqual(len(runs), 1)
        self.pressed("schedules.html", f"remove:{jobid}")
        self.assertEqual(self.ask(f"{jobid}").status, 404)
        self.assertEqual(self.job(runs[0].job, "parent"), (jobid,))

    def test_odd_numbers_are_answered_in_words(self):
        waiting = self.add("give", delay=60)
        for word in ("", "x", "0", "9" * 30, str(waiting)):
            self.assertEqual(self.press("schedules.html", f"pause:{word}").status, 303)

    def test_a_wrong_field_is_explained_beside_it_and_what_was_typed_is_kept(self):
        jobid = self.cron(hour=(2,), minute=(30,))
        answer = self.press(f"{jobid}/editjob", "save", minute="", hour="",
                            schedule="77 * * * *", title="kept as typed",
                            priority="high")
        self.assertEqual(answer.status, 200)
        self.assertIn("A whole number is wanted.", answer.text)
        field = answer.text.partition('name="schedule"')[2].partition("</div>")[0]
        self.assertIn("minute cannot be", field)
        self.assertIn("77 * * * *", answer.text)
        self.assertIn("kept as typed", answer.text)
        self.assertEqual(self.job(jobid, "hour", "text"), ((2,), None))

    def test_a_schedule_is_edited(self):
        jobid = self.cron(hour=(2,), minute=(30,), timezone="Europe/Berlin")
        where = self.pressed(f"{jobid}/editjob", "save", minute="0", hour="4",
                             title="earlier", missed="skip")
        self.assertTrue(where.endswith(f"schedules.html#s{jobid}"))
        self.assertEqual(self.job(jobid, "hour", "minute", "timezone", "title", "missed"),
                         ((4,), (0,), "Europe/Berlin", "earlier", "skip"))
        self.pressed(f"{jobid}/editjob", "save", minute="", hour="", schedule="@daily")
        self.assertEqual(self.job(jobid, "hour", "text"), ((), "@daily"))

    def test_the_meaning_is_previewed_and_nothing_stored(self):
        jobid = self.cron(hour=(2,))
        answer = self.press(f"{jobid}/editjob", "preview", hour="5")
        self.assertIn("It would run next at:", answer.text)
        self.assertEqual(self.job(jobid, "hour"), ((2,),))

    def test_many_are_shown_page_by_page(self):
        ids = {self.cron(schedule="@yearly") for _ in range(schedules.SHOWN + 3)}
        first = self.page("schedules.html")
        seen = set(re.findall(r'id="s(\d+)"', first))
        self.assertEqual(len(seen), schedules.SHOWN)
        after = re.search(r"after=(\d+\.\d+)", first)[1]
        seen |= set(re.findall(r'id="s(\d+)"', self.page("schedules.html", after=after)))
        self.assertEqual(seen, set(map(str, ids)))

    def test_one_that_is_broken_says_so_and_spoils_no_other(self):
        whole, broken = self.cron(schedule="@daily"), self.cron(schedule="@hourly")
        with self.house.service() as service:
            service.getJob(broken).text = "@never"
            service.getJob(broken)._v_schedule = None
        text = self.text("schedules.html")
        self.assertIn("It cannot be worked out any more", text)
        self.assertIn("every day at 00:00", text)
        with self.house.service() as service:
            service.changeCronJob(broken, schedule="@daily")
        self.assertIn(f'id="s{whole}"', self.page("schedules.html"))


class Workers(DetailsCase):

    def tearDown(self):
        with self.house.service() as service:
            service.stopProcessing()
            service.resumeProcessing()
            service.wishThreads(None)
        self.assertEqual(processor.stop_all(self.house.db, grace=5), [])
        super().tearDown()

    def test_nobody_works_is_said(self):
        self.assertIn("Nobody works for this service", self.text("workers.html"))

    def test_who_works_is_shown_and_started_and_stopped_here(self):
        self.pressed("workers.html", "here")
        with self.house.service() as service:
            wait_for(service, lambda service: any(
                worker["threads"] for worker in service.workers()))
        text = self.text("workers.html")
        self.assertIn("takes jobs", text)
        self.assertIn("Stop in this process", text)
        self.pressed("workers.html", "not-here")
        with self.house.service() as service:
            self.assertFalse(service.isProcessing())
            wait_for(service, lambda service: not any(
                worker["threads"] for worker in service.workers()))

    def test_wishes_are_kept_and_shown_with_how_far_they_are_obeyed(self):
        self.pressed("workers.html", "pause")
        text = self.text("workers.html")
        self.assertIn("take no jobs, all workers", text)
        self.assertIn("manager", text)
        self.assertIn("0 of 0", text)
        self.pressed("workers.html", "threads", threads="3")
        self.assertIn("3 threads, all workers", self.text("workers.html"))
        self.pressed("workers.html", "resume")
        self.assertNotIn("take no jobs, all workers", self.text("workers.html"))
        self.pressed("workers.html", "threads", threads="")
        self.assertIn("Nobody wishes anything", self.text("workers.html"))

    def test_a_wrong_number_is_explained_beside_the_field(self):
        for given in "0", "many", "1001":
            answer = self.press("workers.html", "threads", threads=given)
            self.assertEqual(answer.status, 200)
            self.assertIn("A whole number from 1 to", answer.text)
            self.assertIn(f'value="{given}"', answer.text)

    def test_a_worker_that_is_not_there_is_said(self):
        for do in "stop:nobody", "start:", "threads:nobody":
            answer = self.press("workers.html", do, threads="2")
            self.assertEqual(answer.status, 303)
            self.assertIn("remotetask-messages=", answer.headers["set-cookie"])

    def test_limits_are_shown_set_and_taken_back(self):
        self.assertIn("No lane and no task is limited.", self.text("workers.html"))
        self.pressed("workers.html", "limit", limit="task:give", width="2", rate="5/10s")
        text = self.text("workers.html")
        self.assertIn("task give 2 5 per 10 s 0 stored here", text)
        self.pressed("workers.html", "limit", limit="task:give", width="", rate="")
        self.assertIn("No lane and no task is limited.", self.text("workers.html"))

    def test_a_wrong_limit_is_explained_beside_its_field(self):
        for field, given in (("width", "0"), ("width", "many"), ("rate", "often")):
            answer = self.press("workers.html", "limit", limit="task:give",
                                **{field: given})
            self.assertEqual(answer.status, 200)
            part = answer.text.partition(f'name="{field}"')[2].partition("</div>")[0]
            self.assertIn('class="wrong"', part)
            self.assertIn(f'value="{given}"', answer.text)
        answer = self.press("workers.html", "limit", limit="lock:x", width="1")
        self.assertIn('class="wrong"', answer.text)

    def test_the_locks_of_a_job_are_shown(self):
        jobid = self.add("give", startLater=True, locks=("invoice-7",))
        self.assertIn("invoice-7", self.text(f"{jobid}"))

    def test_why_a_job_was_replaced_is_shown(self):
        first = self.add("give", 1, unique="nightly", delay=60)
        self.add("give", 2, unique="nightly", delay=60, duplicate="replace")
        self.assertIn("a newer job with the same key took its place", self.text(f"{first}"))

    def test_only_managers_wish(self):
        self.assertNotIn("<button", self.page("workers.html", "viewer"))
        for do in "pause", "threads", "here":
            self.assertEqual(self.press("workers.html", do, "operator").status, 403)


class TheSettings(DetailsCase):

    def tearDown(self):
        with self.house.service() as service:
            service.configure(**dict.fromkeys(service.settings))
        super().tearDown()

    def stored(self):
        with self.house.service() as service:
            return dict(service.settings)

    def test_each_shows_value_source_and_meaning(self):
        text = self.text("settings.html")
        self.assertIn("grace-seconds", text)
        self.assertIn("how long a stopping service lets jobs run on", text)
        self.assertIn("default", text)

    def test_values_are_stored_and_forgotten(self):
        self.pressed("settings.html", "save", grace_seconds="20", crash_limit="")
        self.assertEqual({name: float(value) for name, value in self.stored().items()},
                         {"grace_seconds": 20})
        self.assertIn("stored here", self.text("settings.html"))
        with self.house.service() as service:
            self.assertEqual(service.effectiveSettings().grace_seconds, 20)
        self.pressed("settings.html", "save", grace_seconds="")
        self.assertEqual(self.stored(), {})

    def test_with_one_wrong_value_nothing_is_stored_and_all_is_kept(self):
        answer = self.press("settings.html", "save", grace_seconds="25",
                            crash_limit="many")
        self.assertEqual(answer.status, 200)
        self.assertIn("setting crash-limit cannot be", answer.text)
        self.assertIn('value="many"', answer.text)
        self.assertIn('value="25"', answer.text)
        self.assertEqual(self.stored(), {})

    def test_settings_of_the_process_are_shown_and_not_stored(self):
        self.pressed("settings.html", "save", autostart="@*", max_threads="3")
        self.assertEqual(self.stored(), {})

    def test_only_managers_see_them(self):
        self.assertEqual(self.ask("settings.html", "operator").status, 403)


class TheTrail(DetailsCase):

    def test_who_did_what_to_which_jobs_is_shown_with_links(self):
        jobid = self.add("give", 1, startLater=True)
        self.pressed(f"{jobid}/job.html", "start", "operator")
        text = self.text("trail.html")
        self.assertIn(f"operator started {jobid}", text)
        self.assertIn(f'/{jobid}"', self.page("trail.html"))

    def test_all_of_it_is_shown_page_by_page(self):
        with self.house.service() as service:
            with acting("somebody"):
                for number in range(trail.SHOWN):
                    service.configure(prefetch=number + 1)
                    transaction.commit()
                service.configure(prefetch=None)
        first = self.page("trail.html")
        self.assertEqual(first.count("somebody"), trail.SHOWN)
        after = re.search(r"after=(\d+)", first)[1]
        self.assertIn("prefetch=1<", self.page("trail.html", after=after))
        for odd in ("x", "-1", "9" * 19):
            self.page("trail.html", after=odd)

    def test_every_verb_has_words(self):
        room = Path(lovely.remotetask.__path__[0])
        code = "".join(path.read_text("utf-8") for path in room.glob("*.py"))
        verbs = set(re.findall(r'acts\.note\(\w+, "([^"]+)"', code)) | set(re.findall(
            r'self\._(?:wish|take_back)\([^"\n]*"([a-z ]+)"', code))
        self.assertEqual(verbs - set(trail.VERBS), set())
        self.assertIn("stop worker", verbs)

    def test_only_managers_see_it(self):
        self.assertEqual(self.ask("trail.html", "operator").status, 403)


class EveryPage(DetailsCase):
    """What holds for each page, whatever it shows."""

    def setUp(self):
        super().setUp()
        with self.house.service() as service:
            service.add("mail", {"to": "x", "copies": 1, "password": SECRET},
                        title=EVIL, tags=(EVIL,), startLater=True)
        self.completed = self.run_job("give", {EVIL: [EVIL]}, title=EVIL, tags=(EVIL,))
        self.failed = self.run_job("mail", {
            "to": "fail" + EVIL, "copies": 1, "password": SECRET}, title=EVIL)
        self.waiting = self.add("mail", {
            "to": EVIL, "copies": 1, "password": SECRET}, title=EVIL, delay=3600)
        self.schedule = self.cron("fail", EVIL, schedule="@daily", title=EVIL)
        secret = self.cron("mail", {"to": "fail", "copies": 1, "password": SECRET},
                           schedule="@daily")
        with self.house.service() as service:
            tell(service, self.waiting, (1, 2, f"{EVIL} {SECRET}"))
            service.runNow(self.schedule)
            service.runNow(secret)
            service.process()
        self.pages = [
            f"{self.completed}", f"{self.completed}/undo.html", f"{self.failed}",
            f"{self.waiting}", f"{self.waiting}/editjob", f"{self.schedule}",
            f"{self.schedule}/editjob", f"{secret}", "schedules.html",
            "workers.html", "settings.html", "trail.html"]

    def test_nothing_of_users_is_markup(self):
        for path in self.pages:
            self.assertNotIn("<script>alert", self.page(path), path)
        self.assertIn("&lt;script&gt;", self.page(f"{self.failed}"))
        for path, fields in ((f"{self.waiting}/editjob", {"priority": EVIL, "title": EVIL}),
                             (f"{self.schedule}/editjob", {"schedule": EVIL}),
                             ("settings.html", {"grace_seconds": f'"{EVIL}'}),
                             ("workers.html", {"threads": EVIL})):
            do = "threads" if path == "workers.html" else "save"
            self.assertNotIn("<script>alert",
                             self.press(path, do, **fields).text, path)

    def test_secrets_are_nowhere_to_be_seen(self):
        for path in self.pages:
            self.assertNotIn(SECRET, self.page(path), path)
        self.assertIn("********", self.page(f"{self.failed}"))

    def test_looking_changes_nothing(self):
        before = self.house.tid()
        for path in self.pages:
            self.page(path)
        self.assertEqual(self.house.tid(), before)

    def test_no_page_loads_what_it_does_not_show(self):
        """Whatever else there is: the objects that a page loads are counted."""
        with self.house.service() as service:
            service.addMany("give", range(2_000), tags=("many",))
        with self.house.service() as service:
            with Clerk(service, clock.micros()) as books:
                books.empty_inbox(10_000)
        loads = []
        setstate = Connection.setstate

        def counted(connection, object):
            loads.append(type(object).__name__)
            return setstate(connection, object)

        with mock.patch.object(Connection, "setstate", counted):
            for path in self.pages:
                self.house.db.cacheMinimize()
                loads.clear()
                self.page(path)
                self.assertLess(5, len(loads), path)
                self.assertLess(loads.count("Job"), 30, path)
                self.assertLess(len(loads), 250, (path, Counter(loads)))

    def test_a_change_by_get_or_from_another_site_is_none(self):
        before = self.house.tid()
        for path, do in ((f"{self.waiting}/job.html", "cancel"),
                         ("schedules.html", f"pause:{self.schedule}"),
                         ("workers.html", "pause"),
                         (f"{self.completed}/undo.html", "undo")):
            self.ask(path, do=do)
            answer = self.house.ask(
                "POST", f"{SERVICE}/{path}", "manager", body=form(do=do),
                headers={**FORM, "Sec-Fetch-Site": "cross-site"})
            self.assertEqual(answer.status, 403, path)
        self.assertEqual(self.house.tid(), before)

    def test_nobody_who_has_not_logged_in_sees_one(self):
        for path in self.pages:
            self.assertIn(self.ask(path, None).status, (401, 404), path)

    def test_a_login_that_cannot_be_read_is_none(self):
        """The publisher raised for these, and answered 500 to everybody who sent one."""
        for word in ("xx", "manager:manager", "YQ==", "//8=", "/zr/", "", "\xe9"):
            answer = self.house.ask("GET", f"{SERVICE}/jobs.html",
                                    headers={"Authorization": f"Basic {word}"})
            self.assertEqual(answer.status, 401, word)

    def test_a_viewer_sees_states_and_no_inputs_results_or_errors(self):
        for path in (f"{self.completed}", f"{self.failed}", "schedules.html"):
            page = self.page(path, "viewer")
            for hidden in ("refused", "Traceback", "fail&lt;script", "What this job changed",
                           'class="log"', "<button"):
                self.assertNotIn(hidden, page, (path, hidden))
        self.assertIn("You may not see it.", self.page(f"{self.failed}", "viewer"))

    def test_no_page_has_script_or_style_of_its_own(self):
        for path in self.pages:
            page = self.page(path)
            self.assertNotRegex(page, r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=")


class Values(unittest.TestCase):

    def shown(self, value):
        return values.shown(value, TestRequest())

    def test_plain_data_is_json(self):
        found = self.shown({"a": [1, None, True], "b": "ä"})
        self.assertEqual((found.kind, found.cut), ("json", False))
        self.assertIn('"b": "ä"', found.text)

    def test_a_text_is_itself(self):
        self.assertEqual(self.shown("two\nlines"), ("text", "two\nlines", (), False))

    def test_what_json_cannot_say_is_told(self):
        found = self.shown([b"raw", datetime(2030, 1, 1, tzinfo=UTC), float("nan"),
                            10**5_000, {1, 2}, object, {(1, 2): 3}])
        for said in ("<3 bytes>", "2030-01-01", "nan", "(1, 2)"):
            self.assertIn(said, found.text)

    def test_a_repr_that_raises_is_told(self):
        class Odd:
            def __repr__(self):
                raise ZeroDivisionError

        self.assertIn("its repr raises ZeroDivisionError", self.shown([Odd()]).text)
        self.assertEqual(self.shown(Odd()).kind, "other")

    def test_large_values_are_cut(self):
        for value in ("x" * 100_000, ["x" * 100_000], list(range(100_000)),
                      {str(number): number for number in range(100_000)}):
            found = self.shown(value)
            self.assertTrue(found.cut)
            self.assertLessEqual(len(found.text), values.TEXT_LIMIT)

    def test_a_value_that_holds_itself_ends(self):
        value = []
        value.append(value)
        self.assertTrue(self.shown(value).cut)

    def test_objects_without_place_are_named_by_class(self):
        found = self.shown({"object": Persistent()})
        self.assertEqual(found.links, ({"title": "Persistent", "url": None},))
        self.assertIn("→ Persistent", found.text)


class InWords(unittest.TestCase):

    def said(self, **rule):
        return words.of(CronJob(1, "x", **rule), translate)

    def test_the_usual_schedules_have_words(self):
        for rule, wanted in (
                (dict(schedule="* * * * *"), "every minute"),
                (dict(schedule="*/5 * * * *"), "every 5 minutes"),
                (dict(schedule="7 * * * *"), "every hour at minute 7"),
                (dict(schedule="@daily"), "every day at 00:00"),
                (dict(schedule="30 2,14 * * *"), "every day at 02:30 and 14:30"),
                (dict(schedule="0 9 * * MON-FRI"), "from Monday to Friday at 09:00"),
                (dict(schedule="0 9 * * 0,3"), "on Wednesday and Sunday at 09:00"),
                (dict(schedule="*/10 * * * 6"), "every 10 minutes, on Saturday"),
                (dict(schedule="0 0 1 * *"), "on day 1 of each month at 00:00"),
                (dict(schedule="0 6 24 12 *"), "on day 24 of December at 06:00"),
                (dict(hour=(2,), minute=(30,)), "every day at 02:30"),
                (dict(dayOfWeek=(0,), hour=(8,)), "on Monday at 08:00"),
                (dict(month=(5,)), "on day 1 of May at 00:00"),
                (dict(schedule="@every 90s"), "every 90 seconds"),
                (dict(schedule="@every 2h"), "every 2 hours")):
            self.assertEqual(self.said(**rule), (wanted, False), rule)

    def test_others_are_described_in_english(self):
        for rule in (dict(schedule="0 0 L * *"), dict(schedule="0 9 * * MON#2"),
                     dict(schedule="1,2,3,5,8,13,21 3 * * *"),
                     dict(dayOfMonth=(13,), dayOfWeek=(4,))):
            text, in_english = self.said(**rule)
            self.assertTrue(in_english and text, rule)

    def test_what_daylight_saving_does_is_remarked(self):
        berlin = zone("Europe/Berlin")
        day = timedelta(days=1)

        def remarks(since, **rule):
            made = CronJob(1, "x", timezone="Europe/Berlin", **rule).schedule
            moments = made.next_times(since, 3)
            return [schedules.remark(moment, before, berlin) for before, moment in zip(
                [None, *moments], moments)]

        spring = datetime(2026, 3, 28, 12, tzinfo=UTC)
        self.assertEqual(remarks(spring, schedule="30 2 * * *"), [
            "the clock jumps forward: this is the first moment after the jump",
            None, None])
        self.assertEqual(remarks(spring - day, schedule="0 12 * * *"), [
            None, "the clock was put forward since the time above", None])
        autumn = datetime(2026, 10, 24, 12, tzinfo=UTC)
        self.assertEqual(remarks(autumn, schedule="30 2 * * *"), [
            "the clock shows this time twice: this is the first time",
            "the clock was put back since the time above", None])
        self.assertEqual(remarks(autumn + day / 2, schedule="30 * * * *")[:2], [
            "the clock shows this time twice: this is the first time",
            "the clock shows this time twice: this is the second time"])
        self.assertIsNone(schedules.remark(clock.now(), None, None))


class TheWords(unittest.TestCase):

    def test_every_reason_and_hindrance_has_words(self):
        reasons = {value for name, value in vars(lifecycle).items()
                   if name.isupper() and isinstance(value, str)} - set(lifecycle.STATUSES)
        self.assertEqual(reasons - set(jobpage.REASONS), set())
