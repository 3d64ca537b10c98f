"""The example of examples/library: complete, exact, and found again."""
import ast
import contextlib
import gc
import io
import os
import random
import re
import signal
import subprocess
import sys
import threading
import tokenize
import unittest
from pathlib import Path
from unittest import mock

import transaction
import ZODB
from transaction.interfaces import TransientError
from ZODB.FileStorage import FileStorage
from zope.configuration import xmlconfig

import lovely.remotetask
from lovely.remotetask import lifecycle, processor
from lovely.remotetask.limits import Limit
from lovely.remotetask.startup import application
from lovely.remotetask.tests import support

SOURCE = Path(lovely.remotetask.__path__[0]).resolve().parents[1]
EXAMPLES = SOURCE.parent / "examples"
if EXAMPLES.is_dir():
    sys.path.append(str(EXAMPLES))
    import library
    from library import __main__ as command
    from library import progress, reading, recount, tasks, words
    from library.shelves import Library

BOUND = 240  # seconds that a process may take between two kills

SHELF = {
    "json/__init__.py": '"""JSON for all.\n\nMore of it."""\ndef loads(text): "Read."\n',
    "json/decoder.py": '"""Reads JSON."""\nclass JSONDecoder:\n'
                       '    def raw_decode(self):\n        """Decode one value."""\n',
    "broken.py": "def this is no Python\n",
    "latin.py": "# -*- coding: latin-1 -*-\n'''Über alles.'''\n",
    "empty.py": "",
}


@unittest.skipUnless(EXAMPLES.is_dir(), "the examples are not here")
class ExampleCase(support.ServiceCase):
    """A service, and a library of a few files in a directory of its own."""

    storage = "mapping"

    def setUp(self):
        super().setUp()
        self.shelf = Path(self.directory, "shelf")
        for path, text in SHELF.items():
            self.write(path, text)
        xmlconfig.file("configure.zcml", library)
        self.library = self.connection.root()[tasks.NAME] = Library(str(self.shelf))
        transaction.commit()

    def write(self, path, text):
        file = self.shelf / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode("latin-1"))

    def look_and_process(self):
        self.service.add(tasks.LOOK)
        self.service.process()
        transaction.commit()

    def paths(self, query):
        return sorted(answer.path for answer in self.library.search(query)[0])

    def jobs(self, task):
        return [job for job in self.service.jobs.values() if job.task == task]

    def entry(self, path):
        return self.library.files[path]


