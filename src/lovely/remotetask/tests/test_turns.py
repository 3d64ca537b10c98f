"""Dispatchers that share the work take turns on PostgreSQL; others need none."""
import threading
import unittest
from unittest import mock

import transaction
from ZODB.utils import p64

from lovely.remotetask import clock, uris
from lovely.remotetask.clerk import Want
from lovely.remotetask.runtime import rescue, turns, watch
from lovely.remotetask.tests import servers
from lovely.remotetask.tests.support import ServiceCase
from lovely.remotetask.tests.test_helpers import TwoWorkers
from lovely.remotetask.testing import BOUND

OID = p64(77)


class OnPostgreSQL(ServiceCase):

    level = 2
    layer = servers.SHARED

    def make_storage(self):
        self.uri = servers.SHARED.uri(self, "postgresql")
        return uris.resolve(self.uri)[0]()

    def one(self, oid=OID):
        made = turns.turns_for(self.db, oid)
        self.addCleanup(made.close)
        return made

    def end_session_of(self, one):
        other = watch.connect(watch.adapter_of(self.db)._dsn)
        self.addCleanup(other.close)
        other.cursor().execute("SELECT pg_terminate_backend(%s, 10000)",
                               (one.connection.get_backend_pid(),))

    def test_those_at_home_have_it_together(self):
        with self.one().take(alone=False) as first, \
                self.one().take(alone=False) as second:
            self.assertTrue(first and second)

    def test_a_helper_has_it_alone(self):
        for first, second in (True, False), (False, True), (True, True):
            with self.subTest(first=first, second=second):
                seen, waits = [], self.one()
                with self.one().take(alone=first):
                    waiting = self.in_thread(waits, second, seen)
                    self.wait_until_blocked(waits)
                    seen.append("the first goes")
                waiting.join(BOUND)
                self.assertEqual(seen, ["the first goes", True])

    def in_thread(self, one, alone, seen):
        def run():
            with one.take(alone) as taken:
                seen.append(taken)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def wait_until_blocked(self, one):
        asking = watch.connect(watch.adapter_of(self.db)._dsn)
        self.addCleanup(asking.close)
        cursor = asking.cursor()

        def blocked():
            if one.connection is None:
                return False
            cursor.execute("SELECT cardinality(pg_blocking_pids(%s))",
                           (one.connection.get_backend_pid(),))
            return cursor.fetchone()[0] > 0
        servers.wait_until(blocked, "somebody who waits for his turn")

    def test_services_do_not_wait_for_each_other(self):
        with self.one().take(alone=True) as first, \
                self.one(p64(78)).take(alone=True) as second:
            self.assertTrue(first and second)

    def test_after_a_while_it_is_done_without(self):
        with mock.patch.object(turns, "PATIENCE_SECONDS", 0.01):
            waits = self.one()
            with self.one().take(alone=True), waits.take(alone=False) as taken:
                self.assertFalse(taken)
        with waits.take(alone=True) as taken:
            self.assertFalse(taken, "it is to rest for a while")
        waits.rest_until = 0
        with waits.take(alone=True) as taken:
            self.assertTrue(taken)

    def test_who_has_it_and_is_lost_lets_go_of_it(self):
        lost, other = self.one(), self.one()
        with lost.take(alone=True):
            self.end_session_of(lost)
            with other.take(alone=True) as taken:
                self.assertTrue(taken)
        with lost.take(alone=True) as taken:
            self.assertTrue(taken, "by another connection")

    def test_a_lost_connection_is_made_again(self):
        one = self.one()
        with one.take(alone=True):
            pass
        self.end_session_of(one)
        with one.take(alone=True) as taken:
            self.assertTrue(taken)

    def test_no_server_is_no_trouble(self):
        one = self.one()
        one.dsn = "host=127.0.0.1 port=1"
        with one.take(alone=True) as taken:
            self.assertFalse(taken)
        self.assertGreater(one.rest_until, 0)

    def test_a_dispatcher_takes_turns_when_others_share_the_work(self):
        self.task("echo", lambda input: input)
        taken = []
        take = turns.Turns.take
        with mock.patch.object(turns.Turns, "take", lambda one, alone: (
                taken.append(alone), take(one, alone))[1]):
            dispatcher = self.start().dispatcher
            self.wait_status(self.add("echo"))
            self.assertEqual(taken, [])     # it is the only one
            rescue.living.add("other")
            self.addCleanup(rescue.living.discard, "other")
            self.service.leases.open("other", clock.micros()).registration.tell(threads=1)
            transaction.commit()
            self.wait_for(lambda: len(self.service.shards) > 1)
            self.wait_for(lambda: taken)
            # Some of these are in the shards of the one that does nothing.
            jobs = [self.add("echo") for _ in range(20)]
            for each in jobs:
                self.wait_status(each)
        self.assertEqual({True, False}, set(taken))
        self.assertTrue(dispatcher.turns.connection)


class Elsewhere(TwoWorkers):
    """Of two workers one looks whether the other has more than he can do."""

    def setUp(self):
        super().setUp()
        self.jobs, self.known = [self.add("echo") for _ in range(20)], []
        self.service.dispatch("one")
        self.service.dispatch("two")
        transaction.commit()

    def claim(self, **options):
        found = self.service.dispatch("one", want=Want(wanted=20, free=20, **options),
                                      known=self.known)
        self.known += [each.id for each in found.claims]
        transaction.commit()
        return found

    def at_home(self):
        return self.service._home("one")

    def test_who_is_not_to_help_says_that_there_is_more(self):
        found = self.claim(help=False)
        self.assertTrue(found.claims)
        self.assertLessEqual({each.shard for each in found.claims}, self.at_home())
        self.assertTrue(found.elsewhere)

    def test_who_is_helps_and_says_so(self):
        found = self.claim()
        self.assertEqual({each.id for each in found.claims}, set(self.jobs))
        self.assertTrue(found.elsewhere)

    def test_nothing_is_left(self):
        self.claim()
        self.assertFalse(self.claim().elsewhere)
        self.assertFalse(self.claim(help=False).elsewhere)

    def test_other_storages_need_no_turns(self):
        self.assertIsNone(turns.turns_for(self.db, OID))


if __name__ == "__main__":
    unittest.main()
