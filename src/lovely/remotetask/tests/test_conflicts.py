"""How long a conflict waits before it is tried again."""
import threading
import unittest
from unittest.mock import patch

from ZODB.POSException import ConflictError

from lovely.remotetask import retry
from lovely.remotetask.runtime import publication
from lovely.remotetask.tests import support


class Pauses(unittest.TestCase):

    def setUp(self):
        longest = patch.object(retry.random, "random", return_value=1.0)
        longest.start()
        self.addCleanup(longest.stop)

    def test_they_grow_with_each_try_up_to_the_sixth(self):
        pauses = [retry.conflict_pause(tries) for tries in range(1, 9)]
        self.assertEqual(pauses, [0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.128, 0.128])

    def test_they_grow_with_the_time_that_the_try_has_taken(self):
        self.assertEqual(retry.conflict_pause(1, 0.5), 1.0)
        self.assertEqual(retry.conflict_pause(3, 0.5), 4.0)
        self.assertEqual(retry.conflict_pause(1, 0.0001), 0.004)


class Attempts(support.ServiceCase):

    storage = "mapping"

    def test_an_attempt_pauses_by_what_its_try_has_taken(self):
        """With pauses of a fixed size, jobs that took longer met one another again
        and again, and a fifth of all attempts was given up."""
        tries = []

        @self.task("long")
        def long(input):
            tries.append(threading.Event().wait(0.05))
            if len(tries) < 3:
                raise ConflictError

        self.add("long")
        with patch.object(publication, "conflict_pause", return_value=0.0) as pause:
            self.service.processorFactory(self.db, ["tasks"]).processNext()
        self.assertEqual([call.args[0] for call in pause.call_args_list], [1, 2])
        for call in pause.call_args_list:
            self.assertGreaterEqual(call.args[1], 0.05)

    def test_no_pause_is_longer_than_a_few_seconds(self):
        tries = []

        @self.task("long")
        def long(input):
            tries.append(None)
            if len(tries) < 2:
                raise ConflictError

        self.add("long")
        with patch.object(publication, "conflict_pause", return_value=1e6), \
                patch.object(publication, "LONGEST_PAUSE", 0.001):
            self.service.processorFactory(self.db, ["tasks"]).processNext()
        self.assertEqual(len(tries), 2)
