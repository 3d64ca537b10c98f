"""The command line in real processes: an application, workers, and who asks them."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
from importlib.util import find_spec
from pathlib import Path

import ZODB
from ZODB.FileStorage import FileStorage

from lovely.remotetask import TaskService
from lovely.remotetask.cli import databases
from lovely.remotetask.cli.socket import path_for
from lovely.remotetask.tests.test_app import PATIENCE, Process

CODE = "import sys; from lovely.remotetask.cli import main; sys.exit(main())"

#: Tasks for the processes: one waits for a file, so that the test leads it.
TASKS = """
import threading
from pathlib import Path
from lovely.remotetask.task import task

HERE = Path(__file__).parent

def wait_for(path):
    for _ in range(6000):
        if path.exists():
            return
        threading.Event().wait(0.01)

@task("double")
def double(input):
    return input * 2

@task("gate", wantsContext=True)
def gate(input, context):
    context.logger.info("the gate is reached")
    wait_for(HERE / "open")
    return "through"

@task("fail", retries=0)
def fail(input):
    raise ValueError("no luck")
"""

#: The disk fails in the middle of a commit, once the file "full" is there.
BROKEN_DISK = """
import sys
from pathlib import Path
import ZODB.FileStorage

module = sys.modules["ZODB.FileStorage.FileStorage"]
HERE = Path(__file__).parent
sync = module.fsync

def fsync(number):
    if (HERE / "full").exists():
        raise OSError(28, "No space left on device")
    return sync(number)

