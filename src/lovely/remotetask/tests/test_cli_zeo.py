"""The command `zeo`: what it makes of its words, and a server that answers."""
import os
import shutil
import signal
import tempfile
import unittest
from pathlib import Path

from lovely.remotetask.cli import arguments, zeo
from lovely.remotetask.cli.problems import BadArgument
from lovely.remotetask.tests import servers
from lovely.remotetask.tests.servers import ZeoServer
from lovely.remotetask.tests.test_cli_processes import CODE, ProcessCase


class TheWords(unittest.TestCase):

    def words(self, *given):
        return zeo.words(arguments.parse(["zeo", *given]))

    def test_a_file_is_served_on_this_host_only(self):
        self.assertEqual(
            self.words("var/Data.fs"), ["-f", "var/Data.fs", "-a", "127.0.0.1:8100"])

    def test_address_and_timeout_are_passed_on(self):
        self.assertEqual(
            self.words("Data.fs", "--address", "/srv/zeo.sock", "--timeout", "1m"),
            ["-f", "Data.fs", "-a", "/srv/zeo.sock", "-t", "60.0"])

    def test_a_configuration_takes_the_place_of_file_and_address(self):
        self.assertEqual(self.words("--config", "zeo.conf"), ["-C", "zeo.conf"])

    def test_it_must_be_one_or_the_other(self):
        for given in ((), ("Data.fs", "--config", "zeo.conf"),
                      ("--config", "zeo.conf", "--address", "localhost:1")):
            with self.assertRaises(BadArgument, msg=given):
                self.words(*given)


class CommandServer(ZeoServer):
    """Started as a user types it."""

    def command(self):
        words = super().command()
        return [words[0], "-c", CODE, "zeo", str(self.data), "--address",
                f"127.0.0.1:{self.port}"]


class AServer(ProcessCase):

    level = 2

    def server(self):
        folder = tempfile.mkdtemp(prefix="remotetask-zeo-")
        self.addCleanup(shutil.rmtree, folder)
        server = CommandServer(folder)
        self.addCleanup(server.stop)
        return server.start()

    def test_it_serves_until_it_is_told_to_stop(self):
        server = self.server()
        process = server.process
        self.assertIn("serves 1 at", server.last_words())
        server.stop(signal.SIGINT)
        self.assertEqual(process.returncode, 0)
        self.assertNotIn("Traceback", server.last_words())
        servers.wait_until(lambda: not servers.accepts(server.port), "the port")

    def test_a_second_one_for_the_same_file_is_refused(self):
        server = self.server()
        code, out, err = self.command(
            "zeo", server.data, "--address", f"127.0.0.1:{servers.free_port()}")
        self.assertEqual((code, out), (3, ""))
        self.assertIn(f"in use by process {server.pid}", err)

    def test_what_is_wrong_is_one_line(self):
        server = self.server()
        for words, part in (
                (["D.fs", "--address", f"127.0.0.1:{server.port}"], "already in use"),
                (["D.fs", "--address", "here:there"], "invalid value for -a"),
                (["--config", "nothing.conf"], "No such file"),
                ([os.path.join("nowhere", "Data.fs"), "--address", "127.0.0.1:0"],
                 "No such file")):
            code, out, err = self.command("zeo", *words)
            self.assertIn(code, (2, 3))
            self.assertEqual(out, "")
            self.assertIn(part, err)
            self.assertEqual(err.count("\n"), 1, err)
        self.assertFalse(Path(self.directory, "nowhere").exists())


if __name__ == "__main__":
    unittest.main()
