"""Work that other processes bring ends a nap, on each storage that has others.

Two databases in one process stand for two processes: nothing but the storage
connects them.
"""
import threading
import time
import unittest
from contextlib import closing

import zope.component.testing
from BTrees.Length import Length
from transaction import TransactionManager

from lovely.remotetask import TaskService, processor
from lovely.remotetask.cli import databases
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.runtime import watch
from lovely.remotetask.runtime.wakeup import Bell, InvalidationListener
from lovely.remotetask.task import SimpleTask
from lovely.remotetask.tests import servers
from lovely.remotetask.tests.servers import BOUND

LONG = 3600.0  # a nap that no test sits out


class TwoProcesses:

    layer = servers.SHARED
    level = 2
    storage = ""

    def setUp(self):
        self.uri = servers.SHARED.uri(self, self.storage)
        zope.component.testing.setUp()
        self.addCleanup(zope.component.testing.tearDown)
        self.here = self.open()
        self.connection = self.connect(self.here)
        self.service = self.connection.root()["tasks"] = TaskService()
        self.service.processorArguments = {"waitTime": LONG}
        self.connection.root()["counter"] = Length()
        self.commit()
        self.there = self.open()  # now: a ZEO client sees what was there before

    def open(self):
        db = databases.find(self.uri).open()
        self.addCleanup(db.close)
        return db

    def connect(self, db):
        manager = TransactionManager()
        connection = db.open(manager)
        self.addCleanup(connection.close)
        self.addCleanup(manager.abort)
        return connection

    def commit(self):
        self.connection.transaction_manager.commit()

    def listen(self, name="counter", results=False):
        """A bell that rings when another process changes an object of the root."""
        bell = Bell()
        listener = InvalidationListener(bell)
        listener.results = results
        oid = self.connection.root()[name]._p_oid
        known = watch._watches.get(self.there)
        first = watch.adapter_of(self.there) is not None and (known is None or known.over)
        self.assertTrue(listener.attach(self.there, (oid,)))
        self.addCleanup(listener.detach)
        if first:  # it rings once when it has begun to listen
            self.assertTrue(bell.wait(0, BOUND))
        return bell

    def wait_until_seen(self, connection, name):
        """Wait until another process has heard of what was put into the root."""
        end = time.monotonic() + BOUND
        while name not in connection.root():
            self.assertLess(time.monotonic(), end, f"{name} is not seen")
            threading.Event().wait(0.005)
            connection.transaction_manager.begin()

    def change(self, name="counter"):
        self.connection.root()[name].change(1)
        self.commit()

    # -- what holds everywhere

    def test_a_job_that_another_process_adds_ends_the_nap(self):
        ran = threading.Event()
        zope.component.provideUtility(
            SimpleTask(lambda input: ran.set()), ITask, "ran")
        connection = self.connect(self.there)
        connection.root()["tasks"].startProcessing()
        self.addCleanup(processor.stop_all, self.there, 1)
        for number in range(3):
            ran.clear()
            self.service.add("ran", number)
            self.commit()
            self.assertTrue(ran.wait(BOUND), "it slept through the job")

    def test_only_what_is_watched_rings(self):
        self.connection.root()["other"] = Length()
        self.commit()
        there = self.connect(self.there)
        self.wait_until_seen(there, "other")  # its making shall not ring
        bell = self.listen("other")
        seen = bell.rings
        self.change()
        watch.tell(self.here, watch.WORK)
        self.change("other")
        watch.tell(self.here, watch.WORK)
        self.assertTrue(bell.wait(seen, BOUND))
        self.assertEqual(bell.rings, seen + 1)

    def test_idle_workers_write_nothing(self):
        connection = self.connect(self.there)
        connection.root()["tasks"].startProcessing()
        self.addCleanup(processor.stop_all, self.there, 1)
        dispatcher = processor._threads[processor._key(connection.root()["tasks"])][1] \
            .dispatcher
        servers.wait_until(lambda: dispatcher.attendance.orders, "the first look")
        looker = self.connect(self.here)
        before = last_transaction(looker)
        looks = []
        look, dispatcher.look = dispatcher.look, lambda: looks.append(1) or look()
        for number in range(5):
            dispatcher.bell.ring()
            servers.wait_until(lambda wanted=number: len(looks) > wanted, "a look")
        self.assertEqual(last_transaction(looker), before)


def last_transaction(connection):
    connection.transaction_manager.begin()
    connection.sync()
    return connection.db().lastTransaction()


class OnZEO(TwoProcesses, unittest.TestCase):
    storage = "zeo"


class Watched(TwoProcesses):
    """What is ours alone, with RelStorage."""

    def threads(self):
        return [each for each in threading.enumerate()
                if each.name == "remotetask-watch-storage"]

    def test_one_thread_listens_for_all_and_ends_with_the_last(self):
        first, second = (InvalidationListener(Bell()) for _ in range(2))
        for listener in (first, second):
            self.assertTrue(listener.attach(self.there, ()))
        [thread] = self.threads()
        first.detach()
        self.assertTrue(thread.is_alive())
        second.detach()
        thread.join(BOUND)
        self.assertFalse(thread.is_alive())

    def test_after_the_last_has_gone_it_begins_anew(self):
        self.listen()
        self.forget()
        bell = self.listen()
        seen = bell.rings
        self.change()
        watch.tell(self.here, watch.WORK)
        self.assertTrue(bell.wait(seen, BOUND))

    def forget(self):
        [thread] = self.threads()
        for listener in watch._watches[self.there].all():
            listener.detach()
        thread.join(BOUND)