class Reading(unittest.TestCase):
    """What a source file says."""

    @classmethod
    def setUpClass(cls):
        if not EXAMPLES.is_dir():
            raise unittest.SkipTest("the examples are not here")

    def test_it_names_module_classes_functions_and_docstrings(self):
        found = reading.read("a/b.py", b'''"""First line,
        still first.

        Second."""
def outer():
    class Inner:
        async def method(self):
            """Does it."""
''')
        self.assertEqual(found.module, "a.b")
        self.assertEqual(found.summary, "First line, still first.")
        self.assertEqual(found.definitions, (
            ("function", "outer", 5), ("class", "outer.Inner", 6),
            ("function", "outer.Inner.method", 7)))
        self.assertEqual(words.words_of(found.text), [
            "first", "line", "still", "first", "second", "outer", "inner", "method",
            "does"])

    def test_a_package_is_named_by_its_directory(self):
        self.assertEqual(reading.module_of("a/__init__.py"), "a")
        self.assertEqual(reading.module_of("a/b.py"), "a.b")
        self.assertEqual(reading.module_of("__init__.py"), "__init__")

    def test_a_function_defined_under_a_condition_counts(self):
        found = reading.read("a.py", b"if x:\n  try:\n    pass\n  finally:\n    def f(): 1\n")
        self.assertEqual(found.definitions, (("function", "f", 5),))

    def test_the_encoding_is_the_one_that_the_file_names(self):
        source = "# coding: cp1252\n'''5 €'''\n".encode("cp1252")
        self.assertEqual(reading.read("a.py", source).summary, "5 €")

    def test_what_cannot_be_understood_says_why(self):
        for source, why in [
                (b"def", "SyntaxError"), (b"a\0", "SyntaxError|ValueError"),
                (b"# coding: klingon\n", "SyntaxError"), (b"'\xff'", "SyntaxError"),
                (b"# coding: ascii\n\xff", "UnicodeDecodeError"),
                (b"-" * 100_000 + b"1", "RecursionError|MemoryError")]:
            with self.subTest(source=source[:20]):
                found = reading.read("a.py", source)
                self.assertRegex(found.trouble, why)
                self.assertEqual(found.definitions, ())

    def test_threads_that_read_at_once_do_not_disturb_each_other(self):
        """An index job failed with "SystemError: AST constructor recursion depth
        mismatch": garbage was collected while a tree was made, another thread got its
        turn in there, and made a tree too: of another file, or to show a traceback.
        Python 3.11 does not expect that."""
        source = "\n".join(
            f"def f{n}(a, b=[{{1: (2, 3)}}]):\n    return [x for x in a if b[{n}](x)]"
            for n in range(400)).encode()
        found = []

        def work():
            for _ in range(5):
                try:
                    found.append(reading.read("a.py", source).count(reading.FUNCTION))
                except SystemError as error:
                    found.append(str(error))

        def show_tracebacks():
            while len(found) < 20:
                with contextlib.suppress(SystemError):
                    ast.parse(source)

        def take_a_turn(phase, info):
            sum(range(3_000))

        threads = [threading.Thread(target=target, daemon=True)
                   for target in [work] * 4 + [show_tracebacks]]
        interval = sys.getswitchinterval()
        sys.setswitchinterval(0.0005)
        gc.callbacks.append(take_a_turn)
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(support.BOUND)
        finally:
            gc.callbacks.remove(take_a_turn)
            sys.setswitchinterval(interval)
        self.assertEqual(found, [400] * 20)

    def test_half_a_surrogate_pair_can_be_stored(self):
        found = reading.read("a.py", b'"""\\udc80 text"""')
        self.assertEqual(found.text.encode().decode(), found.text)

    def test_a_name_is_found_by_each_of_its_words(self):
        self.assertEqual(words.words_of("JSONDecoder read_line2 HTTPServer2 plain"), [
            "jsondecoder", "json", "decoder", "read_line2", "read", "line2",
            "httpserver2", "http", "server2", "plain"])

    def test_words_that_were_split_once_are_not_split_again(self):
        for text in "read_line2", "JSONDecoder", "is_a_file", "readALine", "__init__":
            found = words.words_of(text)
            self.assertEqual(words.words_of(" ".join(found)), found)


