"""Several worker processes on one queue: who is there, who is dead, who runs what."""
import signal
import unittest
from contextlib import contextmanager

import transaction
from BTrees.OOBTree import OOBTree
from transaction import TransactionManager
from zope.component import provideUtility
from zope.component.hooks import setHooks
from zope.site.testing import siteSetUp, siteTearDown

from lovely.remotetask import lifecycle
from lovely.remotetask.cli import databases
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.service import TaskService
from lovely.remotetask.task import SimpleTask
from lovely.remotetask.tests import servers
from lovely.remotetask.tests.worker import Worker

NEVER = 86_400   # seconds: what takes so long is not what a test has waited for


class WorkersCase(unittest.TestCase):
    """A service in a database that several processes open."""

    storage = "sqlite"
    layer = servers.SHARED
    settings = dict(lease_seconds=NEVER, wait_seconds=0.2)

    def setUp(self):
        siteSetUp()
        setHooks()
        self.addCleanup(siteTearDown)
        self.uri = servers.SHARED.uri(self, self.storage)
        self.database = databases.find(self.uri)
        self.db = self.database.open()
        self.addCleanup(self.database.close, self.db)
        self.addCleanup(transaction.abort)
        for name in ("work", "hold", "pill", "crowd"):
            provideUtility(SimpleTask(lambda input: None), ITask, name)
        with self.there() as root:
            service = root["tasks"] = TaskService()
            service.configure(**self.settings)
            root["effects"] = OOBTree()

    @contextmanager
    def there(self):
        """The root of the database, in a transaction of its own, which is committed."""
        manager = TransactionManager()
        connection = self.db.open(manager)
        try:
            manager.begin()
            yield connection.root()
            manager.commit()
        finally:
            manager.abort()
            connection.close()

    def worker(self, host=None, **arguments):
        worker = Worker(self, self.uri, host, **arguments)
        worker.wait("attends")  # it is entered
        return worker

    def add(self, task, **options):
        with self.there() as root:
            return root["tasks"].add(task, **options)

    def asked(self, ask):
        """What *ask* says of the service."""
        with self.there() as root:
            return ask(root["tasks"])

    def wait_for(self, ask, what):
        return servers.wait_until(lambda: self.asked(ask), what)

    def wait_ended(self, *jobids):
        self.wait_for(lambda service: all(
            service.getStatus(id) in lifecycle.FINISHED for id in jobids), "the end")

    def effects(self):
        with self.there() as root:
            return dict(root["effects"])

    def assert_books(self):
        self.wait_for(lambda service: not service.leases.held(), "the books")
        self.assertEqual(self.asked(lambda service: service.check()), [])

    def last(self):
        """The last transaction of all, which tells whether anything was written."""
        with self.there() as root:
            storage = root._p_jar._storage
            getattr(storage, "sync", lambda: None)()
        with self.there() as root:
            return max(root._p_jar._storage.lastTransaction(), self.db.lastTransaction())


