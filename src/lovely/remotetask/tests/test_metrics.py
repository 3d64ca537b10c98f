"""The figures for Prometheus, read by Prometheus' own parser."""
import json
import re
import unittest
from importlib.util import find_spec
from pathlib import Path

from lovely.remotetask.tests.house import SERVICE, InTheHouse

BOARD = Path(__file__).parents[4] / "docs" / "grafana.json"
PATH = SERVICE + "/api/v1/metrics"


@unittest.skipUnless(find_spec("prometheus_client"), "prometheus-client is not installed")
class Metrics(unittest.TestCase):

    layer = InTheHouse

    def setUp(self):
        self.house = self.layer.house

    def tearDown(self):
        with self.house.service() as service:
            for job in list(service.jobs.values()):
                service.cancel(job.id)
            service.clean()

    def scrape(self):
        """{name of a sample: {labels: value}}"""
        from prometheus_client.parser import text_string_to_metric_families
        answer = self.house.ask("GET", PATH, "viewer")
        self.assertEqual(answer.status, 200)
        self.assertTrue(answer.headers["content-type"].startswith("text/plain"))
        found = {}
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                labels = dict(sample.labels)
                self.assertEqual(labels.pop("service"), "tasks")
                found.setdefault(sample.name, {})[tuple(sorted(labels.items()))] = \
                    sample.value
        return found

    def done(self, task):
        def value(name, **labels):
            return self.scrape().get(name, {}).get(
                tuple(sorted({"task": task, **labels}.items())), 0)
        return value

    def test_jobs_are_told_by_status(self):
        with self.house.service() as service:
            service.addMany("echo", range(3))
            service.add("echo", startLater=True)
        jobs = self.scrape()["remotetask_jobs"]
        self.assertEqual(jobs[("status", "queued"),], 3)
        self.assertEqual(jobs[("status", "start later"),], 1)
        self.assertEqual(len(jobs), 8)

    def test_what_was_done_is_told_by_task(self):
        self.house.task("mea\nsured", lambda input: 1 / input)
        with self.house.service() as service:
            service.addMany("mea\nsured", [1, 2], retries=0)
            service.add("mea\nsured", 0, retries=0)
            service.process()
        told = self.done("mea\nsured")
        self.assertEqual(told("remotetask_attempts_total", outcome="completed"), 2)
        self.assertEqual(told("remotetask_attempts_total", outcome="error"), 1)
        self.assertEqual(told("remotetask_run_seconds_count"), 3)
        self.assertEqual(told("remotetask_run_seconds_bucket", le="+Inf"), 3)
        self.assertGreaterEqual(told("remotetask_wait_seconds_sum"), 0)
        buckets = [value for labels, value in
                   self.scrape()["remotetask_run_seconds_bucket"].items()
                   if ("task", "mea\nsured") in labels]
        self.assertEqual(buckets, sorted(buckets))

    def test_a_scrape_looks_at_no_job(self):
        loads = []
        for _ in range(2):
            with self.house.service() as service:
                service.addMany("echo", range(300))
                service.process()
            self.house.db.cacheMinimize()
            before = self.reads()
            self.scrape()
            loads.append(self.reads() - before)
        # The books of 600 jobs have the same number of records but for a leaf or two.
        self.assertGreater(loads[0], 5, loads)
        self.assertLess(loads[1], loads[0] + 30, loads)
        self.assertLess(loads[1], 300)

    def reads(self):
        return sum(connection.getTransferCounts()[0]
                   for connection in self.house.db.pool.all)

    @unittest.skipUnless(BOARD.exists(), "the project's docs are not here")
    def test_the_board_asks_for_what_there_is(self):
        self.house.task("one", str)
        with self.house.service() as service:
            service.add("one")
            service.process()
        board = json.loads(BOARD.read_text())
        asked = {name for panel in board["panels"] for target in panel["targets"]
                 for name in re.findall(r"remotetask_\w+", target["expr"])}
        self.assertGreater(len(asked), 5)
        self.assertEqual(asked - set(self.scrape()), set())

    def test_who_has_not_logged_in_sees_nothing(self):
        self.assertEqual(self.house.ask("GET", PATH).status, 401)


if __name__ == "__main__":
    unittest.main()
