"""The application as its user meets it: started as a process, asked by HTTP,
stopped by a signal."""
import base64
import io
import json
import logging
import os
import queue
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.error
import urllib.request
from pathlib import Path

from lovely.remotetask.app.directory import Directory
from lovely.remotetask.app.problems import CannotStart
from lovely.remotetask.app.terminal import Terminal

PATIENCE = 60  # seconds that a loaded machine may take
SOON = 10      # seconds in which a stop must be done there; alone it takes 0.3

#: An example package: its task never ends by itself, and says when it begins.
EXAMPLE = {
    "__init__.py": """
import logging
import threading

from lovely.remotetask import SimpleTask
from lovely.remotetask.interfaces import ITaskService

def endless(input):
    logging.getLogger("lovely.remotetask.app").info("the endless task begins")
    threading.Event().wait()

task = SimpleTask(endless)

def setup(event):
    service = event.root.getSiteManager().getUtility(ITaskService, "exampled")
    service.add("endless")

def watch(event):
    print("watched at", event.running.url, file=event.stream)
    event.running.on_stop(print, "watched to the end", file=event.stream)
""",
    "configure.zcml": """
<configure xmlns="http://namespaces.zope.org/zope">
  <utility component=".task" name="endless"
           provides="lovely.remotetask.interfaces.ITask" />
  <subscriber for="lovely.remotetask.app.interfaces.IFirstStart" handler=".setup" />
  <subscriber for="lovely.remotetask.app.interfaces.IAtWork" handler=".watch" />
</configure>
""",
}


class Process:
    """The application in a process of its own, with what it says."""

    def __init__(self, *arguments, code=None):
        command = ["-c", code] if code else ["-m", "lovely.remotetask.app"]
        self.process = subprocess.Popen(
            [sys.executable, "-u", *command, *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path),
                 "PYTHONFAULTHANDLER": "1"})
        self.lines = []
        self._news = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self._news.put(line)
        self._news.put(None)

    def wait_for(self, text):
        """A line that has *text*, said before or still to come."""
        for line in self.lines:
            if text in line:
                return line
        while (line := self._next()) is not None:
            if text in line:
                return line
        raise AssertionError(f"never said {text!r}:\n{self.said}")

    def _next(self):
        """The next line, None when there will be no more."""
        try:
            line = self._news.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"says nothing more:\n{self.said}") from None
        if line is not None:
            self.lines.append(line)
        return line

    def stop(self, number=signal.SIGINT):
        self.process.send_signal(number)
        return self.end(SOON)

    def end(self, seconds=PATIENCE):
        """The exit code, once it has ended by itself.

        One that does not end says where each of its threads is.
        """
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(SOON)
            while self._next() is not None:
                pass
            raise AssertionError(f"has not ended in {seconds} s:\n{self.said}") from None
        self._reader.join(SOON)
        while self._next() is not None:
            pass
        self.process.stdout.close()
        return code

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.end()

    @property
    def said(self):
        return "".join(self.lines)


