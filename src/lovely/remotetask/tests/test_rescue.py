"""Who is taken for dead where nothing can be proven: by counters, on the own clock."""
import time
import unittest
from unittest import mock

import transaction
import ZODB
from ZODB.MappingStorage import MappingStorage

from lovely.remotetask import clock, presence
from lovely.remotetask.runtime import rescue
from lovely.remotetask.store.leases import Lease, Leases


class Watching(unittest.TestCase):
    """Two workers of machines that this one cannot look into."""

    def setUp(self):
        self.db = ZODB.DB(MappingStorage())
        self.addCleanup(self.db.close)
        self.addCleanup(transaction.abort)
        shared = mock.patch.object(rescue, "exclusive", lambda db: False)
        shared.start()
        self.addCleanup(shared.stop)
        self.now = 1000.0
        monotonic = mock.patch.object(time, "monotonic", lambda: self.now)
        monotonic.start()
        self.addCleanup(monotonic.stop)
        root = self.db.open().root()
        self.leases = root["leases"] = Leases()
        with mock.patch.dict("os.environ", REMOTETASK_HOST="elsewhere"):
            for name in ("a", "b"):
                self.leases.open(name, 0).registration.tell(threads=1)
        transaction.commit()

    def look(self, seconds=0.0):
        """The names of the dead, after so many seconds of looking on."""
        for _ in range(round(seconds)):
            self.now += 1
            found = rescue.lost(self.leases, self.db, 5.0)
        if not seconds:
            found = rescue.lost(self.leases, self.db, 5.0)
        return [lease.name for lease in found]

    def test_who_says_nothing_for_long_is_taken_for_dead(self):
        self.assertEqual(self.look(), [])
        self.assertEqual(self.look(4), [])
        self.assertEqual(self.look(1), ["a", "b"])

    def test_who_says_something_in_between_is_there(self):
        self.look()
        for _ in range(3):
            self.look(4)
            self.leases["a"].beat += 1
        self.assertEqual(self.look(), ["b"])
        self.assertEqual(rescue.alive(self.leases, self.db, 5.0), ["a"])

    def test_a_claim_says_as_much(self):
        self.look()
        self.look(4)
        self.leases["a"].hold([(1, 1, 1)])
        self.assertEqual(self.look(1), ["b"])

    def test_time_in_which_nobody_looked_does_not_count(self):
        self.look()
        self.now += 3600  # this process was stopped, or the storage was away
        self.assertEqual(self.look(), [])
        self.assertEqual(self.look(2), [])

    def test_the_wall_clock_does_not_count(self):
        self.look()
        self.look(4)
        with mock.patch.object(clock, "micros", lambda: 4_000_000_000_000_000):
            self.assertEqual(self.look(), [])

    def test_an_older_state_of_the_counter_is_no_sign_of_life(self):
        self.leases["a"].beat = 7
        self.look()
        self.look(3)
        self.leases["a"].beat = 6   # as a transaction sees it that began earlier
        self.look()
        self.leases["a"].beat = 7
        self.assertIn("a", self.look(2))

    def test_who_is_new_is_watched_from_then_on(self):
        self.look()
        self.look(4)
        with mock.patch.dict("os.environ", REMOTETASK_HOST="elsewhere"):
            self.leases.open("c", 0)
        self.assertEqual(self.look(1), ["a", "b"])

    def test_a_lease_of_before_there_were_registrations_is_read(self):
        old = Lease.__new__(Lease)
        old.__setstate__(dict(name="old", host="h", boot="b", pid=1, started="2",
                              since=3, held={7: (1, 2)}))
        self.leases._leases["old"] = old
        self.assertEqual((old.host, old.pid, old.since, old.held), ("h", 1, 3, {7: (1, 2)}))
        self.look()
        self.assertIn("old", self.look(5))

    def test_what_is_claimed_by_hand_makes_no_worker(self):
        name = "by hand"
        presence.enter(name)
        self.addCleanup(presence.leave, name)
        self.leases.open(name, 0)
        self.assertEqual(rescue.alive(self.leases, self.db, 5.0), ["a", "b"])


if __name__ == "__main__":
    unittest.main()
