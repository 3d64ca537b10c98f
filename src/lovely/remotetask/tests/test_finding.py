"""What findJobs and countJobs answer is what looking at every job would."""
import random
from datetime import timedelta
from unittest import mock

import transaction
from zope.component import provideUtility

from lovely.remotetask import clock, finding, lifecycle
from lovely.remotetask.errors import BadOption, BadStatus
from lovely.remotetask.failure import Failure
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.job import Job
from lovely.remotetask.task import SimpleTask
from lovely.remotetask.testing import simulated_clock
from lovely.remotetask.tests.support import ServiceCase

SEED = 20_261_121
STATES = (lifecycle.QUEUED, lifecycle.COMPLETED, lifecycle.ERROR, lifecycle.CANCELLED,
          lifecycle.STARTLATER, lifecycle.DELAYED)


class FindingCase(ServiceCase):

    storage = "mapping"

    def setUp(self):
        super().setUp()
        self.chance = random.Random(SEED)
        self.time = self.enterContext(simulated_clock())
        for name in ("mail", "report"):
            provideUtility(SimpleTask(lambda input: input), ITask, name)

    def add_some(self, number):
        """Jobs of all kinds; some are in the books and some only just added."""
        for count in range(number):
            self.time.advance(self.chance.choice((0.0, 1.0, 30.0)))
            state, options = self.chance.choice(STATES), {}
            if state == lifecycle.DELAYED:
                options["delay"] = 1e6
            id = self.service.add(
                self.chance.choice(("mail", "report")),
                {"word": self.chance.choice(("Apple", "pear"))},
                startLater=state == lifecycle.STARTLATER,
                tags=self.chance.sample(("day", "night"), self.chance.randint(0, 2)),
                **options)
            job, now = self.service.jobs[id], clock.micros()
            job.__dict__["owner"] = self.chance.choice((None, "ada", "grace"))
            if state == lifecycle.CANCELLED:
                self.service.cancel(id)
            elif state in (lifecycle.COMPLETED, lifecycle.ERROR):
                job.start(now)
                if state == lifecycle.COMPLETED:
                    job.complete(None, now)
                else:
                    job.fail(Failure("ValueError", "the PRINTER burns"), now)
                self.service._announce(id)
            if count == number // 2:
                self.settle()
        transaction.commit()

    def settle(self):
        with finding.clerk.Clerk(self.service, clock.micros()) as books:
            books.empty_inbox(10_000)

    def all_pages(self, limit=3, seconds=None, **question):
        key, found, looked = None, [], 0
        for _page in range(1_000):
            page = self.service.findJobs(after=key, limit=limit, looked=looked,
                                         seconds=seconds, **question)
            self.assertLessEqual(len(page.jobs), limit)
            found += [job.id for job in page.jobs]
            key, looked = page.next, page.looked
            if key is None:
                return found
        raise AssertionError("the pages never end")

    def wanted(self, status=None, task=None, owner=None, tag=None, createdFrom=None,
               createdBefore=None, text=None):
        return {job.id for job in self.service.jobs.values()
                if status in (None, job.status) and task in (None, job.task)
                and owner in (None, job.owner) and (tag is None or tag in job.tags)
                and (createdFrom is None or job.created >= createdFrom)
                and (createdBefore is None or job.created < createdBefore)
                and (text is None or any(text.lower() in each.lower() for each in (
                    job.title, job.error or "", job.input["word"])))}


