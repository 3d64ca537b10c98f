"""The application and workers on the four storages, typed as a user types them."""
import signal
import unittest
from contextlib import closing
from pathlib import Path

from lovely.remotetask.cli import databases
from lovely.remotetask.tests import servers
from lovely.remotetask.tests.test_cli_processes import ProcessCase


class Engine:
    """An application with a web server, a worker beside it where the storage admits
    one, and commands."""

    level = 2
    layer = servers.SHARED
    storage = ""
    beside = True
    conf = ""  # the section of the storage, in a zope.conf

    def setUp(self):
        super().setUp()
        self.uri = servers.SHARED.uri(self, self.storage)
        del self.environment[databases.VARIABLE]
        self.environment.pop("REMOTETASK_AUTOSTART", None)

    def application(self, *words):
        process = self.start("run", "--no-example", "--port", 0, *words)
        process.wait_for("Ctrl-C stops it")
        return process

    def worker(self, where):
        process = self.start("work", "--db", where)
        process.wait_for("At work on")
        return process

    def stop(self, *processes):
        for process in processes:
            self.assertEqual(process.stop(signal.SIGTERM), 0, process.said)
            self.assertNotIn("Traceback", process.said)

    def echo(self, text, where):
        self.assertEqual(
            self.done("add", "echo", f'"{text}"', "--wait", "30s", "--db", where),
            f'"{text}"\n')

    def test_all_that_work_and_ask_have_the_same_jobs(self):
        application = self.application("--db", self.uri)
        working = [application]
        if self.beside:
            working.append(self.worker("var"))
            working.append(self.worker(self.uri))
        self.echo("by its directory", "var")
        self.echo("by its uri", self.uri)
        [service] = self.answer("status", "--db", self.uri)
        self.assertEqual(service["counts"]["completed"], 2)
        self.assertEqual(len(self.answer("list", "--db", "var")["jobs"]), 2)
        self.stop(*working)
        worker = self.worker(self.uri)
        self.echo("without the application", self.uri)
        self.stop(worker)
        self.assertIn("3 jobs, no faults", self.done("check", "--db", "var"))

    def test_a_zope_conf_of_ones_own_names_it_as_well(self):
        self.stop(self.application("--db", self.uri))
        conf = self.directory / "var" / "zope.conf"
        text = conf.read_text()
        section = text[text.index("%import"):text.index("</zodb>")]
        conf.write_text(text.replace(section, self.section()))
        application = self.application()
        self.echo("by zope.conf", "var")
        self.stop(application)

    def section(self):
        raise NotImplementedError


class OnAFile(Engine, ProcessCase):
    storage, beside = "file", False

    def section(self):
        path = self.uri.removeprefix("file://")
        return f"<zodb>\n<filestorage>\npath {path}\n</filestorage>\n"


class OnZEO(Engine, ProcessCase):
    storage = "zeo"

    def section(self):
        address = self.uri.removeprefix("zeo://")
        return f"<zodb>\n<zeoclient>\nserver {address}\n</zeoclient>\n"


class OnPostgreSQL(Engine, ProcessCase):
    storage = "postgresql"

    def section(self):
        dsn = servers.SHARED.postgresql().dsn(self.uri.rpartition("/")[2])
        return ("%import relstorage\n<zodb>\n<relstorage>\n<postgresql>\n"
                f"dsn {dsn}\n</postgresql>\n</relstorage>\n")


class OnSQLite(Engine, ProcessCase):
    storage = "sqlite"

    def section(self):
        path = self.uri.removeprefix("sqlite://")
        return ("%import relstorage\n<zodb>\n<relstorage>\n<sqlite3>\n"
                f"data-dir {path}\n</sqlite3>\n</relstorage>\n")

    def test_without_the_pragma_the_application_warns(self):
        self.stop(self.application("--db", self.uri))
        self.assertNotIn("synchronous", self.log())
        conf = self.directory / "var" / "zope.conf"
        text = conf.read_text()
        section = text[text.index("%import"):text.index("</zodb>")]
        conf.write_text(text.replace(section, self.section()))
        self.stop(self.application())
        self.assertIn("SQLite is opened with synchronous=NORMAL", self.log())

    def log(self):
        return (self.directory / "var" / "log" / "event.log").read_text()


