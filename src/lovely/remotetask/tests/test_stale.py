"""Old states, as RelStorage's cache may show them, lose no job and stop nobody."""
import tempfile
import unittest
from unittest import mock

import transaction
from transaction.interfaces import TransientError
from ZODB.POSException import ConflictError

from lovely.remotetask import clerk, clock, uris
from lovely.remotetask.errors import NotSeen
from lovely.remotetask.runtime import engine, publication, rescue
from lovely.remotetask.service import TaskService
from lovely.remotetask.store.jobs import Jobs
from lovely.remotetask.tests import servers
from lovely.remotetask.tests.support import ServiceCase

NOBODY = 4711


class OnRelStorage(ServiceCase):

    settings = {"retain_interval": 3600}

    def make_storage(self):
        servers.require("sqlite", "relstorage")
        directory = tempfile.TemporaryDirectory(prefix="remotetask-stale-")
        self.addCleanup(directory.cleanup)
        return uris.resolve(f"sqlite://{directory.name}")[0]()

    def setUp(self):
        super().setUp()
        self.task("echo", lambda input: input)
        clerk._doubted.clear()
        self.forgotten = []
        forget = engine.forget

        def forgetting(connection):
            self.forgotten.append(connection)
            forget(connection)
        self.patch(engine, "forget", forgetting)

    def patch(self, owner, name, value):
        patch = mock.patch.object(owner, name, value)
        patch.start()
        self.addCleanup(patch.stop)

    def unseen(self, *ids):
        """These are not found before what was cached is forgotten."""
        get = Jobs.get
        self.patch(Jobs, "get", lambda jobs, id, default=None: default
                   if id in ids and not self.forgotten else get(jobs, id, default))

    def test_a_job_that_is_not_seen_at_first_is_not_lost(self):
        jobid = self.add("echo", 1)
        self.unseen(jobid)
        self.start()
        self.wait_for(lambda: self.forgotten)
        self.wait_status(jobid)
        self.assertEqual(self.service.check(), [])

    def test_nor_are_those_of_a_dead_process(self):
        jobid = self.add("echo", 1)
        self.service.dispatch("gone", want=clerk.Want(1, 1))
        transaction.commit()
        self.patch(rescue, "lost", lambda leases, *of: [
            lease for lease in leases.values() if lease.name == "gone"])
        self.unseen(jobid)
        with self.assertRaises(NotSeen):
            self.look().dispatch("another", rescuing=True)
        transaction.abort()
        engine.forget(self.connection)
        self.look().dispatch("another", rescuing=True)
        transaction.commit()
        self.assertTrue(self.service.getJob(jobid).suspect)

    def test_what_is_not_there_holds_up_nobody(self):
        inbox = self.service.shards[0].queue.inbox
        for number in range(3):
            inbox.drop(NOBODY + number)
        transaction.commit()
        jobid = self.add("echo", 1)
        self.start()
        self.wait_status(jobid)
        self.assertEqual(len(self.look().shards[0].queue.inbox), 0)
        self.assertEqual(len(self.forgotten), 1)    # once for all of them

    def test_who_adds_leaves_it_to_others(self):
        shard = self.service.shards[0]
        shard.queue.inbox.drop(NOBODY)
        jobid = self.add("echo", 1)
        with clerk.Clerk(self.service, clock.micros()) as books:
            self.assertEqual(books.shorten_inbox(shard, 10), 1)
        self.assertEqual(shard.queue.inbox.runs(), [(NOBODY, NOBODY)])
        self.assertIsNotNone(shard.index.place(jobid))
        transaction.commit()

    def test_doubts_are_not_kept_for_ever(self):
        self.patch(clerk, "DOUBTED", 2)
        for number in range(5):
            with self.assertRaises(TransientError):
                clerk.sure(self.service, [NOBODY + number])
            clerk.sure(self.service, [NOBODY + number])
        self.assertEqual(len(clerk._doubted), 2)

    def test_after_some_conflicts_the_cache_is_not_believed(self):
        self.add("echo")
        made = publication.Publication(self.db, ("tasks",))
        self.addCleanup(made.close)
        tries = []

        def conflicts(service):
            tries.append(len(self.forgotten))
            if not self.forgotten:
                raise ConflictError("an old state")
            return "done"
        patch = mock.patch.object(TaskService, "conflicts", conflicts, create=True)
        patch.start()
        self.addCleanup(patch.stop)
        self.assertEqual(made.transact("conflicts"), "done")
        self.assertEqual(tries, [0] * publication.STALE_TRIES + [1])

    def test_an_attempt_sees_anew_before_it_is_charged(self):
        ran = []

        def stumbling(input):
            ran.append(len(self.forgotten))
            if not self.forgotten:
                raise ConflictError("an old state")
        self.task("stumbling", stumbling)
        jobid = self.add("stumbling")
        self.start()
        self.wait_status(jobid)
        self.assertEqual(ran[-2:], [0, 1])
        self.assertEqual(self.job(jobid).attempts, ())


class OnOthers(ServiceCase):

    def test_no_doubt(self):
        clerk.sure(self.service, [NOBODY])
        self.service.shards[0].queue.inbox.drop(NOBODY)
        transaction.commit()
        self.service.dispatch("one")
        transaction.commit()
        self.assertEqual(len(self.service.shards[0].queue.inbox), 0)


if __name__ == "__main__":
    unittest.main()
