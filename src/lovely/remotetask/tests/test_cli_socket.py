"""The socket through which a process takes commands: who may, what, and what else."""
import json
import os
import socket
import stat
import threading
import unittest
from pathlib import Path
from unittest import mock

import transaction
from zope.component import provideUtility

from lovely.remotetask import lifecycle
from lovely.remotetask.cli import socket as ours
from lovely.remotetask.cli import verbs
from lovely.remotetask.cli.problems import BadRequest, Gone, NoDatabase, Refused
from lovely.remotetask.cli.socket import Server, connect, path_for
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.task import SimpleTask
from lovely.remotetask.tests.support import BOUND, ServiceCase


class SocketCase(ServiceCase):
    """A database with a service, and a server beside it."""

    def setUp(self):
        super().setUp()
        provideUtility(SimpleTask(lambda input: input), ITask, name="echo")
        self.socket = path_for(Path(self.path))
        self.server = None
        self.serve()

    def serve(self):
        self.server = Server(self.db, self.socket).start()
        self.addCleanup(self.server.stop)
        return self.server

    def tearDown(self):
        self.server.stop()
        super().tearDown()

    def client(self):
        client = connect(self.socket)
        self.assertIsNotNone(client)
        self.addCleanup(client.close)
        return client

    def ask(self, verb, **arguments):
        return self.client().ask(verb, None, arguments)

    def refused(self, verb, service=None, **arguments):
        with self.assertRaises(Refused) as caught:
            self.client().ask(verb, service, arguments)
        return caught.exception

    def raw(self, line):
        """The reply to bytes as they are; None when the server hangs up."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(BOUND)
            connection.connect(str(self.socket))
            try:
                connection.sendall(line)
                reply = connection.makefile("rb").readline()
            except ConnectionError:
                reply = None
            return json.loads(reply) if reply else None

    def stubbed(self, name, function, writes=False, of_one=False):
        patch = mock.patch.dict(verbs.VERBS, {name: verbs.Verb(function, writes, of_one)})
        patch.start()
        self.addCleanup(patch.stop)


class Commands(SocketCase):

    def test_a_verb_is_a_transaction_in_the_process_that_has_the_database(self):
        id = self.ask("add", task="echo", input=[1, {"a": None}])["id"]
        transaction.begin()
        self.assertEqual(self.job(id).input, [1, {"a": None}])
        self.assertEqual(self.ask("show", id=id)["status"], lifecycle.QUEUED)

    def test_a_service_at_work_runs_it_and_the_client_can_wait(self):
        self.start()
        id = self.ask("add", task="echo", input=7)["id"]
        self.wait_status(id)
        self.assertEqual(self.ask("outcome", id=id)["output"], 7)
        [service] = self.ask("services")
        self.assertEqual((service["processing"], service["pid"]), (True, os.getpid()))

    def test_one_connection_takes_many_requests(self):
        client = self.client()
        ids = [client.ask("add", None, dict(task="echo"))["id"] for _ in range(5)]
        self.assertEqual(len(set(ids)), 5)

    def test_many_clients_at_once_all_get_their_answer(self):
        ids, errors = [], []

        def client():
            try:
                connection = connect(self.socket)
                for _ in range(10):
                    ids.append(connection.ask("add", None, dict(task="echo"))["id"])
                connection.close()
            except Exception as error:
                errors.append(error)
        threads = [threading.Thread(target=client) for _ in range(ours.CLIENTS + 4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(BOUND)
        self.assertEqual(errors, [])
        self.assertEqual(len(set(ids)), 10 * len(threads))
        self.assertEqual(self.look().queueLength(), len(ids))

    def test_progress_comes_before_the_answer(self):
        def counting(connection, tell):
            for done in range(3):
                tell(done, 3)
            return "done"
        self.stubbed("count", counting)
        told = []
        answer = self.client().ask("count", tell=lambda *words: told.append(words))
        self.assertEqual((answer, told), ("done", [(0, 3), (1, 3), (2, 3)]))


class Errors(SocketCase):

    def test_an_error_comes_back_as_kind_and_text(self):
        error = self.refused("show", id=5)
        self.assertEqual((error.kind, error.exit_code), ("UnknownJob", 2))
        self.assertEqual(str(error), "no job 5: it was never added here, or was removed")
        self.assertEqual(self.refused("add", task="no").kind, "UnknownTask")
        self.assertEqual(self.refused("list", service="no").kind, "NoSuchService")

    def test_what_nobody_foresaw_is_logged_and_said_without_its_traceback(self):
        def broken(connection, tell):
            raise ZeroDivisionError("red \x1b[31m")
        self.stubbed("broken", broken)
        error = self.refused("broken")
        self.assertEqual((error.kind, error.exit_code), ("Internal", 1))
        self.assertIn("ZeroDivisionError", str(error))
        self.assertNotIn("Traceback", str(error))
        self.assertNotIn("\x1b", str(error))
        self.assertTrue(self.wait_logged("a command has failed"))
        self.assertEqual(self.ask("services")[0]["name"], "tasks")

    def test_requests_that_mean_nothing_are_refused(self):
        for request in (
                {}, [], "text", 5, None, {"verb": 5}, {"verb": "nothing"},
                {"verb": "show"}, {"verb": "show", "arguments": []},
                {"verb": "show", "arguments": {"id": 5, "more": 1}},
                {"verb": "show", "arguments": {"id": 5, "tell": 1}},
                {"verb": "show", "arguments": {"service": 1, "id": 2}},
                {"verb": "show", "service": 5, "arguments": {"id": 5}},
                {"verb": "services", "db": "x"}, {"verb": "__class__"},
                {"verb": "add", "arguments": {"task": "echo", "concerns": [1]}},
                {"verb": "add", "arguments": {"task": "echo", "owner": "root"}}):
            with self.subTest(request):
                reply = self.raw(json.dumps(request).encode() + b"\n")
                self.assertEqual(reply["error"]["kind"], "BadRequest", reply)
        for line in (b"\n", b"nonsense\n", b"\x80\x04pickle\n", b"[" * 100_000 + b"\n"):
            self.assertEqual(self.raw(line)["error"]["kind"], "BadRequest")
        self.assertEqual(self.look().counts(), dict.fromkeys(lifecycle.STATUSES, 0))

    def test_a_line_that_is_too_long_is_refused_and_the_client_let_go(self):
        with mock.patch.object(ours, "LINE_LIMIT", 1000):
            reply = self.raw(b'"' + b"x" * 1500 + b'"\n')
            self.assertIn("one line of up to 1,000 bytes", reply["error"]["text"])
            with self.assertRaisesRegex(BadRequest, "more than the 1,000"):
                self.ask("add", task="echo", input="x" * 1500)

    def test_an_answer_that_is_too_long_is_an_error(self):
        self.stubbed("long", lambda connection, tell: "x" * 2000)
        client = self.client()
        with mock.patch.object(ours, "LINE_LIMIT", 1000):
            with self.assertRaisesRegex(Refused, "more than 1,000 bytes"):
                client.ask("long")

    def test_an_answer_that_json_cannot_say_is_an_error(self):
        self.stubbed("odd", lambda connection, tell: object())
        self.assertIn("answer", str(self.refused("odd")))

    def test_input_of_any_json_is_data_and_nothing_else(self):
        id = self.ask("add", task="echo", input={"__reduce__": ["os.system", "x"]})["id"]
        transaction.begin()
        self.assertEqual(self.job(id).input, {"__reduce__": ["os.system", "x"]})

    def test_a_client_that_says_nothing_is_let_go(self):
        with mock.patch.object(ours, "IDLE_SECONDS", 0.1), \
                socket.socket(socket.AF_UNIX) as silent:
            silent.settimeout(BOUND)
            silent.connect(str(self.socket))
            self.assertEqual(silent.recv(1), b"")

    def test_a_client_that_hangs_up_half_way_harms_nobody(self):
        with socket.socket(socket.AF_UNIX) as rude:
            rude.connect(str(self.socket))
            rude.sendall(b'{"verb": "add", "arguments": {"task"')
        self.assertEqual(self.ask("services")[0]["name"], "tasks")
        self.assertEqual(self.look().queueLength(), 0)

    def test_when_the_process_goes_away_the_client_says_so(self):
        entered = threading.Event()

        def vanishing(connection, tell):
            entered.set()
            for client in self.server.clients:
                client.shutdown(socket.SHUT_RDWR)
        self.stubbed("vanish", vanishing)
        with self.assertRaisesRegex(Gone, "went away before it answered"):
            self.client().ask("vanish")


class ThePlace(SocketCase):

    def mode(self, path):
        return stat.S_IMODE(os.stat(path).st_mode)

    def test_only_its_owner_may_open_it(self):
        self.server.stop()
        os.rmdir(self.socket.parent)
        for mask in (0, 0o777):
            before = os.umask(mask)
            try:
                server = self.serve()
            finally:
                os.umask(before)
            self.assertEqual(self.mode(self.socket), 0o600)
            self.assertEqual(self.mode(self.socket.parent), 0o700)
            self.ask("services")
            server.stop()

    def test_a_directory_that_others_may_open_is_closed_to_them(self):
        self.server.stop()
        self.socket.parent.chmod(0o777)
        self.serve()
        self.assertEqual(self.mode(self.socket.parent), 0o700)

    def test_a_directory_of_another_user_or_a_link_is_not_used(self):
        self.server.stop()
        with mock.patch("os.geteuid", lambda: 12345):
            self.assertRaises(NoDatabase, Server(self.db, self.socket).start)
        os.rmdir(self.socket.parent)
        target = self.socket.parent.with_name("elsewhere")
        target.mkdir()
        self.socket.parent.symlink_to(target)
        self.assertRaises(NoDatabase, Server(self.db, self.socket).start)
        self.assertEqual(list(target.iterdir()), [])

    def test_another_user_who_gets_through_is_not_served(self):
        with mock.patch.object(ours, "_is_friend", lambda client: False):
            self.assertIsNone(self.raw(b'{"verb": "services"}\n'))

    @unittest.skipUnless(os.getuid() == 0, "only root can become somebody else")
    def test_another_user_is_told_that_he_may_not(self):
        os.chmod(self.directory, 0o755)
        child = os.fork()
        if not child:  # nothing but this, and no way back into the tests
            code = 1
            try:
                os.setuid(65534)
                connect(self.socket)
            except NoDatabase as error:
                code = 0 if "not from you" in str(error) else 2
            finally:
                os._exit(code)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)

    def test_the_system_tells_who_it_is(self):
        ends = socket.socketpair()
        self.assertTrue(ours._is_friend(ends[0]))
        with mock.patch("os.geteuid", lambda: 12345):
            self.assertEqual(ours._is_friend(ends[0]), os.getuid() == 0)
        for end in ends:
            end.close()

    def test_a_socket_that_a_dead_process_left_is_replaced(self):
        self.server.stop()
        left = socket.socket(socket.AF_UNIX)
        left.bind(str(self.socket))
        left.close()
        self.assertIsNone(connect(self.socket))
        self.serve()
        self.ask("services")

    def test_a_socket_behind_which_somebody_lives_is_left_alone(self):
        with self.assertRaisesRegex(NoDatabase, "a process takes commands there already"):
            Server(self.db, self.socket).start()
        self.ask("services")

    def test_a_file_in_its_place_is_left_alone(self):
        self.server.stop()
        self.socket.write_text("precious")
        with self.assertRaisesRegex(NoDatabase, "there is a file of that name"):
            Server(self.db, self.socket).start()
        self.assertEqual(self.socket.read_text(), "precious")
        self.socket.unlink()

    def test_a_path_longer_than_an_address_works(self):
        deep = Path(self.directory, *["d" * 60] * 4, "socket")
        deep.parent.mkdir(parents=True)
        server = Server(self.db, deep).start()
        self.addCleanup(server.stop)
        client = connect(deep)
        self.assertEqual(client.ask("services")[0]["name"], "tasks")
        client.close()
        server.stop()
        self.assertFalse(deep.exists())


class Stopping(SocketCase):

    def test_afterwards_nobody_answers_and_nothing_is_left(self):
        client = self.client()
        client.ask("services")
        self.server.stop()
        self.assertFalse(self.socket.exists())
        self.assertIsNone(connect(self.socket))
        self.assertRaises(Gone, client.ask, "services")
        self.assertEqual([thread for thread in threading.enumerate()
                          if thread.name == ours.THREAD], [])
        self.server.stop()  # again: nothing happens

    def test_a_request_in_hand_is_answered(self):
        entered, goon = threading.Event(), threading.Event()

        def slow(connection, tell):
            entered.set()
            goon.wait(BOUND)
            return "answered"
        self.stubbed("slow", slow)
        answers = []
        client = self.client()
        asking = threading.Thread(target=lambda: answers.append(client.ask("slow")))
        asking.start()
        self.assertTrue(entered.wait(BOUND))
        stopping = threading.Thread(target=self.server.stop)
        stopping.start()
        self.assertTrue(self.server.stopping.wait(BOUND))
        goon.set()
        asking.join(BOUND)
        stopping.join(BOUND)
        self.assertEqual(answers, ["answered"])


if __name__ == "__main__":
    unittest.main()
