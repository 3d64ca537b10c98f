"""What can be asked while jobs run."""
import unittest

import transaction

from lovely.remotetask.tests.support import Gate, ServiceCase


class WhileItRuns(ServiceCase):

    def test_a_job_in_hand_tells_when_it_was_claimed(self):
        gate = Gate(self)
        self.task("gate", gate)
        jobid = self.add("gate")
        self.assertIsNone(self.job(jobid).started)
        self.start()
        gate.arrival()
        self.look()
        self.assertEqual(self.job(jobid).status, "processing")
        claimed = self.job(jobid).started
        self.assertGreaterEqual(claimed, self.job(jobid).created)
        gate.open()
        self.wait_for(lambda: self.job(jobid).status == "completed")
        self.assertGreaterEqual(self.job(jobid).started, claimed)
        self.assertGreaterEqual(self.job(jobid).completed, self.job(jobid).started)

    def test_a_job_that_was_cancelled_in_hand_still_tells_since_when(self):
        gate = Gate(self)
        self.task("gate", gate)
        jobid = self.add("gate")
        self.start()
        gate.arrival()
        self.look().cancel(jobid)
        transaction.commit()
        gate.open()
        self.wait_for(lambda: not self.service.leases.held())
        self.assertEqual(self.job(jobid).status, "cancelled")
        self.assertLessEqual(self.job(jobid).started, self.job(jobid).completed)


if __name__ == "__main__":
    unittest.main()
