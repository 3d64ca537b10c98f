"""The private servers: they answer, stay on their port, keep what was committed."""
import os
import shutil
import tempfile
import unittest
from contextlib import closing
from pathlib import Path
from unittest import mock

import ZODB

from lovely.remotetask import uris
from lovely.remotetask.tests import servers


class WhatIsMissing(unittest.TestCase):

    def missing(self, required):
        with mock.patch.dict(os.environ, {servers.REQUIRE: required}):
            return servers.missing("postgresql", "there is no program initdb")

    def test_skips_the_test_and_says_so(self):
        error = self.missing("")
        self.assertIsInstance(error, unittest.SkipTest)
        self.assertIn("no postgresql: there is no program initdb", str(error))
        self.assertIsInstance(self.missing("zeo sqlite"), unittest.SkipTest)

    def test_is_a_failure_where_it_is_required(self):
        for required in ("postgresql", "zeo, postgresql", "all"):
            self.assertIsInstance(self.missing(required), AssertionError)

    def test_may_be_a_package_or_a_program(self):
        with mock.patch.dict(os.environ, {servers.REQUIRE: ""}):
            with self.assertRaisesRegex(unittest.SkipTest, "no_such_package"):
                servers.require("zeo", "no_such_package")
            with self.assertRaisesRegex(unittest.SkipTest, "no-such-program"):
                servers.binary("zeo", "no-such-program", "/usr/lib/*/bin")
        servers.require("zeo", "ZODB")
        self.assertTrue(os.path.isabs(servers.binary("shell", "sh")))


class EachServer(unittest.TestCase):

    level = 2

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="remotetask-servers-")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)

    def server(self, kind):
        server = servers.storages(self.directory)[kind]
        self.addCleanup(server.stop)
        return server.start()

    def value(self, server, new=None):
        """What is stored there; with *new*, after that was."""
        factory, options = uris.resolve(server.uri)
        with closing(ZODB.DB(factory(), **options)) as db, db.transaction() as connection:
            if new is not None:
                connection.root()["value"] = new
            return connection.root().get("value")

    def test_what_was_committed_is_there_after_every_kind_of_end(self):
        for kind in servers.NAMES:
            with self.subTest(kind):
                server = self.server(kind)
                uri = server.uri
                for number, end in enumerate(
                        (server.stop, server.kill, getattr(server, "crash", server.kill))):
                    self.value(server, number)
                    end()
                    server.start()
                    self.assertEqual(server.uri, uri)
                    self.assertEqual(self.value(server), number)

    def test_it_ends_its_own_processes(self):
        for kind in ("zeo", "postgresql"):
            with self.subTest(kind):
                server = self.server(kind)
                pid = server.pid
                server.stop()
                self.assertFalse(Path(f"/proc/{pid}").exists())
                self.assertFalse(server.running())

    def test_commits_of_its_postgresql_are_durable(self):
        server = self.server("postgresql")
        import psycopg2  # it is there when the server is
        with closing(psycopg2.connect(server.dsn())) as connection:
            cursor = connection.cursor()
            for name in ("fsync", "synchronous_commit", "full_page_writes"):
                cursor.execute(f"SHOW {name}")
                self.assertEqual(cursor.fetchone(), ("on",), name)

    def test_one_that_does_not_start_says_why(self):
        server = servers.ZeoServer(self.directory, options=["--no-such-option"])
        servers.require("zeo", "ZEO")
        with self.assertRaisesRegex(servers.NotRunning, "no-such-option"):
            server.start()


if __name__ == "__main__":
    unittest.main()
