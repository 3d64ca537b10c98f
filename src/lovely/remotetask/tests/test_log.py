"""What tasks write into the log is kept with their jobs: bounded, per attempt."""
import io
import logging
import sys
from contextlib import redirect_stderr

import transaction

from lovely.remotetask import lines
from lovely.remotetask.lines import Line
from lovely.remotetask.task import TaskError, context
from lovely.remotetask.tests.support import ServiceCase

plain = logging.getLogger("lovely.remotetask.job")


def texts(job):
    return [line.text for line in job.log]


class TheLogOfAJob(ServiceCase):

    def run_by_threads(self, task, input=None, status="completed"):
        jobid = self.add(task, input)
        self.start()
        self.wait_status(jobid, status)
        self.wait_settled()
        return self.job(jobid)

    def run_by_hand(self, task, input=None):
        jobid = self.add(task, input)
        self.service.process()
        transaction.commit()
        return self.job(jobid)

    def test_lines_of_a_completed_job_are_committed_with_it(self):
        @self.task("chatty")
        def chatty(input):
            context().logger.info("%s of %d", "one", 2)
            context().logger.warning("two")

        job = self.run_by_threads("chatty")
        self.assertEqual(
            [(line.attempt, line.level, line.text) for line in job.log],
            [(1, logging.INFO, "one of 2"), (1, logging.WARNING, "two")])
        self.assertEqual(job._log._p_serial, job._p_serial)

    def test_what_is_written_by_the_loggers_name_is_kept_too_and_once(self):
        @self.task("plain")
        def plain_task(input):
            plain.info("by name %s", 1)
            plain.info("with a %(kind)s", {"kind": "mapping"})
            context().logger.info("by context")

        self.assertEqual(texts(self.run_by_hand("plain")),
                         ["by name 1", "with a mapping", "by context"])
        plain.info("in nobody's job")

    def test_a_level_below_the_logs_own_is_kept_from_info_on(self):
        @self.task("quiet")
        def quiet(input):
            context().logger.info("for the job alone")
            context().logger.debug("for nobody")

        logging.getLogger("lovely.remotetask").setLevel(logging.ERROR)
        self.assertEqual(texts(self.run_by_hand("quiet")), ["for the job alone"])
        self.assertNotIn("for the job alone", str(self.lines.texts()))

    def test_each_attempt_keeps_its_own_lines(self):
        @self.task("third", retries=2)
        def third(input):
            context().logger.info("try %d", context().attempt)
            if context().attempt < 3:
                raise ValueError("not yet")

        for run in self.run_by_hand, self.run_by_threads:
            job = run("third")
            self.assertEqual([(line.attempt, line.text) for line in job.log],
                             [(1, "try 1"), (2, "try 2"), (3, "try 3")])

    def test_a_failed_job_keeps_what_led_to_its_end(self):
        @self.task("fails")
        def fails(input):
            try:
                int("no number")
            except ValueError:
                context().logger.exception("about to fail")
            raise TaskError("it failed")

        job = self.run_by_threads("fails", status="error")
        (text,) = texts(job)
        self.assertTrue(text.startswith("about to fail\nTraceback"), text)
        self.assertIn("ValueError: invalid literal", text)

    def test_a_try_that_met_a_conflict_leaves_no_lines(self):
        @self.task("meets")
        def meets(input):
            context().logger.info("conflicts: %d", context().conflicts)
            root = context().service._p_jar.root()
            if not context().conflicts:
                with self.elsewhere() as service:
                    service._p_jar.root()["bone"] = "theirs"
            root["bone"] = "mine"

        self.assertEqual(texts(self.run_by_threads("meets")), ["conflicts: 1"])

    def test_a_job_that_logs_nothing_pays_nothing(self):
        self.task("silent", lambda input: input)
        job = self.run_by_threads("silent", "x")
        self.assertNotIn("_log", job.__dict__)
        self.assertEqual((job.log, job.logLost), ((), 0))

    def test_the_last_lines_are_kept_and_the_others_counted(self):
        @self.task("many")
        def many(input):
            for number in range(1_000):
                context().logger.info("line %d", number)

        job = self.run_by_hand("many")
        self.assertEqual(len(job.log), lines.KEPT)
        self.assertEqual(texts(job)[-1], "line 999")
        self.assertEqual(job.logLost, 800)

    def test_long_lines_are_cut_and_share_one_room(self):
        @self.task("long", retries=1)
        def long(input):
            for number in range(4):
                context().logger.info(f"{number}" + "ä" * 100_000)
            if context().attempt == 1:
                raise ValueError("again")

        job = self.run_by_hand("long")
        size = sum(len(text.encode()) for text in texts(job))
        self.assertLessEqual(size, lines.ROOM)
        self.assertEqual([(line.attempt, line.text[0]) for line in job.log],
                         [(2, "2"), (2, "3")])
        self.assertEqual(job.logLost, 6)

    def test_text_that_cannot_be_stored_is_made_storable(self):
        @self.task("odd")
        def odd(input):
            context().logger.info("\ud800 and \x00 and %d", "no number")

        (text,) = texts(self.run_by_threads("odd"))
        self.assertNotIn("\x00", text)
        text.encode()

    def test_a_retried_job_adds_to_its_log(self):
        @self.task("once more", retries=0)
        def once_more(input):
            context().logger.info("run")
            if context().attempt == 1:
                raise ValueError("first")

        job = self.run_by_hand("once more")
        self.service.retry(job.id)
        self.service.process()
        self.assertEqual([line.attempt for line in job.log], [1, 2])

    def test_execute_keeps_nothing(self):
        self.task("told", lambda input: context().logger.info("hello"))
        self.service.execute("told")
        self.assertEqual([line for line in self.lines.texts() if "hello" in line],
                         ["job None (execute) attempt 1: hello"])


class WhereNoLoggingIsSetUp(ServiceCase):

    def test_warnings_to_the_logger_are_still_printed(self):
        logger = logging.getLogger("lovely.remotetask")
        logger.removeHandler(self.lines)
        self.addCleanup(logger.addHandler, self.lines)
        root = logging.getLogger()
        before = root.handlers[:]
        root.handlers[:] = []
        self.addCleanup(root.handlers.extend, before)
        printed = io.StringIO()
        with redirect_stderr(printed):
            self.assertIs(sys.stderr, printed)
            plain.warning("look here")
        self.assertIn("look here", printed.getvalue())


class TheBounds(ServiceCase):

    def test_the_last_lines_win(self):
        many = [Line(1, 0, 20, "x" * 9_999) for _ in range(5)]
        self.assertEqual(len(lines.last(many)), 2)
        self.assertEqual(lines.last([]), ())