class OnPostgreSQL(Watched, unittest.TestCase):
    storage = "postgresql"

    def test_nobody_is_told_before_the_commit(self):
        bell = self.listen()
        seen = bell.rings
        zope.component.provideUtility(SimpleTask(lambda input: input), ITask, "task")
        self.service.add("task")
        self.connection.transaction_manager.abort()
        self.assertNotIn(self.here, watch._tellers)
        self.assertEqual(bell.rings, seen)

    def test_ends_of_jobs_are_told_to_those_who_want_to_hear_of_them(self):
        worker, waiter = self.listen(), self.listen(results=True)
        seen = worker.rings, waiter.rings
        self.change()
        watch.tell(self.here, watch.RESULTS)
        self.assertTrue(waiter.wait(seen[1], BOUND))

    def test_results_alone_make_no_query(self):
        bell = self.listen()
        [listener] = watch._watches[self.there].all()
        self.assertEqual(watch._watches[self.there].interests(), {watch.WORK})
        listener.results = True
        self.assertEqual(
            watch._watches[self.there].interests(), {watch.WORK, watch.RESULTS})
        self.assertIsNotNone(bell)

    def test_no_transaction_stays_open_while_one_waits(self):
        """Neither that of who listens, nor of a dispatcher or worker that naps."""
        import psycopg2
        self.listen()
        ran = threading.Event()
        zope.component.provideUtility(SimpleTask(lambda input: ran.set()), ITask, "ran")
        working = self.connect(self.there)
        working.root()["tasks"].startProcessing()
        self.addCleanup(processor.stop_all, self.there, 1)
        working.transaction_manager.abort()
        working.close()
        self.service.add("ran")
        self.commit()
        self.assertTrue(ran.wait(BOUND))
        self.connection.close()
        with closing(psycopg2.connect(servers.SHARED.postgresql().dsn())) as connection:
            connection.autocommit = True
            cursor = connection.cursor()

            def all_idle():
                cursor.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = %s "
                    "AND state <> 'idle'", (self.uri.rpartition("/")[2],))
                return cursor.fetchone()[0] == 0
            servers.wait_until(all_idle, "the end of all transactions")

    def test_a_lost_connection_is_made_again(self):
        import psycopg2
        bell = self.listen()
        seen = bell.rings
        with closing(psycopg2.connect(servers.SHARED.postgresql().dsn())) as connection:
            connection.autocommit = True
            connection.cursor().execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE query LIKE 'LISTEN%%' AND datname = %s",
                (self.uri.rpartition("/")[2],))
        self.assertTrue(bell.wait(seen, BOUND), "it did not begin anew")
        seen = bell.rings
        self.change()
        watch.tell(self.here, watch.WORK)
        self.assertTrue(bell.wait(seen, BOUND))

    def test_who_tells_takes_another_connection_when_his_is_lost(self):
        import psycopg2
        teller = watch.Teller(watch.adapter_of(self.here)._dsn)
        teller.tell(watch.WORK)
        lost = teller.connection
        with closing(psycopg2.connect(servers.SHARED.postgresql().dsn())) as connection:
            connection.autocommit = True
            connection.cursor().execute(
                "SELECT pg_terminate_backend(%s)", (lost.get_backend_pid(),))
        bell = self.listen()
        seen = bell.rings
        self.change()
        teller.tell(watch.WORK)
        self.assertTrue(bell.wait(seen, BOUND), "nobody was told")
        self.assertIsNot(teller.connection, lost)

    def test_who_cannot_be_told_is_no_trouble(self):
        teller = watch.Teller("host=127.0.0.1 port=1")
        teller.tell(watch.WORK)
        self.assertIsNone(teller.connection)
        self.assertGreater(teller.rest_until, 0)


class OnSQLite(Watched, unittest.TestCase):
    storage = "sqlite"

    def test_any_commit_is_seen(self):
        bell = self.listen()
        seen = bell.rings
        self.change()
        self.assertTrue(bell.wait(seen, BOUND))

    def test_another_database_is_polled(self):
        """MySQL and Oracle: nothing but the look itself tells."""
        hints, watch.hint_for = watch.hint_for, lambda adapter: watch.Hint()
        self.addCleanup(setattr, watch, "hint_for", hints)
        bell = self.listen()
        seen = bell.rings
        self.change()
        self.assertTrue(bell.wait(seen, BOUND))


class TheHint(unittest.TestCase):

    def test_looks_get_rarer_when_all_is_quiet_and_frequent_again(self):
        hint = watch.Hint()
        for _ in range(100):
            hint.found(False)
        self.assertEqual(hint.nap, watch.QUIET_SECONDS)
        hint.found(True)
        self.assertEqual(hint.nap, watch.POLL_SECONDS)

    def test_an_interrupt_ends_its_wait(self):
        hint = watch.Hint()
        hint.nap = LONG
        hint.interrupt()
        hint.wait()


if __name__ == "__main__":
    unittest.main()
