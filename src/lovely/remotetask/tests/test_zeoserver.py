"""A ZEO server in a process of its own, as docs/cluster.txt has it started."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
from contextlib import suppress
from pathlib import Path

import transaction
import zope.component.testing
from transaction import TransactionManager
from ZEO.ClientStorage import ClientStorage
from ZEO.Exceptions import ClientDisconnected
from ZODB.DB import DB
from ZODB.POSException import ConflictError
from ZODB.utils import u64
from zope.component import provideUtility

from lovely.remotetask import TaskService, zeoserver
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.task import SimpleTask
from lovely.remotetask.tests import servers
from lovely.remotetask.tests.servers import BOUND, ZeoServer

#: Stops itself between vote and finish, while it has the commit lock.
STOPPED = """
import os, signal, sys, transaction, ZEO

class Last:
    transaction_manager = transaction.manager
    def sortKey(self): return "~~~"
    def abort(self, transaction): pass
    tpc_begin = commit = tpc_finish = tpc_abort = abort
    def tpc_vote(self, transaction):
        print("voted", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)

db = ZEO.DB(("127.0.0.1", int(sys.argv[1])))
db.open().root()["stopped"] = True
transaction.get().join(Last())
try:
    transaction.commit()
    print("committed")
except Exception as error:
    print("refused:", type(error).__name__)
"""

#: Adds jobs, each in its own transaction, beside another such process.
ADDING = """
import sys, transaction, zodburi, ZODB
from zope.component import provideUtility
from ZODB.POSException import ConflictError
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.task import SimpleTask

provideUtility(SimpleTask(lambda input: input), ITask, "work")
factory, options = zodburi.resolve_uri(sys.argv[1])
service = ZODB.DB(factory(), **options).open().root()["tasks"]
print("ready", flush=True)
sys.stdin.readline()
conflicts = 0
for number in range(int(sys.argv[2])):
    while True:
        try:
            transaction.begin()
            service.add("work", number)
            transaction.commit()
            break
        except ConflictError:
            conflicts += 1
            transaction.abort()
print(conflicts)
"""

#: A server whose Python does not know this package.
IGNORANT = """
import sys
sys.modules["lovely.remotetask"] = sys.modules["zc.queue"] = None
from ZEO.runzeo import main
main()
"""


class Ignorant(ZeoServer):

    def command(self):
        return [sys.executable, "-c", IGNORANT, *super().command()[3:]]


class ClientResolves(Ignorant):
    """... and leaves conflicts to its clients, as docs/cluster.txt advises then."""

    def command(self):
        path = self.directory / "zeo.conf"
        path.write_text(f"""
            <zeo>
              address 127.0.0.1:{self.port}
              client-conflict-resolution true
            </zeo>
            <filestorage>
              path {self.data}
            </filestorage>
            """)
        return [sys.executable, "-c", IGNORANT, "-C", str(path)]


class ZeoCase(unittest.TestCase):

    def setUp(self):
        zope.component.testing.setUp()
        self.addCleanup(zope.component.testing.tearDown)
        self.addCleanup(transaction.abort)
        self.directory = tempfile.mkdtemp(prefix="remotetask-zeo-")
        self.addCleanup(shutil.rmtree, self.directory)
        provideUtility(SimpleTask(lambda input: input), ITask, "work")

    def serve(self, *options, kind=ZeoServer):
        server = kind(self.directory, options=options)
        self.addCleanup(server.stop)
        return server.start()

    def client(self, server):
        db = DB(ClientStorage(server.address, wait_timeout=BOUND))
        self.addCleanup(db.close)
        return db

    def service_at(self, server):
        """A connection with a stored service that has some jobs already."""
        connection = self.connection(server)
        service = connection.root()["tasks"] = TaskService()
        connection.transaction_manager.commit()
        for _ in range(3):
            service.addMany("work", range(40))
            connection.transaction_manager.commit()
        return connection

    def connection(self, server):
        manager = TransactionManager()
        connection = self.client(server).open(manager)
        self.addCleanup(connection.close)
        self.addCleanup(manager.abort)
        return connection

    def process(self, code, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
        self.addCleanup(process.wait)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.kill)
        return process


class ACommitThatHangs(ZeoCase):

    level = 2

    def hang(self, server):
        """A client that has the commit lock, and stands still."""
        process = self.process(STOPPED, server.port)
        self.assertEqual(process.stdout.readline(), "voted\n")
        return process

    def committed(self, server) -> threading.Event:
        """Set as soon as another client has committed."""
        done, manager = threading.Event(), TransactionManager()
        storage = ClientStorage(server.address, wait_timeout=BOUND)
        connection = DB(storage).open(manager)

        def commit():
            connection.root()["other"] = True
            with suppress(ClientDisconnected):  # the test is over
                manager.commit()
                done.set()
        thread = threading.Thread(target=commit, daemon=True)
        thread.start()
        # What waits for the server must not wait for ever: these go backwards.
        self.addCleanup(thread.join, BOUND)
        self.addCleanup(storage.close)
        self.addCleanup(server.kill)
        return done

    def test_holds_up_the_others_until_the_timeout_and_no_longer(self):
        server = self.serve("-t", 1)
        self.hang(server)
        self.assertTrue(self.committed(server).wait(BOUND), server.last_words())

    def test_has_not_happened_when_the_client_goes_on(self):
        server = self.serve("-t", 1)
        process = self.hang(server)
        self.assertTrue(self.committed(server).wait(BOUND), server.last_words())
        process.send_signal(signal.SIGCONT)
        self.assertEqual(process.stdout.readline(), "refused: ClientDisconnected\n")
        self.assertEqual(
            dict(self.connection(server).root()), {"other": True})

    def test_plain_runzeo_never_frees_the_lock(self):
        """As of ZEO 6.2.  When this fails, a release has mended it: the cure of
        zeoserver.py can go."""
        kind = type("Plain", (ZeoServer,), {"module": "ZEO.runzeo"})
        server = self.serve("-t", 1, kind=kind)
        self.hang(server)
        done = self.committed(server)
        servers.wait_until(lambda: "Transaction timeout" in server.last_words(5000),
                           "the timeout of the server")
        self.assertFalse(done.wait(2))

    def test_a_client_that_waits_for_the_lock_and_goes_leaves_no_trace(self):
        server = self.serve("-t", 2)
        self.hang(server)
        waiting = self.process(STOPPED, server.port)
        status = ClientStorage(server.address, wait_timeout=BOUND)
        self.addCleanup(status.close)
        servers.wait_until(
            lambda: status._call("server_status")["waiting"] == 1, "the second client")
        waiting.kill()
        self.assertTrue(self.committed(server).wait(BOUND), server.last_words())


class TheTimeout(ZeoCase):

    def timeout_of(self, *words):
        path = Path(self.directory) / "Data.fs"
        options = zeoserver.Options()
        options.realize(["-a", "127.0.0.1:0", "-f", str(path), *words])
        server = zeoserver.Server(options)
        server.open_storages()
        self.addCleanup(lambda: [each.close() for each in server.storages.values()])
        made = {}
        original = zeoserver.StorageServer
        zeoserver.StorageServer = lambda *args, **named: made.update(named) or Nobody()
        try:
            server.create_server()
        finally:
            zeoserver.StorageServer = original
        return made["transaction_timeout"]

    def test_is_half_a_minute_unless_something_else_is_said(self):
        self.assertEqual(self.timeout_of(), 30)

    def test_can_be_said(self):
        self.assertEqual(self.timeout_of("-t", "5"), 5)

    def test_can_be_switched_off(self):
        self.assertIsNone(self.timeout_of("-t", "0"))


class Numbers(ZeoCase):

    def first_of(self, path):
        options = zeoserver.Options()
        options.realize(["-a", "127.0.0.1:0", "-f", str(path)])
        server = zeoserver.Server(options)
        server.open_storages()
        storage, = server.storages.values()
        try:
            return u64(storage.new_oid())
        finally:
            storage.close()

    def test_of_new_objects_are_not_given_again_by_the_next_server(self):
        """A client had kept some from before: 'A different object already has the same
        oid' ended its commit."""
        path = Path(self.directory) / "Data.fs"
        first, again = self.first_of(path), self.first_of(path)
        self.assertGreater(min(first, again), 1_000 * zeoserver.BATCH)
        self.assertGreater(abs(first - again), 1)


