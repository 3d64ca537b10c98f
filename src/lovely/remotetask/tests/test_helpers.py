"""Workers that help out in the shard of another leave him room."""
import unittest

import transaction

from lovely.remotetask import clock
from lovely.remotetask.clerk import AT_HOME, Want, _scattered
from lovely.remotetask.runtime import rescue
from lovely.remotetask.tests.support import ServiceCase


class Scattered(unittest.TestCase):

    def test_a_helper_begins_behind_the_first_leaf_of_a_long_line(self):
        for _ in range(50):
            found = list(_scattered(iter(range(1000)), 30))
            self.assertTrue(AT_HOME <= found[0] < AT_HOME + 30)
            self.assertEqual(sorted(found), list(range(1000)))

    def test_and_anywhere_in_a_short_one(self):
        firsts = set()
        for _ in range(200):
            found = list(_scattered(iter(range(10)), 30))
            firsts.add(found[0])
            self.assertEqual(sorted(found), list(range(10)))
        self.assertGreater(len(firsts), 3)
        self.assertEqual(list(_scattered(iter(()), 30)), [])

    def test_who_is_at_home_begins_with_the_first(self):
        self.assertEqual(list(_scattered(iter(range(10)), 0)), list(range(10)))


class TwoWorkers(ServiceCase):
    """Two share the work, "one" and "two"."""

    def setUp(self):
        super().setUp()
        self.task("echo", lambda input: input)
        for name in "one", "two":
            rescue.living.add(name)
            self.addCleanup(rescue.living.discard, name)
            self.service.leases.open(name, clock.micros()).registration.tell(threads=1)
        self.service.spreadOut()
        transaction.commit()


class Strays(TwoWorkers):
    """What waits in the inbox of a slow worker: others take it, but not all at once."""

    def setUp(self):
        super().setUp()
        self.shard = next(shard for shard in self.service.shards
                          if shard.number not in self.service._home("one"))
        self.job_id = self.service.add("echo")
        for shard in self.service.shards:
            shard.queue.inbox.take(10)
        self.shard.queue.inbox.drop(self.job_id)
        transaction.commit()

    def strays(self):
        return self.service.dispatch("one").strays

    def test_a_helper_takes_what_has_waited_there_all_the_time(self):
        noted = self.strays()
        self.assertIn(self.shard.number, noted)
        self.service.dispatch("one", want=Want(strays=noted))
        self.assertEqual(len(self.shard.queue.inbox), 0)

    def test_but_not_what_came_after_somebody_was_there(self):
        noted = self.strays()
        self.shard.queue.inbox.take(1)
        self.shard.queue.inbox.drop(self.job_id)
        self.service.dispatch("one", want=Want(strays=noted))
        self.assertEqual(len(self.shard.queue.inbox), 1)


if __name__ == "__main__":
    unittest.main()
