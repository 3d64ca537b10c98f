"""A line is found by its first entry, also after two have struck it at once."""
import unittest

import transaction
import ZODB
from ZODB.POSException import ConflictError

from lovely.remotetask import clock, limits
from lovely.remotetask.clerk import Clerk, Want
from lovely.remotetask.store.queue import Line, Queue, pack
from lovely.remotetask.tests.support import ServiceCase

LOCKED = limits.line_name("", "echo", (("invoice", 1),))


class TwoAtOnce(unittest.TestCase):

    def setUp(self):
        self.db = ZODB.DB(None)
        self.addCleanup(self.db.close)
        self.keys = [(5, place, place) for place in range(2 * Line.max_leaf_size)]
        with self.db.transaction() as connection:
            queue = connection.root()["queue"] = Queue()
            for key in self.keys:
                queue.put(LOCKED, key, 1)

    def at_once(self, *steps):
        """Each in a transaction of its own, all from the same state."""
        managers = [transaction.TransactionManager() for _ in steps]
        queues = [self.db.open(manager).root()["queue"] for manager in managers]
        for step, queue in zip(steps, queues):
            queue.lines[LOCKED].minKey()
            step(queue)
        for manager in managers:
            manager.commit()

    def test_who_opens_a_line_meets_who_strikes_its_first_entry(self):
        """The head of the struck entry stayed, for ever."""
        with self.db.transaction() as connection:
            connection.root()["queue"].park(LOCKED)
        with self.assertRaises(ConflictError):
            self.at_once(lambda queue: queue.open(LOCKED),
                         lambda queue: queue.remove(LOCKED, self.keys[0]))

    def test_who_strikes_a_whole_leaf_meets_who_strikes_behind_it(self):
        connection = self.db.open(transaction.TransactionManager())
        line = connection.root()["queue"].lines[LOCKED]
        second = line._firstbucket._next.minKey()
        leaf = [key for key in map(pack, self.keys) if key < second]
        connection.close()
        with self.assertRaises(ConflictError):
            self.at_once(lambda queue: queue.strike(LOCKED, leaf),
                         lambda queue: queue.strike(LOCKED, [second]))


class Claims(ServiceCase):

    def setUp(self):
        super().setUp()
        self.task("echo", lambda input: input)

    def claim(self):
        return self.service.dispatch("one", want=Want(9, 9, alone=True)).claims

    def leave_behind(self):
        """The head of an entry that is gone."""
        queue = self.service.shards[0].queue
        (head, name), = queue.heads
        queue.heads.add((head - 1, name))
        return queue

    def test_a_line_with_two_heads_gives_each_job_once(self):
        ids = self.service.addMany("echo", range(3))
        self.service.dispatch("one")
        queue = self.leave_behind()
        self.assertEqual([claim.id for claim in self.claim()], ids)
        self.assertEqual(list(queue.heads), [])

    def test_a_head_beside_the_right_one_is_no_fault(self):
        """`check` told of two heads, and of a line that is not found."""
        self.service.addMany("echo", range(3))
        self.service.dispatch("one")
        queue = self.leave_behind()
        (_, name), right = queue.heads
        self.assertEqual(self.service.check(), [])
        queue.heads.remove(right)
        self.assertEqual(len(self.service.check()), 1)
        queue.mend_head(min(queue.heads)[0], name)
        self.assertEqual(list(queue.heads), [right])
        self.assertEqual(self.service.check(), [])

    def test_two_clerks_at_once_leave_no_fault(self):
        """Each of them settled a job of one line, and noted it as the first."""
        self.service.add("echo")
        self.service.process()
        jobs = [self.service.add("echo") for _ in range(2)]
        transaction.commit()
        managers = []
        for jobid in jobs:
            manager = transaction.TransactionManager()
            service = self.db.open(manager).root()["tasks"]
            self.addCleanup(service._p_jar.close)
            with Clerk(service, clock.micros()) as books:
                books.look_at(jobid)
            managers.append(manager)
        for manager in managers:
            manager.commit()
        self.look()
        self.assertEqual(len(self.service.shards[0].queue.heads), 2)
        self.assertEqual(self.service.check(), [])
        self.service.process()
        self.assertEqual(self.service.counts()["completed"], 3)

    def test_the_head_of_a_line_that_is_gone_stops_nobody(self):
        """Each look of the dispatcher ended with a KeyError."""
        self.service.add("echo", locks="invoice")
        self.service.dispatch("one")
        queue = self.leave_behind()
        queue.strike(LOCKED, [max(queue.lines[LOCKED])])
        self.assertEqual(self.claim(), [])
        self.assertEqual(list(queue.heads), [])
