"""The command line for workers: on a FileStorage, alone and through its process."""
import json
import threading
import unittest

from lovely.remotetask import processor
from lovely.remotetask.cli import work
from lovely.remotetask.cli.problems import DONE
from lovely.remotetask.cli.socket import Server, path_for
from lovely.remotetask.tests.support import BOUND
from lovely.remotetask.tests.test_cli import CommandCase


class Alone(CommandCase):
    """Nobody works: wishes are kept for those who will."""

    def workers(self):
        code, out, _ = self.run_cli("workers", "--json")
        self.assertEqual(code, DONE)
        return json.loads(out)

    def test_a_service_is_paused_and_resumed(self):
        code, out, _ = self.run_cli("pause")
        self.assertEqual((code, out.split(":")[0]), (DONE, "paused"))
        wish, = self.workers()["wishes"]
        self.assertEqual((wish["what"], wish["worker"], wish["concerns"]),
                         ("pause", None, []))
        self.assertTrue(wish["by"].endswith("(command line)"))
        self.assertIn("Wished for the service: paused by ", self.run_cli("workers")[1])
        self.assertIn("Wished for the service: paused by ", self.run_cli("status")[1])
        self.assertEqual(self.run_cli("resume")[0], DONE)
        self.assertNotIn("Wished", self.run_cli("status")[1])
        self.assertEqual(self.workers(), dict(workers=[], wishes=[]))
        self.assertEqual(self.run_cli("workers")[1], "No workers.\n")

    def test_threads_are_wished_for_all(self):
        self.assertEqual(self.run_cli("threads", "3")[:2],
                         (DONE, "workers run 3 threads each\n"))
        self.assertEqual(self.workers()["wishes"][0]["number"], 3)
        self.assertEqual(self.run_cli("threads", "default")[0], DONE)
        self.assertEqual(self.workers()["wishes"], [])

    def test_wrong_values_end_with_2(self):
        for words in (["threads", "many"], ["threads", "0"], ["stop-worker", "x"],
                      ["threads", "2", "--worker", "x"], ["start-worker", "x"],
                      ["work", "--priority", "a"], ["work", "--task", "a,,b"]):
            code, _, err = self.run_cli(*words)
            self.assertEqual(code, 2, words)
            self.assertTrue(err.startswith("remotetask: "), err)


class Beside(CommandCase):
    """A process works with the FileStorage, and takes commands by its socket."""

    def setUp(self):
        super().setUp()
        self.opened = self.database()
        self.opened.__enter__()
        self.addCleanup(self.opened.__exit__, None, None, None)
        self.db = self.opened.db
        server = Server(self.db, path_for(self.file)).start()
        self.addCleanup(server.stop)
        options = type("Options", (), dict(
            task=["mail,report"], tag=None, priority="0-5", threads=2))
        work.start(self.db, None, **work.processor_arguments(options))
        self.addCleanup(processor.stop_all, self.db)
        self.dispatcher = next(
            each.dispatcher for (db, _), (_, each) in processor._threads.items()
            if db is self.db)
        self.wait(lambda: self.dispatcher.attendance.begun)

    def wait(self, look):
        rest = threading.Event()
        for _ in range(round(BOUND / 0.02)):
            if look():
                return
            rest.wait(0.02)
        self.fail("waited in vain")

    def workers(self):
        return json.loads(self.run_cli("workers", "--json")[1])

    def test_the_worker_is_shown_with_what_it_takes(self):
        worker, = self.workers()["workers"]
        self.assertEqual(
            (worker["alive"], worker["threads"], worker["takes"], worker["holds"]),
            (True, 2, "task mail,report; priority 0..5", []))
        _, out, _ = self.run_cli("workers")
        self.assertIn(worker["name"][:8], out)
        self.assertIn("task mail,report", out)

    def test_it_is_stopped_and_started(self):
        worker, = self.workers()["workers"]
        name = worker["name"][:8]
        code, out, err = self.run_cli("stop-worker", name)
        self.assertEqual((code, out.split(" starts")[0]), (DONE, f"worker {name}"), err)
        self.wait(lambda: self.dispatcher.state == "stopped")
        self.wait(lambda: self.workers()["wishes"][0]["obeyedBy"] == [worker["name"]])
        self.assertIn("stopped", self.run_cli("workers")[1])
        self.assertEqual(self.run_cli("start-worker", name)[0], DONE)
        self.wait(lambda: self.dispatcher.state == "")

    def test_it_runs_more_at_once(self):
        worker, = self.workers()["workers"]
        self.assertEqual(
            self.run_cli("threads", "7", "--worker", worker["name"])[0], DONE)
        self.wait(lambda: self.dispatcher.slots == 7)
        self.assertEqual(self.run_cli("pause")[0], DONE)
        self.wait(lambda: self.dispatcher.state == "paused")


if __name__ == "__main__":
    unittest.main()