class Nobody:
    addr = ("127.0.0.1", 1)


class AnOpenServer(ZeoCase):

    level = 2

    def test_warns_of_an_address_that_all_can_reach(self):
        class Open(ZeoServer):
            def command(self):
                return [each.replace("127.0.0.1:", "0.0.0.0:")
                        for each in super().command()]
        server = self.serve(kind=Open)
        self.assertIn("can be reached from other machines", server.last_words())

    def test_says_nothing_of_a_local_one(self):
        self.assertNotIn("can be reached", self.serve().last_words())


class AddingAtOnce(ZeoCase):
    """Two clients add; neither has seen the other's job when it commits."""

    level = 2

    def conflicts(self, server, pairs=20) -> int:
        first = self.service_at(server)
        second = self.connection(server)
        conflicts = 0
        for number in range(pairs):
            both = [first, second]
            for connection in both:
                connection.transaction_manager.begin()
                connection.root()["tasks"].add("work", number)
            for connection in both:
                try:
                    connection.transaction_manager.commit()
                except ConflictError:
                    conflicts += 1
                    connection.transaction_manager.abort()
        return conflicts

    def test_is_no_conflict_where_the_server_knows_the_inbox(self):
        # Two ids in one leaf of one of the sixteen trees may still meet.
        self.assertLess(self.conflicts(self.serve()), 4)

    def test_is_no_conflict_where_clients_resolve(self):
        self.assertLess(self.conflicts(self.serve(kind=ClientResolves)), 4)

    def test_is_a_conflict_each_time_where_nobody_can_resolve(self):
        self.assertEqual(self.conflicts(self.serve(kind=Ignorant)), 20)

    def test_two_processes_do_so_without_conflicts(self):
        server = self.serve()
        connection = self.service_at(server)
        adding = [self.process(ADDING, server.uri, 100) for _ in range(2)]
        for process in adding:
            self.assertEqual(process.stdout.readline(), "ready\n")
        for process in adding:
            process.stdin.write("\n")
            process.stdin.flush()
        conflicts = [int(process.communicate(timeout=BOUND)[0]) for process in adding]
        self.assertLess(sum(conflicts), 10)  # of 200 adds; without inbox about 100
        connection.sync()
        self.assertEqual(connection.root()["tasks"].check(), [])


if __name__ == "__main__":
    unittest.main()
