"""A PostgreSQL that ends all sessions while a task reads."""
import unittest
from contextlib import suppress

import transaction
from persistent.mapping import PersistentMapping

from lovely.remotetask import uris
from lovely.remotetask.tests import servers
from lovely.remotetask.tests.support import Gate, ServiceCase

OBJECTS = 50


class LostSessions(ServiceCase):

    level = 2
    layer = servers.SHARED

    def make_storage(self):
        self.uri = servers.SHARED.uri(self, "postgresql")
        return uris.resolve(self.uri)[0]()

    def setUp(self):
        super().setUp()
        root = self.connection.root()
        for number in range(OBJECTS):
            root[f"object {number}"] = PersistentMapping({"number": number})
        transaction.commit()
        self.ran, self.gate = [], Gate(self)

    def read_all(self, service):
        """Read from the server what is in no cache."""
        jar = service._p_jar
        jar.cacheMinimize()
        jar._storage._cache.clear()
        root = jar.root()
        return sum(root[f"object {number}"]["number"] for number in range(OBJECTS))

    def reads(self, input, context):
        self.ran.append(context.jobid)
        if len(self.ran) == 1:
            self.gate()
        return self.read_all(context.service)

    def end_sessions(self):
        """As a restart of the server does, or a proxy that goes."""
        import psycopg2
        transaction.abort()
        name = self.uri.rpartition("/")[2].partition("?")[0]
        dsn = servers.SHARED.postgresql().dsn(name)
        connection = psycopg2.connect(dsn)
        self.addCleanup(connection.close)
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("select pg_terminate_backend(pid) from pg_stat_activity "
                       "where datname = %s and pid <> pg_backend_pid()", (name,))
        self.assertGreater(len(cursor.fetchall()), 1)

    def end_of(self, jobid):
        """Wait for it; also this connection was ended."""
        import psycopg2

        def ended():
            with suppress(psycopg2.Error):
                return self.service.getStatus(jobid) in ("completed", "error")
            transaction.abort()
            return False

        with suppress(psycopg2.Error):
            transaction.begin()
        self.wait_for(ended, "for the end of the job")
        return self.job(jobid)

    def run_through_a_loss(self, **options):
        self.task("reads", self.reads, wantsContext=True, retries=0, **options)
        jobid = self.add("reads")
        self.start()
        self.gate.arrival()
        self.end_sessions()
        self.gate.open()
        return self.end_of(jobid)

    def test_it_is_charged_to_no_job(self):
        job = self.run_through_a_loss()
        self.assertEqual((job.status, job.failures, job.error), ("completed", 0, None))
        self.assertEqual(job.output, sum(range(OBJECTS)))
        self.assertEqual(len(self.ran), 2)

    def test_what_runs_at_most_once_comes_to_an_end(self):
        job = self.run_through_a_loss(atMostOnce=True)
        self.assertEqual((job.status, job.reason, len(self.ran)),
                         ("error", "interrupted", 1))
        self.wait_settled()

    def test_what_a_task_asks_a_driver_itself_is_its_own_trouble(self):
        import psycopg2

        @self.task("asks", retries=0)
        def asks(input):
            self.ran.append(input)
            psycopg2.connect(f"host=127.0.0.1 port={servers.free_port()} user=nobody")

        jobid = self.add("asks")
        self.start()
        self.wait_status(jobid, "error")
        self.assertIn("OperationalError", self.job(jobid).attempts[-1].kind)
        self.assertEqual(len(self.ran), 1)


if __name__ == "__main__":
    unittest.main()