class WhatIsWrong(ProcessCase):
    """Each is one clear line, for those who work and those who ask."""

    level = 2
    layer = servers.SHARED

    def refusals(self, uri):
        """What is said, whoever opens it: (exit code, line)."""
        for words in (["work"], ["status"], ["run", "--no-example", "--port", 0]):
            code, out, err = self.command(*words, "--db", uri)
            self.assertEqual((out, err.count("\n")), ("", 1), (words, out, err))
            yield code, err

    def assert_refused(self, uri, part, secret=None):
        for code, line in self.refusals(uri):
            self.assertIn(part, line)
            self.assertIn(code, (1, 3))
            if secret is not None:
                self.assertNotIn(secret, line)

    def test_a_password(self):
        uri = servers.SHARED.postgresql_uri(self)
        secret = servers.SHARED.postgresql().password
        self.assert_refused(uri.replace(secret, "s3cr3t"),
                            "password authentication failed", "s3cr3t")

    def test_a_database_that_is_not_there(self):
        uri = servers.SHARED.postgresql().uri_of("nowhere")
        self.assert_refused(uri, 'database "nowhere" does not exist',
                            servers.SHARED.postgresql().password)

    def test_a_postgresql_that_is_down(self):
        servers.require("postgresql", "psycopg2", "relstorage")
        self.assert_refused(f"postgresql://u:s3cr3t@127.0.0.1:{servers.free_port()}/db",
                            "Connection refused", "s3cr3t")

    def test_a_zeo_server_that_is_down(self):
        uri = f"zeo://127.0.0.1:{servers.free_port()}?wait_timeout=1"
        self.assert_refused(uri, f"the ZEO server of {uri} does not answer")

    def test_a_directory_for_sqlite_that_cannot_be_made(self):
        servers.require("sqlite", "relstorage")
        (self.directory / "file").touch()
        self.assert_refused(f"sqlite://{self.directory}/file/jobs", "cannot be opened")

    def test_a_scheme_that_nobody_knows(self):
        for code, line in self.refusals("nonsense://x"):
            self.assertEqual(code, 2)
            self.assertIn("databases of that kind are not known", line)

    def test_another_database_than_the_data_fs_of_the_directory(self):
        words = ["run", "--no-example", "--port", 0]
        first = self.start(*words)
        first.wait_for("Ctrl-C stops it")
        self.assertEqual(first.stop(), 0)
        code, out, err = self.command(*words, "--db", f"sqlite://{self.directory}/b")
        self.assertEqual((code, out), (2, ""))
        self.assertIn("names another database", err)
        self.assertFalse(Path(self.directory, "b").exists())

    def test_a_wrong_uri_is_put_right_by_another(self):
        words = ["run", "--no-example", "--port", 0, "--db"]
        code, out, err = self.command(*words, f"sqlite://{__file__}")
        self.assertEqual((code, out), (2, ""))
        self.assertFalse((self.directory / "var").exists())
        (self.directory / "file").touch()
        code, out, err = self.command(*words, f"sqlite://{self.directory}/file/jobs")
        self.assertEqual(code, 1)
        right = f"sqlite://{self.directory}/jobs"
        application = self.start(*words, right)
        self.assertIn(right, application.wait_for("Database "))
        application.wait_for("Ctrl-C stops it")
        self.assertEqual(application.stop(), 0)

    def test_options_of_the_database_belong_into_its_section(self):
        code, out, err = self.command(
            "run", "--no-example", "--port", 0, "--db",
            f"file://{self.directory}/x.fs?connection_pool_size=3")
        self.assertEqual((code, out), (2, ""))
        self.assertIn("pool_size is for <zodb> to say", err)


class TheFirstStart(ProcessCase):
    """Several find the same empty database at once: one makes what is to be there."""

    level = 2
    layer = servers.SHARED

    def test_on_zeo(self):
        self.start_together("zeo")

    def test_on_postgresql(self):
        self.start_together("postgresql")

    def start_together(self, storage):
        uri = servers.SHARED.uri(self, storage)
        self.environment.pop("REMOTETASK_AUTOSTART", None)
        applications = [
            self.start("run", "--no-example", "--port", 0, "--db", uri, f"web{number}")
            for number in range(3)]
        for application in applications:
            application.wait_for("Ctrl-C stops it")
        self.assertEqual(
            self.done("add", "echo", "1", "--wait", "30s", "--db", uri), "1\n")
        self.assertEqual(len(self.answer("status", "--db", uri)), 1)
        for application in applications:
            self.assertEqual(application.stop(signal.SIGTERM), 0, application.said)


class TheServerGoes(ProcessCase):
    """A worker sits out an outage, and goes on when the server is back."""

    level = 2

    def test_a_zeo_server_that_is_killed_and_comes_back(self):
        self.sit_out(servers.ZeoServer(self.directory / "server"))

    def test_a_postgresql_that_crashes_and_comes_back(self):
        self.sit_out(servers.PostgresServer(self.directory / "server"))

    def sit_out(self, server):
        self.addCleanup(server.stop)
        server.start()
        self.environment[databases.VARIABLE] = server.uri
        self.make_at(server.uri)
        worker = self.worker()
        add = ["add", "double", "21", "--import", "gated", "--wait", "50s"]
        self.assertEqual(self.done(*add), "42\n")
        server.kill()
        server.start()
        self.assertEqual(self.done(*add), "42\n")
        self.assertEqual(worker.stop(signal.SIGTERM), 0)

    def make_at(self, uri):
        from lovely.remotetask import TaskService
        with closing(databases.find(uri).open()) as db, db.transaction() as connection:
            connection.root()["tasks"] = TaskService()


if __name__ == "__main__":
    unittest.main()
