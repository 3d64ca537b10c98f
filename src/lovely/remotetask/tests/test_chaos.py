"""The chaos commands keep their promises, in their short forms.

Each runs real processes; where a server is missing, its test is skipped and says so.
The full forms are named in docs/reliability.txt.
"""
import json
import os
import subprocess
import sys
import unittest
from pathlib import Path

CHECKOUT = Path(__file__).parents[4]
CHAOS = CHECKOUT / "chaos"
BOUND = 300      # seconds for one of them, on a busy machine
RAN_OUT = 77     # its exit code where it cannot run

NOUGHT = ("lost", "duplicated", "missing", "unearned", "orphaned", "unbalanced")


@unittest.skipUnless(CHAOS.is_dir(), "the chaos commands are not here")
class ShortForms(unittest.TestCase):

    level = 2

    def run_it(self, name, storage, *words):
        """The rows of its report."""
        done = subprocess.run(
            [sys.executable, str(CHAOS / f"{name}.py"), "--storage", storage, "--brief",
             "--json", *words],
            text=True, capture_output=True, timeout=BOUND, cwd=CHECKOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
        if done.returncode == RAN_OUT:
            self.skipTest(done.stdout.strip())
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        report = json.loads(done.stdout.splitlines()[-1])
        self.assertTrue(report["kept"])
        return report["rows"]

    def nothing_lost(self, rows, errors=0):
        self.assertEqual({name: rows[name] for name in NOUGHT}, dict.fromkeys(NOUGHT, 0))
        self.assertEqual(rows["in error"], errors)
        self.assertEqual(rows["present"], rows["acknowledged"] + rows["recovered"])
        self.assertEqual(rows["completed"], rows["present"] - errors)
        self.assertGreater(rows["completed"], 0)

    def test_kills_at_random_moments(self):
        for storage in ("file", "zeo", "postgresql", "sqlite"):
            with self.subTest(storage):
                rows = self.run_it("kill", storage, "--kills", "8")
                self.nothing_lost(rows)
                self.assertEqual(rows["kills"], 8)
                self.assertGreater(rows["jobs that lost a process"], 0)

    def test_kills_at_each_named_point(self):
        rows = self.run_it("kill_at", "file")
        self.nothing_lost(rows)
        self.assertEqual(rows["deaths at their point"], 12)

    def test_kills_of_who_adds(self):
        for storage in ("file", "zeo"):
            with self.subTest(storage):
                self.nothing_lost(self.run_it("enqueue", storage, "--kills", "4"))

    def test_lost_answers_to_commits(self):
        for storage in ("zeo", "postgresql"):
            with self.subTest(storage):
                rows = self.run_it("replies", storage)
                self.nothing_lost(rows)
                self.assertGreaterEqual(rows["replies lost"], 8)
                self.assertEqual(rows["charged with an attempt"], 0)

    def test_outages_of_servers(self):
        for storage in ("zeo", "postgresql"):
            with self.subTest(storage):
                rows = self.run_it("outages", storage, "--outages", "2")
                self.nothing_lost(rows)
                self.assertEqual(rows["charged with an attempt"], 0)

    def test_stops_under_load(self):
        rows = self.run_it("shutdown", "file", "--stops", "3")
        self.nothing_lost({**rows, "completed": rows["present"]})
        self.assertEqual(rows["attempts not refunded"], 0)

    def test_poison(self):
        rows = self.run_it("pills", "file", "--kinds", "2")
        self.nothing_lost(rows, errors=2)
        self.assertEqual((rows["set aside"], rows["innocents charged"]), (2, 0))

    def test_limits_under_race(self):
        rows = self.run_it("caps", "zeo")
        self.nothing_lost(rows)
        self.assertLessEqual(rows["at once under a cap of 2"], 2)
        self.assertEqual(rows["at once with one lock"], 1)

    def test_many_on_one_hot_queue(self):
        rows = self.run_it("hot", "postgresql")
        self.nothing_lost(rows)
        self.assertLess(rows["conflicts a job claimed"], 0.1)

    def test_disks_that_fail(self):
        for storage in ("file", "zeo", "sqlite"):
            with self.subTest(storage):
                self.nothing_lost(self.run_it("fsync", storage, "--failures", "2"))
        self.nothing_lost(self.run_it("power", "file", "--failures", "3"))
        rows = self.run_it("tails", "file")
        self.assertEqual(rows["cut: silently wrong, or refused without a hint"], 0)

    def test_records_that_nobody_can_read(self):
        rows = self.run_it("broken", "file")
        self.assertEqual((rows["good jobs completed"], rows["that could be removed"]),
                         (30, 3))


if __name__ == "__main__":
    unittest.main()