class TestCase(unittest.TestCase):

    def setUp(self):
        self.parent = Path(tempfile.mkdtemp(prefix="remotetask-app-"))
        self.addCleanup(shutil.rmtree, self.parent)
        self.var = self.parent / "var"

    def start(self, *arguments, port=0):
        arguments = arguments or ["--no-example"]
        process = Process(self.var, "--port", port, *arguments)
        self.addCleanup(process.kill)
        return process

    def started(self, *arguments):
        process = self.start(*arguments)
        process.url = re.search(r"http://\S+:\d+/", process.wait_for("Web page"))[0]
        process.wait_for("Ctrl-C stops it")
        return process

    def example(self):
        """The path of the package.  Once for each test: what is started with it
        writes it into its files, and finds it there again."""
        package = self.parent / "exampled"
        package.mkdir()
        for name, text in EXAMPLE.items():
            (package / name).write_text(text)
        return package

    def kept_login(self):
        kept = json.loads((self.var / "login.txt").read_text())
        return kept["login"], kept["password"]

    def get(self, url, login=None):
        """The status and the body of a page."""
        request = urllib.request.Request(url)
        if login:
            token = base64.b64encode(":".join(login).encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def log(self):
        return (self.var / "log" / "event.log").read_text()


class AnApplication(TestCase):

    def test_it_starts_lets_its_owner_in_and_stops(self):
        application = self.started()
        page = application.url + "@@contents.html"
        status, body = self.get(page, self.kept_login())
        self.assertEqual(status, 200)
        self.assertIn('id="navigationTree"', body)  # as Rotterdam has it
        self.assertEqual(self.get(page)[0], 401)
        self.assertEqual(self.get(page, ("admin", "wrong"))[0], 401)
        self.assertEqual(self.get(application.url + "nosuch", self.kept_login())[0], 404)
        self.assertEqual(application.stop(), 0)
        self.assertNotIn("nosuch", application.said)
        self.assertIn("INFO SiteError not found: " + application.url + "nosuch",
                      self.log())
        self.assertNotIn("Traceback", self.log())
        # What it says to try next names the place where it is.
        hints = [line for line in application.lines if line.startswith("  remotetask ")]
        path = os.path.relpath(self.var)
        self.assertEqual([f" --db {path} " in line for line in hints],
                         [True, True, True, False], hints)
        self.assertEqual(application.lines[-1], "Stopped.\n")
        self.assertNotIn("Traceback", application.said)


class TheLife(TestCase):
    """Its starts and stops."""

    level = 2

    def test_a_second_start_finds_all_as_it_was(self):
        self.assertEqual(self.started("--example", self.example()).stop(), 0)
        before = self.kept_login()
        again = self.started()
        self.assertEqual(self.kept_login(), before)
        self.assertEqual(self.get(again.url + "@@contents.html", before)[0], 200)
        self.assertEqual(again.stop(signal.SIGTERM), 0)
        self.assertNotIn("Ignoring index", self.log())
        self.assertNotIn("ERROR", self.log())
        self.assertEqual(self.log().count("service exampled on site root started"), 2)

    def test_a_job_in_hand_does_not_hold_up_the_end_and_is_begun_again(self):
        application = self.start("--example", self.example())
        application.wait_for("the endless task begins")
        application.wait_for("watched at http://")
        self.assertEqual(application.stop(), 0, application.said)
        self.assertIn("watched to the end", application.said)
        again = self.start()
        again.wait_for("the endless task begins")
        self.assertEqual(again.stop(), 0, again.said)

    def test_a_signal_during_the_start_stops_it_cleanly(self):
        application = self.start()
        application.wait_for("handling event")
        self.assertEqual(application.stop(signal.SIGTERM), 0)
        self.assertNotIn("Traceback", application.said)

    def test_a_second_signal_stops_at_once(self):
        stubborn = Process(code=(
            "import threading\n"
            "from lovely.remotetask.signals import stop_signals\n"
            "with stop_signals() as asked:\n"
            "    print('ready'); asked.wait(); print('asked')\n"
            "    threading.Event().wait()\n"))
        self.addCleanup(stubborn.kill)
        stubborn.wait_for("ready")
        stubborn.process.send_signal(signal.SIGINT)
        stubborn.wait_for("asked")
        self.assertEqual(stubborn.stop(), 128 + signal.SIGINT)

    def test_the_password_stands_in_one_file_that_only_its_owner_reads(self):
        application = self.started()
        application.stop()
        _, password = self.kept_login()
        self.assertGreaterEqual(len(password), 16)
        holders = [path for path in self.var.rglob("*")
                   if path.is_file() and password.encode() in path.read_bytes()]
        self.assertEqual(holders, [self.var / "login.txt"])
        self.assertEqual(stat.S_IMODE(holders[0].stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.var.stat().st_mode), 0o700)


class WhatStandsInTheWay(TestCase):
    """One clear message, an exit code, no traceback."""

    level = 2

    def refused(self, process, code, *texts):
        self.assertEqual(process.end(), code, process.said)
        self.assertNotIn("Traceback", process.said)
        messages = [line for line in process.lines if line.startswith("remotetask: ")]
        self.assertEqual(len(messages), 1, process.said)
        for text in texts:
            self.assertIn(text, messages[0])

    def test_a_port_in_use(self):
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            self.refused(self.start(port=port), 1, f"127.0.0.1:{port}", "in use")

    def test_a_port_that_does_not_exist(self):
        self.refused(self.start(port=70_000), 2, "no port 70000")

    def test_a_host_that_does_not_exist(self):
        self.refused(self.start("--no-example", "--host", "no host"), 2, "'no host'")

    def test_a_database_in_use(self):
        first = self.started()
        self.refused(
            self.start(), 1, "Data.fs is in use by process", str(first.process.pid))
        self.assertEqual(first.stop(), 0)

    def test_a_directory_that_cannot_be_written(self):
        (self.parent / "file").touch()
        self.var = self.parent / "file" / "var"
        self.refused(self.start(), 1, str(self.var))

    def test_a_mistake_in_zope_conf(self):
        Directory(self.var).prepare()
        with open(self.var / "zope.conf", "a") as conf:
            conf.write("\nno-such-key 1\n")
        self.refused(self.start(), 2, "zope.conf", "no-such-key")

    def test_a_mistake_in_site_zcml(self):
        Directory(self.var).prepare()
        (self.var / "site.zcml").write_text("<configure>")
        self.refused(self.start(), 2, "site.zcml")

    def test_a_mistake_in_login_txt(self):
        Directory(self.var).prepare()
        (self.var / "login.txt").write_text("admin")
        self.refused(self.start(), 2, "login.txt")


class TheTerminal(unittest.TestCase):

    def test_it_shows_the_first_line_of_a_text_and_no_more(self):
        stream = io.StringIO()
        terminal = Terminal(stream)
        for text in ("first\n  | second\nthird", "", "a \x1b[31m bell"):
            terminal.handle(logging.LogRecord(
                "any", logging.ERROR, "", 1, text, (), None))
        lines = stream.getvalue().splitlines()
        self.assertEqual([line[9:] for line in lines],
                         ["ERROR: first", "ERROR: ", "ERROR: a \\x1b[31m bell"])


class TheDirectory(TestCase):

    def prepared(self, **options):
        directory = Directory(self.var)
        directory.prepare(**options)
        return directory

    def test_its_files_are_written_once(self):
        directory = self.prepared()
        directory.site.write_text("mine")
        before = directory.conf.read_text()
        self.prepared()
        self.assertEqual(directory.site.read_text(), "mine")
        self.assertEqual(directory.conf.read_text(), before)

    def test_it_can_be_moved(self):
        self.prepared()
        self.var = self.var.rename(self.parent / "price $5 #1")
        self.assertIn(
            f"\n%define var {self.parent}/price $$5 #1\n",
            self.prepared().conf.read_text())

    def test_without_an_example_it_starts_a_service_of_its_own(self):
        text = self.prepared(example=False).conf.read_text()
        self.assertIn("\n  autostart @tasks\n", text)

    def test_it_says_what_it_cannot_use(self):
        self.var.write_text("a file")
        with self.assertRaisesRegex(CannotStart, "cannot be used"):
            self.prepared()


if __name__ == "__main__":
    unittest.main()