class OnOneHost(WorkersCase):
    """Nothing but a lock can prove a death here before the test ends."""

    level = 2

    def test_what_a_killed_worker_held_runs_at_its_sibling(self):
        first = self.worker()
        jobid = self.add("hold")
        first.wait("holds", jobid)
        second = self.worker()
        second.go()
        first.kill()
        second.wait("holds", jobid)
        self.wait_ended(jobid)
        self.assertEqual(self.effects(), {jobid: 1})
        job = self.asked(lambda service: (service.getJob(jobid).crashes,
                                          service.getJob(jobid).status))
        self.assertEqual(job, (0, "completed"))
        self.assert_books()
        self.assertEqual(len(self.asked(lambda service: service.workers())), 1)


    def test_workers_are_listed_from_start_to_end_also_idle(self):
        first, second = self.worker(), self.worker()
        # A client of ZEO hears of another's commit a moment later.
        self.wait_for(lambda service: len(service.workers()) == 2, "both workers")
        listed = self.asked(lambda service: service.workers())
        self.assertEqual({each["pid"] for each in listed},
                         {first.process.pid, second.process.pid})
        self.assertEqual([(each["alive"], each["threads"], each["state"], each["holds"])
                          for each in listed], [(True, 1, "", [])] * 2)
        first.end()
        self.wait_for(lambda service: len(service.workers()) == 1, "the end of one")
        self.assertEqual([each["pid"] for each in self.asked(
            lambda service: service.workers())], [second.process.pid])
        second.kill()
        self.assertEqual([each["alive"] for each in self.asked(
            lambda service: service.workers())], [False])

    def test_idle_workers_write_nothing(self):
        first, second = self.worker(), self.worker()
        for each in (first, second):
            each.attends(2)  # they know of each other
        before = self.last()
        for each in (first, second):
            each.attends(5)
        self.assertEqual(self.last(), before)

    def test_each_worker_takes_what_it_was_told_to(self):
        some, others = self.worker(tasks=["work"]), self.worker(tasks=["crowd", "pill"])
        with self.there() as root:
            works = root["tasks"].addMany("work", range(30))
        crowds = [self.add("crowd") for _ in range(5)]
        self.wait_ended(*works, *crowds)
        # Attempts that met a conflict tell it twice.
        self.assertEqual({line[1] for line in some.lines if line[0] == "works"},
                         set(map(str, works)))
        self.assertEqual((some.count("inside"), others.count("works")), (0, 0))
        nobodys = self.add("hold")
        self.wait_ended(self.add("work"), self.add("crowd"))
        self.assertEqual(self.asked(lambda service: service.getStatus(nobodys)), "queued")
        self.assertEqual(
            {each["takes"] for each in self.asked(lambda service: service.workers())},
            {"task work", "task crowd,pill"})

    def test_a_stopped_process_is_not_taken_for_dead(self):
        with self.there() as root:
            root["tasks"].configure(lease_seconds=1, beat_seconds=0.2)
        first = self.worker()
        jobid = self.add("hold")
        first.wait("holds", jobid)
        first.signal(signal.SIGSTOP)
        second = self.worker()
        second.attends(5)  # looks for the dead each time
        self.assertEqual(self.asked(lambda service: [
            each["holds"] for each in service.workers()
            if each["pid"] == first.process.pid]), [[jobid]])
        first.signal(signal.SIGCONT)
        first.go()
        self.wait_ended(jobid)
        self.assertEqual(self.effects(), {jobid: 1})
        self.assertEqual(second.count("holds"), 0)

    def test_a_pill_is_convicted_and_the_innocent_are_not_charged(self):
        innocent = [self.add("crowd") for _ in range(12)]
        pill = self.add("pill", priority=5)
        innocent += [self.add("crowd") for _ in range(12)]
        workers = [self.worker(maxThreads=4) for _ in range(3)]
        deaths = 0

        def all_ended():
            nonlocal deaths
            for worker in list(workers):
                if worker.process.poll() is not None:
                    deaths += 1
                    workers.remove(worker)
                    workers.append(self.worker(maxThreads=4))
            return self.asked(lambda service: all(
                service.getStatus(id) in lifecycle.FINISHED for id in (pill, *innocent)))

        servers.wait_until(all_ended, "the end of all")
        with self.there() as root:
            service = root["tasks"]
            job = service.getJob(pill)
            self.assertEqual((job.status, job.reason, job.crashes),
                             ("error", "crashed", 3))
            self.assertEqual(
                {(service.getJob(id).status, service.getJob(id).crashes)
                 for id in innocent}, {("completed", 0)})
        self.assertLessEqual(deaths, 4)
        self.assertEqual(self.effects(), dict.fromkeys(innocent, 1))
        self.assert_books()


