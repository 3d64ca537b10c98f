"""No order of what happens at once leaves a line parked, with nothing to open it."""
import unittest
from itertools import permutations

import transaction
from transaction.interfaces import TransientError
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage

from lovely.remotetask.clerk import Clerk, Want
from lovely.remotetask.runtime import rescue
from lovely.remotetask.testing import simulated_clock
from lovely.remotetask.tests.support import ServiceCase
from lovely.remotetask.tests.test_interleavings import Connected

EARLY, CROWD = 1_800_000_000, 40  # a set of more than 30 notes is of several records


def orders(number):
    """All orders in which so many begin and commit: each is named twice."""
    return sorted(set(permutations([*range(number)] * 2)))


class Rates(ServiceCase):
    """One who sets a limit, a clerk whose moment has come, and one whose clock is
    behind, and who parks the line again until that same moment.

    They are played on a copy of the database: each order has one of its own.
    """

    def setUp(self):
        super().setUp()
        simulated = simulated_clock(EARLY)
        self.clock = simulated.__enter__()
        self.addCleanup(simulated.__exit__, None, None, None)
        self.addCleanup(rescue.living.discard, "one")
        rescue.living.add("one")
        self.task("rated", lambda input: input, rate="1/10s")
        self.task("other", lambda input: input)
        self.service.add("rated")
        self.claimed = self.claim(self.service)
        self.assertEqual(len(self.claimed), 1)
        self.add_locked("x")

    def close_database(self):
        self.service.handBack("one", unstarted=self.claimed, close=True)
        transaction.commit()
        return super().close_database()

    def add_locked(self, *names):
        """A job of a line that goes with its last job, for each name."""
        jobs = [self.service.add("rated", locks=[name]) for name in names]
        self.settle()
        return jobs

    def settle(self):
        with Clerk(self.service, self.early) as books:
            books.empty_inbox(1000)
        transaction.commit()

    @property
    def early(self):
        return EARLY * 1_000_000

    def claim(self, service):
        with Clerk(service, self.early) as books:
            books.empty_inbox(1000)
            lease = service.leases.open("one", self.early)
            return books.claim(lease, Want(1, 1))

    def set_limit(self, service):
        service.setLimit("task:rated", rate="1/10s")

    def open_what_is_due(self, service):
        with Clerk(service, self.early + 20_000_000) as books:
            books.bring_due()

    def play(self, order, acts):
        """Each act begins and commits in its place; who meets a conflict gives up."""
        db = DB(DemoStorage(base=self.db.storage, close_base_on_close=False))
        hands = [Connected(db) for _ in acts]
        begun = set()
        for number in order:
            hand = hands[number]
            if number not in begun:
                begun.add(number)
                acts[number](hand.begin())
                continue
            try:
                hand.manager.commit()
            except TransientError:
                hand.manager.abort()
        for hand in hands:
            hand.close()
        with db.transaction() as connection:
            faults = connection.root()["tasks"].check()
        db.close()
        return faults

    def assert_all_open(self, *acts):
        faults = {order: told for order in orders(len(acts))
                  if (told := self.play(order, acts))}
        self.assertEqual(faults, {})

    def leave_a_note(self, number=1):
        """The line is open, and its note of an earlier time is there still."""
        self.assertEqual(self.claim(self.service), [])
        for job in self.service.listJobs("queued", limit=None)[0]:
            self.service.cancel(job.id)
        self.settle()
        self.assertEqual(list(self.service.shards[0].queue.parked), [])
        self.assertEqual(len(self.service.caps.timed), number)
        self.add_locked("x")

    def test_of_a_parked_line(self):
        self.assertEqual(self.claim(self.service), [])
        transaction.commit()
        self.assertEqual(len(self.service.shards[0].queue.parked), 1)
        self.assert_all_open(self.set_limit, self.open_what_is_due, self.claim)

    def test_of_a_line_whose_note_is_of_an_earlier_time(self):
        """The same note was no change: who took it out met nobody, and opened nothing."""
        self.leave_a_note()
        self.assert_all_open(self.set_limit, self.open_what_is_due, self.claim)

    def test_of_two_clerks_and_such_a_note(self):
        self.leave_a_note()
        self.assert_all_open(
            self.open_what_is_due, self.open_what_is_due, self.claim)

    def test_of_a_line_beside_many_notes(self):
        """All notes were cleared at once, and with them one of that moment."""
        self.add_locked(*(f"key-{number}" for number in range(CROWD)))
        self.leave_a_note(CROWD + 1)
        self.assert_all_open(self.set_limit, self.claim)

    def test_of_a_note_that_was_stored_without_a_nonce(self):
        """Notes of three and of four elements stand in one order."""
        self.assertEqual(self.claim(self.service), [])
        caps = self.service.caps
        (*old, nonce), = caps.timed
        old = tuple(old)
        for notes in [old], [old, (*old, nonce)]:
            caps.timed.clear()
            caps.timed.update(notes)
            self.assertEqual(self.service.check(), [])
            self.assertEqual(caps.next_moment(), old[0])
            self.assertEqual(list(caps.timed), notes)
        transaction.commit()
        self.assert_all_open(self.set_limit, self.open_what_is_due, self.claim)
        self.open_what_is_due(self.service)
        self.assertEqual((len(caps.timed), list(self.service.shards[0].queue.parked)),
                         (0, []))
        caps.timed.add(old)
        self.set_limit(self.service)
        self.assertEqual(len(caps.timed), 0)
        caps.timed.add((old[0] + 10**12, *old[1:]))  # the clock was put back
        with Clerk(self.service, self.early) as books:
            books.bring_due()
        self.assertEqual(len(caps.timed), 0)


if __name__ == "__main__":
    unittest.main()
