"""The commands of docs/http.txt, typed against a server that was just started."""
import doctest
import re
import shutil
import subprocess
import unittest
from pathlib import Path

from lovely.remotetask.http import problems
from lovely.remotetask.http.xmlrpc import CODES
from lovely.remotetask.tests.house import SERVICE
from lovely.remotetask.tests.test_app import TestCase

MANUAL = Path(__file__).parents[4] / "docs" / "http.txt"
BETWEEN = "=== next ==="


def examples(text):
    """(command, what it says) of each example."""
    found = []
    for line in text.splitlines():
        if line.startswith("    $ "):
            found.append([[line[6:]], []])
        elif line.startswith("    >      ") or line.startswith("    >     "):
            found[-1][0].append(line[6:])
        elif line.startswith("    ") and found and found[-1][1] is not None:
            found[-1][1].append(line[4:])
        elif line.strip() and found:
            found[-1][1] = found[-1][1] or []
            found.append([["true"], None])
    return [("\n".join(command), "\n".join(said or []))
            for command, said in found if said is not None]


@unittest.skipUnless(MANUAL.exists(), "the project's docs are not here")
class TheManual(unittest.TestCase):

    def test_every_problem_and_every_fault_is_told(self):
        text = MANUAL.read_text()
        for condition, (status, _) in problems.CONDITIONS.items():
            row = re.search(rf"^{status} .*(\n  .*)*", text, re.MULTILINE)
            self.assertIn(f"``{condition}``", row[0], status)
        faults = text.partition("Codes of faults")[2]
        for condition, code in CODES.items():
            if condition not in ("foreign-site", "not-found"):
                self.assertRegex(faults, rf"(?m)^{code} +``{condition}``")


@unittest.skipUnless(MANUAL.exists(), "the project's docs are not here")
@unittest.skipUnless(shutil.which("curl"), "curl is not installed")
class TheCommands(TestCase):

    level = 2

    def test_they_say_what_the_manual_says(self):
        application = self.started()
        commands = examples(MANUAL.read_text())
        self.assertGreater(len(commands), 20)
        site = application.url.rstrip("/") + SERVICE
        script = []
        for command, _ in commands:
            command = re.sub(r"^SITE=.*", f"SITE={site}", command)
            command = re.sub(r"^LOGIN=.*", f"LOGIN={':'.join(self.kept_login())}", command)
            script.append(f"{command}\necho '{BETWEEN}'")
        done = subprocess.run(
            ["bash"], input="\n".join(script), capture_output=True, text=True,
            timeout=120, cwd=self.parent)
        checker = doctest.OutputChecker()
        said = done.stdout.split(BETWEEN + "\n")
        for (command, wanted), got in zip(commands, said):
            self.assertTrue(
                checker.check_output(
                    wanted.strip() + "\n", got.strip() + "\n",
                    doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE),
                f"{command}\nsays\n{got}\nand not\n{wanted}\n{done.stderr}")
        self.assertEqual(application.stop(), 0)


if __name__ == "__main__":
    unittest.main()