class OnSeveralHosts(WorkersCase):
    """Nothing can be proven: workers watch each other's counters."""

    level = 2
    settings = dict(lease_seconds=2, beat_seconds=0.3, wait_seconds=0.2)

    def test_what_a_killed_worker_held_runs_elsewhere(self):
        first = self.worker("one")
        jobid = self.add("hold")
        first.wait("holds", jobid)
        second = self.worker("two")
        second.go()
        first.kill()
        self.wait_ended(jobid)
        self.assertEqual(second.count("holds", jobid), 1)
        self.assertEqual(self.effects(), {jobid: 1})
        self.assert_books()

    def test_a_worker_with_a_long_job_is_not_taken_for_dead(self):
        first = self.worker("one")
        jobid = self.add("hold")
        first.wait("holds", jobid)
        second = self.worker("two")
        second.attends(5)  # far more than lease_seconds
        first.go()
        self.wait_ended(jobid)
        self.assertEqual(second.count("holds"), 0)
        self.assertEqual(self.asked(lambda service: service.getJob(jobid).startedCount), 1)

    def test_who_was_taken_for_dead_lets_go_and_begins_anew(self):
        first = self.worker("one")
        name = first.wait("attends")[2]
        jobid = self.add("hold")
        first.wait("holds", jobid)
        second = self.worker("two")
        first.signal(signal.SIGSTOP)
        second.wait("holds", jobid)
        first.signal(signal.SIGCONT)
        first.wait("stops", jobid)
        second.go()
        self.wait_ended(jobid)
        self.assertEqual(self.effects(), {jobid: 1})
        # A look may be of before it was taken for dead: its name, too, must be another.
        self.wait_for(lambda service: {
            each["pid"]: each["name"] != name for each in service.workers()} == {
            first.process.pid: True, second.process.pid: True}, "the one who begins anew")
        other = self.add("work")
        self.wait_ended(other)
        self.assert_books()

    def test_idle_workers_write_their_counters_and_nothing_else(self):
        first, second = self.worker("one"), self.worker("two")
        for each in (first, second):
            each.attends(3)
        before = self.last()
        for each in (first, second):
            each.attends(3)
        self.assertGreater(self.last(), before)
        with self.there() as root:
            for lease in root["tasks"].leases.values():
                self.assertGreater(lease.beat, 0)
                self.assertEqual(lease.held, {})


class Wishing(WorkersCase):
    """A worker that nothing but the wish itself wakes before the test ends."""

    level = 2
    settings = dict(lease_seconds=NEVER, beat_seconds=3600, wait_seconds=3600)

    def wish(self, verb, *args):
        with self.there() as root:
            getattr(root["tasks"], verb)(*args)

    def wait_worker(self, **facts):
        self.wait_for(lambda service: [
            {name: each[name] for name in facts} for each in service.workers()]
            == [facts], facts)

    def test_wishes_wake_a_worker_of_another_process(self):
        worker = self.worker(waitTime=3600.0)
        worker.wait("attends", number=2)   # it listens
        self.wish("pauseProcessing")
        self.wait_worker(state="paused")
        jobid = self.add("work")
        self.wish("wishThreads", 3)
        self.wait_worker(state="paused", threads=3)
        self.assertEqual(self.asked(lambda service: service.getStatus(jobid)), "queued")
        self.wish("resumeProcessing")
        self.wait_ended(jobid)
        self.assertEqual(self.asked(lambda service: [
            (wish["what"], len(wish["obeyedBy"])) for wish in service.wishes()]),
            [("threads", 1)])


class WishingOverZeo(Wishing):
    storage = "zeo"


class WishingOverPostgres(Wishing):
    storage = "postgresql"


class OnZeo(OnOneHost):
    storage = "zeo"


class OnPostgres(OnZeo):
    storage = "postgresql"


class OnSeveralHostsOverZeo(OnSeveralHosts):
    storage = "zeo"


class OnSeveralHostsOverPostgres(OnSeveralHosts):
    storage = "postgresql"


if __name__ == "__main__":
    unittest.main()