class TheLibrary(ExampleCase):

    def test_every_file_is_indexed_once_and_reported(self):
        self.look_and_process()
        self.assertEqual(recount.compare(self.library, runs=1), [])
        self.assertEqual(len(self.jobs(tasks.INDEX)), len(SHELF))
        last = self.library.reporting.last
        self.assertEqual(
            (last["known"], last["indexed"], last["unreadable"], last["failed"]),
            (5, 4, 1, 0))
        self.assertEqual((last["classes"], last["functions"]), (1, 2))
        self.assertEqual(len(self.jobs(tasks.REPORT)), 1)

    def test_a_file_that_is_no_python_is_recorded_with_the_reason(self):
        self.look_and_process()
        self.assertIn("SyntaxError", self.entry("broken.py").trouble)
        self.assertEqual(self.service.counts()["error"], 0)

    def test_a_second_look_finds_nothing_to_do_and_writes_nothing(self):
        self.look_and_process()
        self.assertEqual(self.service.execute(tasks.LOOK),
                         {"new": 0, "changed": 0, "gone": 0})
        self.assertEqual(self.connection._registered_objects, [])

    def test_a_list_of_jobs_tells_the_files(self):
        self.service.execute(tasks.LOOK)
        titles = {job.title for job in self.service.listJobs(task=tasks.INDEX)[0]}
        self.assertEqual(titles, set(self.library.files))
        self.assertEqual(len(tasks.title_of("a/" * 200 + "b\x1b.py")), 200)

    def test_a_second_look_leaves_alone_what_waits(self):
        self.service.execute(tasks.LOOK)
        self.assertEqual(self.service.execute(tasks.LOOK)["new"], 0)
        self.assertEqual(len(self.jobs(tasks.INDEX)), len(SHELF))
        self.assertEqual(len(self.jobs(tasks.REPORT)), 1)

    def test_what_is_new_changed_or_gone_is_brought_up_to_date(self):
        self.look_and_process()
        self.write("new.py", '"""Brandnew."""')
        self.write("json/decoder.py", '"""Different words."""')
        (self.shelf / "latin.py").unlink()
        self.write("broken.py", '"""Mended."""')
        self.assertEqual(self.service.execute(tasks.LOOK),
                         {"new": 1, "changed": 2, "gone": 1})
        self.service.process()
        self.assertEqual(recount.compare(self.library), [])
        self.assertEqual(self.paths("brandnew OR different OR mended"),
                         ["broken.py", "json/decoder.py", "new.py"])
        self.assertEqual(self.paths("JSONDecoder OR über"), [])
        self.assertEqual(self.entry("json/decoder.py").runs, 2)
        self.assertEqual(self.entry("empty.py").runs, 1)
        self.assertEqual(self.library.reporting.last["known"], 5)

    def test_a_file_that_breaks_leaves_the_index(self):
        self.look_and_process()
        self.write("json/decoder.py", "class JSONDecoder(:")
        self.look_and_process()
        self.assertEqual(recount.compare(self.library), [])
        self.assertEqual(self.paths("jsondecoder"), [])

    def test_a_file_that_goes_while_its_job_waits_is_forgotten(self):
        self.service.execute(tasks.LOOK)
        (self.shelf / "latin.py").unlink()
        self.service.process()
        self.assertNotIn("latin.py", self.library.files)
        self.assertEqual(recount.compare(self.library, runs=1), [])

    def test_a_job_that_is_run_once_more_does_nothing(self):
        self.look_and_process()
        again = self.service.add(tasks.INDEX, "empty.py")
        self.service.process()
        self.assertEqual(self.service.getResult(again), "indexed already")
        self.assertEqual(recount.compare(self.library, runs=1), [])

    def test_a_cancelled_job_is_made_up_for(self):
        self.service.execute(tasks.LOOK)
        self.service.cancel(self.entry("empty.py").job)
        self.service.process()
        self.assertEqual(self.library.reporting.last["failed"], 1)
        self.look_and_process()
        self.assertEqual(recount.compare(self.library, runs=1), [])

    def test_an_error_stays_for_people_until_the_file_changes(self):
        self.service.execute(tasks.LOOK)
        job, read = self.service.getJob(self.entry("empty.py").job), reading.read
        job.retries = 0
        try:
            reading.read = None
            self.service.processNext(jobid=job.id)
        finally:
            reading.read = read
        self.assertEqual(job.status, lifecycle.ERROR)
        self.service.process()
        self.assertEqual(self.library.reporting.last["failed"], 1)
        self.assertEqual(self.service.execute(tasks.LOOK)["changed"], 0)
        self.write("empty.py", "'''No longer.'''")
        self.assertEqual(self.service.execute(tasks.LOOK)["changed"], 1)
        self.service.process()
        self.assertEqual(recount.compare(self.library, runs=1), [])

    def test_a_cron_job_looks_every_minute(self):
        tasks.begin(self.service)
        self.service.process()
        self.write("new.py", '"""Brandnew."""')
        [cron] = self.service.listJobs(status=lifecycle.CRONJOB)[0]
        self.service.process(cron.timeOfNextCall() + 1)
        self.assertEqual(self.paths("brandnew"), ["new.py"])
        self.assertEqual(recount.compare(self.library, runs=1), [])

    def test_the_directory_can_be_limited_to_the_first_files(self):
        self.library.limit = 2
        self.look_and_process()
        self.assertEqual(list(self.library.files), ["broken.py", "empty.py"])
        self.assertEqual(recount.compare(self.library, runs=1), [])

    def test_index_jobs_have_a_lane_of_width_one(self):
        self.assertEqual(self.service.knownLimits(),
                         {f"lane:{tasks.LANE}": Limit(f"lane:{tasks.LANE}", 1)})
        self.service.execute(tasks.LOOK)
        self.assertEqual({job.lane for job in self.service.jobs.values()}, {tasks.LANE})


