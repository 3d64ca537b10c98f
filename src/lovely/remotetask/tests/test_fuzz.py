"""The fuzzer in its short form; chaos/fuzz.py says what it looks for."""
import json
import os
import subprocess
import sys
import unittest
from pathlib import Path

import lovely.remotetask

ROOT = Path(lovely.remotetask.__path__[0]).parents[2]
COMMAND = ROOT / "chaos" / "fuzz.py"
#: What is promised; the times are for a quiet machine, and are not.
PROMISED = ("answers of 500", "uncaught", "leaks", "changes by GET",
            "changes from another site", "scripts of strangers", "headers of strangers")


@unittest.skipUnless(COMMAND.exists(), "the project's chaos/ is not here")
class Fuzzing(unittest.TestCase):
    level = 2

    def test_a_thousand_requests_find_nothing(self):
        done = subprocess.run(
            [sys.executable, str(COMMAND), "--brief", "--json"], cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True, text=True, timeout=600)
        self.assertTrue(done.stdout.strip(), done.stderr)
        told = json.loads(done.stdout.splitlines()[-1])
        for what in PROMISED:
            self.assertEqual(told["rows"][what], 0, "\n".join(told["texts"]))
        self.assertEqual(told["rows"]["a request, number"], 1_000)


if __name__ == "__main__":
    unittest.main()
