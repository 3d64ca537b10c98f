"""Who removes a job meets who brings that job into the books at the same moment."""
import unittest
from unittest import mock

import transaction
from transaction.interfaces import TransientError
from ZEO.Exceptions import ClientDisconnected

from lovely.remotetask import clock, uris
from lovely.remotetask.clerk import Clerk, Want
from lovely.remotetask.runtime import rescue
from lovely.remotetask.tests import servers
from lovely.remotetask.tests.support import ServiceCase
from lovely.remotetask.tests.test_interleavings import Connected


class AtOnce(ServiceCase):
    """Two act at the same time."""

    def setUp(self):
        super().setUp()
        self.task("echo", lambda input: input)
        transaction.commit()
        self.hands = [Connected(self.db), Connected(self.db)]

    def close_database(self):
        for hand in self.hands:
            hand.close()
        return super().close_database()

    def enter(self, service):
        with Clerk(service, clock.micros()) as books:
            books.empty_inbox(1000)

    def cross(self, *acts):
        """All begin, then each commits; how many of them had to give way."""
        for hand, act in zip(self.hands, acts):
            act(hand.begin())
        gave_way = 0
        for hand in self.hands:
            try:
                hand.manager.commit()
            except TransientError:
                hand.manager.abort()
                gave_way += 1
        transaction.begin()
        return gave_way


class Removed(AtOnce):

    def remove(self, service):
        service.remove(self.id)

    def add_cancelled(self, number=1):
        # The trees are not empty: who meets in an empty one conflicts in any case.
        for id in self.service.addMany("echo", [None] * 10):
            self.service.cancel(id)
        self.enter(self.service)
        transaction.commit()
        self.id = self.service.addMany("echo", [None] * number)[number // 2]
        self.service.cancel(self.id)
        transaction.commit()

    def test_while_a_clerk_enters_it_for_the_first_time(self):
        self.add_cancelled()
        self.assertEqual(self.cross(self.remove, self.enter), 1)
        self.assertEqual(self.service.check(), [])

    def test_just_after_a_clerk_has_entered_it(self):
        self.add_cancelled()
        self.assertEqual(self.cross(self.enter, self.remove), 1)
        self.assertEqual(self.service.check(), [])

    def test_out_of_a_long_slip(self):
        self.add_cancelled(5)
        self.assertEqual(self.cross(self.remove, self.enter), 1)
        self.assertEqual(self.service.check(), [])
        self.enter(self.service)
        self.assertEqual(len(self.service.index.places), 14)
        self.assertEqual(self.service.check(), [])

    def test_check_does_not_take_a_storage_that_is_away_for_damaged_jobs(self):
        self.add_cancelled()
        jar = self.service._p_jar
        self.service.jobs[self.id]._p_deactivate()
        setstate = jar.setstate

        def cut(obj):
            if obj._p_oid == self.oid:
                raise ClientDisconnected("cut off")
            setstate(obj)

        self.oid = self.service.jobs[self.id]._p_oid
        with mock.patch.object(jar, "setstate", cut):
            for repair in False, True:
                with self.assertRaises(ClientDisconnected):
                    self.service.check(repair=repair)
        transaction.abort()
        self.assertEqual(self.service.check(), [])


class Returned(AtOnce):
    """A job comes back from where it was held, and is cancelled at that moment."""

    def test_one_of_both_gives_way(self):
        self.id = self.service.add("echo")
        self.enter(self.service)
        lease = self.service.leases.open("one", clock.micros())
        self.addCleanup(rescue.living.discard, "one")
        rescue.living.add("one")
        with Clerk(self.service, clock.micros()) as books:
            claimed = books.claim(lease, Want(1, 1))
        transaction.commit()
        for hand in self.hands:  # it is a ghost for who brings it back
            hand.begin()
            hand.connection.cacheMinimize()
        self.assertEqual([claim.id for claim in claimed], [self.id])
        gave_way = self.cross(
            lambda service: service.cancel(self.id),
            lambda service: service.handBack("one", unstarted=claimed, close=True))
        self.assertEqual(gave_way, 1)
        self.assertEqual(list(self.service.shards.of(
            self.service.jobs[self.id]).queue.entries()), [])


class OnAServer:

    level = 2
    layer = servers.SHARED

    def make_storage(self):
        return uris.resolve(servers.SHARED.uri(self, self.storage))[0]()


class OnZEO(OnAServer, Returned):
    storage = "zeo"


class OnPostgreSQL(OnAServer, Returned):
    storage = "postgresql"


class OnSQLite(OnAServer, Returned):
    storage = "sqlite"


if __name__ == "__main__":
    unittest.main()