class TheReport(ExampleCase):

    def test_a_report_that_comes_too_early_comes_again(self):
        self.service.execute(tasks.LOOK)
        early = self.library.reporting.job
        self.service.processNext(jobid=early)
        self.assertEqual(self.service.getResult(early), "5 files to go")
        later = self.library.reporting.job
        self.assertNotEqual(later, early)
        self.assertEqual(self.service.getStatus(later), lifecycle.DELAYED)
        self.service.process()
        self.assertIsNone(self.library.reporting.last)
        self.service.process(self.service.getJob(later).due.timestamp() + 1)
        self.assertEqual(self.library.reporting.last["indexed"], 4)

    def test_a_look_and_a_report_at_once_do_not_pass_each_other_unseen(self):
        """Each is right in what it sees: that a report is on its way, and that no
        file waits.  Together they would leave the new file unreported."""
        for first in tasks.REPORT, tasks.LOOK:
            with self.subTest(first=first):
                self.look_and_process()
                self.write(f"{first}.py", "")
                with self.elsewhere() as service:
                    tasks.ask_for_report(service, tasks.library_of(service))
                self.look()
                if first == tasks.REPORT:
                    self.report_meets_look()
                else:
                    self.look_meets_report()
                self.service.process()
                self.assertEqual(
                    self.library.reporting.last["known"], len(self.library.files))
                self.assertEqual(recount.compare(self.library, runs=1), [])

    def report_meets_look(self):
        self.service.execute(tasks.LOOK)
        with self.elsewhere() as service:
            service.processNext(jobid=tasks.library_of(service).reporting.job)
        with self.assertRaises(TransientError):
            transaction.commit()
        transaction.abort()
        self.service.execute(tasks.LOOK)

    def look_meets_report(self):
        self.service.processNext(jobid=self.library.reporting.job)
        with self.elsewhere() as service:
            service.execute(tasks.LOOK)
        with self.assertRaises(TransientError):
            transaction.commit()
        transaction.abort()


class Threads(ExampleCase):
    """Jobs that meet in the index."""

    level = 2
    storage = "file"
    factory = processor.MultiProcessor
    arguments = {"maxThreads": 4}

    def index_many(self):
        for number in range(40):
            text = " ".join(f"word{number % 7} only{number}x{n}" for n in range(30))
            self.write(f"many/file{number}.py", f'"""common {text}"""\ndef f{number}(): 1')
        self.start()
        self.service.add(tasks.LOOK)
        transaction.commit()
        self.wait_for(lambda: self.library.reporting.last, "for the report")
        self.wait_settled()
        self.assertEqual(recount.compare(self.library, runs=1), [])

    def test_the_index_is_exact_with_four_threads_that_meet(self):
        for name, task in tasks.make_tasks("", None).items():
            self.task(name, task.func, wantsContext=True, retryPolicy=tasks.PATIENCE)
        self.index_many()

    def test_a_lane_of_width_one_has_no_conflicts(self):
        self.index_many()
        self.assertEqual(self.library.counts()["conflicts"], 0)
        self.assertEqual(self.processor().dispatcher.conflicts, 0)


