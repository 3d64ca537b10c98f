"""The command line: what is typed, what is answered, and the exit codes."""
import io
import json
import logging
import os
import shutil
import sys
import tempfile
import threading
import unittest
from contextlib import redirect_stderr, redirect_stdout
from datetime import datetime, timedelta, UTC
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import transaction
import ZODB
from ZODB.FileStorage import FileStorage
from zope.component import provideUtility
from zope.component.hooks import setHooks, setSite
from zope.site.testing import siteSetUp, siteTearDown

from lovely.remotetask import TaskService, lifecycle, plain
from lovely.remotetask.cli import arguments, databases, main, output, times, verbs
from lovely.remotetask.cli.problems import BadArgument
from lovely.remotetask.errors import TaskError
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.task import SimpleTask, context

NASTY = "red \x1b[31m bell \x07 two\nlines \u202e \u00fc"


class Screen(io.StringIO):
    """What stands on a terminal."""

    def isatty(self):
        return True


class CommandCase(unittest.TestCase):
    """A FileStorage with a service, and the command line in this process."""

    services = ("tasks",)

    def setUp(self):
        siteSetUp()
        setHooks()
        self.addCleanup(siteTearDown)
        self.addCleanup(setSite, None)
        self.addCleanup(transaction.abort)
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.file = self.directory / "Data.fs"
        environment = mock.patch.dict(os.environ, {databases.VARIABLE: str(self.file)})
        environment.start()
        self.addCleanup(environment.stop)
        root = logging.getLogger()
        self.addCleanup(root.setLevel, root.level)
        self.addCleanup(setattr, root, "handlers", root.handlers[:])
        self.make()

    def make(self):
        with self.database() as root:
            for name in self.services:
                root[name] = TaskService()

    def database(self):
        return Opened(self.file)

    def task(self, name, func, **options):
        provideUtility(SimpleTask(func, **options), ITask, name=name)

    def run_cli(self, *words, given=""):
        """(exit code, standard output, standard error) of a command."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), \
                mock.patch.object(sys, "stdin", io.StringIO(given)):
            try:
                code = main([str(word) for word in words])
            except SystemExit as leave:
                code = leave.code
        return code, out.getvalue(), err.getvalue()

    def done(self, *words, given=""):
        """The output of a command that must succeed."""
        code, out, err = self.run_cli(*words, given=given)
        self.assertEqual((code, err), (0, ""), out)
        return out

    def answer(self, *words):
        """The JSON answer of a command that must succeed."""
        return json.loads(self.done(*words, "--json"))

    def refused(self, code, *words, given=""):
        """The complaint of a command that must end with *code*, and say why once."""
        found, out, err = self.run_cli(*words, given=given)
        self.assertEqual(found, code, (out, err))
        self.assertNotIn("Traceback", err)
        self.assertTrue(err.strip(), "it ended without a word")
        return err

    def add(self, *words):
        return int(self.done("add", "echo", *words))

    def process(self):
        with self.database() as root:
            for name in self.services:
                root[name].process()


class Opened:
    """The root of the database, committed at the end."""

    def __init__(self, path):
        self.db = ZODB.DB(FileStorage(str(path)))

    def __enter__(self):
        self.connection = self.db.open()
        return self.connection.root()

    def __exit__(self, kind, *error):
        transaction.abort() if kind else transaction.commit()
        self.connection.close()
        self.db.close()


class Adding(CommandCase):

    def test_a_job_is_added_and_its_number_printed(self):
        id = self.add('{"a": [1, 2.5, null, true]}', "--title", "first", "--tag", "x",
                      "--tag", "y", "--priority", "3", "--retries", "7",
                      "--timeout", "2m")
        job = self.answer("show", id)
        self.assertEqual(job["input"], {"a": [1, 2.5, None, True]})
        self.assertEqual(
            [job[name] for name in ("status", "title", "tags", "priority", "retries",
                                    "timeout")],
            ["queued", "first", ["x", "y"], 3, 7, 120])

    def test_input_comes_from_an_option_a_file_and_standard_input(self):
        path = self.directory / "input.json"
        path.write_text('"from a file"')
        ids = [self.add("--input", "[1]"), self.add(f"@{path}"),
               int(self.done("add", "echo", "-", given='"from afar"')), self.add()]
        self.assertEqual([self.answer("show", id)["input"] for id in ids],
                         [[1], "from a file", "from afar", None])

    def test_input_that_is_no_json_is_refused_with_a_hint(self):
        self.assertIn("a text needs quotes of its own",
                      self.refused(2, "add", "echo", "hello"))
        for words in ("{", "NaN", "[1, Infinity]", "[" * 100_000):
            self.assertIn("JSON" if len(words) < 100 else "INPUT",
                          self.refused(2, "add", "echo", words))
        self.assertIn("given twice", self.refused(2, "add", "echo", "1", "--input", "2"))
        self.assertIn("cannot be read", self.refused(2, "add", "echo", "@/no/such"))
        path = self.directory / "binary"
        path.write_bytes(b"\xff\xfe")
        self.assertIn("cannot be read", self.refused(2, "add", "echo", f"@{path}"))
        self.assertEqual(self.answer("list")["jobs"], [])

    def test_an_unknown_task_is_refused_and_the_known_ones_named(self):
        self.assertIn("tasks that are registered: echo",
                      self.refused(2, "add", "nothing"))

    def test_a_job_waits_for_its_time(self):
        soon = datetime.now(UTC) + timedelta(hours=1)
        jobs = [self.answer("show", self.add(*words)) for words in (
            ("--delay", "1h30m"), ("--at", soon.isoformat()),
            ("--delay", "10", "--before", "5m"), ("--later",))]
        self.assertEqual([job["status"] for job in jobs],
                         ["delayed", "delayed", "delayed", "start later"])
        moments = [datetime.fromisoformat(job["due"]) for job in jobs[:3]]
        created = datetime.fromisoformat(jobs[0]["created"])
        self.assertEqual(moments[0] - created, timedelta(minutes=90))
        self.assertEqual(moments[1], soon)
        self.assertEqual(datetime.fromisoformat(jobs[2]["deadline"]) - moments[2],
                         timedelta(minutes=5))
        self.assertIn("is queued", self.done("start", jobs[3]["id"]))
        self.assertEqual(self.answer("show", jobs[3]["id"])["status"], "queued")
        self.assertIn("not waiting", self.refused(1, "start", jobs[3]["id"]))

    def test_a_start_time_that_is_past_is_said(self):
        code, out, err = self.run_cli("add", "echo", "--at", "2001-01-01T12:00")
        self.assertEqual(code, 0)
        self.assertEqual(
            err, "remotetask: --at 2001-01-01T12:00 is past: the job starts at once\n")
        self.assertEqual(self.answer("show", int(out))["status"], "queued")

    def test_bad_options_are_refused(self):
        for words in (("--delay", "soon"), ("--at", "tomorrow"), ("--before", "x"),
                      ("--priority", "high"), ("--retries", "-1"),
                      ("--timeout", "0"), ("--title", "a\x07b"),
                      ("--delay", "1", "--at", "12:00"), ("--wait", "long"),
                      ("--unique", "--unique-key", "x"), ("--unique-key", ""),
                      ("--unique-for", "5"), ("--duplicate", "replace"),
                      ("--unique", "--duplicate", "perhaps"), ("--lock", "")):
            with self.subTest(words):
                self.refused(2, "add", "echo", *words)
        self.assertEqual(self.answer("list")["jobs"], [])

    def test_a_job_holds_locks(self):
        id = self.add("--lock", "customer-7", "--lock", "importers=3", "--lock", "a=1=1",
                      "--lock", "=9", "--lock", "b=c")
        self.assertEqual(self.answer("show", id)["locks"], {
            "customer-7": 1, "importers": 3, "a=1": 1, "=9": 1, "b=c": 1})
        self.assertRegex(self.done("show", id),
                         r"(?m)^Locks +=9, a=1=1, b=c, customer-7, importers=3$")
        cron = int(self.done("cron", "add", "echo", "@daily", "--lock", "customer-7"))
        self.assertEqual(self.answer("show", cron)["locks"], {"customer-7": 1})
        self.assertIn("locks", self.refused(2, "add", "echo", "--lock", "importers=0"))

    def test_one_job_stands_for_many_adds(self):
        first = self.answer("add", "echo", "1", "--unique", "--unique-for", "1h")
        self.assertTrue(first["made"])
        again = dict(first, made=False)
        self.assertEqual(self.answer("add", "echo", "1", "--unique"), again)
        code, out, err = self.run_cli("add", "echo", "1", "--unique")
        self.assertEqual((code, int(out)), (0, first["id"]))
        self.assertEqual(self.answer("show", first["id"])["merged"], 2)
        self.assertTrue(self.answer("add", "echo", "2", "--unique")["made"])
        self.process()
        self.assertEqual(self.answer("add", "echo", "1", "--unique"), again)
        self.assertTrue(self.answer("add", "echo", "2", "--unique")["made"])

    def test_what_would_rather_not_wait_is_refused(self):
        words = "--lock", "a", "--at-limit", "refuse"
        self.add("1", *words)
        self.assertIn("lock:a is reached: 1 of 1", self.refused(1, "add", "echo", *words))
        self.add("1", *words[:2], "--at-limit", "wait")

    def test_one_that_waits_is_replaced(self):
        first = self.add("1", "--unique-key", "nightly")
        second = self.add("2", "--unique-key", "nightly", "--duplicate", "replace")
        self.assertNotEqual(first, second)
        self.assertEqual(self.answer("show", first)["reason"], "replaced")
        self.assertEqual(second, self.add("3", "--unique-key", "nightly", "--duplicate",
                                          "allow-running"))

    def test_waiting_where_nobody_works_says_so(self):
        code, out, err = self.run_cli("add", "echo", "--wait", "0")
        self.assertEqual((code, out), (4, ""))
        self.assertIn("nobody works here", err)
        self.assertIn("`remotetask run` or `work`", err)
        err = self.refused(4, "add", "echo", "--wait", "0", "--db", self.file)
        self.assertIn(f"`remotetask work --db {self.file}`", err)

    def test_the_bar_is_gone_before_the_answer_is_given(self):
        screen = Screen()
        with redirect_stdout(screen), redirect_stderr(screen):
            self.assertEqual(main(["add", "echo", "--wait", "0.2"]), 4)
        bar, _, answer = screen.getvalue().rpartition("\r")
        self.assertRegex(bar, r"^\rjob \d+ queued")
        self.assertTrue(answer.startswith("remotetask: job "), answer)

    def test_what_to_do_next_names_the_place_and_the_service(self):
        screen = Screen()
        with redirect_stdout(screen), redirect_stderr(screen):
            main(["add", "echo", "--db", str(self.directory), "--service", "@tasks"])
            main(["cron", "add", "echo", "@daily"])
        self.assertIn(f" --db {self.directory} --service @tasks\n", screen.getvalue())
        self.assertIn("remotetask cron list shows", screen.getvalue())

    def test_a_module_with_tasks_is_imported(self):
        (self.directory / "its_tasks.py").write_text(
            "from lovely.remotetask.task import task\n"
            "task('imported')(lambda input: input)\n")
        with mock.patch.object(sys, "path", [str(self.directory), *sys.path]):
            self.addCleanup(sys.modules.pop, "its_tasks", None)
            self.done("add", "imported", "--import", "its_tasks")
        self.assertIn("no_such_module", self.refused(
            2, "add", "echo", "--import", "no_such_module"))

    def test_a_module_in_the_current_directory_is_found(self):
        (self.directory / "here_tasks.py").write_text(
            "from lovely.remotetask.task import task\n"
            "task('here')(lambda input: input)\n")
        self.addCleanup(sys.modules.pop, "here_tasks", None)
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.directory)
        elsewhere = [path for path in sys.path if path not in ("", before)]
        with mock.patch.object(sys, "path", elsewhere):
            self.done("add", "here", "--import", "here_tasks")

    def test_zcml_with_tasks_is_executed(self):
        path = self.directory / "its.zcml"
        path.write_text(
            '<configure xmlns:r="http://namespaces.zope.org/remotetask">'
            '<r:task name="configured" component="lovely.remotetask.task.echoTask" />'
            '</configure>')
        self.done("add", "configured", "--zcml", path)
        path.write_text("<configure><no-such /></configure>")
        self.assertIn("no-such", self.refused(2, "add", "echo", "--zcml", path))


class Reading(CommandCase):

    def test_a_list_shows_the_newest_first_and_goes_on_where_it_ended(self):
        ids = [self.add(str(number)) for number in range(5)]
        first = self.answer("list", "--limit", 2)
        second = self.answer("list", "--limit", 2, "--after", first["after"])
        third = self.answer("list", "--limit", 2, "--after", second["after"])
        self.assertEqual([job["id"] for page in (first, second, third)
                          for job in page["jobs"]], ids[::-1])
        self.assertIsNone(third["after"])

    def test_a_list_is_filtered(self):
        self.task("other", str)
        with self.database() as root:
            root["tasks"].add("other", tags=("x",))
        self.add("--tag", "x")
        self.add("--later")
        for words, number in ((("--task", "other"), 1), (("--tag", "x"), 2),
                              (("--status", "start-later"), 1),
                              (("--status", "start later"), 1),
                              (("--owner", "bob"), 0),
                              (("--tag", "x", "--task", "echo"), 1)):
            with self.subTest(words):
                self.assertEqual(len(self.answer("list", *words)["jobs"]), number)
        self.assertEqual(self.done("list", "--owner", "bob"), "No jobs.\n")
        self.assertIn("one of", self.refused(2, "list", "--status", "nonsense"))
        self.assertIn("--after", self.refused(2, "list", "--after", "nonsense"))
        self.refused(2, "list", "--limit", "0")

    def test_a_table_fits_80_columns_and_times_have_their_offset(self):
        self.task("a.task.with.a.rather.long.name." * 3, str)
        with self.database() as root:
            root["tasks"].add("a.task.with.a.rather.long.name." * 3, title="t" * 200)
        lines = self.done("list").splitlines()
        self.assertEqual(len(lines), 2)
        self.assertLessEqual(max(map(len, lines)), 80)
        self.assertRegex(lines[1], r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}")

    def test_everything_about_a_job_is_shown(self):
        def fail(input):
            raise TaskError(NASTY)
        self.task("failing", fail)
        with self.database() as root:
            id = root["tasks"].add("failing", {"k": NASTY})
            root["tasks"].process()
        code, out, err = self.run_cli("show", id, "--traceback")
        self.assertEqual((code, err), (0, ""))
        for part in ("Status     error", "Attempt 1: error", "TaskError", "in fail",
                     "Attempts   1, 1 failure\n",
                     "Error      red"):
            self.assertIn(part, out)
        self.assertTrue(all(c == "\n" or c.isprintable() for c in out), repr(out))
        self.assertIn("\u00fc", out)
        job = self.answer("show", id)
        self.assertEqual(job["input"], {"k": NASTY})
        self.assertEqual(job["attempts"][0]["kind"], "TaskError")
        self.assertNotIn("raise TaskError", self.done("show", id))

    def test_what_a_job_has_logged_is_shown_when_asked_for(self):
        def chatty(input):
            context().logger.info("one %s", NASTY)
            context().logger.warning("two")
        self.task("chatty", chatty)
        with self.database() as root:
            id = root["tasks"].add("chatty")
            root["tasks"].process()
        self.assertIn("(2 lines logged, --log shows them)\n", self.done("show", id))
        out = self.done("show", id, "--log")
        self.assertRegex(out, r"1  \d{4}-.*  INFO +one .*\n(.*\n)*1  .*  WARNING +two\n")
        self.assertTrue(all(c == "\n" or c.isprintable() for c in out), repr(out))
        job = self.answer("show", id)
        self.assertEqual([(line["attempt"], line["level"], line["text"][:3])
                          for line in job["log"]],
                         [(1, "INFO", "one"), (1, "WARNING", "two")])
        self.assertEqual(job["logLost"], 0)

    def test_an_unknown_job_is_one_message(self):
        self.assertEqual(
            self.refused(2, "show", 5),
            "remotetask: no job 5: it was never added here, or was removed\n")
        self.refused(2, "show", "five")

    def test_an_input_of_an_unknown_class_does_not_hide_the_job(self):
        import types
        module = types.ModuleType("vanished")
        exec("class Thing:\n    pass", module.__dict__)
        with mock.patch.dict(sys.modules, vanished=module), self.database() as root:
            provideUtility(SimpleTask(str), ITask, name="echo")
            id = root["tasks"].add("echo", module.Thing())
        job = self.answer("show", id)
        self.assertEqual(job["task"], "echo")
        self.assertIn("Thing", json.dumps(job["input"]))
        self.assertEqual(len(self.answer("list")["jobs"]), 1)

    def test_the_status_tells_counts_queue_and_next_runs(self):
        self.add(), self.add("--later")
        cron = int(self.done("cron", "add", "echo", "0 2 * * *"))
        self.process()
        self.add()
        [found] = self.answer("status")
        self.assertEqual(found["counts"], {
            **dict.fromkeys(lifecycle.STATUSES, 0), "queued": 1, "start later": 1,
            "completed": 1, "cronjob": 1})
        self.assertEqual(found["queueLength"], 1)
        self.assertGreater(found["oldestWaiting"], 0)
        self.assertEqual([run["id"] for run in found["next"]], [cron])
        self.assertIsNone(found["processedBy"])
        text = self.done("status")
        for part in ("Service   @tasks  (/tasks)", "no process that is known of",
                     "1 waiting", "NEXT RUN"):
            self.assertIn(part, text)

    def test_reading_goes_on_beside_the_writer_and_with_a_stale_index(self):
        id = self.add()
        opened = self.database()
        with opened as root:
            root["more"] = 1
            transaction.commit()
            self.assertEqual(self.answer("show", id)["status"], "queued")
            self.file.with_suffix(".fs.index").write_bytes(b"no index at all")
            self.assertEqual(self.answer("show", id)["status"], "queued")
            # A transaction that is just being written.
            size = self.file.stat().st_size
            with open(self.file, "ab") as file:
                file.write(opened.db.lastTransaction() + b"half a transaction")
            self.assertEqual(self.answer("show", id)["status"], "queued")
            os.truncate(self.file, size)
        self.assertEqual(sorted(self.directory.glob("*.tr*")), [])

    def test_no_reading_command_writes_anything(self):
        id = self.add()
        before = self.file.read_bytes()
        for words in (("list",), ("show", id), ("status",), ("check",), ("cron", "list")):
            self.done(*words)
        self.assertEqual(self.file.read_bytes(), before)


class Steering(CommandCase):

    def failed_jobs(self, number=3, **options):
        def fail(input):
            raise TaskError(f"no luck with {input}")
        self.task("failing", fail)
        with self.database() as root:
            ids = [root["tasks"].add("failing", count, **options)
                   for count in range(number)]
            root["tasks"].process()
        return ids

    def status_of(self, *ids):
        return [self.answer("show", id)["status"] for id in ids]

    def test_jobs_are_cancelled_each_by_itself(self):
        first, second = self.add(), self.add()
        code, out, err = self.run_cli("cancel", first, 5, second)
        self.assertEqual(code, 2)
        self.assertEqual(out, f"job {first} is cancelled\njob {second} is cancelled\n")
        self.assertIn("no job 5", err)
        self.assertEqual(self.status_of(first, second), ["cancelled", "cancelled"])
        self.assertIn("nothing to cancel", self.refused(1, "cancel", first))

    def test_the_answer_in_json_tells_what_became_of_each(self):
        id = self.add()
        code, out, err = self.run_cli("cancel", id, 5, "--json")
        self.assertEqual((code, err), (2, ""))
        good, bad = json.loads(out)
        self.assertEqual((good["id"], good["error"]), (id, None))
        self.assertEqual((bad["id"], bad["error"]["kind"]), (5, "UnknownJob"))

    def test_jobs_are_retried_by_number(self):
        ids = self.failed_jobs()
        self.done("retry", *ids[:2])
        self.assertEqual(self.status_of(*ids), ["queued", "queued", "error"])
        self.assertIn("cannot become queued", self.refused(1, "retry", self.add()))
        self.refused(2, "retry")
        self.refused(2, "retry", ids[0], "--all")
        self.refused(2, "retry", ids[0], "--task", "failing")

    def test_all_that_match_are_retried(self):
        ids = self.failed_jobs(250, tags=("t",))
        for words, number in ((("--task", "other"), 0), (("--tag", "none"), 0),
                              (("--older", "1h"), 0), (("--error", "with 24"), 11),
                              (("--error", "NO LUCK", "--tag", "t", "--limit", 5), 5),
                              ((), 234)):
            with self.subTest(words):
                self.assertEqual(self.answer("retry", "--all", *words),
                                 dict(matched=number, retried=number))
        self.assertEqual(set(self.status_of(*ids[::50])), {"queued"})

    def test_jobs_are_removed(self):
        id, other = self.add(), self.add()
        self.process()
        self.done("remove", id)
        self.refused(2, "show", id)
        waiting = self.add()
        cron = int(self.done("cron", "add", "echo", "@daily"))
        for each, what in ((waiting, "queued"), (cron, "a cron job")):
            self.assertEqual(
                self.refused(1, "remove", each), f"remotetask: job {each} is {what}: "
                "cancel it before you remove it\n")
        code, out, _ = self.run_cli("remove", waiting, "--json")
        self.assertEqual(json.loads(out)[0]["error"]["kind"], "IllegalMove")
        self.assertEqual(self.status_of(other, waiting), ["completed", "queued"])

    def test_cleaning_goes_in_small_steps_and_takes_only_what_was_asked_for(self):
        with self.database() as root:
            provideUtility(SimpleTask(str), ITask, name="echo")
            root["tasks"].addMany("echo", range(450))
            root["tasks"].process()
        failed = self.failed_jobs()
        waiting = self.add()
        asked = []
        perform = verbs.VERBS["clean"].function

        def counted(service, tell, **words):
            answer = perform(service, tell, **words)
            asked.append(answer["removed"])
            return answer
        with mock.patch.dict(verbs.VERBS, clean=verbs.Verb(counted, True, True)):
            self.assertEqual(self.answer("clean", "--status", "completed"),
                             {"removed": {"completed": 450}})
        self.assertLessEqual(max(asked), verbs.BATCH)
        self.assertEqual(self.status_of(*failed, waiting), ["error"] * 3 + ["queued"])
        self.assertEqual(self.answer("clean", "--older", "1d")["removed"],
                         {"cancelled": 0, "completed": 0, "error": 0})
        self.assertIn("3 jobs removed, error", self.done("clean"))
        self.assertIn("cannot be removed", self.refused(2, "clean", "--status", "queued"))
        self.assertEqual(len(self.answer("list")["jobs"]), 1)
        self.assertEqual(self.answer("check")[0]["faults"], [])


class Checking(CommandCase):

    services = ("other", "tasks")

    def damage(self):
        with self.database() as root:
            root["tasks"].index.sizes["error"].change(3)

    def test_agreeing_books_are_0_and_faults_are_1(self):
        self.assertEqual(self.done("check"),
                         "@other: 0 jobs, no faults\n@tasks: 0 jobs, no faults\n")
        self.damage()
        code, out, err = self.run_cli("check")
        self.assertEqual((code, err), (1, ""))
        self.assertIn("@tasks: the counter of error is 3, counted are 0", out)
        self.assertIn("1 fault; --repair", out)
        self.assertEqual(self.run_cli("check", "--service", "other")[0], 0)
        self.assertEqual(self.run_cli("check", "--service", "tasks")[0], 1)

    def test_faults_are_repaired(self):
        self.damage()
        self.assertIn("1 fault, all repaired", self.done("check", "--repair"))
        self.done("check")
        [_, found] = self.answer("check", "--repair")
        self.assertEqual(found, dict(service="@tasks", jobs=0, faults=[], left=[]))


class Crons(CommandCase):

    def test_a_cron_job_is_added_listed_paused_resumed_and_run(self):
        id = int(self.done("cron", "add", "echo", "*/5 2-4 * * mon", '"tick"',
                           "--timezone", "Europe/Vienna", "--overlap", "queue-one",
                           "--missed", "all", "--title", "ticker"))
        [cron] = self.answer("cron", "list")
        self.assertEqual(
            [cron[name] for name in ("id", "schedule", "timezone", "overlap", "missed",
                                     "paused", "title")],
            [id, "*/5 2-4 * * mon", "Europe/Vienna", "queue one", "all", False, "ticker"])
        next = cron["next"]  # though nobody has worked here yet
        self.assertEqual(len(next), 3)
        self.process()
        [cron] = self.answer("cron", "list")
        self.assertEqual(cron["next"], next)
        self.assertRegex(self.done("cron", "list"), r"\*/5 2-4 \* \* mon +echo +ticker")
        self.assertIn("is paused", self.done("cron", "pause", id))
        self.assertIn("paused", self.done("cron", "list"))
        self.assertEqual(self.answer("cron", "list")[0]["next"], [])
        self.done("cron", "resume", id)
        self.assertFalse(self.answer("cron", "list")[0]["paused"])
        [run] = self.answer("cron", "run", id)
        self.assertEqual(self.answer("show", run["answer"])["parent"], id)
        self.process()
        self.assertIn("completed", self.done("cron", "list"))
        self.assertIn("tick", self.done("show", id))
        self.done("cancel", id)
        self.assertEqual(self.done("cron", "list"), "No cron jobs.\n")

    def test_a_bad_schedule_or_zone_is_refused(self):
        for words in (("99 * * * *",), ("0 0 30 2 *",), ("soon",),
                      ("* * * * *", "--timezone", "Nowhere/At_All"),
                      ("* * * * *", "--missed", "some"), ()):
            with self.subTest(words):
                self.refused(2, "cron", "add", "echo", *words)
        self.assertEqual(self.answer("cron", "list"), [])

    def test_only_cron_jobs_are_paused_resumed_and_run(self):
        id = self.add()
        for verb in ("pause", "resume"):
            self.assertIn(f"job {id} is no cron job", self.refused(1, "cron", verb, id))
        self.assertIn("no cron job", self.refused(2, "cron", "run", id))
        self.refused(2, "cron", "run", 5)

    def test_an_empty_list_says_so(self):
        self.assertEqual(self.done("cron", "list"), "No cron jobs.\n")


class Services(CommandCase):

    services = ("other", "tasks")

    def test_with_several_one_must_be_said(self):
        message = self.refused(2, "list")
        self.assertIn("--service", message)
        self.assertIn("@other, @tasks", message)

    def test_a_service_goes_by_name_directive_and_path(self):
        for name in ("tasks", "@tasks", "root@tasks", "/tasks"):
            self.assertEqual(self.answer("list", "--service", name)["jobs"], [])
        for name in ("nothing", "@nothing", "/nothing", "nowhere@tasks", "a@b@c", "",
                     "/tasks/jobs", "@"):
            with self.subTest(name):
                self.assertIn("there is no service",
                              self.refused(2, "list", "--service", name))

    def test_the_one_that_starts_by_itself_is_meant(self):
        from lovely.remotetask import settings
        self.addCleanup(settings.reload)
        with mock.patch.dict(os.environ, REMOTETASK_AUTOSTART="@tasks"):
            settings.reload()
            id = self.add()
        self.assertEqual(self.answer("show", id, "--service", "tasks")["id"], id)

    def test_services_in_sites_are_found(self):
        from zope.site.folder import Folder, rootFolder
        from zope.site.site import LocalSiteManager

        from lovely.remotetask.interfaces import ITaskService
        with self.database() as root:
            top = root["Application"] = rootFolder()
            top.setSiteManager(LocalSiteManager(top))
            top["site"] = Folder()
            top["site"].setSiteManager(LocalSiteManager(top["site"]))
            for place in (top, top["site"]):
                manager = place.getSiteManager()
                manager["default"]["tasks"] = service = TaskService()
                manager.registerUtility(service, ITaskService, "tasks")
        found = [(each["directive"], each["path"]) for each in self.answer("status")]
        self.assertEqual(found, [
            ("@tasks", "/++etc++site/default/tasks"),
            ("site@tasks", "/site/++etc++site/default/tasks"),
            ("/other", "/other"), ("/tasks", "/tasks")])
        for directive, path in found:
            for name in (directive, path):
                [each] = self.answer("status", "--service", name)
                self.assertEqual(each["path"], path)
        self.assertIn("several", self.refused(2, "list", "--service", "tasks"))
        self.done("add", "echo", "--service", "site@tasks")


class NoServices(CommandCase):

    services = ()

    def test_a_database_without_service_says_how_to_make_one(self):
        self.assertIn("TaskService()", self.refused(2, "list"))
        self.assertEqual(self.done("status"), "No services.\n")
        self.assertEqual(self.done("check"), "No services.\n")

    def test_an_application_of_an_unknown_class_is_named(self):
        import types

        from persistent.mapping import PersistentMapping
        module = types.ModuleType("vanished")
        module.Shop = type("Shop", (PersistentMapping,), {"__module__": "vanished"})
        with mock.patch.dict(sys.modules, vanished=module), self.database() as root:
            root["Application"] = module.Shop()
        self.assertIn("Shop of vanished", self.refused(2, "status"))


class TheDatabase(CommandCase):

    def test_what_is_not_there_is_said(self):
        empty = self.directory / "empty"
        empty.mkdir()
        for where, part in (
                (self.directory / "nothing", "there is no"),
                (empty, "no zope.conf and no Data.fs"),
                ("file:///no/where/Data.fs", "there is no"),
                (f"zeo://{self.directory}/no-socket?wait_timeout=1", "does not answer")):
            with self.subTest(where):
                for command in (("list",), ("add", "echo")):
                    self.assertIn(part, self.refused(3, *command, "--db", where))
        self.assertEqual(sorted(empty.iterdir()), [])

    def test_a_damaged_file_is_refused_with_the_way_out(self):
        path = self.directory / "torn.fs"
        ZODB.DB(FileStorage(str(path))).close()
        data = path.read_bytes()
        path.write_bytes(data[:-60] + bytes(60))
        path.with_name("torn.fs.index").unlink()
        self.assertIn("ZODB.fsrecover", self.refused(3, "list", "--db", path))

    def test_what_is_no_database_is_said(self):
        path = self.directory / "text.fs"
        path.write_text("This is a text and no database at all.")
        self.assertIn("is no Data.fs\n", self.refused(3, "list", "--db", path))
        old = self.directory / "old.fs"
        old.write_bytes(b"FS21" + bytes(200))
        self.assertIn("Python 2", self.refused(3, "list", "--db", old))
        (self.directory / "empty.fs").touch()
        self.assertIn("is empty", self.refused(
            3, "list", "--db", self.directory / "empty.fs"))
        for name in ("script.py", "some"):
            other = self.directory / name
            other.write_text("print('<zodb>')")
            self.assertIn(f"{other} is no zope.conf, Data.fs or URI\n",
                          self.refused(2, "list", "--db", other))
        conf = self.directory / "some.conf"
        conf.write_text("nonsense in here")
        self.refused(2, "list", "--db", conf)
        for uri in ("nothing://x", "http://x/y", "sqlite://path", "memory://x?nonsense=1"):
            if uri.startswith("sqlite") and not find_spec("relstorage"):
                continue
            with self.subTest(uri):
                self.refused(2, "list", "--db", uri)

    def test_a_directory_a_file_and_a_uri_name_the_same(self):
        id = self.add()
        for where in (self.directory, self.file, f"file://{self.file}"):
            self.assertEqual(self.answer("show", id, "--db", where)["id"], id)

    def test_it_may_be_named_before_the_command(self):
        id = self.add()
        with mock.patch.dict(os.environ, {databases.VARIABLE: "/no/where"}):
            self.assertEqual(self.answer("--db", self.file, "show", id)["id"], id)
            self.assertIn("elsewhere", self.refused(
                3, "--db", self.file, "list", "--db", "elsewhere"))
        self.assertIn("run DIRECTORY", self.refused(2, "--db", self.file, "run"))

    def test_the_default_is_var_in_the_current_directory(self):
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        del os.environ[databases.VARIABLE]
        os.chdir(self.directory)
        self.assertIn("there is no var", self.refused(3, "list"))
        (self.directory / "var").symlink_to(self.directory)
        self.done("list")

    def test_one_that_another_process_has_and_does_not_share_is_said(self):
        with self.database(), mock.patch("lovely.remotetask.cli.desk.PATIENCE_SECONDS", 0.2):
            message = self.refused(3, "add", "echo")
        self.assertIn(f"in use by process {os.getpid()}", message)

    def test_one_that_another_command_has_for_a_moment_is_waited_for(self):
        opened = self.database()
        transaction.abort()
        timer = threading.Timer(0.3, opened.db.close)
        timer.start()
        self.addCleanup(timer.join)
        self.add()


class Words(unittest.TestCase):
    """Times, tables, bars and plain values."""

    def test_durations(self):
        for words, seconds in (("90", 90), ("0", 0), ("1.5h", 5400), ("1h30m", 5400),
                               ("2d", 172_800), ("1w", 604_800), ("1 m", 60),
                               ("10S", 10)):
            self.assertEqual(times.duration(words), seconds, words)
        for words in ("", "h", "1x", "-5", "1h30", "1..5", "1e3", "inf"):
            with self.assertRaises(BadArgument, msg=words):
                times.duration(words)

    def test_moments(self):
        self.assertEqual(times.moment("2027-01-31T14:30+01:00"),
                         datetime(2027, 1, 31, 13, 30, tzinfo=UTC))
        local = times.moment("2027-01-31 14:30")
        self.assertEqual(local.replace(tzinfo=None), datetime(2027, 1, 31, 14, 30))
        self.assertIsNotNone(local.tzinfo)
        soon = times.moment("14:30")
        self.assertEqual((soon.hour, soon.minute), (14, 30))
        left = soon - datetime.now(UTC)
        self.assertTrue(timedelta(0) < left <= timedelta(hours=25), left)
        for words in ("", "25:00", "12:60", "soon", "2027-02-30"):
            with self.assertRaises(BadArgument, msg=words):
                times.moment(words)

    def test_spans(self):
        self.assertEqual(
            [times.span(seconds) for seconds in (0, 9.96, 90, 300, 9_000, 200_000)],
            ["0.0 s", "10.0 s", "90 s", "5 min", "2 h", "2 days"])

    def test_a_table_is_aligned_and_fits(self):
        lines = output.table(("ID", "TASK", "TITLE"), [
            (1, "a" * 60, "b" * 60), (22, "\u65e5\u672c", NASTY)], 60)
        self.assertTrue(all(output.wide(line) <= 60 for line in lines), lines)
        self.assertTrue(lines[0].startswith("ID  TASK"))
        self.assertIn("...", lines[1])
        column = output.wide(lines[2][:lines[2].index("red")])
        self.assertEqual(lines[1].index("bbb"), column)

    def test_nothing_that_a_terminal_obeys_gets_through(self):
        self.assertEqual(output.safe(NASTY), "red \\x1b[31m bell \\x07 two\\nlines "
                                             "\\u202e \u00fc")
        self.assertTrue(output.safe("x" * 10_000).endswith("..."))
        self.assertEqual(output.block("a\x1b\nb"), ["a\\x1b", "b"])

    def test_a_bar_is_for_terminals_only(self):
        for stream, shown in ((io.StringIO(), False), (Screen(), True)):
            with output.Bar("work", stream) as bar:
                bar(5, 10, NASTY)
            self.assertEqual(bool(stream.getvalue()), shown)
            if shown:
                self.assertIn("[###############               ] 5 of 10",
                              stream.getvalue())
                self.assertNotIn("\x1b", stream.getvalue())

    def test_values_are_plain_and_what_json_cannot_say_is_shown(self):
        class Bad:
            def __repr__(self):
                raise RuntimeError("no")
        deep = []
        deep.append(deep)
        self.assertEqual(plain.value({"a": (1, [None, True, 2.5])}),
                         {"a": [1, [None, True, 2.5]]})
        for found in ({1: 2}, {1, 2}, b"x", float("nan"), Bad(), deep, datetime.now()):
            json.dumps(plain.value(found), allow_nan=False)
        self.assertEqual(plain.value({1: 2}), {"repr": "{1: 2}"})
        self.assertIn("RuntimeError", plain.value(Bad())["repr"])


class Help(unittest.TestCase):

    def commands(self):
        """(words, parser) of every command."""
        def walk(parser, words):
            for action in parser._actions:
                if hasattr(action, "choices") and isinstance(action.choices, dict):
                    for name, each in action.choices.items():
                        yield [*words, name], each
                        yield from walk(each, [*words, name])
        return list(walk(arguments.parser(), []))

    def test_every_command_has_help_with_examples_that_can_be_typed(self):
        import shlex
        self.assertGreater(len(self.commands()), 15)
        for words, parser in self.commands():
            text = parser.format_help()
            self.assertLessEqual(max(map(len, text.splitlines())), 80, words)
            if words == ["cron"]:
                continue
            examples = [line.partition("   ")[0] if "(prints" in line else line
                        for line in (each.strip() for each in parser.epilog.splitlines())
                        if line.startswith("remotetask ")]
            self.assertTrue(examples, words)
            for example in examples:
                options = arguments.parse(shlex.split(example)[1:])
                self.assertTrue(callable(options.command))

    def test_every_command_that_answers_can_do_it_in_json(self):
        for words, parser in self.commands():
            if words not in (["run"], ["work"], ["zeo"], ["cron"]):
                self.assertIn("--json", parser.format_help(), words)

    def test_help_ends_with_0_and_a_wrong_command_with_2(self):
        for words, code in ((["--help"], 0), (["add", "--help"], 0), ([], 2),
                            (["nonsense"], 2), (["add"], 2), (["--version"], 0)):
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), \
                    self.assertRaises(SystemExit) as leave:
                main(words)
            self.assertEqual(leave.exception.code, code, words)


class WhatGoesWrong(CommandCase):

    def test_an_unforeseen_error_is_one_line_unless_more_is_wanted(self):
        broken = verbs.Verb(lambda service, tell, **words: 1 / 0, False, True)
        with mock.patch.dict(verbs.VERBS, list=broken):
            message = self.refused(1, "list")
            self.assertIn("ZeroDivisionError", message)
            self.assertIn("--verbose", message)
            with self.assertRaises(ZeroDivisionError), redirect_stderr(io.StringIO()):
                main(["list", "--verbose"])

    def test_an_interrupt_is_130(self):
        def interrupted(service, tell, **words):
            raise KeyboardInterrupt
        with mock.patch.dict(verbs.VERBS, list=verbs.Verb(interrupted, False, True)):
            self.assertIn("interrupted", self.refused(130, "list"))

    def test_a_verb_that_always_conflicts_ends_with_1(self):
        from ZODB.POSException import ConflictError

        def conflicting(service, tell, **words):
            raise ConflictError("again")
        with mock.patch.dict(verbs.VERBS, cancel=verbs.Verb(conflicting, True, True)), \
                mock.patch.object(verbs, "TRIES", 3):
            self.assertIn("3 times in a row", self.refused(1, "cancel", 5))

    def test_a_conflict_is_tried_again(self):
        from ZODB.POSException import ConflictError
        add, tries = verbs.VERBS["add"].function, []

        def once(service, tell, **words):
            answer = add(service, tell, **words)
            tries.append(answer)
            if len(tries) == 1:
                raise ConflictError("again")
            return answer
        with mock.patch.dict(verbs.VERBS, add=verbs.Verb(once, True, True)):
            self.add()
        self.assertEqual(len(tries), 2)
        self.assertEqual(len(self.answer("list")["jobs"]), 1)


if __name__ == "__main__":
    unittest.main()
