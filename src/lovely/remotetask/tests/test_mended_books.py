"""The books were wrong or stood still here once; each fact tells what it cost."""
import threading

import transaction

from lovely.remotetask import processor
from lovely.remotetask.tests.support import BOUND, Gate, ServiceCase


class AtMostOnce(ServiceCase):

    def test_a_stop_without_grace_does_not_run_it_a_second_time(self):
        """It was handed back to the queue, and the next process ran it again."""
        gate, ran, ended = Gate(self), [], threading.Event()

        def once(input):
            ran.append(input)
            gate(input)
            ended.set()

        self.task("once", once, atMostOnce=True)
        jobid = self.add("once")
        self.start()
        gate.arrival()
        processor.stop_all(self.db, grace=0)
        self.look()
        job = self.job(jobid)
        self.assertEqual((job.status, job.reason, len(job.attempts)),
                         ("error", "interrupted", 1))
        gate.open()
        self.assertTrue(ended.wait(BOUND))
        self.start()
        self.task("other", lambda input: input)
        self.wait_status(self.add("other"))
        self.assertEqual((len(ran), self.service.getStatus(jobid)), (1, "error"))

    def test_what_has_not_begun_goes_back_in_line(self):
        ran = []
        self.task("once", ran.append, atMostOnce=True)
        jobid = self.add("once")
        claims = self.service.dispatch("one", wanted=1, alone=True).claims
        self.service.handBack("one", running=claims, close=True)
        transaction.commit()
        self.assertEqual(self.job(jobid).reason, "handed back")
        self.start()
        self.wait_status(jobid)
        self.assertEqual(ran, [None])

    def test_its_error_is_not_tried_again_by_hand_either(self):
        """`process` made the three more attempts of a task without a policy."""
        ran = []

        def fail(input):
            ran.append(input)
            raise ValueError("once is enough")

        self.task("once", fail, atMostOnce=True)
        self.task("thrice", fail, atMostOnce=True, retries=2)
        self.add("once", "once")
        self.add("thrice", "thrice")
        self.service.process()
        self.assertEqual(ran, ["once"] + 3 * ["thrice"])

    def test_a_repair_does_not_run_it_a_second_time(self):
        self.task("once", lambda input: input, atMostOnce=True)
        jobid = self.add("once")
        claim, = self.service.dispatch("one", wanted=1, alone=True).claims
        self.service.startOnce(claim)
        self.service.leases.close("one")
        self.service.check(repair=True)
        self.assertEqual(self.job(jobid).reason, "interrupted")
        self.assertEqual(self.service.check(), [])