class TheRecount(ExampleCase):
    """It would see what it is there to see."""

    def check_sees(self, text, damage):
        self.look_and_process()
        self.assertEqual(recount.compare(self.library, runs=1), [])
        damage(self.library)
        self.assertRegex("\n".join(recount.compare(self.library, runs=1)), text)
        transaction.abort()

    def test_a_file_indexed_twice(self):
        def damage(library):
            library.files["empty.py"].runs += 1
        self.check_sees("empty.py.*indexed 2 times", damage)

    def test_a_lost_word(self):
        def damage(library):
            index = library.words.index
            del index._wordinfo[library.words.lexicon.get_wid("jsondecoder")]
        self.check_sees("words: missing: .*jsondecoder", damage)

    def test_a_wrong_counter(self):
        self.check_sees("counters of the index", lambda library:
                        library.words.index.documentCount.change(1))
        self.check_sees("totals", lambda library: library.totals["classes"].change(-1))

    def test_a_lost_document(self):
        self.check_sees("documents: missing", lambda library: library.words.unindex_doc(
            library.files["json/decoder.py"].docid))

    def test_a_file_that_was_never_looked_at(self):
        self.check_sees("files: missing: new.py", lambda library:
                        self.write("new.py", ""))


class Search(ExampleCase):

    def setUp(self):
        super().setUp()
        self.look_and_process()

    def test_words_answer_with_files(self):
        for query, paths in [
                ("json", ["json/__init__.py", "json/decoder.py"]),
                ("json decode", ["json/decoder.py"]),
                ("JSONDecoder", ["json/decoder.py"]),
                ("raw_decode", ["json/decoder.py"]),
                ("json NOT decode", ["json/__init__.py"]),
                ('"decode one value"', ["json/decoder.py"]),
                ('"value one"', []),
                ("deco*", ["json/decoder.py"]),
                ("JSONDec*", ["json/decoder.py"]),
                ("über", ["latin.py"]),
                ("nonsense", [])]:
            with self.subTest(query):
                self.assertEqual(self.paths(query), paths)

    def test_an_answer_names_what_the_words_stand_in(self):
        [answer], number = self.library.search("decode")
        self.assertEqual((answer.path, answer.module, answer.summary, number),
                         ("json/decoder.py", "json.decoder", "Reads JSON.", 1))
        self.assertEqual(answer.definitions,
                         [("function", "JSONDecoder.raw_decode", 3)])


class TheCommand(ExampleCase):

    storage = "file"

    def setUp(self):
        super().setUp()
        self.look_and_process()

    def run_command(self, *arguments, path=None):
        out, errors = io.StringIO(), io.StringIO()
        before, sys.stderr = sys.stderr, errors
        try:
            code = command.main(["--database", path or self.path, *arguments], out)
        finally:
            sys.stderr = before
        return code, out.getvalue(), errors.getvalue()

    def test_it_answers_while_the_database_is_in_use(self):
        code, said, _ = self.run_command("search", "raw_decode")
        self.assertEqual(code, 0)
        self.assertEqual(said, (
            "json/decoder.py   Reads JSON.\n"
            "    function JSONDecoder.raw_decode, line 3\n"
            "1 file\n"))

    def test_it_says_what_could_not_be_understood(self):
        code, said, _ = self.run_command("report")
        self.assertEqual(code, 0)
        self.assertIn("5 files with 1 classes and 2 functions", said)
        self.assertIn("broken.py: SyntaxError", said)

    def test_it_verifies(self):
        self.assertEqual(self.run_command("verify")[0], 0)
        self.write("new.py", "")
        code, said, _ = self.run_command("verify")
        self.assertEqual(code, 1)
        self.assertIn("files: missing: new.py", said)

    def test_a_mistake_is_a_message(self):
        nowhere = str(Path(self.directory, "nowhere.fs"))
        for arguments, path, text in [
                (["search", "a"], nowhere, "there is no database"),
                (["search", "the"], None, "cannot search for that"),
                (["search", "*a"], None, "cannot search for that"),
                (["search", "(a"], None, "cannot search for that")]:
            with self.subTest(arguments):
                code, said, errors = self.run_command(*arguments, path=path)
                self.assertEqual((code, said), (2, ""))
                self.assertIn(text, errors)


