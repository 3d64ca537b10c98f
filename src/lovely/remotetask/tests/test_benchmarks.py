"""Each benchmark still runs, in its short form.  Its figures are nobody's judge."""
import json
import os
import subprocess
import sys
import unittest
from pathlib import Path

CHECKOUT = Path(__file__).parents[4]
SCRIPTS = sorted((CHECKOUT / "benchmarks").glob("*.py"))
BOUND = 300  # seconds for one of them, on a busy machine


@unittest.skipUnless(SCRIPTS, "the benchmarks are not here")
class ShortForms(unittest.TestCase):

    level = 2

    def test_each_of_them_ends_well_and_tells_figures(self):
        paths = [str(CHECKOUT / "examples"), *sys.path]
        for script in SCRIPTS:
            with self.subTest(script.name):
                done = subprocess.run(
                    [sys.executable, str(script), "--brief", "--json"], text=True,
                    capture_output=True, timeout=BOUND, cwd=CHECKOUT,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertTrue(json.loads(done.stdout))


if __name__ == "__main__":
    unittest.main()
