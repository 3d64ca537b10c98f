"""A worker that was taken for dead, though it is there."""
import unittest
from unittest import mock

import transaction
from ZODB.POSException import ConflictError

from lovely.remotetask import clock
from lovely.remotetask.clerk import Clerk, Want
from lovely.remotetask.runtime import attendance
from lovely.remotetask.tests.support import BOUND, Gate, ServiceCase


class TakenForDead(ServiceCase):

    arguments = {"waitTime": 0.05}

    def setUp(self):
        super().setUp()
        often = mock.patch.object(attendance, "ATTEND_SECONDS", 0.05)
        often.start()
        self.addCleanup(often.stop)
        self.gate = Gate(self)
        self.told = []

        def long(input, context):
            self.gate()
            if input == "until told" and context.attempt == 1:
                self.told.append(context.wait(BOUND))
            effects = context.service._p_jar.root()["effects"]
            effects[context.jobid] = effects.get(context.jobid, 0) + 1
        self.task("long", long, wantsContext=True)
        self.start()
        self.wait_for(lambda: self.look().workers())
        self.dispatcher = self.processor().dispatcher
        self.name = self.dispatcher.name

    def bury(self, what_follows=lambda service: None):
        """As a sibling does that has seen no sign of life; it tries again over conflicts
        with the worker, which lives."""
        for _ in range(50):
            try:
                with self.elsewhere() as service:
                    with Clerk(service, clock.micros()) as books:
                        books.rescue(service.leases[self.name], 3)
                    what_follows(service)
                return
            except ConflictError:
                pass
        self.fail("conflicts without end")

    def wait_anew(self):
        """Wait until it goes on under another name, and nothing of the old one is left."""
        self.wait_for(lambda: [
            (each["name"] != self.name, each["threads"])
            for each in self.look().workers()] == [(True, 1)])
        self.wait_logged("was taken for dead")

    def test_it_goes_on_under_another_name(self):
        self.bury()
        self.wait_anew()
        jobid = self.add("long")
        self.gate.open()
        self.wait_status(jobid)

    def test_what_it_had_in_hand_is_told_to_stop_and_takes_effect_once(self):
        jobid = self.add("long", "until told")
        self.gate.arrival()
        self.bury()
        self.gate.open()            # the first attempt waits until it is told
        self.wait_anew()
        self.wait_for(lambda: self.told)
        self.assertEqual(self.told[0], True)
        self.wait_status(jobid)
        self.assertEqual(self.service.getJob(jobid).startedCount, 2)
        self.assertEqual(dict(self.effects()), {jobid: 1})

    def test_what_it_has_claimed_before_it_knew_goes_back(self):
        first = self.add("long")
        self.gate.arrival()
        second = self.add("long")

        def look(service):   # as one that comes before the worker knows
            service.dispatch(self.name, want=Want(5, 5, alone=None))
            self.assertIn(second, service.leases[self.name].held)
        self.bury(look)
        self.wait_anew()
        self.gate.open()
        self.wait_status([first, second])
        self.assertEqual(dict(self.effects()), {first: 1, second: 1})
        self.wait_settled()

    def test_its_stop_in_good_order_leaves_nothing(self):
        self.bury()
        self.wait_anew()
        self.service.stopProcessing()
        self.wait_for(lambda: not self.look().workers())
        transaction.abort()


if __name__ == "__main__":
    unittest.main()