class Terminal(io.StringIO):

    def isatty(self):
        return True


class Progress(ExampleCase):

    def show(self, stream):
        """A display that has come to its end, of work done meanwhile."""
        hurried = mock.patch.object(progress, "PAUSE", 0.02)
        hurried.start()
        self.addCleanup(hurried.stop)
        display = progress.Display(self.db, stream)
        display.start()
        self.addCleanup(display.stop)
        self.service.execute(tasks.LOOK)
        transaction.commit()
        return display

    def test_a_terminal_shows_a_line_that_is_renewed_and_then_the_report(self):
        stream = Terminal()
        display = self.show(stream)
        self.wait_for(lambda: "0 of 5 files" in stream.getvalue(), "for a first line")
        self.service.process()
        transaction.commit()
        display._thread.join(support.BOUND)
        said = stream.getvalue()
        self.assertRegex(said, r"\r\x1b\[Klibrary \[ *\] 0 of 5 files, 0 a second")
        self.assertIn("\r\x1b[Klibrary: 5 files with 1 classes and 2 functions", said)
        self.assertTrue(said.endswith("json decoder\n"))

    def test_elsewhere_there_are_plain_lines(self):
        stream = io.StringIO()
        display = self.show(stream)
        self.service.process()
        transaction.commit()
        display._thread.join(support.BOUND)
        self.assertNotIn("\r", stream.getvalue())
        self.assertIn("library: 5 files", stream.getvalue())

    def test_it_ends_when_it_is_told_to(self):
        stream = Terminal()
        display = self.show(stream)
        self.wait_for(lambda: "0 of 5 files" in stream.getvalue(), "for a first line")
        display.stop()
        self.assertFalse(display._thread.is_alive())
        self.assertTrue(stream.getvalue().endswith(progress.ERASE))


class TheHint(ExampleCase):

    storage = "file"

    def test_what_it_says_to_try_works_where_it_is_said(self):
        self.service.execute(tasks.LOOK)
        self.service.process()
        transaction.commit()
        said = progress.hint(self.path).partition(": ")[2]
        self.assertIn(f" --database {self.path} ", said)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        if said.startswith("PYTHONPATH="):  # the shell sets it; ours names our paths
            ours, _, said = said.partition(" ")
            environment["PYTHONPATH"] = os.pathsep.join([
                ours.partition("=")[2],
                *(path for path in sys.path if not path.endswith("examples"))])
        done = subprocess.run(said, shell=True, env=environment, capture_output=True,
                              text=True, timeout=support.BOUND)
        self.assertEqual((done.returncode, done.stderr), (0, ""), said)
        self.assertRegex(done.stdout, r"\d files?\n")


