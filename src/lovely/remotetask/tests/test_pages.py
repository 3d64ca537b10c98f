"""The pages as people use them: Chromium before the real server with real workers."""
import os
import subprocess
import sys
import unittest
from pathlib import Path

from lovely.remotetask.tests import pictures, servers

WAYS = 7          # each with script and without
CHECKS = 4        # resting, keyboard, axe in light and in dark


@unittest.skipIf(pictures.missing() and not servers.required("chromium"),
                 pictures.missing())
class InARealBrowser(unittest.TestCase):

    level = 2

    def test_people_reach_what_they_want(self):
        done = self.walk()
        if done.returncode == pictures.HUNG:  # Chromium has; no expectation was wrong
            print(done.stdout, done.stderr, "once more, with another", file=sys.stderr)
            done = self.walk()
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        ways = [line for line in done.stdout.splitlines() if line.startswith("ok: ")]
        self.assertEqual(len(ways), 2 * WAYS + CHECKS, done.stdout)

    def walk(self):
        # A process of its own: the application's components are global.
        return subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True,
            timeout=2 * pictures.BOUND, cwd=Path.cwd(),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


PROGRAM = """
import sys
from lovely.remotetask.tests import pictures
with pictures.shop() as running:
    done = pictures.look(running, "walk.js")
print(done.stdout)
print(done.stderr, file=sys.stderr)
sys.exit(done.returncode)
"""


if __name__ == "__main__":
    unittest.main()
