"""The example of a cluster, as a new user starts it."""
import os
import re
import shutil
import signal
import sys
import tempfile
import unittest
from pathlib import Path

import lovely.remotetask
from lovely.remotetask.tests import servers
from lovely.remotetask.tests.test_app import Process

EXAMPLES = Path(lovely.remotetask.__path__[0]).parents[2] / "examples"
CODE = "import sys; from cluster.__main__ import main; sys.exit(main())"
PRIMES = "200 of 200 jobs done, 148,933 primes"


@unittest.skipUnless((EXAMPLES / "cluster").is_dir(), "the examples are not here")
class TheCluster(unittest.TestCase):

    level = 2

    def start(self, storage):
        directory = tempfile.mkdtemp(prefix="remotetask-cluster-")
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        path, sys.path = sys.path, [str(EXAMPLES), *sys.path]
        try:
            cluster = Process(storage, "--port", 0, "--directory", directory, code=CODE)
        finally:
            sys.path = path
        self.addCleanup(self.end, cluster)
        line = cluster.wait_for("are at work")
        self.workers = [int(number) for number in re.findall(r"\d+", line)]
        self.assertEqual(len(self.workers), 4)
        return cluster

    def end(self, cluster):
        if cluster.process.poll() is None:
            cluster.process.send_signal(signal.SIGTERM)
            cluster.end()

    def goes_through(self, storage):
        cluster = self.start(storage)
        for worker in self.workers:
            cluster.wait_for(f"process {worker}: ")
        os.kill(self.workers[0], signal.SIGKILL)
        line = cluster.wait_for("has died (signal 9)")
        place = int(re.search(r"process (\d+) takes the place", line)[1])
        cluster.wait_for(PRIMES)
        cluster.process.send_signal(signal.SIGINT)
        self.assertEqual(cluster.end(), 0)
        self.assertNotIn("Traceback", cluster.said)
        for worker in (*self.workers, place):
            self.assertFalse(Path(f"/proc/{worker}").exists(), f"{worker} is left")

    def test_zeo(self):
        servers.require("zeo", "ZEO")
        self.goes_through("zeo")

    def test_postgresql(self):
        servers.PostgresServer("nowhere").program("postgres")
        servers.require("postgresql", "psycopg2", "relstorage")
        self.goes_through("postgresql")

    def test_sqlite(self):
        servers.require("sqlite", "relstorage")
        self.goes_through("sqlite")


@unittest.skipUnless((EXAMPLES / "cluster").is_dir(), "the examples are not here")
class ThePrimes(unittest.TestCase):

    def test_they_are_right(self):
        sys.path.insert(0, str(EXAMPLES))
        self.addCleanup(sys.path.remove, str(EXAMPLES))
        from cluster.tasks import is_prime
        self.assertEqual([each for each in range(30) if is_prime(each)],
                         [2, 3, 5, 7, 11, 13, 17, 19, 23, 29])


if __name__ == "__main__":
    unittest.main()
