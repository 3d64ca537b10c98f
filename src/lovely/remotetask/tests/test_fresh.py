"""Jobs that are claimed straight from the inbox, before the books know of them."""
from transaction.interfaces import TransientError
from ZODB.utils import get_pickle_metadata

from lovely.remotetask.clerk import Want
from lovely.remotetask import lifecycle
from lovely.remotetask.runtime import rescue
from lovely.remotetask.tests.support import ServiceCase

NAME = "the dispatcher of this test"


class FreshJobs(ServiceCase):

    def setUp(self):
        super().setUp()
        rescue.living.add(NAME)
        self.addCleanup(rescue.living.discard, NAME)
        self.task("nothing", lambda input: None)
        self.dispatch()

    def dispatch(self, **arguments):
        transaction = self.connection.transaction_manager
        transaction.begin()
        round = self.service.dispatch(NAME, **arguments)
        transaction.commit()
        return round

    def give_back(self):
        self.connection.transaction_manager.begin()
        self.service.handBack(NAME, close=True)
        self.connection.transaction_manager.commit()

    def test_the_claim_of_a_fresh_job_writes_inbox_and_lease_only(self):
        first = self.add("nothing")
        self.dispatch(want=Want(1, 1))           # makes the lease
        self.add("nothing")
        before = self.db.storage.lastTransaction()
        self.assertEqual(len(self.dispatch(want=Want(1, 1), known={first}).claims), 1)
        records = [get_pickle_metadata(record.data)[1]
                   for transaction in self.db.storage.iterator(before)
                   if transaction.tid > before for record in transaction]
        self.assertEqual(sorted(records), ["Inbox", "Lease"])
        self.give_back()

    def test_a_fresh_job_in_hand_is_counted_and_listed(self):
        jobid = self.add("nothing", tags=("red",), concerns=(self.service.shards[0].queue,))
        self.dispatch(want=Want(1, 1))
        self.assertIsNone(self.service.index.place(jobid))
        self.assertEqual(self.service.counts()[lifecycle.PROCESSING], 1)
        self.assertEqual(self.service.queueLength(), 0)
        for found in (self.service.listJobs(tag="red")[0],
                      self.service.listJobs(status="processing")[0],
                      self.service.listJobs(task="nothing")[0],
                      self.service.jobsFor(self.service.shards[0].queue)):
            self.assertEqual([job.id for job in found], [jobid])
        self.assertEqual(self.service.listJobs(status="queued")[0], [])
        self.assertEqual(self.service.check(), [])
        self.give_back()

    def test_a_fresh_job_that_was_not_begun_returns_to_its_lane(self):
        jobids = [self.add("nothing") for _ in range(3)]
        claims = self.dispatch(want=Want(3, 3)).claims
        self.dispatch(unstarted=claims[1:], known={claims[0].id})
        self.assertEqual(self.service.check(), [])
        self.assertEqual(self.service.queueLength(), 2)
        again = self.dispatch(want=Want(3, 3), known={claims[0].id}).claims
        self.assertEqual([claim.id for claim in again], jobids[1:])
        self.give_back()
        self.assertEqual(self.service.counts()[lifecycle.QUEUED], 3)

    def test_fresh_jobs_are_claimed_in_the_order_of_their_urgency(self):
        slow = self.add("nothing", priority=20)
        first, urgent = self.add("nothing"), self.add("nothing", priority=1)
        claims = self.dispatch(want=Want(5, 5)).claims
        self.assertEqual([claim.id for claim in claims], [urgent, first, slow])
        self.give_back()

    def test_a_job_behind_others_is_not_fresh(self):
        waiting = [self.add("nothing") for _ in range(3)]
        self.dispatch()                   # the books know of them
        late = self.add("nothing")
        claims = self.dispatch(want=Want(2, 2)).claims
        self.assertEqual([claim.id for claim in claims], waiting[:2])
        self.assertEqual(self.service.index.place(late)[0], lifecycle.QUEUED)
        self.give_back()

    def test_a_cancelled_job_is_not_claimed_fresh(self):
        jobid = self.add("nothing")
        self.service.cancel(jobid)
        self.connection.transaction_manager.commit()
        self.assertEqual(self.dispatch(want=Want(1, 1)).claims, [])
        self.assertEqual(self.service.index.place(jobid)[0], lifecycle.CANCELLED)

    def test_a_fresh_job_that_is_cancelled_and_retried_is_claimed_anew(self):
        jobid = self.add("nothing")
        old, = self.dispatch(want=Want(1, 1)).claims
        self.service.cancel(jobid)
        self.service.retry(jobid)
        self.connection.transaction_manager.commit()
        new, = self.dispatch(want=Want(1, 1), known={jobid}).claims
        self.assertEqual((new.id, new.token), (jobid, old.token + 1))
        self.assertEqual(self.service.leases.held()[jobid][0], new.token)
        self.assertEqual(self.service.check(), [])
        self.give_back()

    def test_two_dispatchers_do_not_claim_the_same_fresh_job(self):
        """Both take its slip out of the inbox: the second one meets a conflict."""
        self.add("nothing")
        with self.assertRaises(TransientError):
            with self.elsewhere() as service:
                self.assertEqual(len(service.dispatch("another", want=Want(1, 1)).claims), 1)
                self.assertEqual(len(self.dispatch(want=Want(1, 1)).claims), 1)
        self.give_back()


class LongInboxes(ServiceCase):
    """Adders of a service that nobody works for keep the inbox short."""

    def setUp(self):
        super().setUp()
        self.task("nothing", lambda input: None)

    def slips(self):
        return self.service.shards[0].queue.inbox.runs()

    def settled(self):
        return len(self.service.index.places)

    def test_jobs_added_one_by_one_are_settled_by_the_hundred(self):
        for _ in range(250):
            self.add("nothing")
        self.assertLessEqual(len(self.slips()), 100)
        self.assertGreaterEqual(self.settled(), 150)
        self.assertEqual(self.service.queueLength(), 250)

    def test_an_add_behind_many_bulk_adds_settles_none_of_their_jobs(self):
        for _ in range(101):
            self.service.addMany("nothing", range(120))
        before = self.settled()
        for _ in range(10):
            self.add("nothing")
        self.assertEqual(before, 0)
        self.assertLessEqual(self.settled(), 10)
        self.assertLessEqual(len(self.slips()), 12)
        self.assertEqual(self.service.queueLength(), 101 * 120 + 10)

    def test_slips_that_cannot_be_joined_are_settled_bit_by_bit(self):
        for _ in range(101):
            self.service.addMany("nothing", range(120))
            self.service.jobs._v_next = None  # as by another connection
        self.assertEqual(self.settled(), 100)

    def test_no_job_is_lost_and_none_is_there_twice(self):
        added = []
        for size in (1, 150, 1, 1, 120, 2) * 20:
            added += self.service.addMany("nothing", range(size))
        listed = [id for first, last in self.slips() for id in range(first, last + 1)]
        self.assertEqual(sorted([*listed, *self.service.index.places]), sorted(added))