class TheAnswers(FindingCase):

    def test_every_question_finds_what_looking_at_each_job_finds(self):
        self.add_some(60)
        moments = [job.created for job in self.service.jobs.values()]
        for _round in range(250):
            question = {name: value for name, value in dict(
                status=self.chance.choice(STATES), task=self.chance.choice(("mail", "report")),
                owner=self.chance.choice(("ada", "grace", "nobody")),
                tag=self.chance.choice(("day", "night")), text=self.chance.choice(
                    ("apple", "PEAR", "printer", "nowhere")),
                createdFrom=self.chance.choice(moments),
                createdBefore=self.chance.choice(moments)).items()
                if self.chance.random() < .35}
            wanted = self.wanted(**question)
            order = self.chance.choice((finding.NEWEST, finding.OLDEST))
            for seconds in (None, -1.0):
                with mock.patch.object(finding, "TICK", 5):
                    found = self.all_pages(self.chance.randint(1, 9), seconds,
                                           order=order, **question)
                self.assertEqual((sorted(found), len(found)),
                                 (sorted(wanted), len(set(found))), question)
            self.assertEqual(self.count(**question), len(wanted), question)

    def count(self, seconds=-1.0, **question):
        number, key, looked = 0, None, 0
        with mock.patch.object(finding, "TICK", 7):
            while True:
                counted = self.service.countJobs(
                    after=key, seconds=seconds, looked=looked, **question)
                number, key, looked = number + counted.number, counted.next, counted.looked
                if key is None:
                    return number

    def test_each_order_is_what_it_says(self):
        self.add_some(50)
        jobs = self.service.jobs
        newest = self.all_pages()
        made = [(jobs[id].micros("created"), id) for id in newest]
        self.assertEqual(made, sorted(made, reverse=True))
        self.assertEqual(self.all_pages(order=finding.OLDEST), newest[::-1])
        ended = self.all_pages(order=finding.ENDED)
        ends = [(jobs[id].micros("completed"), id) for id in ended]
        self.assertEqual(ends, sorted(ends, reverse=True))
        self.assertEqual({jobs[id].status for id in ended}, lifecycle.FINISHED)
        self.assertEqual(self.all_pages(order=finding.ENDED_FIRST), ended[::-1])
        by_status = [lifecycle.STATUSES.index(jobs[id].status)
                     for id in self.all_pages(order=finding.BY_STATUS)]
        self.assertEqual(by_status, sorted(by_status))
        self.assertEqual(len(by_status), len(jobs))

    def test_several_states_are_one_question(self):
        self.add_some(40)
        states = (lifecycle.ERROR, lifecycle.CANCELLED)
        wanted = self.wanted(status=lifecycle.ERROR) | self.wanted(
            status=lifecycle.CANCELLED)
        self.assertEqual(set(self.all_pages(status=states)), wanted)
        self.assertEqual(set(self.all_pages(status=states, tag="day")),
                         {id for id in wanted if "day" in self.service.jobs[id].tags})
        self.assertEqual(self.service.countJobs(status=states).number, len(wanted))

    def test_what_is_claimed_is_processing_and_no_longer_queued(self):
        first = self.service.add("mail", {"word": "a"}, tags=("day",))
        second = self.service.add("mail", {"word": "b"}, tags=("day",))
        claimed = self.service.claimNextJob()
        self.assertEqual(claimed, first)
        for question in ({}, {"tag": "day"}, {"task": "mail"}):
            self.assertEqual(self.all_pages(status="processing", **question), [first])
            self.assertEqual(self.all_pages(status="queued", **question), [second])
            for status in ("processing", "queued"):
                self.assertEqual(
                    self.service.countJobs(status=status, **question).number, 1)

    def test_what_has_no_such_order_or_state_is_refused(self):
        with self.assertRaises(BadStatus):
            self.service.findJobs(status="done")
        with self.assertRaises(BadOption):
            self.service.findJobs(order="by name")


class TheLimits(FindingCase):

    def test_a_search_for_text_looks_at_so_many_and_no_more(self):
        first = self.service.add("mail", {"word": "needle"})
        for _number in range(10):
            self.time.advance(1.0)
            self.service.add("mail", {"word": "hay"})
        with mock.patch.object(finding, "TEXT_LIMIT", 10):
            found = self.service.findJobs(text="needle")
            self.assertEqual((found.jobs, found.next, found.looked, found.stopped),
                             ([], None, 10, True))
        found = self.service.findJobs(text="needle")
        self.assertEqual([job.id for job in found.jobs], [first])

    def test_a_search_finds_no_secrets_and_only_where_it_may_look(self):
        id = self.service.add("mail", {"password": "sesame", "word": "open"})
        self.assertEqual(self.all_pages(text="sesame"), [])
        self.assertEqual(self.all_pages(text="open"), [id])
        self.assertEqual(self.all_pages(text="open", inputs=False), [])

    def test_a_page_loads_no_job_that_it_does_not_show(self):
        self.add_some(40)
        self.settle()
        transaction.commit()
        self.connection.cacheMinimize()
        question = dict(tag="day", status=lifecycle.COMPLETED)
        wanted = self.wanted(**question)
        self.assertGreater(len(wanted), 3)
        self.connection.cacheMinimize()
        page = self.service.findJobs(limit=3, **question)
        self.assertEqual(len(page.jobs), 3)
        jobs = [each for each in self.connection._cache.lru_items()
                if isinstance(each[1], Job)]
        self.assertLessEqual(len(jobs), 3)

    def test_time_that_is_up_never_leaves_a_gap_or_stands_still(self):
        self.add_some(30)
        with mock.patch.object(finding, "TICK", 2):
            found = self.all_pages(limit=50, seconds=-1.0, tag="day", text="apple")
        self.assertEqual(set(found), self.wanted(tag="day", text="apple"))

    def test_a_time_of_which_there_is_nothing_is_found_at_once(self):
        self.add_some(20)
        self.settle()
        asked = []
        place = self.service.index.place
        with mock.patch.object(type(self.service.index), "place",
                               lambda index, id: asked.append(id) or place(id)):
            page = self.service.findJobs(
                status="error", task="mail",
                createdBefore=clock.now() - timedelta(days=400))
        self.assertEqual((page.jobs, page.next, asked), ([], None, []))
