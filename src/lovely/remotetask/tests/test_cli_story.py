"""The story of the command line, typed into something like a shell."""
import doctest
import io
import json
import logging
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
import unittest
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import transaction
import ZODB
from ZODB.FileStorage import FileStorage
from zope.component import provideUtility
from zope.component.hooks import setHooks, setSite
from zope.site.testing import siteSetUp, siteTearDown

import lovely.remotetask
from lovely.remotetask import TaskService, plain, processor
from lovely.remotetask.cli import arguments, databases, main
from lovely.remotetask.cli.socket import Server, path_for
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.task import SimpleTask

PACKAGE = Path(lovely.remotetask.__path__[0])
MANUAL = PACKAGE.parents[2] / "docs" / "command-line.txt"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Shell(doctest.DocTestParser):
    """Reads '$ command' as an example."""

    def parse(self, string, name="<string>"):
        return super().parse(re.sub(
            r"^( +)\$ (.*)$", lambda line: f"{line[1]}>>> shell({line[2]!r})", string,
            flags=re.MULTILINE), name)


class Story:
    """A directory with a database, a process at work (this one), and a shell."""

    def __init__(self, test):
        siteSetUp()
        setHooks()
        self.directory = Path(tempfile.mkdtemp())
        self.before = os.getcwd()
        os.chdir(self.directory)
        self.environment = mock.patch.dict(os.environ)
        self.environment.start()
        os.environ.pop(databases.VARIABLE, None)
        os.environ["TZ"] = "UTC"
        time.tzset()
        self.handlers = logging.getLogger().handlers[:]
        provideUtility(SimpleTask(lambda input: input), ITask, name="echo")
        provideUtility(SimpleTask(self.fail, retries=0), ITask, name="fail")
        Path("var").mkdir()
        file = Path("var", "Data.fs").absolute()
        self.db = ZODB.DB(FileStorage(str(file)))
        with self.db.transaction() as connection:
            connection.root()["tasks"] = TaskService()
        with self.db.transaction() as connection:
            connection.root()["tasks"].startProcessing()
        self.server = Server(self.db, path_for(file)).start()
        self.variables = {"?": "0", "PROCESS": "us"}
        test.globs["shell"] = self.shell
        test.story = self

    def fail(self, input):
        raise ValueError(f"no luck with {input}")

    def shell(self, line):
        captured = re.fullmatch(r"(\w+)=\$\((.*)\)", line)
        text = self.run(captured[2] if captured else line)
        if captured:
            self.variables[captured[1]] = text.strip()
        else:
            print(text, end="")

    def run(self, line):
        line, _, pipe = line.partition(" | ")
        line = re.sub(r"\$(\w+|\?)", lambda name: self.variables[name[1]], line)
        if line == "kill us":
            self.stop()
            return ""
        program, *words = shlex.split(line)
        if program == "echo":
            return " ".join(words) + "\n"
        assert program == "remotetask", line
        output = io.StringIO()
        with redirect_stdout(output), redirect_stderr(output):
            self.variables["?"] = str(main(words))
        if pipe == "jq '.jobs[0].id'":
            return str(json.loads(output.getvalue())["jobs"][0]["id"])
        return output.getvalue()

    def stop(self):
        if self.db is not None:
            self.server.stop()
            assert processor.stop_all(self.db) == []
            self.db.close()
            self.db = None

    def close(self):
        self.stop()
        transaction.abort()
        os.chdir(self.before)
        self.environment.stop()
        time.tzset()
        logging.getLogger().handlers[:] = self.handlers
        shutil.rmtree(self.directory)
        setSite(None)
        siteTearDown()


@unittest.skipUnless(MANUAL.exists(), "the manual is not here")
class TheManual(unittest.TestCase):
    """docs/command-line.txt has all that stays as it is."""

    def setUp(self):
        self.text = MANUAL.read_text(encoding="utf-8")

    def assertListed(self, names):
        missing = [name for name in names if f"``{name}``" not in self.text]
        self.assertEqual(missing, [])

    def test_every_field_of_an_answer_is_described(self):
        self.assertListed(plain.FULL + plain.CRON + [
            "input", "output", "attempts", "concerns", "progress", "schedule", "next",
            "runs", "counts", "queueLength", "oldestWaiting", "workers", "processedBy"])

    def test_every_command_and_every_option_is_described(self):
        names = set()

        def walk(parser, words):
            for action in parser._actions:
                names.update(each for each in action.option_strings
                             if each.startswith("--"))
                if isinstance(action.choices, dict):
                    for name, each in action.choices.items():
                        names.add(" ".join([*words, name]))
                        walk(each, [*words, name])
        walk(arguments.parser(), [])
        missing = [name for name in sorted(names - {"cron"}) if name not in self.text]
        self.assertEqual(missing, [])


def test_suite():
    return unittest.TestSuite([
        unittest.defaultTestLoader.loadTestsFromTestCase(TheManual),
        doctest.DocFileSuite(
            str(PACKAGE / "cli.txt"), module_relative=False, encoding="utf-8",
            optionflags=FLAGS, parser=Shell(), setUp=Story,
            tearDown=lambda test: test.story.close())])


if __name__ == "__main__":
    sys.exit(unittest.main(defaultTest="test_suite"))
