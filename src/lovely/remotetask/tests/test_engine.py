"""Databases whose settings risk what is in them, and those that are opened well."""
import logging
import os
import resource
import shutil
import tempfile
import unittest
from contextlib import contextmanager, suppress
from unittest import mock

import transaction
import ZODB
from persistent.mapping import PersistentMapping
from ZEO.ClientStorage import ClientStorage
from ZODB.config import databaseFromString
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import ReadConflictError

from lovely.remotetask import TaskService, processor
from lovely.remotetask.cli import databases
from lovely.remotetask.runtime import engine, wakeup
from lovely.remotetask.tests import servers
from lovely.remotetask.tests.support import Lines

SQLITE = """
    %import relstorage
    <zodb>
      <relstorage>
        <sqlite3>
          data-dir {}
          {}
        </sqlite3>
      </relstorage>
    </zodb>
    """
FULL = "<pragmas>\nsynchronous FULL\n</pragmas>"


class EngineCase(unittest.TestCase):

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="remotetask-engine-")
        self.addCleanup(shutil.rmtree, self.directory)

    def opened(self, db):
        self.addCleanup(db.close)
        return db

    def by_uri(self, uri):
        return self.opened(databases.find(uri).open())


class OfSQLite(EngineCase):

    def pragma(self, db):
        """What the connection says that this database commits with."""
        with db.storage._store_connection_pool.borrowing() as store:
            store.cursor.execute("PRAGMA synchronous")
            return store.cursor.fetchone()[0]

    def test_what_could_not_be_committed_is_not_committed_by_the_next(self):
        """A commit failed, the disk was full; the next one on that connection stored
        what it had left, so that half of a job took effect twice."""
        servers.require("sqlite", "relstorage")
        db = self.by_uri(f"sqlite://{self.directory}")
        engine.mend(db)
        manager = transaction.TransactionManager()
        root = db.open(manager).root()
        for name in "ab":
            root[name] = PersistentMapping(value=0)
        manager.commit()
        root["a"]["value"] = root["b"]["value"] = 1
        with self.full_disk(), self.assertLogs("txn", logging.CRITICAL), \
                self.assertRaisesRegex(Exception, "disk"):
            manager.commit()
        manager.abort()
        root["b"]["value"] = 2
        manager.commit()
        other = transaction.TransactionManager()
        found = db.open(other).root()
        self.assertEqual((found["a"]["value"], found["b"]["value"]), (0, 2))

    def two_processes(self):
        """A root of each of two databases on the same files, as of two processes."""
        servers.require("sqlite", "relstorage")
        managers, roots = [], []
        for _ in range(2):
            db = self.by_uri(f"sqlite://{self.directory}")
            engine.mend(db)
            managers.append(transaction.TransactionManager())
            roots.append(db.open(managers[-1]).root())
            for name in () if len(roots) > 1 else "abc":
                roots[0][name] = PersistentMapping(value=0)
            managers[-1].commit()
        return (*roots, *managers)

    def lose(self, root, manager, other, others):
        """A transaction that changes "a" and has read "b", which changes meanwhile."""
        manager.begin()
        root["a"]["value"] = 1
        root._p_jar.readCurrent(root["b"])
        others.begin()
        other["b"]["value"] += 1
        others.commit()
        with self.assertRaises(ReadConflictError):
            manager.commit()
        manager.abort()

    def test_what_lost_against_another_is_not_committed_by_the_next(self):
        """RelStorage kept what was to be stored, and the next commit stored it."""
        here, there, manager, others = self.two_processes()
        self.lose(here, manager, there, others)
        here["c"]["value"] = 1
        manager.commit()
        others.begin()
        self.assertEqual([there[name]["value"] for name in "abc"], [0, 1, 1])

    def test_nor_does_the_next_stumble_over_it(self):
        here, there, manager, others = self.two_processes()
        self.lose(here, manager, there, others)
        there["a"]["value"] = 2
        others.commit()
        manager.begin()
        here["c"]["value"] = 1
        manager.commit()
        others.begin()
        self.assertEqual([there[name]["value"] for name in "abc"], [2, 1, 1])

    def test_what_was_cached_is_forgotten_with_its_index(self):
        """RelStorage starts its index anew after an inconsistency, and took old
        states for those of today: each try to change one conflicted, for ever."""
        from relstorage.cache.interfaces import CacheConsistencyError

        here, there, manager, others = self.two_processes()
        for value in range(1, 4):   # so that what was first read grows old
            manager.begin()
            here["c"]["value"] = value
            self.assertEqual(here["a"]["value"], 0)
            manager.commit()
        others.begin()
        there["a"]["value"] = 5
        others.commit()
        with suppress(CacheConsistencyError):
            here._p_jar._storage._cache._reset("as it does")
        here._p_jar.cacheMinimize()
        manager.begin()
        self.assertEqual(here["a"]["value"], 5)

    def test_another_release_is_told_of_once(self):
        servers.require("sqlite", "relstorage")
        db = self.by_uri(f"sqlite://{self.directory}")
        engine._tell_once.cache_clear()
        with mock.patch.object(engine, "_mend_cache", side_effect=AttributeError("gone")), \
                self.assertLogs("lovely.remotetask", "WARNING") as logs:
            engine.mend(db)
            engine.mend(db)
        self.assertEqual(len(logs.records), 1, logs.output)

    def test_who_only_adds_is_helped_as_well(self):
        servers.require("sqlite", "relstorage")
        db = self.by_uri(f"sqlite://{self.directory}")
        root = db.open(manager := transaction.TransactionManager()).root()
        root["tasks"] = TaskService()
        manager.commit()
        with mock.patch.object(engine, "mend") as mend:
            wakeup.ring_after_commit(root["tasks"])
            wakeup.ring_after_commit(root["tasks"])
        mend.assert_called_once_with(db)
        manager.abort()

    @contextmanager
    def full_disk(self):
        """No file of this process can grow as far as the next commit."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = os.path.getsize(f"{self.directory}/main.sqlite3-wal")
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    def test_by_uri_each_commit_is_on_the_disk(self):
        servers.require("sqlite", "relstorage")
        for uri in (f"sqlite://{self.directory}/a",
                    f"sqlite://?data_dir={self.directory}/b&keep_history=0"):
            db = self.by_uri(uri)
            self.assertEqual(self.pragma(db), engine.FULL)
            self.assertEqual(engine.cautions(db), [])

    def test_a_configuration_without_the_pragma_is_warned_of(self):
        servers.require("sqlite", "relstorage")
        db = self.opened(databaseFromString(SQLITE.format(self.directory, "")))
        self.assertEqual(self.pragma(db), 1)
        [text] = engine.cautions(db)
        self.assertIn("synchronous=NORMAL", text)

    def test_a_configuration_with_the_pragma_is_not(self):
        servers.require("sqlite", "relstorage")
        db = self.opened(databaseFromString(SQLITE.format(self.directory, FULL)))
        self.assertEqual(self.pragma(db), engine.FULL)
        self.assertEqual(engine.cautions(db), [])

    def test_who_starts_to_work_is_warned_once(self):
        servers.require("sqlite", "relstorage")
        lines = Lines()
        logger = logging.getLogger("lovely.remotetask")
        logger.addHandler(lines)
        self.addCleanup(logger.removeHandler, lines)
        db = self.opened(databaseFromString(SQLITE.format(self.directory, "")))
        with db.transaction() as connection:
            connection.root()["tasks"] = TaskService()
        for _ in range(2):
            connection = db.open()
            connection.root()["tasks"].startProcessing()
            connection.close()
            self.assertEqual(processor.stop_all(db, grace=1), [])
        self.assertEqual(
            len([each for each in lines.texts() if "synchronous=NORMAL" in each]), 1)


class OfPostgreSQL(EngineCase):

    layer = servers.SHARED
    level = 2

    def test_its_defaults_are_good(self):
        db = self.by_uri(servers.SHARED.postgresql_uri(self))
        self.assertEqual(engine.cautions(db), [])

    def test_commits_that_are_not_waited_for_are_warned_of(self):
        uri = servers.SHARED.postgresql_uri(self)
        db = self.by_uri(uri + "?options=-csynchronous_commit%3Doff")
        [text] = engine.cautions(db)
        self.assertIn("synchronous_commit = off", text)


class OfZEO(EngineCase):

    level = 2

    def cautions(self, host):
        server = servers.ZeoServer(self.directory)
        self.addCleanup(server.stop)
        server.start()
        storage = ClientStorage((host, server.port), wait_timeout=servers.BOUND)
        return engine.cautions(self.opened(ZODB.DB(storage)))

    def test_on_this_host_it_needs_no_encryption(self):
        self.assertEqual(self.cautions("127.0.0.1"), [])

    def test_elsewhere_it_does(self):
        [text] = self.cautions("0.0.0.0")  # which is this host, and not known to be
        self.assertIn("without encryption", text)


class TheAddress(unittest.TestCase):

    def test_is_local_by_path_name_or_number(self):
        for address in ("/var/zeo.sock", ("localhost", 1), ("127.0.0.1", 1),
                        ("127.8.8.8", 1), ("::1", 1), ("[::1]", 1)):
            self.assertTrue(engine.is_local(address), address)

    def test_is_not_local_when_others_can_reach_it(self):
        for address in (("", 1), (None, 1), ("0.0.0.0", 1), ("::", 1),
                        ("192.0.2.7", 1), ("db.example.org", 1)):
            self.assertFalse(engine.is_local(address), address)


class OfOthers(unittest.TestCase):

    def test_there_is_nothing_to_say(self):
        db = ZODB.DB(MappingStorage())
        self.addCleanup(db.close)
        self.assertEqual(engine.cautions(db), [])

    def test_trouble_with_the_question_stops_nobody(self):
        db = ZODB.DB(MappingStorage())
        self.addCleanup(db.close)
        with mock.patch.object(engine, "cautions", side_effect=OSError("gone")):
            engine.warn(db)


if __name__ == "__main__":
    unittest.main()