class Killed(unittest.TestCase):
    """Real processes on real files, killed with -9 and started again."""

    level = 2

    def setUp(self):
        if not EXAMPLES.is_dir():
            self.skipTest("the examples are not here")
        self.directory = support.tempfile.mkdtemp()
        self.addCleanup(support.shutil.rmtree, self.directory, ignore_errors=True)
        self.seed = random.randrange(10**6)
        self.random = random.Random(self.seed)
        self.killed = 0

    def begin(self, *arguments, **options):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(
            [str(SOURCE), os.environ.get("PYTHONPATH", "")])}
        child = subprocess.Popen(
            [sys.executable, *map(str, arguments)], env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
        guard = threading.Timer(BOUND, child.kill)  # nothing waits for ever
        guard.start()
        self.addCleanup(self.end, child, guard)
        return child

    def end(self, child, guard):
        guard.cancel()
        if child.poll() is None:
            child.kill()
        child.wait()
        child.stdout.close()

    def moments(self, files, kills):
        """Numbers of files, at random: when so many are done, the process is killed."""
        return sorted(self.random.sample(range(1, files * 9 // 10), kills))

    def kill(self, child):
        child.send_signal(signal.SIGKILL)
        child.stdout.read()
        self.assertEqual(child.wait(), -signal.SIGKILL)
        self.killed += 1

    def check(self, path, files):
        """Complete, exact, each file once; and so say those who did not take part."""
        db = ZODB.DB(FileStorage(str(path), read_only=True))
        try:
            with db.transaction() as connection:
                root = application(connection)
                library, service = root[tasks.NAME], self.service_in(root)
                message = f"seed {self.seed}"
                self.assertEqual(recount.compare(library, runs=1), [], message)
                self.assertEqual(service.check(), [], message)
                jobs = [job for job in service.jobs.values() if job.task == tasks.INDEX]
                self.assertEqual(len(jobs), files, message)
                self.assertEqual({job.status for job in jobs}, {"completed"}, message)
                self.assertNotIn("indexed already", {job.output for job in jobs}, message)
                self.assertEqual(
                    sorted(job.input for job in jobs), list(library.files), message)
                last = library.reporting.last
                classes, functions = self.definitions(library)
                self.assertEqual(
                    (last["known"], last["runs"], last["classes"], last["functions"]),
                    (files, files, classes, functions), message)
        finally:
            db.close()

    def definitions(self, library):
        """How often the words ``class`` and ``def`` stand in the readable files."""
        found = {"class": 0, "def": 0}
        for path, entry in library.files.items():
            if entry.indexed:
                with open(tasks.directory_of(library) / path, "rb") as file:
                    for token in tokenize.tokenize(file.readline):
                        if token.type == tokenize.NAME and token.string in found:
                            found[token.string] += 1
        return found["class"], found["def"]


class TheIndexerIsKilled(Killed):
    """Four threads that meet in the index, with no lane to keep them apart."""

    FILES, KILLS = 200, 3

    def test_each_file_is_indexed_once_whenever_the_process_is_killed(self):
        path = Path(self.directory, "Data.fs")
        for moment in self.moments(self.FILES, self.KILLS):
            child = self.indexer(path)
            for line in child.stdout:
                if line.strip().isdigit() and int(line) >= moment:
                    break
            self.kill(child)
        child = self.indexer(path)
        said = child.stdout.read()
        self.assertEqual(child.wait(), 0, said[-2000:])
        self.assertEqual(self.killed, self.KILLS)
        self.check(path, self.FILES)

    def indexer(self, path):
        return self.begin("-m", "lovely.remotetask.tests.indexer", path, EXAMPLES, 4,
                          self.FILES)

    def service_in(self, root):
        return root["tasks"]


class TheApplicationIsKilled(Killed):
    """The whole library, in the application as `remotetask run` starts it."""

    KILLS = 2
    DONE = re.compile(r"\(library\.index-file\) attempt \d+: completed")

    def test_the_whole_library_is_indexed_once_after_two_kills(self):
        directory = Path(self.directory, "var")
        files = len(list(tasks.survey(tasks.directory_of(Library()))))
        for moment in self.moments(files, self.KILLS):
            child = self.application(directory)
            self.await_files(directory, child, moment)
            self.kill(child)
        child = self.application(directory)
        for line in child.stdout:
            if line.startswith("library: "):
                break
        child.send_signal(signal.SIGTERM)
        said = child.stdout.read()
        self.assertEqual(child.wait(), 0, said[-2000:])
        self.check(directory / "Data.fs", files)

    def application(self, directory):
        return self.begin("-m", "lovely.remotetask.app", directory, "--port", 0,
                          "--example", EXAMPLES / "library")

    def service_in(self, root):
        return root.getSiteManager()["default"]["library"]

    def await_files(self, directory, child, number):
        """Read the log as it grows, until so many files are done."""
        log, done, pause = directory / "log" / "event.log", 0, threading.Event()
        while child.poll() is None:
            if log.exists():
                done = len(self.DONE.findall(log.read_text("utf-8")))
            if done >= number:
                return
            pause.wait(0.1)
        self.fail(f"the application has ended: {child.stdout.read()[-2000:]}")