module.fsync = fsync
"""


class ProcessCase(unittest.TestCase):

    def setUp(self):
        self.directory = Path(tempfile.mkdtemp(prefix="remotetask-cli-"))
        self.addCleanup(shutil.rmtree, self.directory)
        (self.directory / "gated.py").write_text(TASKS)
        (self.directory / "brokendisk.py").write_text(BROKEN_DISK)
        self.file = self.directory / "Data.fs"
        self.environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join([str(self.directory), *sys.path]),
            databases.VARIABLE: str(self.file)}

    def make(self, *names):
        db = ZODB.DB(FileStorage(str(self.file)))
        with db.transaction() as connection:
            for name in names or ("tasks",):
                connection.root()[name] = TaskService()
        db.close()

    def command(self, *words, given=None):
        """(exit code, standard output, standard error) of a process of its own."""
        done = subprocess.run(
            [sys.executable, "-c", CODE, *map(str, words)], cwd=self.directory,
            env=self.environment, input=given, capture_output=True, text=True,
            timeout=PATIENCE)
        self.assertNotIn("Traceback", done.stderr)
        return done.returncode, done.stdout, done.stderr

    def done(self, *words):
        code, out, err = self.command(*words)
        self.assertEqual((code, err), (0, ""), out)
        return out

    def answer(self, *words):
        return json.loads(self.done(*words, "--json"))

    def start(self, *words):
        before = {name: os.environ.get(name) for name in self.environment}
        here = os.getcwd()
        os.environ.update(self.environment)
        os.chdir(self.directory)
        path, sys.path = sys.path, [str(self.directory), *sys.path]
        try:
            process = Process(*words, code=CODE)
        finally:
            sys.path = path
            os.chdir(here)
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        self.addCleanup(process.kill)
        return process

    def worker(self, *words):
        process = self.start("work", "--import", "gated", *words)
        process.wait_for("At work on")
        return process

    def open_gate(self):
        (self.directory / "open").touch()

    def status(self, id):
        return self.answer("show", id)["status"]


class AWorker(ProcessCase):

    def test_commands_reach_it_through_its_socket_and_it_stops_cleanly(self):
        self.make()
        worker = self.worker()
        self.assertEqual(self.done("add", "double", "21", "--wait", "30s"), "42\n")
        [service] = self.answer("status")
        self.assertEqual(service["processedBy"], worker.process.pid)
        self.assertEqual(service["counts"]["completed"], 1)
        code, out, err = self.command("add", "fail", "--wait", "30s")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("ended in error: no luck", err)
        self.assertEqual(worker.stop(signal.SIGTERM), 0)
        self.assertEqual(worker.lines[-2:], [
            "Stopping; a second Ctrl-C stops at once.\n", "Stopped.\n"])
        self.assertFalse(path_for(self.file).exists())
        self.assertEqual(self.answer("check")[0]["faults"], [])


class Workers(ProcessCase):

    level = 2

    def test_its_job_may_end_within_the_grace_time(self):
        self.make()
        worker = self.worker("--grace", "1m")
        id = int(self.done("add", "gate"))
        worker.wait_for("the gate is reached")
        worker.process.send_signal(signal.SIGINT)
        self.open_gate()
        self.assertEqual(worker.end(), 0)
        self.assertEqual(self.status(id), "completed")

    def test_after_the_grace_time_its_job_is_handed_back(self):
        self.make()
        worker = self.worker("--grace", "0")
        id = int(self.done("add", "gate"))
        worker.wait_for("the gate is reached")
        self.assertEqual(worker.stop(signal.SIGTERM), 0)
        job = self.answer("show", id)
        self.assertEqual((job["status"], job["handbacks"]), ("queued", 1))

    def test_a_second_signal_stops_it_at_once_and_the_job_runs_again(self):
        self.make()
        worker = self.worker("--grace", "1h")
        id = int(self.done("add", "gate"))
        worker.wait_for("the gate is reached")
        worker.process.send_signal(signal.SIGINT)
        self.assertEqual(
            worker.wait_for("Stopping"),
            "Stopping; 1 job in hand may run on for up to 60 min; "
            "a second Ctrl-C stops at once.\n")
        # Commands are taken until the end.
        self.assertEqual(self.status(id), "processing")
        self.assertEqual(self.answer("status")[0]["counts"]["processing"], 1)
        int(self.done("add", "double", "1"))
        worker.process.send_signal(signal.SIGTERM)
        self.assertEqual(worker.end(), 128 + signal.SIGTERM)
        self.open_gate()
        worker = self.worker()
        worker.wait_for("completed in")
        self.assertEqual(worker.stop(), 0)
        self.assertEqual(self.status(id), "completed")

    def test_killed_it_leaves_a_socket_that_is_in_nobodys_way(self):
        self.make()
        worker = self.worker()
        worker.process.kill()
        worker.end()
        self.assertTrue(path_for(self.file).exists())
        id = int(self.done("add", "double", "4", "--import", "gated"))
        self.assertEqual(self.status(id), "queued")
        worker = self.worker()
        worker.wait_for("completed in")
        self.assertEqual(worker.stop(), 0)
        self.assertEqual(self.status(id), "completed")

    def test_it_ends_with_3_when_the_storage_has_gone_for_good(self):
        self.make()
        worker = self.worker("--import", "brokendisk")
        (self.directory / "full").touch()
        self.command("add", "double", "4")
        self.assertEqual(worker.end(), 3)
        self.assertIn("the storage has gone for good", worker.said)
        (self.directory / "full").unlink()
        self.assertEqual(self.answer("check")[0]["faults"], [])

    def test_a_second_one_on_a_file_storage_is_refused(self):
        self.make()
        worker = self.worker()
        code, out, err = self.command("work")
        self.assertEqual((code, out), (3, ""))
        self.assertIn(f"in use by process {worker.process.pid}", err)

    def test_services_are_named_by_path_name_directive_and_pattern(self):
        self.make("mail", "tasks")
        for words, started in (
                (["--service", "/tasks"], "@tasks"), (["--service", "mail"], "@mail"),
                (["--service", "@mail", "--service", "tasks"], "@mail, @tasks"),
                (["--service", "*@*"], "@mail, @tasks")):
            worker = self.start("work", *words)
            self.assertIn(f"At work on {started} as", worker.wait_for("At work on"))
            self.assertEqual(worker.stop(), 0)
        for words, part in ((["--service", "no"], "there is no service 'no'"),
                            ([], "say which service is meant"),
                            (["--service", "no@*"], "no service is named by no@*")):
            code, out, err = self.command("work", *words)
            self.assertEqual((code, out), (2, ""))
            self.assertIn(part, err)

    def test_without_services_named_it_starts_those_of_autostart(self):
        self.make("mail", "tasks")
        self.environment["REMOTETASK_AUTOSTART"] = "@nothing, @mail"
        worker = self.worker()
        self.assertIn("there is no service '@nothing'", worker.said)
        self.assertIn("At work on @mail as", worker.said)
        # The same service is meant where none is named.
        self.assertEqual(self.done("add", "double", "2", "--wait", "30s"), "4\n")
        self.assertEqual(worker.stop(), 0)


class WithZEO(ProcessCase):

    level = 2

    def setUp(self):
        super().setUp()
        self.make("mail", "tasks")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = subprocess.Popen(
            [sys.executable, "-m", "ZEO.runzeo", "-a", f"127.0.0.1:{port}",
             "-f", str(self.file)], cwd=self.directory, env=self.environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(server.wait, PATIENCE)
        self.addCleanup(server.terminate)
        self.environment[databases.VARIABLE] = f"zeo://127.0.0.1:{port}?wait_timeout=30"

    def test_commands_connect_directly_and_several_workers_share_the_work(self):
        workers = [self.worker("--service", "tasks") for _ in range(2)]
        add = ["add", "double", "21", "--service", "tasks"]
        self.assertEqual(
            self.done(*add, "--import", "gated", "--wait", "30s"), "42\n")
        code, out, err = self.command(*add)
        self.assertEqual((code, out), (2, ""))
        self.assertIn("Task does not exist: 'double'", err)
        found = {each["name"]: each for each in self.answer("status")}
        self.assertEqual(found["tasks"]["counts"]["completed"], 1)
        pids = {each.process.pid for each in workers}
        self.assertLessEqual({each["pid"] for each in found["tasks"]["workers"]}, pids)
        for worker in workers:
            self.assertEqual(worker.stop(signal.SIGTERM), 0)
        for each in self.answer("check"):
            self.assertEqual(each["faults"], [])


@unittest.skipUnless(find_spec("relstorage"), "RelStorage is not installed")
class WithSQLite(ProcessCase):

    level = 2

    def test_commands_and_a_worker_open_it_at_once(self):
        place = self.directory / "jobs"
        self.environment[databases.VARIABLE] = uri = f"sqlite://{place}?keep_history=0"
        place.mkdir()
        db = databases.find(uri).open()
        with db.transaction() as connection:
            connection.root()["tasks"] = TaskService()
        db.close()
        worker = self.worker()
        self.assertEqual(self.done(
            "add", "double", "21", "--import", "gated", "--wait", "30s"), "42\n")
        self.assertEqual(self.answer("status")[0]["counts"]["completed"], 1)
        self.assertEqual(worker.stop(), 0)
        self.assertIn("1 job, no faults", self.done("check"))


class AnApplication(ProcessCase):

    level = 2

    def setUp(self):
        super().setUp()
        del self.environment[databases.VARIABLE]
        self.environment.pop("REMOTETASK_AUTOSTART", None)
        package = self.directory / "shop"
        package.mkdir()
        (package / "__init__.py").write_text("def loud(input): return input.upper()\n")
        (package / "configure.zcml").write_text(
            '<configure xmlns:r="http://namespaces.zope.org/remotetask">'
            '<r:task name="loud" function=".loud" /></configure>')

    def application(self):
        process = self.start("run", "--port", 0, "--example", self.directory / "shop")
        process.wait_for("Ctrl-C stops it")
        return process

    def test_it_ends_with_3_when_its_storage_has_gone_for_good(self):
        with open(self.directory / "shop" / "__init__.py", "a") as file:
            file.write("import brokendisk\n")
        application = self.application()
        (self.directory / "full").touch()
        self.command("add", "loud", '"x"')
        self.assertEqual(application.end(), 3)
        (self.directory / "full").unlink()
        self.assertIn("no faults", self.done("check"))

    def test_all_commands_with_it_and_without_it(self):
        # Before its first start there is nothing.
        code, out, err = self.command("status")
        self.assertEqual((code, out), (3, ""))
        self.assertIn("remotetask run", err)

        application = self.application()
        self.assertEqual(self.done("add", "loud", '"hello"', "--wait", "30s"), '"HELLO"\n')
        [service] = self.answer("status")
        self.assertEqual(service["processedBy"], application.process.pid)
        cron = int(self.done("cron", "add", "loud", "0 2 * * *", '"night"'))
        [run] = self.answer("cron", "run", cron)
        later = int(self.done("add", "loud", '"x"', "--delay", "1h"))
        self.done("cancel", later)
        self.done("check", "--repair")
        code, out, err = self.command("run", "--port", "0")
        self.assertEqual(code, 1)
        self.assertIn("in use", err)
        self.assertEqual(application.stop(), 0)

        # The same without it: its tasks are known from its configuration.
        self.assertEqual(self.status(later), "cancelled")
        id = int(self.done("add", "loud", '"again"'))
        self.assertEqual(self.status(id), "queued")
        self.done("retry", later)
        self.done("cron", "pause", cron)
        self.assertTrue(self.answer("cron", "list")[0]["paused"])
        self.done("check")

        # A worker on the same configuration, without web.
        worker = self.start("work")
        self.assertIn("@shop", worker.wait_for("At work on"))
        self.assertEqual(self.done("add", "loud", '"w"', "--wait", "30s"), '"W"\n')
        self.assertEqual(worker.stop(signal.SIGTERM), 0)
        self.assertEqual(self.status(id), "completed")
        self.assertEqual(self.done("check").count("no faults"), 1)


if __name__ == "__main__":
    unittest.main()
